//! The assembler with a real SFU and real files, driven by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use bytes::Bytes;
use seodang_model::{DisplayName, LessonFolder, PersonId, Rights, Role, RoomId, StorageName};
use seodang_recorder::{FinishedPart, Recorder, RecorderConfig, RecorderError};
use seodang_rtp::RtpPacket;
use seodang_sfu::{Join, Sfu, SfuConfig};
use time::OffsetDateTime;

use super::*;
use crate::mirror::opener::Opener;
use crate::mirror::sink::{Content, Overload};

const RECORDING: Consents = Consents {
    recording: true,
    captures: false,
};
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn of_hundreds_who_come_and_go_only_those_with_files_are_remembered() {
    let mut scene = Scene::new(|recorder, info| recorder.open(info));
    let recorded = scene.join(1);
    assert_eq!(scene.reported(recorded), RECORDING);
    for now_ms in (0..1_000).step_by(40) {
        scene.picture(recorded, now_ms, 30);
    }
    scene.tick_until_open(recorded);
    scene.command(MirrorCommand::Left(recorded));
    for number in 2..302 {
        let guest = Subject {
            consents: Consents::default(),
            ..subject(number)
        };
        let participant = guest.participant;
        scene.command(MirrorCommand::Joined(guest.clone()));
        assert_eq!(scene.reported(participant), Consents::default());
        scene.assembler.tick(scene.start);
        assert!(scene.assembler.people.contains_key(&participant));
        scene.command(MirrorCommand::Left(participant));
        scene.assembler.tick(scene.start);
    }
    assert_eq!(scene.assembler.people.len(), 1);
    assert!(
        scene.assembler.people.contains_key(&recorded),
        "its file may go on"
    );

    let returning = ParticipantId::from_bits(2);
    scene.join_sfu(returning);
    scene.join_mirror(2);
    assert_eq!(scene.reported_of(returning), RECORDING);
}

#[test]
fn a_disk_that_is_stuck_at_opening_holds_up_nobody_and_the_first_frames_are_in_the_file() {
    let (release, stuck) = channel::<()>();
    let mut scene = Scene::new(move |recorder, info| {
        // Whoever lets go of the other end lets every later one through.
        let _ = stuck.recv();
        recorder.open(info)
    });
    let one = scene.join(1);
    assert_eq!(scene.reported(one), RECORDING);
    for now_ms in (0..1_000).step_by(40) {
        scene.picture(one, now_ms, 30);
    }
    let two = scene.join(2);
    assert_eq!(scene.reported(two), RECORDING, "the thread goes on");
    drop(release);
    scene.tick_until_open(one);
    for now_ms in (1_000..2_000).step_by(40) {
        scene.picture(one, now_ms, 30);
    }
    assert_eq!(scene.unopened_frames(), 0);
    let part = scene.end(one);
    assert_eq!(part.status.dropped_video_frames, 0);
    assert!(
        part.status
            .offset
            .is_some_and(|offset| offset < Duration::from_millis(300)),
        "{part:?}"
    );
}

#[test]
fn a_lesson_that_ends_while_its_file_is_being_opened_keeps_its_first_frames() {
    let (release, stuck) = channel::<()>();
    let mut scene = Scene::new(move |recorder, info| {
        let _ = stuck.recv();
        recorder.open(info)
    });
    let one = scene.join(1);
    for now_ms in (0..1_000).step_by(40) {
        scene.picture(one, now_ms, 30);
    }
    let waiting = std::thread::spawn(move || {
        let part = scene.end(one);
        (scene, part)
    });
    drop(release);
    let (_scene, part) = waiting.join().expect("no panic");
    assert_eq!(part.status.dropped_video_frames, 0);
    assert!(part.status.offset.is_some(), "{part:?}");
}

#[test]
fn what_a_stuck_disk_cannot_take_is_bounded_and_counted_and_everyone_is_told() {
    let (release, stuck) = channel::<()>();
    let mut scene = Scene::new(move |recorder, info| {
        let _ = stuck.recv();
        recorder.open(info)
    });
    let one = scene.join(1);
    assert_eq!(scene.reported(one), RECORDING);
    for now_ms in (0..8_000).step_by(40) {
        scene.picture(one, now_ms, 10_000);
    }
    let dropped = scene.unopened_frames();
    assert!((100..200).contains(&dropped), "{dropped}");
    assert_eq!(scene.reported(one), Consents::default(), "nothing is kept");
    drop(release);
    scene.tick_until_open(one);
    assert_eq!(scene.reported(one), RECORDING, "it is open after all");
}

