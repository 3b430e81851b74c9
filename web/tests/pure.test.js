// The pure parts, with hand-set values. Run by `node --test web/tests/`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { en } from "../js/i18n/en.js";
import { ko } from "../js/i18n/ko.js";
import { delayMs, politeDelayMs } from "../js/protocol/backoff.js";
import { withOpusNack, withoutTcp } from "../js/protocol/sdp.js";
import { ChatLog } from "../js/room/chat_log.js";
import { layOut } from "../js/room/layout.js";
import { judge } from "../js/room/quality.js";
import { planView } from "../js/room/view_plan.js";

const MIDS = { page: ["4", "5", "6", "7", "8", "9"], spotlight: "10", screens: ["11", "12"], audio: [] };
const SIZES = { page: size(320, 240), spotlight: size(960, 720), screen: size(1280, 720) };

test("waits double up to a ceiling and never fall below half of it", () => {
  assert.equal(delayMs(0, 0), 200);
  assert.equal(delayMs(0, 1), 400);
  assert.equal(delayMs(3, 1), 3_200);
  assert.equal(delayMs(40, 0), 4_000);
  assert.equal(delayMs(40, 1), 8_000);
});

test("a class that was told when to come back does not come back at one instant", () => {
  assert.equal(politeDelayMs(2_000, 0), 2_000);
  assert.equal(politeDelayMs(2_000, 1), 3_000);
});

test("every opus line asks for nack exactly once and video stays as it is", () => {
  const sdp = [
    "v=0", "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=rtpmap:111 opus/48000/2", "a=rtcp-fb:111 transport-cc",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=rtpmap:111 opus/48000/2", "",
  ].join("\r\n");
  const once = withOpusNack(sdp);
  assert.equal(once.match(/a=rtcp-fb:111 nack\r\n/g)?.length, 2);
  assert.equal(once.match(/a=rtcp-fb:96 nack\r\n/g)?.length, 1);
  assert.equal(withOpusNack(once), once);
  assert.equal(once.replaceAll("a=rtcp-fb:111 nack\r\n", ""), sdp);
});

test("candidates over tcp are taken out of an answer, and known once each", () => {
  const udp = "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host";
  const tcp = "candidate:2 1 tcp 1520435199 192.0.2.1 8189 typ host tcptype passive";
  const line = ["m=audio 9 UDP/TLS/RTP/SAVPF 111", udp, `a=${tcp}`, "a=end-of-candidates", ""].join("\r\n");
  const { sdp, overTcp } = withoutTcp(`v=0\r\n${line}${line}`);
  assert.deepEqual(overTcp, [tcp]);
  assert.equal(sdp.split(udp).length, 3);
  assert.doesNotMatch(sdp, / tcp |end-of-candidates/);
  const without = `v=0\r\n${udp}\r\na=end-of-candidates\r\n`;
  assert.deepEqual(withoutTcp(without), { sdp: without, overTcp: [] });
});

test("an audio line without opus is left alone", () => {
  const sdp = "v=0\r\nm=audio 9 X 0\r\na=rtpmap:0 PCMU/8000\r\n";
  assert.equal(withOpusNack(sdp), sdp);
});

test("six tiles make a page, oneself first and hosts before students", () => {
  const others = [..."abcdefg"].map((id) => user(id));
  others[4].role = "host";
  const first = layOut({ me: user("me"), others, kind: "meeting", page: 0, pinned: null });
  assert.deepEqual(ids(first.tiles), ["me", "e", "a", "b", "c", "d"]);
  assert.equal(first.pages, 2);
  const second = layOut({ me: user("me"), others, kind: "meeting", page: 7, pinned: null });
  assert.equal(second.page, 1);
  assert.deepEqual(ids(second.tiles), ["f", "g"]);
  assert.deepEqual(ids(second.beyond), ["me", "e", "a", "b", "c", "d"]);
});

test("in a seminar those without the right are names, and a single presenter is large", () => {
  const teacher = { ...user("t", ["camera"]), role: /** @type {const} */ ("host") };
  const listening = [user("a", [], false), user("b", [], false)];
  const layout = layOut({ me: user("me", [], false), others: [...listening, teacher], kind: "seminar", page: 0, pinned: null });
  assert.equal(layout.spotlight?.participant, "t");
  assert.deepEqual(ids(layout.tiles), []);
  assert.deepEqual(ids(layout.audience), ["me", "a", "b"]);
});

test("a shared screen takes the stage and the pinned one returns to the tiles", () => {
  const others = [user("a", ["camera", "screen"]), user("b", ["camera"])];
  const layout = layOut({ me: user("me"), others, kind: "meeting", page: 0, pinned: "b" });
  assert.deepEqual(ids(layout.screens), ["a"]);
  assert.equal(layout.spotlight, null);
  assert.deepEqual(ids(layout.tiles), ["me", "a", "b"]);
});

