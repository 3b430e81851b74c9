//! A lesson with hand-set time.

use seodang_model::protocol::ExitReason;
use seodang_model::{LessonFolder, LessonId, PersonId, Role, RoomId, RoomKind, RoomTitle, Source};
use time::macros::datetime;

use super::*;

const GRACE: Duration = Duration::from_secs(30);
const EMPTY: Duration = Duration::from_secs(300);
const HOSTLESS: Duration = Duration::from_secs(600);
const RENEWAL: Duration = Duration::from_secs(10_800);

#[test]
fn a_lesson_ends_after_five_minutes_with_nobody_in_it() {
    let mut class = Class::new();
    assert_eq!(class.lesson.poll_timeout(), Some(class.start + EMPTY));
    let (one, _) = class.join(Role::Host, 0);
    assert_eq!(class.lesson.poll_timeout(), None, "a host is there");
    class.lesson.handle_leave(class.at(10), one);
    assert!(class.ends_at(309).is_none());
    assert_eq!(class.ends_at(310), Some(EndReason::Empty));
}

#[test]
fn a_lesson_ends_after_ten_minutes_without_a_host() {
    let mut class = Class::new();
    class.join(Role::Student, 0);
    assert!(class.ends_at(599).is_none());
    let (host, _) = class.join(Role::Host, 599);
    assert!(class.ends_at(700).is_none());
    class.lesson.handle_leave(class.at(1_000), host);
    assert!(class.ends_at(1_599).is_none());
    assert_eq!(class.ends_at(1_600), Some(EndReason::HostMissing));
}

#[test]
fn a_host_who_vanishes_is_missed_only_when_the_grace_is_over() {
    let mut class = Class::new();
    class.join(Role::Student, 0);
    let (host, socket) = class.join(Role::Host, 0);
    class.lesson.handle_disconnect(class.at(100), host, socket);
    assert!(class.ends_at(129).is_none());
    let out = class.lesson.handle_timeout(class.at(130));
    assert!(sent(&out).any(|message| matches!(
        message,
        ServerMessage::UserExit {
            reason: ExitReason::Lost,
            ..
        }
    )));
    assert!(class.ends_at(729).is_none());
    assert_eq!(class.ends_at(730), Some(EndReason::HostMissing));
}

#[test]
fn a_socket_that_was_replaced_can_no_longer_take_the_seat_down() {
    let mut class = Class::new();
    let (one, old) = class.join(Role::Student, 0);
    let record = class.lesson.seats[&one].record.clone();
    let out = class.retake(record, SocketId(77), 5);
    assert!(out.iter().any(
        |output| matches!(output, Output::Close { socket, reason: ClosingReason::Replaced } if *socket == old)
    ));
    assert!(class.lesson.handle_disconnect(class.at(6), one, old).is_empty());
    assert!(class.lesson.seat_of(one, old).is_none());
    assert!(class.lesson.seat_of(one, SocketId(77)).is_some());
}

#[test]
fn publications_outlive_the_socket_and_end_with_the_right() {
    let mut class = Class::new();
    let (one, socket) = class.join(Role::Student, 0);
    class.lesson.handle_publish(one, Source::Camera).expect("allowed");
    class.lesson.handle_disconnect(class.at(1), one, socket);
    let record = class.lesson.seats[&one].record.clone();
    class.retake(record, SocketId(78), 2);
    assert_eq!(class.lesson.users()[0].publications, [Source::Camera]);
    let out = class.lesson.handle_rights(one, Rights::default());
    let stopped = Publication {
        participant: one,
        source: Source::Camera,
    };
    assert!(out.iter().any(|output| matches!(output, Output::Media(MediaCommand::Unpublish(publication)) if *publication == stopped)));
    assert!(class.lesson.users()[0].publications.is_empty());
    assert!(matches!(
        class.lesson.handle_publish(one, Source::Camera),
        Err((ErrorCode::Forbidden, _))
    ));
}