#[test]
fn a_recording_that_cannot_be_opened_is_told_and_tried_again_after_a_while() {
    let fails = Arc::new(AtomicBool::new(true));
    let (tries, tried) = channel();
    let (failing, tries) = (Arc::clone(&fails), tries);
    let mut scene = Scene::new(move |recorder, info| {
        tries.send(()).expect("the test goes on");
        if failing.load(Ordering::Relaxed) {
            return Err(RecorderError::NotAFolder("/".into()));
        }
        recorder.open(info)
    });
    let one = scene.join(1);
    assert_eq!(scene.reported(one), RECORDING);
    // The first frames wait for a sender report, which does not come.
    for now_ms in (0..1_000).step_by(40) {
        scene.picture(one, now_ms, 30);
    }
    tried.recv_timeout(DEADLINE).expect("a try");
    assert_eq!(scene.tick_until_reported(one), Consents::default());
    for now_ms in (1_000..5_500).step_by(40) {
        scene.picture(one, now_ms, 30);
    }
    assert!(
        tried.try_recv().is_err(),
        "a full disk must not be asked for every frame"
    );
    fails.store(false, Ordering::Relaxed);
    for now_ms in (5_520..6_200).step_by(40) {
        scene.picture(one, now_ms, 30);
    }
    tried.recv_timeout(DEADLINE).expect("another try");
    scene.tick_until_open(one);
    assert_eq!(scene.reported(one), RECORDING);
}

#[test]
fn a_sink_that_the_sfu_did_not_take_is_told_and_offered_again() {
    let mut scene = Scene::new(|recorder, info| recorder.open(info));
    let one = scene.join_mirror(1);
    assert_eq!(scene.reported(one), Consents::default(), "nothing arrives");
    scene.join_sfu(one);
    scene.assembler.tick(scene.start + Duration::from_millis(500));
    assert!(scene.reports.try_recv().is_err(), "not yet");
    scene.assembler.tick(Instant::now() + Duration::from_secs(2));
    assert_eq!(scene.reported(one), RECORDING);
}

#[test]
fn a_panic_ends_the_keeping_of_one_participant_alone_and_says_so() {
    let mut scene = Scene::new(|recorder, info| recorder.open(info));
    let (one, two) = (scene.join(1), scene.join(2));
    assert_eq!((scene.reported(one), scene.reported(two)), (RECORDING, RECORDING));
    scene.picture(one, 0, 30);
    scene.assembler.contained(one, |_, _| panic!("made by the test"));
    assert_eq!(scene.reported(one), Consents::default());
    assert!(!scene.assembler.people.contains_key(&one));
    scene.picture(one, 40, 30);
    for now_ms in (0..1_000).step_by(40) {
        scene.picture(two, now_ms, 30);
    }
    scene.tick_until_open(two);
    let part = scene.end(two);
    assert!(
        part.status.bytes > 0 && part.status.dropped_video_frames == 0,
        "{part:?}"
    );
}

#[test]
fn a_withdrawal_stops_what_is_refused_and_never_begins_anything() {
    let mut scene = Scene::new(|recorder, info| recorder.open(info));
    let one = scene.join(1);
    assert_eq!(scene.reported(one), RECORDING);
    let both = Consents {
        recording: true,
        captures: true,
    };
    scene.withdraw(one, both);
    assert!(
        scene.reports.try_recv().is_err(),
        "nothing is refused, nothing begins"
    );
    scene.withdraw(one, Consents::default());
    assert_eq!(scene.reported(one), Consents::default());
    scene.withdraw(one, both);
    assert!(scene.reports.try_recv().is_err(), "a withdrawal is not a yes");
}

struct Scene {
    _folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    _sfu: Sfu,
    assembler: Assembler,
    overload: Arc<Overload>,
    reports: mpsc::Receiver<KeptReport>,
    entries: mpsc::Receiver<Entry>,
    _queue: Receiver<Mirrored>,
    no_packets: Receiver<Mirrored>,
    start: Instant,
}

impl Scene {
    fn new(
        mut open: impl FnMut(
            &Recorder,
            seodang_recorder::RecordingInfo,
        ) -> Result<seodang_recorder::RecordingWriter, RecorderError>
        + Send
        + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (sfu, handle, _events) = Sfu::start(SfuConfig {
            bind: [127, 0, 0, 1].into(),
            port: 0,
            workers: 1,
            candidates: Vec::new(),
            publisher_bitrate_bps: 1_000_000,
            recording_size: seodang_rtp::FrameSize {
                width: 640,
                height: 480,
            },
        })
        .expect("an sfu");
        let root = folder.path().to_owned();
        let recorder = Recorder::start(RecorderConfig { root }).expect("a recorder");
        let (books, entries) = mpsc::channel(16);
        let (reporter, reports) = mpsc::channel(16);
        let (sinks, queue, overload) = SinkSource::new();
        let desk = Desk {
            sfu: handle,
            opener: Some(Opener::start(move |info| open(&recorder, info)).expect("a thread")),
            overload: Arc::clone(&overload),
            analyzer: None,
            books,
            reporter,
        };
        let mut assembler = Assembler::new(desk, sinks);
        assembler.open_lesson(lesson());
        let (_nobody, no_packets): (Sender<Mirrored>, _) = channel();
        Self {
            _folder: folder,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            _sfu: sfu,
            assembler,
            overload,
            reports,
            entries,
            _queue: queue,
            no_packets,
            start: Instant::now(),
        }
    }

    /// Somebody who sends a camera and agreed to be recorded.
    fn join(&mut self, number: u128) -> ParticipantId {
        self.join_sfu(ParticipantId::from_bits(number));
        self.join_mirror(number)
    }

