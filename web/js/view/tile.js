// One tile: a picture or the first letter of a name, with what there is to know about its person.

import { t } from "../i18n.js";
import { el, mark, say, setAttribute } from "./dom.js";
import { setIcon, icon } from "./icons.js";

/** @import { UserInfo } from "../protocol/messages.js" */

/**
 * @typedef {object} TileState
 * @property {UserInfo} user
 * @property {boolean} own
 * @property {"camera" | "screen"} source
 * @property {HTMLVideoElement | null} video that carries it at the moment
 * @property {boolean} speaking
 * @property {boolean} pinned
 * @property {boolean} paused nothing of it is sent for now, because the way here does not carry it
 */

export class Tile {
  /** @param {(participant: string) => void} onPin */
  constructor(onPin) {
    this.participant = "";
    /** @type {HTMLVideoElement | null} */
    this.video = null;
    this.name = el("span", { class: "tile-name", testid: "tile-name" });
    this.detail = el("span", { class: "tile-detail" });
    this.microphone = el("span", { class: "tile-microphone" });
    this.letter = el("span", { class: "tile-letter", attrs: { "aria-hidden": "true" } });
    this.waiting = el("p", { class: "tile-waiting", t: "picture_coming" });
    this.lost = el("p", { class: "tile-lost", testid: "tile-lost" }, icon("warning"), el("span", { t: "seat_lost" }));
    this.paused = el("p", { class: "tile-lost", testid: "tile-paused" }, icon("warning"), el("span", { t: "picture_paused" }));
    this.pin = el("button", { class: "icon-button tile-pin", testid: "tile-pin", attrs: { type: "button" }, on: { click: () => onPin(this.participant) } });
    this.placeholder = el("div", { class: "tile-placeholder" }, this.letter, this.waiting);
    this.element = el(
      "article",
      { class: "tile", testid: "tile" },
      this.placeholder,
      el("p", { class: "tile-plate" }, this.microphone, this.name, this.detail),
      this.lost,
      this.paused,
      this.pin,
    );
    this.showPicture = () => {
      const has = this.video !== null && this.video.videoWidth > 0;
      setAttribute(this.element, "data-picture", has ? "shown" : this.video || this.expecting ? "coming" : "none");
      this.placeholder.hidden = has;
    };
    this.expecting = false;
  }

  /** @param {TileState} state */
  draw({ user, own, source, video, speaking, pinned, paused }) {
    this.participant = user.participant;
    setAttribute(this.element, "data-participant", user.participant);
    setAttribute(this.element, "data-source", source);
    setAttribute(this.element, "data-own", String(own));
    setAttribute(this.element, "data-speaking", String(speaking && source === "camera"));
    setAttribute(this.element, "data-tone", String(toneOf(user.participant)));
    this.expecting = !own && user.publications.includes(source);
    this.#attach(video);
    if (source === "screen") {
      say(this.name, "screen_of", { name: user.name });
    } else if (this.name.textContent !== user.name) {
      this.name.textContent = user.name;
    }
    this.letter.textContent = [...user.name][0] ?? "";
    this.waiting.hidden = !this.expecting;
    if (user.states.media === "stalled") say(this.waiting, "media_stalled");
    else say(this.waiting, "picture_coming");
    this.detail.textContent = source === "camera" ? detailOf(user, own) : "";
    const muted = source === "camera" && !user.publications.includes("microphone");
    this.microphone.hidden = source === "screen";
    setIcon(this.microphone, muted ? "microphone_off" : speaking ? "sound" : "microphone");
    this.lost.hidden = user.states.signaling !== "lost";
    this.paused.hidden = !paused || !this.lost.hidden;
    this.pin.hidden = own || source === "screen";
    setIcon(this.pin, pinned ? "small" : "large");
    mark(this.pin, "aria-label", pinned ? "make_small" : "make_large", { name: user.name });
    mark(this.pin, "title", pinned ? "make_small" : "make_large", { name: user.name });
    const label = [this.name.textContent, muted ? t("muted") : "", speaking ? t("speaking") : "", paused ? t("picture_paused") : ""].filter(Boolean).join(", ");
    setAttribute(this.element, "aria-label", label);
    this.showPicture();
  }

  /** Lets go of the video, which belongs to its slot. */
  drop() {
    this.#attach(null);
    this.element.remove();
  }

  /** @param {HTMLVideoElement | null} video */
  #attach(video) {
    if (this.video === video && (!video || video.parentElement === this.element)) return;
    if (this.video) {
      this.video.removeEventListener("resize", this.showPicture);
      if (this.video.parentElement === this.element) this.video.remove();
    }
    this.video = video;
    if (!video) return;
    video.addEventListener("resize", this.showPicture);
    this.element.prepend(video);
    // Moving an element pauses it.
    video.play().catch(() => undefined);
  }
}

/**
 * @param {UserInfo} user
 * @param {boolean} own
 * @returns {string}
 */
function detailOf(user, own) {
  if (own) return t("you");
  return user.role === "student" ? "" : t(user.role);
}

/**
 * One of six quiet colours, the same for a person throughout the lesson.
 *
 * @param {string} participant
 * @returns {number}
 */
export function toneOf(participant) {
  let sum = 0;
  for (const character of participant) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 6_007;
  return sum % 6;
}