#[test]
fn slots_never_overtake_the_answer_that_makes_them() {
    let mut class = Class::new();
    let (one, socket) = class.join(Role::Student, 0);
    class.lesson.handle_offer(one, socket, offer()).expect("taken");
    assert!(matches!(
        class.lesson.handle_offer(one, socket, offer()),
        Err((ErrorCode::SlowDown, _))
    ));
    let news = MediaNews {
        slots: Some((1, Vec::new())),
        ..MediaNews::default()
    };
    assert!(class.lesson.handle_news(one, news).is_empty());
    let out = class.lesson.handle_answer(one, socket, answer());
    let kinds: Vec<bool> = sent(&out)
        .map(|message| matches!(message, ServerMessage::Slots { .. }))
        .collect();
    assert_eq!(kinds, [false, true]);
}

#[test]
fn encodings_are_told_behind_the_answer_at_once_and_again_to_who_comes_back() {
    let mut class = Class::new();
    let (one, socket) = class.join(Role::Student, 0);
    let news = |rids: &[&str]| MediaNews {
        layers: BTreeMap::from([(Source::Camera, rids.iter().map(|rid| (*rid).to_owned()).collect())]),
        ..MediaNews::default()
    };
    let told = |out: &[Output]| -> Vec<Vec<String>> {
        let rids = sent(out).filter_map(|message| match message {
            ServerMessage::Layers {
                source: Source::Camera,
                rids,
            } => Some(rids.clone()),
            _ => None,
        });
        rids.collect()
    };
    class.lesson.handle_offer(one, socket, offer()).expect("taken");
    assert!(
        class.lesson.handle_news(one, news(&["h", "f"])).is_empty(),
        "not before the answer"
    );
    assert_eq!(
        told(&class.lesson.handle_answer(one, socket, answer())),
        [["h", "f"]]
    );
    assert_eq!(told(&class.lesson.handle_news(one, news(&["h"]))), [["h"]]);
    class.lesson.handle_disconnect(class.at(1), one, socket);
    assert!(
        class.lesson.handle_news(one, news(&["f"])).is_empty(),
        "nobody is there"
    );
    let record = class.lesson.seats[&one].record.clone();
    let out = class.retake(record, SocketId(80), 2);
    assert_eq!(told(&out), [["f"]]);
    let restart = Offer {
        restart: true,
        ..offer()
    };
    class
        .lesson
        .handle_offer(one, SocketId(80), restart)
        .expect("taken");
    let out = class.lesson.handle_answer(one, SocketId(80), answer());
    assert_eq!(told(&out), [["f"]], "a restart keeps the connection as it is");
    class
        .lesson
        .handle_offer(one, SocketId(80), offer())
        .expect("taken");
    let out = class.lesson.handle_answer(one, SocketId(80), answer());
    assert!(told(&out).is_empty(), "a fresh connection begins with all");
}

#[test]
fn a_lost_connection_is_told_when_its_owner_is_back() {
    let mut class = Class::new();
    let (one, socket) = class.join(Role::Student, 0);
    class.lesson.handle_disconnect(class.at(1), one, socket);
    let news = MediaNews {
        reoffer: Some("silent"),
        ..MediaNews::default()
    };
    assert!(class.lesson.handle_news(one, news).is_empty());
    let record = class.lesson.seats[&one].record.clone();
    let out = class.retake(record, SocketId(79), 2);
    assert!(sent(&out).any(|message| matches!(message, ServerMessage::Reoffer { .. })));
}

#[test]
fn everyone_is_told_what_is_kept_once_and_only_when_it_is() {
    let mut class = Class::new();
    let (one, _) = class.join(Role::Student, 0);
    let (_two, _) = class.join(Role::Student, 0);
    let kept = Consents {
        recording: true,
        captures: false,
    };
    let news = MediaNews {
        kept: Some(kept),
        ..MediaNews::default()
    };
    let out = class.lesson.handle_news(one, news.clone());
    let states: Vec<(Consents, Consents)> = sent(&out)
        .filter_map(|message| match message {
            ServerMessage::RecordingState { you, room } => Some((*you, *room)),
            _ => None,
        })
        .collect();
    assert_eq!(states.len(), 2);
    assert!(states.contains(&(kept, kept)) && states.contains(&(Consents::default(), kept)));
    assert!(class.lesson.handle_news(one, news).is_empty(), "no news");
    let out = class.lesson.handle_leave(class.at(1), one);
    assert!(sent(&out).any(|message| matches!(message, ServerMessage::RecordingState { room, .. } if *room == Consents::default())));
}

