// Encodings of a camera in a real browser: each tile gets what fills it, and what nobody needs is not sent.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { Person, allSeeAndHearAll, until } from "./person.js";
import { Server } from "./server.js";
import { browser, people, server, setStage } from "./stage.js";

const LIMIT = { timeout: 120_000 };

setStage();

test("small tiles get the small encoding, the large one is switched off, and comes back for who is shown large", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  people.push(await Person.join(browser, server, room, "teacher"));
  for (const name of ["first", "second"]) people.push(await Person.join(browser, server, { number: room.number }, name));
  const [teacher, first] = people;
  await allSeeAndHearAll(people);
  for (const watcher of people) {
    for (const other of people) {
      if (other !== watcher) await sees(watcher, other, 320);
    }
  }
  // Nobody sees anybody large, and nobody is recorded.
  for (const person of people) await sends(person, ["h"]);

  const id = await first.id();
  const tile = teacher.page.locator(`[data-testid=tile][data-participant="${id}"]`);
  await tile.hover();
  await tile.locator("[data-testid=tile-pin]").click();
  const pinned = Date.now();
  await sees(teacher, first, 640);
  console.log(`the large encoding was switched on and seen after ${Date.now() - pinned} ms`);
  await sends(first, ["f", "h"]);
  await sends(teacher, ["h"]);
  const before = await teacher.slot("sees it", id, "camera", (slot) => slot.frame_width === 640);
  await teacher.slot("goes on seeing it", id, "camera", (slot) => slot.frames_decoded >= before.frames_decoded + 10);

  await tile.hover();
  await tile.locator("[data-testid=tile-pin]").click();
  await sees(teacher, first, 320);
  await sends(first, ["h"]);
});

test("who is recorded sends the large encoding beside the small one, and the file is whole from the first picture on", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  const teacher = await Person.arrive(browser, server, room, "teacher");
  people.push(teacher);
  await teacher.setDevices(true);
  await teacher.part("consent-recording").check();
  await teacher.enter();
  people.push(await Person.join(browser, server, { number: room.number }, "student"));
  const [, student] = people;
  await sees(student, teacher, 640);
  people.push(await Person.join(browser, server, { number: room.number }, "another"));
  await sees(student, teacher, 320);
  await sends(student, ["h"]);
  await sends(teacher, ["f", "h"]);

  await teacher.part("leave").click();
  await teacher.part("end-lesson").click();
  await teacher.part("end-keep").click();
  const ready = teacher.page.locator('[data-testid="recording"][data-state="finished"]');
  await until("a finished file", async () => (await ready.count()) === 1);
  const frames = await recordedFrames(join(server.folder, "data", "recordings", room.number));
  assert.ok(frames.length > 40, `${frames.length} pictures`);
  assert.equal(frames.at(-1)?.width, 640, "the recording layer");
  const sizes = frames.filter((frame, place) => frame.width !== frames[place - 1]?.width).map((frame) => frame.width);
  assert.deepEqual(sizes, [...new Set(sizes)].sort((a, b) => a - b), "it only ever gets larger");
  const pauses = frames.slice(1).map((frame, place) => frame.at - frames[place].at);
  // Eight pictures a second; a change of the encoding may cost some.
  assert.ok(Math.max(...pauses) < 0.7, `a pause of ${Math.max(...pauses)} s`);
  console.log(`recorded ${frames.length} pictures, ${sizes.join(" then ")} wide, the longest pause ${Math.max(...pauses)} s`);
});

test("captures of a layer of their own are small while the recording is large", LIMIT, async () => {
  const own = await Server.start({ "capture-width": "320", "capture-height": "240", "capture-period-s": "2" });
  try {
    const room = await own.createRoom("meeting");
    const teacher = await Person.arrive(browser, own, room, "teacher");
    people.push(teacher);
    await teacher.setDevices(true);
    await teacher.part("consent-recording").check();
    await teacher.part("consent-captures").check();
    await teacher.enter();
    people.push(await Person.join(browser, own, { number: room.number }, "student"));
    await sends(teacher, ["f", "h"]);
    const rows = join(own.folder, "data", "captures", room.number, "captures.jsonl");
    const pictures = await until("three pictures", async () => {
      const lines = (await readFile(rows, "utf8").catch(() => "")).split("\n").filter((line) => line !== "");
      const taken = lines.map((line) => JSON.parse(line)).filter((row) => row.status === "ok");
      return taken.length >= 3 && taken;
    });
    const sizes = pictures.map((/** @type {any} */ row) => [row.width, row.height].join("x"));
    assert.deepEqual([...new Set(sizes)], ["320x240"]);

    await teacher.part("leave").click();
    await teacher.part("end-lesson").click();
    await teacher.part("end-keep").click();
    const ready = teacher.page.locator('[data-testid="recording"][data-state="finished"]');
    await until("a finished file", async () => (await ready.count()) === 1);
    const frames = await recordedFrames(join(own.folder, "data", "recordings", room.number));
    assert.equal(frames.at(-1)?.width, 640, "the recording layer");
  } finally {
    await own.stop();
  }
});

/**
 * Decodes the one file below a folder.
 *
 * @param {string} folder
 * @returns {Promise<{at: number, width: number}[]>}
 */
async function recordedFrames(folder) {
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".webm"));
  assert.equal(names.length, 1, names.join());
  const fields = ["-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time,width", "-of", "csv=p=0"];
  const lines = execFileSync("ffprobe", [...fields, join(folder, names[0])], { stdio: ["ignore", "pipe", "inherit"] });
  return lines
    .toString()
    .trim()
    .split("\n")
    .map((line) => line.split(",").map(Number))
    .map(([at, width]) => ({ at, width }));
}

/**
 * @param {Person} watcher
 * @param {Person} other
 * @param {number} width of the picture that arrives
 */
async function sees(watcher, other, width) {
  await watcher.slot(`sees ${other.name} ${width} wide`, await other.id(), "camera", (slot) => slot.frame_width === width);
}

/**
 * Waits until these encodings of the camera are on and no others, and they alone are sent.
 *
 * @param {Person} person
 * @param {string[]} rids
 */
async function sends(person, rids) {
  /** @param {any[]} layers */
  const on = (layers) => layers.filter((layer) => layer.active).map((layer) => layer.rid).sort();
  const at = await until(`${person.name} sends ${rids}`, async () => {
    const layers = (await person.stats()).sources.camera.layers;
    return on(layers).join() === rids.join() && layers;
  });
  await until(`of ${person.name} ${rids} alone move on`, async () => {
    const layers = (await person.stats()).sources.camera.layers;
    return layers.every((/** @type {any} */ layer) => {
      const more = layer.frames_sent - at.find((/** @type {any} */ before) => before.rid === layer.rid).frames_sent;
      return rids.includes(layer.rid) ? more > 5 : more <= 1;
    });
  });
}
