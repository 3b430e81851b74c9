// Looks at the media connection now and then: how good it is, and who speaks.

import { judge } from "./quality.js";

/** @import { StatsSummary } from "../protocol/stats.js" */
/** @import { Quality } from "./quality.js" */

/** How often it looks, in milliseconds. */
const LOOK_EVERY_MS = 700;
/** A voice above this level counts as speaking, 0 to 1. */
const SPEAKING_LEVEL = 0.02;

/**
 * @typedef {object} MonitorEvents
 * @property {() => Promise<StatsSummary | null> | null} look
 * @property {() => void} quality it changed
 * @property {() => void} speaking somebody began or stopped
 */

export class Monitor {
  /** @param {MonitorEvents} events */
  constructor(events) {
    this.events = events;
    /** @type {Quality} */
    this.quality = "unknown";
    /** @type {Set<string>} participants */
    this.speaking = new Set();
    /** @type {StatsSummary | null} */
    this.last = null;
    this.timer = setInterval(() => void this.#look(), LOOK_EVERY_MS);
  }

  stop() {
    clearInterval(this.timer);
  }

  async #look() {
    const now = await this.events.look();
    if (!now) return;
    const quality = judge(this.last, now);
    this.last = now;
    if (quality !== this.quality) {
      this.quality = quality;
      this.events.quality();
    }
    const speaking = speakersIn(now);
    if (speaking.size === this.speaking.size && [...speaking].every((participant) => this.speaking.has(participant))) return;
    this.speaking = speaking;
    this.events.speaking();
  }
}

/**
 * @param {StatsSummary} stats
 * @returns {Set<string>}
 */
function speakersIn(stats) {
  const loud = stats.slots.filter((slot) => slot.source === "microphone" && slot.audio_level > SPEAKING_LEVEL);
  return new Set(loud.flatMap((slot) => slot.participant ?? []));
}
