// Meetings of real browsers: everyone sees and hears everyone, whoever comes, goes, hides or shares.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Person, allSeeAndHearAll, until } from "./person.js";
import { browser, people, server, setStage } from "./stage.js";

/** A test that hangs must not hold up the others. */
const LIMIT = { timeout: 120_000 };

setStage();

/**
 * A host and students in a new room.
 *
 * @param {number} students
 * @param {"meeting" | "seminar"} [kind]
 */
async function meet(students, kind = "meeting") {
  const room = await server.createRoom(kind);
  people.push(await Person.join(browser, server, room, "teacher"));
  await comeIn(room, students);
  return room;
}

/**
 * @param {{number: string}} room
 * @param {number} students
 */
async function comeIn(room, students) {
  for (let count = 0; count < students; count += 1) {
    people.push(await Person.join(browser, server, { number: room.number }, `student ${people.length}`));
  }
}

test("three tabs all decode all, a late joiner too, and whoever leaves is gone within a second", LIMIT, async () => {
  const room = await meet(2);
  await allSeeAndHearAll(people);
  await comeIn(room, 1);
  await allSeeAndHearAll(people);

  const leaver = /** @type {Person} */ (people.pop());
  const id = await leaver.id();
  const left = Date.now();
  await leaver.closeWindow();
  await Promise.all(
    people.map(async (person) => {
      await person.until("the leaver is gone", (state) => !state.users.some((/** @type {any} */ user) => user.participant === id));
      assert.equal(await person.page.locator(`[data-testid=tile][data-participant="${id}"]`).count(), 0);
    }),
  );
  assert.ok(Date.now() - left < 1_000, `gone after ${Date.now() - left} ms`);
  await leaver.close();
});

test("one's own tile is there without own sound", LIMIT, async () => {
  await meet(1);
  const [teacher] = people;
  const id = await teacher.id();
  const own = teacher.page.locator(`[data-testid=tile][data-participant="${id}"]`);
  assert.equal(await own.getAttribute("data-own"), "true");
  await until("own picture", () => own.locator("video").evaluate((video) => /** @type {HTMLVideoElement} */ (video).videoWidth > 0));
  assert.ok(await own.locator("video").evaluate((video) => /** @type {HTMLVideoElement} */ (video).muted));
  const stats = await teacher.stats();
  assert.ok(stats.slots.every((/** @type {any} */ slot) => slot.participant !== id));
});

test("a reload takes the same seat, and everyone sees it again", LIMIT, async () => {
  await meet(1);
  await allSeeAndHearAll(people);
  const [teacher, student] = people;
  const id = await student.id();
  await student.page.reload();
  const state = await student.until("the seat again", (now) => now.phase === "in" && now.media === "connected");
  assert.equal(state.me.participant, id);
  assert.equal(state.resumed, true);
  assert.equal((await teacher.state()).users.length, 1);
  await allSeeAndHearAll(people);
});

test("a camera switched off is told, shows no picture and gives its light back; on again it is seen again", LIMIT, async () => {
  await meet(1);
  await allSeeAndHearAll(people);
  const [teacher, student] = people;
  const id = await student.id();
  await student.part("camera").click();
  await teacher.until("camera off", (state) =>
    state.users.some((/** @type {any} */ user) => user.participant === id && !user.publications.includes("camera")),
  );
  const tile = teacher.page.locator(`[data-testid=tile][data-participant="${id}"]`);
  await until("no picture", async () => (await tile.getAttribute("data-picture")) === "none");
  assert.ok(!(await student.state()).local.includes("camera"), "the device is still open");

  await student.part("camera").click();
  await teacher.sees(student);
  await until("picture", async () => (await tile.getAttribute("data-picture")) === "shown");
});

test("a shared screen is seen by everyone beside the cameras, and the tiles come back after it", LIMIT, async () => {
  await meet(2);
  await allSeeAndHearAll(people);
  const [teacher, ...students] = people;
  const id = await teacher.id();
  await teacher.part("screen").click();
  await teacher.until("sharing", (state) => state.local.includes("screen"));
  for (const student of students) {
    await student.sees(teacher, "screen");
    await student.sees(teacher, "camera");
  }
  await teacher.part("screen").click();
  for (const student of students) {
    await student.until("no screen", (state) => state.slots.every((/** @type {any} */ slot) => slot.source !== "screen"));
    await student.sees(teacher, "camera");
  }
  assert.ok(!(await teacher.state()).local.includes("screen"), `${id} still shares`);
});

test("eight people who publish within a second leave no black tile", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  for (let number = 0; number < 8; number += 1) {
    const person = await Person.join(browser, server, { number: room.number }, `pupil ${number}`, { media: false });
    people.push(person);
  }
  const started = Date.now();
  await Promise.all(people.map((person) => person.part("camera").click()));
  for (const person of people) await person.until("publishing", (state) => state.local.includes("camera"));
  console.log(`eight cameras were on after ${Date.now() - started} ms`);
  await Promise.all(
    people.map((person) =>
      until(
        `${person.name}: five tiles of others with pictures that are not black`,
        async () => (await person.page.evaluate(picturesThatAreNotBlack)) >= 5,
        60_000,
      ),
    ),
  );
});

test("a second class in parallel sees and hears nothing of the first", LIMIT, async () => {
  await meet(1);
  const first = people.splice(0);
  await meet(1);
  const second = people.splice(0);
  people.push(...first, ...second);
  await first[0].says("only for us");
  await Promise.all([allSeeAndHearAll(first), allSeeAndHearAll(second)]);
  const strangers = await Promise.all(first.map((person) => person.id()));
  for (const person of second) {
    const state = await person.state();
    assert.equal(state.users.length, 1);
    assert.deepEqual(state.chat, []);
    assert.ok(state.slots.every((/** @type {any} */ slot) => !strangers.includes(slot.participant)));
  }
});

test("after a restart of the server everyone is back in the same seat and sees and hears everyone", LIMIT, async () => {
  await meet(2);
  await allSeeAndHearAll(people);
  const ids = await Promise.all(people.map((person) => person.id()));
  const connections = await Promise.all(people.map(async (person) => (await person.state()).connection));
  await server.restart();
  for (const [place, person] of people.entries()) {
    const state = await person.until(
      "back after the restart",
      (now) => now.phase === "in" && now.media === "connected" && now.connection > connections[place],
    );
    assert.equal(state.me.participant, ids[place]);
  }
  await allSeeAndHearAll(people);
});

/** Runs in the page: tiles of others whose picture has something in it. */
function picturesThatAreNotBlack() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [16, 9];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  const videos = document.querySelectorAll('[data-testid=tile]:not([data-own="true"]) video');
  return [...videos].filter((video) => {
    if (!(video instanceof HTMLVideoElement) || video.videoWidth === 0) return false;
    context.drawImage(video, 0, 0, 16, 9);
    const pixels = context.getImageData(0, 0, 16, 9).data;
    return pixels.some((value, place) => place % 4 !== 3 && value > 60);
  }).length;
}
