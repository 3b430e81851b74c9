//! Writes the answer.

use std::fmt::Write as _;
use std::net::SocketAddr;

use seodang_model::MediaKind;

use super::offer::{AUDIO_LEVEL, LineUse, MID, RID, RRID, ReadOffer, TRANSPORT_CC};
use crate::transport::dtls::Fingerprint;
use crate::transport::ice::Credentials;

/// What the answer is made of beside the offer.
pub(crate) struct AnswerLines<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) candidates: &'a [SocketAddr],
    /// Whether the same ports take TCP as well (RFC 6544).
    pub(crate) over_tcp: bool,
    /// Counted up with every answer of a connection (RFC 8866 section 5.2).
    pub(crate) version: u32,
    /// The SSRCs of each slot, by its place in the message.
    pub(crate) slot_ssrcs: &'a [SlotSsrcs],
}

/// What a slot sends under; each is used once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlotSsrcs {
    pub(crate) media: u32,
    /// Used where repair was negotiated.
    pub(crate) rtx: u32,
}

/// The answer to a read offer: sources are received, slots are sent, everything else is inactive.
pub(crate) fn write_answer(offer: &ReadOffer, with: &AnswerLines<'_>) -> String {
    let bundled: Vec<&str> = offer
        .lines
        .iter()
        .filter(|line| line.codec.is_some())
        .map(|line| line.mid.as_str())
        .collect();
    let mut text = String::new();
    let mut write = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line)
            .and_then(|()| text.write_str("\r\n"))
            .expect("writing to a string does not fail");
    };
    write(format_args!(
        "v=0\r\no=- 1 {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0",
        with.version
    ));
    write(format_args!("a=ice-lite"));
    write(format_args!("a=group:BUNDLE {}", bundled.join(" ")));
    write(format_args!("a=msid-semantic: WMS *"));
    let digits: Vec<String> = with
        .fingerprint
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let digits = digits.join(":");
    for line in &offer.lines {
        let media = if line.kind == MediaKind::Video {
            "video"
        } else {
            "audio"
        };
        let Some(codec) = line.codec else {
            write(format_args!("m={media} 0 UDP/TLS/RTP/SAVPF 0"));
            write(format_args!("c=IN IP4 0.0.0.0"));
            write(format_args!("a=mid:{}", line.mid));
            write(format_args!("a=inactive"));
            continue;
        };
        let pt = codec.payload_type;
        match codec.rtx {
            Some(rtx) => write(format_args!("m={media} 9 UDP/TLS/RTP/SAVPF {pt} {rtx}")),
            None => write(format_args!("m={media} 9 UDP/TLS/RTP/SAVPF {pt}")),
        }
        write(format_args!("c=IN IP4 0.0.0.0"));
        write(format_args!("a=mid:{}", line.mid));
        write(format_args!("a=ice-ufrag:{}", with.credentials.ufrag));
        write(format_args!("a=ice-pwd:{}", with.credentials.password));
        write(format_args!("a=fingerprint:sha-256 {digits}"));
        write(format_args!("a=setup:passive"));
        write(format_args!("a=rtcp-mux"));
        write(format_args!("a=rtcp-rsize"));
        match line.kind {
            MediaKind::Video => {
                write(format_args!("a=rtpmap:{pt} VP8/90000"));
                for feedback in ["nack", "nack pli", "ccm fir", "goog-remb"] {
                    if feedback != "nack" || codec.nack {
                        write(format_args!("a=rtcp-fb:{pt} {feedback}"));
                    }
                }
                if let Some(rtx) = codec.rtx {
                    write(format_args!("a=rtpmap:{rtx} rtx/90000"));
                    write(format_args!("a=fmtp:{rtx} apt={pt}"));
                }
            }
            MediaKind::Audio => {
                write(format_args!("a=rtpmap:{pt} opus/48000/2"));
                write(format_args!("a=fmtp:{pt} minptime=10;useinbandfec=1"));
                if codec.nack {
                    write(format_args!("a=rtcp-fb:{pt} nack"));
                }
            }
        }
        match line.used {
            LineUse::Source(_) => {
                let ids = line.extensions;
                // Without several encodings their names are of no use, and cost bytes in every packet.
                let layered = !line.rids.is_empty();
                let extensions = [
                    (ids.mid, MID),
                    (ids.rid.filter(|_| layered), RID),
                    (ids.rrid.filter(|_| layered && codec.rtx.is_some()), RRID),
                    (
                        ids.audio_level.filter(|_| line.kind == MediaKind::Audio),
                        AUDIO_LEVEL,
                    ),
                    (ids.transport_cc, TRANSPORT_CC),
                ];
                for (id, uri) in extensions {
                    if let Some(id) = id {
                        write(format_args!("a=extmap:{id} {uri}"));
                    }
                }
                if ids.transport_cc.is_some() {
                    write(format_args!("a=rtcp-fb:{pt} transport-cc"));
                }
                write(format_args!("a=recvonly"));
                for rid in &line.rids {
                    write(format_args!("a=rid:{rid} recv"));
                }
                if layered {
                    write(format_args!("a=simulcast:recv {}", line.rids.join(";")));
                }
            }
            LineUse::Slot(place) => {
                let SlotSsrcs { media, rtx } = with.slot_ssrcs.get(place).copied().unwrap_or_default();
                write(format_args!("a=sendonly"));
                let shared = line.lips.as_ref().unwrap_or(&line.mid);
                write(format_args!("a=msid:slot-{shared} track-{mid}", mid = line.mid));
                if codec.rtx.is_some() {
                    write(format_args!("a=ssrc-group:FID {media} {rtx}"));
                    write(format_args!("a=ssrc:{media} cname:seodang"));
                    write(format_args!("a=ssrc:{rtx} cname:seodang"));
                } else {
                    write(format_args!("a=ssrc:{media} cname:seodang"));
                }
            }
            LineUse::Nothing => write(format_args!("a=inactive")),
        }
        for (place, candidate) in with.candidates.iter().enumerate() {
            // RFC 8445 section 5.1.2.1: type preference of hosts, then ours in order, component 1.
            let priority = 126_u32 << 24 | (65_535 - place.min(60_000) as u32) << 8 | 255;
            write(format_args!(
                "a=candidate:{} 1 udp {priority} {} {} typ host",
                place + 1,
                candidate.ip(),
                candidate.port()
            ));
        }
        if with.over_tcp {
            for (place, candidate) in with.candidates.iter().enumerate() {
                // RFC 6544 section 4.2: behind UDP; passive ones have direction preference 4 of 7.
                let priority = 90_u32 << 24 | (4 << 13 | (8_191 - place.min(8_000) as u32)) << 8 | 255;
                write(format_args!(
                    "a=candidate:{} 1 tcp {priority} {} {} typ host tcptype passive",
                    with.candidates.len() + place + 1,
                    candidate.ip(),
                    candidate.port()
                ));
            }
        }
        write(format_args!("a=end-of-candidates"));
    }
    text
}
