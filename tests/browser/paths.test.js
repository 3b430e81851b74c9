// Ways between browser and server: they change, and the class goes on.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { Coturn } from "./coturn.js";
import { Person, allSeeAndHearAll, openBrowser, until } from "./person.js";
import { Relay } from "./relay.js";
import { Server } from "./server.js";

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {(() => Promise<unknown> | void)[]} */
let endings = [];

/** A test that hangs must not hold up the others. */
const LIMIT = { timeout: 120_000 };

before(async () => {
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
});

afterEach(async () => {
  for (const end of endings.reverse()) await end();
  endings = [];
});

/**
 * A teacher and a student behind a router, who see and hear each other.
 */
async function meetBehindRouter() {
  const relay = await Relay.start();
  endings.push(() => relay.close());
  const server = await Server.start(relay.settings);
  endings.push(() => server.stop());
  const room = await server.createRoom("meeting");
  /** @type {Person[]} */
  const people = [];
  for (const name of ["teacher", "student"]) {
    const person = await Person.join(browser, server, room, name);
    endings.push(() => person.close());
    people.push(person);
  }
  await allSeeAndHearAll(people);
  return { relay, people };
}

/**
 * Frames of all pictures that arrive at somebody.
 *
 * @param {Person} person
 */
async function framesSeen(person) {
  const stats = await person.stats();
  return stats.slots.reduce((/** @type {number} */ sum, /** @type {any} */ slot) => sum + (slot.frames_decoded ?? 0), 0);
}

/**
 * Everyone has the seat and the connection of before, and pictures and sound go on.
 *
 * @param {Person[]} people
 * @param {any[]} before
 */
async function goOnAsBefore(people, before) {
  await allSeeAndHearAll(people);
  for (const [place, person] of people.entries()) {
    const state = await person.state();
    assert.equal(state.me.participant, before[place].me.participant);
    assert.equal(state.connection, before[place].connection, `${person.name} made another connection`);
    assert.deepEqual(person.trouble, []);
  }
}

test("who comes to another network goes on within two seconds on the same connection", LIMIT, async () => {
  const { relay, people } = await meetBehindRouter();
  const before = await Promise.all(people.map((person) => person.state()));
  const seen = await Promise.all(people.map(framesSeen));
  const changed = Date.now();
  relay.forget();
  for (const person of people) await person.page.evaluate(() => void window.dispatchEvent(new Event("online")));
  await Promise.all(
    people.map((person, place) => until("pictures again", async () => (await framesSeen(person)) > seen[place] + 3)),
  );
  const gapMs = Date.now() - changed;
  console.log(`pictures again ${gapMs} ms after the change of network`);
  assert.ok(gapMs < 2_000, `${gapMs} ms`);
  await goOnAsBefore(people, before);
});

test("a path that dies silently is replaced on the same connection", LIMIT, async () => {
  const { relay, people } = await meetBehindRouter();
  const before = await Promise.all(people.map((person) => person.state()));
  relay.forget();
  const cut = Date.now();
  await Promise.all(people.map((person) => person.until("the loss", (state) => state.media === "lost")));
  await Promise.all(people.map((person) => person.until("another path", (state) => state.media === "connected")));
  console.log(`connected again ${Date.now() - cut} ms after the path had died`);
  await goOnAsBefore(people, before);
});

test("who gets no UDP out joins over a TURN server, with TCP too, and moves there to another path", LIMIT, async () => {
  const coturn = await Coturn.start();
  endings.push(() => coturn.stop());
  const server = await Server.start(coturn.settings);
  endings.push(() => server.stop());
  const room = await server.createRoom("meeting");
  /** @type {Person[]} */
  const people = [];
  for (const transport of ["udp", "tcp"]) {
    const person = await Person.join(browser, server, room, transport, { script: relayOnly, argument: transport });
    endings.push(() => person.close());
    people.push(person);
  }
  await allSeeAndHearAll(people);
  for (const person of people) assert.deepEqual(await relayInUse(person), ["relay", person.name]);

  const before = await Promise.all(people.map((person) => person.state()));
  for (const person of people) await person.page.evaluate(() => void window.dispatchEvent(new Event("online")));
  await Promise.all(people.map((person) => person.until("the second answer", (state) => state.answers >= 2)));
  await goOnAsBefore(people, before);
  for (const person of people) assert.deepEqual(await relayInUse(person), ["relay", person.name]);
});

