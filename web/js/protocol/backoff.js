// How long to wait before the next attempt to reach the server; pure.

/** First wait in milliseconds; each further one doubles. */
const FIRST_MS = 400;
/** No wait is longer, in milliseconds: a class that was cut off wants back. */
const LONGEST_MS = 8_000;

/**
 * Exponential with equal jitter, so that thirty browsers do not come back in the same instant.
 *
 * @param {number} attempt 0 for the first
 * @param {number} random from 0 to 1
 * @returns {number} milliseconds
 */
export function delayMs(attempt, random) {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 20));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}

/**
 * The server named the time itself; spread the class over half as much again.
 *
 * @param {number} retryAfterMs
 * @param {number} random from 0 to 1
 * @returns {number} milliseconds
 */
export function politeDelayMs(retryAfterMs, random) {
  return Math.round(retryAfterMs * (1 + random / 2));
}
