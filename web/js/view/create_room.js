// Making a room, and handing its links to the one who made it.

import { classAddress } from "../addresses.js";
import { errorSentence } from "../i18n.js";
import { recall, remember } from "../memory.js";
import { ApiError, api } from "../protocol.js";
import { el } from "./dom.js";
import { button, checkbox, copyField, dialog, field, notice } from "./parts.js";

/** @import { CreatedRoom } from "../protocol/http.js" */
/** @import { RoomKind } from "../protocol/messages.js" */

/** @param {{name?: string, number?: string}} known */
export function createRoomDialog(known) {
  const title = el("input", { testid: "create-title", placeholder: "room_title_example", attrs: { type: "text", maxlength: 64, required: true, autocomplete: "off" } });
  const name = el("input", {
    testid: "create-name",
    attrs: { type: "text", maxlength: 32, required: true, autocomplete: "nickname", value: known.name || recall("name") || "" },
  });
  const number = el("input", {
    testid: "create-number",
    attrs: { type: "text", maxlength: 32, pattern: "[a-z0-9\\-]{1,32}", autocapitalize: "none", autocomplete: "off", spellcheck: "false", value: known.number ?? "" },
  });
  const listed = checkbox({ id: "create-listed", t: "listed", help: "listed_help", checked: true, testid: "create-listed" });
  const kinds = kindChoice();
  const answer = el("div", { class: "answer" });
  const submit = button({ t: "create", look: "primary", type: "submit", testid: "create-submit" });
  const form = el(
    "form",
    { class: "stack" },
    field({ id: "create-title", t: "room_title", input: title }),
    kinds.element,
    el(
      "div",
      { class: "two" },
      field({ id: "create-name", t: "nickname", input: name }),
      field({ id: "create-number", t: "room_number_optional", help: "room_number_help", input: number }),
    ),
    listed.element,
    answer,
    el("div", { class: "dialog-actions" }, button({ t: "cancel", look: "quiet", click: () => box.close() }), submit),
  );
  const box = dialog({ t: "create_room", testid: "create-dialog" }, form);
  title.focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.replaceChildren();
    submit.disabled = true;
    remember("name", name.value.trim());
    const chosen = number.value.trim();
    try {
      const created = await api.createRoom({
        title: title.value.trim(),
        name: name.value.trim(),
        kind: kinds.chosen(),
        listed: listed.input.checked,
        ...(chosen === "" ? {} : { number: chosen }),
      });
      box.close();
      roomReadyDialog(created);
    } catch (error) {
      const code = error instanceof ApiError ? error.code : "internal";
      answer.append(notice({ look: "error", role: "alert", testid: "create-error" }, errorSentence(code)));
    } finally {
      submit.disabled = false;
    }
  });
}

/** @returns {{element: HTMLElement, chosen: () => RoomKind}} */
function kindChoice() {
  /** @type {RoomKind[]} */
  const kinds = ["meeting", "seminar"];
  const inputs = kinds.map((kind, index) => {
    const input = el("input", { testid: `create-kind-${kind}`, attrs: { type: "radio", name: "kind", value: kind, id: `kind-${kind}` } });
    input.checked = index === 0;
    return input;
  });
  const element = el(
    "fieldset",
    { class: "choices" },
    el("legend", { t: "room_kind" }),
    ...kinds.map((kind, index) =>
      el(
        "label",
        { class: "choice" },
        inputs[index],
        el("span", { class: "choice-name", t: kind }),
        el("span", { class: "help", t: kind === "meeting" ? "meeting_help" : "seminar_help" }),
      ),
    ),
  );
  return { element, chosen: () => kinds[inputs.findIndex((input) => input.checked)] ?? "meeting" };
}

/** @param {CreatedRoom} created */
function roomReadyDialog(created) {
  const address = classAddress(created.room.number);
  const hostAddress = `${location.origin}${address}#host=${created.host_token}`;
  dialog(
    { t: "room_ready", testid: "room-ready" },
    el(
      "div",
      { class: "stack" },
      el("p", { t: "room_ready_lead" }),
      el("p", { class: "big-number", testid: "created-number", text: created.room.number }),
      copyField({ id: "class-link", t: "class_link", text: `${location.origin}${address}`, testid: "class-link" }),
      copyField({ id: "host-link", t: "host_link", help: "host_link_help", text: hostAddress, testid: "host-link" }),
      el(
        "div",
        { class: "dialog-actions" },
        el("a", { class: "button button-primary", t: "enter_class", testid: "enter-created", attrs: { href: address } }),
      ),
    ),
  );
}
