//! The store on a real file.

use seodang_model::protocol::Consents;
use seodang_model::{
    DisplayName, LessonFolder, LessonId, ParticipantId, PersonId, Rights, Role, RoomId, RoomKind, RoomTitle,
    StorageName, Token,
};
use time::macros::datetime;

use super::*;
use crate::chat::Scope;

const START: OffsetDateTime = datetime!(2026-11-21 00:00:05.250 UTC);
const BOTH: Consents = Consents {
    recording: true,
    captures: true,
};

struct Place {
    _folder: tempfile::TempDir,
    store: Store,
    room: RoomRecord,
    lesson: LessonRecord,
}

#[tokio::test]
async fn a_number_is_never_given_out_twice() {
    let place = place().await;
    let again = RoomRecord {
        id: RoomId::random(),
        ..place.room.clone()
    };
    assert!(matches!(
        place.store.add_room(&again, START).await,
        Err(StoreError::NumberTaken)
    ));
    assert_eq!(
        place
            .store
            .room_by_number(&place.room.number)
            .await
            .expect("read"),
        Some(place.room)
    );
}

#[tokio::test]
async fn a_room_has_one_open_lesson_and_its_end_is_remembered_before_it_is_finished() {
    let place = place().await;
    let second = LessonRecord {
        id: LessonId::random(),
        folder: LessonFolder::of(START + Duration::from_secs(60)),
        ..place.lesson
    };
    assert!(matches!(
        place.store.add_lesson(&second).await,
        Err(StoreError::LessonTaken)
    ));
    let end = LessonEnd {
        reason: lessons::EndReason::Closed,
        keep_recordings: false,
    };
    place
        .store
        .begin_ending_lesson(place.lesson.id, end)
        .await
        .expect("write");
    let open = place
        .store
        .open_lesson(place.room.id)
        .await
        .expect("read")
        .expect("still open");
    assert_eq!(
        open,
        LessonRecord {
            ending: Some(end),
            ..place.lesson
        }
    );
    place
        .store
        .end_lesson(place.lesson.id, START)
        .await
        .expect("write");
    assert_eq!(place.store.open_lesson(place.room.id).await.expect("read"), None);
    place
        .store
        .add_lesson(&second)
        .await
        .expect("the room opens again");
}

#[tokio::test]
async fn a_seat_is_found_by_its_token_with_the_newest_answers() {
    let place = place().await;
    let token = Token::random();
    let (person, key) = place
        .store
        .take_seat(&seat(&place, "민수", &token, None))
        .await
        .expect("a seat");
    let found = place
        .store
        .seat_by_resume_token(place.lesson.id, token.hash())
        .await
        .expect("read")
        .expect("found");
    assert_eq!(found.consents, BOTH);
    let no = Consents::default();
    place
        .store
        .add_consents(person, place.room.id, found.participant, no, START)
        .await
        .expect("write");
    let found = place
        .store
        .seat_by_resume_token(place.lesson.id, token.hash())
        .await
        .expect("read")
        .expect("found");
    assert_eq!(found.consents, no);
    let since = place.store.recording_agreed_since(found.participant).await;
    assert_eq!(since.expect("read"), None, "an earlier yes does not count");
    let later = START + time::Duration::minutes(5);
    place
        .store
        .add_consents(person, place.room.id, found.participant, BOTH, later)
        .await
        .expect("write");
    let since = place.store.recording_agreed_since(found.participant).await;
    assert_eq!(
        since.expect("read"),
        Some(later),
        "what came before was said under a no"
    );
    let other = place
        .store
        .seat_by_resume_token(place.lesson.id, Token::random().hash())
        .await
        .expect("read");
    assert_eq!(other, None);
    let back = place
        .store
        .take_seat(&seat(&place, "민수-2", &Token::random(), Some(key.clone())))
        .await;
    assert_eq!(
        back.expect("a seat"),
        (person, key),
        "the key names the same person"
    );
    let invented = Token::presented("abc");
    let (stranger, given) = place
        .store
        .take_seat(&seat(&place, "민수-3", &Token::random(), Some(invented.clone())))
        .await
        .expect("a seat");
    assert_ne!(stranger, person);
    assert_ne!(given, invented, "a made-up key is replaced");
}

