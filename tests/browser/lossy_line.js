// A line between a browser and the server that loses packets of media, the same way for the same seed, and may be thin.

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
    /** What each way takes, in milliseconds. */
    this.delayMs = 0;
    /** What the line carries, each way; 0: everything. @type {{up: number, down: number}} */
    this.bps = { up: 0, down: 0 };
    this.ways = { up: new Way(), down: new Way() };
    this.near = createSocket("udp4");
    this.far = createSocket("udp4");
    this.chance = seed;
    /** @type {number | undefined} */
    let browser;
    this.server = 0;
    this.near.on("message", (datagram, from) => {
      browser = from.port;
      if (this.passes(datagram, "up")) this.carry("up", datagram, () => this.far.send(datagram, this.server, "127.0.0.1"));
    });
    this.far.on("message", (datagram) => {
      const to = browser;
      if (to && this.passes(datagram, "down")) this.carry("down", datagram, () => this.near.send(datagram, to, "127.0.0.1"));
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

  /**
   * @param {"up" | "down"} direction
   * @param {Buffer} datagram
   * @param {() => void} deliver
   */
  carry(direction, datagram, deliver) {
    const bps = this.bps[direction];
    const later = () => void setTimeout(deliver, this.delayMs);
    if (!this.ways[direction].carry(datagram.length, bps, this.delayMs ? later : deliver)) this.lost[direction] += 1;
  }

  close() {
    for (const way of Object.values(this.ways)) way.close();
    this.near.close();
    this.far.close();
  }
}

/** What waits longer is dropped, as in a router's queue. */
const QUEUE_MS = 200;

/** One direction, with a queue before its bottleneck. */
class Way {
  constructor() {
    /** @type {{at: number, deliver: () => void}[]} */
    this.queue = [];
    this.freeAt = 0;
    /** @type {NodeJS.Timeout | undefined} */
    this.timer = undefined;
  }

  /**
   * @param {number} bytes
   * @param {number} bps 0: everything passes at once
   * @param {() => void} deliver
   * @returns {boolean} whether it will arrive
   */
  carry(bytes, bps, deliver) {
    const now = performance.now();
    const from = Math.max(now, this.freeAt);
    if (bps && from - now > QUEUE_MS) return false;
    this.freeAt = bps ? from + (bytes * 8000) / bps : from;
    this.queue.push({ at: this.freeAt, deliver });
    this.turn();
    return true;
  }

  turn() {
    const now = performance.now();
    while (this.queue.length && this.queue[0].at <= now) this.queue.shift()?.deliver();
    clearTimeout(this.timer);
    if (this.queue.length) this.timer = setTimeout(() => this.turn(), this.queue[0].at - now);
  }

  close() {
    clearTimeout(this.timer);
    this.queue = [];
  }
}
