use std::collections::{BTreeMap, BTreeSet};
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use bytes::Bytes;

use super::*;
use crate::decode::DecodeError;
use crate::fake::{assert_matching, frame, keyframe, participant, rows, subject};
use crate::picture::I420;
use crate::row::{CaptureClock, CaptureRow, CaptureStatus};

/// An analyzer on the shortest period, whose wishes are answered with what each participant sends.
struct Class {
    root: tempfile::TempDir,
    analyzer: Analyzer,
    handle: AnalyzerHandle,
    events: Receiver<CaptureEvent>,
}

impl Class {
    fn start(decode: Decode, sends: BTreeMap<ParticipantId, Bytes>) -> Self {
        decode::prepare().expect("GStreamer is installed");
        let root = tempfile::tempdir().expect("a folder");
        let config = AnalyzerConfig {
            period: Duration::from_secs(2),
            time_zone: TimeZone::fixed(jiff::tz::offset(9)),
            ..AnalyzerConfig::new(root.path().to_owned())
        };
        let (wish, wishes) = channel();
        let (analyzer, handle, events) = Analyzer::start_with(
            config,
            Box::new(move |participant| {
                // Wishes that come after the end of the test are nobody's.
                let _ = wish.send(participant);
            }),
            decode,
        )
        .expect("it starts");
        let (answers, started, zero) = (handle.clone(), Instant::now(), SystemTime::now());
        std::thread::spawn(move || {
            for participant in wishes {
                if let Some(data) = sends.get(&participant) {
                    answers.frame(participant, frame(data.clone(), zero, started.elapsed()));
                }
            }
        });
        Self {
            root,
            analyzer,
            handle,
            events,
        }
    }

    fn enter(&self, number: u128, name: &str, camera: CameraState) {
        self.handle.enter(subject(number, name));
        self.handle.set_camera(participant(number), camera);
    }

    fn next_row(&self) -> CaptureRow {
        self.events
            .recv_timeout(Duration::from_secs(15))
            .expect("a row within 15 s")
            .row
    }

    fn rows_of_one_tick(&self, count: usize) -> BTreeMap<ParticipantId, CaptureRow> {
        let rows: Vec<_> = (0..count).map(|_| self.next_row()).collect();
        let ticks: BTreeSet<_> = rows.iter().map(|row| row.tick_utc).collect();
        assert_eq!(ticks.len(), 1, "{ticks:?}");
        rows.into_iter().map(|row| (row.participant, row)).collect()
    }
}

#[test]
fn a_tick_gives_everyone_a_row_and_every_good_camera_a_picture() {
    let good = keyframe("smpte", 320, 180);
    let mut monster = good.to_vec();
    monster[6..10].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    // The only one of its size.
    let cut = keyframe("smpte", 160, 90).slice(..60);
    let sends = [
        (1, good.clone()),
        (2, Bytes::from(monster)),
        (3, cut),
        (4, keyframe("ball", 640, 480)),
    ];
    let decoded = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&decoded);
    let class = Class::start(
        Arc::new(move |data, size| {
            seen.lock()
                .map_err(|_| DecodeError::NoPicture)?
                .insert(size.width);
            decode::decode(data, size)
        }),
        sends
            .into_iter()
            .map(|(number, data)| (participant(number), data))
            .collect(),
    );
    for (number, name) in [
        (1, "김 민수"),
        (2, "monster"),
        (3, "cut"),
        (4, "박서연"),
        (6, "silent"),
    ] {
        class.enter(number, name, CameraState::On);
    }
    class.enter(5, "off", CameraState::Off);
    class
        .handle
        .set_media_origin(participant(1), MediaOrigin::At(Duration::ZERO));
    let rows = class.rows_of_one_tick(6);
    let statuses: Vec<_> = rows.values().map(|row| row.status).collect();
    assert_eq!(
        statuses,
        [
            CaptureStatus::Ok,
            CaptureStatus::RejectedFrame,
            CaptureStatus::RejectedFrame,
            CaptureStatus::Ok,
            CaptureStatus::CameraOff,
            CaptureStatus::NoKeyframe,
        ]
    );
    assert_eq!(
        *decoded.lock().expect("no panic"),
        [320, 640].into(),
        "a bad header reached a decoder"
    );

    let row = &rows[&participant(1)];
    assert_eq!(
        (row.width, row.height, row.clock),
        (Some(320), Some(180), Some(CaptureClock::SenderReport))
    );
    assert_eq!(row.tick_utc.unix_timestamp() % 2, 0);
    assert_eq!(row.tick_local, row.tick_utc);
    let local = row.tick_local;
    let digits = format!(
        "{:02}_{:02}_{:02}.jpg",
        local.hour(),
        local.minute(),
        local.second()
    );
    let path = row.path.as_deref().expect("a path");
    assert!(
        path.starts_with("math-7b/김-민수_") && path.ends_with(&digits),
        "{path}"
    );
    let distance = row.captured_at.expect("a time") - row.tick_utc;
    assert!(
        (-400..=1_500).contains(&distance.whole_milliseconds()),
        "{distance}"
    );
    assert!(row.media_time_ms.is_some());

    class.handle.leave(participant(6));
    assert!(class.analyzer.shutdown(Duration::from_secs(5)));
    assert_matching(class.root.path());
}

