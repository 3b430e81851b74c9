//! Who sends what: roles, rights, room kinds, sources and publications.

use serde::{Deserialize, Serialize};

use crate::ParticipantId;

/// What a participant may send; at most one publication of each exists for a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The camera's picture.
    Camera,
    /// The microphone's sound.
    Microphone,
    /// A shared screen's picture.
    Screen,
    /// A shared screen's sound.
    ScreenAudio,
}

impl Source {
    /// Every source, in the order the pages send them.
    pub const ALL: [Self; 4] = [Self::Camera, Self::Microphone, Self::Screen, Self::ScreenAudio];

    /// Whether the source is a picture or a sound.
    #[must_use]
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::Camera | Self::Screen => MediaKind::Video,
            Self::Microphone | Self::ScreenAudio => MediaKind::Audio,
        }
    }

    /// The word used in messages and manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Microphone => "microphone",
            Self::Screen => "screen",
            Self::ScreenAudio => "screen_audio",
        }
    }
}

/// Picture or sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// VP8 at a 90 kHz RTP clock.
    Video,
    /// Opus at a 48 kHz RTP clock.
    Audio,
}

impl MediaKind {
    /// RTP clock rate in Hz (RFC 7741 section 4.1 for VP8, RFC 7587 section 4.1 for Opus).
    #[must_use]
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Video => 90_000,
            Self::Audio => 48_000,
        }
    }
}

/// A source that a participant sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Publication {
    /// Who sends it.
    pub participant: ParticipantId,
    /// What is sent.
    pub source: Source,
}

/// What a participant is in a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Holds the room's host token.
    Host,
    /// Was made a helper by the host.
    Cohost,
    /// Everyone else.
    Student,
}

impl Role {
    /// The word used in messages, rows and manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Cohost => "cohost",
            Self::Student => "student",
        }
    }
}

/// What a participant is allowed to do; decided by the server alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// May send camera and microphone.
    pub may_publish: bool,
    /// May send a screen and its sound.
    pub may_share_screen: bool,
}

impl Rights {
    /// The rights somebody has on joining: in a meeting everyone publishes, in a seminar the host alone.
    #[must_use]
    pub const fn on_joining(kind: RoomKind, role: Role) -> Self {
        let all = matches!(kind, RoomKind::Meeting) || matches!(role, Role::Host | Role::Cohost);
        Self {
            may_publish: all,
            may_share_screen: all,
        }
    }

    /// Whether `source` may be sent.
    #[must_use]
    pub const fn allow(self, source: Source) -> bool {
        match source {
            Source::Camera | Source::Microphone => self.may_publish,
            Source::Screen | Source::ScreenAudio => self.may_share_screen,
        }
    }
}

/// How a class meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// Everyone sees and hears everyone.
    Meeting,
    /// One presents; the others appear by name until they are given the right to publish.
    Seminar,
}

impl RoomKind {
    /// The word used in messages and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meeting => "meeting",
            Self::Seminar => "seminar",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_seminar_only_hosts_publish_at_first() {
        assert!(Rights::on_joining(RoomKind::Meeting, Role::Student).allow(Source::Camera));
        assert!(!Rights::on_joining(RoomKind::Seminar, Role::Student).allow(Source::Camera));
        assert!(!Rights::on_joining(RoomKind::Seminar, Role::Student).allow(Source::Screen));
        assert!(Rights::on_joining(RoomKind::Seminar, Role::Host).allow(Source::ScreenAudio));
    }

    #[test]
    fn words_on_the_wire_are_the_words_in_the_code() {
        for source in Source::ALL {
            assert_eq!(serde_json::to_value(source).expect("a word"), source.as_str());
        }
        assert_eq!(
            serde_json::to_value(Role::Cohost).expect("a word"),
            Role::Cohost.as_str()
        );
        assert_eq!(
            serde_json::to_value(RoomKind::Seminar).expect("a word"),
            RoomKind::Seminar.as_str()
        );
    }
}
