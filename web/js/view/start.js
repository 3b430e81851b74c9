// The start page: a name, the listed rooms, a number, a new room.

import { classAddress } from "../addresses.js";
import { errorSentence, onLanguage } from "../i18n.js";
import { recall, remember } from "../memory.js";
import { ApiError, api } from "../protocol.js";
import { createRoomDialog } from "./create_room.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { button, field, header, notice } from "./parts.js";

/** @import { RoomSummary } from "../protocol/messages.js" */

/** How often the list is fetched again, in milliseconds. */
const REFRESH_MS = 5_000;

/** @param {HTMLElement} root */
export function startPage(root) {
  const name = el("input", { testid: "name", attrs: { type: "text", maxlength: 32, autocomplete: "nickname", value: recall("name") ?? "" } });
  name.addEventListener("input", () => remember("name", name.value.trim()));
  const number = el("input", {
    testid: "room-number",
    attrs: { type: "text", maxlength: 32, autocapitalize: "none", autocomplete: "off", spellcheck: "false" },
  });
  const answer = el("div", { class: "answer", testid: "join-answer" });
  const list = el("div", { class: "rooms", testid: "rooms" }, el("p", { class: "quiet", t: "rooms_loading" }));
  const form = el(
    "form",
    { class: "panel entry", testid: "join-form" },
    field({ id: "name", t: "your_name", help: "your_name_help", input: name }),
    el(
      "div",
      { class: "with-button" },
      field({ id: "number", t: "join_by_number", help: "join_by_number_help", input: number }),
      button({ t: "enter_room", look: "primary", type: "submit", testid: "join-by-number" }),
    ),
    answer,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void enterByNumber(number.value, name.value, answer);
  });
  root.append(
    header(),
    el(
      "main",
      { class: "start", attrs: { id: "main" } },
      el(
        "section",
        { class: "start-entry" },
        el("h1", { t: "start_title" }),
        el("p", { class: "lead", t: "start_lead" }),
        form,
      ),
      el(
        "section",
        { class: "panel start-rooms", attrs: { "aria-labelledby": "rooms-title" } },
        el(
          "div",
          { class: "panel-head" },
          el("h2", { t: "rooms", attrs: { id: "rooms-title" } }),
          button({ t: "create_room", icon: "plus", testid: "create-room", click: () => createRoomDialog({ name: name.value }) }),
        ),
        list,
      ),
    ),
  );
  if (name.value === "") name.focus();
  else number.focus();
  keepListFresh(list);
}

/**
 * @param {string} typed
 * @param {string} name
 * @param {HTMLElement} answer
 */
async function enterByNumber(typed, name, answer) {
  const number = typed.trim().toLowerCase();
  answer.replaceChildren();
  if (number === "") return;
  if (!/^[a-z0-9-]{1,32}$/.test(number)) {
    answer.append(notice({ look: "error", role: "alert", testid: "join-error" }, errorSentence("bad_number")));
    return;
  }
  try {
    const room = await api.room(number);
    if (room.participants >= room.capacity) throw new ApiError("full", "", 409);
    location.href = classAddress(number);
  } catch (error) {
    const code = error instanceof ApiError ? error.code : "internal";
    if (code === "unknown_room" || code === "not_found") {
      answer.append(
        notice(
          { testid: "unknown-room" },
          el("p", { t: "unknown_number_offer", vars: { number } }),
          button({ t: "create_room", icon: "plus", testid: "create-this-room", click: () => createRoomDialog({ name, number }) }),
        ),
      );
    } else {
      answer.append(notice({ look: "error", role: "alert", testid: "join-error" }, errorSentence(code)));
    }
  }
}

/** @param {HTMLElement} list */
function keepListFresh(list) {
  /** @type {RoomSummary[] | null} */
  let rooms = null;
  let shown = "";
  const draw = () => list.replaceChildren(rooms ? roomList(rooms) : el("p", { class: "quiet", t: "rooms_failed" }));
  const refresh = async () => {
    if (document.hidden) return;
    rooms = await api.listRooms().catch(() => null);
    const text = JSON.stringify(rooms);
    if (text === shown) return;
    shown = text;
    draw();
  };
  void refresh();
  setInterval(() => void refresh(), REFRESH_MS);
  document.addEventListener("visibilitychange", () => void refresh());
  onLanguage(draw);
}

/**
 * @param {RoomSummary[]} rooms
 * @returns {HTMLElement}
 */
function roomList(rooms) {
  if (rooms.length === 0) {
    return el(
      "div",
      { class: "empty", testid: "no-rooms" },
      icon("roof"),
      el("p", { t: "rooms_none" }),
      el("p", { class: "quiet", t: "rooms_none_help" }),
    );
  }
  const openFirst = [...rooms].sort((a, b) => Number(b.open) - Number(a.open) || a.title.localeCompare(b.title));
  return el("ul", { class: "room-list" }, ...openFirst.map(roomRow));
}

/**
 * @param {RoomSummary} room
 * @returns {HTMLElement}
 */
function roomRow(room) {
  return el(
    "li",
    { testid: "room", attrs: { "data-number": room.number } },
    el(
      "a",
      { class: "room", label: "room_enter", vars: { title: room.title }, attrs: { href: classAddress(room.number) } },
      el(
        "span",
        { class: "room-text" },
        el("span", { class: "room-title", text: room.title }),
        el(
          "span",
          { class: "quiet" },
          el("span", { t: room.kind }),
          " · ",
          el("span", { text: room.number }),
        ),
      ),
      el(
        "span",
        { class: "room-state" },
        el("span", { class: room.open ? "badge badge-open" : "badge", t: room.open ? "room_open" : "room_closed" }),
        el("span", { class: "quiet", t: "people_of", vars: { count: room.participants, capacity: room.capacity } }),
      ),
      icon("next"),
    ),
  );
}
