// The <video> and <audio> of each slot; they live as long as the media connection.

/** @import { Connection } from "../protocol/connection.js" */

/** Makes the elements of a connection's slots and plays them. */
export class SlotElements {
  /**
   * @param {HTMLElement} soundHolder where the audio elements live
   * @param {(refused: boolean) => void} onSoundRefused the browser wants a touch before it plays sound
   */
  constructor(soundHolder, onSoundRefused) {
    this.soundHolder = soundHolder;
    this.onSoundRefused = onSoundRefused;
    /** @type {Connection | null} */
    this.connection = null;
    /** @type {Map<string, HTMLVideoElement>} by mid */
    this.videos = new Map();
    /** @type {HTMLAudioElement[]} */
    this.audios = [];
  }

  /**
   * Follows the room to another connection.
   *
   * @param {Connection | null} connection
   */
  follow(connection) {
    if (connection === this.connection || connection?.receivers.size === 0) return;
    this.connection = connection;
    for (const element of [...this.videos.values(), ...this.audios]) {
      element.srcObject = null;
      element.remove();
    }
    this.videos.clear();
    this.audios = [];
    for (const [mid, transceiver] of connection?.receivers ?? []) {
      const track = transceiver.receiver.track;
      const stream = new MediaStream([track]);
      if (track.kind === "video") this.videos.set(mid, videoOf(stream, mid));
      else this.audios.push(this.#audioOf(stream, mid));
    }
    void this.playSound();
  }

  /** Plays all sound; to be called again from a touch when the browser refused. */
  async playSound() {
    const results = await Promise.allSettled(this.audios.map((audio) => audio.play()));
    const refused = results.some((result) => result.status === "rejected" && result.reason?.name === "NotAllowedError");
    this.onSoundRefused(refused);
  }

  /**
   * @param {MediaStream} stream
   * @param {string} mid
   * @returns {HTMLAudioElement}
   */
  #audioOf(stream, mid) {
    const audio = document.createElement("audio");
    audio.autoplay = true;
    audio.srcObject = stream;
    audio.dataset.mid = mid;
    this.soundHolder.append(audio);
    return audio;
  }
}

/**
 * A picture that plays by itself: it is muted, sound has elements of its own.
 *
 * @param {MediaStream} stream
 * @param {string} [mid]
 * @returns {HTMLVideoElement}
 */
export function videoOf(stream, mid) {
  const video = document.createElement("video");
  video.muted = true;
  video.autoplay = true;
  video.playsInline = true;
  video.disablePictureInPicture = true;
  if (mid !== undefined) video.dataset.mid = mid;
  video.srcObject = stream;
  return video;
}
