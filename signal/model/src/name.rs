//! Names people choose: what is shown, what a room is called, and what may stand on disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};
use unicode_segmentation::UnicodeSegmentation as _;

/// Why a name is refused; the text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left after trimming.
    #[error("the name is empty")]
    Empty,
    /// More characters or bytes than allowed.
    #[error("the name is too long")]
    TooLong,
    /// A control, invisible, direction-changing or unassigned character.
    #[error("the name contains a character that cannot be shown")]
    Invisible,
    /// A room number with something else than `a-z`, `0-9` and `-`.
    #[error("a room number has 1 to 32 characters of a-z, 0-9 and -")]
    NotANumber,
}

/// The name a participant is shown by: NFC, trimmed, 1 to 32 graphemes, at most 96 bytes.
///
/// Prints redacted in `Debug` and has no `Display`: names of children never reach a log by accident.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DisplayName(String);

impl DisplayName {
    const MOST_GRAPHEMES: usize = 32;
    const MOST_BYTES: usize = 96;

    /// Normalises and checks a name as typed.
    ///
    /// # Errors
    /// When nothing visible is left, it is too long, or it holds a character that cannot be shown.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        visible(text, Self::MOST_GRAPHEMES, Self::MOST_BYTES).map(Self)
    }

    /// The name, for its class only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The `count`-th bearer of this name among those present: 민수, 민수 2, 민수 3.
    #[must_use]
    pub fn numbered(&self, count: u32) -> Self {
        if count <= 1 {
            return self.clone();
        }
        let suffix = format!(" {count}");
        let mut name: String = self
            .0
            .graphemes(true)
            .take(Self::MOST_GRAPHEMES - suffix.len())
            .collect();
        while name.len() + suffix.len() > Self::MOST_BYTES {
            let end = name
                .grapheme_indices(true)
                .next_back()
                .map_or(0, |(start, _)| start);
            name.truncate(end);
        }
        Self(format!("{}{suffix}", name.trim_end()))
    }

    /// What is left of the name when everything is gone that the eye overlooks: case, blanks, punctuation, and the
    /// commonest letters of other scripts that look like Latin ones. Two names with one skeleton get confused.
    #[must_use]
    pub fn skeleton(&self) -> String {
        let plain: String = self
            .0
            .nfkc()
            .flat_map(char::to_lowercase)
            .filter(|character| character.is_alphanumeric())
            .map(look_alike)
            .collect();
        if plain.is_empty() { self.0.clone() } else { plain }
    }
}

impl fmt::Debug for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DisplayName(redacted)")
    }
}

impl Serialize for DisplayName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DisplayName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A room's title: NFC, trimmed, 1 to 64 graphemes, at most 256 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomTitle(String);

impl RoomTitle {
    /// Normalises and checks a title as typed.
    ///
    /// # Errors
    /// As [`DisplayName::parse`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        visible(text, 64, 256).map(Self)
    }

    /// The title.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RoomTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomTitle(redacted)")
    }
}

impl<'de> Deserialize<'de> for RoomTitle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for RoomTitle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A room's number, which is also its folder: 1 to 32 characters of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomNumber(String);

impl RoomNumber {
    const MOST_BYTES: usize = 32;

    /// A number nobody can guess from another: nine digits in three groups.
    #[must_use]
    pub fn random() -> Self {
        let digits: u32 = rand::random_range(0..1_000_000_000);
        Self(format!(
            "{:03}-{:03}-{:03}",
            digits / 1_000_000,
            digits / 1_000 % 1_000,
            digits % 1_000
        ))
    }

    /// The number.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomNumber {
    type Err = NameError;

    /// Accepts the number as typed: surrounding blanks and capitals are forgiven, everything else is not.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim().to_ascii_lowercase();
        let fits = (1..=Self::MOST_BYTES).contains(&text.len());
        let plain = text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if fits && plain {
            Ok(Self(text))
        } else {
            Err(NameError::NotANumber)
        }
    }
}

impl fmt::Display for RoomNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RoomNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoomNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// What stands for a participant in file names: letters, digits and `-`, at most 120 bytes.
///
/// `_` never occurs, so that file names can be read back from the right. Prints redacted in `Debug`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageName(String);

