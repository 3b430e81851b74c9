// The middle of the class: shared screens and the one shown large, a page of tiles, and names.

import { onLanguage } from "../i18n.js";
import { el, mark, say, setAttribute } from "./dom.js";
import { icon } from "./icons.js";
import { button, copyText } from "./parts.js";
import { SlotElements, videoOf } from "./slot_elements.js";
import { Tile, toneOf } from "./tile.js";

/** @import { Room } from "../room.js" */
/** @import { SlotInfo, Source, UserInfo } from "../protocol/messages.js" */
/** @import { Layout } from "../room/layout.js" */

export class Stage {
  /** @param {Room} room */
  constructor(room) {
    this.room = room;
    /** @type {Map<string, Tile>} by participant and source */
    this.tiles = new Map();
    /** @type {{track: MediaStreamTrack, video: HTMLVideoElement} | null} */
    this.mirror = null;
    /** @type {{track: MediaStreamTrack, video: HTMLVideoElement} | null} */
    this.shared = null;
    this.large = el("div", { class: "stage-large", testid: "stage" });
    this.grid = el("div", { class: "stage-grid", testid: "tiles", label: "tiles", attrs: { role: "group" } });
    this.previous = this.#pageButton("page_previous", "previous", -1);
    this.next = this.#pageButton("page_next", "next", 1);
    this.pageLabel = el("span", { testid: "page-of", attrs: { "aria-live": "polite" } });
    this.paging = el("nav", { class: "paging", testid: "paging" }, this.previous, this.pageLabel, this.next);
    this.audience = el("ul", { class: "audience", testid: "audience", label: "audience" });
    this.alone = this.#aloneBox();
    this.hear = button({ t: "tap_to_hear", icon: "sound", look: "primary", testid: "tap-to-hear", click: () => void this.slots.playSound() });
    this.hear.classList.add("tap-to-hear");
    this.hear.hidden = true;
    const sound = el("div", { attrs: { hidden: true } });
    this.slots = new SlotElements(sound, (refused) => {
      this.hear.hidden = !refused;
    });
    this.ownScreen = this.#ownScreenBox();
    this.element = el(
      "main",
      { class: "stage", attrs: { id: "main" } },
      this.large,
      el("div", { class: "stage-side" }, this.grid, this.paging),
      this.audience,
      this.alone,
      this.hear,
      sound,
    );
    const draw = () => this.draw();
    room.on("users", draw);
    room.on("media", draw);
    room.on("speaking", draw);
    room.on("phase", draw);
    onLanguage(draw);
    new ResizeObserver(() => this.#measure()).observe(this.element);
  }

  draw() {
    if (!this.room.info) return;
    this.slots.follow(this.room.media.connection);
    const layout = this.room.layout();
    const me = this.room.me;
    /** @type {Set<string>} */
    const kept = new Set();
    const large = [
      ...layout.screens.map((user) => this.#tile(kept, user, "screen")),
      ...(layout.spotlight ? [this.#tile(kept, layout.spotlight, "camera")] : []),
    ];
    const tiles = layout.tiles.map((user) => this.#tile(kept, user, "camera"));
    for (const [key, tile] of this.tiles) {
      if (kept.has(key)) continue;
      tile.drop();
      this.tiles.delete(key);
    }
    const sharing = me.publications.includes("screen");
    place(this.large, sharing && layout.screens.length === 0 ? [this.ownScreen, ...large] : large);
    place(this.grid, tiles);
    this.#drawOwnScreen(sharing);
    setAttribute(this.element, "data-layout", this.large.childElementCount > 0 ? "stage" : "grid");
    setAttribute(this.large, "data-count", String(this.large.childElementCount));
    setAttribute(this.grid, "data-count", String(tiles.length));
    this.#drawPaging(layout);
    this.#drawAudience(layout.audience);
    this.alone.hidden = this.room.users.size > 0;
    this.#measure();
  }

  /**
   * @param {Set<string>} kept
   * @param {UserInfo} user
   * @param {"camera" | "screen"} source
   * @returns {HTMLElement}
   */
  #tile(kept, user, source) {
    const key = `${user.participant} ${source}`;
    kept.add(key);
    const own = user.participant === this.room.info?.you.participant;
    const tile = this.tiles.get(key) ?? new Tile((participant) => this.#pin(participant));
    this.tiles.set(key, tile);
    tile.draw({
      user,
      own,
      source,
      video: own ? this.#mirrorVideo() : this.#slotVideo(user.participant, source),
      paused: !own && this.#slot(user.participant, source)?.paused === true,
      speaking: this.room.monitor.speaking.has(user.participant),
      pinned: this.room.pinned === user.participant,
    });
    return tile.element;
  }

  /** @param {string} participant */
  #pin(participant) {
    this.room.pin(this.room.pinned === participant ? null : participant);
  }

  /**
   * @param {string} participant
   * @param {Source} source
   * @returns {HTMLVideoElement | null}
   */
  #slotVideo(participant, source) {
    const slot = this.#slot(participant, source);
    return (slot && this.slots.videos.get(slot.mid)) ?? null;
  }

  /**
   * @param {string} participant
   * @param {Source} source
   * @returns {SlotInfo | undefined} what carries it
   */
  #slot(participant, source) {
    return [...this.room.media.slots.values()].find((slot) => slot.participant === participant && slot.source === source);
  }

  /** @returns {HTMLVideoElement | null} one's own camera, straight from the device */
  #mirrorVideo() {
    const track = this.room.local.tracks.get("camera");
    if (track !== this.mirror?.track) this.mirror = track ? { track, video: videoOf(new MediaStream([track])) } : null;
    return this.mirror?.video ?? null;
  }

  /** @param {boolean} sharing */
  #drawOwnScreen(sharing) {
    const track = sharing ? this.room.local.tracks.get("screen") : undefined;
    if (track === this.shared?.track) return;
    this.shared?.video.remove();
    this.shared = track ? { track, video: videoOf(new MediaStream([track])) } : null;
    if (this.shared) this.ownScreen.prepend(this.shared.video);
  }

