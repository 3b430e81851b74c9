//! RTCP (RFC 3550 section 6, RFC 4585, REMB): compound packets read one by one, and written.
//!
//! Reduced-size packets (RFC 5506) are read too: no order and no leading report is required of others.

mod write;

pub use write::RtcpWriter;

use crate::NtpTime;

/// The rest of a compound packet is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed rtcp packet")]
pub struct RtcpError;

/// One RTCP packet; lists borrow the datagram's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtcp<'a> {
    /// A sender's clock and counts (RFC 3550 section 6.4.1); its report blocks follow in `reports`.
    SenderReport {
        /// The sender's SSRC.
        ssrc: u32,
        /// Its clock.
        info: SenderInfo,
        /// What it receives.
        reports: ReportBlocks<'a>,
    },
    /// What somebody receives (RFC 3550 section 6.4.2).
    ReceiverReport {
        /// The reporter's SSRC.
        ssrc: u32,
        /// What it receives.
        reports: ReportBlocks<'a>,
    },
    /// SSRCs that are gone (RFC 3550 section 6.6).
    Bye {
        /// Which.
        ssrcs: Words<'a>,
    },
    /// Somebody needs a key frame (RFC 4585 section 6.3.1).
    Pli {
        /// Of this SSRC.
        media_ssrc: u32,
    },
    /// Somebody needs a key frame (RFC 5104 section 4.3.1).
    Fir {
        /// Requests.
        requests: FirRequests<'a>,
    },
    /// Somebody misses packets (RFC 4585 section 6.2.1).
    Nack {
        /// Of this SSRC.
        media_ssrc: u32,
        /// Which.
        lost: NackList<'a>,
    },
    /// A receiver's estimate (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// In bits per second.
        bitrate_bps: u64,
    },
    /// Anything else, skipped: SDES, APP, extended reports, other feedback.
    Other {
        /// Its packet type.
        packet_type: u8,
    },
}

/// A sender's clock and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// The sender's clock at the instant `rtp` stands for.
    pub ntp: NtpTime,
    /// The same instant in units of the codec's clock rate.
    pub rtp: u32,
    /// Packets sent, wraps.
    pub packets: u32,
    /// Payload bytes sent, wraps.
    pub bytes: u32,
}

/// What somebody receives of one SSRC (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The SSRC reported on.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the beginning; 24 bits, negative when duplicates came.
    pub lost: i32,
    /// Highest sequence number with its wraps in the upper half.
    pub highest: u32,
    /// In units of the codec's clock rate.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0 if none came.
    pub last_report: u32,
    /// Time since then in 65536ths of a second.
    pub since_last_report: u32,
}

/// Iterates over the packets of one datagram.
#[derive(Clone, Debug)]
pub struct RtcpIter<'a> {
    rest: &'a [u8],
}

/// Reads the packets of one decrypted datagram, up to the first malformed one.
#[must_use]
pub fn read_rtcp(datagram: &[u8]) -> RtcpIter<'_> {
    RtcpIter { rest: datagram }
}

impl<'a> Iterator for RtcpIter<'a> {
    type Item = Result<Rtcp<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = split(self.rest).and_then(|(count, packet_type, body, rest)| {
            self.rest = rest;
            parse(count, packet_type, body)
        });
        if parsed.is_none() {
            self.rest = &[];
        }
        Some(parsed.ok_or(RtcpError))
    }
}

/// Count or format, packet type, body without padding, and what follows.
fn split(datagram: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let [first, packet_type, l0, l1] = *datagram.first_chunk::<4>()?;
    if first >> 6 != 2 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([l0, l1])) * 4;
    let (mut body, rest) = datagram[4..].split_at_checked(length)?;
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last()?);
        body = &body[..body.len().checked_sub(padding)?];
    }
    Some((first & 0x1f, packet_type, body, rest))
}

