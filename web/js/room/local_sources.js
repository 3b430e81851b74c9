// One's own camera, microphone and screen: opening, publishing, and really stopping.

import { openCamera, openMicrophone, openScreen } from "../devices.js";
import { recall } from "../memory.js";

/** @import { Source } from "../protocol/messages.js" */

/**
 * @typedef {object} LocalEvents
 * @property {(source: Source, track: MediaStreamTrack) => Promise<void>} publish told before any packet flows
 * @property {(source: Source) => Promise<void>} unpublish
 * @property {() => void} changed
 * @property {(source: Source) => void} vanished the device was pulled out, or the browser's own bar stopped the share
 */

/** Owns the tracks. A source is on exactly while it has a track here. */
export class LocalSources {
  /** @param {LocalEvents} events */
  constructor(events) {
    this.events = events;
    /** @type {Map<Source, MediaStreamTrack>} */
    this.tracks = new Map();
    /** @type {Set<Source>} sources being switched; their buttons wait */
    this.busy = new Set();
  }

  /**
   * @param {Source} source
   * @returns {boolean}
   */
  isOn(source) {
    return this.tracks.has(source);
  }

  /**
   * Opens the device and publishes it.
   *
   * @param {"camera" | "microphone" | "screen"} source
   * @returns {Promise<void>} fails with a `DeviceError`
   */
  async start(source) {
    if (this.busy.has(source) || this.isOn(source)) return;
    this.busy.add(source);
    this.events.changed();
    try {
      if (source === "screen") {
        const { screen, sound } = await openScreen();
        await this.adopt("screen", screen);
        if (sound) await this.adopt("screen_audio", sound);
      } else if (source === "camera") {
        await this.adopt("camera", await openCamera(recall("camera")));
      } else {
        await this.adopt("microphone", await openMicrophone(recall("microphone")));
      }
    } finally {
      this.busy.delete(source);
      this.events.changed();
    }
  }

  /**
   * Takes over a track that is open already, such as the preview's.
   *
   * @param {Source} source
   * @param {MediaStreamTrack} track
   */
  async adopt(source, track) {
    this.tracks.get(source)?.stop();
    this.tracks.set(source, track);
    track.onended = () => {
      if (this.tracks.get(source) !== track) return;
      this.events.vanished(source);
      void this.stop(source);
    };
    await this.events.publish(source, track);
    this.events.changed();
  }

  /**
   * Stops the device itself: its light goes out.
   *
   * @param {Source} source
   */
  async stop(source) {
    const track = this.tracks.get(source);
    if (!track) return;
    this.tracks.delete(source);
    track.onended = null;
    track.stop();
    if (source === "screen") await this.stop("screen_audio");
    await this.events.unpublish(source);
    this.events.changed();
  }

  /** Stops everything. */
  async stopAll() {
    for (const source of [...this.tracks.keys()]) await this.stop(source);
  }
}
