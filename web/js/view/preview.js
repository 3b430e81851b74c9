// Camera and microphone before the class: a mirror, a level, the choice of devices, and what to do when there are none.

import { DeviceError, alreadyAllowed, devicesAvailable, listDevices, openBoth, openCamera, openMicrophone } from "../devices.js";
import { onLanguage, t } from "../i18n.js";
import { recall, remember } from "../memory.js";
import { el, mark, say } from "./dom.js";
import { setIcon } from "./icons.js";
import { button, field, notice } from "./parts.js";

/** @import { Source } from "../protocol/messages.js" */
/** @import { DeviceTrouble } from "../devices.js" */

/** @typedef {"camera" | "microphone"} Device */

/** @type {Device[]} */
const DEVICES = ["camera", "microphone"];

/** Shows and holds the tracks until somebody takes them. */
export class Preview {
  constructor() {
    /** @type {Map<Device, MediaStreamTrack>} */
    this.tracks = new Map();
    /** @type {Map<Device, DeviceTrouble>} */
    this.troubles = new Map();
    /** @type {AudioContext | undefined} */
    this.meter = undefined;
    /** @type {MediaStreamTrack | undefined} */
    this.listening = undefined;
    this.video = el("video", { testid: "preview-video", label: "preview", attrs: { muted: true, autoplay: true, playsinline: true } });
    this.video.muted = true;
    this.off = el("p", { class: "preview-off", t: "preview_off" });
    this.level = el("meter", { class: "level", label: "microphone_level", attrs: { min: 0, max: 1, low: 0.02, value: 0 } });
    this.trouble = el("div", { class: "answer", testid: "device-trouble" });
    this.toggles = { camera: this.#toggle("camera"), microphone: this.#toggle("microphone") };
    this.choices = { camera: this.#choice("camera"), microphone: this.#choice("microphone") };
    this.element = el(
      "section",
      { class: "preview", label: "preview" },
      el(
        "div",
        { class: "preview-picture" },
        this.video,
        this.off,
        el("div", { class: "preview-buttons" }, this.toggles.microphone, this.toggles.camera),
      ),
      this.level,
      this.trouble,
      el(
        "div",
        { class: "two" },
        field({ id: "camera-choice", t: "camera_choice", input: this.choices.camera }),
        field({ id: "microphone-choice", t: "microphone_choice", input: this.choices.microphone }),
      ),
    );
    onLanguage(() => this.#draw());
    this.#draw();
  }

  /** Asks for both devices together, so that the browser asks once; for each alone where that cannot be. */
  async open() {
    try {
      const { camera, microphone } = await openBoth(recall("camera"), recall("microphone"));
      this.#keep("camera", camera);
      this.#keep("microphone", microphone);
    } catch (error) {
      const trouble = troubleOf(error);
      for (const device of DEVICES) {
        // After a refusal only what is allowed anyway is tried: asking again at once would be rude.
        const worthTrying = trouble !== "insecure" && (trouble !== "refused" || (await alreadyAllowed(device)));
        if (worthTrying) await this.#open(device);
        else this.troubles.set(device, trouble);
      }
    }
    await this.#fillChoices();
    this.#draw();
  }

  /**
   * Hands the tracks over; the preview ends.
   *
   * @returns {Map<Source, MediaStreamTrack>}
   */
  take() {
    const taken = new Map(this.tracks);
    this.tracks.clear();
    this.video.srcObject = null;
    this.#listen(undefined);
    return taken;
  }

  /** @param {Device} device */
  async #open(device) {
    try {
      const open = device === "camera" ? openCamera : openMicrophone;
      this.#keep(device, await open(recall(device)));
    } catch (error) {
      this.troubles.set(device, troubleOf(error));
    }
    await this.#fillChoices();
    this.#draw();
  }

  /**
   * @param {Device} device
   * @param {MediaStreamTrack} track
   */
  #keep(device, track) {
    this.tracks.get(device)?.stop();
    this.tracks.set(device, track);
    this.troubles.delete(device);
    track.onended = () => this.#close(device);
  }

  /** @param {Device} device */
  #close(device) {
    this.tracks.get(device)?.stop();
    this.tracks.delete(device);
    this.#draw();
  }

