//! The WebSocket messages, version 1. `docs/protocol.md` is their contract; change both in one commit.
//!
//! Every message is a JSON object with a `type`. Unknown fields are ignored, so that either side can be the
//! newer one; an unknown `type` is answered with the error `unknown_type`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{DisplayName, ParticipantId, Rights, Role, RoomKind, RoomNumber, RoomTitle, Source, Token};

/// The one protocol version this program speaks.
pub const VERSION: u32 = 1;

/// Longest accepted WebSocket message in bytes; a full browser offer has about 25 kB.
pub const MOST_MESSAGE_BYTES: usize = 64 * 1024;

/// Longest chat text in characters.
pub const MOST_CHAT_CHARACTERS: usize = 2_000;

/// Video slots a page offers: six of a page of tiles, the spotlight, two screens.
pub const VIDEO_SLOTS: usize = 9;

/// Audio slots a page offers: five voices and the sound of a screen.
pub const AUDIO_SLOTS: usize = 6;

/// What a participant's program sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// First message of every socket.
    Hello {
        /// Must be [`VERSION`].
        version: u32,
    },
    /// Takes a seat in a room's lesson, or the earlier seat again.
    JoinRoom(JoinRoom),
    /// The one offer of a connection, or its ICE restart.
    Offer(Offer),
    /// A source begins to send.
    Publish {
        /// Which one.
        source: Source,
    },
    /// A source stops ("camera off").
    Unpublish {
        /// Which one.
        source: Source,
    },
    /// What each video slot shall show.
    View {
        /// Counted up by the sender; echoed in `slots`.
        generation: u32,
        /// Slots not named keep nothing.
        slots: Vec<ViewSlot>,
    },
    /// A line of chat.
    Chat {
        /// At most [`MOST_CHAT_CHARACTERS`] characters.
        text: String,
        /// Chosen by the sender, echoed to it alone: the acknowledgement. At most 64 bytes.
        nonce: String,
    },
    /// Changes the answers given on joining.
    Consent(Consents),
    /// A host gives or takes rights.
    SetRights {
        /// Whose.
        participant: ParticipantId,
        /// All of them, as they shall be.
        rights: Rights,
    },
    /// Leaves for good, or until the seat is resumed.
    Leave,
    /// Answered by `pong`; for programs that cannot see WebSocket pings.
    Ping,
}

impl ClientMessage {
    /// The `type` of every message a participant may send.
    pub const TYPES: [&'static str; 11] = [
        "hello",
        "join_room",
        "offer",
        "publish",
        "unpublish",
        "view",
        "chat",
        "consent",
        "set_rights",
        "leave",
        "ping",
    ];

    /// The message's `type`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::JoinRoom(_) => "join_room",
            Self::Offer(_) => "offer",
            Self::Publish { .. } => "publish",
            Self::Unpublish { .. } => "unpublish",
            Self::View { .. } => "view",
            Self::Chat { .. } => "chat",
            Self::Consent(_) => "consent",
            Self::SetRights { .. } => "set_rights",
            Self::Leave => "leave",
            Self::Ping => "ping",
        }
    }
}

/// The fields of `join_room`. A role claimed here has no effect: rights come from the host token alone,
/// which travels as a cookie or a bearer of the WebSocket's own HTTP request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinRoom {
    /// The room's number as typed.
    pub room: String,
    /// The display name as typed.
    pub name: String,
    /// What the person agrees to; a missing answer is a no.
    #[serde(default)]
    pub consents: Consents,
    /// The seat token of an earlier `room_info`, to take the same seat again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Token>,
    /// The person key this program keeps, so that a person is the same one in the next lesson.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Token>,
}

/// Answers for the two purposes that make files; the default is no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consents {
    /// May be recorded.
    #[serde(default)]
    pub recording: bool,
    /// May be in captures.
    #[serde(default)]
    pub captures: bool,
}

impl Consents {
    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            recording: self.recording && other.recording,
            captures: self.captures && other.captures,
        }
    }
}

/// The fields of `offer`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Counted up by the sender with every new peer connection; echoed in `answer`.
    pub connection: u32,
    /// The session description, with all candidates or none.
    pub sdp: String,
    /// Which sending media line carries which source, by mid.
    pub sources: BTreeMap<String, Source>,
    /// The mids of the receiving media lines, in the order in which the server shall fill them.
    pub slots: Vec<String>,
    /// Whether `connection` is alive and gets new ICE credentials: an ICE restart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
    /// Which slot for sound goes with which slot for pictures, by mid: who is seen in the one is heard in the other, and
    /// both share an msid, so that lips and voice are played in time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lips: BTreeMap<String, String>,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer")
            .field("connection", &self.connection)
            .field("sdp_bytes", &self.sdp.len())
            .finish()
    }
}

