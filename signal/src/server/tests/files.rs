//! Recordings and captures over HTTP, with rows and files laid out as the mirror does it.

use std::os::unix::fs::symlink;

use seodang_model::protocol::Consents;
use seodang_model::{
    CaptureId, CapturePath, DisplayName, LessonFolder, LessonId, ParticipantId, PersonId, RecordingId,
    RecordingKind, RecordingPath, Rights, Role, RoomId, RoomKind, RoomNumber, RoomTitle, StorageName, Token,
};
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;
use crate::erasure::sweep;
use crate::store::{
    CapturedPicture, EndReason, FinishedRecording, LessonEnd, LessonRecord, NewCapture, NewSeat,
    RecordingKey, RecordingState, RoomRecord, SeatRecord,
};

const START: OffsetDateTime = datetime!(2026-11-21 00:00:05 UTC);
const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A room with one participant, 김민수, in one lesson.
struct Class {
    place: Place,
    store: Store,
    room: RoomRecord,
    token: Token,
    lesson: LessonRecord,
    seat: SeatRecord,
}

impl Class {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let place = Place::start(change).await;
        let store = Store::open(&place.config.data.join("seodang.db"))
            .await
            .expect("the same database");
        let token = Token::random();
        let room = add_room(&store, "math-7b", &token).await;
        let lesson = LessonRecord {
            id: LessonId::random(),
            room: room.id,
            folder: LessonFolder::of(START),
            started_at: START,
            ending: None,
        };
        store.add_lesson(&lesson).await.expect("written");
        let name = DisplayName::parse("김민수").expect("a name");
        let seat = SeatRecord {
            participant: ParticipantId::random(),
            person: PersonId::random(),
            storage_name: StorageName::for_display(&name),
            name,
            role: Role::Student,
            rights: Rights::default(),
            consents: Consents {
                recording: true,
                captures: true,
            },
            joined_at: START,
            left: false,
        };
        let new = NewSeat {
            room: room.id,
            lesson: lesson.id,
            seat: seat.clone(),
            resume_token_hash: Token::random().hash(),
            person_key: None,
        };
        store.take_seat(&new).await.expect("written");
        Self {
            place,
            store,
            room,
            token,
            lesson,
            seat,
        }
    }

    fn path(&self, kind: RecordingKind, unfinished: bool) -> RecordingPath {
        RecordingPath {
            room: self.room.number.clone(),
            lesson: self.lesson.folder,
            name: self.seat.storage_name.clone(),
            kind,
            part: 1,
            unfinished,
        }
    }

    fn key(&self, kind: RecordingKind) -> RecordingKey {
        RecordingKey {
            lesson: self.lesson.id,
            participant: self.seat.participant,
            kind,
        }
    }

    async fn record(&self, content: &[u8]) -> RecordingId {
        let path = self.path(RecordingKind::Camera, false);
        write_below(&self.place.config.recordings_folder(), &path.to_string(), content);
        let file = FinishedRecording {
            path,
            state: RecordingState::Finished,
            offset: Duration::from_millis(1_500),
            duration: Duration::from_secs(40),
            size_bytes: content.len() as u64,
            sha256: SHA256.to_owned(),
        };
        self.store
            .recording_finished(self.key(RecordingKind::Camera), &file, START)
            .await
            .expect("written")
    }

    async fn fetch(&self, path: &str, headers: &str) -> Answered {
        let bearer = format!("Authorization: Bearer {}\r\n{headers}", self.token.as_str());
        get(
            self.place.address(),
            &format!("/api/v1/rooms/math-7b/{path}"),
            &bearer,
        )
        .await
    }
}

async fn add_room(store: &Store, number: &str, token: &Token) -> RoomRecord {
    let room = RoomRecord {
        id: RoomId::random(),
        number: number.parse::<RoomNumber>().expect("a number"),
        title: RoomTitle::parse("수학").expect("a title"),
        kind: RoomKind::Meeting,
        listed: false,
        capacity: 30,
        host_token_hash: token.hash(),
    };
    store.add_room(&room, START).await.expect("written");
    room
}

fn write_below(root: &std::path::Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    std::fs::write(path, content).expect("writable");
}

