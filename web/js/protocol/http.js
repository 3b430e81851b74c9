// The HTTP API of `/api/v1`, as far as the pages use it.

/** @import { RoomKind, RoomSummary } from "./messages.js" */

/** An answer that is no success, or no answer at all (`code` is `unreachable`). */
export class ApiError extends Error {
  /**
   * @param {string} code stable word of the server
   * @param {string} message for people
   * @param {number} status HTTP status, 0 without an answer
   */
  constructor(code, message, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/**
 * @typedef {object} CreateRoom
 * @property {string} title
 * @property {string} name nickname of the host
 * @property {string} [number] chosen by the server when absent
 * @property {RoomKind} kind
 * @property {boolean} listed
 */

/** @typedef {{room: RoomSummary, host_token: string, links: Record<string, string>}} CreatedRoom */

/** @typedef {"recording" | "finishing" | "finished" | "recovered" | "truncated"} RecordingState */

/**
 * @typedef {object} RecordingInfo
 * @property {string} id
 * @property {string} name of the participant
 * @property {"camera" | "screen"} kind
 * @property {string} file_name
 * @property {RecordingState} state
 * @property {number | null} size_bytes
 * @property {number | null} duration_ms
 * @property {string} href
 */

/**
 * @typedef {object} LessonInfo
 * @property {string} id
 * @property {string} folder `YYYYMMDD_HHMMSS`
 * @property {string} started_at
 * @property {string | null} ended_at
 * @property {RecordingInfo[]} recordings
 */

/** @typedef {{room: {number: string, title: string}, lessons: LessonInfo[]}} Recordings */

export const api = {
  /** @returns {Promise<RoomSummary[]>} */
  async listRooms() {
    return (await get("/rooms")).rooms;
  },

  /**
   * @param {string} number
   * @returns {Promise<RoomSummary>}
   */
  async room(number) {
    return (await get(`/rooms/${encodeURIComponent(number)}`)).room;
  },

  /**
   * The answer's cookie makes this browser the host.
   *
   * @param {CreateRoom} room
   * @returns {Promise<CreatedRoom>}
   */
  createRoom(room) {
    return post("/rooms", room);
  },

  /**
   * Exchanges the token of a host link for the cookie.
   *
   * @param {string} number
   * @param {string} token
   */
  async becomeHost(number, token) {
    await post(`/rooms/${encodeURIComponent(number)}/host`, {}, { Authorization: `Bearer ${token}` });
  },

  /**
   * Ends the lesson; without `keepRecordings` its files are put aside for 24 hours and then erased.
   *
   * @param {string} number
   * @param {boolean} keepRecordings
   */
  async closeRoom(number, keepRecordings) {
    await post(`/rooms/${encodeURIComponent(number)}/close`, { keep_recordings: keepRecordings });
  },

  /**
   * @param {string} number
   * @returns {Promise<Recordings>}
   */
  recordings(number) {
    return get(`/rooms/${encodeURIComponent(number)}/recordings`);
  },
};

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
function get(path) {
  return ask(path, {});
}

/**
 * @param {string} path
 * @param {object} body
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 */
function post(path, body, headers = {}) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Seodang": "1", ...headers },
    body: JSON.stringify(body),
  });
}

/**
 * @param {string} path
 * @param {RequestInit} request
 * @returns {Promise<any>}
 */
async function ask(path, request) {
  let response;
  try {
    response = await fetch(`/api/v1${path}`, { ...request, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new ApiError("unreachable", "the server does not answer", 0);
  }
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  const error = body?.error ?? body;
  throw new ApiError(error?.code ?? "internal", error?.message ?? response.statusText, response.status);
}