#[test]
fn students_never_see_what_is_kept_of_others_or_how_their_media_are() {
    let mut class = Class::new();
    let (one, _) = class.join(Role::Student, 0);
    let (_, host_socket) = class.join(Role::Host, 0);
    let (_, student_socket) = class.join(Role::Student, 0);
    let out = class.lesson.handle_consents(
        one,
        Consents {
            recording: true,
            captures: true,
        },
    );
    for output in &out {
        let Output::Send { to, message } = output else {
            continue;
        };
        let ServerMessage::UserUpdate { user } = &**message else {
            continue;
        };
        if to.contains(&student_socket) {
            assert_eq!((user.consents, user.states.ice), (None, None));
        }
        if to.contains(&host_socket) {
            assert!(user.consents.is_some() && user.states.ice.is_some());
        }
    }
    let news = MediaNews {
        states: Some((IceState::Connected, MediaState::Ready)),
        ..MediaNews::default()
    };
    for output in class.lesson.handle_news(one, news) {
        assert!(matches!(output, Output::Send { to, .. } if to == [host_socket]));
    }
}

#[test]
fn a_view_of_a_microphone_or_of_too_many_slots_is_refused() {
    let mut class = Class::new();
    let (one, _) = class.join(Role::Student, 0);
    let slot = |mid: &str, participant, source| ViewSlot {
        mid: mid.to_owned(),
        participant,
        source,
        width: 320,
        height: 240,
    };
    let gone = ParticipantId::from_bits(9);
    for slots in [
        vec![slot("1", one, Source::Microphone)],
        vec![slot("1", one, Source::Camera), slot("1", one, Source::Screen)],
        (0..65)
            .map(|number| slot(&number.to_string(), one, Source::Camera))
            .collect(),
        vec![slot(
            "a name that is far too long to be a mid",
            one,
            Source::Camera,
        )],
    ] {
        assert!(matches!(
            class.lesson.handle_view(one, 1, slots),
            Err((ErrorCode::BadView, _))
        ));
    }
    let out = class.lesson.handle_view(
        one,
        2,
        vec![slot("1", gone, Source::Camera), slot("2", one, Source::Camera)],
    );
    let Ok(out) = out else { panic!("taken") };
    assert!(
        matches!(&out[..], [Output::Media(MediaCommand::View { generation: 2, slots, .. })] if slots.len() == 1)
    );
}

#[test]
fn after_a_restart_seats_wait_for_their_holders() {
    let mut class = Class::new();
    let record = seat(Role::Student, 1);
    class.lesson.restore(class.start, record.clone());
    class.lesson.restore(
        class.start,
        SeatRecord {
            left: true,
            ..seat(Role::Student, 2)
        },
    );
    assert_eq!(class.lesson.users().len(), 1);
    let out = class.retake(record, SocketId(5), 10);
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::Mirror(MirrorCommand::Joined(_)))),
        "the mirror is as new as the server"
    );
    assert!(sent(&out).any(|message| matches!(message, ServerMessage::Reoffer { .. })));
}

fn offer() -> Offer {
    Offer {
        connection: 1,
        sdp: String::new(),
        sources: BTreeMap::new(),
        slots: Vec::new(),
        lips: BTreeMap::new(),
        restart: false,
    }
}

fn answer() -> ServerMessage {
    ServerMessage::Answer {
        connection: 1,
        sdp: String::new(),
    }
}

