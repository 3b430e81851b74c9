// Chat, rights and the way in, in real browsers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Person, until } from "./person.js";
import { browser, people, server, setStage } from "./stage.js";

/** A test that hangs must not hold up the others. */
const LIMIT = { timeout: 120_000 };

setStage();

test("a late joiner reads the history, then live lines, and markup stays text", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  people.push(await Person.join(browser, server, room, "teacher", { media: false }));
  const [teacher] = people;
  const nasty = `<img src=x onerror="window.hurt = true">`;
  await teacher.says("안녕하세요");
  await teacher.says(nasty);
  await teacher.until("own lines", (state) => state.chat.length === 2);
  people.push(await Person.join(browser, server, { number: room.number }, "late", { media: false }));
  const late = people[1];
  await until("history", async () => (await late.linesShown()).length === 2);
  await late.says("live");
  for (const person of people) {
    await until("three lines", async () => (await person.linesShown()).length === 3);
    assert.deepEqual(await person.linesShown(), ["안녕하세요", nasty, "live"]);
    assert.equal(await person.page.evaluate(() => "hurt" in window), false);
  }
});

test("in a seminar a student is a name until the host gives the right to publish", LIMIT, async () => {
  const room = await server.createRoom("seminar");
  people.push(await Person.join(browser, server, room, "teacher"));
  people.push(await Person.join(browser, server, { number: room.number }, "student", { media: false }));
  people.push(await Person.join(browser, server, { number: room.number }, "watcher", { media: false }));
  const [teacher, student, watcher] = people;
  const id = await student.id();
  await student.seesAndHears(teacher);
  await watcher.seesAndHears(teacher);
  await watcher.page.locator(`[data-testid=audience-name][data-participant="${id}"]`).waitFor();
  assert.equal((await student.state()).me.rights.may_publish, false);

  await teacher.part("people-button").click();
  await teacher.page
    .locator(`[data-testid=person][data-participant="${id}"] [data-testid=right-publish]`)
    .click();
  await student.until("the right", (state) => state.me.rights.may_publish);
  await student.part("camera").click();
  await watcher.sees(student);
});

test("the start page opens a room and the host's link leads into it", LIMIT, async () => {
  const context = await browser.newContext({ locale: "en-GB", permissions: ["camera", "microphone"] });
  const page = await context.newPage();
  const teacher = new Person(context, page, "teacher");
  people.push(teacher);
  await page.goto(server.url);
  await teacher.part("name").fill("Ms Han");
  await teacher.part("create-room").click();
  await teacher.part("create-title").fill("수학 7반");
  if (!(await teacher.part("create-name").inputValue())) await teacher.part("create-name").fill("Ms Han");
  await teacher.part("create-submit").click();
  await teacher.part("enter-created").click();
  await teacher.part("join-page").waitFor();
  assert.match(await teacher.part("room-title").innerText(), /수학 7반/);
  await teacher.enter();
  const state = await teacher.state();
  assert.equal(state.me.role, "host");
  assert.ok(!page.url().includes("host="), "the token stayed in the address");
});

test("an unknown number offers to create it", LIMIT, async () => {
  const context = await browser.newContext({ locale: "en-GB" });
  const page = await context.newPage();
  const guest = new Person(context, page, "guest");
  people.push(guest);
  await page.goto(server.url);
  await guest.part("name").fill("Mina");
  await guest.part("room-number").fill("nobody-was-here");
  await guest.part("join-by-number").click();
  await guest.part("unknown-room").waitFor();
  await guest.part("create-this-room").waitFor();
});

test("somebody without camera and microphone takes part", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  people.push(await Person.join(browser, server, room, "teacher"));
  people.push(await Person.join(browser, server, { number: room.number }, "listener", { media: false }));
  await people[1].seesAndHears(people[0]);
  const state = await people[0].state();
  assert.deepEqual(state.users[0].publications, []);
});

test("a host ends the lesson and everyone is told", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  people.push(await Person.join(browser, server, room, "teacher", { media: false }));
  people.push(await Person.join(browser, server, { number: room.number }, "student", { media: false }));
  const [teacher, student] = people;
  await teacher.part("leave").click();
  await teacher.part("end-lesson").click();
  await teacher.part("end-keep").click();
  await student.part("lesson-ended").waitFor();
  assert.equal((await student.state()).ending, "lesson_ended");
  await teacher.part("recordings-title").waitFor();
});