/// What one video slot shall show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewSlot {
    /// The slot.
    pub mid: String,
    /// Whose picture.
    pub participant: ParticipantId,
    /// `camera` or `screen`.
    pub source: Source,
    /// Width of the tile in CSS pixels.
    #[serde(default)]
    pub width: u16,
    /// Height of the tile in CSS pixels.
    #[serde(default)]
    pub height: u16,
}

/// What the server sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answers `hello`.
    Welcome {
        /// The version both sides speak.
        version: u32,
        /// The server's clock.
        #[serde(with = "time::serde::rfc3339")]
        server_time: OffsetDateTime,
        /// Silence of the server after which the socket is dead, in milliseconds.
        silence_ms: u64,
    },
    /// Answers `join_room`.
    RoomInfo(RoomInfo),
    /// Everyone else in the lesson, sent once after `room_info`.
    AllUsers {
        /// Without the one it is sent to.
        users: Vec<UserInfo>,
    },
    /// Somebody came.
    UserEnter {
        /// Who.
        user: UserInfo,
    },
    /// Somebody left.
    UserExit {
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: ExitReason,
    },
    /// Somebody's publications, rights, role or states changed.
    UserUpdate {
        /// As it is after the change.
        user: UserInfo,
    },
    /// Answers `offer`.
    Answer {
        /// Of the offer.
        connection: u32,
        /// The answer.
        sdp: String,
    },
    /// What the slots carry; sent whenever that changes.
    Slots {
        /// The newest `view` that is in effect.
        generation: u32,
        /// All slots of the connection, video and audio.
        slots: Vec<SlotInfo>,
    },
    /// Which encodings of a source to send; only of one that was offered with several.
    Layers {
        /// The source.
        source: Source,
        /// The encodings to send, by name; the others are to be switched off.
        rids: Vec<String>,
    },
    /// One line of chat, to everyone including its author.
    Chat(ChatLine),
    /// The lesson's lines so far (a host: the room's), oldest first; several messages when there are many.
    ChatHistory {
        /// The lines.
        messages: Vec<ChatLine>,
        /// Whether the history is complete with this message.
        complete: bool,
    },
    /// What is being kept; sent on joining and whenever it changes.
    RecordingState {
        /// Of the one it is sent to.
        you: Consents,
        /// Of anybody in the class.
        room: Consents,
    },
    /// The media connection is gone: make another one and offer.
    Reoffer {
        /// Why, for people who read logs.
        reason: String,
    },
    /// Fresh credentials in place of those of `room_info`; the connection goes on.
    IceServers {
        /// Relays for browsers behind a firewall.
        ice_servers: Vec<IceServer>,
    },
    /// The lesson, the seat or the server ends; the socket closes after this.
    Closing {
        /// Why.
        reason: ClosingReason,
        /// When it makes sense to come back, in milliseconds; absent when it does not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// Something could not be done.
    Error(ErrorInfo),
    /// Answers `ping`.
    Pong,
}

/// The fields of `room_info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoomInfo {
    /// The room.
    pub room: RoomSummary,
    /// When the lesson began.
    #[serde(with = "time::serde::rfc3339")]
    pub lesson_started_at: OffsetDateTime,
    /// The one it is sent to; the name may have got a number to tell namesakes apart.
    pub you: UserInfo,
    /// Takes this seat again until the lesson ends.
    pub resume: Token,
    /// Names this person in later lessons.
    pub person: Token,
    /// Whether an earlier seat was taken again.
    pub resumed: bool,
    /// Seconds between captures; absent when captures are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_period_s: Option<u32>,
    /// Relays for browsers behind a firewall; absent when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ice_servers: Vec<IceServer>,
}

/// A TURN server with a credential for one participant, in the shape browsers take.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `turn:` and `turns:` addresses.
    pub urls: Vec<String>,
    /// Until when it is good (Unix time in seconds), a colon, and whose it is.
    pub username: String,
    /// The password.
    pub credential: String,
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

