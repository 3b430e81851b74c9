// Ways between browser and server: they change, and the class goes on.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

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
