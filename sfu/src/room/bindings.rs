//! What an SSRC is for: as the offer announced it, or as its first authentic packet says (mid, rid, rrid: RFC 9143,
//! RFC 8852). Chromium announces no SSRC for simulcast.

use seodang_rtp::RtpView;

use super::NegotiatedSource;

/// What the packets of an SSRC are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    /// The place of the line.
    pub(super) line: usize,
    /// The place of its encoding among [`NegotiatedSource::rids`]; 0 on a line without.
    pub(super) layer: usize,
    /// For a stream that repairs another (RFC 4588): the SSRC of the other.
    pub(super) repairs: Option<u32>,
}

/// The SSRCs of one connection.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    bound: Vec<Bound>,
    learned: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    ssrc: u32,
    line: usize,
    layer: usize,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Media,
    /// Of the SSRC that the offer paired it with, else of the newest one of its encoding.
    Repair(Option<u32>),
}

/// SSRCs that are learned from packets, at most: three encodings of two lines with their repair, and two of sound.
const MOST_LEARNED: usize = 16;

impl Bindings {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.bound.clear();
        self.learned = 0;
    }

    /// Takes over what the offer announced. On a line with several encodings that is nothing: the offer does not say
    /// which SSRC is which.
    pub(super) fn announce(&mut self, line: usize, media: &NegotiatedSource) {
        if !media.rids.is_empty() {
            return;
        }
        let mut bind = |ssrc, role| {
            self.bound.push(Bound {
                ssrc,
                line,
                layer: 0,
                role,
            });
        };
        media.ssrcs.iter().for_each(|ssrc| bind(*ssrc, Role::Media));
        for (media, repair) in media.rtx.iter().flat_map(|rtx| &rtx.pairs) {
            bind(*repair, Role::Repair(Some(*media)));
        }
    }

    /// What an authentic packet is; binds its SSRC if it names its place. `None` where it belongs nowhere, or repairs
    /// what nobody sent.
    pub(super) fn bind<'a>(
        &mut self,
        packet: &RtpView<'_>,
        lines: impl Iterator<Item = Option<&'a NegotiatedSource>>,
    ) -> Option<Binding> {
        let ssrc = packet.header.ssrc;
        let known = self.bound.iter().find(|bound| bound.ssrc == ssrc).copied();
        let bound = match known {
            Some(bound) => bound,
            None if self.learned >= MOST_LEARNED => return None,
            None => {
                let bound = learn(packet, lines)?;
                self.bound.push(bound);
                self.learned += 1;
                bound
            }
        };
        let repairs = match bound.role {
            Role::Media => None,
            Role::Repair(Some(paired)) => Some(paired),
            Role::Repair(None) => Some(self.newest(bound.line, bound.layer)?),
        };
        Some(Binding {
            line: bound.line,
            layer: bound.layer,
            repairs,
        })
    }

    fn newest(&self, line: usize, layer: usize) -> Option<u32> {
        let media = self
            .bound
            .iter()
            .rev()
            .find(|bound| bound.role == Role::Media && (bound.line, bound.layer) == (line, layer));
        media.map(|bound| bound.ssrc)
    }
}

