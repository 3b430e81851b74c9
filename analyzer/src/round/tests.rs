use std::time::SystemTime;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::fake::{frame, participant, subject};

const PERIOD: Duration = Duration::from_secs(10);
/// Wall-clock time of the start, in milliseconds: 10 s before the first tick.
const START_MS: i64 = 1_800_000_000_001;

/// Rounds under a hand-set clock; `t` is milliseconds since the start, the first tick is at 9999.
struct Scene {
    rounds: Rounds,
    start: Instant,
    jump_ms: i64,
    wishes: Vec<(u64, ParticipantId)>,
    rows: Vec<(ParticipantId, i64, Result<u64, CaptureStatus>)>,
    /// Of each row.
    origins: Vec<MediaOrigin>,
}

impl Scene {
    fn new() -> Self {
        let start = Instant::now() + Duration::from_secs(100_000);
        let now = Moment {
            at: start,
            wall: Timestamp::from_millisecond(START_MS).expect("in range"),
        };
        Self {
            rounds: Rounds::new(PERIOD, now),
            start,
            jump_ms: 0,
            wishes: Vec::new(),
            rows: Vec::new(),
            origins: Vec::new(),
        }
    }

    fn at(&self, t: u64) -> Instant {
        self.start + Duration::from_millis(t)
    }

    fn time(&mut self, t: u64) {
        let wall_ms = START_MS + i64::try_from(t).expect("small") + self.jump_ms;
        let wall = Timestamp::from_millisecond(wall_ms).expect("in range");
        self.rounds.handle_time(Moment { at: self.at(t), wall });
        self.collect(t);
    }

    /// Every 20 ms from `from` to `to`.
    fn pass(&mut self, from: u64, to: u64) {
        (from..=to).step_by(20).for_each(|t| self.time(t));
    }

    fn enter(&mut self, number: u128, t: u64, camera: CameraState) {
        let since = self.at(t);
        self.rounds.handle_enter(subject(number, "민수"), since);
        self.rounds.handle_camera(since, participant(number), camera);
    }

    /// A key frame captured at `t`, named by it.
    fn keyframe(&mut self, number: u128, t: u64) {
        let zero = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let arrival = Arrival {
            at: self.at(t),
            wall: zero + Duration::from_millis(t),
        };
        self.rounds.handle_keyframe(
            participant(number),
            frame(vec![], zero, Duration::from_millis(t)),
            arrival,
        );
        self.collect(t);
    }

    fn camera(&mut self, number: u128, t: u64, camera: CameraState) {
        self.rounds.handle_camera(self.at(t), participant(number), camera);
        self.collect(t);
    }

    fn leave(&mut self, number: u128, t: u64) {
        self.rounds.handle_leave(self.at(t), participant(number));
        self.collect(t);
    }

    fn collect(&mut self, t: u64) {
        for action in self.rounds.take_actions() {
            match action {
                RoundAction::Wish(participant) => self.wishes.push((t, participant)),
                RoundAction::Decide(decision) => {
                    self.origins.push(decision.media_origin);
                    let outcome = decision
                        .outcome
                        .map(|shot| u64::try_from(shot.frame.at.as_millis()).expect("small"));
                    self.rows.push((
                        decision.subject.participant,
                        decision.tick.named.as_millisecond(),
                        outcome,
                    ));
                }
            }
        }
    }

    fn outcomes(&self) -> Vec<Result<u64, CaptureStatus>> {
        self.rows.iter().map(|(_, _, outcome)| *outcome).collect()
    }
}

#[test]
fn cameras_are_asked_before_the_tick_each_at_its_own_time_and_once_more() {
    let mut scene = Scene::new();
    (0..40).for_each(|number| scene.enter(number, 0, CameraState::On));
    scene.pass(0, 12_000);
    let before: Vec<_> = scene.wishes.iter().filter(|(t, _)| *t < 9_999).collect();
    let after: Vec<_> = scene.wishes.iter().filter(|(t, _)| *t >= 9_999).collect();
    assert_eq!((before.len(), after.len()), (40, 40));
    assert!(before.iter().all(|(t, _)| (9_599..=9_920).contains(t)));
    assert!(after.iter().all(|(t, _)| (10_299..=10_320).contains(t)));
    let mut times: Vec<_> = before.iter().map(|(t, _)| t).collect();
    times.dedup();
    assert!(times.len() > 8, "{times:?}");
}

