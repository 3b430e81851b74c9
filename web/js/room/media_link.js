// Keeps one media connection alive: makes it, offers, seeks another path when it is lost, replaces it when there is none,
// and says what the slots shall carry.

import { Connection, summarise } from "../protocol.js";

/** @import { ClientMessage, SlotInfo, Source, ViewSlot } from "../protocol/messages.js" */
/** @import { StatsSummary } from "../protocol/stats.js" */
/** @import { SlotMids } from "../protocol/connection.js" */

/** A connection whose restarted ICE has found no path this long after the answer is replaced, in milliseconds. */
const REPLACE_AFTER_MS = 4_000;
/** A connection or a restart that has not come up by then is given up, in milliseconds. */
const CONNECT_WITHIN_MS = 12_000;
/** The server takes two offers a second; this stays below, in milliseconds. Doubled with each connection that failed. */
const BETWEEN_OFFERS_MS = 800;
/** Doublings of that time at most. */
const MOST_DOUBLINGS = 4;
/** Changes within this time go out as one `view`, in milliseconds. */
const VIEW_DELAY_MS = 30;

/** @typedef {"connecting" | "connected" | "lost"} MediaLinkState */

/**
 * @typedef {object} MediaLinkEvents
 * @property {(message: ClientMessage) => boolean} send
 * @property {() => ReadonlyMap<Source, MediaStreamTrack>} tracks what shall be sent
 * @property {(mids: SlotMids, previous: ViewSlot[]) => ViewSlot[]} plan what the slots shall carry
 * @property {() => RTCIceServer[]} iceServers relays that may be used
 * @property {() => boolean} allowed whether an offer makes sense at the moment
 * @property {(source: Source) => void} unusable the browser does not send its track; everything else goes on
 * @property {() => void} changed state or slots
 * @property {(number: number) => void} numbered a connection got this number
 */

