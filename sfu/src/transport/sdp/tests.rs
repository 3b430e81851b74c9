//! Offers of real browsers, whole and damaged.

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::*;
use rtc_sdp::description::session::SessionDescription;
use seodang_model::protocol::Offer;
use seodang_model::{MediaKind, Source};

use super::offer::{AUDIO_LEVEL, MID, TRANSPORT_CC};
use super::*;
use crate::OfferError;
use crate::transport::ice::Credentials;

/// The class page in Chromium 156 and Firefox 153: four sources, nine slots for pictures, six for sound.
const CLASS_PAGES: [&str; 2] = [
    include_str!("../../../../fixtures/data/sdp/chromium_class_page.sdp"),
    include_str!("../../../../fixtures/data/sdp/firefox_class_page.sdp"),
];
/// One line that sends three encodings.
const SIMULCAST: [&str; 2] = [
    include_str!("../../../../fixtures/data/sdp/chromium_simulcast.sdp"),
    include_str!("../../../../fixtures/data/sdp/firefox_simulcast.sdp"),
];
/// Sound and picture both ways with every codec of Chromium.
const ALL_CODECS: &str = include_str!("../../../../fixtures/data/sdp/chromium_sendrecv_all_codecs.sdp");
const DATACHANNEL: &str = include_str!("../../../../fixtures/data/sdp/chromium_datachannel.sdp");

/// A line of an answer: mid, use, kind and payload types, header extensions.
type Answered = (&'static str, LineUse, &'static str, &'static [(u8, &'static str)]);

const MICROPHONE: LineUse = LineUse::Source(Source::Microphone);
const CAMERA: LineUse = LineUse::Source(Source::Camera);
const SLOT: LineUse = LineUse::Slot(0);
/// Safari, Chrome on Android and Chromium number the extensions of sound alike.
const SOUND: &[(u8, &str)] = &[(4, MID), (1, AUDIO_LEVEL), (3, TRANSPORT_CC)];
/// Those of a picture in Chromium.
const PICTURE: &[(u8, &str)] = &[(4, MID), (3, TRANSPORT_CC)];

/// A microphone, a picture to be shown and a data channel, and how the lines are answered. Safari offers VP8 behind H.264.
const OTHERS: [(&str, &[Answered]); 2] = [
    (
        include_str!("../../../../fixtures/data/sdp/safari_mac.sdp"),
        &[
            ("0", SLOT, "video 100 101", &[]),
            ("1", MICROPHONE, "audio 111", SOUND),
        ],
    ),
    (
        include_str!("../../../../fixtures/data/sdp/chrome_android.sdp"),
        &[
            ("0", MICROPHONE, "audio 111", SOUND),
            ("1", SLOT, "video 96 97", &[]),
        ],
    ),
];

#[test]
fn safari_and_android_get_vp8_and_opus_under_their_own_numbers() {
    for (sdp, lines) in OTHERS {
        let (sources, slots) = uses(lines);
        assert_eq!(refusal(sdp, sources, &slots), OfferError::Datachannel);
        let (media, _) = sdp.split_once("m=application").expect("a data channel");
        judge(
            &media.replace("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1"),
            lines,
        );
    }
}

/// Safari on iOS asks for this feedback on its line of sound.
#[test]
fn transport_wide_feedback_is_not_wished_where_its_extension_is_missing() {
    let of_sound = format!("a=extmap:3 {TRANSPORT_CC}\r\n");
    judge(
        &ALL_CODECS.replacen(&of_sound, "", 1),
        &[
            ("0", MICROPHONE, "audio 111", &[(4, MID), (1, AUDIO_LEVEL)]),
            ("1", CAMERA, "video 96 97", PICTURE),
        ],
    );
}

