// Builds elements. Text always goes in as text, never as markup.

import { currentLanguage, onLanguage, t } from "../i18n.js";

/** @import { Key, Vars } from "../i18n.js" */

/**
 * @typedef {object} Props
 * @property {string} [class]
 * @property {string} [testid] `data-testid`
 * @property {string} [text] shown as it is
 * @property {Key} [t] a sentence, translated again when the language changes
 * @property {Vars} [vars] for `t`
 * @property {Key} [label] `aria-label`, translated likewise
 * @property {Key} [title] tooltip, translated likewise
 * @property {Key} [placeholder] translated likewise
 * @property {Record<string, string | boolean | number>} [attrs]
 * @property {Record<string, (event: any) => void>} [on]
 */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props} [props]
 * @param {(Node | string | null | undefined | false)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  if (props.class) element.className = props.class;
  if (props.testid) element.dataset.testid = props.testid;
  if (props.text !== undefined) element.textContent = props.text;
  if (props.t) say(element, props.t, props.vars);
  if (props.label) mark(element, "aria-label", props.label, props.vars);
  if (props.title) mark(element, "title", props.title, props.vars);
  if (props.placeholder) mark(element, "placeholder", props.placeholder, props.vars);
  for (const [name, value] of Object.entries(props.attrs ?? {})) {
    if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, String(value));
  }
  for (const [type, listener] of Object.entries(props.on ?? {})) element.addEventListener(type, listener);
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Gives an element a sentence that follows the language.
 *
 * @param {HTMLElement} element without element children
 * @param {Key} key
 * @param {Vars} [vars]
 */
export function say(element, key, vars = {}) {
  bind(element, "text", key, vars);
}

/**
 * Gives an element's attribute a sentence that follows the language.
 *
 * @param {HTMLElement} element
 * @param {"aria-label" | "title" | "placeholder"} attribute
 * @param {Key} key
 * @param {Vars} [vars]
 */
export function mark(element, attribute, key, vars = {}) {
  bind(element, attribute, key, vars);
}

/**
 * @template T
 * @param {T | null | undefined} value
 * @returns {T}
 */
export function present(value) {
  if (value === null || value === undefined) throw new Error("a part of the page is missing");
  return value;
}

/**
 * Sets an attribute only when it differs, so that screen readers hear changes alone.
 *
 * @param {Element} element
 * @param {string} name
 * @param {string | boolean} value
 */
export function setAttribute(element, name, value) {
  if (typeof value === "boolean") {
    if (element.hasAttribute(name) !== value) element.toggleAttribute(name, value);
  } else if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

/** @type {WeakMap<HTMLElement, Map<string, {key: Key, vars: Vars}>>} */
const bindings = new WeakMap();

/**
 * @param {HTMLElement} element
 * @param {string} target `text` or an attribute
 * @param {Key} key
 * @param {Vars} vars
 */
function bind(element, target, key, vars) {
  const bound = bindings.get(element) ?? new Map();
  bound.set(target, { key, vars });
  bindings.set(element, bound);
  element.dataset.t = "";
  write(element, target, t(key, vars));
}

/**
 * @param {HTMLElement} element
 * @param {string} target
 * @param {string} text
 */
function write(element, target, text) {
  if (target !== "text") setAttribute(element, target, text);
  else if (element.textContent !== text) element.textContent = text;
}

/** Translates what stands in the page already. */
function translatePage() {
  document.documentElement.lang = currentLanguage();
  for (const element of document.querySelectorAll("[data-t]")) {
    if (!(element instanceof HTMLElement)) continue;
    for (const [target, { key, vars }] of bindings.get(element) ?? []) write(element, target, t(key, vars));
  }
}

document.documentElement.lang = currentLanguage();
onLanguage(translatePage);
