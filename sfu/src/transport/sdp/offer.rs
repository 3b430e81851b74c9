//! Reads an offer: finds the lines the message names, their codecs, ids and keys.

use std::collections::BTreeMap;
use std::io::Cursor;

use rtc_sdp::description::media::MediaDescription;
use rtc_sdp::description::session::SessionDescription;
use seodang_model::protocol::Offer;
use seodang_model::{MediaKind, Source};

use crate::OfferError;
use crate::room::{ExtensionIds, MOST_LAYERS, NegotiatedRtx, NegotiatedSource};
use crate::transport::dtls::Fingerprint;

/// Media lines of an offer; a page has 19, a participant of a load test that watches thirty a few more than 40.
const MOST_LINES: usize = 64;
/// Bytes of an offer; a browser's has about 25,000.
const MOST_BYTES: usize = 64 * 1024;
/// SSRCs a line may announce: the stream, its repair, and spares.
const MOST_SSRCS: usize = 4;

pub(super) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(super) const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
pub(super) const RRID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
pub(super) const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub(super) const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// What an offer asks for, as far as it is answered with yes.
#[derive(Debug)]
pub(crate) struct ReadOffer {
    /// The sender's number of the connection.
    pub(crate) connection: u32,
    /// Whether the connection is there already and only its path is sought anew.
    pub(crate) restart: bool,
    pub(crate) ufrag: String,
    pub(crate) fingerprint: Fingerprint,
    /// All lines, in the order of the offer.
    pub(crate) lines: Vec<Line>,
    /// How many of them are slots.
    pub(crate) slots: usize,
}

impl ReadOffer {
    /// Whether this is an offer of the same connection and DTLS association (RFC 8842 section 4).
    pub(crate) fn is_of_the_connection(&self, earlier: &Self) -> bool {
        (self.connection, self.fingerprint) == (earlier.connection, earlier.fingerprint)
    }

    /// Whether the lines are those of an earlier offer. Announced SSRCs may differ: packets are bound by their mid.
    /// Extensions that were not answered may be missing (RFC 9429 section 5.2.2), and ids keep their meaning for a
    /// connection's life (RFC 8285 section 6).
    pub(crate) fn has_the_lines(&self, earlier: &Self) -> bool {
        let same = |(line, of): (&Line, &Line)| {
            let number = |line: &Line| line.codec.map(|codec| codec.payload_type);
            (&line.mid, line.kind, line.used, number(line)) == (&of.mid, of.kind, of.used, number(of))
        };
        self.lines.len() == earlier.lines.len() && self.lines.iter().zip(&earlier.lines).all(same)
    }
}

/// One media line.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) mid: String,
    pub(crate) kind: MediaKind,
    pub(crate) codec: Option<Codec>,
    pub(crate) extensions: ExtensionIds,
    pub(crate) ssrcs: Vec<u32>,
    /// SSRCs of a stream and its repair.
    pub(crate) pairs: Vec<(u32, u32)>,
    /// The encodings that are answered with yes.
    pub(crate) rids: Vec<String>,
    pub(crate) used: LineUse,
    /// Of a slot for sound: the mid of the slot for pictures it goes with.
    pub(crate) lips: Option<String>,
}

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineUse {
    /// The participant sends this.
    Source(Source),
    /// The participant receives; its place among the slots of the message.
    Slot(usize),
    /// Neither: answered as inactive.
    Nothing,
}

/// VP8 or Opus as the offer numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codec {
    pub(crate) payload_type: u8,
    pub(crate) nack: bool,
    /// The payload type of its repair, where that is answered with yes.
    pub(crate) rtx: Option<u8>,
}

impl Line {
    /// What the room is told of a line that sends.
    pub(crate) fn negotiated_source(&self, source: Source) -> Option<NegotiatedSource> {
        let codec = self.codec?;
        Some(NegotiatedSource {
            source,
            mid: self.mid.clone(),
            ssrcs: self.ssrcs.clone(),
            rids: self.rids.clone(),
            payload_type: codec.payload_type,
            rtx: codec.rtx.map(|payload_type| NegotiatedRtx {
                payload_type,
                pairs: self.pairs.clone(),
            }),
            extensions: self.extensions,
            nack: codec.nack,
        })
    }
}