/// As Safari sends its camera.
#[test]
fn a_camera_with_vp8_behind_h264_is_one_stream_with_its_repair() {
    let sdp = ALL_CODECS
        .replace("a=rtpmap:96 VP8/", "a=rtpmap:96 H264/")
        .replace("a=rtpmap:102 H264/", "a=rtpmap:102 VP8/")
        .replace("a=fmtp:102 ", "a=fmtp:96 ");
    judge(
        &sdp,
        &[
            ("0", MICROPHONE, "audio 111", SOUND),
            ("1", CAMERA, "video 102 103", PICTURE),
        ],
    );
    let sources = BTreeMap::from([("1".to_owned(), Source::Camera)]);
    let read = read_offer(&offer(&sdp, sources, &[])).expect("a good offer");
    let camera = read.lines[1].negotiated_source(Source::Camera).expect("VP8");
    assert_eq!(
        (camera.payload_type, &camera.ssrcs[..]),
        (102, &[1_176_715_451][..])
    );
    assert_eq!(camera.rids, [""; 0]);
    let rtx = camera.rtx.expect("repair");
    assert_eq!(
        (rtx.payload_type, &rtx.pairs[..]),
        (103, &[(1_176_715_451, 2_240_384_802)][..])
    );
}

/// Safari on iOS keeps such a line.
#[test]
fn a_third_line_that_nobody_mentions_is_inactive_and_without_repair() {
    let (_, picture) = ALL_CODECS.split_once("m=video").expect("a picture");
    let third = picture
        .replace("a=mid:1", "a=mid:2")
        .replace("a=sendrecv", "a=inactive")
        .replace("a=ssrc", "a=x");
    let two = ALL_CODECS.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0 1 2");
    judge(
        &format!("{two}m=video{third}"),
        &[
            ("0", MICROPHONE, "audio 111", SOUND),
            ("1", CAMERA, "video 96 97", PICTURE),
            ("2", LineUse::Nothing, "video 96", &[]),
        ],
    );
}

#[test]
fn the_class_page_gets_its_sources_and_slots() {
    for sdp in CLASS_PAGES {
        let read = read_offer(&class_page(sdp)).expect("a good offer");
        let answer = answer(&read);
        assert_eq!(count(&answer, "a=recvonly"), 4);
        assert_eq!(count(&answer, "a=sendonly"), 15);
        assert_eq!(count(&answer, "a=setup:passive"), 19);
        assert_eq!(count(&answer, "a=ice-lite"), 1);
        let video = read.lines.iter().filter(|line| line.kind == MediaKind::Video);
        assert!(
            video
                .clone()
                .all(|line| line.codec.is_some_and(|codec| codec.rtx.is_some()))
        );
        assert_eq!(count(&answer, "a=fmtp:"), 8 + video.count());
        assert_eq!(count(&answer, "a=ssrc-group:FID"), 9, "the slots of pictures");
        let transport_wide = answer.lines().filter(|line| line.ends_with(TRANSPORT_CC)).count();
        let wished = answer
            .lines()
            .filter(|line| line.ends_with(" transport-cc"))
            .count();
        assert_eq!(
            (transport_wide, wished),
            (4, 4),
            "upstream, each where both are offered"
        );
        assert!(answer.contains("a=candidate:") && answer.contains("a=end-of-candidates"));
        let tcp = " 192.0.2.1 4000 typ host tcptype passive";
        assert_eq!(answer.lines().filter(|line| line.ends_with(tcp)).count(), 19);
        for absent in ["video-orientation", "abs-send-time", "trickle"] {
            assert!(!answer.contains(absent), "{absent}");
        }
        let opus = read.lines.iter().filter(|line| line.kind == MediaKind::Audio);
        assert!(
            opus.clone()
                .all(|line| line.codec.is_some_and(|codec| codec.nack)),
            "the page asks for it"
        );
        assert_eq!(opus.count(), 8);
        assert!(read.lines.iter().all(|line| line.extensions.mid.is_some()));
    }
}

#[test]
fn a_picture_and_its_sound_share_an_msid() {
    let mut page = class_page(CLASS_PAGES[0]);
    page.lips = BTreeMap::from([("10".to_owned(), "13".to_owned())]);
    let text = answer(&read_offer(&page).expect("a good offer"));
    for msid in [
        "a=msid:slot-10 track-10",
        "a=msid:slot-10 track-13",
        "a=msid:slot-11 track-11",
    ] {
        assert_eq!(count(&text, msid), 1, "{msid}");
    }
    for pairs in [
        &[("10", "11")][..],
        &[("13", "10")],
        &[("10", "99")],
        &[("0", "13")],
        &[("9", "13"), ("10", "13")],
    ] {
        page.lips = pairs
            .iter()
            .map(|(picture, sound)| (picture.to_string(), sound.to_string()))
            .collect();
        assert!(read_offer(&page).is_err(), "{pairs:?}");
    }
}

