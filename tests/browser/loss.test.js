// Repair with a real browser: what its line loses comes again, picture and sound, both ways.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { Person, until } from "./person.js";
import { LossyLine } from "./lossy_line.js";
import { browser, people, server, setStage } from "./stage.js";

/** @type {LossyLine | undefined} */
let line;

const LIMIT = { timeout: 120_000 };
const LOSS = { up: 0.1, down: 0.1 };
/** Of the twenty seconds; a picture of which a packet is lost three times over stands for half a second. */
const FROZEN_S = 2;
/** Sound comes in 50 packets a second: some twenty seconds of it. */
const SOUND_PACKETS = 1_000;

setStage();

afterEach(() => line?.close());

/**
 * The browser's own statistics of the lines that carry something.
 *
 * @param {Person} person
 * @returns {Promise<Record<string, any>>} by direction and kind
 */
async function measured(person) {
  const entries = await person.page.evaluate(async () =>
    [...(await /** @type {any} */ (window).peer.getStats()).values()].filter((entry) => /^(in|out)bound-rtp$/.test(entry.type)),
  );
  const busy = entries.filter((entry) => (entry.packetsReceived ?? entry.packetsSent) > 100);
  return Object.fromEntries(busy.map((entry) => [`${entry.type} ${entry.kind}`, entry]));
}

/**
 * @param {Person} person
 * @returns {Promise<any[]>} the encodings of its camera
 */
function encodings(person) {
  return person.page.evaluate(async () =>
    [...(await /** @type {any} */ (window).peer.getStats()).values()].filter((entry) => entry.type === "outbound-rtp" && entry.rid && entry.packetsSent > 100),
  );
}

test("a browser on a line that loses a tenth gives and gets what is missing again, sound too", LIMIT, async () => {
  const room = await server.createRoom("meeting");
  const teacher = await Person.join(browser, server, room, "teacher");
  const student = await Person.arrive(browser, server, { number: room.number }, "student");
  people.push(teacher, student);
  line = await LossyLine.under(student, LOSS);
  await student.setDevices(true);
  await student.enter();
  await student.seesAndHears(teacher);
  await teacher.seesAndHears(student);
  const far = await until(
    "twenty seconds of sound both ways",
    async () => {
      const stats = await measured(student);
      const ways = [stats["inbound-rtp audio"]?.packetsReceived, stats["outbound-rtp audio"]?.packetsSent];
      return ways.every((packets) => packets > SOUND_PACKETS) && stats;
    },
    60_000,
  );
  const near = (await teacher.stats()).slots.filter((/** @type {any} */ slot) => slot.packets_received > 100);
  assert.ok(line.lost.up > 100 && line.lost.down > 100, JSON.stringify(line.lost));

  for (const kind of ["audio", "video"]) {
    const sent = far[`outbound-rtp ${kind}`];
    const arrived = near.find((/** @type {any} */ slot) => slot.kind === kind);
    // Not of what was sent: Chromium probes its line with old packets in the guise of repair.
    // Of pictures it is one encoding or the other that arrives, and both are repaired.
    const repaired = kind === "video" ? await encodings(student) : [sent];
    const again = repaired.reduce((all, { retransmittedPacketsSent }) => all + retransmittedPacketsSent, 0);
    const share = again / arrived.packets_received;
    assert.ok(share > 0.05 && share < (kind === "video" ? 0.5 : 0.25), `${kind} is sent again, a tenth of it: ${JSON.stringify(sent)}`);
    assert.ok(arrived.packets_lost < arrived.packets_received * 0.01, `${kind} arrives whole: ${JSON.stringify(arrived)}`);
    assert.ok(far[`inbound-rtp ${kind}`].nackCount > 10, `${kind} is asked for: ${JSON.stringify(far[`inbound-rtp ${kind}`])}`);
  }
  // Chromium switches the large encoding off where much is lost; each that is on is repaired by a stream of its own.
  const layers = await encodings(student);
  assert.ok(layers.length > 0, "encodings of simulcast");
  for (const layer of layers) {
    const again = layer.rtxSsrc && layer.nackCount > 10 && layer.retransmittedPacketsSent > 20;
    assert.ok(again, `${layer.rid} is sent again: ${JSON.stringify(layer)}`);
  }
  const { "inbound-rtp video": picture, "inbound-rtp audio": sound } = far;
  assert.ok(picture.retransmittedPacketsReceived > 10 && picture.rtxSsrc, "pictures come again by RTX");
  // At eight pictures a second one that comes three pictures late counts as frozen (W3C webrtc-stats).
  assert.ok(picture.totalFreezesDuration < FROZEN_S, JSON.stringify(picture));
  assert.ok(sound.packetsLost < sound.packetsReceived * 0.03, `sound comes again: ${JSON.stringify(sound)}`);
});
