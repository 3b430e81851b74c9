// The chat: history, live lines, and the line one writes.

import { formatTime, onLanguage, t } from "../i18n.js";
import { MOST_CHAT_CHARACTERS } from "../room/chat_log.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { toneOf } from "./tile.js";

/** @import { Room } from "../room.js" */
/** @import { ChatLine } from "../protocol/messages.js" */

/** Somebody this near to the end, in pixels, reads along: keep the end in sight. */
const NEAR_THE_END = 80;

/**
 * @param {Room} room
 * @returns {{element: HTMLElement, focus: () => void}}
 */
export function chatPanel(room) {
  const list = el("ol", { class: "chat-lines", testid: "chat-lines" });
  const empty = el("p", { class: "quiet chat-empty", t: "chat_empty" });
  const scroller = el("div", { class: "chat-scroller", label: "chat", attrs: { tabindex: 0, role: "log", "aria-live": "polite" } }, empty, list);
  const input = el("textarea", {
    testid: "chat-input",
    label: "chat_input",
    placeholder: "chat_input",
    attrs: { rows: 1, maxlength: MOST_CHAT_CHARACTERS },
  });
  const send = el("button", { class: "icon-button chat-send", label: "chat_send", testid: "chat-send", attrs: { type: "submit" } }, icon("send"));
  const form = el("form", { class: "chat-form" }, input, send);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text === "") return;
    room.say(text);
    input.value = "";
  });
  input.addEventListener("keydown", (event) => {
    // While a Hangul syllable is being composed, Enter ends the syllable, not the line.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  /** @type {Map<number, HTMLElement>} */
  const rows = new Map();
  const draw = () => {
    const reading = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_THE_END;
    const lines = room.chat.lines();
    const children = lines.map((line) => {
      const row = rows.get(line.id) ?? chatRow(line, line.participant === room.info?.you.participant);
      rows.set(line.id, row);
      return row;
    });
    const waiting = [...room.chat.pending.values()].map((line) => pendingRow(room, line));
    for (const row of list.querySelectorAll(".chat-pending")) row.remove();
    children.forEach((row, index) => {
      if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
    });
    list.append(...waiting);
    empty.hidden = list.childElementCount > 0;
    if (reading) scroller.scrollTop = scroller.scrollHeight;
  };
  room.on("chat", draw);
  onLanguage(() => {
    rows.clear();
    list.replaceChildren();
    draw();
  });
  return { element: el("div", { class: "chat" }, scroller, form), focus: () => input.focus() };
}

/**
 * @param {ChatLine} line
 * @param {boolean} own
 * @returns {HTMLElement}
 */
function chatRow(line, own) {
  const time = el("time", {
    class: "quiet",
    text: formatTime(line.sent_at, { hour: "2-digit", minute: "2-digit" }),
    attrs: { datetime: line.sent_at },
  });
  return el(
    "li",
    { class: own ? "chat-line chat-own" : "chat-line", testid: "chat-line", attrs: { "data-id": line.id } },
    el("p", { class: "chat-author", attrs: { "data-tone": toneOf(line.participant) } }, el("span", { text: line.name, testid: "chat-author" }), time),
    el("p", { class: "chat-text", testid: "chat-text", text: line.text }),
  );
}

/**
 * @param {Room} room
 * @param {import("../room/chat_log.js").PendingLine} line
 * @returns {HTMLElement}
 */
function pendingRow(room, line) {
  return el(
    "li",
    { class: "chat-line chat-own chat-pending", testid: "chat-pending" },
    el("p", { class: "chat-text", text: line.text }),
    line.failed
      ? el(
          "p",
          { class: "chat-failed" },
          el("span", { text: `${t("chat_failed")} ` }),
          el("button", { class: "link", t: "try_again", attrs: { type: "button" }, on: { click: () => room.sayAgain(line.nonce) } }),
        )
      : el("p", { class: "quiet", t: "chat_pending" }),
  );
}
