//! Just enough of Matroska to see whether a file can be sought in.

/// Whether the segment holds cues, and whether its size is known; a live-written file has neither.
pub(super) fn has_cues(file: &[u8]) -> bool {
    let Some((EBML, header)) = element(file) else {
        return false;
    };
    let Some(rest) = file.get(header.end..) else {
        return false;
    };
    let Some((SEGMENT, segment)) = element(rest) else {
        return false;
    };
    let mut children = &rest[segment.start..segment.end.min(rest.len())];
    while let Some((id, body)) = element(children) {
        if id == CUES {
            return body.end <= children.len() && body.len() > 10;
        }
        let Some(next) = children.get(body.end..) else {
            return false;
        };
        children = next;
    }
    false
}

const EBML: u64 = 0x1A45_DFA3;
const SEGMENT: u64 = 0x1853_8067;
const CUES: u64 = 0x1C53_BB6B;

/// The first element: its id and where its body lies. A body of unknown size has none that can be skipped.
fn element(data: &[u8]) -> Option<(u64, std::ops::Range<usize>)> {
    let (id, id_length) = number(data, true)?;
    let (size, size_length) = number(data.get(id_length..)?, false)?;
    if size == (1 << (7 * size_length)) - 1 {
        return None;
    }
    let start = id_length + size_length;
    Some((id, start..start.checked_add(usize::try_from(size).ok()?)?))
}

/// A number of variable length (RFC 8794 section 4) and the bytes it takes; ids keep their length marker.
fn number(data: &[u8], keeps_marker: bool) -> Option<(u64, usize)> {
    let first = *data.first()?;
    let length = first.leading_zeros() as usize + 1;
    if length > 8 || data.len() < length {
        return None;
    }
    let value = data[..length]
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    let marker = 1_u64 << (7 * length);
    Some((if keeps_marker { value } else { value ^ marker }, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read() {
        assert_eq!(number(&[0x81], false), Some((1, 1)));
        assert_eq!(number(&[0x40, 0x7f], false), Some((0x7f, 2)));
        assert_eq!(number(&[0x1A, 0x45, 0xDF, 0xA3], true), Some((EBML, 4)));
        assert_eq!(number(&[0x40], false), None);
        assert_eq!(number(&[0], false), None);
    }
}
