//! The chat of a lesson as subtitles and as lines of JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use seodang_model::{DisplayName, ParticipantId};
use serde::Serialize;
use time::OffsetDateTime;

/// One line of chat of a participant who consented to recording.
#[derive(Clone, Debug)]
pub struct ChatLine {
    /// Place on the lesson clock.
    pub at: Duration,
    /// When it was written.
    pub sent_at: OffsetDateTime,
    /// By whom.
    pub participant: ParticipantId,
    /// The writer's name as shown.
    pub name: DisplayName,
    /// The text, as written.
    pub text: String,
}

/// `chat.vtt` and `chat.jsonl`, with the lines of `consenting` participants only.
pub(crate) fn render(
    lines: &[ChatLine],
    consenting: &BTreeSet<ParticipantId>,
) -> Result<(String, String), serde_json::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        at_ms: u64,
        #[serde(with = "time::serde::rfc3339")]
        sent_at: OffsetDateTime,
        participant: ParticipantId,
        name: &'a str,
        text: &'a str,
    }

    let (mut vtt, mut jsonl) = ("WEBVTT\n".to_owned(), String::new());
    for line in lines.iter().filter(|line| consenting.contains(&line.participant)) {
        let (from, to) = (timestamp(line.at), timestamp(line.at + SHOWN_FOR));
        let (name, text) = (escaped(line.name.as_str()), escaped(&line.text));
        write!(vtt, "\n{from} --> {to}\n<v {name}>{text}\n").expect("writing to a string does not fail");
        let row = Row {
            at_ms: line.at.as_millis().try_into().unwrap_or(u64::MAX),
            sent_at: line.sent_at,
            participant: line.participant,
            name: line.name.as_str(),
            text: &line.text,
        };
        jsonl.push_str(&serde_json::to_string(&row)?);
        jsonl.push('\n');
    }
    Ok((vtt, jsonl))
}

/// Text of a cue (W3C WebVTT section 4.2.2): no markup, and no line break, which could end the cue.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => safe.push(' '),
            '\0' => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

fn timestamp(at: Duration) -> String {
    let seconds = at.as_secs();
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        at.subsec_millis()
    )
}

/// How long a line is shown over a recording.
const SHOWN_FOR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn line(participant: u128, text: &str) -> ChatLine {
        ChatLine {
            at: Duration::from_millis(3_725_042),
            sent_at: datetime!(2026-11-21 01:02:03.5 UTC),
            participant: ParticipantId::from_bits(participant),
            name: DisplayName::parse("민수 <3>").expect("a name"),
            text: text.to_owned(),
        }
    }

    #[test]
    fn markup_and_line_breaks_in_chat_stay_text() {
        let lines = [line(1, "a <b> & --> c\n\nNOTE\r\nd")];
        let (vtt, jsonl) = render(&lines, &BTreeSet::from([ParticipantId::from_bits(1)])).expect("text");
        assert_eq!(
            vtt,
            "WEBVTT\n\n01:02:05.042 --> 01:02:10.042\n<v 민수 &lt;3&gt;>a &lt;b&gt; &amp; --&gt; c  NOTE  d\n"
        );
        let row: serde_json::Value = serde_json::from_str(&jsonl).expect("one object in a line");
        assert_eq!(row["text"], "a <b> & --> c\n\nNOTE\r\nd");
        assert_eq!(
            (&row["at_ms"], &row["sent_at"]),
            (&3_725_042.into(), &"2026-11-21T01:02:03.5Z".into())
        );
    }

    #[test]
    fn lines_of_people_without_consent_are_left_out() {
        let lines = [line(1, "mine"), line(2, "theirs")];
        let (vtt, jsonl) = render(&lines, &BTreeSet::from([ParticipantId::from_bits(1)])).expect("text");
        assert!(!vtt.contains("theirs") && !jsonl.contains("theirs") && jsonl.contains("mine"));
    }
}