#[test]
fn who_sent_a_key_frame_is_not_asked_again() {
    let mut scene = Scene::new();
    scene.enter(1, 0, CameraState::On);
    scene.pass(0, 9_940);
    scene.keyframe(1, 9_950);
    scene.pass(9_960, 12_000);
    assert_eq!(scene.wishes.len(), 1);
    assert_eq!(scene.outcomes(), [Ok(9_950)]);
}

#[test]
fn the_picture_is_the_key_frame_nearest_the_tick() {
    for (frames, expected) in [
        (vec![9_700, 9_900, 10_050], Ok(10_050)),
        (vec![9_700, 9_980, 10_050], Ok(9_980)),
        (vec![9_590, 11_490], Ok(11_490)),
        (vec![9_590], Err(CaptureStatus::NoKeyframe)),
        (vec![9_600], Ok(9_600)),
    ] {
        let mut scene = Scene::new();
        scene.enter(1, 0, CameraState::On);
        let mut now = 0;
        for t in &frames {
            scene.pass(now, *t);
            scene.keyframe(1, *t);
            now = *t;
        }
        scene.pass(now, 13_000);
        assert_eq!(scene.outcomes(), [expected], "{frames:?}");
    }
}

#[test]
fn a_key_frame_after_the_tick_decides_at_once() {
    let mut scene = Scene::new();
    scene.enter(1, 0, CameraState::On);
    scene.pass(0, 10_000);
    scene.keyframe(1, 10_010);
    assert_eq!(scene.outcomes(), [Ok(10_010)]);
    scene.keyframe(1, 10_011);
    scene.pass(10_020, 12_000);
    assert_eq!(scene.rows.len(), 1);
}

#[test]
fn a_picture_waits_for_its_place_in_a_file_that_is_about_to_begin() {
    let ten_seconds = MediaOrigin::At(Duration::from_secs(10));
    for (said, decided_at) in [
        (Some((10_100, ten_seconds)), 10_100),
        (Some((10_040, MediaOrigin::Unknown)), 10_040),
        (None, 11_500),
    ] {
        let mut scene = Scene::new();
        scene.enter(1, 0, CameraState::On);
        scene
            .rounds
            .handle_media_origin(participant(1), MediaOrigin::Awaited);
        scene.pass(0, 10_000);
        scene.keyframe(1, 10_010);
        let (at, origin) = said.unwrap_or((11_480, MediaOrigin::Awaited));
        scene.pass(10_020, at);
        assert_eq!(scene.rows, [], "{said:?}");
        scene.rounds.handle_media_origin(participant(1), origin);
        scene.collect(at);
        scene.pass(at + 20, decided_at);
        assert_eq!(scene.outcomes(), [Ok(10_010)], "{said:?}");
        let expected = said.map_or(MediaOrigin::Awaited, |(_, origin)| origin);
        assert_eq!(scene.origins, [expected]);
    }
}

#[test]
fn rows_without_a_picture_say_why() {
    let reasons = [
        (CameraState::Off, CaptureStatus::CameraOff),
        (CameraState::None, CaptureStatus::NoCamera),
        (CameraState::On, CaptureStatus::NoKeyframe),
        (CameraState::PrivateTalk, CaptureStatus::PrivateTalk),
        (CameraState::Disconnected, CaptureStatus::Disconnected),
    ];
    let mut scene = Scene::new();
    for (number, (camera, _)) in (1..).zip(reasons) {
        scene.enter(number, 0, camera);
    }
    scene.pass(0, 12_000);
    assert_eq!(scene.outcomes(), reasons.map(|(_, status)| Err(status)));
}

