// Who is here, what they send, what is kept of them (for hosts), and the rights a host gives.

import { onLanguage } from "../i18n.js";
import { el, mark } from "./dom.js";
import { icon } from "./icons.js";
import { button, copyText } from "./parts.js";
import { toneOf } from "./tile.js";

/** @import { IconName } from "./icons.js" */
/** @import { Key } from "../i18n.js" */
/** @import { Room } from "../room.js" */
/** @import { UserInfo } from "../protocol/messages.js" */

/**
 * @param {Room} room
 * @returns {{element: HTMLElement, focus: () => void}}
 */
export function peoplePanel(room) {
  const list = el("ul", { class: "people", testid: "people", attrs: { tabindex: -1 } });
  const invite = button({ t: "copy_link", icon: "copy", click: () => void copyText(`${location.origin}${location.pathname}`) });
  let shown = "";
  const draw = () => {
    if (!room.info) return;
    const users = [room.me, ...room.users.values()];
    // Drawn again only when something in it changed: the focus of a host's button stays.
    const text = JSON.stringify([users, document.documentElement.lang]);
    if (text === shown) return;
    shown = text;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.focus : undefined;
    list.replaceChildren(...users.map((user) => personRow(room, user)));
    if (focused) {
      const again = list.querySelector(`[data-focus="${CSS.escape(focused)}"]`);
      if (again instanceof HTMLElement) again.focus();
    }
  };
  room.on("users", draw);
  onLanguage(draw);
  return { element: el("div", { class: "people-panel" }, list, el("div", { class: "people-foot" }, invite)), focus: () => list.focus() };
}

/**
 * @param {Room} room
 * @param {UserInfo} user
 * @returns {HTMLElement}
 */
function personRow(room, user) {
  const own = user.participant === room.info?.you.participant;
  const sends = user.publications;
  return el(
    "li",
    { class: "person", testid: "person", attrs: { "data-participant": user.participant } },
    el("span", { class: "chip-letter", text: [...user.name][0] ?? "", attrs: { "aria-hidden": "true", "data-tone": toneOf(user.participant) } }),
    el(
      "span",
      { class: "person-text" },
      el("span", { class: "person-name", testid: "person-name", text: user.name }),
      el(
        "span",
        { class: "quiet person-role" },
        el("span", { t: user.role }),
        own ? el("span", { t: "you" }) : null,
        user.states.signaling === "lost" ? el("span", { class: "warning", t: "seat_lost" }) : null,
      ),
    ),
    el(
      "span",
      { class: "person-signs" },
      user.consents ? fact("is_recorded", "is_not_recorded", user.consents.recording, "recording", "recording_off") : null,
      user.consents ? fact("is_captured", "is_not_captured", user.consents.captures, "captures", "captures_off") : null,
      fact("microphone_on", "microphone_off", sends.includes("microphone"), "microphone", "microphone_off"),
      fact("camera_on", "camera_off", sends.includes("camera"), "camera", "camera_off"),
    ),
    room.isHost && user.role === "student" ? rightButtons(room, user) : null,
  );
}

/**
 * @param {Key} yes
 * @param {Key} no
 * @param {boolean} holds
 * @param {IconName} yesIcon
 * @param {IconName} noIcon
 * @returns {HTMLElement}
 */
function fact(yes, no, holds, yesIcon, noIcon) {
  return el("span", { class: "fact", label: holds ? yes : no, title: holds ? yes : no, attrs: { role: "img", "data-holds": String(holds) } }, icon(holds ? yesIcon : noIcon));
}

/**
 * @param {Room} room
 * @param {UserInfo} user
 * @returns {HTMLElement}
 */
function rightButtons(room, user) {
  const { participant, name, rights } = user;
  const floor = button({
    t: rights.may_publish ? "take_floor" : "give_floor",
    look: rights.may_publish ? "plain" : "primary",
    testid: "right-publish",
    click: () => room.setRights(participant, { ...rights, may_publish: !rights.may_publish }),
  });
  mark(floor, "aria-label", rights.may_publish ? "take_floor_from" : "give_floor_to", { name });
  floor.dataset.focus = `floor ${participant}`;
  const screen = button({
    t: rights.may_share_screen ? "forbid_screen" : "allow_screen",
    testid: "right-screen",
    click: () => room.setRights(participant, { ...rights, may_share_screen: !rights.may_share_screen }),
  });
  mark(screen, "aria-label", rights.may_share_screen ? "forbid_screen_to" : "allow_screen_to", { name });
  screen.dataset.focus = `screen ${participant}`;
  return el("span", { class: "person-rights" }, floor, screen);
}