test("whoever stays in view keeps the slot when somebody before them leaves", () => {
  const [a, b, c] = ["a", "b", "c"].map((id) => user(id, ["camera"]));
  const before = plan([a, b, c], []);
  assert.deepEqual(before.map((slot) => [slot.participant, slot.mid]), [["a", "4"], ["b", "5"], ["c", "6"]]);
  const after = plan([b, c, user("d", ["camera"])], before);
  assert.deepEqual(after.map((slot) => [slot.participant, slot.mid]), [["b", "5"], ["c", "6"], ["d", "4"]]);
});

test("nobody without a camera and never oneself is asked for", () => {
  const view = plan([user("a"), user("b", ["microphone"])], []);
  assert.deepEqual(view, []);
});

test("screens go to the screen slots with whole sizes", () => {
  const layout = layOut({ me: user("me", ["camera"]), others: [user("a", ["screen"])], kind: "meeting", page: 0, pinned: null });
  assert.deepEqual(planView(layout, "me", MIDS, { ...SIZES, screen: size(900.2, 70_000) }, []), [
    { mid: "11", participant: "a", source: "screen", width: 912, height: 8192 },
  ]);
});

test("chat stands in the server's order without repetition after history and live lines crossed", () => {
  const chat = new ChatLog();
  chat.add(line(3), false);
  chat.addHistory([line(1), line(2), line(3)]);
  chat.add(line(2), false);
  assert.deepEqual(chat.lines().map((each) => each.id), [1, 2, 3]);
  assert.equal(chat.unread, 1);
});

test("an own line waits until its echo and never counts as unread", () => {
  const chat = new ChatLog();
  chat.wait("n", "hello");
  chat.fail("n");
  assert.equal(chat.pending.get("n")?.failed, true);
  chat.add({ ...line(1), nonce: "n" }, true);
  assert.equal(chat.pending.size, 0);
  assert.equal(chat.unread, 0);
});

test("loss and a long way are told in three words", () => {
  const calm = stats(1_000, 0, 20);
  assert.equal(judge(null, calm), "good");
  assert.equal(judge(calm, stats(2_000, 60, 20)), "fair");
  assert.equal(judge(calm, stats(1_500, 200, 20)), "poor");
  assert.equal(judge(calm, stats(1_010, 9, 20)), "good");
  assert.equal(judge(null, stats(0, 0, 300)), "fair");
  assert.equal(judge(null, { ...calm, state: "disconnected" }), "poor");
  assert.equal(judge(null, { ...calm, state: "connecting" }), "unknown");
});

test("both languages say the same things with the same gaps", () => {
  assert.deepEqual(Object.keys(ko).sort(), Object.keys(en).sort());
  const gaps = (/** @type {string} */ text) => [...new Set(text.match(/\{\w+\}/g))].sort();
  for (const [key, sentence] of Object.entries(en)) {
    assert.deepEqual(gaps(ko[/** @type {keyof typeof en} */ (key)]), gaps(sentence), key);
  }
});

function size(/** @type {number} */ width, /** @type {number} */ height) {
  return { width, height };
}

/**
 * @param {string} participant
 * @param {import("../js/protocol/messages.js").Source[]} [publications]
 * @param {boolean} [mayPublish]
 * @returns {import("../js/protocol/messages.js").UserInfo}
 */
function user(participant, publications = [], mayPublish = true) {
  const rights = { may_publish: mayPublish, may_share_screen: mayPublish };
  return { participant, name: participant, role: "student", rights, publications, states: { signaling: "connected" } };
}

/** @param {import("../js/protocol/messages.js").UserInfo[]} users */
function ids(users) {
  return users.map((each) => each.participant);
}

/**
 * @param {import("../js/protocol/messages.js").UserInfo[]} others
 * @param {import("../js/protocol/messages.js").ViewSlot[]} previous
 */
function plan(others, previous) {
  const layout = layOut({ me: user("me", ["camera"]), others, kind: "meeting", page: 0, pinned: null });
  return planView(layout, "me", MIDS, SIZES, previous);
}

function line(/** @type {number} */ id) {
  return { id, participant: "a", name: "a", text: String(id), sent_at: "2026-11-21T00:00:00Z" };
}

/**
 * @param {number} received
 * @param {number} lost
 * @param {number} roundTripMs
 * @returns {import("../js/protocol/stats.js").StatsSummary}
 */
function stats(received, lost, roundTripMs) {
  const slot = /** @type {import("../js/protocol/stats.js").SlotStats} */ ({ mid: "4", packets_received: received, packets_lost: lost });
  return { connection: 1, state: "connected", round_trip_ms: roundTripMs, sources: {}, slots: [slot] };
}