/// What everyone may know of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSummary {
    /// Its number.
    pub number: RoomNumber,
    /// Its title.
    pub title: RoomTitle,
    /// How it meets.
    pub kind: RoomKind,
    /// Most participants at a time.
    pub capacity: u32,
    /// Participants at the moment.
    pub participants: u32,
    /// Whether a lesson is going on.
    pub open: bool,
}

/// What everyone in a lesson knows of a participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// Who.
    pub participant: ParticipantId,
    /// Shown name, unique in the lesson.
    pub name: DisplayName,
    /// Role.
    pub role: Role,
    /// Rights.
    pub rights: Rights,
    /// What is being sent.
    pub publications: Vec<Source>,
    /// The three states; `signaling` alone is sent to students.
    pub states: States,
    /// What is kept of the participant; sent to that participant and to hosts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consents: Option<Consents>,
}

/// Signaling, ICE and media of one participant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    /// The WebSocket.
    pub signaling: SignalingState,
    /// The path of the datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice: Option<IceState>,
    /// The media.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaState>,
}

/// State of a participant's WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalingState {
    /// Open.
    #[default]
    Connected,
    /// Lost; the seat is kept for the grace time.
    Lost,
}

/// State of a participant's media path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IceState {
    /// No offer yet, or no valid check yet.
    #[default]
    New,
    /// A pair is in use.
    Connected,
    /// Silent for longer than the limit.
    Lost,
}

/// State of a participant's media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaState {
    /// No keys yet.
    #[default]
    New,
    /// Keys are agreed; packets may flow.
    Ready,
    /// A publication is announced but no packet comes.
    Stalled,
}

/// What one slot carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotInfo {
    /// The slot.
    pub mid: String,
    /// Whose publication feeds it; `null` when nothing does.
    pub participant: Option<ParticipantId>,
    /// Which of theirs; `null` when nothing does.
    pub source: Option<Source>,
    /// Nothing of it is sent for now, because the way to the participant does not carry it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// One line of chat.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatLine {
    /// Position in the order everyone sees.
    pub id: i64,
    /// Its author.
    pub participant: ParticipantId,
    /// The author's name at that time.
    pub name: DisplayName,
    /// The text, to be shown as text and nothing else.
    pub text: String,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub sent_at: OffsetDateTime,
    /// The author's nonce, to the author only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

impl std::fmt::Debug for ChatLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatLine")
            .field("id", &self.id)
            .field("participant", &self.participant)
            .finish_non_exhaustive()
    }
}

/// Why somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// Said so, or closed the page.
    Left,
    /// Vanished, and the grace time is over.
    Lost,
}

/// Why a socket is being closed by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosingReason {
    /// A host closed the room.
    LessonEnded,
    /// Nobody was there to host for too long.
    HostMissing,
    /// The same seat was taken by another socket.
    Replaced,
    /// The server restarts; come back.
    ServerRestart,
    /// The socket did not read fast enough; come back.
    TooSlow,
    /// Too many wrong or too many messages.
    Misbehaved,
}

impl ClosingReason {
    /// WebSocket close code (RFC 6455 section 7.4; 4000 and up are ours).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::LessonEnded | Self::HostMissing => 4000,
            Self::Replaced => 4001,
            Self::TooSlow => 4002,
            Self::Misbehaved => 4003,
            Self::ServerRestart => 1012,
        }
    }
}

/// An error, on the WebSocket and in HTTP bodies alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// Stable word for programs.
    pub code: ErrorCode,
    /// A sentence for people.
    pub message: String,
    /// The `type` of the message it answers, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The nonce of the chat line it answers, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal;)*) => {
        /// Every error code, documented in `docs/protocol.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {$(
            $(#[$doc])*
            #[serde(rename = $word)]
            $name,
        )*}

        impl ErrorCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }
        }
    };
}