export class MediaLink {
  /**
   * @param {number} number of the last connection of this seat
   * @param {MediaLinkEvents} events
   */
  constructor(number, events) {
    this.number = number;
    this.events = events;
    /** @type {MediaLinkState} */
    this.state = "connecting";
    /** @type {Connection | null} */
    this.connection = null;
    this.answered = false;
    /** Answers that the connection took: more than one after ICE restarts. */
    this.answers = 0;
    /** @type {Map<string, SlotInfo>} what the server says the slots carry */
    this.slots = new Map();
    /** @type {ViewSlot[]} the newest plan */
    this.view = [];
    this.generation = 0;
    /** Whether the server has `view` as it stands. */
    this.viewTold = false;
    /** An offer of an ICE restart has no answer yet. */
    this.restarting = false;
    /** The path shall be sought again when that answer has come. */
    this.restartAgain = false;
    /** Restarts since the connection was last up. */
    this.restarts = 0;
    /** Connections that never came up in a row. */
    this.failures = 0;
    this.lastOfferAt = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.watch = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.viewTimer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} set while a fresh connection is due */
    this.offerTimer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.restartTimer = undefined;
  }

  /** Whether the connection can go on: as it is, or with its ICE restarted. */
  get alive() {
    return this.answered && this.connection?.peer.connectionState !== "closed";
  }

  /** The socket is back, and the server knows the seat. */
  resume() {
    if (!this.alive) {
      this.connect();
      return;
    }
    // An answer that was on its way went with the old socket.
    const owed = this.restarting || this.state !== "connected";
    this.restarting = false;
    this.repeatView();
    if (owed) this.restart();
  }

  /** Seeks another path for the connection that is there; keys, slots and what is sent stay. */
  restart() {
    // A connection that is about to be replaced is past mending.
    if (!this.alive || this.offerTimer !== undefined) return;
    if (this.restarting) {
      this.restartAgain = true;
      return;
    }
    clearTimeout(this.restartTimer);
    const wait = Math.max(0, this.lastOfferAt + BETWEEN_OFFERS_MS - Date.now());
    this.restartTimer = setTimeout(() => void this.#restart(), wait);
  }

  async #restart() {
    const connection = this.connection;
    if (!connection || !this.alive || !this.events.allowed()) return;
    this.lastOfferAt = Date.now();
    this.restarting = true;
    this.restartAgain = false;
    this.restarts += 1;
    this.#giveUpAfter(CONNECT_WITHIN_MS);
    try {
      const offer = await connection.restart(this.events.iceServers());
      if (connection === this.connection) this.events.send(offer);
    } catch {
      if (connection !== this.connection) return;
      this.restarting = false;
      this.#failed();
    }
  }

  /** @param {number} time in milliseconds, unless the connection is up by then */
  #giveUpAfter(time) {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => {
      if (this.restarting || this.connection?.peer.connectionState !== "connected") this.#failed();
      else this.restarts = 0;
    }, time);
  }

  /** Makes a fresh connection in place of the present one, at once or as soon as the server takes another offer. */
  connect() {
    clearTimeout(this.offerTimer);
    clearTimeout(this.restartTimer);
    const between = BETWEEN_OFFERS_MS * 2 ** Math.min(this.failures, MOST_DOUBLINGS);
    const wait = Math.max(0, this.lastOfferAt + between - Date.now());
    this.offerTimer = setTimeout(() => {
      this.offerTimer = undefined;
      void this.#connect();
    }, wait);
  }

  async #connect() {
    if (!this.events.allowed()) return;
    this.#drop();
    this.lastOfferAt = Date.now();
    this.number += 1;
    this.events.numbered(this.number);
    /** @type {Connection | null} */
    let made = null;
    try {
      const connection = new Connection(this.number, this.events.iceServers(), (state) => this.#handleState(connection, state));
      made = this.connection = connection;
      this.#become("connecting");
      this.#giveUpAfter(CONNECT_WITHIN_MS);
      for (const [source, track] of this.events.tracks()) {
        await connection.replace(source, track).catch(() => {
          if (connection === this.connection) this.events.unusable(source);
        });
      }
      const offer = await connection.offer();
      if (connection === this.connection) this.events.send(offer);
      this.events.changed();
    } catch {
      if (made === this.connection) this.#failed();
    }
  }

  /**
   * @param {number} number
   * @param {string} sdp
   */
  async accept(number, sdp) {
    const connection = this.connection;
    if (!connection || connection.number !== number) return;
    await connection.accept(sdp);
    if (connection !== this.connection) return;
    this.answers += 1;
    if (this.restarting) {
      this.restarting = false;
      if (this.restartAgain) this.restart();
      else this.#giveUpAfter(REPLACE_AFTER_MS);
      return;
    }
    this.answered = true;
    for (const source of this.events.tracks().keys()) this.events.send({ type: "publish", source });
    this.repeatView();
  }

  /**
   * @param {Source} source
   * @param {MediaStreamTrack} track
   */
  async publish(source, track) {
    // Said first: packets of a source that is not published are dropped, and with them the first key frame.
    if (this.answered) this.events.send({ type: "publish", source });
    await this.connection?.replace(source, track);
  }

  /** @param {Source} source */
  async unpublish(source) {
    this.events.send({ type: "unpublish", source });
    await this.connection?.replace(source, null);
  }

  /** Thinks again about what the slots shall carry, and tells the server when that changed. */
  planView() {
    clearTimeout(this.viewTimer);
    this.viewTimer = setTimeout(() => {
      if (!this.connection || !this.answered) return;
      const view = this.events.plan(this.connection.slots, this.view);
      if (this.viewTold && JSON.stringify(view) === JSON.stringify(this.view)) return;
      this.view = view;
      this.generation += 1;
      this.viewTold = this.events.send({ type: "view", generation: this.generation, slots: view });
    }, VIEW_DELAY_MS);
  }

  /** @param {SlotInfo[]} slots */
  handleSlots(slots) {
    this.slots = new Map(slots.map((slot) => [slot.mid, slot]));
    this.events.changed();
  }

  /**
   * @param {Source} source
   * @param {string[]} rids the encodings anybody needs
   */
  handleLayers(source, rids) {
    if (this.answered) void this.connection?.setLayers(source, rids);
  }

  /** The socket or the connection is new: the server may not have got the last view. */
  repeatView() {
    this.viewTold = false;
    this.planView();
  }

  /** @returns {Promise<StatsSummary | null>} */
  async stats() {
    return this.connection ? summarise(this.connection, this.slots) : null;
  }

  /** Ends it for good. */
  close() {
    clearTimeout(this.offerTimer);
    this.offerTimer = undefined;
    this.#drop();
    this.#become("connecting");
  }

  #drop() {
    clearTimeout(this.watch);
    clearTimeout(this.viewTimer);
    clearTimeout(this.restartTimer);
    this.answered = false;
    this.answers = 0;
    this.restarting = false;
    this.restarts = 0;
    this.view = [];
    this.slots = new Map();
    this.connection?.close();
    this.connection = null;
  }

  /**
   * @param {Connection} connection
   * @param {RTCPeerConnectionState} state
   */
  #handleState(connection, state) {
    if (connection !== this.connection) return;
    if (state === "connected") {
      if (!this.restarting) clearTimeout(this.watch);
      this.failures = 0;
      this.restarts = 0;
      this.#become("connected");
    } else if (state === "disconnected" || state === "failed") {
      this.#become("lost");
      if (this.restarting) return;
      if (this.restarts === 0) this.restart();
      else if (state === "failed") this.#failed();
    }
  }

  /** The server knows nothing of the connection any more. An offer that waits for its answer tells it already. */
  handleReoffer() {
    if (this.answered) this.connect();
  }

  /** The server could not answer the offer. */
  refused() {
    this.#failed();
  }

  #failed() {
    clearTimeout(this.watch);
    this.failures += 1;
    this.#become("lost");
    this.connect();
  }

  /** @param {MediaLinkState} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.events.changed();
  }
}
