// The class: bar, stage, panel, buttons, the state of the connection, and what happens in passing.

import { recordingsAddress } from "../addresses.js";
import { errorSentence } from "../i18n.js";
import { controls } from "./controls.js";
import { el, say, setAttribute } from "./dom.js";
import { endingScreen } from "./ending.js";
import { header, announce, announceText, button } from "./parts.js";
import { Panels } from "./panels.js";
import { Stage } from "./stage.js";
import { topBar } from "./top_bar.js";

/** @import { Key } from "../i18n.js" */
/** @import { Room } from "../room.js" */
/** @import { Rights } from "../protocol/messages.js" */

/** Connections that never came up in a row, after which a closed network is the likely reason. */
const BLOCKED_AFTER = 2;

/**
 * @param {HTMLElement} root
 * @param {Room} room
 */
export function classroom(root, room) {
  const panels = new Panels(room);
  const stage = new Stage(room);
  const banner = connectionBanner(room);
  const page = el(
    "div",
    { class: "classroom", testid: "class-page" },
    topBar(room),
    banner,
    el("div", { class: "class-middle" }, stage.element, panels.element),
    controls(room, panels),
  );
  const loading = loadingScreen();
  root.replaceChildren(loading);
  room.on("phase", () => {
    setAttribute(page, "data-phase", room.phase);
    if (room.phase === "in" && loading.isConnected) {
      root.replaceChildren(page);
      stage.draw();
    }
    if (room.phase === "refused" || room.phase === "ended" || room.phase === "left") showEnding(root, room);
  });
  tellWhatHappens(room);
  document.addEventListener("visibilitychange", () => room.setHidden(document.hidden));
  addEventListener("pagehide", () => room.pause());
  // A page brought back from the browser's cache has no socket any more; a reload finds the seat.
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}

/** @returns {HTMLElement} */
export function loadingScreen() {
  return el(
    "main",
    { class: "ending", testid: "loading", attrs: { id: "main" } },
    el(
      "div",
      { class: "loading", attrs: { role: "status" } },
      el("span", { class: "spinner", attrs: { "aria-hidden": "true" } }),
      el("p", { class: "lead", t: "connecting" }),
      el("p", { class: "quiet", t: "connecting_help" }),
    ),
  );
}

/**
 * @param {Room} room
 * @returns {HTMLElement}
 */
function connectionBanner(room) {
  const text = el("span");
  const element = el("div", { class: "banner", testid: "connection", attrs: { role: "status", "aria-live": "polite" } }, el("span", { class: "spinner", attrs: { "aria-hidden": "true" } }), text);
  let away = false;
  const draw = () => {
    const key = bannerSentence(room);
    setAttribute(element, "data-state", key ?? "fine");
    element.hidden = key === null;
    if (key) say(text, key);
    if (room.phase === "reconnecting") away = true;
    if (away && room.phase === "in" && room.media.state === "connected") {
      away = false;
      announce("back_again");
    }
  };
  room.on("phase", draw);
  room.on("media", draw);
  draw();
  return element;
}

/**
 * @param {Room} room
 * @returns {Key | null}
 */
function bannerSentence(room) {
  if (room.serverRestarts) return "server_restarting";
  if (room.phase === "reconnecting") return "reconnecting";
  if (room.media.state === "connected") return null;
  if (room.media.failures >= BLOCKED_AFTER) return "media_blocked";
  return room.media.state === "lost" ? "media_lost" : "media_connecting";
}

/** @param {Room} room */
function tellWhatHappens(room) {
  room.on("came", (user) => announce("came", { name: user.name }));
  room.on("went", (user) => announce("went", { name: user.name }));
  room.on("vanished", (source) => {
    if (source !== "screen_audio") announce(/** @type {Key} */ (`vanished_${source}`));
  });
  room.on("rights", (/** @type {Rights} */ before) => {
    const now = room.info?.you.rights;
    if (!now) return;
    if (now.may_publish !== before.may_publish) announce(now.may_publish ? "rights_given" : "rights_taken");
    else announce(now.may_share_screen ? "share_given" : "share_taken");
  });
  room.on("error", (error) =>
    announceText((element) => {
      element.textContent = errorSentence(error.code);
      element.dataset.code = error.code;
    }),
  );
}

/**
 * @param {HTMLElement} root
 * @param {Room} room
 */
function showEnding(root, room) {
  for (const open of document.querySelectorAll("dialog")) open.close();
  const again = (/** @type {Key} */ key) => button({ t: key, look: "primary", testid: "come-back", click: () => location.reload() });
  const recordings = room.isHost
    ? el("a", { class: "button button-primary", t: "to_recordings", testid: "to-recordings", attrs: { href: recordingsAddress(room.number) } })
    : null;
  root.replaceChildren(header(), endingOf(room, again, recordings));
}

/**
 * @param {Room} room
 * @param {(key: Key) => HTMLElement} again
 * @param {HTMLElement | null} recordings
 * @returns {HTMLElement}
 */
function endingOf(room, again, recordings) {
  if (room.phase === "left") return endingScreen({ t: "left_title", lead: "left_lead", testid: "left" }, again("come_back"));
  if (room.phase === "refused") {
    const code = room.refusal?.code ?? "internal";
    const screen = endingScreen({ t: "refused_title", text: errorSentence(code), testid: "refused" }, again("try_again"));
    screen.dataset.code = code;
    return screen;
  }
  switch (room.ending) {
    case "replaced":
      return endingScreen({ t: "replaced_title", lead: "replaced_lead", testid: "replaced" }, again("use_here"));
    case "misbehaved":
      return endingScreen({ t: "misbehaved_title", lead: "misbehaved_lead", testid: "misbehaved" }, again("come_back"));
    case "host_missing":
      return endingScreen({ t: "ended_title", lead: "ended_host_missing", testid: "lesson-ended" }, recordings);
    default:
      return endingScreen({ t: "ended_title", lead: "ended_lead", testid: "lesson-ended" }, recordings);
  }
}
