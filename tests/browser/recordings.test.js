// What a teacher gets after class, in a real browser.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { Person, until } from "./person.js";
import { browser, people, server, setStage } from "./stage.js";

const LIMIT = { timeout: 120_000 };
/** From closing the room until the files are there. */
const READY_WITHIN_MS = 5_000;
/** Long enough to seek in, short enough for a test. */
const LESSON_S = 6;

setStage({ "capture-period-s": "2" });

test("a teacher closes the room, then watches and downloads everybody who agreed, and nobody else", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  people.push(await enters(room, "선생님", true));
  people.push(await enters({ number: room.number }, "민수", true));
  people.push(await enters({ number: room.number }, "declines", false));
  const [teacher, student, other] = people;
  for (const person of [teacher, student]) {
    assert.equal(await person.part("sign-recording").getAttribute("data-state"), "you");
  }
  assert.equal(await other.part("sign-recording").getAttribute("data-state"), "room");
  await teacher.sees(other);
  const since = Date.now();
  await until("some seconds of lesson", async () => Date.now() - since > LESSON_S * 1_000);

  await teacher.part("leave").click();
  await teacher.part("end-lesson").click();
  await teacher.part("end-keep").click();
  const closed = Date.now();
  const ready = teacher.page.locator('[data-testid="recording"][data-state="finished"]');
  await until("two finished files", async () => (await ready.count()) === 2);
  assert.ok(Date.now() - closed <= READY_WITHIN_MS, `ready after ${Date.now() - closed} ms`);
  const names = await ready.evaluateAll((rows) => rows.map((row) => row.getAttribute("data-name")));
  assert.deepEqual(names.sort(), ["민수", "선생님"].sort());

  const row = teacher.page.locator('[data-testid="recording"][data-name="민수"]');
  await row.locator('[data-testid="play"]').click();
  const player = teacher.page.locator('[data-testid="player"]');
  await until("a picture that moves", () =>
    player.evaluate((/** @type {HTMLVideoElement} */ video) => video.videoWidth > 0 && video.currentTime > 0.5 || undefined),
  );
  const seconds = await player.evaluate((/** @type {HTMLVideoElement} */ video) => video.duration);
  assert.ok(Number.isFinite(seconds) && seconds >= LESSON_S - 1, `a length of ${seconds} s`);
  await player.evaluate((/** @type {HTMLVideoElement} */ video) => {
    video.currentTime = 4;
  });
  await until("it plays on from there", () =>
    player.evaluate((/** @type {HTMLVideoElement} */ video) => (!video.seeking && video.currentTime > 4.2) || undefined),
  );
  await teacher.page.keyboard.press("Escape");

  const [download] = await Promise.all([
    teacher.page.waitForEvent("download"),
    row.locator('[data-testid="download"]').click(),
  ]);
  assert.match(download.suggestedFilename(), /민수.*\.webm$/u);
  const packets = execFileSync("ffprobe", [
    "-v", "error", "-count_packets", "-show_entries", "stream=codec_name,nb_read_packets", "-of", "csv=p=0", await download.path(),
  ]).toString();
  assert.match(packets, /vp8,\d{2,}/);
  assert.match(packets, /opus,\d{3,}/);

  // A browser's first sound and picture are in the file, too.
  const files = await lessonFiles(room.number);
  assert.equal(files.length, 2);
  for (const file of files) {
    assert.deepEqual([file.dropped_audio_packets, file.dropped_video_frames], [0, 0], file.name);
  }

  // What was not agreed to is nowhere: not the name, in no file below the two folders.
  for (const folder of ["recordings", "captures"]) {
    for (const entry of await readdir(join(server.folder, "data", folder), { recursive: true, withFileTypes: true })) {
      assert.ok(!entry.name.includes("declines"), entry.name);
      if (!entry.isFile()) continue;
      const bytes = await readFile(join(entry.parentPath ?? entry.path, entry.name));
      assert.ok(!bytes.includes("declines"), entry.name);
    }
  }
});

test("recordings that are not kept are seen by nobody", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  people.push(await enters(room, "teacher", true));
  const [teacher] = people;
  await until("it is being recorded", async () =>
    (await readdir(join(server.folder, "data", "recordings", room.number), { recursive: true }).catch(() => [])).some((name) =>
      name.endsWith(".webm.part"),
    ) || undefined,
  );
  await teacher.part("leave").click();
  await teacher.part("end-lesson").click();
  await teacher.part("end-discard").click();
  await teacher.part("lesson-ended").waitFor();
  await until("the room's folder is empty", async () => {
    const left = await readdir(join(server.folder, "data", "recordings", room.number)).catch(() => []);
    return left.length === 0 || undefined;
  });
  await teacher.page.goto(`${server.url}/recordings/${room.number}`);
  await teacher.part("no-recordings").waitFor();
});

/**
 * @param {string} number of a room that had one lesson
 * @returns {Promise<any[]>} what `lesson.json` says of each recording
 */
async function lessonFiles(number) {
  const folder = join(server.folder, "data", "recordings", number);
  const [lesson] = await readdir(folder);
  return JSON.parse(await readFile(join(folder, lesson, "lesson.json"), "utf8")).files;
}

/**
 * @param {{number: string, hostToken?: string}} room
 * @param {string} name
 * @param {boolean} agrees to both questions
 */
async function enters(room, name, agrees) {
  const person = await Person.arrive(browser, server, room, name);
  await person.setDevices(true);
  if (agrees) {
    await person.part("consent-recording").check();
    await person.part("consent-captures").check();
  }
  await person.enter();
  return person;
}