    fn join_sfu(&self, participant: ParticipantId) {
        let join = self.assembler.desk.sfu.join(Join {
            lesson: lesson().lesson,
            participant,
            rights: Rights::default(),
        });
        self.runtime.block_on(join).expect("a place");
    }

    fn join_mirror(&mut self, number: u128) -> ParticipantId {
        let subject = subject(number);
        let participant = subject.participant;
        self.command(MirrorCommand::Joined(subject));
        self.command(MirrorCommand::Published(Publication {
            participant,
            source: Source::Camera,
        }));
        participant
    }

    fn command(&mut self, command: MirrorCommand) {
        self.assembler.handle_command(command, &self.no_packets);
    }

    fn withdraw(&mut self, participant: ParticipantId, still: Consents) {
        self.command(MirrorCommand::Withdrawn { participant, still });
    }

    /// A picture of so many bytes at a hand-set time; the first one is a key frame.
    fn picture(&mut self, participant: ParticipantId, now_ms: u64, bytes: usize) {
        let arrival = self.start + Duration::from_millis(now_ms);
        // RFC 7741: a descriptor with S set, then a key frame of 320x180 (RFC 6386 section 9.1), or not one.
        let mut payload = if now_ms == 0 {
            vec![0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]
        } else {
            vec![0x10, 0x11, 0x02, 0x00]
        };
        payload.resize(bytes, 0);
        let packet = RtpPacket {
            marker: true,
            payload_type: 96,
            sequence_number: (now_ms / 40) as u16,
            timestamp: (now_ms * 90) as u32,
            ssrc: 1,
            payload: Bytes::from(payload),
        };
        let attachment = self.assembler.people.get(&participant).map_or(0, |person| {
            person.attachment(Source::Camera).expect("a camera is mirrored")
        });
        self.assembler.handle_packet(Mirrored {
            publication: Publication {
                participant,
                source: Source::Camera,
            },
            attachment,
            arrival,
            content: Content::Packet(packet),
        });
        self.assembler.tick(arrival);
    }

    fn unopened_frames(&self) -> u64 {
        self.overload.dropped()[2]
    }

    /// The next thing everyone is told of what is kept; it must be of `participant`.
    fn reported(&mut self, participant: ParticipantId) -> Consents {
        let report = self.reports.try_recv().expect("a report");
        assert_eq!(report.participant, participant);
        report.kept
    }

    /// The newest thing everyone is told of what is kept of `participant`.
    fn reported_of(&mut self, participant: ParticipantId) -> Consents {
        let mut newest = None;
        while let Ok(report) = self.reports.try_recv() {
            if report.participant == participant {
                newest = Some(report.kept);
            }
        }
        newest.expect("a report")
    }

    fn tick_until_reported(&mut self, participant: ParticipantId) -> Consents {
        let deadline = Instant::now() + DEADLINE;
        while self.reports.is_empty() {
            assert!(Instant::now() < deadline, "nothing is told");
            self.assembler.tick(self.start);
        }
        self.reported(participant)
    }

    /// Until the file is open, which is noted for the books.
    fn tick_until_open(&mut self, participant: ParticipantId) {
        let deadline = Instant::now() + DEADLINE;
        while !self.assembler.people[&participant].is_recorded() {
            assert!(Instant::now() < deadline, "the file is not opened");
            self.assembler.tick(self.start);
        }
    }

    /// Ends the lesson; what became of the one file of `participant`.
    fn end(&mut self, participant: ParticipantId) -> FinishedPart {
        assert!(self.assembler.people.contains_key(&participant));
        self.assembler.people.retain(|other, _| *other == participant);
        let (closed, _answer) = tokio::sync::oneshot::channel();
        self.command(MirrorCommand::LessonClosing {
            lesson: lesson().lesson,
            keep_recordings: true,
            unstored: std::collections::BTreeSet::new(),
            closed,
        });
        loop {
            if let Entry::Closing { pending, .. } = self.entries.try_recv().expect("the end") {
                let mut files = pending.into_iter();
                let file = files.next().expect("a file");
                assert!(files.next().is_none(), "one file");
                return file.wait(DEADLINE).expect("a finished file");
            }
        }
    }
}

fn lesson() -> LessonInfo {
    LessonInfo {
        lesson: LessonId::from_bits(1),
        room: RoomId::from_bits(1),
        number: "101".parse().expect("a number"),
        folder: LessonFolder::of(OffsetDateTime::UNIX_EPOCH),
        started_at: OffsetDateTime::now_utc(),
        reopened: false,
    }
}

fn subject(number: u128) -> Subject {
    let name = DisplayName::parse(&format!("민수 {number}")).expect("a name");
    Subject {
        lesson: lesson().lesson,
        participant: ParticipantId::from_bits(number),
        person: PersonId::from_bits(number),
        storage_name: StorageName::for_display(&name),
        name,
        role: Role::Student,
        consents: RECORDING,
        consent_version: crate::consent::TEXT_VERSION,
        joined_at: OffsetDateTime::now_utc(),
        resumed: false,
    }
}
