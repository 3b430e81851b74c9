//! Opaque ids: 128 random bits, written as 26 characters of lower-case base32 (Crockford's alphabet).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The text is not 26 characters of the id alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has 26 characters of 0-9 and a-z without i, l, o and u")]
pub struct ParseIdError;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// A fresh random id.
            #[must_use]
            pub fn random() -> Self {
                Self(rand::random())
            }

            /// The id made of these 128 bits; for tests and scripted values.
            #[must_use]
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                decode(text).map(Self).ok_or(ParseIdError)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

id! {
    /// A lasting room.
    RoomId,
    /// One opening of a room.
    LessonId,
    /// A lasting identity, remembered by the browser.
    PersonId,
    /// A person in one lesson.
    ParticipantId,
    /// One recorded file.
    RecordingId,
    /// One picture, or the row that says why there is none.
    CaptureId,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 26 digits of 5 bits hold 128 bits.
const LENGTH: usize = 26;

fn encode(bits: u128) -> String {
    (0..LENGTH)
        .rev()
        .map(|digit| char::from(ALPHABET[((bits >> (5 * digit)) & 31) as usize]))
        .collect()
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != LENGTH {
        return None;
    }
    let mut bits: u128 = 0;
    for (place, character) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|letter| *letter == character)? as u128;
        // The first of 26 digits carries only the top 3 of 128 bits.
        if place == 0 && digit > 7 {
            return None;
        }
        bits = (bits << 5) | digit;
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_reads_back_as_the_same_id(bits: u128) {
            let id = LessonId::from_bits(bits);
            prop_assert_eq!(id.to_string().parse::<LessonId>(), Ok(id));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<RoomId>();
        }
    }

    #[test]
    fn wrong_text_is_refused() {
        for text in [
            "",
            "0",
            "zzzzzzzzzzzzzzzzzzzzzzzzzz",
            "0123456789012345678901234!",
            "../../../../../../../../../",
        ] {
            assert_eq!(text.parse::<RoomId>(), Err(ParseIdError), "{text}");
        }
    }
}
