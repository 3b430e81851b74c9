//! The books with a real database and a real folder.

use seodang_model::protocol::Consents;
use seodang_model::{
    DisplayName, LessonFolder, ParticipantId, PersonId, Rights, Role, RoomKind, RoomNumber, RoomTitle,
    StorageName, Token,
};

use super::*;
use crate::store::{LessonRecord, NewSeat, RoomRecord, SeatRecord};

const RECORDING: Consents = Consents {
    recording: true,
    captures: false,
};

#[tokio::test]
async fn a_lesson_whose_files_cannot_be_finished_is_not_closed_until_they_are() {
    let desk = Scene::start().await;
    // The room's folder cannot be made: its name is taken by a file.
    let obstacle = desk.recordings.join(desk.info.number.as_str());
    std::fs::create_dir_all(&desk.recordings).expect("a folder");
    std::fs::write(&obstacle, "in the way").expect("a file");
    assert!(desk.close(BTreeSet::new()).await.is_err(), "nothing is finished");
    std::fs::remove_file(&obstacle).expect("removed");
    desk.close(BTreeSet::new()).await.expect("finished");
    let folder = lesson_place(&desk.info).path(&desk.recordings);
    for name in ["lesson.json", "chat.vtt", "chat.jsonl"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
}

#[tokio::test]
async fn nobody_whose_no_has_no_row_is_named_beside_the_files() {
    let scene = Scene::start().await;
    scene
        .close(BTreeSet::from([scene.seat.participant]))
        .await
        .expect("finished");
    let folder = lesson_place(&scene.info).path(&scene.recordings);
    assert!(!folder.exists(), "nobody was recorded: no trace of the lesson");
    scene.close(BTreeSet::new()).await.expect("finished");
    let chat = std::fs::read_to_string(folder.join("chat.jsonl")).expect("a file");
    assert!(chat.contains("안녕하세요"), "{chat}");
}

struct Scene {
    _folder: tempfile::TempDir,
    recordings: PathBuf,
    store: Store,
    entries: mpsc::Sender<Entry>,
    info: LessonInfo,
    seat: SeatRecord,
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("seodang.db"))
            .await
            .expect("a database");
        let now = OffsetDateTime::now_utc();
        let room = RoomRecord {
            id: RoomId::random(),
            number: RoomNumber::random(),
            title: RoomTitle::parse("수학").expect("a title"),
            kind: RoomKind::Meeting,
            listed: false,
            capacity: 4,
            host_token_hash: Token::random().hash(),
        };
        store.add_room(&room, now).await.expect("a room");
        let lesson = LessonRecord {
            id: LessonId::random(),
            room: room.id,
            folder: LessonFolder::of(now),
            started_at: now,
            ending: None,
        };
        store.add_lesson(&lesson).await.expect("a lesson");
        let name = DisplayName::parse("민수").expect("a name");
        let seat = SeatRecord {
            participant: ParticipantId::random(),
            person: PersonId::random(),
            storage_name: StorageName::for_display(&name),
            name,
            role: Role::Student,
            rights: Rights::on_joining(room.kind, Role::Student),
            consents: RECORDING,
            joined_at: now,
            left: false,
        };
        let new = NewSeat {
            room: room.id,
            lesson: lesson.id,
            seat: seat.clone(),
            resume_token_hash: Token::random().hash(),
            person_key: None,
        };
        store.take_seat(&new).await.expect("a seat");
        store
            .add_chat_line(room.id, lesson.id, seat.participant, "안녕하세요", now)
            .await
            .expect("a line");
        let recordings = folder.path().join("recordings");
        let (entries, to_books) = mpsc::channel(ENTRIES);
        let books = Books::new(store.clone(), recordings.clone(), Duration::from_secs(60));
        tokio::spawn(books.run(to_books));
        Self {
            _folder: folder,
            recordings,
            store,
            entries,
            info: LessonInfo {
                lesson: lesson.id,
                room: room.id,
                number: room.number,
                folder: lesson.folder,
                started_at: now,
                reopened: false,
            },
            seat,
        }
    }

    async fn enter(&self, entry: Entry) {
        assert!(self.entries.send(entry).await.is_ok(), "the books are open");
    }

    async fn close(&self, unstored: BTreeSet<ParticipantId>) -> Result<(), oneshot::error::RecvError> {
        let (closed, answer) = oneshot::channel();
        self.enter(Entry::Closing {
            lesson: self.info.clone(),
            pending: Vec::new(),
            keep_recordings: true,
            unstored,
            closed,
        })
        .await;
        answer.await
    }
}