#[test]
fn repair_streams_are_no_announced_sources() {
    let read = read_offer(&class_page(CLASS_PAGES[0])).expect("a good offer");
    let LineUse::Source(Source::Camera) = read.lines[0].used else {
        panic!("the camera comes first")
    };
    let group = CLASS_PAGES[0]
        .lines()
        .find_map(|line| line.strip_prefix("a=ssrc-group:FID "))
        .expect("a group");
    let (first, _) = group.split_once(' ').expect("two");
    assert_eq!(read.lines[0].ssrcs, [first.parse::<u32>().expect("a number")]);
}

#[test]
fn repair_that_could_not_be_told_apart_is_answered_with_no() {
    let camera = |sdp: &str| {
        let sources = BTreeMap::from([("0".to_owned(), Source::Camera)]);
        let read = read_offer(&offer(sdp, sources, &[])).expect("a good offer");
        (answer(&read), read)
    };
    let page = CLASS_PAGES[0];
    let (text, read) = camera(page);
    assert_eq!(read.lines[0].pairs, [(1_818_827_281, 337_366_720)]);
    assert!(text.contains("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"));
    assert!(text.contains("a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"));
    let without_group = page.replace("a=ssrc-group", "a=x");
    let another = page.replace("apt=96", "apt=98");
    let (simulcast, nameless) = (SIMULCAST[0], SIMULCAST[0].replace("sdes:mid", "x"));
    for (sdp, answered) in [
        (page, true),
        (&without_group, false),
        (&another, false),
        (simulcast, true),
        (&nameless, false),
    ] {
        let (text, _) = camera(sdp);
        assert_eq!(text.contains("rtx"), answered);
    }
}

#[test]
fn three_encodings_of_a_source_are_taken_by_name() {
    for sdp in SIMULCAST {
        let read = read_offer(&camera(sdp)).expect("a good offer");
        let media = read.lines[0].negotiated_source(Source::Camera).expect("VP8");
        assert_eq!(media.rids, ["q", "h", "f"]);
        let answer = answer(&read);
        assert_eq!(count(&answer, "a=recvonly"), 1);
        for line in [
            "a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\n",
            "a=simulcast:recv q;h;f\r\n",
            "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n",
            "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n",
        ] {
            assert!(answer.contains(line), "{line} in {answer}");
        }
    }
    let page = answer(&read_offer(&class_page(CLASS_PAGES[0])).expect("a good offer"));
    assert!(
        !page.contains("stream-id") && !page.contains("a=simulcast"),
        "one encoding needs no name"
    );
}

#[test]
fn encodings_that_are_not_described_or_too_many_are_left_out() {
    let with = |rids: &[&str], simulcast: &str| {
        let start = SIMULCAST[0].find("a=rid:q").expect("encodings");
        let rids: String = rids.iter().map(|rid| format!("a=rid:{rid}\r\n")).collect();
        let sdp = format!("{}{rids}a=simulcast:{simulcast}\r\n", &SIMULCAST[0][..start]);
        let read = read_offer(&camera(&sdp)).expect("a good offer");
        read.lines[0].rids.clone()
    };
    assert_eq!(with(&["1 send", "2 send"], "recv 9 send 1,5;~2"), ["1", "2"]);
    assert_eq!(
        with(&["1 send", "2 send", "3 send", "4 send"], "send 1;2;3;4").len(),
        3
    );
    for (rids, simulcast) in [
        (&["1 send", "2 recv"][..], "send 1;2"),
        (&["1 send", "2 send"], "recv 1;2"),
        (&["1 send", "a\u{e4} send"], "send 1;a\u{e4}"),
        (&["1 send"], "send 1;1;1"),
    ] {
        assert_eq!(with(rids, simulcast), [""; 0], "{rids:?} {simulcast}");
    }
}

#[test]
fn lines_that_nobody_mentions_are_inactive() {
    let read = read_offer(&offer(ALL_CODECS, BTreeMap::new(), &[])).expect("a good offer");
    let answer = answer(&read);
    assert_eq!((count(&answer, "a=inactive"), count(&answer, "a=ssrc:")), (2, 0));
}

#[test]
fn data_channels_are_refused_by_name() {
    assert_eq!(
        refusal(DATACHANNEL, BTreeMap::new(), &[]),
        OfferError::Datachannel
    );
}