/// Reads an offer and holds it against what the message says of it.
///
/// # Errors
/// With the line and the reason when it cannot be answered.
pub(crate) fn read_offer(offer: &Offer) -> Result<ReadOffer, OfferError> {
    if offer.sdp.len() > MOST_BYTES {
        return Err(whole("the session description is too long"));
    }
    let session = SessionDescription::unmarshal(&mut Cursor::new(offer.sdp.as_bytes()))
        .map_err(|_| whole("not a session description"))?;
    let media = &session.media_descriptions;
    if media.len() > MOST_LINES {
        return Err(whole("more than 64 media lines"));
    }
    if media.iter().any(|line| line.media_name.media == "application") {
        return Err(OfferError::Datachannel);
    }
    let first = media.first().ok_or_else(|| whole("no media line"))?;
    let shared = |key: &str| {
        value(first, key)
            .map(str::to_owned)
            .or_else(|| session.attribute(key).map(|text| text.trim().to_owned()))
    };
    let ufrag = shared("ice-ufrag").ok_or_else(|| whole("no ice-ufrag"))?;
    let fingerprint = shared("fingerprint").as_deref().and_then(read_fingerprint);
    let fingerprint = fingerprint.ok_or_else(|| whole("no sha-256 fingerprint"))?;
    if shared("setup").is_some_and(|setup| setup == "passive") {
        return Err(whole("a=setup must be actpass or active"));
    }
    let bundle = session
        .attribute("group")
        .filter(|group| group.trim().starts_with("BUNDLE"));
    let bundle = bundle.ok_or_else(|| whole("no a=group:BUNDLE"))?;
    let bundled: Vec<&str> = bundle.split_whitespace().skip(1).collect();

    let mut uses = named_uses(offer)?;
    let mut lines = Vec::with_capacity(media.len());
    for (index, description) in media.iter().enumerate() {
        let line = read_line(index, description, &mut uses)?;
        if line.used != LineUse::Nothing && !bundled.contains(&line.mid.as_str()) {
            return Err(at(index, "not in a=group:BUNDLE"));
        }
        lines.push(line);
    }
    if !uses.is_empty() {
        return Err(whole(
            "sources or slots name a mid that is not in the session description",
        ));
    }
    pair_lips(&offer.lips, &mut lines)?;
    Ok(ReadOffer {
        connection: offer.connection,
        restart: offer.restart,
        ufrag,
        fingerprint,
        lines,
        slots: offer.slots.len(),
    })
}

fn pair_lips(lips: &BTreeMap<String, String>, lines: &mut [Line]) -> Result<(), OfferError> {
    let slot = |line: &Line, mid: &str, kind| {
        line.mid == mid && line.kind == kind && matches!(line.used, LineUse::Slot(_))
    };
    for (picture, sound) in lips {
        let pictured = lines.iter().any(|line| slot(line, picture, MediaKind::Video));
        let sounding = lines.iter_mut().find(|line| slot(line, sound, MediaKind::Audio));
        match sounding.filter(|line| pictured && line.lips.is_none()) {
            Some(line) => line.lips = Some(picture.clone()),
            None => return Err(whole("lips pair a slot for pictures with one slot for sound")),
        }
    }
    Ok(())
}

fn named_uses(offer: &Offer) -> Result<BTreeMap<&str, LineUse>, OfferError> {
    let mut uses = BTreeMap::new();
    let sources = offer
        .sources
        .iter()
        .map(|(mid, source)| (mid, LineUse::Source(*source)));
    let slots = offer
        .slots
        .iter()
        .enumerate()
        .map(|(place, mid)| (mid, LineUse::Slot(place)));
    for (mid, used) in sources.chain(slots) {
        if uses.values().any(|other| *other == used) {
            return Err(whole("a source is named twice"));
        }
        if uses.insert(mid.as_str(), used).is_some() {
            return Err(whole("a mid is named twice"));
        }
    }
    Ok(uses)
}

