// A class as this browser knows it: one seat, everyone's state, what is sent, shown and said. No DOM here.

import { forgetSeat, recall, remember, rememberSeat } from "./memory.js";
import { Socket, watchNetwork } from "./protocol.js";
import { ChatLog } from "./room/chat_log.js";
import { Emitter } from "./room/emitter.js";
import { layOut } from "./room/layout.js";
import { LocalSources } from "./room/local_sources.js";
import { MediaLink } from "./room/media_link.js";
import { Monitor } from "./room/monitor.js";
import { planView } from "./room/view_plan.js";

/** @import { ClosingReason, Consents, ErrorMessage, Rights, RoomInfo, ServerMessage, Source, UserInfo } from "./protocol/messages.js" */
/** @import { Layout } from "./room/layout.js" */
/** @import { Sizes } from "./room/view_plan.js" */
/** @import { Seat } from "./memory.js" */

/** A tab that stays hidden for this long asks for no pictures, in milliseconds. */
const HIDDEN_AFTER_MS = 10_000;
/** A line of chat that has not come back by then counts as not sent, in milliseconds. */
const ECHO_WITHIN_MS = 8_000;

/** @typedef {"connecting" | "in" | "reconnecting" | "refused" | "ended" | "left"} Phase */
/** @typedef {"phase" | "users" | "media" | "chat" | "consents" | "local" | "quality" | "speaking" | "came" | "went" | "vanished" | "rights" | "error"} Topic */

/**
 * @typedef {object} Entry what the join page knows
 * @property {string} number
 * @property {string} name
 * @property {Consents} consents
 * @property {Map<Source, MediaStreamTrack>} tracks of the preview, owned by the room from then on
 * @property {("camera" | "microphone")[]} devices to be opened once the seat is taken, as before a reload
 * @property {Seat | null} seat of this tab
 */

/** @extends {Emitter<Topic>} */
export class Room extends Emitter {
  /** @param {Entry} entry */
  constructor(entry) {
    super();
    this.number = entry.number;
    this.name = entry.name;
    this.consents = entry.consents;
    this.seat = entry.seat;
    /** @type {Phase} */
    this.phase = "connecting";
    /** @type {RoomInfo | null} */
    this.info = null;
    /** @type {Map<string, UserInfo>} everyone else, in order of arrival */
    this.users = new Map();
    this.chat = new ChatLog();
    /** @type {{you: Consents, room: Consents}} what is kept at the moment */
    this.recording = { you: none(), room: none() };
    /** @type {{code: string, message: string} | null} */
    this.refusal = null;
    /** @type {ClosingReason | null} */
    this.ending = null;
    /** The server said that it restarts, and has not come back yet. */
    this.serverRestarts = false;
    this.page = 0;
    /** @type {string | null} */
    this.pinned = null;
    this.hidden = false;
    /** @type {Sizes} */
    this.sizes = { page: size(320, 240), spotlight: size(960, 720), screen: size(1280, 720) };
    this.socket = new Socket({
      onWelcome: () => this.#join(),
      onMessage: (message) => this.#handle(message),
      onState: () => this.#handleSocketState(),
      onClosing: (closing) => this.#handleClosing(closing.reason),
    });
    this.media = new MediaLink(entry.seat?.connection ?? 0, {
      send: (message) => this.socket.send(message),
      tracks: () => this.local.tracks,
      plan: (mids, previous) => (this.hidden ? [] : planView(this.layout(), this.me.participant, mids, this.sizes, previous)),
      iceServers: () => this.info?.ice_servers ?? [],
      allowed: () => this.phase === "in",
      unusable: (source) => {
        this.emit("vanished", source);
        void this.local.stop(source);
      },
      changed: () => this.emit("media"),
      numbered: () => this.#keepSeat(),
    });
    this.local = new LocalSources({
      publish: (source, track) => this.media.publish(source, track),
      unpublish: (source) => this.media.unpublish(source),
      changed: () => this.#handleLocal(),
      vanished: (source) => this.emit("vanished", source),
    });
    for (const [source, track] of entry.tracks) void this.local.adopt(source, track);
    this.devices = entry.devices;
    this.monitor = new Monitor({
      look: () => (this.phase === "in" && !this.hidden ? this.media.stats() : null),
      quality: () => this.emit("quality"),
      speaking: () => this.emit("speaking"),
    });
    this.unwatchNetwork = watchNetwork(() => {
      this.socket.handleNetwork();
      this.media.restart();
    });
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.hiddenTimer = undefined;
  }

  /** Oneself, with the sources as they are here rather than as the server last knew them. */
  get me() {
    const you = this.info?.you;
    if (!you) throw new Error("nobody is anybody before room_info");
    return { ...you, publications: [...this.local.tracks.keys()] };
  }

