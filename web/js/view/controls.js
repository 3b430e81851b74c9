// The bar of buttons below the class.

import { DeviceError, screenAvailable } from "../devices.js";
import { onLanguage, t } from "../i18n.js";
import { el, mark, say, setAttribute } from "./dom.js";
import { icon, setIcon } from "./icons.js";
import { leaveDialog } from "./leave.js";
import { announce } from "./parts.js";

/** @import { Key } from "../i18n.js" */
/** @import { Room } from "../room.js" */
/** @import { Panels } from "./panels.js" */

/**
 * @param {Room} room
 * @param {Panels} panels
 * @returns {HTMLElement}
 */
export function controls(room, panels) {
  const microphone = deviceButton(room, "microphone");
  const camera = deviceButton(room, "camera");
  const screen = screenButton(room);
  const right = el("p", { class: "controls-note", testid: "no-right", t: "no_right_to_publish" });
  const drawRight = () => {
    right.hidden = room.info?.you.rights.may_publish ?? true;
  };
  room.on("users", drawRight);
  drawRight();
  const leave = el(
    "button",
    { class: "control control-leave", testid: "leave", attrs: { type: "button" }, on: { click: () => leaveDialog(room) } },
    icon("leave"),
    el("span", { class: "control-text", t: "leave" }),
  );
  return el(
    "footer",
    { class: "controls" },
    right,
    el("div", { class: "controls-row", attrs: { role: "group" } }, microphone, camera, screen, panelButton(room, panels, "chat"), panelButton(room, panels, "people"), leave),
  );
}

/**
 * @param {Room} room
 * @param {"camera" | "microphone"} source
 * @returns {HTMLButtonElement}
 */
function deviceButton(room, source) {
  const text = el("span", { class: "control-text" });
  const element = el("button", { class: "control", testid: source, attrs: { type: "button" } }, text);
  element.addEventListener("click", () => {
    if (room.local.isOn(source)) void room.local.stop(source);
    else room.local.start(source).catch((error) => announceTrouble(error, source));
  });
  const draw = () => {
    const on = room.local.isOn(source);
    const allowed = room.info?.you.rights.may_publish ?? false;
    setAttribute(element, "aria-pressed", String(on));
    setAttribute(element, "aria-busy", String(room.local.busy.has(source)));
    element.disabled = !allowed || room.local.busy.has(source);
    setIcon(element, on ? source : `${source}_off`);
    say(text, on ? `${source}_on` : `${source}_off`);
    mark(element, "aria-label", on ? `turn_${source}_off` : `turn_${source}_on`);
    mark(element, "title", allowed ? (on ? `turn_${source}_off` : `turn_${source}_on`) : "no_right_to_publish");
  };
  room.on("local", draw);
  room.on("users", draw);
  draw();
  return element;
}

/**
 * @param {Room} room
 * @returns {HTMLButtonElement}
 */
function screenButton(room) {
  const text = el("span", { class: "control-text" });
  const element = el("button", { class: "control", testid: "screen", attrs: { type: "button" } }, icon("screen"), text);
  element.addEventListener("click", () => {
    if (room.local.isOn("screen")) {
      void room.local.stop("screen");
      return;
    }
    room.local.start("screen").catch((error) => {
      // Refusing here is closing the browser's chooser: nothing to explain.
      if (!(error instanceof DeviceError) || error.trouble !== "refused") announceTrouble(error, "screen");
    });
  });
  const draw = () => {
    const on = room.local.isOn("screen");
    const allowed = room.info?.you.rights.may_share_screen ?? false;
    setAttribute(element, "aria-pressed", String(on));
    element.disabled = !allowed || room.local.busy.has("screen");
    element.hidden = !screenAvailable();
    say(text, on ? "stop_sharing" : "screen");
    mark(element, "aria-label", on ? "stop_sharing" : "share_screen");
    mark(element, "title", allowed ? (on ? "stop_sharing" : "share_screen") : "no_right_to_share");
  };
  room.on("local", draw);
  room.on("users", draw);
  draw();
  return element;
}

/**
 * @param {Room} room
 * @param {Panels} panels
 * @param {"chat" | "people"} name
 * @returns {HTMLButtonElement}
 */
function panelButton(room, panels, name) {
  const text = el("span", { class: "control-text", t: name });
  const count = el("span", { class: "count", testid: name === "chat" ? "unread" : "people-count" });
  const element = el(
    "button",
    { class: "control", testid: `${name}-button`, attrs: { type: "button", "aria-controls": `panel-${name}` }, on: { click: () => panels.toggle(name) } },
    icon(name),
    text,
    count,
  );
  const draw = () => {
    const number = name === "chat" ? room.chat.unread : room.users.size + 1;
    count.textContent = String(number);
    count.hidden = number === 0;
    setAttribute(element, "aria-expanded", String(panels.shown === name));
    if (name === "chat" && number > 0) mark(element, "aria-label", "chat_unread", { count: number });
    else mark(element, "aria-label", name);
  };
  room.on("chat", draw);
  room.on("users", draw);
  panels.onToggle(draw);
  onLanguage(draw);
  draw();
  return element;
}

/**
 * @param {unknown} error
 * @param {"camera" | "microphone" | "screen"} source
 */
function announceTrouble(error, source) {
  /** @type {Key} */
  const key = `trouble_${error instanceof DeviceError ? error.trouble : "failed"}`;
  announce(key, { device: t(`device_${source}`) });
}
