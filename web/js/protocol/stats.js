// Turns the browser's statistics into the few numbers the pages and the tests look at.

/** @import { Source, SlotInfo } from "./messages.js" */
/** @import { Connection } from "./connection.js" */

/**
 * One encoding of a source that is sent in several.
 *
 * @typedef {object} LayerStats
 * @property {string} rid
 * @property {boolean} active whether it is switched on
 * @property {number} bytes_sent
 * @property {number} frames_sent
 * @property {number} frame_width
 * @property {number} frame_height
 */

/**
 * All encodings together.
 *
 * @typedef {object} SourceStats
 * @property {number} bytes_sent
 * @property {number} packets_sent
 * @property {number} frames_sent 0 for sound
 * @property {number} key_frames_sent
 * @property {number} nacks_received
 * @property {number} lost_share 0 to 1, as the server reports it; of the worst encoding
 * @property {LayerStats[]} layers empty for a source that is sent once
 */

/**
 * @typedef {object} SlotStats
 * @property {string} mid
 * @property {"video" | "audio"} kind
 * @property {string | null} participant
 * @property {Source | null} source
 * @property {number} bytes_received
 * @property {number} packets_received
 * @property {number} packets_lost
 * @property {number} frames_decoded
 * @property {number} key_frames_decoded
 * @property {number} freezes
 * @property {number} frame_width
 * @property {number} frame_height
 * @property {number} audio_level 0 to 1, at the moment
 * @property {number} audio_energy grows while something is heard
 * @property {number} nacks_sent
 */

/**
 * @typedef {object} StatsSummary
 * @property {number} connection
 * @property {RTCPeerConnectionState} state
 * @property {number | null} round_trip_ms
 * @property {Partial<Record<Source, SourceStats>>} sources
 * @property {SlotStats[]} slots
 */

/**
 * @param {Connection} connection
 * @param {ReadonlyMap<string, SlotInfo>} slots what each slot carries
 * @returns {Promise<StatsSummary>}
 */
export async function summarise(connection, slots) {
  const report = await connection.peer.getStats();
  /** @type {StatsSummary} */
  const summary = {
    connection: connection.number,
    state: connection.peer.connectionState,
    round_trip_ms: null,
    sources: {},
    slots: [],
  };
  const sourceByMid = new Map([...connection.senders].map(([source, transceiver]) => [transceiver.mid, source]));
  for (const entry of report.values()) {
    if (entry.type === "candidate-pair" && entry.nominated && entry.currentRoundTripTime !== undefined) {
      summary.round_trip_ms = Math.round(entry.currentRoundTripTime * 1000);
    } else if (entry.type === "outbound-rtp") {
      const source = sourceByMid.get(entry.mid);
      if (source) summary.sources[source] = added(summary.sources[source], entry, report);
    } else if (entry.type === "inbound-rtp" && connection.receivers.has(entry.mid)) {
      summary.slots.push(slotStats(entry, slots.get(entry.mid)));
    }
  }
  summary.slots.sort((a, b) => Number(a.mid) - Number(b.mid));
  return summary;
}

/**
 * @param {SourceStats | undefined} sum of the encodings before
 * @param {any} entry an `outbound-rtp`
 * @param {RTCStatsReport} report
 * @returns {SourceStats}
 */
function added(sum, entry, report) {
  const remote = /** @type {any} */ (entry.remoteId ? report.get(entry.remoteId) : undefined);
  return {
    bytes_sent: (sum?.bytes_sent ?? 0) + (entry.bytesSent ?? 0),
    packets_sent: (sum?.packets_sent ?? 0) + (entry.packetsSent ?? 0),
    frames_sent: (sum?.frames_sent ?? 0) + (entry.framesSent ?? 0),
    key_frames_sent: (sum?.key_frames_sent ?? 0) + (entry.keyFramesEncoded ?? 0),
    nacks_received: (sum?.nacks_received ?? 0) + (entry.nackCount ?? 0),
    lost_share: Math.max(sum?.lost_share ?? 0, remote?.fractionLost ?? 0),
    layers: [...(sum?.layers ?? []), ...(entry.rid ? [layerStats(entry)] : [])],
  };
}

/**
 * @param {any} entry an `outbound-rtp`
 * @returns {LayerStats}
 */
function layerStats(entry) {
  return {
    rid: entry.rid,
    active: entry.active ?? true,
    bytes_sent: entry.bytesSent ?? 0,
    frames_sent: entry.framesSent ?? 0,
    frame_width: entry.frameWidth ?? 0,
    frame_height: entry.frameHeight ?? 0,
  };
}

/**
 * @param {any} entry an `inbound-rtp`
 * @param {SlotInfo | undefined} slot
 * @returns {SlotStats}
 */
function slotStats(entry, slot) {
  return {
    mid: entry.mid,
    kind: entry.kind,
    participant: slot?.participant ?? null,
    source: slot?.source ?? null,
    bytes_received: entry.bytesReceived ?? 0,
    packets_received: entry.packetsReceived ?? 0,
    packets_lost: Math.max(0, entry.packetsLost ?? 0),
    frames_decoded: entry.framesDecoded ?? 0,
    key_frames_decoded: entry.keyFramesDecoded ?? 0,
    freezes: entry.freezeCount ?? 0,
    frame_width: entry.frameWidth ?? 0,
    frame_height: entry.frameHeight ?? 0,
    audio_level: entry.audioLevel ?? 0,
    audio_energy: entry.totalAudioEnergy ?? 0,
    nacks_sent: entry.nackCount ?? 0,
  };
}