fn parse(count: u8, packet_type: u8, body: &[u8]) -> Option<Rtcp<'_>> {
    let words = Words(body);
    Some(match (packet_type, count) {
        (SENDER_REPORT, _) => Rtcp::SenderReport {
            ssrc: words.at(0)?,
            info: SenderInfo {
                ntp: NtpTime((u64::from(words.at(1)?) << 32) | u64::from(words.at(2)?)),
                rtp: words.at(3)?,
                packets: words.at(4)?,
                bytes: words.at(5)?,
            },
            reports: ReportBlocks::new(body.get(24..)?, count)?,
        },
        (RECEIVER_REPORT, _) => Rtcp::ReceiverReport {
            ssrc: words.at(0)?,
            reports: ReportBlocks::new(body.get(4..)?, count)?,
        },
        (BYE, _) => Rtcp::Bye {
            ssrcs: Words(body.get(..usize::from(count) * 4)?),
        },
        (TRANSPORT_FEEDBACK, NACK) => Rtcp::Nack {
            media_ssrc: words.at(1)?,
            lost: NackList(Words(&body[8..])),
        },
        (PAYLOAD_FEEDBACK, PLI) => Rtcp::Pli {
            media_ssrc: words.at(1)?,
        },
        (PAYLOAD_FEEDBACK, FIR) => Rtcp::Fir {
            requests: FirRequests(Words(body.get(8..)?)),
        },
        (PAYLOAD_FEEDBACK, APPLICATION) if words.at(2) == Some(REMB) => {
            let [_, exponent, high, low] = words.at(3)?.to_be_bytes();
            let mantissa = (u64::from(exponent & 3) << 16) | u64::from(u16::from_be_bytes([high, low]));
            // 18 bits moved by up to 63 do not fit: such an estimate is as good as none.
            Rtcp::Remb {
                bitrate_bps: mantissa.saturating_mul(1 << (exponent >> 2)),
            }
        }
        _ => Rtcp::Other { packet_type },
    })
}

/// A list of 32-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn at(&self, index: usize) -> Option<u32> {
        self.0
            .get(index * 4..)?
            .first_chunk()
            .map(|word| u32::from_be_bytes(*word))
    }

    /// The words in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
    }
}

/// Report blocks in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl<'a> ReportBlocks<'a> {
    fn new(body: &'a [u8], count: u8) -> Option<Self> {
        body.get(..usize::from(count) * ReportBlock::SIZE).map(Self)
    }

    /// The blocks in order.
    pub fn iter(&self) -> impl Iterator<Item = ReportBlock> {
        self.0.chunks_exact(ReportBlock::SIZE).filter_map(|block| {
            let words = Words(block);
            let lost = words.at(1)?;
            Some(ReportBlock {
                ssrc: words.at(0)?,
                fraction_lost: (lost >> 24) as u8,
                // Sign-extended from 24 bits.
                lost: ((lost << 8) as i32) >> 8,
                highest: words.at(2)?,
                jitter: words.at(3)?,
                last_report: words.at(4)?,
                since_last_report: words.at(5)?,
            })
        })
    }
}

impl ReportBlock {
    const SIZE: usize = 24;
}

/// The SSRCs key frames are asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirRequests<'a>(Words<'a>);

impl FirRequests<'_> {
    /// The SSRCs in order; an entry is an SSRC and a word with the request's number.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> {
        self.0.iter().step_by(2)
    }
}

/// Missing sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NackList<'a>(Words<'a>);