fn read_line(
    index: usize,
    description: &MediaDescription,
    uses: &mut BTreeMap<&str, LineUse>,
) -> Result<Line, OfferError> {
    let kind = match description.media_name.media.as_str() {
        "video" => MediaKind::Video,
        "audio" => MediaKind::Audio,
        _ => return Err(at(index, "neither audio nor video")),
    };
    let mid = value(description, "mid").ok_or_else(|| at(index, "no mid"))?;
    // A mid goes into the answer as it is; RFC 5888 allows no more than these anyway.
    if mid.is_empty()
        || mid.len() > 32
        || !mid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Err(at(
            index,
            "the mid has other characters than letters, digits, -, _ and .",
        ));
    }
    let used = uses.remove(mid).unwrap_or(LineUse::Nothing);
    let has = |key: &str| {
        description
            .attributes
            .iter()
            .any(|attribute| attribute.key == key)
    };
    let directed = ["sendonly", "recvonly", "inactive"]
        .into_iter()
        .find(|key| has(key))
        .unwrap_or("sendrecv");
    match (used, directed) {
        (LineUse::Source(source), _) if source.kind() != kind => {
            return Err(at(index, "the source is of the other kind"));
        }
        (LineUse::Source(_), "recvonly" | "inactive") => return Err(at(index, "a source must be sendonly")),
        (LineUse::Slot(_), "sendonly" | "inactive") => return Err(at(index, "a slot must be recvonly")),
        _ => {}
    }
    if used != LineUse::Nothing && !has("rtcp-mux") {
        return Err(at(index, "no a=rtcp-mux"));
    }
    let codec = find_codec(description, kind);
    if used != LineUse::Nothing && codec.is_none() {
        return Err(at(
            index,
            match kind {
                MediaKind::Video => "VP8 is not offered",
                MediaKind::Audio => "Opus is not offered",
            },
        ));
    }
    let pairs = pairs(description);
    let mut line = Line {
        mid: mid.to_owned(),
        kind,
        codec,
        extensions: ExtensionIds {
            mid: extension(description, MID),
            rid: extension(description, RID),
            rrid: extension(description, RRID),
            audio_level: extension(description, AUDIO_LEVEL),
            transport_cc: extension(description, TRANSPORT_CC).filter(|_| {
                codec.is_some_and(|codec| has_feedback(description, codec.payload_type, "transport-cc"))
            }),
        },
        ssrcs: announced(description, &pairs),
        pairs,
        rids: Vec::new(),
        used,
        lips: None,
    };
    if matches!(used, LineUse::Source(_)) && line.extensions.mid.is_some() && line.extensions.rid.is_some() {
        line.rids = encodings(description);
    }
    let repairs = match used {
        LineUse::Source(_) => line.can_bind_repair(),
        LineUse::Slot(_) => true,
        LineUse::Nothing => false,
    };
    if !repairs {
        line.codec = line.codec.map(|codec| Codec { rtx: None, ..codec });
    }
    Ok(line)
}

impl Line {
    /// Whether it can be told what a repairing packet of this line repairs: by a pair for every stream, else by the
    /// names it carries.
    fn can_bind_repair(&self) -> bool {
        if self.rids.is_empty() && !self.ssrcs.is_empty() {
            let paired = |ssrc| self.pairs.iter().any(|(media, _)| *media == ssrc);
            return self.ssrcs.iter().copied().all(paired);
        }
        self.extensions.mid.is_some() && (self.rids.is_empty() || self.extensions.rrid.is_some())
    }
}

/// The encodings of a line that sends several (RFC 8853), as far as they are taken; empty for a line that sends one.
fn encodings(description: &MediaDescription) -> Vec<String> {
    let named: Vec<&str> = values(description, "rid")
        .filter_map(|text| {
            let mut words = text.split_whitespace();
            // RFC 8851 section 10: letters, digits, - and _; it goes into the answer as it is.
            let name = words.next().filter(|name| name.len() <= 16)?;
            let plain = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            (plain && words.next() == Some("send")).then_some(name)
        })
        .collect();
    let Some(simulcast) = value(description, "simulcast") else {
        return Vec::new();
    };
    let mut words = simulcast
        .split_whitespace()
        .skip_while(|word| *word != "send")
        .skip(1);
    let mut rids: Vec<String> = Vec::new();
    for alternatives in words.next().unwrap_or_default().split(';') {
        // Of alternatives the first counts; `~` says that it is not being sent at the moment.
        let first = alternatives.split(',').next().unwrap_or_default();
        let rid = first.strip_prefix('~').unwrap_or(first);
        if named.contains(&rid) && rids.iter().all(|other| other != rid) && rids.len() < MOST_LAYERS {
            rids.push(rid.to_owned());
        }
    }
    if rids.len() < 2 { Vec::new() } else { rids }
}