#[test]
fn an_offer_that_cannot_be_answered_is_refused_with_its_reason() {
    let camera = || BTreeMap::from([("0".to_owned(), Source::Camera)]);
    let page = CLASS_PAGES[0];
    let without = |line: &str| page.replace(&format!("{line}\r\n"), "");
    let cases: [(String, BTreeMap<String, Source>, &[&str]); 11] = [
        ("v=0\r\n".to_owned(), camera(), &[]),
        (without("a=rtcp-mux"), camera(), &[]),
        (page.replace("a=group:BUNDLE", "a=group:LS"), camera(), &[]),
        (page.replace("a=setup:actpass", "a=setup:passive"), camera(), &[]),
        (page.replace("sha-256", "sha-1"), camera(), &[]),
        (page.replace("VP8/90000", "VP9/90000"), camera(), &[]),
        (page.to_owned(), camera(), &["99"]),
        (page.to_owned(), camera(), &["4", "4"]),
        (page.to_owned(), camera(), &["0"]),
        (
            page.to_owned(),
            BTreeMap::from([("1".to_owned(), Source::Camera)]),
            &[],
        ),
        (
            page.to_owned(),
            BTreeMap::from([("4".to_owned(), Source::Camera)]),
            &[],
        ),
    ];
    for (number, (sdp, sources, slots)) in cases.into_iter().enumerate() {
        assert!(
            matches!(refusal(&sdp, sources, slots), OfferError::Bad { .. }),
            "case {number}"
        );
    }
    let twice = BTreeMap::from([("0".to_owned(), Source::Camera), ("2".to_owned(), Source::Camera)]);
    assert!(matches!(
        refusal(page, twice, &[]),
        OfferError::Bad { line: None, .. }
    ));
    let long = format!("{page}{}", "a=x\r\n".repeat(20_000));
    assert!(matches!(
        refusal(&long, camera(), &[]),
        OfferError::Bad { line: None, .. }
    ));
    let (_, line) = page.split_once("m=video").expect("a line");
    let (line, _) = line.split_once("m=").expect("another line");
    let many = format!(
        "{page}{}",
        format!("m=video{}", line.replace("a=ssrc", "a=x")).repeat(40)
    );
    assert!(matches!(refusal(&many, camera(), &[]), OfferError::Bad { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_offers_never_panic_and_what_is_answered_is_answered_line_by_line(
        which in 0_usize..2,
        cuts in prop::collection::vec((0_usize..700, 0_u8..4, 0_usize..700), 0..6),
        flips in prop::collection::vec((0_usize..21_000, any::<u8>()), 0..4),
    ) {
        let mut lines: Vec<&str> = CLASS_PAGES[which].split_inclusive("\r\n").collect();
        for (at, what, other) in cuts {
            let (at, other) = (at % lines.len(), other % lines.len());
            match what {
                0 if lines.len() > 1 => drop(lines.remove(at)),
                0 | 1 => lines.insert(at, lines[other]),
                2 => lines.swap(at, other),
                _ => lines.truncate(at.max(1)),
            }
        }
        let mut bytes = lines.concat().into_bytes();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let sdp = String::from_utf8_lossy(&bytes).into_owned();
        if let Ok(read) = read_offer(&class_page(&sdp)) {
            let text = answer(&read);
            let again = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()));
            prop_assert_eq!(again.expect("readable").media_descriptions.len(), read.lines.len());
        }
    }

    #[test]
    fn arbitrary_text_never_panics(sdp in "(v=0\r\n|o=- 1 1 IN IP4 0\r\n|s=-\r\n|t=0 0\r\n|m=|a=|[a-z0-9:= /\r\n]){0,60}") {
        let _ = read_offer(&class_page(&sdp));
    }
}

/// Sources and slots as the message names them.
fn uses(lines: &'static [Answered]) -> (BTreeMap<String, Source>, Vec<&'static str>) {
    let (mut sources, mut slots) = (BTreeMap::new(), Vec::new());
    for (mid, used, ..) in lines {
        match used {
            LineUse::Source(source) => drop(sources.insert((*mid).to_owned(), *source)),
            LineUse::Slot(_) => slots.push(*mid),
            LineUse::Nothing => {}
        }
    }
    (sources, slots)
}

/// Holds the answer to an offer against what is expected of every line, in their order.
fn judge(sdp: &str, lines: &'static [Answered]) {
    let (sources, slots) = uses(lines);
    let answer = answer(&read_offer(&offer(sdp, sources, &slots)).expect("a good offer"));
    let sections: Vec<&str> = answer.split("m=").skip(1).collect();
    assert_eq!(sections.len(), lines.len());
    for (section, (mid, used, numbered, extensions)) in sections.into_iter().zip(lines) {
        let said = |key: &str| -> Vec<&str> {
            section
                .lines()
                .filter_map(|line| line.strip_prefix(key))
                .collect()
        };
        assert_eq!(said("a=mid:"), [*mid]);
        let (kind, numbers) = numbered.split_once(' ').expect("kind and numbers");
        assert!(
            section.starts_with(&format!("{kind} 9 UDP/TLS/RTP/SAVPF {numbers}\r\n")),
            "{section}"
        );
        let codecs = match (kind, numbers.split_once(' ')) {
            ("audio", _) => vec![format!("{numbers} opus/48000/2")],
            (_, None) => vec![format!("{numbers} VP8/90000")],
            (_, Some((vp8, rtx))) => {
                assert_eq!(said("a=fmtp:"), [format!("{rtx} apt={vp8}")]);
                vec![format!("{vp8} VP8/90000"), format!("{rtx} rtx/90000")]
            }
        };
        assert_eq!(said("a=rtpmap:"), codecs, "mid {mid}");
        let direction = match used {
            LineUse::Source(_) => "a=recvonly",
            LineUse::Slot(_) => "a=sendonly",
            LineUse::Nothing => "a=inactive",
        };
        let directions = ["a=recvonly", "a=sendonly", "a=inactive", "a=sendrecv"];
        let directed: Vec<&str> = section.lines().filter(|line| directions.contains(line)).collect();
        assert_eq!(directed, [direction], "mid {mid}");
        let expected: Vec<String> = extensions.iter().map(|(id, uri)| format!("{id} {uri}")).collect();
        assert_eq!(said("a=extmap:"), expected, "mid {mid}");
        let wished = section.lines().any(|line| line.ends_with(" transport-cc"));
        let offered = extensions.iter().any(|(_, uri)| *uri == TRANSPORT_CC);
        assert_eq!(wished, offered, "mid {mid}");
    }
    for absent in ["H264", "VP9", "AV1", "red/", "fec/", "ISAC", "video-orientation"] {
        assert!(!answer.contains(absent), "{absent}");
    }
}

fn camera(sdp: &str) -> Offer {
    offer(sdp, BTreeMap::from([("0".to_owned(), Source::Camera)]), &[])
}

fn offer(sdp: &str, sources: BTreeMap<String, Source>, slots: &[&str]) -> Offer {
    Offer {
        connection: 1,
        sdp: sdp.to_owned(),
        sources,
        slots: slots.iter().map(|mid| (*mid).to_owned()).collect(),
        restart: false,
        lips: BTreeMap::new(),
    }
}

/// As the page describes its own offer.
fn class_page(sdp: &str) -> Offer {
    let sources = Source::ALL
        .iter()
        .enumerate()
        .map(|(place, source)| (place.to_string(), *source));
    let slots: Vec<String> = (4..19).map(|mid| mid.to_string()).collect();
    let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
    offer(sdp, sources.collect(), &slots)
}

fn refusal(sdp: &str, sources: BTreeMap<String, Source>, slots: &[&str]) -> OfferError {
    read_offer(&offer(sdp, sources, slots)).expect_err("refused")
}

fn answer(read: &ReadOffer) -> String {
    let slot_ssrcs: Vec<SlotSsrcs> = (0..read.slots as u32)
        .map(|place| SlotSsrcs {
            media: 1_000 + place,
            rtx: 2_000 + place,
        })
        .collect();
    write_answer(
        read,
        &AnswerLines {
            credentials: &Credentials::random(),
            fingerprint: &[7; 32],
            candidates: &["192.0.2.1:4000".parse().expect("an address")],
            slot_ssrcs: &slot_ssrcs,
            version: 1,
            over_tcp: true,
        },
    )
}

fn count(text: &str, start: &str) -> usize {
    text.lines().filter(|line| line.starts_with(start)).count()
}