test("who gets no UDP out and has no TURN server joins over TCP", LIMIT, async () => {
  const server = await Server.start();
  endings.push(() => server.stop());
  const room = await server.createRoom("meeting");
  /** @type {Person[]} */
  const people = [];
  for (const name of ["teacher", "student"]) {
    const person = await Person.join(browser, server, room, name, name === "student" ? { script: noUdp } : {});
    endings.push(() => person.close());
    people.push(person);
  }
  await allSeeAndHearAll(people);
  const [, student] = people;
  assert.equal((await pathInUse(student)).protocol, "tcp");
});

test("whoever has UDP stays on it, one after the other", LIMIT, async () => {
  const server = await Server.start();
  endings.push(() => server.stop());
  const room = await server.createRoom("meeting");
  for (const name of ["teacher", "one", "two", "three", "four"]) {
    const person = await Person.join(browser, server, room, name, { script: unlimited });
    endings.push(() => person.close());
    const since = Date.now();
    await until("more time than TCP is given", async () => Date.now() - since > 2_500 || undefined);
    assert.equal((await pathInUse(person)).protocol, "udp", name);
  }
});

/** Runs before the page: its connection is known. */
function unlimited() {
  const Real = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Real {
    /** @param {RTCConfiguration} [configuration] */
    constructor(configuration) {
      super(configuration);
      Object.assign(window, { __peer: this });
    }
  };
}

/** Runs before the page: its connections learn of no UDP address of the server. */
function noUdp() {
  const Real = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Real {
    /** @param {RTCConfiguration} [configuration] */
    constructor(configuration) {
      super(configuration);
      Object.assign(window, { __peer: this });
    }

    /** @param {RTCSessionDescriptionInit} description */
    setRemoteDescription(description) {
      return super.setRemoteDescription({ ...description, sdp: description.sdp?.replace(/^a=candidate:.* udp .*\r\n/gm, "") });
    }
  };
}

/**
 * Runs before the page: its connections use the TURN server alone, over this transport alone.
 *
 * @param {string} transport
 */
function relayOnly(transport) {
  const Real = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Real {
    /** @param {RTCConfiguration} [configuration] */
    constructor(configuration) {
      const limit = (/** @type {RTCConfiguration} */ given) => ({
        ...given,
        iceTransportPolicy: /** @type {const} */ ("relay"),
        iceServers: given.iceServers?.map((server) => ({
          ...server,
          urls: [server.urls].flat().filter((url) => url.endsWith(`transport=${transport}`)),
        })),
      });
      super(limit(configuration ?? {}));
      this.setConfiguration = (given) => super.setConfiguration(limit(given ?? {}));
      Object.assign(window, { __peer: this });
    }
  };
}

/**
 * How the packets of somebody who was limited leave the machine.
 *
 * @param {Person} person
 */
function pathInUse(person) {
  return person.page.evaluate(async () => {
    /** @type {RTCStatsReport} */
    const report = await /** @type {any} */ (window).__peer.getStats();
    const stats = [...report.values()];
    const transport = stats.find((entry) => entry.type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    const local = report.get(pair.localCandidateId);
    return { type: local.candidateType, protocol: local.protocol, relayProtocol: local.relayProtocol };
  });
}

/** @param {Person} person */
async function relayInUse(person) {
  const path = await pathInUse(person);
  return [path.type, path.relayProtocol];
}
