//! Offers of real browsers, whole and damaged.

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::*;
use rtc_sdp::description::session::SessionDescription;
use seodang_model::protocol::Offer;
use seodang_model::{MediaKind, Source};

use super::offer::TRANSPORT_CC;
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

/// A microphone, a picture to be shown and a data channel: file, mid of the microphone and of the slot, and the number of
/// VP8, which Safari offers behind H.264.
const OTHERS: [(&str, &str, &str, u8); 2] = [
    (
        include_str!("../../../../fixtures/data/sdp/safari_mac.sdp"),
        "1",
        "0",
        100,
    ),
    (
        include_str!("../../../../fixtures/data/sdp/chrome_android.sdp"),
        "0",
        "1",
        96,
    ),
];

#[test]
fn safari_and_android_get_vp8_and_opus_under_their_own_numbers() {
    for (sdp, microphone, slot, vp8) in OTHERS {
        let sources = || BTreeMap::from([(microphone.to_owned(), Source::Microphone)]);
        assert_eq!(refusal(sdp, sources(), &[slot]), OfferError::Datachannel);

        let (media, _) = sdp.split_once("m=application").expect("a data channel");
        let media = media.replace("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1");
        let read = read_offer(&offer(&media, sources(), &[slot])).expect("a good offer");
        let answer = answer(&read);
        let sections: Vec<&str> = answer.split("m=").skip(1).collect();
        assert_eq!(sections.len(), 2);
        for section in sections {
            if section.contains(&format!("a=mid:{slot}\r\n")) {
                let numbers = section.lines().next().and_then(|line| line.split_once("SAVPF "));
                let first = numbers.and_then(|(_, numbers)| numbers.split(' ').next());
                assert_eq!(first, Some(vp8.to_string().as_str()));
                assert!(section.contains(&format!("a=rtpmap:{vp8} VP8/90000\r\n")));
                assert!(section.contains("a=sendonly\r\n"));
            } else {
                assert!(section.starts_with("audio 9 UDP/TLS/RTP/SAVPF 111\r\n"));
                assert!(section.contains("a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"));
                assert!(section.contains("a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"));
                assert!(section.contains("a=recvonly\r\n"));
            }
        }
        for absent in ["H264", "VP9", "red/", "ulpfec", "video-orientation", "ISAC"] {
            assert!(!answer.contains(absent), "{absent}");
        }
    }
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
