// The panel beside the class: chat or people, or none.

import { el, setAttribute } from "./dom.js";
import { chatPanel } from "./chat.js";
import { peoplePanel } from "./people.js";
import { icon } from "./icons.js";

/** @import { Room } from "../room.js" */

/** @typedef {"chat" | "people"} PanelName */

/** On a screen at least this wide the chat stands open from the start, in CSS pixels. */
const ROOM_FOR_A_PANEL = 1_100;

export class Panels {
  /** @param {Room} room */
  constructor(room) {
    this.room = room;
    /** @type {PanelName | null} */
    this.shown = null;
    /** @type {(() => void)[]} */
    this.listeners = [];
    this.bodies = { chat: chatPanel(room), people: peoplePanel(room) };
    this.element = el("aside", { class: "side-panel" }, this.#frame("chat"), this.#frame("people"));
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#leave();
    });
    this.show(innerWidth >= ROOM_FOR_A_PANEL ? "chat" : null);
  }

  /** @param {PanelName} name */
  toggle(name) {
    this.show(this.shown === name ? null : name);
    if (this.shown) this.bodies[this.shown].focus();
  }

  /** @param {PanelName | null} name */
  show(name) {
    this.shown = name;
    for (const frame of this.element.children) {
      if (frame instanceof HTMLElement) frame.hidden = frame.id !== `panel-${name}`;
    }
    setAttribute(this.element, "data-shown", name ?? "none");
    this.room.readChat(name === "chat");
    for (const listener of this.listeners) listener();
  }

  /** @param {() => void} listener */
  onToggle(listener) {
    this.listeners.push(listener);
  }

  #leave() {
    const name = this.shown;
    this.show(null);
    const opener = document.querySelector(`[aria-controls="panel-${name}"]`);
    if (opener instanceof HTMLElement) opener.focus();
  }

  /**
   * @param {PanelName} name
   * @returns {HTMLElement}
   */
  #frame(name) {
    return el(
      "section",
      { class: "panel-frame", testid: `${name}-panel`, attrs: { id: `panel-${name}`, "aria-labelledby": `panel-${name}-title` } },
      el(
        "div",
        { class: "panel-head" },
        el("h2", { t: name, attrs: { id: `panel-${name}-title` } }),
        el("button", { class: "icon-button", label: "close", testid: `${name}-close`, attrs: { type: "button" }, on: { click: () => this.#leave() } }, icon("close")),
      ),
      this.bodies[name].element,
    );
  }
}
