// Browsers of different make in one class.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { FirefoxPerson, openFirefox, reachableSettings } from "./firefox.js";
import { Person, allSeeAndHearAll, openBrowser } from "./person.js";
import { Server } from "./server.js";

/** @type {Server} */
let server;
/** @type {import("playwright-core").Browser} */
let chromium;
/** @type {import("puppeteer-core").Browser} */
let firefox;

before(async () => {
  [server, chromium, firefox] = await Promise.all([Server.start(reachableSettings()), openBrowser(), openFirefox()]);
});

after(async () => {
  await Promise.all([chromium?.close(), firefox?.close()]);
  await server?.stop();
});

test("Chromium and Firefox see and hear each other, also over another path", { timeout: 60_000 }, async () => {
  const room = await server.createRoom("meeting");
  const teacher = await Person.join(chromium, server, room, "teacher");
  const student = await FirefoxPerson.meet(firefox, server, room, "student");
  const people = [teacher, student];
  await allSeeAndHearAll(people);

  // Firefox takes the answer to its second offer, and goes on with the same keys.
  const before = await student.state();
  await student.page.evaluate(() => void window.dispatchEvent(new Event("online")));
  await student.until("the second answer", (state) => state.answers >= 2);
  await allSeeAndHearAll(people);
  const state = await student.state();
  assert.equal(state.connection, before.connection);
  assert.deepEqual([...teacher.trouble, ...student.trouble], []);
});
