// Leaving, and for a host: ending the lesson for everyone.

import { recordingsAddress } from "../addresses.js";
import { errorSentence } from "../i18n.js";
import { ApiError, api } from "../protocol.js";
import { el } from "./dom.js";
import { button, dialog, notice } from "./parts.js";

/** @import { Room } from "../room.js" */

/** @param {Room} room */
export function leaveDialog(room) {
  const host = room.isHost;
  const box = dialog(
    { t: "leave_title", testid: "leave-dialog" },
    el("p", { t: host ? "leave_host_lead" : "left_lead" }),
    el(
      "div",
      { class: "dialog-choices" },
      button({
        t: host ? "leave_only_me" : "leave",
        look: host ? "plain" : "danger",
        testid: "leave-only-me",
        click: () => {
          box.close();
          room.leave();
        },
      }),
      host
        ? button({
            t: "end_lesson",
            look: "danger",
            testid: "end-lesson",
            click: () => {
              box.close();
              endDialog(room);
            },
          })
        : null,
    ),
    el("div", { class: "dialog-actions" }, button({ t: "cancel", look: "quiet", testid: "leave-cancel", click: () => box.close() })),
  );
}

/** @param {Room} room */
function endDialog(room) {
  const answer = el("div", { class: "answer", attrs: { "aria-live": "polite" } });
  /** @param {boolean} keep */
  const end = async (keep) => {
    answer.replaceChildren(el("p", { class: "quiet", t: "ending_now" }));
    for (const choice of choices) choice.disabled = true;
    try {
      await api.closeRoom(room.number, keep);
      // The server's farewell may come first or never; here the host knows already.
      if (keep) location.href = recordingsAddress(room.number);
      else box.close();
    } catch (error) {
      const code = error instanceof ApiError ? error.code : "internal";
      answer.replaceChildren(notice({ look: "error", role: "alert", testid: "end-error" }, errorSentence(code)));
      for (const choice of choices) choice.disabled = false;
    }
  };
  const keep = button({ t: "end_keep", look: "primary", testid: "end-keep", click: () => void end(true) });
  const discard = button({ t: "end_discard", look: "danger", testid: "end-discard", click: () => void end(false) });
  const choices = [keep, discard];
  const box = dialog(
    { t: "end_title", testid: "end-dialog" },
    el("p", { t: "end_lead" }),
    el(
      "div",
      { class: "end-choices" },
      el("div", {}, keep, el("p", { class: "help", t: "end_keep_help" })),
      el("div", {}, discard, el("p", { class: "help", t: "end_discard_help" })),
    ),
    answer,
    el("div", { class: "dialog-actions" }, button({ t: "cancel", look: "quiet", click: () => box.close() })),
  );
}