#[tokio::test]
async fn a_finished_recording_is_listed_and_fetched_whole_and_in_ranges() {
    let class = Class::new(|_| {}).await;
    let content: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
    let id = class.record(&content).await;

    let list = class.fetch("recordings", "").await;
    let recording = &list.json()["lessons"][0]["recordings"][0];
    assert_eq!(list.status, 200);
    assert_eq!(recording["id"], id.to_string());
    assert_eq!(recording["name"], "김민수");
    assert_eq!(recording["file_name"], "김민수.webm");
    assert_eq!(recording["kind"], "camera");
    assert_eq!(recording["state"], "finished");
    assert_eq!(recording["started_at"], "2026-11-21T00:00:06.5Z");
    assert_eq!(
        (&recording["duration_ms"], &recording["size_bytes"]),
        (&40_000.into(), &200_000.into())
    );
    assert_eq!(recording["sha256"], SHA256);
    assert_eq!(
        recording["href"],
        format!("/api/v1/rooms/math-7b/recordings/{id}")
    );

    let path = format!("recordings/{id}");
    let whole = class.fetch(&path, "").await;
    assert_eq!((whole.status, &whole.body), (200, &content));
    assert_eq!(whole.header("content-type"), Some("video/webm"));
    assert_eq!(whole.header("content-length"), Some("200000"));
    assert_eq!(whole.header("etag"), Some(&*format!("\"{SHA256}\"")));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("cache-control"), Some("private, no-store"));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    let disposition = whole.header("content-disposition").expect("a name");
    assert!(
        disposition.starts_with("attachment;") && disposition.ends_with("%EA%B9%80%EB%AF%BC%EC%88%98.webm")
    );
    let inline = class.fetch(&format!("{path}?inline=1"), "").await;
    assert!(
        inline
            .header("content-disposition")
            .is_some_and(|value| value.starts_with("inline;"))
    );

    for (range, status, wanted, content_range) in [
        ("bytes=0-0", 206, &content[..1], Some("bytes 0-0/200000")),
        (
            "bytes=70000-140000",
            206,
            &content[70_000..=140_000],
            Some("bytes 70000-140000/200000"),
        ),
        (
            "bytes=199999-",
            206,
            &content[199_999..],
            Some("bytes 199999-199999/200000"),
        ),
        (
            "bytes=199990-999999999",
            206,
            &content[199_990..],
            Some("bytes 199990-199999/200000"),
        ),
        (
            "bytes=-10",
            206,
            &content[199_990..],
            Some("bytes 199990-199999/200000"),
        ),
        ("bytes=0-1,4-5", 200, &content[..], None),
        ("nonsense", 200, &content[..], None),
    ] {
        let part = class.fetch(&path, &format!("Range: {range}\r\n")).await;
        assert_eq!(
            (part.status, part.header("content-range")),
            (status, content_range),
            "{range}"
        );
        assert!(part.body == wanted, "{range}");
        assert_eq!(
            part.header("content-length"),
            Some(&*wanted.len().to_string()),
            "{range}"
        );
    }
    let outside = class.fetch(&path, "Range: bytes=200000-\r\n").await;
    assert_eq!(
        (outside.status, outside.header("content-range")),
        (416, Some("bytes */200000"))
    );
    assert_eq!(outside.error_code().as_deref(), Some("bad_range"));
    let known = class
        .fetch(
            &path,
            &format!("If-None-Match: \"{SHA256}\"\r\nRange: bytes=0-0\r\n"),
        )
        .await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let changed = class
        .fetch(&path, "If-Range: \"other\"\r\nRange: bytes=0-0\r\n")
        .await;
    assert_eq!((changed.status, changed.body.len()), (200, 200_000));
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let class = Class::new(|_| {}).await;
    let id = class.record(&[7; 1_000]).await;
    let request = format!(
        "HEAD /api/v1/rooms/math-7b/recordings/{id} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\
         Authorization: Bearer {}\r\nConnection: close\r\n\r\n",
        class.token.as_str()
    );
    let head = send(class.place.address(), &request).await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some("1000"), 0)
    );
}