  /** @param {Layout} layout */
  #drawPaging(layout) {
    this.paging.hidden = layout.pages === 1;
    this.previous.disabled = layout.page === 0;
    this.next.disabled = layout.page === layout.pages - 1;
    say(this.pageLabel, "page_of", { page: layout.page + 1, pages: layout.pages });
  }

  /** @param {UserInfo[]} audience */
  #drawAudience(audience) {
    this.audience.hidden = audience.length === 0;
    const me = this.room.info?.you.participant;
    this.audience.replaceChildren(
      ...audience.map((user) =>
        el(
          "li",
          { class: "person-chip", testid: "audience-name", attrs: { "data-participant": user.participant, "data-tone": toneOf(user.participant) } },
          el("span", { class: "chip-letter", text: [...user.name][0] ?? "", attrs: { "aria-hidden": "true" } }),
          el("span", { text: user.name }),
          user.participant === me ? el("span", { class: "quiet", t: "you" }) : null,
        ),
      ),
    );
  }

  /** @returns {HTMLElement} */
  #aloneBox() {
    const { number } = this.room;
    return el(
      "div",
      { class: "alone", testid: "alone" },
      el("p", { class: "alone-title", t: "alone" }),
      el("p", { t: "alone_help", vars: { number } }),
      button({ t: "copy_link", icon: "copy", testid: "copy-link", click: () => void copyText(`${location.origin}${location.pathname}`) }),
    );
  }

  /** @returns {HTMLElement} */
  #ownScreenBox() {
    return el(
      "article",
      { class: "tile own-screen", testid: "own-screen" },
      el(
        "div",
        { class: "own-screen-text" },
        el("p", { class: "alone-title", t: "sharing" }),
        el("p", { t: "sharing_help" }),
        button({ t: "stop_sharing", icon: "close", look: "danger", testid: "stop-sharing", click: () => void this.room.local.stop("screen") }),
      ),
    );
  }

  /**
   * @param {"page_previous" | "page_next"} key
   * @param {"previous" | "next"} name
   * @param {number} step
   * @returns {HTMLButtonElement}
   */
  #pageButton(key, name, step) {
    const turn = el("button", { class: "icon-button", testid: key.replace("_", "-"), attrs: { type: "button" } }, icon(name));
    mark(turn, "aria-label", key);
    mark(turn, "title", key);
    turn.addEventListener("click", () => this.room.showPage(this.room.layout().page + step));
    return turn;
  }

  #measure() {
    const tile = this.grid.firstElementChild?.getBoundingClientRect();
    const large = this.large.getBoundingClientRect();
    if (!tile) return;
    this.room.setSizes({ page: tile, spotlight: large, screen: large });
  }
}

/**
 * Puts exactly these children in this order, without touching those that stand right already: a moved video stops.
 *
 * @param {HTMLElement} holder
 * @param {HTMLElement[]} children
 */
function place(holder, children) {
  for (const child of [...holder.children]) {
    if (child instanceof HTMLElement && !children.includes(child)) child.remove();
  }
  children.forEach((child, index) => {
    if (holder.children[index] === child) return;
    holder.insertBefore(child, holder.children[index] ?? null);
    for (const video of child.querySelectorAll("video")) video.play().catch(() => undefined);
  });
}