error_codes! {
    /// The body or message is no JSON object of a known shape.
    BadMessage = "bad_message", 400;
    /// A name or title is empty, too long, or holds invisible characters.
    BadName = "bad_name", 400;
    /// A room number has other characters than `a-z`, `0-9` and `-`.
    BadNumber = "bad_number", 400;
    /// A chat text is empty or too long.
    BadText = "bad_text", 400;
    /// The message's type is not known.
    UnknownType = "unknown_type", 400;
    /// The protocol version is not spoken here.
    UnsupportedVersion = "unsupported_version", 400;
    /// The message makes no sense before `hello` and `join_room`, or twice.
    BadState = "bad_state", 400;
    /// The offer cannot be answered; the message names the line.
    BadOffer = "bad_offer", 400;
    /// The offer holds an `m=application` line.
    NoDatachannel = "no_datachannel", 400;
    /// The view names a slot or a source that does not exist.
    BadView = "bad_view", 400;
    /// The right for this is missing.
    Forbidden = "forbidden", 403;
    /// The request comes from another site.
    BadOrigin = "bad_origin", 403;
    /// A host token is needed, and none or a wrong one came.
    Unauthorized = "unauthorized", 401;
    /// No room has this number.
    UnknownRoom = "unknown_room", 404;
    /// Nobody with this id is in the lesson.
    UnknownParticipant = "unknown_participant", 404;
    /// There is nothing at this address.
    NotFound = "not_found", 404;
    /// The number is taken, or was once.
    NumberTaken = "number_taken", 409;
    /// The file is still being written.
    StillRecording = "still_recording", 409;
    /// No lesson is going on.
    NoLesson = "no_lesson", 409;
    /// The room has no free seat.
    Full = "full", 409;
    /// The body is larger than allowed.
    TooLarge = "too_large", 413;
    /// The range lies outside the file.
    BadRange = "bad_range", 416;
    /// Too many requests; wait.
    SlowDown = "slow_down", 429;
    /// A fault on our side; nothing was done.
    Internal = "internal", 500;
    /// The server is stopping or cannot do this now.
    Unavailable = "unavailable", 503;
}

/// Why a text is no [`ClientMessage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseMessageError {
    /// No JSON object with a text `type`, or a known type with wrong fields.
    #[error("{0}")]
    Malformed(String),
    /// A type this program does not know.
    #[error("unknown message type")]
    UnknownType(String),
}

impl ClientMessage {
    /// Reads one message.
    ///
    /// # Errors
    /// When it is malformed or its type is unknown.
    pub fn parse(text: &str) -> Result<Self, ParseMessageError> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(rename = "type")]
            kind: String,
        }
        let Envelope { kind } =
            serde_json::from_str(text).map_err(|error| ParseMessageError::Malformed(describe(&error)))?;
        if !Self::TYPES.contains(&kind.as_str()) {
            return Err(ParseMessageError::UnknownType(kind));
        }
        serde_json::from_str(text).map_err(|error| ParseMessageError::Malformed(describe(&error)))
    }
}

/// What was wrong without a word of the message itself: it may hold a name or a text.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field is missing or of the wrong kind",
        _ => "not a JSON object with a type",
    };
    format!("{what} (column {})", error.column())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_type_is_listed_and_unknown_ones_are_told_apart() {
        assert_eq!(
            ClientMessage::parse(r#"{"type":"ping","later":1}"#),
            Ok(ClientMessage::Ping)
        );
        assert_eq!(
            ClientMessage::parse(r#"{"type":"dance"}"#),
            Err(ParseMessageError::UnknownType("dance".to_owned()))
        );
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"publish"}"#,
            r#"{"type":"publish","source":"x"}"#,
        ] {
            assert!(
                matches!(ClientMessage::parse(text), Err(ParseMessageError::Malformed(_))),
                "{text}"
            );
        }
        for kind in ClientMessage::TYPES {
            let answer = ClientMessage::parse(&format!(r#"{{"type":"{kind}"}}"#));
            assert!(
                !matches!(answer, Err(ParseMessageError::UnknownType(_))),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_missing_consent_is_a_no_and_a_claimed_role_has_no_place() {
        let text =
            r#"{"type":"join_room","room":"7b","name":"민수","role":"host","consents":{"captures":true}}"#;
        let Ok(ClientMessage::JoinRoom(join)) = ClientMessage::parse(text) else {
            panic!("a join")
        };
        assert_eq!(
            join.consents,
            Consents {
                recording: false,
                captures: true
            }
        );
        assert!(!serde_json::to_string(&join).expect("json").contains("role"));
    }

    #[test]
    fn deeply_nested_json_is_refused() {
        let text = format!(r#"{{"type":"chat","text":{}"#, "[".repeat(10_000));
        assert!(matches!(
            ClientMessage::parse(&text),
            Err(ParseMessageError::Malformed(_))
        ));
    }

    #[test]
    fn errors_never_repeat_what_was_sent() {
        let secret = r#"{"type":"join_room","room":"7b","name":{"민수":1}}"#;
        let Err(error) = ClientMessage::parse(secret) else {
            panic!("refused")
        };
        assert!(!error.to_string().contains("민수"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = ClientMessage::parse(&text);
        }
    }
}
