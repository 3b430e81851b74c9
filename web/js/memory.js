// What this browser remembers: the person's name and key, devices, language, and the seat of this tab.
// Storage may be switched off; then everything works and nothing is remembered.

/** @import { Consents } from "./protocol/messages.js" */

/**
 * A seat this tab holds, so that a reload takes it again without asking.
 *
 * @typedef {object} Seat
 * @property {string} name
 * @property {string} resume
 * @property {number} connection number of the last media connection
 * @property {Consents} consents
 * @property {boolean} camera was on
 * @property {boolean} microphone was on
 */

/** @typedef {"name" | "person" | "camera" | "microphone" | "language"} Remembered */

/**
 * @param {Remembered} key
 * @returns {string | null}
 */
export function recall(key) {
  return quietly(() => localStorage.getItem(`seodang.${key}`));
}

/**
 * @param {Remembered} key
 * @param {string} value
 */
export function remember(key, value) {
  quietly(() => localStorage.setItem(`seodang.${key}`, value));
}

/**
 * @param {string} number
 * @returns {Seat | null}
 */
export function recallSeat(number) {
  const text = quietly(() => sessionStorage.getItem(seatKey(number)));
  return text ? quietly(() => JSON.parse(text)) : null;
}

/**
 * @param {string} number
 * @param {Seat} seat
 */
export function rememberSeat(number, seat) {
  quietly(() => sessionStorage.setItem(seatKey(number), JSON.stringify(seat)));
}

/** @param {string} number */
export function forgetSeat(number) {
  quietly(() => sessionStorage.removeItem(seatKey(number)));
}

/**
 * @param {string} number
 * @returns {string}
 */
function seatKey(number) {
  return `seodang.seat.${number}`;
}

/**
 * @template T
 * @param {() => T} action
 * @returns {T | null}
 */
function quietly(action) {
  try {
    return action();
  } catch {
    return null;
  }
}
