// A media connection that fails, with a browser that is played. Run by `node --test web/tests/`.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { Room } from "../js/room.js";
import { MediaLink } from "../js/room/media_link.js";

/** @import { ClientMessage, OfferMessage, Source } from "../js/protocol/messages.js" */

/** @type {any} */
const browser = globalThis;
/** @type {FakePeer[]} */
let peers = [];
/** What goes wrong: the name of a method, as long as it is in here. */
const broken = new Set();

/** The time, and what waits for it. */
const clock = { now: 0, last: 0, /** @type {Map<number, {act: () => void, at: number}>} */ timers: new Map() };
const own = [globalThis.setTimeout, globalThis.clearTimeout, Date.now];

/** As much of an RTCPeerConnection as a link touches. */
class FakePeer {
  /** @param {RTCConfiguration} configuration */
  constructor(configuration) {
    if (broken.has("constructor")) throw new Error("Cannot create so many PeerConnections");
    this.configuration = configuration;
    this.connectionState = "new";
    this.signalingState = "stable";
    this.localDescription = null;
    /** @type {unknown[]} */
    this.transceivers = [];
    /** @type {(() => void) | null} */
    this.onconnectionstatechange = null;
    peers.push(this);
  }

  /** @param {string} kind */
  addTransceiver(kind) {
    const transceiver = {
      mid: String(this.transceivers.length),
      receiver: { track: { kind } },
      sender: {
        track: null,
        async replaceTrack(/** @type {any} */ track) {
          if (broken.has("replaceTrack")) throw new Error("InvalidModificationError");
          this.track = track;
        },
      },
    };
    this.transceivers.push(transceiver);
    return transceiver;
  }

  getTransceivers() {
    return this.transceivers;
  }

  getConfiguration() {
    return this.configuration;
  }

  /** @param {RTCConfiguration} configuration */
  setConfiguration(configuration) {
    this.configuration = configuration;
  }

  async createOffer() {
    if (broken.has("createOffer")) throw new Error("OperationError");
    return { type: "offer", sdp: "v=0\r\n" };
  }

  /** @param {any} description */
  async setLocalDescription(description) {
    this.localDescription = description;
    this.signalingState = "have-local-offer";
  }

  async setRemoteDescription() {
    this.signalingState = "stable";
  }

  async addIceCandidate() {}

  close() {
    this.connectionState = "closed";
    this.signalingState = "closed";
  }

  /** @param {string} state */
  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }
}

beforeEach(() => {
  peers = [];
  broken.clear();
  browser.RTCPeerConnection = FakePeer;
  browser.RTCRtpReceiver = {};
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: {} });
  browser.addEventListener ??= () => undefined;
  browser.removeEventListener ??= () => undefined;
  Object.assign(clock, { now: 1_000_000, timers: new Map() });
  browser.setTimeout = (/** @type {() => void} */ act, /** @type {number} */ wait) => {
    clock.timers.set(++clock.last, { act, at: clock.now + wait });
    return clock.last;
  };
  browser.clearTimeout = (/** @type {number} */ timer) => clock.timers.delete(timer);
  Date.now = () => clock.now;
});

afterEach(() => {
  [browser.setTimeout, browser.clearTimeout, Date.now] = own;
});

test("a connection that cannot be made is shown as lost and tried again, less and less often", async () => {
  for (const method of ["constructor", "createOffer"]) {
    const { link, sent } = open();
    broken.add(method);
    link.connect();
    await pass(0);
    assert.equal(link.state, "lost", method);
    for (const wait of [1_600, 3_200, 6_400]) {
      const number = link.number;
      await pass(wait - 1);
      assert.equal(link.number, number, `${method}: not before its time`);
      await pass(1);
      assert.equal(link.number, number + 1);
    }
    assert.deepEqual(sent, []);
    broken.clear();
    await pass(12_800);
    assert.deepEqual(sent.map((message) => message.type), ["offer"], method);
    assert.equal(link.state, "connecting");
    link.close();
  }
});

