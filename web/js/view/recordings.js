// The recordings of a room by lesson and name: their state, playing, fetching; fresh while something is being finished.

import { classAddress } from "../addresses.js";
import { errorSentence, formatTime, currentLanguage, onLanguage } from "../i18n.js";
import { ApiError, api } from "../protocol.js";
import { el, mark, say } from "./dom.js";
import { endingScreen } from "./ending.js";
import { icon } from "./icons.js";
import { dialog, header, notice } from "./parts.js";

/** @import { LessonInfo, RecordingInfo, Recordings } from "../protocol/http.js" */
/** @import { IconName } from "./icons.js" */

/** How often the list is fetched while files are being finished, and otherwise, in milliseconds. */
const FAST_REFRESH_MS = 700;
const SLOW_REFRESH_MS = 5_000;

/** What can be fetched, and the shape and look of each state. */
const STATES = {
  recording: { icon: "recording", look: "recording", ready: false },
  finishing: { icon: "clock", look: "waiting", ready: false },
  finished: { icon: "check", look: "open", ready: true },
  recovered: { icon: "warning", look: "warning", ready: true },
  truncated: { icon: "warning", look: "warning", ready: true },
};

/**
 * @param {HTMLElement} root
 * @param {string} number
 */
export function recordingsPage(root, number) {
  const title = el("h1", { t: "recordings_title", testid: "recordings-title" });
  const body = el("div", { class: "lessons", testid: "lessons", attrs: { "aria-live": "polite" } }, el("p", { class: "quiet", t: "recordings_loading" }));
  root.append(
    header(el("a", { class: "button button-quiet", t: "to_class", testid: "to-class", attrs: { href: classAddress(number) } })),
    el("main", { class: "recordings", attrs: { id: "main" } }, title, body),
  );
  /** @type {Recordings | null} */
  let recordings = null;
  let shown = "";
  const draw = () => {
    if (!recordings) return;
    say(title, "recordings_of", { title: recordings.room.title });
    body.replaceChildren(...lessonsOf(recordings));
  };
  const refresh = async () => {
    try {
      recordings = await api.recordings(number);
      const text = JSON.stringify(recordings);
      if (text !== shown) draw();
      shown = text;
    } catch (error) {
      const code = error instanceof ApiError ? error.code : "internal";
      if (code === "unauthorized" || code === "not_found" || code === "unknown_room" || code === "forbidden") {
        root.replaceChildren(header(), endingScreen({ t: "recordings_title", lead: "recordings_unauthorized", testid: "recordings-refused" }));
        return;
      }
      if (!recordings) body.replaceChildren(notice({ look: "error", role: "alert" }, errorSentence(code)));
      shown = "";
    }
    const busy = recordings?.lessons.some((lesson) => lesson.recordings.some((each) => each.state === "recording" || each.state === "finishing"));
    setTimeout(() => void refresh(), busy ? FAST_REFRESH_MS : SLOW_REFRESH_MS);
  };
  void refresh();
  onLanguage(draw);
}

/**
 * @param {Recordings} recordings
 * @returns {HTMLElement[]}
 */
function lessonsOf({ lessons }) {
  if (lessons.length === 0) {
    return [
      el(
        "div",
        { class: "panel empty", testid: "no-recordings" },
        icon("roof"),
        el("p", { t: "recordings_none" }),
        el("p", { class: "quiet", t: "recordings_none_help" }),
      ),
    ];
  }
  return [...lessons].sort((a, b) => b.folder.localeCompare(a.folder)).map(lessonPanel);
}

/**
 * @param {LessonInfo} lesson
 * @returns {HTMLElement}
 */