fn learn<'a>(
    packet: &RtpView<'_>,
    lines: impl Iterator<Item = Option<&'a NegotiatedSource>>,
) -> Option<Bound> {
    let text = |id: Option<u8>| packet.extensions.text(id?);
    let named = |media: &NegotiatedSource| text(media.extensions.mid) == Some(media.mid.as_str());
    let (line, media) = lines
        .enumerate()
        .find_map(|(line, media)| Some((line, media.filter(|media| named(media))?)))?;
    let payload_type = packet.header.payload_type;
    let (role, encoding) = if payload_type == media.payload_type {
        (Role::Media, media.extensions.rid)
    } else if media
        .rtx
        .as_ref()
        .is_some_and(|rtx| rtx.payload_type == payload_type)
    {
        (Role::Repair(None), media.extensions.rrid)
    } else {
        return None;
    };
    let layer = if media.rids.is_empty() {
        0
    } else {
        let rid = text(encoding)?;
        media.rids.iter().position(|known| known == rid)?
    };
    Some(Bound {
        ssrc: packet.header.ssrc,
        line,
        layer,
        role,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seodang_model::Source;
    use seodang_rtp::RtpHeader;

    use super::super::{ExtensionIds, NegotiatedRtx};
    use super::*;

    const MID: u8 = 1;
    const RID: u8 = 2;
    const RRID: u8 = 3;
    const VP8: u8 = 96;
    const RTX: u8 = 97;

    fn camera(ssrcs: &[u32], pairs: &[(u32, u32)], rids: &[&str]) -> NegotiatedSource {
        NegotiatedSource {
            source: Source::Camera,
            mid: "0".to_owned(),
            ssrcs: ssrcs.to_vec(),
            rids: rids.iter().map(|rid| (*rid).to_owned()).collect(),
            payload_type: VP8,
            rtx: Some(NegotiatedRtx {
                payload_type: RTX,
                pairs: pairs.to_vec(),
            }),
            extensions: ExtensionIds {
                mid: Some(MID),
                rid: Some(RID),
                rrid: Some(RRID),
                ..Default::default()
            },
            nack: true,
        }
    }

    fn screen() -> NegotiatedSource {
        NegotiatedSource {
            source: Source::Screen,
            mid: "2".to_owned(),
            ..camera(&[], &[], &[])
        }
    }

    /// A packet with one-byte header extensions.
    fn packet(ssrc: u32, payload_type: u8, extensions: &[(u8, &str)]) -> Vec<u8> {
        let header = RtpHeader {
            marker: false,
            payload_type,
            sequence_number: 1,
            timestamp: 1,
            ssrc,
        };
        let mut elements = Vec::new();
        for (id, text) in extensions {
            elements.push(id << 4 | (text.len() - 1) as u8);
            elements.extend_from_slice(text.as_bytes());
        }
        elements.resize(elements.len().next_multiple_of(4), 0);
        let mut bytes = header.to_bytes().to_vec();
        bytes[0] |= 0x10;
        bytes.extend_from_slice(&[0xbe, 0xde, 0, (elements.len() / 4) as u8]);
        bytes.extend_from_slice(&elements);
        bytes
    }

    fn bind(bindings: &mut Bindings, lines: &[NegotiatedSource], packet: &[u8]) -> Option<Binding> {
        let packet = RtpView::parse(packet).expect("a packet");
        bindings.bind(&packet, lines.iter().map(Some))
    }

    const fn media(line: usize, layer: usize) -> Option<Binding> {
        Some(Binding {
            line,
            layer,
            repairs: None,
        })
    }

    const fn repair(line: usize, layer: usize, of: u32) -> Option<Binding> {
        Some(Binding {
            line,
            layer,
            repairs: Some(of),
        })
    }

    #[test]
    fn announced_ssrcs_need_no_extension() {
        let lines = [camera(&[10], &[(10, 11)], &[]), screen()];
        let mut bindings = Bindings::default();
        bindings.announce(0, &lines[0]);
        assert_eq!(bind(&mut bindings, &lines, &packet(10, VP8, &[])), media(0, 0));
        assert_eq!(
            bind(&mut bindings, &lines, &packet(11, RTX, &[])),
            repair(0, 0, 10)
        );
        assert_eq!(bind(&mut bindings, &lines, &packet(12, VP8, &[])), None);
        bindings.clear();
        assert_eq!(bind(&mut bindings, &lines, &packet(10, VP8, &[])), None);
    }

    #[test]
    fn encodings_and_their_repair_are_learned_once_and_known_by_ssrc_from_then_on() {
        let lines = [camera(&[7], &[], &["q", "h", "f"]), screen()];
        let mut bindings = Bindings::default();
        bindings.announce(0, &lines[0]);
        let of_h = packet(20, RTX, &[(MID, "0"), (RRID, "h")]);
        assert_eq!(
            bind(&mut bindings, &lines, &of_h),
            None,
            "repairs what nobody sent"
        );
        let h = packet(21, VP8, &[(MID, "0"), (RID, "h")]);
        assert_eq!(bind(&mut bindings, &lines, &h), media(0, 1));
        assert_eq!(bind(&mut bindings, &lines, &of_h), repair(0, 1, 21));
        assert_eq!(bind(&mut bindings, &lines, &packet(21, VP8, &[])), media(0, 1));
        assert_eq!(
            bind(&mut bindings, &lines, &packet(20, RTX, &[])),
            repair(0, 1, 21)
        );
        let other = packet(22, VP8, &[(MID, "2")]);
        assert_eq!(bind(&mut bindings, &lines, &other), media(1, 0));
    }

    #[test]
    fn who_does_not_name_an_announced_place_is_refused() {
        let lines = [camera(&[], &[], &["q"])];
        let mut bindings = Bindings::default();
        for (payload_type, extensions) in [
            (VP8, vec![]),
            (VP8, vec![(MID, "0")]),
            (VP8, vec![(RID, "q")]),
            (VP8, vec![(MID, "9"), (RID, "q")]),
            (VP8, vec![(MID, "0"), (RID, "x")]),
            (VP8, vec![(MID, "0"), (RRID, "q")]),
            (RTX, vec![(MID, "0"), (RID, "q")]),
            (50, vec![(MID, "0"), (RID, "q")]),
        ] {
            let stranger = packet(1, payload_type, &extensions);
            assert_eq!(
                bind(&mut bindings, &lines, &stranger),
                None,
                "{payload_type} {extensions:?}"
            );
        }
        let known = packet(1, VP8, &[(MID, "0"), (RID, "q")]);
        assert_eq!(
            bind(&mut bindings, &lines, &known),
            media(0, 0),
            "no refusal left a trace"
        );
    }

    #[test]
    fn an_encoding_that_begins_anew_is_repaired_under_its_newest_ssrc() {
        let lines = [camera(&[], &[], &[])];
        let mut bindings = Bindings::default();
        for ssrc in [1, 2] {
            bind(&mut bindings, &lines, &packet(ssrc, VP8, &[(MID, "0")]));
        }
        let repaired = packet(3, RTX, &[(MID, "0")]);
        assert_eq!(bind(&mut bindings, &lines, &repaired), repair(0, 0, 2));
    }

    proptest! {
        #[test]
        fn what_is_learned_is_bounded(packets in proptest::collection::vec((0u32..200, any::<bool>()), 0..400)) {
            let lines = [camera(&[1000], &[], &[])];
            let mut bindings = Bindings::default();
            bindings.announce(0, &lines[0]);
            for (ssrc, rtx) in packets {
                bind(&mut bindings, &lines, &packet(ssrc, if rtx { RTX } else { VP8 }, &[(MID, "0")]));
            }
            prop_assert!(bindings.bound.len() <= 1 + MOST_LEARNED);
            prop_assert_eq!(bind(&mut bindings, &lines, &packet(1000, VP8, &[])), media(0, 0));
        }
    }
}
