// One WebSocket that comes back by itself; it knows versions, silence and closing, but nothing of rooms.

import { delayMs, politeDelayMs } from "./backoff.js";

/** @import { ClientMessage, Closing, ClosingReason, ServerMessage } from "./messages.js" */

/** The protocol version this program speaks. */
const VERSION = 1;
/** Where the server takes sockets. */
const PATH = "/api/v1/ws";
/** An attempt that has not been welcomed by then is given up, in milliseconds. */
const WELCOME_WITHIN_MS = 10_000;
/** Pings without any answer after which the socket is dead. Counting them, not the time, keeps a tab alive whose timers the browser slows down. */
const MOST_UNANSWERED_PINGS = 3;
/** A socket that does not answer so soon after a change of network died with the old one, in milliseconds. */
const PROBE_WITHIN_MS = 2_500;
/** Pings in the time after which the server counts as dead: a lost line is noticed in about two thirds of it. */
const PINGS_A_SILENCE = 6;

/** @type {Record<number, ClosingReason>} */
const REASON_BY_CODE = { 4000: "lesson_ended", 4001: "replaced", 4002: "too_slow", 4003: "misbehaved", 1012: "server_restart" };
/** @type {ClosingReason[]} */
const COMES_BACK = ["server_restart", "too_slow"];

/** @typedef {"connecting" | "open" | "waiting" | "closed"} SocketState */

/**
 * @typedef {object} SocketEvents
 * @property {() => void} onWelcome the socket is open and both sides speak the same version
 * @property {(message: ServerMessage) => void} onMessage everything but `welcome` and `pong`
 * @property {(state: SocketState) => void} onState
 * @property {(closing: Closing) => void} onClosing the server said that, and why, it closes
 */

/** Opens, watches and reopens the socket until `close`. */
export class Socket {
  /** @param {SocketEvents} events */
  constructor(events) {
    this.events = events;
    /** @type {SocketState} */
    this.state = "closed";
    /** Attempts since the last welcome. */
    this.attempts = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retryTimer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.welcomeTimer = undefined;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.pingTimer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.probeTimer = undefined;
    this.unansweredPings = 0;
    /** @type {Closing | null} */
    this.closing = null;
  }

  /** Begins to connect. */
  open() {
    this.#forget();
    this.closing = null;
    const url = new URL(PATH, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.search = "";
    url.hash = "";
    const socket = new WebSocket(url);
    this.socket = socket;
    this.#become("connecting");
    this.welcomeTimer = setTimeout(() => this.#lost(socket, 1006), WELCOME_WITHIN_MS);
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", version: VERSION }));
    socket.onmessage = (event) => this.#handle(socket, event.data);
    socket.onclose = (event) => this.#lost(socket, event.code);
  }

  /**
   * Sends if the server has welcomed us.
   *
   * @param {ClientMessage} message
   * @returns {boolean} whether it was handed to the socket
   */
  send(message) {
    if (this.state !== "open" || this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /** The network is another one: does not sit out a wait, and finds out at once whether an open socket still lives. */
  handleNetwork() {
    if (this.state === "waiting") this.open();
    const socket = this.socket;
    if (this.state !== "open" || !socket) return;
    clearTimeout(this.probeTimer);
    this.#ping(socket);
    this.probeTimer = setTimeout(() => {
      if (this.unansweredPings > 0) this.#lost(socket, 1006);
    }, PROBE_WITHIN_MS);
  }

  /** Closes for good. */
  close() {
    const socket = this.socket;
    this.#forget();
    socket?.close(1000);
    this.#become("closed");
  }

  /**
   * @param {WebSocket} socket
   * @param {unknown} data
   */
  #handle(socket, data) {
    if (socket !== this.socket || typeof data !== "string") return;
    this.unansweredPings = 0;
    /** @type {ServerMessage} */
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    switch (message.type) {
      case "welcome":
        clearTimeout(this.welcomeTimer);
        this.attempts = 0;
        this.pingTimer = setInterval(() => this.#ping(socket), message.silence_ms / PINGS_A_SILENCE);
        this.#become("open");
        this.events.onWelcome();
        break;
      case "pong":
        break;
      case "closing":
        this.closing = message;
        break;
      default:
        this.events.onMessage(message);
    }
  }

  /** @param {WebSocket} socket */
  #ping(socket) {
    if (this.unansweredPings >= MOST_UNANSWERED_PINGS) {
      this.#lost(socket, 1006);
      return;
    }
    this.unansweredPings += 1;
    this.send({ type: "ping" });
  }

  /**
   * @param {WebSocket} socket
   * @param {number} code
   */
  #lost(socket, code) {
    if (socket !== this.socket) return;
    this.#forget();
    socket.close();
    const reason = REASON_BY_CODE[code];
    const closing = this.closing ?? (reason ? { type: "closing", reason } : null);
    if (closing && !COMES_BACK.includes(closing.reason)) {
      this.#become("closed");
      this.events.onClosing(closing);
      return;
    }
    const wait =
      closing?.retry_after_ms === undefined
        ? delayMs(this.attempts, Math.random())
        : politeDelayMs(closing.retry_after_ms, Math.random());
    this.attempts += 1;
    this.retryTimer = setTimeout(() => this.open(), wait);
    this.#become("waiting");
    if (closing) this.events.onClosing(closing);
  }

  #forget() {
    clearTimeout(this.retryTimer);
    clearTimeout(this.welcomeTimer);
    clearInterval(this.pingTimer);
    clearTimeout(this.probeTimer);
    this.unansweredPings = 0;
    this.socket = null;
  }

  /** @param {SocketState} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.events.onState(state);
  }
}
