// Before the class: who one is, how one is seen, and what may be kept.

import { USUAL_CAPTURE_PERIOD_S } from "../consent_text.js";
import { errorSentence } from "../i18n.js";
import { recall, remember } from "../memory.js";
import { consentForm } from "./consent_form.js";
import { el } from "./dom.js";
import { button, field, header, notice } from "./parts.js";
import { Preview } from "./preview.js";

/** @import { Consents, RoomSummary, Source } from "../protocol/messages.js" */

/** @typedef {{name: string, consents: Consents, tracks: Map<Source, MediaStreamTrack>}} Joining */

/**
 * @param {HTMLElement} root
 * @param {RoomSummary} room
 * @param {(joining: Joining) => void} enter called once
 */
export function joinPage(root, room, enter) {
  const preview = new Preview();
  const name = el("input", {
    testid: "name",
    attrs: { type: "text", maxlength: 32, required: true, autocomplete: "nickname", value: recall("name") ?? "" },
  });
  const consents = consentForm("consent", { recording: false, captures: false }, USUAL_CAPTURE_PERIOD_S);
  const answer = el("div", { class: "answer" });
  const form = el(
    "form",
    { class: "panel stack join-form", testid: "join-form" },
    el(
      "div",
      { class: "room-summary" },
      el("p", { class: "room-title", testid: "room-title", text: room.title }),
      el(
        "p",
        { class: "quiet" },
        el("span", { t: room.kind }),
        " · ",
        el("span", { text: room.number }),
        " · ",
        el("span", { t: "people_of", vars: { count: room.participants, capacity: room.capacity } }),
      ),
    ),
    room.kind === "seminar" ? notice({ testid: "seminar-note" }, el("p", { t: "seminar_note" })) : null,
    field({ id: "name", t: "your_name", help: "your_name_help", input: name }),
    el("h2", { class: "consent-title", t: "consent_title" }),
    consents.element,
    answer,
    button({ t: "join", look: "primary", type: "submit", testid: "join" }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const typed = name.value.trim();
    if (typed === "") {
      answer.replaceChildren(notice({ look: "error", role: "alert", testid: "join-error" }, errorSentence("bad_name")));
      return;
    }
    remember("name", typed);
    enter({ name: typed, consents: consents.answers(), tracks: preview.take() });
  });
  root.append(
    header(),
    el(
      "main",
      { class: "join", testid: "join-page", attrs: { id: "main" } },
      el("h1", { t: "join_title" }),
      el("div", { class: "join-columns" }, preview.element, form),
    ),
  );
  if (name.value === "") name.focus();
  void preview.open();
}