#[test]
fn a_camera_switched_off_before_the_tick_leaves_no_stale_picture() {
    let mut scene = Scene::new();
    scene.enter(1, 0, CameraState::On);
    scene.pass(0, 9_800);
    scene.keyframe(1, 9_810);
    scene.camera(1, 9_900, CameraState::Off);
    scene.keyframe(1, 9_950);
    scene.pass(9_960, 12_000);
    assert_eq!(scene.outcomes(), [Err(CaptureStatus::CameraOff)]);
}

#[test]
fn a_picture_from_before_the_consent_is_never_used() {
    let mut scene = Scene::new();
    scene.pass(0, 9_800);
    scene.enter(1, 9_900, CameraState::On);
    // Taken before, assembled and handed over after.
    scene.keyframe(1, 9_880);
    scene.pass(9_900, 12_000);
    assert_eq!(scene.outcomes(), [Err(CaptureStatus::NoKeyframe)]);
}

#[test]
fn a_private_talk_that_begins_within_the_round_leaves_no_picture() {
    let mut scene = Scene::new();
    scene.enter(1, 0, CameraState::On);
    scene.pass(0, 9_800);
    scene.keyframe(1, 9_950);
    scene.pass(9_960, 10_100);
    scene.camera(1, 10_110, CameraState::PrivateTalk);
    scene.keyframe(1, 10_120);
    scene.pass(10_120, 12_000);
    assert_eq!(scene.outcomes(), [Err(CaptureStatus::PrivateTalk)]);
}

#[test]
fn who_leaves_after_the_tick_has_a_row_and_who_leaves_before_has_none() {
    let mut scene = Scene::new();
    (1..=4).for_each(|number| scene.enter(number, 0, CameraState::On));
    scene.pass(0, 9_900);
    scene.leave(1, 9_990);
    scene.keyframe(2, 9_990);
    scene.pass(9_990, 10_100);
    scene.leave(2, 10_100);
    scene.leave(3, 10_100);
    scene.enter(5, 10_200, CameraState::On);
    scene.pass(10_200, 12_000);
    let rows: Vec<_> = scene
        .rows
        .iter()
        .map(|(who, _, outcome)| (*who, *outcome))
        .collect();
    assert_eq!(
        rows,
        [
            (participant(2), Ok(9_990)),
            (participant(3), Err(CaptureStatus::Disconnected)),
            (participant(4), Err(CaptureStatus::NoKeyframe)),
        ]
    );
}

#[test]
fn rounds_slept_through_are_missed_ticks() {
    let mut scene = Scene::new();
    scene.enter(1, 0, CameraState::On);
    scene.enter(2, 0, CameraState::Off);
    scene.pass(0, 100);
    scene.time(35_000);
    assert_eq!(scene.rows.len(), 6);
    for (who, _, outcome) in &scene.rows {
        let expected = if *who == participant(1) {
            CaptureStatus::MissedTick
        } else {
            CaptureStatus::CameraOff
        };
        assert_eq!(*outcome, Err(expected));
    }
}

#[test]
fn a_clock_set_by_an_hour_loses_and_doubles_no_row() {
    for jump_ms in [3_600_000, -3_600_000] {
        let mut scene = Scene::new();
        scene.enter(1, 0, CameraState::Off);
        scene.pass(0, 24_000);
        scene.jump_ms = jump_ms;
        scene.pass(24_020, 62_000);
        let ticks: Vec<_> = scene
            .rows
            .iter()
            .map(|(_, tick, _)| tick - START_MS - 9_999)
            .collect();
        let jumped = |tick| tick + jump_ms;
        assert_eq!(
            ticks,
            [
                0,
                10_000,
                jumped(20_000),
                jumped(30_000),
                jumped(40_000),
                jumped(50_000)
            ]
        );
    }
}

