// The media connection: one RTCPeerConnection, one offer, and slots that the server feeds.

import { withOpusNack, withoutTcp } from "./sdp.js";

/** @import { OfferMessage, Source } from "./messages.js" */

/** Video slots for a page of tiles. */
export const PAGE_SLOTS = 6;
/** Video slots for shared screens. */
export const SCREEN_SLOTS = 2;
/** Audio slots: five voices and the sound of a screen. */
const AUDIO_SLOTS = 6;

/**
 * The camera for small tiles and for large ones, from the smallest to the largest. The server says by `layers` which of them
 * anybody needs. Two, because Chromium sends no more of a picture below 960x540, and would leave out the largest.
 *
 * @type {RTCRtpEncodingParameters[]}
 */
const CAMERA_LAYERS = [
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 300_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_200_000 },
];

/** Candidates over TCP are tried when no other path is found this long after the answer, in milliseconds. */
const TCP_AFTER_MS = 1_500;

/**
 * Sending lines in the order of the offer, with the most bits per second each may take; voice keeps the browser's own choice.
 *
 * @type {{source: Source, kind: "audio" | "video", sendEncodings?: RTCRtpEncodingParameters[]}[]}
 */
const SENDING = [
  { source: "camera", kind: "video", sendEncodings: CAMERA_LAYERS },
  { source: "microphone", kind: "audio" },
  { source: "screen", kind: "video", sendEncodings: [{ maxBitrate: 2_500_000 }] },
  { source: "screen_audio", kind: "audio", sendEncodings: [{ maxBitrate: 96_000 }] },
];

/**
 * Which receiving line is for what, by mid.
 *
 * @typedef {object} SlotMids
 * @property {string[]} page
 * @property {string} spotlight
 * @property {string[]} screens
 * @property {string[]} audio
 */

/**
 * One connection for life. Sources are put in and taken out with `replace`; nothing but its path is ever negotiated again.
 */