  get isHost() {
    return this.info?.you.role === "host" || this.info?.you.role === "cohost";
  }

  /** Takes the seat. */
  enter() {
    this.socket.open();
  }

  /** The window closes: gone for the others at once, while a reload finds its seat. */
  pause() {
    this.socket.send({ type: "leave" });
    this.socket.close();
  }

  /** Leaves for good. */
  leave() {
    this.#end("left");
    this.pause();
    forgetSeat(this.number);
  }

  /** @returns {Layout} */
  layout() {
    return layOut({
      me: this.me,
      others: [...this.users.values()],
      kind: this.info?.room.kind ?? "meeting",
      page: this.page,
      pinned: this.pinned,
    });
  }

  /** @param {number} page from 0 */
  showPage(page) {
    this.page = page;
    this.#changed();
  }

  /** @param {string | null} participant */
  pin(participant) {
    this.pinned = participant;
    this.#changed();
  }

  /** @param {Sizes} sizes of the tiles as they are drawn */
  setSizes(sizes) {
    this.sizes = sizes;
    this.media.planView();
  }

  /** @param {boolean} hidden */
  setHidden(hidden) {
    clearTimeout(this.hiddenTimer);
    if (hidden) this.hiddenTimer = setTimeout(() => this.#setHidden(true), HIDDEN_AFTER_MS);
    else this.#setHidden(false);
  }

  /** @param {string} text */
  say(text) {
    const nonce = crypto.getRandomValues(new Uint32Array(4)).join("-");
    this.chat.wait(nonce, text);
    if (!this.socket.send({ type: "chat", text, nonce })) this.chat.fail(nonce);
    // A flood is dropped without an answer to each line.
    setTimeout(() => this.#giveUpLine(nonce), ECHO_WITHIN_MS);
    this.emit("chat");
  }

  /** @param {string} nonce of a line that failed */
  sayAgain(nonce) {
    const line = this.chat.pending.get(nonce);
    if (!line) return;
    this.chat.pending.delete(nonce);
    this.say(line.text);
  }

  /** @param {boolean} open */
  readChat(open) {
    this.chat.setOpen(open);
    this.emit("chat");
  }

  /** @param {Consents} consents */
  setConsents(consents) {
    this.consents = consents;
    this.socket.send({ type: "consent", ...consents });
    this.#keepSeat();
    this.emit("consents");
  }

  /**
   * @param {string} participant
   * @param {Rights} rights
   */
  setRights(participant, rights) {
    this.socket.send({ type: "set_rights", participant, rights });
  }

  /** @param {string} nonce */
  #giveUpLine(nonce) {
    if (!this.chat.pending.has(nonce)) return;
    this.chat.fail(nonce);
    this.emit("chat");
  }

  #join() {
    this.serverRestarts = false;
    this.socket.send({
      type: "join_room",
      room: this.number,
      name: this.name,
      consents: this.consents,
      ...(this.seat?.resume ? { resume: this.seat.resume } : {}),
      ...optional("person", recall("person")),
    });
  }

