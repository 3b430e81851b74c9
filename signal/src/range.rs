//! What to send of a file: ranges and conditions of RFC 9110, decided without touching the file.

use std::ops::RangeInclusive;

/// The request fields that matter, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// `Range`.
    pub range: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// 200 with everything.
    Whole,
    /// 206 with these bytes; never empty, never past the end.
    Part(RangeInclusive<u64>),
    /// 304: the other side has it.
    NotModified,
    /// 416: nothing of the range lies within the file.
    Unsatisfiable,
}

/// Decides for a file of `size_bytes` whose strong entity tag is `etag`, quotes included.
///
/// One range is served, clamped to the file's end. Several ranges, and ranges of unknown form, are answered with the
/// whole file, which RFC 9110 section 14.2 allows and which costs no memory however many were asked.
#[must_use]
pub fn plan(conditions: Conditions<'_>, etag: &str, size_bytes: u64) -> Plan {
    if conditions.if_none_match.is_some_and(|tags| lists(tags, etag)) {
        return Plan::NotModified;
    }
    // RFC 9110 section 13.1.5: compared strongly; anything else, a date included, means the whole file.
    if conditions.if_range.is_some_and(|tag| tag.trim() != etag) {
        return Plan::Whole;
    }
    conditions
        .range
        .map_or(Plan::Whole, |range| resolve(range, size_bytes))
}

/// RFC 9110 section 13.1.2: compared weakly, `*` stands for any.
fn lists(tags: &str, etag: &str) -> bool {
    tags.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// RFC 9110 section 14.1.2.
fn resolve(range: &str, size_bytes: u64) -> Plan {
    let Some((unit, set)) = range.split_once('=') else {
        return Plan::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Plan::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return Plan::Whole;
    };
    match (number(first), number(last)) {
        (Some(Position::At(first)), Some(Position::At(last))) if first > last => Plan::Whole,
        (Some(Position::At(first)), Some(last)) => {
            let end = size_bytes.checked_sub(1).filter(|end| first <= *end);
            match (end, last) {
                (None, _) => Plan::Unsatisfiable,
                (Some(end), Position::Absent) => Plan::Part(first..=end),
                (Some(end), Position::At(last)) => Plan::Part(first..=last.min(end)),
            }
        }
        (Some(Position::Absent), Some(Position::At(count))) => match size_bytes.checked_sub(1) {
            Some(end) if count > 0 => Plan::Part(size_bytes - count.min(size_bytes)..=end),
            _ => Plan::Unsatisfiable,
        },
        _ => Plan::Whole,
    }
}

enum Position {
    Absent,
    At(u64),
}

/// Digits, however many: a number past the largest one is as good as the largest.
fn number(text: &str) -> Option<Position> {
    if text.is_empty() {
        return Some(Position::Absent);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Position::At(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ETAG: &str = "\"abc\"";

    fn ranged(range: &str, size_bytes: u64) -> Plan {
        plan(
            Conditions {
                range: Some(range),
                ..Conditions::default()
            },
            ETAG,
            size_bytes,
        )
    }

    #[test]
    fn ranges_of_a_thousand_bytes() {
        use Plan::{Part, Unsatisfiable, Whole};
        let cases = [
            ("bytes=0-0", Part(0..=0)),
            ("bytes=0-499", Part(0..=499)),
            ("bytes=500-999", Part(500..=999)),
            ("bytes=999-999", Part(999..=999)),
            ("bytes=0-", Part(0..=999)),
            ("bytes=998-", Part(998..=999)),
            ("bytes=10-99999999", Part(10..=999)),
            ("bytes=0-18446744073709551615", Part(0..=999)),
            ("bytes=0-99999999999999999999999999", Part(0..=999)),
            ("bytes=-1", Part(999..=999)),
            ("bytes=-1000", Part(0..=999)),
            ("bytes=-5000", Part(0..=999)),
            ("bytes=-99999999999999999999999999", Part(0..=999)),
            ("BYTES=1-2", Part(1..=2)),
            ("bytes= 1-2 ", Part(1..=2)),
            ("bytes=007-008", Part(7..=8)),
            ("bytes=1000-", Unsatisfiable),
            ("bytes=1000-1000", Unsatisfiable),
            ("bytes=5000-6000", Unsatisfiable),
            ("bytes=99999999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=2-1", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("", Whole),
            ("bytes=a-b", Whole),
            ("bytes=1-b", Whole),
            ("bytes=--1", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1-2-3", Whole),
            ("bytes=1 - 2", Whole),
            ("bytes=0-1,5-6", Whole),
            ("bytes=0-1,0-1,0-1", Whole),
            ("items=0-1", Whole),
            ("seconds=0-1", Whole),
        ];
        for (range, wanted) in cases {
            assert_eq!(ranged(range, 1_000), wanted, "{range}");
        }
    }

    #[test]
    fn an_empty_file_has_no_range() {
        for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(ranged(range, 0), Plan::Unsatisfiable, "{range}");
        }
        assert_eq!(plan(Conditions::default(), ETAG, 0), Plan::Whole);
    }

    #[test]
    fn conditions_are_judged_before_the_range() {
        let range = Some("bytes=0-0");
        let with = |if_range, if_none_match| {
            plan(
                Conditions {
                    range,
                    if_range,
                    if_none_match,
                },
                ETAG,
                10,
            )
        };
        assert_eq!(with(Some("\"abc\""), None), Plan::Part(0..=0));
        assert_eq!(with(Some("\"other\""), None), Plan::Whole);
        assert_eq!(with(Some("W/\"abc\""), None), Plan::Whole);
        assert_eq!(with(Some("Sat, 21 Nov 2026 00:00:00 GMT"), None), Plan::Whole);
        for tags in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert_eq!(with(None, Some(tags)), Plan::NotModified, "{tags}");
        }
        assert_eq!(with(None, Some("\"x\"")), Plan::Part(0..=0));
    }

    proptest! {
        #[test]
        fn a_part_always_lies_within_the_file(range in "bytes=[0-9]{0,21}-[0-9]{0,21}", size_bytes in 0..3_000_u64) {
            match ranged(&range, size_bytes) {
                Plan::Part(part) => prop_assert!(part.start() <= part.end() && *part.end() < size_bytes),
                Plan::Whole | Plan::Unsatisfiable => {}
                Plan::NotModified => prop_assert!(false, "nothing was known"),
            }
        }

        #[test]
        fn first_and_last_within_the_file_are_served_as_asked(size_bytes in 1..u64::MAX, a: u64, b: u64) {
            let (a, b) = (a % size_bytes, b % size_bytes);
            let (first, last) = (a.min(b), a.max(b));
            prop_assert_eq!(ranged(&format!("bytes={first}-{last}"), size_bytes), Plan::Part(first..=last));
        }

        #[test]
        fn arbitrary_fields_never_panic(range in ".*", if_range in ".*", tags in ".*", size_bytes: u64) {
            let conditions =
                Conditions { range: Some(&range), if_range: Some(&if_range), if_none_match: Some(&tags) };
            let _ = plan(conditions, ETAG, size_bytes);
        }
    }
}