export class Connection {
  /**
   * @param {number} number counted up with every connection of a seat
   * @param {RTCIceServer[]} iceServers relays that may be used
   * @param {(state: RTCPeerConnectionState) => void} onState
   */
  constructor(number, iceServers, onState) {
    this.number = number;
    const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers });
    this.peer = peer;
    /** @type {Map<Source, RTCRtpTransceiver>} */
    this.senders = new Map();
    /** @type {Map<string, RTCRtpTransceiver>} by mid, once offered */
    this.receivers = new Map();
    /** @type {SlotMids} */
    this.slots = { page: [], spotlight: "", screens: [], audio: [] };
    /** Changes of what is sent, one after the other: each begins with what the one before left. */
    this.layering = Promise.resolve();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.tcpTimer = undefined;
    for (const { source, kind, sendEncodings } of SENDING) {
      this.senders.set(source, peer.addTransceiver(kind, { direction: "sendonly", sendEncodings }));
    }
    /** @type {RTCRtpTransceiver[]} */
    this.videoSlots = [];
    /** @type {RTCRtpTransceiver[]} */
    this.audioSlots = [];
    for (let i = 0; i < PAGE_SLOTS + 1 + SCREEN_SLOTS; i += 1) {
      this.videoSlots.push(peer.addTransceiver("video", { direction: "recvonly" }));
    }
    for (let i = 0; i < AUDIO_SLOTS; i += 1) {
      this.audioSlots.push(peer.addTransceiver("audio", { direction: "recvonly" }));
    }
    for (const transceiver of peer.getTransceivers()) preferOurCodecs(transceiver);
    peer.onconnectionstatechange = () => onState(peer.connectionState);
  }

  /**
   * Makes the first offer; call once.
   *
   * @returns {Promise<OfferMessage>}
   */
  offer() {
    return this.#offer({});
  }

  /**
   * Makes the offer of an ICE restart: another path, everything else as it is.
   *
   * @param {RTCIceServer[]} iceServers the old credentials may be good no more
   * @returns {Promise<OfferMessage>}
   */
  async restart(iceServers) {
    this.peer.setConfiguration({ ...this.peer.getConfiguration(), iceServers });
    return { ...(await this.#offer({ iceRestart: true })), restart: true };
  }

  /**
   * @param {RTCOfferOptions} options
   * @returns {Promise<OfferMessage>}
   */
  async #offer(options) {
    const offer = await this.peer.createOffer(options);
    const sdp = withOpusNack(offer.sdp ?? "");
    try {
      await this.peer.setLocalDescription({ type: "offer", sdp });
    } catch {
      // A browser that refuses a changed offer goes without retransmission of voice.
      await this.peer.setLocalDescription(offer);
    }
    /** @type {Record<string, Source>} */
    const sources = {};
    for (const [source, transceiver] of this.senders) sources[midOf(transceiver)] = source;
    for (const transceiver of [...this.videoSlots, ...this.audioSlots]) {
      this.receivers.set(midOf(transceiver), transceiver);
    }
    const video = this.videoSlots.map(midOf);
    const audio = this.audioSlots.map(midOf);
    this.slots = {
      page: video.slice(0, PAGE_SLOTS),
      spotlight: video[PAGE_SLOTS],
      screens: video.slice(PAGE_SLOTS + 1),
      audio,
    };
    return {
      type: "offer",
      connection: this.number,
      sdp: this.peer.localDescription?.sdp ?? sdp,
      sources,
      slots: [...video, ...audio],
      lips: { [this.slots.spotlight]: audio[0], [this.slots.screens[0]]: audio[AUDIO_SLOTS - 1] },
    };
  }

  /**
   * Takes the server's answer.
   *
   * @param {string} sdp
   */
  async accept(sdp) {
    if (this.peer.signalingState !== "have-local-offer") return;
    const answer = withoutTcp(sdp);
    await this.peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    clearTimeout(this.tcpTimer);
    this.tcpTimer = setTimeout(() => void this.#tryTcp(answer.overTcp), TCP_AFTER_MS);
  }

  /**
   * UDP has had its time.
   *
   * @param {string[]} candidates
   */
  async #tryTcp(candidates) {
    for (const candidate of candidates) {
      if (/connected|completed|closed/.test(this.peer.iceConnectionState)) return;
      // All lines are bundled with the first.
      await this.peer.addIceCandidate({ candidate, sdpMLineIndex: 0 }).catch(() => undefined);
    }
  }

  /**
   * Puts a track on a sending line, or takes it off.
   *
   * @param {Source} source
   * @param {MediaStreamTrack | null} track
   */
  async replace(source, track) {
    if (this.peer.signalingState === "closed") return;
    await this.senders.get(source)?.sender.replaceTrack(track);
  }

  /**
   * Sends these encodings of a source and no others.
   *
   * @param {Source} source
   * @param {string[]} rids
   * @returns {Promise<void>}
   */
  setLayers(source, rids) {
    this.layering = this.layering.then(() => this.#setLayers(source, rids)).catch(() => undefined);
    return this.layering;
  }

  /**
   * @param {Source} source
   * @param {string[]} rids
   */
  async #setLayers(source, rids) {
    const sender = this.senders.get(source)?.sender;
    if (!sender || this.peer.signalingState === "closed") return;
    const parameters = sender.getParameters();
    // A browser that sends one encoding gives it no name, and goes on.
    for (const encoding of parameters.encodings) if (encoding.rid) encoding.active = rids.includes(encoding.rid);
    await sender.setParameters(parameters);
  }

  /**
   * The track of a slot; it exists from the start and keeps its identity whatever the server feeds.
   *
   * @param {string} mid
   * @returns {MediaStreamTrack | undefined}
   */
  track(mid) {
    return this.receivers.get(mid)?.receiver.track;
  }

  /** Ends it; tracks put in stay with their owner. */
  close() {
    this.peer.onconnectionstatechange = null;
    clearTimeout(this.tcpTimer);
    this.peer.close();
  }
}

/**
 * VP8 with its retransmission, and Opus: the server speaks nothing else, and the offer shrinks by more than half.
 *
 * @param {RTCRtpTransceiver} transceiver
 */
function preferOurCodecs(transceiver) {
  const kind = transceiver.receiver.track.kind;
  const ours = kind === "video" ? ["video/vp8", "video/rtx"] : ["audio/opus"];
  const codecs = RTCRtpReceiver.getCapabilities?.(kind)?.codecs.filter((codec) => ours.includes(codec.mimeType.toLowerCase()));
  if (codecs?.length) transceiver.setCodecPreferences?.(codecs);
}

/**
 * @param {RTCRtpTransceiver} transceiver
 * @returns {string}
 */
function midOf(transceiver) {
  return transceiver.mid ?? "";
}
