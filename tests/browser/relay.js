// A router between browsers and the media port: it can forget everyone it knows, as a change of network does.

import { createSocket } from "node:dgram";
import { once } from "node:events";

/** The server listens on this address, browsers are told the other. */
export const INSIDE = "127.0.0.1";
const OUTSIDE = "127.0.0.2";

/** Passes datagrams between browsers and a server on the same port of another loopback address. */
export class Relay {
  static async start() {
    const relay = new Relay();
    relay.outside.bind(0, OUTSIDE);
    await once(relay.outside, "listening");
    relay.port = relay.outside.address().port;
    return relay;
  }

  constructor() {
    this.outside = createSocket("udp4");
    this.port = 0;
    /** @type {Map<string, import("node:dgram").Socket | null>} the way to the server by the browser's port; null: cut */
    this.ways = new Map();
    this.outside.on("message", (datagram, from) => this.#wayOf(from)?.send(datagram, this.port, INSIDE));
  }

  /** Settings of the server behind it. */
  get settings() {
    return { "media-bind": INSIDE, "media-port": String(this.port), "media-addresses": OUTSIDE };
  }

  /** Nothing passes any more from and to the ports known so far. */
  forget() {
    for (const [from, way] of this.ways) {
      way?.close();
      this.ways.set(from, null);
    }
  }

  close() {
    this.forget();
    this.outside.close();
  }

  /** @param {import("node:dgram").RemoteInfo} from */
  #wayOf(from) {
    const key = `${from.address}:${from.port}`;
    let way = this.ways.get(key);
    if (way === undefined) {
      way = createSocket("udp4");
      way.on("message", (datagram) => this.outside.send(datagram, from.port, from.address));
      way.bind(0, INSIDE);
      this.ways.set(key, way);
    }
    return way;
  }
}
