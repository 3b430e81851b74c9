// The parts every page is made of: header, button, field, notice, dialog, announcements.

import { currentLanguage, setLanguage } from "../i18n.js";
import { el, say } from "./dom.js";
import { icon } from "./icons.js";

/** @import { Key, Language, Vars } from "../i18n.js" */
/** @import { IconName } from "./icons.js" */

/** How long a passing announcement stays, in milliseconds: time to read two lines. */
const TOAST_MS = 6_000;

/**
 * @typedef {object} ButtonProps
 * @property {Key} t
 * @property {Vars} [vars]
 * @property {IconName} [icon]
 * @property {"primary" | "quiet" | "danger" | "plain"} [look]
 * @property {string} [testid]
 * @property {"button" | "submit"} [type]
 * @property {() => void} [click]
 */

/**
 * @param {ButtonProps} props
 * @returns {HTMLButtonElement}
 */
export function button({ t, vars, icon: iconName, look = "plain", testid, type = "button", click }) {
  return el(
    "button",
    { class: `button button-${look}`, testid, attrs: { type }, on: click ? { click } : {} },
    iconName ? icon(iconName) : null,
    el("span", { t, vars }),
  );
}

/**
 * A label, its input, and a line of help that screen readers read with it.
 *
 * @param {{id: string, t: Key, help?: Key, input: HTMLInputElement | HTMLSelectElement}} props
 * @returns {HTMLDivElement}
 */
export function field({ id, t, help, input }) {
  input.id = id;
  if (help) input.setAttribute("aria-describedby", `${id}-help`);
  return el(
    "div",
    { class: "field" },
    el("label", { t, attrs: { for: id } }),
    input,
    help ? el("p", { class: "help", t: help, attrs: { id: `${id}-help` } }) : null,
  );
}

/**
 * A box to tick, with its explanation.
 *
 * @param {{id: string, t: Key, help: Key, vars?: Vars, checked: boolean, testid: string}} props
 * @returns {{element: HTMLDivElement, input: HTMLInputElement}}
 */
export function checkbox({ id, t, help, vars, checked, testid }) {
  const input = el("input", { testid, attrs: { type: "checkbox", id, "aria-describedby": `${id}-help` } });
  input.checked = checked;
  const element = el(
    "div",
    { class: "checkbox" },
    input,
    el("label", { t, attrs: { for: id } }),
    el("p", { class: "help", t: help, vars, attrs: { id: `${id}-help` } }),
  );
  return { element, input };
}

/**
 * A box with a sentence; `alert` interrupts a screen reader, `status` waits.
 *
 * @param {{look?: "info" | "warning" | "error", role?: "alert" | "status", testid?: string}} props
 * @param {(Node | string)[]} children
 * @returns {HTMLDivElement}
 */
export function notice({ look = "info", role = "status", testid }, ...children) {
  return el(
    "div",
    { class: `notice notice-${look}`, testid, attrs: { role } },
    icon(look === "info" ? "info" : "warning"),
    el("div", { class: "notice-text" }, ...children),
  );
}

/**
 * The strip above each page.
 *
 * @param {...Node} children between brand and language
 * @returns {HTMLElement}
 */
export function header(...children) {
  return el(
    "header",
    { class: "header" },
    el("a", { class: "brand", attrs: { href: "/" } }, icon("roof"), el("span", { t: "brand" })),
    el("div", { class: "header-middle" }, ...children),
    languageSwitch(),
  );
}

/** @returns {HTMLElement} */
export function languageSwitch() {
  /** @type {[Language, string][]} */
  const languages = [
    ["ko", "한국어"],
    ["en", "English"],
  ];
  const buttons = languages.map(([language, name]) =>
    el("button", {
      class: "language",
      text: name,
      testid: `language-${language}`,
      attrs: { type: "button", lang: language },
      on: {
        click: () => {
          setLanguage(language);
          press();
        },
      },
    }),
  );
  const press = () =>
    buttons.forEach((each, index) => each.setAttribute("aria-pressed", String(languages[index][0] === currentLanguage())));
  press();
  return el("div", { class: "languages", label: "language", attrs: { role: "group" } }, ...buttons);
}

/**
 * A modal dialog: Escape and the cross close it, the focus stays inside and returns afterwards.
 *
 * @param {{t: Key, vars?: Vars, testid: string, wide?: boolean}} props
 * @param {(Node | null)[]} children
 * @returns {HTMLDialogElement}
 */
export function dialog({ t, vars, testid, wide = false }, ...children) {
  const id = `${testid}-title`;
  const box = el("dialog", { class: wide ? "dialog dialog-wide" : "dialog", testid, attrs: { "aria-labelledby": id } });
  box.append(
    el(
      "div",
      { class: "dialog-head" },
      el("h2", { t, vars, attrs: { id } }),
      el("button", { class: "icon-button", label: "close", testid: `${testid}-close`, attrs: { type: "button" }, on: { click: () => box.close() } }, icon("close")),
    ),
    el("div", { class: "dialog-body" }, ...children),
  );
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

/**
 * A text in a field with a button that copies it.
 *
 * @param {{id: string, t: Key, help?: Key, text: string, testid: string}} props
 * @returns {HTMLElement}
 */
export function copyField({ id, t, help, text, testid }) {
  const input = el("input", { testid, attrs: { readonly: true, value: text } });
  input.addEventListener("focus", () => input.select());
  const copy = button({ t: "copy", icon: "copy", click: () => void copyText(text, input) });
  const whole = field({ id, t, help, input });
  const row = el("div", { class: "field-row" });
  input.replaceWith(row);
  row.append(input, copy);
  return whole;
}

/**
 * @param {string} text
 * @param {HTMLInputElement} [fallback] selected where the clipboard is closed to us
 */
export async function copyText(text, fallback) {
  try {
    await navigator.clipboard.writeText(text);
    announce("copied");
  } catch {
    fallback?.select();
  }
}

/** @type {HTMLElement | undefined} */
let toasts;

/**
 * Says something in passing: shown for a while and read out.
 *
 * @param {Key} key
 * @param {Vars} [vars]
 */
export function announce(key, vars) {
  announceText((element) => say(element, key, vars));
}

/** @param {(element: HTMLElement) => void} fill */
export function announceText(fill) {
  if (!toasts) {
    toasts = el("div", { class: "toasts", testid: "announcements", attrs: { role: "status", "aria-live": "polite" } });
    document.body.append(toasts);
  }
  const toast = el("p", { class: "toast" });
  toasts.append(toast);
  fill(toast);
  while (toasts.childElementCount > 3) toasts.firstElementChild?.remove();
  setTimeout(() => toast.remove(), TOAST_MS);
}
