// Cameras, microphones and screens of this machine, and why one cannot be had.

/** @typedef {"insecure" | "refused" | "missing" | "busy" | "failed"} DeviceTrouble */

/** A device could not be opened; `trouble` says why in a word the pages have a sentence for. */
export class DeviceError extends Error {
  /**
   * @param {DeviceTrouble} trouble
   * @param {unknown} [cause]
   */
  constructor(trouble, cause) {
    super(trouble, { cause });
    this.trouble = trouble;
  }
}

/**
 * Whether the browser gives devices to this address at all: over plain HTTP only to localhost.
 *
 * @returns {boolean}
 */
export function devicesAvailable() {
  return navigator.mediaDevices?.getUserMedia !== undefined;
}

/**
 * Whether this browser can share a screen; phones cannot.
 *
 * @returns {boolean}
 */
export function screenAvailable() {
  return navigator.mediaDevices?.getDisplayMedia !== undefined;
}

/**
 * @param {string | null} [deviceId] a remembered choice; another device is taken when it is gone
 * @returns {Promise<MediaStreamTrack>}
 */
export async function openCamera(deviceId) {
  const stream = await getUserMedia(cameraWish(deviceId));
  return stream.getVideoTracks()[0];
}

/**
 * @param {string | null} [deviceId]
 * @returns {Promise<MediaStreamTrack>}
 */
export async function openMicrophone(deviceId) {
  const stream = await getUserMedia(microphoneWish(deviceId));
  return stream.getAudioTracks()[0];
}

/**
 * Opens both with one question of the browser.
 *
 * @param {string | null} cameraId
 * @param {string | null} microphoneId
 * @returns {Promise<{camera: MediaStreamTrack, microphone: MediaStreamTrack}>}
 */
export async function openBoth(cameraId, microphoneId) {
  const stream = await getUserMedia({ ...cameraWish(cameraId), ...microphoneWish(microphoneId) });
  return { camera: stream.getVideoTracks()[0], microphone: stream.getAudioTracks()[0] };
}

/**
 * Whether the browser would open this device without asking.
 *
 * @param {"camera" | "microphone"} device
 * @returns {Promise<boolean>}
 */
export async function alreadyAllowed(device) {
  try {
    const status = await navigator.permissions.query({ name: /** @type {PermissionName} */ (device) });
    return status.state === "granted";
  } catch {
    return false;
  }
}

/**
 * Lets the person choose a screen, a window or another tab, with its sound where the browser can.
 *
 * @returns {Promise<{screen: MediaStreamTrack, sound: MediaStreamTrack | null}>}
 */
export async function openScreen() {
  if (!screenAvailable()) throw new DeviceError(devicesAvailable() ? "missing" : "insecure");
  // Members that lib.dom does not know: keep this very tab out of the choice, and offer sound.
  const wish = /** @type {DisplayMediaStreamOptions} */ ({
    video: { frameRate: { ideal: 15, max: 30 } },
    audio: true,
    selfBrowserSurface: "exclude",
    surfaceSwitching: "include",
    systemAudio: "include",
  });
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia(wish);
    const screen = stream.getVideoTracks()[0];
    screen.contentHint = "detail";
    const sound = stream.getAudioTracks()[0] ?? null;
    if (sound) sound.contentHint = "music";
    return { screen, sound };
  } catch (error) {
    throw new DeviceError(troubleOf(error), error);
  }
}

/**
 * Devices by kind; without a permission the browser gives no names.
 *
 * @returns {Promise<{cameras: MediaDeviceInfo[], microphones: MediaDeviceInfo[]}>}
 */
export async function listDevices() {
  const devices = devicesAvailable() ? await navigator.mediaDevices.enumerateDevices() : [];
  return {
    cameras: devices.filter((device) => device.kind === "videoinput" && device.deviceId),
    microphones: devices.filter((device) => device.kind === "audioinput" && device.deviceId),
  };
}

/**
 * @param {string | null} [deviceId]
 * @returns {MediaStreamConstraints}
 */
function cameraWish(deviceId) {
  return {
    video: {
      width: { ideal: 640 },
      height: { ideal: 480 },
      frameRate: { ideal: 24, max: 30 },
      ...(deviceId ? { deviceId: { ideal: deviceId } } : { facingMode: "user" }),
    },
  };
}

/**
 * @param {string | null} [deviceId]
 * @returns {MediaStreamConstraints}
 */
function microphoneWish(deviceId) {
  return {
    audio: {
      echoCancellation: true,
      noiseSuppression: true,
      autoGainControl: true,
      ...(deviceId ? { deviceId: { ideal: deviceId } } : {}),
    },
  };
}

/**
 * @param {MediaStreamConstraints} constraints
 * @returns {Promise<MediaStream>}
 */
async function getUserMedia(constraints) {
  if (!devicesAvailable()) throw new DeviceError("insecure");
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw new DeviceError(troubleOf(error), error);
  }
}

/**
 * @param {unknown} error
 * @returns {DeviceTrouble}
 */
function troubleOf(error) {
  switch (error instanceof Error ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return "refused";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "failed";
  }
}