#[tokio::test]
async fn names_on_disk_are_unique_in_a_lesson_whatever_their_case() {
    let place = place().await;
    place
        .store
        .take_seat(&seat(&place, "Kim", &Token::random(), None))
        .await
        .expect("a seat");
    let second = place
        .store
        .take_seat(&seat(&place, "KIM", &Token::random(), None))
        .await;
    assert!(matches!(second, Err(StoreError::StorageNameTaken)));
    assert_eq!(
        place.store.seats(place.lesson.id).await.expect("read").len(),
        1,
        "nothing of it was stored"
    );
}

#[tokio::test]
async fn answers_about_consent_cannot_be_changed_afterwards() {
    let place = place().await;
    place
        .store
        .take_seat(&seat(&place, "민수", &Token::random(), None))
        .await
        .expect("a seat");
    let changed = sqlx::query("UPDATE consents SET answer = 1")
        .execute(&place.store.writer)
        .await;
    assert!(changed.is_err());
}

#[tokio::test]
async fn a_lock_held_by_another_program_delays_and_does_not_fail() {
    let place = place().await;
    let options = place.store.writer.connect_options();
    let other = SqlitePool::connect_with((*options).clone())
        .await
        .expect("a second connection");
    let lock = other.begin_with("BEGIN IMMEDIATE").await.expect("the lock");
    let new = seat(&place, "민수", &Token::random(), None);
    let (taken, ()) = tokio::join!(place.store.take_seat(&new), async {
        // The rival lets go only after the seat's transaction had every chance to start waiting.
        tokio::task::yield_now().await;
        lock.rollback().await.expect("released");
    });
    taken.expect("a seat");
}

#[tokio::test]
async fn chat_is_read_in_order_by_lesson_and_by_room() {
    let place = place().await;
    let new = seat(&place, "민수", &Token::random(), None);
    place.store.take_seat(&new).await.expect("a seat");
    let author = new.seat.participant;
    for text in ["하나", "둘", "셋"] {
        place
            .store
            .add_chat_line(place.room.id, place.lesson.id, author, text, START)
            .await
            .expect("a line");
    }
    let newest = place.store.newest_chat_line(place.room.id).await.expect("read");
    let lines = place
        .store
        .chat_lines(Scope::Lesson(place.lesson.id), 1, newest, 10)
        .await
        .expect("read");
    assert_eq!(
        lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(),
        ["둘", "셋"]
    );
    assert_eq!(lines[0].sent_at, START);
    let room = place
        .store
        .chat_lines(Scope::Room(place.room.id), 0, newest, 10)
        .await
        .expect("read");
    assert_eq!(room.len(), 3);
    let other = place
        .store
        .chat_lines(Scope::Lesson(LessonId::random()), 0, newest, 10)
        .await
        .expect("read");
    assert!(other.is_empty());
}

async fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("seodang.db"))
        .await
        .expect("a database");
    let room = RoomRecord {
        id: RoomId::random(),
        number: "math-7b".parse().expect("a number"),
        title: RoomTitle::parse("수학").expect("a title"),
        kind: RoomKind::Meeting,
        listed: true,
        capacity: 30,
        host_token_hash: Token::random().hash(),
    };
    store.add_room(&room, START).await.expect("a room");
    let lesson = LessonRecord {
        id: LessonId::random(),
        room: room.id,
        folder: LessonFolder::of(START),
        started_at: START,
        ending: None,
    };
    store.add_lesson(&lesson).await.expect("a lesson");
    Place {
        _folder: folder,
        store,
        room,
        lesson,
    }
}

fn seat(place: &Place, name: &str, resume: &Token, person_key: Option<Token>) -> NewSeat {
    let name = DisplayName::parse(name).expect("a name");
    NewSeat {
        room: place.room.id,
        lesson: place.lesson.id,
        seat: SeatRecord {
            participant: ParticipantId::random(),
            person: PersonId::random(),
            storage_name: StorageName::for_display(&name),
            name,
            role: Role::Student,
            rights: Rights::default(),
            consents: BOTH,
            joined_at: START,
            left: false,
        },
        resume_token_hash: resume.hash(),
        person_key,
    }
}
