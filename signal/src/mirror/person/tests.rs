//! What of a participant's packets reaches its file, with hand-set time.

use std::sync::Arc;

use bytes::Bytes;
use seodang_model::{
    DisplayName, LessonFolder, ParticipantId, PersonId, Publication, Role, RoomId, StorageName,
};
use seodang_recorder::{Recorder, RecorderConfig, RecordingStatus};
use seodang_rtp::{NtpTime, RtpPacket};
use seodang_sfu::{Sfu, SfuConfig};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::*;
use crate::mirror::opener::Opener;

/// Between pictures, and between packets of sound.
const PICTURE_MS: u64 = 40;
const SOUND_MS: u64 = 20;

#[test]
fn nothing_of_a_browsers_beginning_is_lost_when_its_first_sound_report_comes_late() {
    // Browsers report their pictures half a second apart, their sound up to five seconds.
    for report_after_ms in [0, 100, 300, 500, 700, 2_500] {
        for sound_after_ms in [0, 300, 900] {
            let status = recorded(report_after_ms, sound_after_ms);
            assert_eq!(
                (status.dropped_audio_packets, status.dropped_video_frames),
                (0, 0),
                "sound from {sound_after_ms} ms on, its report {report_after_ms} ms later"
            );
        }
    }
}

#[test]
fn media_that_comes_back_before_its_websocket_is_recorded_on_and_of_a_free_seat_never() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sfu, desk) = desk(folder.path());
    let (mut person, start) = recorded_person(&desk);
    let at = |now_ms| start.instant + Duration::from_millis(now_ms);
    person.handle(packet_of(Source::Camera, at(0), picture(0)), &desk);
    person.set_absent(true, &desk);
    person.tick(at(900), &desk);
    assert!(!person.away, "the media may go on without the WebSocket");
    person.tick(at(1_100), &desk);
    assert!(person.away, "it does not");
    person.handle(packet_of(Source::Camera, at(1_200), picture(1_200)), &desk);
    assert!(!person.away && person.absent, "back before the WebSocket");
    person.leave(&desk);
    person.handle(packet_of(Source::Camera, at(1_240), picture(1_240)), &desk);
    assert!(
        person.away,
        "what is still on the way of a free seat is no return"
    );
    person.set_absent(false, &desk);
    assert!(!person.away, "the seat is taken again");
    drop(person);
    sfu.shutdown();
}

#[test]
fn pictures_are_placed_once_the_files_beginning_is_settled() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sfu, desk) = desk(folder.path());
    let (mut person, start) = recorded_person(&desk);
    let at = |now_ms| start.instant + Duration::from_millis(now_ms);
    assert_eq!(person.placed, MediaOrigin::Awaited, "before anything came");
    person.handle(packet_of(Source::Camera, at(0), picture(0)), &desk);
    person.handle(packet_of(Source::Microphone, at(20), sound(20)), &desk);
    let mut awaited_with_file = false;
    for now_ms in (40..3_000).step_by(20) {
        person.tick(at(now_ms), &desk);
        wait_until_open(&mut person, at(now_ms), &desk);
        let camera = person.writers.get(&RecordingKind::Camera);
        let origin = camera.and_then(Recording::origin);
        assert_eq!(
            person.placed,
            origin.map_or(MediaOrigin::Awaited, MediaOrigin::At)
        );
        awaited_with_file |= camera.is_some() && origin.is_none();
    }
    assert!(awaited_with_file, "older sound may follow the first picture");
    assert!(matches!(person.placed, MediaOrigin::At(_)), "{:?}", person.placed);
    person.set_consents(Consents::default(), &desk);
    assert_eq!(person.media_origin(), MediaOrigin::Unknown);
    drop(person);
    sfu.shutdown();
}

/// Three seconds of a camera with a report at once, and of a microphone.
fn recorded(report_after_ms: u64, sound_after_ms: u64) -> RecordingStatus {
    let folder = tempfile::tempdir().expect("a folder");
    let (sfu, desk) = desk(folder.path());
    let (mut person, start) = recorded_person(&desk);
    for now_ms in 0..3_000 {
        let arrival = start.instant + Duration::from_millis(now_ms);
        let mut take = |source, content| {
            let publication = Publication {
                participant: subject().participant,
                source,
            };
            let item = Mirrored {
                publication,
                attachment: 1,
                arrival,
                content,
            };
            person.handle(item, &desk);
        };
        if now_ms % PICTURE_MS == 0 {
            take(Source::Camera, Content::Packet(picture(now_ms)));
            if now_ms % 480 == 0 {
                take(Source::Camera, clock(now_ms, 90));
            }
        }
        if now_ms >= sound_after_ms && now_ms % SOUND_MS == 0 {
            take(Source::Microphone, Content::Packet(sound(now_ms)));
        }
        if now_ms == sound_after_ms + report_after_ms {
            take(Source::Microphone, clock(now_ms, 48));
        }
        wait_until_open(&mut person, arrival, &desk);
        if now_ms % 25 == 0 {
            person.tick(arrival, &desk);
        }
    }
    let files = person.close(&desk);
    assert_eq!(files.len(), 1);
    let mut parts = files.into_iter().map(|file| file.wait(Duration::from_secs(20)));
    let part = parts.next().expect("one").expect("a finished file");
    sfu.shutdown();
    part.status
}

