// Above the class: where one is, whether one is recorded and captured, how good the connection is.

import { USUAL_CAPTURE_PERIOD_S } from "../consent_text.js";
import { onLanguage, t } from "../i18n.js";
import { consentForm } from "./consent_form.js";
import { el, mark, say, setAttribute } from "./dom.js";
import { bars, setIcon } from "./icons.js";
import { button, dialog, languageSwitch } from "./parts.js";

/** @import { Key } from "../i18n.js" */
/** @import { Room } from "../room.js" */

/**
 * @param {Room} room
 * @returns {HTMLElement}
 */
export function topBar(room) {
  const title = el("h1", { class: "class-title", testid: "room-title" });
  const number = el("p", { class: "quiet class-number", testid: "room-number" });
  const recording = sign("recording", room);
  const captures = sign("captures", room);
  const quality = el("p", { class: "quality", testid: "quality", attrs: { "data-quality": "unknown" } }, bars());
  const qualityText = el("span", { class: "hidden-text" });
  quality.append(qualityText);
  room.on("users", () => {
    title.textContent = room.info?.room.title ?? "";
    number.textContent = room.number;
    document.title = `${room.info?.room.title ?? ""} · ${t("brand")}`;
  });
  const drawQuality = () => {
    setAttribute(quality, "data-quality", room.monitor.quality);
    say(qualityText, `quality_${room.monitor.quality}`);
    mark(quality, "title", `quality_${room.monitor.quality}`);
  };
  room.on("quality", drawQuality);
  drawQuality();
  return el(
    "header",
    { class: "top-bar" },
    el("div", { class: "class-name" }, title, number),
    el("div", { class: "signs", attrs: { role: "status", "aria-live": "polite" } }, recording, captures),
    quality,
    languageSwitch(),
  );
}

/**
 * Says in words and by its shape what is kept of oneself and of the class; a press changes it.
 *
 * @param {"recording" | "captures"} purpose
 * @param {Room} room
 * @returns {HTMLElement}
 */
function sign(purpose, room) {
  const text = el("span", { class: "sign-text" });
  const element = el("button", { class: "sign", testid: `sign-${purpose}`, attrs: { type: "button" }, on: { click: () => consentDialog(room) } }, text);
  const draw = () => {
    const state = room.recording.you[purpose] ? "you" : room.recording.room[purpose] ? "room" : "none";
    const vars = { seconds: room.info?.capture_period_s ?? USUAL_CAPTURE_PERIOD_S };
    /** @type {Key} */
    const key = `sign_${purpose}_${state}`;
    setAttribute(element, "data-state", state);
    setIcon(element, state === "you" ? purpose : `${purpose}_off`);
    say(text, key, vars);
    mark(element, "aria-label", "sign_change", { state: t(key, vars) });
    mark(element, "title", "sign_change", { state: t(key, vars) });
  };
  room.on("consents", draw);
  room.on("users", draw);
  onLanguage(draw);
  draw();
  return element;
}

/** @param {Room} room */
function consentDialog(room) {
  const form = consentForm("consent-in-class", room.consents, room.info?.capture_period_s ?? USUAL_CAPTURE_PERIOD_S);
  const save = button({
    t: "consent_save",
    look: "primary",
    testid: "consent-save",
    click: () => {
      room.setConsents(form.answers());
      box.close();
    },
  });
  const box = dialog(
    { t: "consent_change", testid: "consent-dialog" },
    form.element,
    el("div", { class: "dialog-actions" }, button({ t: "cancel", look: "quiet", click: () => box.close() }), save),
  );
}