  /**
   * @param {Device} device
   * @returns {HTMLButtonElement}
   */
  #toggle(device) {
    return el("button", {
      class: "round-button",
      testid: `preview-${device}`,
      attrs: { type: "button" },
      on: { click: () => void (this.tracks.has(device) ? this.#close(device) : this.#open(device)) },
    });
  }

  /**
   * @param {Device} device
   * @returns {HTMLSelectElement}
   */
  #choice(device) {
    const select = el("select", { testid: `${device}-choice` });
    select.addEventListener("change", () => {
      remember(device, select.value);
      this.#close(device);
      void this.#open(device);
    });
    return select;
  }

  async #fillChoices() {
    const { cameras, microphones } = await listDevices();
    this.#fill("camera", cameras);
    this.#fill("microphone", microphones);
  }

  /**
   * @param {Device} device
   * @param {MediaDeviceInfo[]} found
   */
  #fill(device, found) {
    const select = this.choices[device];
    const inUse = this.tracks.get(device)?.getSettings().deviceId ?? recall(device);
    const options = found.map((each, index) =>
      el("option", { text: each.label || `${t(device)} ${index + 1}`, attrs: { value: each.deviceId, selected: each.deviceId === inUse } }),
    );
    if (options.length === 0) options.push(el("option", { t: device === "camera" ? "no_camera" : "no_microphone" }));
    select.replaceChildren(...options);
    select.disabled = found.length === 0;
  }

  #draw() {
    const camera = this.tracks.get("camera");
    const shown = this.video.srcObject instanceof MediaStream ? this.video.srcObject.getVideoTracks()[0] : undefined;
    if (camera !== shown) this.video.srcObject = camera ? new MediaStream([camera]) : null;
    this.video.hidden = !camera;
    this.off.hidden = Boolean(camera);
    for (const device of DEVICES) {
      const on = this.tracks.has(device);
      const toggle = this.toggles[device];
      toggle.setAttribute("aria-pressed", String(on));
      mark(toggle, "aria-label", on ? `turn_${device}_off` : `turn_${device}_on`);
      mark(toggle, "title", on ? `turn_${device}_off` : `turn_${device}_on`);
      setIcon(toggle, on ? device : `${device}_off`);
    }
    this.#drawTrouble();
    this.#listen(this.tracks.get("microphone"));
  }

  #drawTrouble() {
    const camera = this.troubles.get("camera");
    const microphone = this.troubles.get("microphone");
    const trouble = camera ?? microphone;
    this.trouble.replaceChildren();
    if (!trouble) return;
    const device = camera === microphone ? "device_both" : camera ? "device_camera" : "device_microphone";
    const sentence = el("p");
    say(sentence, `trouble_${trouble}`, { device: t(device) });
    const again = devicesAvailable() ? button({ t: "try_again", testid: "try-devices-again", click: () => void this.open() }) : null;
    const box = notice({ look: "warning", testid: `trouble-${trouble}` }, sentence);
    if (again) box.querySelector(".notice-text")?.append(again);
    this.trouble.append(box);
  }

  /** @param {MediaStreamTrack | undefined} track */
  #listen(track) {
    if (track === this.listening) return;
    this.listening = track;
    void this.meter?.close();
    this.meter = undefined;
    this.level.value = 0;
    if (!track) return;
    const meter = new AudioContext();
    this.meter = meter;
    const analyser = meter.createAnalyser();
    analyser.fftSize = 512;
    meter.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const draw = () => {
      if (this.meter !== meter || meter.state === "closed") return;
      analyser.getFloatTimeDomainData(samples);
      const loudness = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      // A square root spreads the quiet half of the scale, where speech lies.
      this.level.value = Math.min(1, Math.sqrt(loudness * 2));
      requestAnimationFrame(draw);
    };
    draw();
    // Browsers keep sound switched off until the person touched the page.
    addEventListener("pointerdown", () => void meter.resume().catch(() => undefined), { once: true });
  }
}

/**
 * @param {unknown} error
 * @returns {DeviceTrouble}
 */
function troubleOf(error) {
  return error instanceof DeviceError ? error.trouble : "failed";
}