impl StorageName {
    const MOST_BYTES: usize = 120;

    /// The name on disk for a display name, before uniqueness within the lesson is settled.
    #[must_use]
    pub fn for_display(name: &DisplayName) -> Self {
        let safe: String = name
            .as_str()
            .nfc()
            .map(|character| if is_stored(character) { character } else { '-' })
            .collect();
        // A device name of Windows would make the file unreachable on a teacher's laptop.
        let safe = if is_device_name(&safe) {
            format!("x-{safe}")
        } else {
            safe
        };
        Self(cut(&safe, Self::MOST_BYTES).to_owned())
    }

    /// The `count`-th holder of this name in a lesson: 민수, 민수-2, 민수-3.
    #[must_use]
    pub fn numbered(&self, count: u32) -> Self {
        if count <= 1 {
            return self.clone();
        }
        let suffix = format!("-{count}");
        Self(format!(
            "{}{suffix}",
            cut(&self.0, Self::MOST_BYTES - suffix.len())
        ))
    }

    /// Reads a stored name back, from the database or a file name.
    ///
    /// # Errors
    /// When it is not one that [`Self::for_display`] or [`Self::numbered`] could have made.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MOST_BYTES {
            return Err(NameError::TooLong);
        }
        if !text.chars().all(is_stored) || text.nfc().ne(text.chars()) {
            return Err(NameError::Invisible);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as it stands in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What must be unique within a lesson: a folder may be copied to a disk that folds case.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Debug for StorageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageName(redacted)")
    }
}

impl Serialize for StorageName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StorageName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

fn visible(text: &str, most_graphemes: usize, most_bytes: usize) -> Result<String, NameError> {
    // Long before normalising: a hostile text must not cost more than its own length.
    if text.len() > most_bytes * 8 {
        return Err(NameError::TooLong);
    }
    let text: String = text.trim().nfc().collect();
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if !text.graphemes(true).all(is_visible_grapheme) {
        return Err(NameError::Invisible);
    }
    if text.len() > most_bytes || text.graphemes(true).count() > most_graphemes {
        return Err(NameError::TooLong);
    }
    Ok(text)
}

fn is_visible_grapheme(grapheme: &str) -> bool {
    /// Joins the parts of one emoji; anywhere else it is invisible.
    const ZERO_WIDTH_JOINER: char = '\u{200d}';
    let mut previous = None;
    for character in grapheme.chars() {
        let shown = match character.general_category() {
            GeneralCategory::Control
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator => false,
            GeneralCategory::Format => {
                character == ZERO_WIDTH_JOINER
                    && previous.is_some_and(|before: char| before >= '\u{2190}' && !before.is_alphanumeric())
            }
            // The Hangul fillers are letters by category and nothing to the eye.
            _ => !matches!(character, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'),
        };
        if !shown {
            return false;
        }
        previous = Some(character);
    }
    true
}

/// The Latin letter that a lower-case Cyrillic or Greek letter, or a digit, is mistaken for.
fn look_alike(character: char) -> char {
    match character {
        'а' | 'α' => 'a',
        'с' | 'ϲ' => 'c',
        'е' | 'ё' | 'ε' => 'e',
        'һ' => 'h',
        'і' | 'ı' | 'ι' | '1' | 'l' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'м' => 'm',
        'н' => 'h',
        'о' | 'ο' | '0' => 'o',
        'р' | 'ρ' => 'p',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' => 'u',
        'ν' => 'v',
        'в' => 'b',
        'х' | 'χ' => 'x',
        'у' | 'γ' => 'y',
        other => other,
    }
}

fn is_stored(character: char) -> bool {
    character.is_alphanumeric() || character == '-'
}

fn is_device_name(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    matches!(lower.as_str(), "con" | "prn" | "aux" | "nul")
        || ["com", "lpt"].iter().any(|port| {
            lower
                .strip_prefix(port)
                .is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|byte| byte.is_ascii_digit()))
        })
}