  /** @param {ServerMessage} message */
  #handle(message) {
    switch (message.type) {
      case "room_info":
        return this.#handleRoomInfo(message);
      case "all_users":
        this.users = new Map(message.users.map((user) => [user.participant, user]));
        return this.#changed();
      case "user_enter":
        this.users.set(message.user.participant, message.user);
        this.emit("came", message.user);
        return this.#changed();
      case "user_exit":
        return this.#handleExit(message.participant);
      case "user_update":
        return this.#handleUpdate(message.user);
      case "answer":
        return void this.media.accept(message.connection, message.sdp).catch(() => this.media.refused());
      case "slots":
        return this.media.handleSlots(message.slots);
      case "layers":
        return this.media.handleLayers(message.source, message.rids);
      case "chat":
        this.chat.add(message, message.participant === this.info?.you.participant);
        return this.emit("chat", message);
      case "chat_history":
        this.chat.addHistory(message.messages);
        return this.emit("chat");
      case "recording_state":
        this.recording = { you: message.you, room: message.room };
        return this.emit("consents");
      case "ice_servers":
        // The next restart or connection takes them.
        if (this.info) this.info.ice_servers = message.ice_servers;
        return undefined;
      case "reoffer":
        return this.media.handleReoffer();
      case "error":
        return this.#handleError(message);
      default:
        return undefined;
    }
  }

  /** @param {RoomInfo} info */
  #handleRoomInfo(info) {
    this.info = info;
    remember("person", info.person);
    this.seat = { ...this.#freshSeat(), resume: info.resume };
    this.#keepSeat();
    this.#become("in");
    this.#obeyRights();
    if (info.resumed && this.media.alive) {
      this.#reconcile(info.you.publications);
      this.media.resume();
    } else {
      this.media.connect();
    }
    this.#openDevices();
    this.#changed();
  }

  /** Once: what was on before a reload. A device that cannot be had any more stays off. */
  #openDevices() {
    const wished = this.devices;
    this.devices = [];
    if (!this.info?.you.rights.may_publish) return;
    for (const source of wished) this.local.start(source).catch(() => this.emit("vanished", source));
  }

  /**
   * The socket was away: tell what was switched meanwhile.
   *
   * @param {Source[]} known what the server believes
   */
  #reconcile(known) {
    for (const source of known) if (!this.local.isOn(source)) this.socket.send({ type: "unpublish", source });
    for (const source of this.local.tracks.keys()) {
      if (!known.includes(source)) this.socket.send({ type: "publish", source });
    }
  }

  /** @param {string} participant */
  #handleExit(participant) {
    const user = this.users.get(participant);
    this.users.delete(participant);
    if (this.pinned === participant) this.pinned = null;
    if (user) this.emit("went", user);
    this.#changed();
  }

  /** @param {UserInfo} user */
  #handleUpdate(user) {
    const info = this.info;
    if (!info) return;
    if (user.participant !== info.you.participant) {
      this.users.set(user.participant, user);
    } else {
      const before = info.you.rights;
      info.you = user;
      this.#obeyRights();
      if (before.may_publish !== user.rights.may_publish || before.may_share_screen !== user.rights.may_share_screen) {
        this.emit("rights", before);
      }
    }
    this.#changed();
  }

  #obeyRights() {
    const rights = this.info?.you.rights;
    if (!rights) return;
    if (!rights.may_publish) {
      void this.local.stop("camera");
      void this.local.stop("microphone");
    }
    if (!rights.may_share_screen) void this.local.stop("screen");
  }

  /** @param {ErrorMessage} error */
  #handleError(error) {
    if (error.nonce !== undefined) {
      this.chat.fail(error.nonce);
      this.emit("chat");
    }
    if (error.reply_to === "join_room" || error.reply_to === "hello") {
      this.refusal = { code: error.code, message: error.message };
      this.#end("refused");
      forgetSeat(this.number);
      this.socket.close();
    } else if (error.reply_to === "offer") {
      this.media.refused();
    } else if (error.reply_to !== "view" && error.reply_to !== "unpublish") {
      // A view or an end that crosses somebody's leaving mends itself with the next message.
      this.emit("error", error);
    }
  }

  #handleSocketState() {
    if (this.phase === "in" && this.socket.state !== "open") this.#become("reconnecting");
    else this.emit("phase");
  }

  /** @param {ClosingReason} reason */
  #handleClosing(reason) {
    if (reason === "server_restart") {
      this.serverRestarts = true;
      // The media went with the server; its successor knows nothing of this connection.
      this.media.close();
      this.emit("phase");
    } else if (reason !== "too_slow") {
      this.ending = reason;
      this.#end("ended");
      if (reason !== "replaced") forgetSeat(this.number);
    }
  }

  /** @param {Phase} phase */
  #end(phase) {
    this.phase = phase;
    this.monitor.stop();
    this.unwatchNetwork();
    clearTimeout(this.hiddenTimer);
    void this.local.stopAll();
    this.media.close();
    this.emit("phase");
  }

  /** @param {Phase} phase */
  #become(phase) {
    this.phase = phase;
    this.emit("phase");
  }

  #changed() {
    if (!this.info) return;
    this.media.planView();
    this.emit("users");
  }

  #handleLocal() {
    this.#keepSeat();
    this.emit("local");
    if (this.info) this.emit("users");
  }

  /** @param {boolean} hidden */
  #setHidden(hidden) {
    this.hidden = hidden;
    this.media.planView();
  }

  /** @returns {Seat} */
  #freshSeat() {
    return {
      name: this.name,
      resume: this.seat?.resume ?? "",
      connection: this.media.number,
      consents: this.consents,
      camera: this.local.isOn("camera") || this.local.busy.has("camera"),
      microphone: this.local.isOn("microphone") || this.local.busy.has("microphone"),
    };
  }

  #keepSeat() {
    if (!this.seat || (this.phase !== "in" && this.phase !== "reconnecting")) return;
    this.seat = this.#freshSeat();
    rememberSeat(this.number, this.seat);
  }
}

/** @returns {Consents} */
function none() {
  return { recording: false, captures: false };
}

/**
 * @param {number} width
 * @param {number} height
 */
function size(width, height) {
  return { width, height };
}

/**
 * @template {string} K
 * @param {K} key
 * @param {string | null} value
 * @returns {Partial<Record<K, string>>}
 */
function optional(key, value) {
  return value === null ? {} : /** @type {Partial<Record<K, string>>} */ ({ [key]: value });
}
