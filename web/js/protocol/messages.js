// The shapes of `docs/protocol.md`, for the type check only: this module holds no code.

/** @typedef {"camera" | "microphone" | "screen" | "screen_audio"} Source */
/** @typedef {"host" | "cohost" | "student"} Role */
/** @typedef {"meeting" | "seminar"} RoomKind */
/** @typedef {{may_publish: boolean, may_share_screen: boolean}} Rights */
/** @typedef {{recording: boolean, captures: boolean}} Consents */

/**
 * @typedef {object} RoomSummary
 * @property {string} number
 * @property {string} title
 * @property {RoomKind} kind
 * @property {number} capacity
 * @property {number} participants
 * @property {boolean} open
 */

/**
 * @typedef {object} States
 * @property {"connected" | "lost"} signaling
 * @property {"new" | "connected" | "lost"} [ice] hosts only
 * @property {"new" | "ready" | "stalled"} [media] hosts only
 */

/**
 * @typedef {object} UserInfo
 * @property {string} participant
 * @property {string} name
 * @property {Role} role
 * @property {Rights} rights
 * @property {Source[]} publications
 * @property {States} states
 * @property {Consents} [consents] of oneself, and of everyone for hosts
 */

/** @typedef {{mid: string, participant: string | null, source: Source | null, paused?: boolean}} SlotInfo */
/** @typedef {{mid: string, participant: string, source: Source, width: number, height: number}} ViewSlot */

/**
 * @typedef {object} ChatLine
 * @property {number} id
 * @property {string} participant
 * @property {string} name
 * @property {string} text
 * @property {string} sent_at RFC 3339
 * @property {string} [nonce] to the author only
 */

/** @typedef {{urls: string[], username: string, credential: string}} IceServer */

/**
 * @typedef {object} RoomInfo
 * @property {"room_info"} type
 * @property {RoomSummary} room
 * @property {string} lesson_started_at
 * @property {UserInfo} you
 * @property {string} resume
 * @property {string} person
 * @property {boolean} resumed
 * @property {number} [capture_period_s]
 * @property {IceServer[]} [ice_servers]
 */

/** @typedef {"lesson_ended" | "host_missing" | "replaced" | "server_restart" | "too_slow" | "misbehaved"} ClosingReason */
/** @typedef {{type: "error", code: string, message: string, reply_to?: string, nonce?: string}} ErrorMessage */
/** @typedef {{type: "closing", reason: ClosingReason, retry_after_ms?: number}} Closing */

/**
 * @typedef {{type: "welcome", version: number, server_time: string, silence_ms: number}
 *   | RoomInfo
 *   | {type: "all_users", users: UserInfo[]}
 *   | {type: "user_enter", user: UserInfo}
 *   | {type: "user_exit", participant: string, reason: "left" | "lost"}
 *   | {type: "user_update", user: UserInfo}
 *   | {type: "answer", connection: number, sdp: string}
 *   | {type: "slots", generation: number, slots: SlotInfo[]}
 *   | {type: "layers", source: Source, rids: string[]}
 *   | ({type: "chat"} & ChatLine)
 *   | {type: "chat_history", messages: ChatLine[], complete: boolean}
 *   | {type: "recording_state", you: Consents, room: Consents}
 *   | {type: "reoffer", reason: string}
 *   | {type: "ice_servers", ice_servers: IceServer[]}
 *   | Closing
 *   | ErrorMessage
 *   | {type: "pong"}} ServerMessage
 */

/**
 * @typedef {object} OfferMessage
 * @property {"offer"} type
 * @property {number} connection
 * @property {string} sdp
 * @property {Record<string, Source>} sources
 * @property {string[]} slots
 * @property {true} [restart] an ICE restart of this connection
 * @property {Record<string, string>} [lips] the slot for sound that goes with a slot for pictures
 */

/**
 * @typedef {object} JoinMessage
 * @property {"join_room"} type
 * @property {string} room
 * @property {string} name
 * @property {Consents} consents
 * @property {string} [resume]
 * @property {string} [person]
 */

/**
 * @typedef {{type: "hello", version: number}
 *   | JoinMessage
 *   | OfferMessage
 *   | {type: "publish" | "unpublish", source: Source}
 *   | {type: "view", generation: number, slots: ViewSlot[]}
 *   | {type: "chat", text: string, nonce: string}
 *   | ({type: "consent"} & Consents)
 *   | {type: "set_rights", participant: string, rights: Rights}
 *   | {type: "leave"}
 *   | {type: "ping"}} ClientMessage
 */

export {};
