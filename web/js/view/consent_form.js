// The notice of recording and captures with its two answers; on the join page and again in class.

import { CONSENT_TEXT_VERSION } from "../consent_text.js";
import { el } from "./dom.js";
import { checkbox } from "./parts.js";

/** @import { Consents } from "../protocol/messages.js" */

/**
 * @param {string} id distinguishes two forms on one page
 * @param {Consents} given
 * @param {number} capturePeriodS
 * @returns {{element: HTMLElement, answers: () => Consents}}
 */
export function consentForm(id, given, capturePeriodS) {
  const recording = checkbox({
    id: `${id}-recording`,
    t: "consent_recording",
    help: "consent_recording_help",
    checked: given.recording,
    testid: "consent-recording",
  });
  const captures = checkbox({
    id: `${id}-captures`,
    t: "consent_captures",
    help: "consent_captures_help",
    vars: { seconds: capturePeriodS },
    checked: given.captures,
    testid: "consent-captures",
  });
  const element = el(
    "div",
    { class: "consent", testid: "consent-notice", attrs: { role: "group", "aria-describedby": `${id}-lead` } },
    el("p", { t: "consent_lead", attrs: { id: `${id}-lead` } }),
    recording.element,
    captures.element,
    el(
      "details",
      {},
      el("summary", { t: "consent_parents" }),
      el("p", { t: "consent_parents_text" }),
      el("p", { class: "help", t: "consent_version", vars: { version: CONSENT_TEXT_VERSION } }),
    ),
  );
  return { element, answers: () => ({ recording: recording.input.checked, captures: captures.input.checked }) };
}