/// Found by the property below: the tick was pulled before the clock was set, to when somebody had just left.
#[test]
fn a_clock_set_just_before_a_tick_does_not_put_it_before_somebody_left() {
    let mut scene = Scene::new();
    scene.pass(20, 5_500);
    scene.jump_ms = -896_642;
    scene.pass(5_520, 7_320);
    scene.jump_ms = -1_637_022;
    scene.pass(7_340, 11_300);
    scene.enter(4, 11_300, CameraState::Off);
    scene.pass(11_320, 16_160);
    scene.leave(4, 16_160);
    scene.pass(16_180, 16_180);
    scene.jump_ms = -1_791_643;
    scene.pass(16_200, 16_200);
    assert!(scene.rounds.tick.at >= scene.at(16_200) + ASK_BEFORE);
    assert_eq!(scene.rows, []);
}

/// What a participant may do in the property below.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(u128),
    Leave(u128),
    Camera(u128, CameraState),
    Keyframe(u128),
    Origin(u128, MediaOrigin),
    ClockSet(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let camera = prop_oneof![
        3 => Just(CameraState::On),
        1 => Just(CameraState::Off),
        1 => Just(CameraState::None),
        1 => Just(CameraState::PrivateTalk),
        1 => Just(CameraState::Disconnected),
    ];
    let origin = prop_oneof![
        Just(MediaOrigin::Unknown),
        Just(MediaOrigin::Awaited),
        Just(MediaOrigin::At(Duration::ZERO)),
    ];
    prop_oneof![
        3 => (1_u128..6).prop_map(Step::Enter),
        2 => (1_u128..6).prop_map(Step::Leave),
        3 => ((1_u128..6), camera).prop_map(|(who, camera)| Step::Camera(who, camera)),
        6 => (1_u128..6).prop_map(Step::Keyframe),
        2 => ((1_u128..6), origin).prop_map(|(who, origin)| Step::Origin(who, origin)),
        1 => (-4_000_000_i64..4_000_000).prop_map(Step::ClockSet),
    ]
}

proptest! {
    #[test]
    fn everyone_has_exactly_one_row_for_each_tick_from_joining_to_leaving(
        steps in proptest::collection::vec((20_u64..2_500, step()), 1..120)
    ) {
        let mut scene = Scene::new();
        let mut present: BTreeMap<u128, u64> = BTreeMap::new();
        let mut stays: Vec<(u128, u64, u64)> = Vec::new();
        let mut now = 0;
        let mut ticks: Vec<(Instant, i64)> = vec![];
        for (wait, step) in steps {
            for _ in 0..wait / 20 {
                now += 20;
                scene.time(now);
                let tick = (scene.rounds.tick.at, scene.rounds.tick.named.as_millisecond());
                // Until then a planned tick moves when the clock is set.
                if tick.0 <= scene.at(now) && ticks.last() != Some(&tick) {
                    ticks.push(tick);
                }
            }
            match step {
                Step::Enter(who) => {
                    present.entry(who).or_insert(now);
                    scene.rounds.handle_enter(subject(who, "민수"), scene.at(now));
                }
                Step::Leave(who) => {
                    stays.extend(present.remove(&who).map(|since| (who, since, now)));
                    scene.leave(who, now);
                }
                Step::Camera(who, camera) => scene.camera(who, now, camera),
                Step::Keyframe(who) => scene.keyframe(who, now),
                Step::Origin(who, origin) => {
                    scene.rounds.handle_media_origin(participant(who), origin);
                    scene.collect(now);
                }
                Step::ClockSet(jump_ms) => scene.jump_ms = jump_ms,
            }
        }
        stays.extend(present.iter().map(|(who, since)| (*who, *since, now)));
        scene.rounds.handle_shutdown(scene.at(now));
        scene.collect(now);

        let mut expected = Vec::new();
        for (at, named) in ticks {
            for (who, since, until) in &stays {
                if scene.at(*since) <= at && at <= scene.at(*until) {
                    expected.push((participant(*who), named));
                }
            }
        }
        let mut rows: Vec<_> = scene.rows.iter().map(|(who, named, _)| (*who, *named)).collect();
        expected.sort_unstable();
        rows.sort_unstable();
        prop_assert_eq!(rows, expected);
    }
}