function lessonPanel(lesson) {
  const date = formatTime(lesson.started_at, { dateStyle: "long", timeStyle: "short" });
  const rows = [...lesson.recordings].sort((a, b) => a.name.localeCompare(b.name, currentLanguage()) || a.kind.localeCompare(b.kind));
  return el(
    "section",
    { class: "panel", testid: "lesson", attrs: { "data-lesson": lesson.folder } },
    el("h2", { t: "lesson_of", vars: { date } }),
    lesson.ended_at === null ? notice({}, el("p", { t: "lesson_going_on" })) : null,
    rows.length === 0
      ? el("p", { class: "quiet", t: "recordings_none_help" })
      : el(
          "table",
          { class: "table" },
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              el("th", { t: "column_name", attrs: { scope: "col" } }),
              el("th", { t: "column_kind", attrs: { scope: "col" } }),
              el("th", { t: "column_length", attrs: { scope: "col" } }),
              el("th", { t: "column_size", attrs: { scope: "col" } }),
              el("th", { t: "column_state", attrs: { scope: "col" } }),
              el("th", { attrs: { scope: "col" } }, el("span", { class: "hidden-text", t: "column_actions" })),
            ),
          ),
          el("tbody", {}, ...rows.map(recordingRow)),
        ),
  );
}

/**
 * @param {RecordingInfo} recording
 * @returns {HTMLElement}
 */
function recordingRow(recording) {
  const state = STATES[recording.state] ?? { icon: "info", look: "waiting", ready: false };
  return el(
    "tr",
    { testid: "recording", attrs: { "data-name": recording.name, "data-state": recording.state, "data-kind": recording.kind } },
    el("th", { text: recording.name, testid: "recording-name", attrs: { scope: "row" } }),
    el("td", { t: recording.kind === "screen" ? "kind_screen" : "kind_camera" }),
    el("td", { class: "number", text: lengthOf(recording.duration_ms) }),
    el("td", { class: "number", text: sizeOf(recording.size_bytes) }),
    el("td", {}, stateBadge(recording, state)),
    el("td", { class: "actions" }, ...(state.ready ? actions(recording) : [])),
  );
}

/**
 * @param {RecordingInfo} recording
 * @param {{icon: string, look: string}} state
 * @returns {HTMLElement}
 */
function stateBadge(recording, state) {
  const badge = el("span", { class: `badge badge-${state.look}` }, icon(/** @type {IconName} */ (state.icon)));
  const known = recording.state in STATES;
  badge.append(known ? el("span", { t: `state_${recording.state}` }) : el("span", { text: recording.state }));
  if (recording.state === "recovered" || recording.state === "truncated") mark(badge, "title", `state_${recording.state}_help`);
  return badge;
}

/**
 * @param {RecordingInfo} recording
 * @returns {HTMLElement[]}
 */
function actions(recording) {
  const vars = { name: recording.name };
  return [
    el(
      "button",
      { class: "button button-plain", label: "play_name", vars, testid: "play", attrs: { type: "button" }, on: { click: () => playDialog(recording) } },
      icon("play"),
      el("span", { t: "play" }),
    ),
    el(
      "a",
      { class: "button button-plain", label: "download_name", vars, testid: "download", attrs: { href: recording.href, download: true } },
      icon("download"),
      el("span", { t: "download" }),
    ),
  ];
}

/** @param {RecordingInfo} recording */
function playDialog(recording) {
  const source = new URL(recording.href, location.href);
  source.searchParams.set("inline", "1");
  const video = el("video", { class: "player", testid: "player", attrs: { controls: true, autoplay: true, playsinline: true, src: source.href } });
  const trouble = el("div", { class: "answer" });
  video.addEventListener("error", () => {
    trouble.replaceChildren(notice({ look: "error", role: "alert", testid: "player-error" }, errorSentence("unavailable")));
  });
  const box = dialog({ t: "play_name", vars: { name: recording.name }, testid: "player-dialog", wide: true }, video, trouble);
  box.addEventListener("close", () => {
    video.pause();
    video.removeAttribute("src");
    video.load();
  });
}

/**
 * @param {number | null} ms
 * @returns {string} hours only when there are any
 */
function lengthOf(ms) {
  if (ms === null || ms === undefined) return "–";
  const seconds = Math.round(ms / 1000);
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, "0"));
  const hours = Math.floor(seconds / 3600);
  return (hours > 0 ? [String(hours), ...parts] : parts).join(":");
}

/**
 * @param {number | null} bytes
 * @returns {string}
 */
function sizeOf(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const megabytes = bytes / 1_000_000;
  return `${new Intl.NumberFormat(currentLanguage(), { maximumFractionDigits: megabytes < 10 ? 1 : 0 }).format(megabytes)} MB`;
}