#[test]
fn who_never_entered_or_left_has_no_row() {
    let class = Class::start(Arc::new(decode::decode), BTreeMap::new());
    class.enter(1, "here", CameraState::Off);
    class.enter(2, "gone", CameraState::On);
    class.handle.leave(participant(2));
    class.handle.set_camera(participant(3), CameraState::On);
    class.handle.frame(
        participant(3),
        frame(keyframe("smpte", 320, 180), SystemTime::now(), Duration::ZERO),
    );
    assert_eq!(class.next_row().participant, participant(1));
    assert_eq!(class.next_row().participant, participant(1));
    assert!(class.analyzer.shutdown(Duration::from_secs(5)));
    assert!(
        rows(class.root.path())
            .iter()
            .all(|row| row.participant == participant(1))
    );
}

#[test]
fn a_panic_over_one_picture_costs_that_picture_alone() {
    let bad = keyframe("ball", 64, 64);
    let panics = bad.clone();
    let decode: Decode = Arc::new(move |data, size| {
        assert!(*data != panics, "this decoder cannot take this picture");
        decode::decode(data, size)
    });
    let sends = [
        (participant(1), bad),
        (participant(2), keyframe("smpte", 320, 180)),
    ];
    let class = Class::start(decode, sends.into());
    class.enter(1, "bad", CameraState::On);
    class.enter(2, "good", CameraState::On);
    for _ in 0..2 {
        let rows = class.rows_of_one_tick(2);
        assert_eq!(rows[&participant(1)].status, CaptureStatus::RejectedFrame);
        assert_eq!(rows[&participant(2)].status, CaptureStatus::Ok);
    }
    assert!(class.analyzer.shutdown(Duration::from_secs(5)));
    assert_matching(class.root.path());
}

#[test]
fn what_is_not_begun_before_the_next_round_is_a_missed_tick() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let closed = Arc::clone(&gate);
    let decode: Decode = Arc::new(move |_, _| {
        let open = closed.0.lock().map_err(|_| DecodeError::NoPicture)?;
        let _open = closed
            .1
            .wait_while(open, |open| !*open)
            .map_err(|_| DecodeError::NoPicture)?;
        Ok(I420 {
            width: 16,
            height: 16,
            luma: vec![99; 256],
            blue: vec![128; 64],
            red: vec![128; 64],
        })
    });
    let picture = keyframe("ball", 64, 64);
    let numbers = 1..=10;
    let class = Class::start(
        decode,
        numbers
            .clone()
            .map(|number| (participant(number), picture.clone()))
            .collect(),
    );
    numbers.for_each(|number| class.enter(number, &format!("p{number}"), CameraState::On));
    let missed = class.next_row();
    assert_eq!(missed.status, CaptureStatus::MissedTick);
    *gate.0.lock().expect("no panic") = true;
    gate.1.notify_all();
    while class.next_row().status != CaptureStatus::Ok {}
    assert!(class.analyzer.shutdown(Duration::from_secs(5)));
    assert_matching(class.root.path());
    let mut rows_of: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows(class.root.path()) {
        rows_of.entry(row.tick_utc).or_default().push(row.participant);
    }
    // Shutting down may come before a round's tick is over; the first tick is complete.
    let (_, mut first) = rows_of.pop_first().expect("a tick");
    first.sort_unstable();
    assert_eq!(first, (1..=10).map(participant).collect::<Vec<_>>());
}

#[test]
fn values_out_of_range_are_refused() {
    let root = tempfile::tempdir().expect("a folder");
    let config = AnalyzerConfig::new(root.path().to_owned());
    let refused = |config| {
        Analyzer::start(config, Box::new(|_| {}))
            .map(|_| ())
            .expect_err("out of range")
    };
    for period in [
        Duration::from_millis(2_500),
        Duration::from_secs(1),
        Duration::from_secs(3_601),
    ] {
        assert!(matches!(
            refused(AnalyzerConfig {
                period,
                ..config.clone()
            }),
            AnalyzerError::Period
        ));
    }
    for jpeg_quality in [0, 101] {
        assert!(matches!(
            refused(AnalyzerConfig {
                jpeg_quality,
                ..config.clone()
            }),
            AnalyzerError::Quality
        ));
    }
    let root = root.path().join("file");
    std::fs::write(&root, b"").expect("written");
    assert!(matches!(
        refused(AnalyzerConfig { root, ..config }),
        AnalyzerError::Folder { .. }
    ));
}

#[test]
fn a_leave_counts_even_when_the_queue_is_full() {
    decode::prepare().expect("GStreamer is installed");
    let root = tempfile::tempdir().expect("a folder");
    let config = AnalyzerConfig {
        period: Duration::from_secs(2),
        ..AnalyzerConfig::new(root.path().to_owned())
    };
    let (wish, wishes) = channel();
    let (release, released) = channel::<()>();
    let (analyzer, handle, events) = Analyzer::start_with(
        config,
        Box::new(move |participant| {
            // The driver hangs here until the test lets it go on.
            let _ = wish.send(participant);
            let _ = released.recv();
        }),
        Arc::new(decode::decode),
    )
    .expect("it starts");
    for (number, camera) in [(1, CameraState::On), (2, CameraState::Off)] {
        handle.enter(subject(number, &format!("p{number}")));
        handle.set_camera(participant(number), camera);
    }
    let asked = wishes.recv_timeout(Duration::from_secs(15)).expect("a wish");
    assert_eq!(asked, participant(1));
    handle.enter(subject(3, "p3"));
    while handle.counts().dropped_commands == 0 {
        handle.set_camera(participant(2), CameraState::Off);
    }
    for number in [1, 3] {
        handle.leave(participant(number));
    }
    drop(release);
    for _ in 0..2 {
        let row = events.recv_timeout(Duration::from_secs(15)).expect("a row").row;
        assert_eq!(row.participant, participant(2), "the others have left");
    }
    assert!(analyzer.shutdown(Duration::from_secs(5)));
}
