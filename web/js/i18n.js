// Words in the person's language: chosen by the browser's own, switchable, remembered.

import { en } from "./i18n/en.js";
import { ko } from "./i18n/ko.js";
import { recall, remember } from "./memory.js";

/** @typedef {keyof typeof en} Key */
/** @typedef {"ko" | "en"} Language */
/** @typedef {Record<string, string | number>} Vars */

const SENTENCES = { ko, en };

/** @type {Language} */
let language = fitting(recall("language")) ?? fitting(navigator.language) ?? "en";

/** @type {Set<() => void>} */
const listeners = new Set();

/**
 * The sentence of a key, with `{names}` filled in.
 *
 * @param {Key} key
 * @param {Vars} [vars]
 * @returns {string}
 */
export function t(key, vars = {}) {
  const sentence = SENTENCES[language][key].replace(/\{(\w+)\}/g, (whole, name) => String(vars[name] ?? whole));
  // A teacher's name often ends with the honorific that the Korean sentence adds.
  return language === "ko" ? sentence.replaceAll("님님", "님") : sentence;
}

/** @returns {Language} */
export function currentLanguage() {
  return language;
}

/** @param {Language} chosen */
export function setLanguage(chosen) {
  language = chosen;
  remember("language", chosen);
  for (const listener of listeners) listener();
}

/** @param {() => void} listener called after each switch */
export function onLanguage(listener) {
  listeners.add(listener);
}

/**
 * A sentence for an error code; every code has one, with a next step.
 *
 * @param {string} code
 * @returns {string}
 */
export function errorSentence(code) {
  const key = `error_${code}`;
  return key in en ? t(/** @type {Key} */ (key)) : t("error_other", { code });
}

/**
 * @param {string} time RFC 3339
 * @param {Intl.DateTimeFormatOptions} options
 * @returns {string}
 */
export function formatTime(time, options) {
  return new Intl.DateTimeFormat(language, options).format(new Date(time));
}

/**
 * @param {string | null} tag such as `ko-KR`
 * @returns {Language | null}
 */
function fitting(tag) {
  if (tag?.startsWith("ko")) return "ko";
  return tag?.startsWith("en") ? "en" : null;
}
