//! The hub with a real database and real media workers; the mirror is played by hand.

use std::net::Ipv4Addr;

use seodang_model::protocol::{Consents, ServerMessage};
use seodang_model::{RoomKind, RoomTitle, Source, Token};
use seodang_sfu::{Sfu, SfuConfig};

use super::*;
use crate::mirror::{MirrorCommand, MirrorEnds};
use crate::session::outbox::{self, Queue};
use crate::turn::Turn;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEADLINE: Duration = Duration::from_secs(10);
const RECORDING: Consents = Consents {
    recording: true,
    captures: false,
};

#[tokio::test]
async fn the_mirror_hears_everything_in_order_and_its_word_is_what_everyone_is_told() {
    let mut house = House::start().await;
    let mut seat = house.join(RECORDING).await;
    assert!(matches!(house.heard().await, MirrorCommand::LessonOpened(info) if !info.reopened));
    let MirrorCommand::Joined(subject) = house.heard().await else {
        panic!("a join")
    };
    assert_eq!(
        (subject.consents, subject.storage_name.as_str()),
        (RECORDING, "민수")
    );
    assert_eq!(seat.kept().await, (Consents::default(), Consents::default()));
    let report = KeptReport {
        participant: subject.participant,
        kept: RECORDING,
    };
    house.mirror.reporter.send(report).await.expect("a hub");
    assert_eq!(seat.kept().await, (RECORDING, RECORDING));

    let publication = seodang_model::Publication {
        participant: subject.participant,
        source: Source::Camera,
    };
    seat.say(ClientMessage::Publish {
        source: Source::Camera,
    })
    .await;
    assert!(matches!(house.heard().await, MirrorCommand::Published(heard) if heard == publication));
    seat.say(ClientMessage::Consent(Consents::default())).await;
    house.withdrawn().await;
    let consents = loop {
        match house.heard().await {
            MirrorCommand::Withdrawn { .. } => {}
            MirrorCommand::ConsentsChanged { consents, .. } => break consents,
            other => panic!("{other:?} instead of a change"),
        }
    };
    assert_eq!(consents, Consents::default());
    seat.say(ClientMessage::Unpublish {
        source: Source::Camera,
    })
    .await;
    assert!(matches!(house.heard().await, MirrorCommand::Unpublished(heard) if heard == publication));
    seat.joined.disconnected(seat.socket).await;
    assert!(matches!(house.heard().await, MirrorCommand::Away(_)));
    house.stop().await;
}

#[tokio::test]
async fn a_lesson_ends_when_its_files_are_finished_and_nobody_joins_before() {
    let mut house = House::start().await;
    let mut seat = house.join(Consents::default()).await;
    let room = house.room.clone();
    house.hub.close_room(&room, false).await.expect("a lesson");
    while seat.queue.next().await.is_some() {}
    let closed = loop {
        if let MirrorCommand::LessonClosing {
            keep_recordings,
            closed,
            ..
        } = house.heard().await
        {
            assert!(!keep_recordings);
            break closed;
        }
    };
    let summary = house.hub.summary(&room);
    assert_eq!((summary.open, summary.participants), (false, 0));
    assert!(
        house
            .hub
            .report(&room)
            .await
            .expect("a report")
            .expect("a lesson")
            .ending
    );
    let refused = house
        .try_join(Consents::default())
        .await
        .expect_err("the files are not finished");
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(
        house
            .hub
            .store()
            .open_lesson(room.id)
            .await
            .expect("read")
            .is_some()
    );
    closed.send(()).expect("somebody waits");
    let joined = tokio::time::timeout(DEADLINE, async {
        loop {
            // The row is written right behind the answer.
            if let Ok(seat) = house.try_join(Consents::default()).await {
                return seat;
            }
            tokio::task::yield_now().await;
        }
    });
    joined.await.expect("in time");
    house.stop().await;
}