#[test]
fn credentials_are_renewed_for_whoever_is_there() {
    let mut class = Class::with_relays(Some(RENEWAL));
    let (ann, ann_socket) = class.join(Role::Host, 0);
    let (ben, ben_socket) = class.join(Role::Student, 5);
    let renewed = |out: Vec<Output>| -> Vec<_> {
        out.into_iter()
            .filter_map(|output| match output {
                Output::RenewRelays { participant, socket } => Some((participant, socket)),
                _ => None,
            })
            .collect()
    };
    let half = RENEWAL.as_secs();
    assert_eq!(class.lesson.poll_timeout(), Some(class.at(half)));
    let now = class.at(half);
    assert_eq!(renewed(class.lesson.handle_timeout(now)), [(ann, ann_socket)]);
    assert_eq!(class.lesson.poll_timeout(), Some(class.at(half + 5)));
    let now = class.at(half + 1);
    class.lesson.handle_disconnect(now, ben, ben_socket);
    let now = class.at(half + 5);
    assert_eq!(
        renewed(class.lesson.handle_timeout(now)),
        [],
        "nobody is there to take it"
    );
    let record = class.lesson.seat(ben).expect("kept for a while").record.clone();
    class.retake(record, SocketId(70), half + 6);
    assert_eq!(
        class.lesson.poll_timeout(),
        Some(class.at(2 * half)),
        "a return brings one"
    );
    let now = class.at(2 * half + 6);
    let both = [(ann, ann_socket), (ben, SocketId(70))];
    assert_eq!(renewed(class.lesson.handle_timeout(now)), both);
}

struct Class {
    lesson: Lesson,
    start: Instant,
    joined: u64,
}

impl Class {
    fn new() -> Self {
        Self::with_relays(None)
    }

    fn with_relays(relay_renewal: Option<Duration>) -> Self {
        let start = Instant::now();
        let room = RoomRecord {
            id: RoomId::from_bits(1),
            number: "math-7b".parse().expect("a number"),
            title: RoomTitle::parse("수학").expect("a title"),
            kind: RoomKind::Meeting,
            listed: false,
            capacity: 30,
            host_token_hash: Token::random().hash(),
        };
        let started_at = datetime!(2026-11-21 00:00 UTC);
        let record = LessonRecord {
            id: LessonId::from_bits(1),
            room: room.id,
            folder: LessonFolder::of(started_at),
            started_at,
            ending: None,
        };
        let limits = LessonLimits {
            seat_grace: GRACE,
            empty_end: EMPTY,
            hostless_end: HOSTLESS,
            relay_renewal,
        };
        Self {
            lesson: Lesson::new(room, record, limits, Some(10), start),
            start,
            joined: 0,
        }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn join(&mut self, role: Role, second: u64) -> (ParticipantId, SocketId) {
        self.joined += 1;
        let (record, socket) = (seat(role, self.joined), SocketId(self.joined));
        let participant = record.participant;
        self.take(record, socket, second, false);
        (participant, socket)
    }

    fn retake(&mut self, record: SeatRecord, socket: SocketId, second: u64) -> Vec<Output> {
        self.take(record, socket, second, true)
    }

    fn take(&mut self, record: SeatRecord, socket: SocketId, second: u64, resumed: bool) -> Vec<Output> {
        let now = self.at(second);
        let joining = Joining {
            record,
            socket,
            resume: Token::random(),
            person: Token::random(),
            resumed,
            ice_servers: Vec::new(),
        };
        self.lesson.handle_join(now, joining)
    }

    fn ends_at(&mut self, second: u64) -> Option<EndReason> {
        let now = self.at(second);
        self.lesson
            .handle_timeout(now)
            .into_iter()
            .find_map(|output| match output {
                Output::End(reason) => Some(reason),
                _ => None,
            })
    }
}

fn seat(role: Role, number: u64) -> SeatRecord {
    let name = DisplayName::parse(&format!("학생 {number}")).expect("a name");
    SeatRecord {
        participant: ParticipantId::from_bits(u128::from(number)),
        person: PersonId::from_bits(u128::from(number)),
        storage_name: StorageName::for_display(&name),
        name,
        role,
        rights: Rights::on_joining(RoomKind::Meeting, role),
        consents: Consents::default(),
        joined_at: datetime!(2026-11-21 00:00 UTC),
        left: false,
    }
}

fn sent(outputs: &[Output]) -> impl Iterator<Item = &ServerMessage> {
    outputs.iter().filter_map(|output| match output {
        Output::Send { to, message } if !to.is_empty() => Some(&**message),
        _ => None,
    })
}
