// A page with one message and the next step: the lesson ended, one left, one cannot enter.

import { el } from "./dom.js";
import { icon } from "./icons.js";

/** @import { Key } from "../i18n.js" */

/**
 * @param {{t: Key, lead?: Key, text?: string, testid: string}} props
 * @param {(Node | null)[]} actions beside the way to the start page
 * @returns {HTMLElement}
 */
export function endingScreen({ t, lead, text, testid }, ...actions) {
  return el(
    "main",
    { class: "ending", testid, attrs: { id: "main" } },
    el(
      "div",
      { class: "panel ending-panel", attrs: { role: "status" } },
      icon("roof"),
      el("h1", { t }),
      lead ? el("p", { class: "lead", t: lead }) : null,
      text ? el("p", { class: "lead", text }) : null,
      el(
        "div",
        { class: "ending-actions" },
        ...actions,
        el("a", { class: "button button-plain", t: "back_to_start", testid: "back-to-start", attrs: { href: "/" } }),
      ),
    ),
  );
}
