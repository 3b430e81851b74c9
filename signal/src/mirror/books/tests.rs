//! The books with a real database and a real folder.

use seodang_model::protocol::Consents;
use seodang_model::{
    DisplayName, LessonFolder, ParticipantId, PersonId, Rights, Role, RoomKind, RoomNumber, RoomTitle,
    StorageName, Token,
};

use super::*;
use crate::store::{EndReason, LessonEnd, LessonRecord, NewSeat, RoomRecord, SeatRecord};

const END: LessonEnd = LessonEnd {
    reason: EndReason::Closed,
    keep_recordings: true,
};
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

#[tokio::test]
async fn a_recording_that_never_got_a_frame_is_not_listed_when_the_lesson_is_over() {
    let scene = Scene::start().await;
    let place = lesson_place(&scene.info);
    let participant = seodang_recorder::ParticipantEntry {
        id: scene.seat.participant,
        name: scene.seat.storage_name.clone(),
        role: scene.seat.role,
        consent_version: 1,
    };
    let recorder = seodang_recorder::Recorder::start(seodang_recorder::RecorderConfig {
        root: scene.recordings.clone(),
    })
    .expect("a recorder");
    let info = RecordingInfo {
        place: place.clone(),
        lesson: scene.info.lesson,
        lesson_started_at: scene.info.started_at,
        participant,
        kind: seodang_model::RecordingKind::Camera,
        resumed_after: None,
    };
    scene.enter(Entry::started(&info)).await;
    let writer = recorder.open(info).expect("a file");
    scene.close(BTreeSet::new()).await.expect("the rest is finished");
    assert_eq!(scene.listed().await, 1, "it is still being written");
    writer.finish().wait(FINISH_WITHIN).expect("its end");
    scene
        .store
        .begin_ending_lesson(scene.info.lesson, END)
        .await
        .expect("written");
    let recovered = recover_recordings(&scene.store, scene.recordings.clone()).await;
    assert_eq!(recovered.expect("looked through").found, 1);
    assert_eq!(scene.listed().await, 0);
}

#[tokio::test]
async fn a_lesson_that_goes_on_keeps_its_rows_when_a_crash_is_recovered() {
    let scene = Scene::start().await;
    let place = lesson_place(&scene.info);
    std::fs::create_dir_all(place.path(&scene.recordings)).expect("a folder");
    let recording = RecordingPath {
        room: place.room.clone(),
        lesson: place.folder,
        name: scene.seat.storage_name.clone(),
        kind: seodang_model::RecordingKind::Camera,
        part: 1,
        unfinished: false,
    };
    let key = RecordingKey {
        lesson: scene.info.lesson,
        participant: scene.seat.participant,
        kind: recording.kind,
    };
    scene.enter(Entry::Started { key, path: recording }).await;
    while scene.listed().await == 0 {
        tokio::task::yield_now().await;
    }
    scene.crash_leaves_a_note();
    let recovered = recover_recordings(&scene.store, scene.recordings.clone()).await;
    assert_eq!(recovered.expect("looked through").found, 1);
    assert_eq!(scene.listed().await, 1, "its next part will be joined to it");
    scene
        .store
        .begin_ending_lesson(scene.info.lesson, END)
        .await
        .expect("written");
    scene.crash_leaves_a_note();
    let recovered = recover_recordings(&scene.store, scene.recordings.clone()).await;
    assert_eq!(recovered.expect("looked through").found, 1);
    assert_eq!(scene.listed().await, 0, "an ended one has none to come");
}

#[tokio::test]
async fn a_lesson_that_is_not_kept_is_hidden_whatever_goes_wrong_with_its_files() {
    let scene = Scene::start().await;
    let path = RecordingPath {
        room: scene.info.number.clone(),
        lesson: scene.info.folder,
        name: scene.seat.storage_name.clone(),
        kind: seodang_model::RecordingKind::Camera,
        part: 1,
        unfinished: false,
    };
    let key = RecordingKey {
        lesson: scene.info.lesson,
        participant: scene.seat.participant,
        kind: path.kind,
    };
    scene.enter(Entry::Started { key, path }).await;
    while scene.listed().await == 0 {
        tokio::task::yield_now().await;
    }
    std::fs::create_dir_all(&scene.recordings).expect("a folder");
    let obstacle = scene.recordings.join(scene.info.number.as_str());
    std::fs::write(obstacle, "in the way").expect("a file");
    let (closed, answer) = oneshot::channel();
    scene
        .enter(Entry::Closing {
            lesson: scene.info.clone(),
            pending: Vec::new(),
            keep_recordings: false,
            unstored: BTreeSet::new(),
            closed,
        })
        .await;
    assert!(answer.await.is_err(), "nothing is finished");
    assert_eq!(scene.listed().await, 0, "and nobody sees it");
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

    async fn listed(&self) -> usize {
        let rows = self.store.recordings_of_room(self.info.room).await;
        rows.expect("read").len()
    }

    /// As if the program had been killed between the note of a part and its first frame.
    fn crash_leaves_a_note(&self) {
        let started_at = self
            .info
            .started_at
            .format(&time::format_description::well_known::Rfc3339)
            .expect("a date");
        let note = serde_json::json!({
            "lesson": self.info.lesson.to_string(),
            "lesson_started_at": started_at,
            "participant": {
                "id": self.seat.participant.to_string(),
                "name": self.seat.storage_name.as_str(),
                "role": "student",
                "consent_version": 1,
            },
            "state": "recording",
            "gaps": [],
            "dropped_video_frames": 0,
            "dropped_audio_packets": 0,
        });
        let folder = lesson_place(&self.info).path(&self.recordings);
        let path = folder.join(format!(".{}.json", self.seat.storage_name.as_str()));
        std::fs::write(path, note.to_string()).expect("a note");
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