fn find_codec(description: &MediaDescription, kind: MediaKind) -> Option<Codec> {
    let wanted = match kind {
        MediaKind::Video => "vp8/90000",
        MediaKind::Audio => "opus/48000/2",
    };
    let payload_type = values(description, "rtpmap").find_map(|text| {
        let (number, name) = text.split_once(' ')?;
        let number: u8 = number.parse().ok().filter(|number| *number < 128)?;
        name.trim().eq_ignore_ascii_case(wanted).then_some(number)
    })?;
    let nack = has_feedback(description, payload_type, "nack");
    Some(Codec {
        payload_type,
        nack,
        rtx: find_rtx(description, payload_type).filter(|_| nack && kind == MediaKind::Video),
    })
}

/// Whether a kind of feedback without parameter is offered for a payload type (RFC 4585 section 4.2).
fn has_feedback(description: &MediaDescription, payload_type: u8, kind: &str) -> bool {
    values(description, "rtcp-fb").any(|text| {
        let mut words = text.split_whitespace();
        let of = words.next();
        let this = of == Some("*") || of.and_then(|number| number.parse().ok()) == Some(payload_type);
        this && words.next() == Some(kind) && words.next().is_none()
    })
}

/// The payload type that repairs `of` (RFC 4588 section 8.6).
fn find_rtx(description: &MediaDescription, of: u8) -> Option<u8> {
    values(description, "rtpmap").find_map(|text| {
        let (number, name) = text.split_once(' ')?;
        let number: u8 = number.parse().ok().filter(|number| *number < 128)?;
        let repairs = values(description, "fmtp").any(|text| {
            text.split_once(' ').is_some_and(|(of_number, parameters)| {
                let apt = parameters
                    .split(';')
                    .find_map(|parameter| parameter.trim().strip_prefix("apt="));
                of_number.parse() == Ok(number) && apt.and_then(|apt| apt.parse().ok()) == Some(of)
            })
        });
        (name.trim().eq_ignore_ascii_case("rtx/90000") && number != of && repairs).then_some(number)
    })
}

fn extension(description: &MediaDescription, uri: &str) -> Option<u8> {
    values(description, "extmap").find_map(|text| {
        let mut words = text.split_whitespace();
        let id = words.next()?.split('/').next()?.parse().ok()?;
        // RFC 8285: 15 and 0 are reserved, larger ones need two-byte headers, which browsers do not send to us.
        (words.next() == Some(uri) && (1..=14).contains(&id)).then_some(id)
    })
}

/// Streams and their repair, by the groups `FID` (RFC 5576 section 4.2).
fn pairs(description: &MediaDescription) -> Vec<(u32, u32)> {
    let groups = values(description, "ssrc-group").filter_map(|text| text.strip_prefix("FID "));
    let pairs = groups.filter_map(|text| {
        let mut words = text.split_whitespace().map(str::parse);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    });
    pairs.take(MOST_SSRCS).collect()
}

/// SSRCs of the stream itself; those of repair are left out.
fn announced(description: &MediaDescription, pairs: &[(u32, u32)]) -> Vec<u32> {
    let mut ssrcs: Vec<u32> = values(description, "ssrc")
        .filter_map(|text| text.split_whitespace().next()?.parse().ok())
        .filter(|ssrc| pairs.iter().all(|(_, repair)| repair != ssrc))
        .collect();
    ssrcs.dedup();
    ssrcs.truncate(MOST_SSRCS);
    ssrcs
}

fn read_fingerprint(text: &str) -> Option<Fingerprint> {
    let (method, digits) = text.split_once(' ')?;
    if !method.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .trim()
        .split(':')
        .map(|pair| {
            (pair.len() == 2)
                .then(|| u8::from_str_radix(pair, 16).ok())
                .flatten()
        })
        .collect();
    bytes?.try_into().ok()
}

fn value<'a>(description: &'a MediaDescription, key: &str) -> Option<&'a str> {
    description
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)?
        .value
        .as_deref()
        .map(str::trim)
}

fn values<'a>(description: &'a MediaDescription, key: &'a str) -> impl Iterator<Item = &'a str> {
    description
        .attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .filter_map(|attribute| attribute.value.as_deref().map(str::trim))
}

const fn whole(reason: &'static str) -> OfferError {
    OfferError::Bad { line: None, reason }
}

const fn at(line: usize, reason: &'static str) -> OfferError {
    OfferError::Bad {
        line: Some(line),
        reason,
    }
}