test("a track that the browser does not send is told, and the class goes on without it", async () => {
  const { link, sent, unusable } = open(new Map([["camera", /** @type {any} */ ({})]]));
  broken.add("replaceTrack");
  link.connect();
  await pass(0);
  assert.deepEqual(unusable, ["camera"]);
  assert.deepEqual(sent.map((message) => message.type), ["offer"]);
  link.close();
});

test("a failure of a connection that was given up meanwhile changes nothing", async () => {
  const { link, sent } = open();
  broken.add("createOffer");
  link.connect();
  tick(0);
  link.close();
  await pass(60_000);
  assert.equal(link.state, "connecting");
  assert.deepEqual([sent, link.number], [[], 1]);
});

test("a restart uses the newest relays", async () => {
  const { link, sent, relays } = open();
  link.connect();
  await pass(0);
  await link.accept(1, "v=0\r\n");
  peers[0].become("connected");
  relays.splice(0, 1, { urls: "turn:turn.example.org", username: "new", credential: "new" });
  assert.equal(peers[0].configuration.iceServers?.[0].username, "old");
  peers[0].become("disconnected");
  await pass(800);
  assert.equal(peers.length, 1, "the same connection");
  assert.equal(peers[0].configuration.iceServers?.[0].username, "new");
  const offers = sent.filter((message) => message.type === "offer");
  assert.deepEqual(offers.map((offer) => offer.restart), [undefined, true]);
  link.close();
});

test("a class that lasts longer than a credential restarts with the one that came last", async () => {
  const consents = { recording: false, captures: false };
  const room = new Room({ number: "math", name: "Ana", consents, tracks: new Map(), devices: [], seat: null });
  const hear = (/** @type {any} */ message) => room.socket.events.onMessage(message);
  const relays = (/** @type {string} */ username) => [{ urls: ["turn:turn.example.org"], username, credential: username }];
  const you = { participant: "a", name: "Ana", role: "student", rights: {}, publications: [], states: {}, consents };
  hear({ type: "room_info", room: { number: "math", kind: "meeting" }, you, resumed: false, ice_servers: relays("old") });
  await pass(0);
  assert.equal(peers[0].configuration.iceServers?.[0].username, "old");
  hear({ type: "answer", connection: 1, sdp: "v=0\r\n" });
  await pass(0);
  peers[0].become("connected");
  hear({ type: "ice_servers", ice_servers: relays("new") });
  peers[0].become("failed");
  await pass(800);
  assert.equal(peers[0].configuration.iceServers?.[0].username, "new");
  room.leave();
});

/**
 * @param {Map<Source, MediaStreamTrack>} tracks
 */
function open(tracks = new Map()) {
  /** @type {ClientMessage[]} */
  const sent = [];
  /** @type {Source[]} */
  const unusable = [];
  /** @type {RTCIceServer[]} */
  const relays = [{ urls: "turn:turn.example.org", username: "old", credential: "old" }];
  const link = new MediaLink(0, {
    send: (message) => sent.push(message) > 0,
    tracks: () => tracks,
    plan: () => [],
    iceServers: () => [...relays],
    allowed: () => true,
    unusable: (source) => unusable.push(source),
    changed: () => undefined,
    numbered: () => undefined,
  });
  return { link, sent, unusable, relays };
}

/**
 * Lets time pass, and what waits for promises happen.
 *
 * @param {number} time in milliseconds
 */
async function pass(time) {
  tick(time);
  for (let i = 0; i < 50; i += 1) await Promise.resolve();
}

/** @param {number} time in milliseconds */
function tick(time) {
  const end = clock.now + time;
  for (;;) {
    const due = [...clock.timers].filter(([, timer]) => timer.at <= end).sort((one, other) => one[1].at - other[1].at);
    if (due.length === 0) break;
    const [number, { act, at }] = due[0];
    clock.timers.delete(number);
    clock.now = Math.max(clock.now, at);
    act();
  }
  clock.now = end;
}