#[tokio::test]
async fn a_recording_that_is_not_finished_is_listed_and_not_sent() {
    let class = Class::new(|_| {}).await;
    let kind = RecordingKind::Screen;
    let path = class.path(kind, true);
    write_below(&class.place.config.recordings_folder(), &path.to_string(), b"x");
    let id = class
        .store
        .recording_started(class.key(kind), &path, START)
        .await
        .expect("written");
    let again = class
        .store
        .recording_started(class.key(kind), &path, START)
        .await
        .expect("written");
    assert_eq!(id, again, "a further part belongs to the same recording");

    for state in ["recording", "finishing"] {
        let list = class.fetch("recordings", "").await.json();
        assert_eq!(list["lessons"][0]["recordings"][0]["state"], state);
        assert_eq!(
            list["lessons"][0]["recordings"][0]["file_name"],
            "김민수_screen.webm"
        );
        let refused = class.fetch(&format!("recordings/{id}"), "").await;
        assert_eq!(
            (refused.status, refused.error_code().as_deref()),
            (409, Some("still_recording"))
        );
        class
            .store
            .recordings_finishing(class.lesson.id)
            .await
            .expect("written");
    }
}

#[tokio::test]
async fn nobody_but_the_rooms_host_learns_anything() {
    let class = Class::new(|_| {}).await;
    let id = class.record(b"private").await;
    let other = Token::random();
    add_room(&class.store, "other", &other).await;
    let address = class.place.address();
    let bearer = |token: &Token| format!("Authorization: Bearer {}\r\n", token.as_str());
    for path in [
        "recordings",
        &format!("recordings/{id}"),
        "captures",
        &format!("captures/{id}"),
    ] {
        let mine = format!("/api/v1/rooms/math-7b/{path}");
        assert_eq!(get(address, &mine, "").await.status, 401, "{path}");
        let with_other = get(address, &mine, &bearer(&other)).await;
        let unknown = get(address, &format!("/api/v1/rooms/no-such/{path}"), &bearer(&other)).await;
        assert_eq!(
            (with_other.status, &with_other.body),
            (404, &unknown.body),
            "{path}"
        );
        assert_eq!(unknown.status, 404, "{path}");
    }
    // The other room's host asks for this room's file by way of the own room.
    let sideways = get(
        address,
        &format!("/api/v1/rooms/other/recordings/{id}"),
        &bearer(&other),
    )
    .await;
    assert_eq!(sideways.status, 404);
    for id in [
        "x",
        "..",
        "%2e%2e%2fseodang.db",
        "00000000000000000000000000",
        "a%00",
    ] {
        assert_eq!(
            class.fetch(&format!("recordings/{id}"), "").await.status,
            404,
            "{id}"
        );
        assert_eq!(
            class.fetch(&format!("captures/{id}"), "").await.status,
            404,
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_link_a_missing_or_a_changed_file_is_not_sent() {
    let class = Class::new(|_| {}).await;
    let id = class.record(b"content").await;
    let file = class
        .place
        .config
        .recordings_folder()
        .join(class.path(RecordingKind::Camera, false).to_string());
    let path = format!("recordings/{id}");

    std::fs::write(&file, b"other length").expect("writable");
    assert_eq!(class.fetch(&path, "").await.status, 500);
    std::fs::remove_file(&file).expect("writable");
    assert_eq!(class.fetch(&path, "").await.status, 404);
    std::fs::write(class.place.config.data.join("elsewhere"), b"content").expect("writable");
    symlink(class.place.config.data.join("elsewhere"), &file).expect("writable");
    assert_eq!(class.fetch(&path, "").await.status, 404);
}

#[tokio::test]
async fn a_discarded_lesson_is_gone_at_once_and_erased_later() {
    let class = Class::new(|_| {}).await;
    let id = class.record(b"content").await;
    let (day, minute) = (Duration::from_secs(86_400), Duration::from_secs(60));
    class
        .store
        .discard_lesson(class.lesson.id, START, day)
        .await
        .expect("written");

    assert_eq!(class.fetch(&format!("recordings/{id}"), "").await.status, 404);
    assert_eq!(
        class.fetch("recordings", "").await.json()["lessons"],
        serde_json::json!([])
    );
    let (store, root) = (&class.store, class.place.config.recordings_folder());
    let file = root.join(class.path(RecordingKind::Camera, false).to_string());
    assert_eq!(
        sweep(store, &root, day, START + day + minute)
            .await
            .expect("swept"),
        0,
        "the lesson is not over"
    );
    let end = LessonEnd {
        reason: EndReason::Closed,
        keep_recordings: false,
    };
    store
        .begin_ending_lesson(class.lesson.id, end)
        .await
        .expect("written");
    store.end_lesson(class.lesson.id, START).await.expect("written");
    assert_eq!(sweep(store, &root, day, START + day / 2).await.expect("swept"), 0);
    assert!(file.exists());
    assert_eq!(
        sweep(store, &root, day, START + day + minute)
            .await
            .expect("swept"),
        1
    );
    assert!(!file.exists() && !file.parent().expect("a folder").exists());
    assert_eq!(sweep(store, &root, day, START + day * 2).await.expect("swept"), 0);
}

#[tokio::test]
async fn a_reader_that_stops_is_closed_and_its_download_ends() {
    let class = Class::new(|config| config.write_stall_ms = 200).await;
    // More than the socket buffers of both ends take.
    let id = class.record(&vec![1; 64 * 1_024 * 1_024]).await;
    let mut socket = TcpStream::connect(class.place.address()).await.expect("connects");
    let request = format!(
        "GET /api/v1/rooms/math-7b/recordings/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        class.token.as_str()
    );
    socket.write_all(request.as_bytes()).await.expect("written");
    let ended = async {
        loop {
            let metrics = class.place.get("/metrics").await.text();
            if metrics.contains("seodang_write_stalls_total 1") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("the stalled connection is closed");
    let mut received = Vec::new();
    let _ = socket.read_to_end(&mut received).await;
    assert!(received.len() < 64 * 1_024 * 1_024, "cut off");
}

#[tokio::test]
async fn captures_are_read_page_by_page_with_their_pictures() {
    let class = Class::new(|_| {}).await;
    let (room, participant) = (class.room.id, class.seat.participant);
    let mut ids = Vec::new();
    for index in 0..5_i64 {
        let tick = START + Duration::from_secs(10) * u32::try_from(index).expect("small");
        let path = CapturePath::new(class.room.number.clone(), class.seat.storage_name.clone(), tick);
        let picture = (index % 2 == 0).then(|| {
            write_below(&class.place.config.captures_folder(), &path.to_string(), b"jpeg");
            CapturedPicture {
                path,
                sha256: SHA256.to_owned(),
            }
        });
        let id = CaptureId::random();
        let status = if picture.is_some() { "ok" } else { "camera_off" };
        let line = format!(r#"{{"capture_id":"{id}","status":"{status}"}}"#);
        let capture = NewCapture {
            id,
            room,
            lesson: class.lesson.id,
            participant,
            tick,
            status: status.to_owned(),
            picture,
            line,
        };
        class.store.capture_written(&capture).await.expect("written");
        class
            .store
            .capture_written(&capture)
            .await
            .expect("the same again changes nothing");
        ids.push(id);
    }

    let first = class.fetch("captures?limit=3", "").await.json();
    let rows = first["captures"].as_array().expect("rows");
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["capture_id"], ids[0].to_string());
    assert_eq!(rows[1].get("href"), None);
    let rest = class
        .fetch(&format!("captures?cursor={}", first["next_cursor"]), "")
        .await
        .json();
    assert_eq!(rest["captures"].as_array().expect("rows").len(), 2);
    let end = class
        .fetch(&format!("captures?cursor={}", rest["next_cursor"]), "")
        .await
        .json();
    assert_eq!(
        (&end["captures"], &end["next_cursor"]),
        (&serde_json::json!([]), &rest["next_cursor"])
    );

    let href = rows[0]["href"]
        .as_str()
        .expect("a link")
        .strip_prefix("/api/v1/rooms/math-7b/")
        .expect("ours");
    let picture = class.fetch(href, "").await;
    assert_eq!((picture.status, &picture.body[..]), (200, &b"jpeg"[..]));
    assert_eq!(picture.header("content-type"), Some("image/jpeg"));
    assert_eq!(class.fetch(&format!("captures/{}", ids[1]), "").await.status, 404);
    for query in [
        "limit=0",
        "limit=501",
        "cursor=-1",
        "cursor=x",
        "limit=99999999999999999999",
    ] {
        let refused = class.fetch(&format!("captures?{query}"), "").await;
        assert_eq!(
            (refused.status, refused.error_code().as_deref()),
            (400, Some("bad_message")),
            "{query}"
        );
    }
}