/// A file is open within milliseconds, of which hand-set time knows nothing.
fn wait_until_open(person: &mut Person, now: Instant, desk: &Desk) {
    while person
        .writers
        .values()
        .any(|writer| matches!(writer, Recording::Opening(_)))
    {
        person.tick(now, desk);
    }
}

fn desk(root: &std::path::Path) -> (Sfu, Desk) {
    let (sfu, handle, _events) = Sfu::start(SfuConfig {
        bind: [127, 0, 0, 1].into(),
        port: 0,
        tcp: false,
        workers: 1,
        worker_seats: 100,
        candidates: Vec::new(),
        publisher_bitrate_bps: 1_000_000,
        recording_size: seodang_rtp::FrameSize {
            width: 640,
            height: 480,
        },
        capture_size: seodang_rtp::FrameSize {
            width: 640,
            height: 480,
        },
    })
    .expect("an sfu");
    let recorder = Recorder::start(RecorderConfig {
        root: root.to_owned(),
    })
    .expect("a recorder");
    let desk = Desk {
        sfu: handle,
        opener: Some(Opener::start(move |info| recorder.open(info)).expect("a thread")),
        overload: Arc::default(),
        analyzer: None,
        capture_layer: false,
        books: mpsc::channel(16).0,
        reporter: mpsc::channel(16).0,
    };
    (sfu, desk)
}

/// Somebody with camera and microphone who agreed to be recorded.
fn recorded_person(desk: &Desk) -> (Person, LessonStart) {
    let start = LessonStart {
        instant: Instant::now(),
        system: std::time::SystemTime::UNIX_EPOCH,
    };
    let mut person = Person::new(subject(), &lesson(), start);
    let consents = Consents {
        recording: true,
        captures: false,
    };
    person.set_consents(consents, desk);
    for source in [Source::Camera, Source::Microphone] {
        person.open_track(Copied::Whole(source), 1);
        person.set_sending(source, true, desk);
    }
    (person, start)
}

fn packet_of(source: Source, arrival: Instant, packet: RtpPacket) -> Mirrored {
    let publication = Publication {
        participant: subject().participant,
        source,
    };
    Mirrored {
        publication,
        attachment: 1,
        arrival,
        content: Content::Packet(packet),
    }
}

fn clock(now_ms: u64, ticks_a_ms: u32) -> Content {
    Content::Clock {
        ntp: NtpTime((3_900_000_000 << 32) + (now_ms << 32) / 1_000),
        rtp: now_ms as u32 * ticks_a_ms,
    }
}

fn picture(now_ms: u64) -> RtpPacket {
    // RFC 7741: a descriptor with S set, then a key frame of 320x180 (RFC 6386 section 9.1), or not one.
    let payload: &[u8] = if now_ms == 0 {
        &[0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]
    } else {
        &[0x10, 0x11, 0x02, 0x00]
    };
    packet(1, now_ms / PICTURE_MS, now_ms * 90, payload)
}

fn sound(now_ms: u64) -> RtpPacket {
    packet(2, now_ms / SOUND_MS, now_ms * 48, &[0xf8, 0xff, 0xfe])
}

fn packet(ssrc: u32, number: u64, timestamp: u64, payload: &[u8]) -> RtpPacket {
    RtpPacket {
        marker: true,
        payload_type: 96,
        sequence_number: number as u16,
        timestamp: timestamp as u32,
        ssrc,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn lesson() -> LessonInfo {
    LessonInfo {
        lesson: LessonId::from_bits(1),
        room: RoomId::from_bits(1),
        number: "101".parse().expect("a number"),
        folder: LessonFolder::of(OffsetDateTime::UNIX_EPOCH),
        started_at: OffsetDateTime::UNIX_EPOCH,
        reopened: false,
    }
}

fn subject() -> Subject {
    let name = DisplayName::parse("민수").expect("a name");
    Subject {
        lesson: LessonId::from_bits(1),
        participant: ParticipantId::from_bits(1),
        person: PersonId::from_bits(1),
        storage_name: StorageName::for_display(&name),
        name,
        role: Role::Student,
        consents: Consents::default(),
        consent_version: crate::consent::TEXT_VERSION,
        joined_at: OffsetDateTime::UNIX_EPOCH,
        resumed: false,
    }
}
