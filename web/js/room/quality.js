// How good the connection is, in one of three words; pure.

/** @import { StatsSummary } from "../protocol/stats.js" */

/** @typedef {"unknown" | "good" | "fair" | "poor"} Quality */

/** A share of lost packets above this is heard, and above the second one it hurts. */
const FAIR_LOSS = 0.03;
const POOR_LOSS = 0.1;
/** A round trip above this makes people talk at the same time, in milliseconds. */
const FAIR_ROUND_TRIP_MS = 250;
const POOR_ROUND_TRIP_MS = 600;
/** Below this many packets a share says nothing. */
const LEAST_PACKETS = 20;

/**
 * Judges the time between two looks.
 *
 * @param {StatsSummary | null} before
 * @param {StatsSummary} now
 * @returns {Quality}
 */
export function judge(before, now) {
  if (now.state !== "connected") return now.state === "failed" || now.state === "disconnected" ? "poor" : "unknown";
  const sent = Object.values(now.sources).map((source) => source.lost_share);
  const loss = Math.max(receivedLoss(before, now), 0, ...sent);
  const roundTrip = now.round_trip_ms ?? 0;
  if (loss > POOR_LOSS || roundTrip > POOR_ROUND_TRIP_MS) return "poor";
  if (loss > FAIR_LOSS || roundTrip > FAIR_ROUND_TRIP_MS) return "fair";
  return "good";
}

/**
 * @param {StatsSummary | null} before
 * @param {StatsSummary} now
 * @returns {number} 0 to 1
 */
function receivedLoss(before, now) {
  if (!before || before.connection !== now.connection) return 0;
  const earlier = new Map(before.slots.map((slot) => [slot.mid, slot]));
  let received = 0;
  let lost = 0;
  for (const slot of now.slots) {
    const then = earlier.get(slot.mid);
    received += slot.packets_received - (then?.packets_received ?? 0);
    lost += Math.max(0, slot.packets_lost - (then?.packets_lost ?? 0));
  }
  return received + lost < LEAST_PACKETS ? 0 : lost / (received + lost);
}