/// The longest beginning of `text` that has at most `most` bytes and ends between characters.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decomposed_and_composed_hangul_are_one_name() {
        let composed = DisplayName::parse("김민수").expect("a name");
        let decomposed: String = "김민수".nfd().collect();
        assert_ne!(decomposed, composed.as_str());
        assert_eq!(DisplayName::parse(&decomposed), Ok(composed));
    }

    #[test]
    fn characters_nobody_can_see_are_refused() {
        for text in [
            "a\0b",
            "a\nb",
            "\u{202e}abc",
            "a\u{200b}b",
            "a\u{200d}b",
            "\u{2066}x",
            "\u{3164}",
            "\u{e000}",
            "\u{378}",
        ] {
            assert_eq!(DisplayName::parse(text), Err(NameError::Invisible), "{text:?}");
        }
        for text in ["민수", "Ana María", "👩‍🏫 Kim", "O'Neil", "../../x"] {
            assert!(DisplayName::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn names_that_look_alike_have_one_skeleton() {
        for (one, other) in [
            ("김선생", "김 선생"),
            ("Kim", "KIM."),
            ("Carl", "Саrl"),
            ("Lee1", "Leel"),
            ("ｋｉｍ", "kim"),
        ] {
            let names = [one, other].map(|text| DisplayName::parse(text).expect("a name").skeleton());
            assert_eq!(names[0], names[1], "{one}");
        }
        assert_ne!(
            DisplayName::parse("민수").expect("a name").skeleton(),
            DisplayName::parse("민서").expect("a name").skeleton()
        );
    }

    #[test]
    fn a_number_behind_a_name_keeps_it_a_name() {
        for text in ["민수".to_owned(), "민".repeat(32), "👩‍🏫".repeat(8)] {
            let name = DisplayName::parse(&text).expect("a name");
            let second = name.numbered(2);
            assert!(second.as_str().ends_with(" 2"), "{text}");
            assert_eq!(DisplayName::parse(second.as_str()), Ok(second), "{text}");
        }
        assert_eq!(
            DisplayName::parse("민수").expect("a name").numbered(2).as_str(),
            "민수 2"
        );
    }

    #[test]
    fn length_is_counted_in_characters_as_people_see_them() {
        assert!(DisplayName::parse(&"민".repeat(32)).is_ok());
        assert_eq!(DisplayName::parse(&"민".repeat(33)), Err(NameError::TooLong));
        assert_eq!(DisplayName::parse("   "), Err(NameError::Empty));
    }

    #[test]
    fn a_name_can_never_leave_its_folder() {
        for (shown, stored) in [
            ("../../x", "------x"),
            ("a/b\\c", "a-b-c"),
            (".", "-"),
            ("CON", "x-CON"),
            ("com7", "x-com7"),
            ("민수_1", "민수-1"),
            ("😀", "-"),
        ] {
            assert_eq!(
                StorageName::for_display(&DisplayName::parse(shown).expect("a name")).as_str(),
                stored
            );
        }
    }

    #[test]
    fn room_numbers_are_plain_and_forgive_capitals() {
        assert_eq!(
            "  Math-7B ".parse::<RoomNumber>().expect("a number").as_str(),
            "math-7b"
        );
        for text in ["", "a b", "a_b", "../x", "수학", &"a".repeat(33)] {
            assert_eq!(text.parse::<RoomNumber>(), Err(NameError::NotANumber), "{text}");
        }
        assert!(RoomNumber::random().as_str().parse::<RoomNumber>().is_ok());
    }

    #[test]
    fn names_do_not_print_themselves() {
        let name = DisplayName::parse("김민수").expect("a name");
        assert!(!format!("{name:?}{:?}", StorageName::for_display(&name)).contains('김'));
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_stored_safely(text in "\\PC{1,40}", count in 1_u32..5_000) {
            if let Ok(name) = DisplayName::parse(&text) {
                let stored = StorageName::for_display(&name).numbered(count);
                prop_assert!(stored.as_str().len() <= 120);
                prop_assert!(!stored.as_str().is_empty());
                prop_assert!(!stored.as_str().contains(['/', '\\', '_', '.', '\0']));
                prop_assert_eq!(StorageName::parse(stored.as_str()), Ok(stored.clone()));
            }
        }
    }
}