#[tokio::test]
async fn a_lesson_whose_files_are_not_finished_is_closed_again_by_the_next_join() {
    let mut house = House::start().await;
    let _seat = house.join(Consents::default()).await;
    let room = house.room.clone();
    house.hub.close_room(&room, true).await.expect("a lesson");
    drop(house.closing().await);
    let running = house.hub.shared.running(room.id);
    if let Some(lesson) = running {
        tokio::time::timeout(DEADLINE, lesson.commands.closed())
            .await
            .expect("the task ends");
    }
    let open = house.hub.store().open_lesson(room.id).await.expect("read");
    assert!(
        open.is_some_and(|lesson| lesson.ending.is_some()),
        "it is still ending"
    );
    let refused = house.try_join(Consents::default()).await.expect_err("not yet");
    assert_eq!(refused.code, ErrorCode::Unavailable);
    house.closing().await.send(()).expect("somebody waits");
    let joined = tokio::time::timeout(DEADLINE, async {
        while house.try_join(Consents::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    joined.await.expect("in time");
    house.stop().await;
}

#[tokio::test]
async fn a_withdrawn_consent_stops_the_mirror_while_the_database_is_locked() {
    let mut house = House::start().await;
    let seat = house.join(RECORDING).await;
    assert!(matches!(house.heard().await, MirrorCommand::LessonOpened(_)));
    assert!(matches!(house.heard().await, MirrorCommand::Joined(_)));
    let lock = house.lock().await;
    let (text, nonce) = ("안녕하세요".to_owned(), "n".to_owned());
    seat.say(ClientMessage::Chat { text, nonce }).await;
    seat.say(ClientMessage::Consent(Consents::default())).await;
    let still = match house.heard().await {
        MirrorCommand::Withdrawn { still, .. } => still,
        other => panic!("{other:?} before the stop"),
    };
    assert_eq!(still, Consents::default());
    lock.unlock().await;
    house.withdrawn().await;
    house.stop().await;
}

#[tokio::test]
async fn a_seat_taken_again_with_a_no_stops_the_mirror_while_the_database_is_locked() {
    let mut house = House::start().await;
    let mut seat = house.join(RECORDING).await;
    let resume = seat.resume().await;
    assert!(matches!(house.heard().await, MirrorCommand::LessonOpened(_)));
    assert!(matches!(house.heard().await, MirrorCommand::Joined(_)));
    let lock = house.lock().await;
    let joining = house.joining(Consents::default(), Some(resume));
    let (again, ()) = tokio::join!(joining, async {
        assert!(matches!(house.heard().await, MirrorCommand::Withdrawn { .. }));
        lock.unlock().await;
    });
    assert!(again.is_ok(), "{again:?}");
    house.stop().await;
}

#[tokio::test]
async fn a_no_that_is_queued_while_the_lesson_ends_is_stored_before_the_files_are_finished() {
    let mut house = House::start().await;
    let seat = house.join(RECORDING).await;
    let lock = house.lock().await;
    let (answer, closed) = oneshot::channel();
    let close = LessonCommand::Close {
        keep_recordings: true,
        answer,
    };
    seat.joined.lesson.send(close).await.expect("a lesson");
    seat.say(ClientMessage::Consent(Consents::default())).await;
    lock.unlock().await;
    closed.await.expect("no panic").expect("closed");
    drop(house.closing().await);
    let stored = house.hub.store().consents(seat.joined.participant).await;
    assert_eq!(stored.expect("read"), Consents::default());
    house.stop().await;
}

#[tokio::test]
async fn a_no_that_cannot_be_stored_is_told_to_whoever_finishes_the_files() {
    let mut house = House::start().await;
    let seat = house.join(RECORDING).await;
    let other = house.join(RECORDING).await;
    house.execute("ALTER TABLE consents RENAME TO elsewhere").await;
    seat.say(ClientMessage::Consent(Consents::default())).await;
    let room = house.room.clone();
    house.hub.close_room(&room, true).await.expect("a lesson");
    let unstored = loop {
        if let MirrorCommand::LessonClosing { unstored, .. } = house.heard().await {
            break unstored;
        }
    };
    assert!(unstored.contains(&seat.joined.participant));
    assert!(!unstored.contains(&other.joined.participant));
    house.stop().await;
}

#[tokio::test]
async fn a_reader_that_stays_slow_is_closed_and_may_resume() {
    let house = House::start().await;
    let slow = house.join(Consents::default()).await;
    let mut quick = house.join(Consents::default()).await;
    let text = "x".repeat(2_000);
    let mut lost = false;
    // The quick one reads and the slow one does not, until 256 KiB wait for it.
    for number in 0..200 {
        quick
            .say(ClientMessage::Chat {
                text: text.clone(),
                nonce: number.to_string(),
            })
            .await;
        loop {
            match quick.queue.next().await.expect("open") {
                ServerMessage::Chat(_) => break,
                ServerMessage::UserUpdate { user } => {
                    lost |= user.states.signaling == seodang_model::protocol::SignalingState::Lost;
                }
                _ => {}
            }
        }
    }
    assert!(lost, "everybody sees that it is away");
    drop(slow);
    house.stop().await;
}

#[tokio::test]
async fn a_seat_gets_another_credential_before_its_own_ends() {
    let settings = crate::config::Config {
        turn_urls: vec!["turn:turn.example.org".to_owned()],
        turn_secret: Some(Token::presented("north")),
        turn_lifetime_s: 2,
        ..crate::config::Config::default()
    };
    let house = House::start_with(HubConfig {
        turn: Turn::of(&settings),
        ..HubConfig::default()
    })
    .await;
    let mut seat = house.join(Consents::default()).await;
    let mut ends = Vec::new();
    let credentials = tokio::time::timeout(DEADLINE, async {
        while ends.len() < 3 {
            let servers = match seat.queue.next().await.expect("open") {
                ServerMessage::RoomInfo(info) => info.ice_servers,
                ServerMessage::IceServers { ice_servers } => ice_servers,
                _ => continue,
            };
            let (end, whose) = servers[0].username.split_once(':').expect("two parts");
            ends.push((end.parse::<i64>().expect("a time"), whose.to_owned()));
        }
    });
    credentials.await.expect("in time");
    assert!(
        ends.is_sorted_by(|before, after| before.0 < after.0 && before.1 == after.1),
        "{ends:?}"
    );
    assert!(
        ends[2].0 - ends[0].0 <= 4,
        "no later than the one before ends: {ends:?}"
    );
    house.stop().await;
}

struct House {
    folder: tempfile::TempDir,
    hub: Hub,
    media: Sfu,
    mirror: MirrorSide,
    room: RoomRecord,
}

/// The ends that the mirror holds.
struct MirrorSide {
    commands: mpsc::Receiver<MirrorCommand>,
    reporter: mpsc::Sender<KeptReport>,
}

#[derive(Debug)]
struct Seat {
    joined: Joined,
    socket: SocketId,
    queue: Queue,
}

impl House {
    async fn start() -> Self {
        Self::start_with(HubConfig::default()).await
    }

    async fn start_with(hub: HubConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("seodang.db"))
            .await
            .expect("a database");
        let config = SfuConfig {
            bind: HERE,
            port: 0,
            tcp: false,
            workers: 1,
            worker_seats: 100,
            candidates: vec![HERE],
            publisher_bitrate_bps: 1_000_000,
            recording_size: seodang_rtp::FrameSize {
                width: 640,
                height: 480,
            },
            capture_size: seodang_rtp::FrameSize {
                width: 640,
                height: 480,
            },
        };
        let (media, sfu, sfu_events) = Sfu::start(config).expect("media workers");
        let MirrorEnds {
            mirror,
            reports,
            commands,
            reporter,
        } = Mirror::ends();
        let parts = HubParts {
            store: store.clone(),
            sfu,
            sfu_events,
            mirror,
            mirror_reports: reports,
        };
        let hub = Hub::start(parts, hub).await.expect("a hub");
        let new = NewRoom {
            title: RoomTitle::parse("수학").expect("a title"),
            number: None,
            kind: RoomKind::Meeting,
            listed: false,
            capacity: None,
        };
        let (summary, _) = hub.create_room(new).await.expect("a room");
        let room = store
            .room_by_number(&summary.number)
            .await
            .expect("read")
            .expect("a room");
        Self {
            folder,
            hub,
            media,
            mirror: MirrorSide { commands, reporter },
            room,
        }
    }

    async fn try_join(&self, consents: Consents) -> Result<Seat, ApiError> {
        self.joining(consents, None).await
    }

    /// Borrows nothing, so that the mirror can be heard meanwhile.
    fn joining(
        &self,
        consents: Consents,
        resume: Option<Token>,
    ) -> impl Future<Output = Result<Seat, ApiError>> + use<> {
        let (outbox, queue) = outbox::channel();
        let (hub, socket) = (self.hub.clone(), self.hub.next_socket());
        let join = JoinRoom {
            room: self.room.number.to_string(),
            name: "민수".to_owned(),
            consents,
            resume,
            person: None,
        };
        async move {
            let joined = hub
                .join(join, &Credentials::default(), HERE, socket, outbox)
                .await?;
            Ok(Seat {
                joined,
                socket,
                queue,
            })
        }
    }

    /// Skips what comes before the mirror is told to stop.
    async fn withdrawn(&mut self) {
        while !matches!(self.heard().await, MirrorCommand::Withdrawn { .. }) {}
    }

    async fn rival(&self) -> sqlx::SqliteConnection {
        use sqlx::ConnectOptions as _;
        sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.folder.path().join("seodang.db"))
            .connect()
            .await
            .expect("a second connection")
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql)
            .execute(&mut self.rival().await)
            .await
            .expect(sql);
    }

    /// Nobody writes to the database until it is let go.
    async fn lock(&self) -> Lock {
        let mut rival = self.rival().await;
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut rival)
            .await
            .expect("the lock");
        Lock(rival)
    }

    async fn join(&self, consents: Consents) -> Seat {
        self.try_join(consents).await.expect("a seat")
    }

    async fn heard(&mut self) -> MirrorCommand {
        tokio::time::timeout(DEADLINE, self.mirror.commands.recv())
            .await
            .expect("in time")
            .expect("a command")
    }

    /// The answer that the next end of a lesson waits for.
    async fn closing(&mut self) -> oneshot::Sender<()> {
        loop {
            if let MirrorCommand::LessonClosing { closed, .. } = self.heard().await {
                return closed;
            }
        }
    }

    async fn stop(self) {
        self.hub.shutdown().await;
        self.media.shutdown();
    }
}

/// The database, locked by somebody else.
struct Lock(sqlx::SqliteConnection);

impl Lock {
    async fn unlock(mut self) {
        sqlx::query("ROLLBACK")
            .execute(&mut self.0)
            .await
            .expect("released");
    }
}

impl Seat {
    /// The token that takes the seat again.
    async fn resume(&mut self) -> Token {
        loop {
            if let ServerMessage::RoomInfo(info) = self.queue.next().await.expect("open") {
                return info.resume;
            }
        }
    }

    async fn say(&self, message: ClientMessage) {
        self.joined.message(self.socket, message).await.expect("a lesson");
    }

    /// What the next `recording_state` says of oneself and of the room.
    async fn kept(&mut self) -> (Consents, Consents) {
        tokio::time::timeout(DEADLINE, async {
            loop {
                if let ServerMessage::RecordingState { you, room } = self.queue.next().await.expect("open") {
                    return (you, room);
                }
            }
        })
        .await
        .expect("in time")
    }
}
