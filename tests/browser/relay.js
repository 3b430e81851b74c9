// A line between a browser and the server that loses packets of media, the same way for the same seed.

import { createSocket } from "node:dgram";
import { once } from "node:events";

/** One person's line. */
export class LossyLine {
  /**
   * Leads the person's media connection over a line of its own; call before joining.
   *
   * @param {import("./person.js").Person} person
   * @param {{up: number, down: number}} loss shares from 0 to 1
   * @returns {Promise<LossyLine>}
   */
  static async under(person, loss, seed = 1) {
    const line = new LossyLine(loss, seed);
    for (const socket of [line.near, line.far]) {
      socket.bind(0, "127.0.0.1");
      await once(socket, "listening");
    }
    const { page } = person;
    await page.exposeFunction("throughTheLine", (/** @type {string} */ answer) => line.lead(answer));
    await page.evaluate(() => {
      const own = RTCPeerConnection.prototype.setRemoteDescription;
      RTCPeerConnection.prototype.setRemoteDescription = async function (/** @type {any} */ description) {
        /** @type {any} */ (window).peer = this;
        const sdp = await /** @type {any} */ (window).throughTheLine(description.sdp);
        return own.call(this, { type: description.type, sdp });
      };
    });
    return line;
  }

  /**
   * @param {{up: number, down: number}} loss
   * @param {number} seed
   */
  constructor(loss, seed) {
    this.loss = loss;
    this.lost = { up: 0, down: 0 };
    this.near = createSocket("udp4");
    this.far = createSocket("udp4");
    this.chance = seed;
    /** @type {number | undefined} */
    let browser;
    this.server = 0;
    this.near.on("message", (datagram, from) => {
      browser = from.port;
      if (this.passes(datagram, "up")) this.far.send(datagram, this.server, "127.0.0.1");
    });
    this.far.on("message", (datagram) => {
      if (browser && this.passes(datagram, "down")) this.near.send(datagram, browser, "127.0.0.1");
    });
  }

  /**
   * @param {string} answer
   * @returns {string} with the line in the server's place
   */
  lead(answer) {
    const here = this.near.address().port;
    return answer.replace(/^(a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 )(\d+)/gim, (_, start, port) => {
      this.server = Number(port);
      return start + here;
    });
  }

  /**
   * Checks of the way and the handshake always pass.
   *
   * @param {Buffer} datagram
   * @param {"up" | "down"} direction
   */
  passes(datagram, direction) {
    if (datagram[0] < 128 || datagram[0] > 191) return true;
    // Numerical Recipes' generator: good enough to lose by.
    this.chance = (Math.imul(this.chance, 1_664_525) + 1_013_904_223) >>> 0;
    const passes = this.chance / 2 ** 32 >= this.loss[direction];
    if (!passes) this.lost[direction] += 1;
    return passes;
  }

  close() {
    this.near.close();
    this.far.close();
  }
}