impl NackList<'_> {
    /// The sequence numbers in the order in which they are listed, 17 at most for each of up to 16,382 words.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().flat_map(|word| {
            let first = (word >> 16) as u16;
            let following = (1..=16u16).filter(move |place| word & (1 << (place - 1)) != 0);
            std::iter::once(first).chain(following.map(move |place| first.wrapping_add(place)))
        })
    }
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
/// Formats of transport and payload-specific feedback.
const NACK: u8 = 1;
const PLI: u8 = 1;
const FIR: u8 = 4;
const APPLICATION: u8 = 15;
const REMB: u32 = u32::from_be_bytes(*b"REMB");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(datagram: &[u8]) -> Vec<Rtcp<'_>> {
        read_rtcp(datagram)
            .map(|packet| packet.expect("well formed"))
            .collect()
    }

    #[test]
    fn a_compound_packet_reads_back_as_written() {
        let block = ReportBlock {
            ssrc: 5,
            fraction_lost: 3,
            lost: -2,
            highest: 0x1_0001,
            jitter: 9,
            ..Default::default()
        };
        let info = SenderInfo {
            ntp: NtpTime(0x1234_5678_9abc_def0),
            rtp: 77,
            packets: 3,
            bytes: 400,
        };
        let mut writer = RtcpWriter::default();
        writer.sender_report(1, info);
        writer.receiver_report(1, &[block, ReportBlock { ssrc: 6, ..block }]);
        writer.cname(1, "seodang");
        writer.pli(1, 42);
        writer.nack(1, 43, [65534, 65535, 3, 40].into_iter());
        writer.remb(1, 2_000_000, &[42, 43]);
        let bytes = writer.take();
        let packets = all(&bytes);
        assert!(matches!(packets[0], Rtcp::SenderReport { ssrc: 1, info: read, .. } if read == info));
        let Rtcp::ReceiverReport { ssrc: 1, reports } = packets[1] else {
            panic!("a receiver report")
        };
        assert_eq!(
            reports.iter().collect::<Vec<_>>(),
            [block, ReportBlock { ssrc: 6, ..block }]
        );
        assert_eq!(packets[2], Rtcp::Other { packet_type: 202 });
        assert_eq!(packets[3], Rtcp::Pli { media_ssrc: 42 });
        let Rtcp::Nack { media_ssrc: 43, lost } = packets[4] else {
            panic!("a nack")
        };
        assert_eq!(lost.iter().collect::<Vec<_>>(), [65534, 65535, 3, 40]);
        assert_eq!(
            packets[5],
            Rtcp::Remb {
                bitrate_bps: 2_000_000
            }
        );
        assert_eq!(packets.len(), 6);
    }

    #[test]
    fn a_description_is_padded_to_whole_words() {
        for name in ["", "a", "ab", "abc", "abcd"] {
            let mut writer = RtcpWriter::default();
            writer.cname(1, name);
            writer.pli(1, 2);
            assert_eq!(all(&writer.take()).len(), 2, "{name}");
        }
    }

    #[test]
    fn nothing_follows_a_malformed_packet() {
        let mut writer = RtcpWriter::default();
        writer.pli(1, 2);
        let mut bytes = writer.take();
        bytes.extend_from_slice(&[0x80, 200, 0, 1, 0, 0, 0, 1]);
        bytes.extend_from_slice(&bytes.clone());
        let read: Vec<_> = read_rtcp(&bytes).collect();
        assert_eq!(read, [Ok(Rtcp::Pli { media_ssrc: 2 }), Err(RtcpError)]);
    }

    #[test]
    fn fir_names_the_ssrcs() {
        let mut bytes = vec![0x84, 206, 0, 6];
        for word in [1u32, 0, 42, 0x0100_0000, 43, 0x0100_0000] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        let Rtcp::Fir { requests } = all(&bytes)[0] else {
            panic!("a fir")
        };
        assert_eq!(requests.ssrcs().collect::<Vec<_>>(), [42, 43]);
    }

    #[test]
    fn bye_lists_what_is_gone() {
        let bytes = [0x81, 203, 0, 1, 0, 0, 0, 9];
        let Rtcp::Bye { ssrcs } = all(&bytes)[0] else {
            panic!("a bye")
        };
        assert_eq!(ssrcs.iter().collect::<Vec<_>>(), [9]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            body: Vec<u8>, count in 0u8..64, packet_type in 199u8..208, words in 0u16..20, raw: bool,
        ) {
            let mut bytes = vec![0x80 | count, packet_type, 0, words as u8];
            bytes.extend_from_slice(&body);
            for packet in read_rtcp(if raw { &body } else { &bytes }).flatten() {
                match packet {
                    Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => {
                        let _ = reports.iter().count();
                    }
                    Rtcp::Nack { lost, .. } => prop_assert!(lost.iter().count() <= body.len() * 5),
                    Rtcp::Fir { requests } => drop(requests.ssrcs().count()),
                    Rtcp::Bye { ssrcs } => drop(ssrcs.iter().count()),
                    _ => {}
                }
            }
        }

        #[test]
        fn every_missing_number_is_asked_for(lost in proptest::collection::btree_set(0u16..2000, 1..200)) {
            let mut writer = RtcpWriter::default();
            writer.nack(1, 2, lost.iter().copied());
            let bytes = writer.take();
            let Rtcp::Nack { lost: read, .. } = all(&bytes)[0] else { panic!("a nack") };
            prop_assert_eq!(read.iter().collect::<std::collections::BTreeSet<_>>(), lost);
        }

        #[test]
        fn an_estimate_is_never_rounded_up(bitrate_bps: u64) {
            let mut writer = RtcpWriter::default();
            writer.remb(1, bitrate_bps, &[]);
            let bytes = writer.take();
            let Rtcp::Remb { bitrate_bps: read } = all(&bytes)[0] else { panic!("an estimate") };
            prop_assert!(read <= bitrate_bps && read as f64 >= bitrate_bps as f64 * 0.999);
        }
    }
}
