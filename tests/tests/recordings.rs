//! Recordings of whole lessons, judged by what can be seen and heard in them.

use std::collections::BTreeSet;
use std::path::Path;

use seodang_fixtures::timeline::{FRAMES_PER_SECOND, frame_at};
use seodang_fixtures::{JoinOptions, ScriptedParticipant};
use seodang_model::Source;
use seodang_model::protocol::Consents;
use seodang_tests::files::Recording;
use seodang_tests::{
    Class, KeptLesson, PATIENCE, TestRoom, TestServer, get, one_class_at_a_time,
    publish_camera_and_microphone, request, send_on, until,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

type Result<T = ()> = anyhow::Result<T>;

#[tokio::test(flavor = "multi_thread")]
async fn a_lesson_leaves_a_whole_file_of_everyone() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let class = Class::meet(&server, 2).await?;
    send_on(&class.people[0], 90).await?;
    let mut last_sent = Vec::new();
    for person in &class.people {
        last_sent.push(send_on(person, 1).await?);
    }
    class.room.close(&server).await?;

    let lesson = KeptLesson::of(&server.recordings(), &class.room.number)?;
    assert_eq!(
        lesson.names()?,
        [
            "chat.jsonl",
            "chat.vtt",
            "lesson.json",
            "student1.webm",
            "student2.webm",
            "teacher.webm"
        ]
    );
    assert_eq!(lesson.manifest["schema"], 1);
    assert_eq!(lesson.manifest["room"], class.room.number.as_str());
    assert_eq!(lesson.manifest["state"], "finished");
    for (person, last_sent) in class.people.iter().zip(last_sent) {
        let path = match person.number() {
            0 => "teacher.webm".to_owned(),
            number => format!("student{number}.webm"),
        };
        let (recording, entry) = (lesson.recording(&path).await?, lesson.entry(&path)?);
        assert_whole(&recording, &path);
        let sent = person.look(|seen| seen.sent[&Source::Camera].numbers.clone());
        assert_eq!(recording.missing(&sent), [0; 0], "{path}");
        let numbers = recording.numbers();
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        // Half a second at the most is missing at the start, and what was on its way at the end.
        assert!(
            first <= sent[0] + FRAMES_PER_SECOND / 2,
            "{path} begins with {first} of {}",
            sent[0]
        );
        assert!(
            last + FRAMES_PER_SECOND / 2 >= last_sent,
            "{path} ends with {last} of {last_sent}"
        );
        assert_eq!(
            (recording.shown(), &recording.heard),
            (vec![person.number()], &vec![person.number()])
        );
        assert_in_sync(&recording, &path);

        let duration_s = recording.duration_s.expect("assert_whole looked");
        let shown_s = f64::from(last - first + 1) / f64::from(FRAMES_PER_SECOND);
        assert!(
            (duration_s - shown_s).abs() < 0.6,
            "{path}: {duration_s} s, {shown_s} s of pictures"
        );
        let data = std::fs::read(lesson.folder.join(&path))?;
        assert_eq!(entry["state"], "finished");
        assert_eq!(entry["kind"], "camera");
        assert_eq!(entry["participant"], person.id().to_string());
        assert_eq!(entry["bytes"], data.len());
        assert_eq!(entry["sha256"], sha256(&data));
        assert_eq!(entry["gaps"], Value::Array(Vec::new()));
        assert_eq!((&entry["width"], &entry["height"]), (&320.into(), &180.into()));
        let stated_s = entry["duration_ms"].as_f64().expect("a number") / 1000.0;
        assert!(
            (stated_s - duration_s).abs() < 0.01,
            "{path}: {stated_s} and {duration_s}"
        );
        let participants = lesson.manifest["participants"].as_array().expect("a list");
        let role = if person.number() == 0 { "host" } else { "student" };
        assert!(
            participants
                .iter()
                .any(|entry| entry["id"] == person.id().to_string() && entry["role"] == role),
            "{}",
            lesson.manifest
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_host_lists_and_fetches_the_files() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 0).await?;
    let options = JoinOptions {
        name: "김 민수".to_owned(),
        ..class.room.student(1)
    };
    let mut student = ScriptedParticipant::join(options).await?;
    publish_camera_and_microphone(&mut student).await?;
    class.people.push(student);
    send_on(&class.people[1], 30).await?;
    let stranger = TestRoom::create(&server, "meeting").await?;
    let address = server.address();
    let list = format!("/api/v1/rooms/{}/recordings", class.room.number);
    let host = Some(class.room.host_token.as_str());

    let growing = until("two files in the list", async || {
        let rows = rows(&get(address, &list, host).await?.json());
        Ok((rows.len() == 2).then_some(rows))
    })
    .await?;
    for row in &growing {
        assert_eq!(row["state"], "recording");
        let reply = get(address, href(row), host).await?;
        assert_eq!(
            (reply.status, reply.code().as_deref()),
            (409, Some("still_recording"))
        );
    }
    class.room.close(&server).await?;

    let finished = rows(&get(address, &list, host).await?.json());
    assert_eq!(finished.len(), 2);
    let lesson = KeptLesson::of(&server.recordings(), &class.room.number)?;
    for row in &finished {
        let name = row["file_name"].as_str().expect("a name");
        let data = std::fs::read(lesson.folder.join(name))?;
        assert_eq!(
            (&row["state"], &row["size_bytes"]),
            (&"finished".into(), &data.len().into())
        );
        assert_eq!(row["sha256"], sha256(&data));
        assert_eq!(row["duration_ms"], lesson.entry(name)?["duration_ms"]);
        assert_eq!(row["offset_ms"], lesson.entry(name)?["offset_ms"]);

        let whole = get(address, href(row), host).await?;
        assert_eq!(
            (whole.status, whole.header("content-type")),
            (200, Some("video/webm"))
        );
        assert!(whole.body == data, "{name} differs from the disk");
        let etag = format!("\"{}\"", sha256(&data));
        assert_eq!(whole.header("etag"), Some(etag.as_str()));
        let bearer = format!("Bearer {}", class.room.host_token.as_str());
        let ask = async |header: (&str, &str)| {
            request(
                address,
                "GET",
                href(row),
                &[("Authorization", bearer.as_str()), header],
                b"",
            )
            .await
        };
        let part = ask(("Range", "bytes=100-299")).await?;
        assert_eq!(part.status, 206);
        assert!(part.body == data[100..300]);
        let stated = format!("bytes 100-299/{}", data.len());
        assert_eq!(part.header("content-range"), Some(stated.as_str()));
        let end = ask(("Range", "bytes=-50")).await?;
        assert!(end.status == 206 && end.body == data[data.len() - 50..]);
        let beyond = ask(("Range", "bytes=999999999-")).await?;
        assert_eq!(
            (beyond.status, beyond.code().as_deref()),
            (416, Some("bad_range"))
        );
        assert_eq!(ask(("If-None-Match", etag.as_str())).await?.status, 304);

        // Another room's host, the other room's address with its own host, an unknown file: no detail.
        let elsewhere = href(row).replace(&class.room.number, &stranger.number);
        let unknown = format!("{list}/{}", "0".repeat(26));
        let foreign = Some(stranger.host_token.as_str());
        for (path, bearer) in [
            (href(row), foreign),
            (elsewhere.as_str(), foreign),
            (unknown.as_str(), host),
            (list.as_str(), foreign),
        ] {
            let reply = get(address, path, bearer).await?;
            assert_eq!(
                (reply.status, reply.code().as_deref()),
                (404, Some("not_found")),
                "{path}"
            );
        }
        for path in [href(row), list.as_str()] {
            let reply = get(address, path, None).await?;
            assert_eq!(
                (reply.status, reply.code().as_deref()),
                (401, Some("unauthorized")),
                "{path}"
            );
        }
    }
    let names: BTreeSet<_> = finished
        .iter()
        .filter_map(|row| row["file_name"].as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(["teacher.webm", "김-민수.webm"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_is_off_is_black_and_a_muted_microphone_silent() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 0).await?;
    let watch = ScriptedParticipant::join(class.room.student(1).without_looking()).await?;
    let host = &mut class.people[0];
    let id = host.id();
    send_on(host, 30).await?;

    let camera_off_s = host.epoch().elapsed().as_secs_f64();
    host.unpublish(Source::Camera).await?;
    // Two seconds of sound: a hundred packets.
    further_sound(host, 100).await?;
    let camera_on_s = host.epoch().elapsed().as_secs_f64();
    host.publish(Source::Camera).await?;
    send_on(host, 30).await?;

    let mute_s = host.epoch().elapsed().as_secs_f64();
    host.unpublish(Source::Microphone).await?;
    send_on(host, 30).await?;
    let speak_s = host.epoch().elapsed().as_secs_f64();
    host.publish(Source::Microphone).await?;
    send_on(host, 30).await?;
    assert!(watch.look(|seen| seen.users.contains_key(&id)));
    class.room.close(&server).await?;

    let lesson = KeptLesson::of(&server.recordings(), &class.room.number)?;
    let recording = lesson.recording("teacher.webm").await?;
    assert_whole(&recording, "teacher.webm");
    assert_in_sync(&recording, "teacher.webm");
    let zero_s = media_zero_s(&recording);
    let off: Vec<_> = recording
        .frames
        .iter()
        .filter(|frame| (camera_off_s + 0.5..camera_on_s - 0.1).contains(&(frame.at_s - zero_s)))
        .collect();
    assert!(off.len() >= 3, "{} pictures while the camera was off", off.len());
    for frame in off {
        assert!(
            frame.counter.is_none() && frame.mean_luma < 20.0,
            "a stale picture: {frame:?}"
        );
    }
    let (heard, unheard): (Vec<_>, Vec<_>) = recording
        .steps
        .iter()
        .map(|(_, at_s)| at_s - zero_s)
        .partition(|at_s| !(mute_s + 0.3..speak_s - 0.1).contains(at_s));
    assert!(unheard.is_empty(), "muted, but heard: {unheard:?}");
    assert!(
        heard.iter().any(|at_s| *at_s > speak_s)
            && heard
                .iter()
                .filter(|at_s| (camera_off_s..camera_on_s).contains(at_s))
                .count()
                >= 8,
        "the voice went with the camera: {heard:?}"
    );
    let sent = class.people[0].look(|seen| seen.sent[&Source::Camera].numbers.clone());
    // What follows a camera that comes back waits for a key frame, and what is on its way when it goes may be late.
    let missing = recording.missing(&sent);
    let changes = [frame_of(camera_off_s), frame_of(camera_on_s)];
    let unexplained: Vec<_> = missing
        .iter()
        .filter(|frame| !changes.iter().any(|change| change.abs_diff(**frame) <= 8))
        .collect();
    assert!(
        unexplained.is_empty(),
        "missing: {missing:?}, changes at {changes:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_continues_the_same_file() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 1).await?;
    send_on(&class.people[1], 30).await?;
    class.people[1].cut_socket();
    class.people[1].cut_media().await;
    // Two seconds and more without a socket and without media: long enough to count as away.
    send_on(&class.people[0], 40).await?;
    class.people[1].reconnect().await?;
    class.people[1].connect_media().await?;
    let back = frame_at(class.people[1].epoch().elapsed());
    send_on(&class.people[1], 45).await?;
    class.room.close(&server).await?;

    let lesson = KeptLesson::of(&server.recordings(), &class.room.number)?;
    assert_eq!(
        lesson.names()?,
        [
            "chat.jsonl",
            "chat.vtt",
            "lesson.json",
            "student1.webm",
            "teacher.webm"
        ]
    );
    let recording = lesson.recording("student1.webm").await?;
    assert_whole(&recording, "student1.webm");
    assert_in_sync(&recording, "student1.webm");
    let gaps = lesson.entry("student1.webm")?["gaps"].as_array().expect("a list");
    assert!(gaps.len() == 1 && gaps[0]["reason"] == "away", "{gaps:?}");
    let numbers = recording.numbers();
    assert!(
        numbers[0] < back && numbers[numbers.len() - 1] > back + 15,
        "{numbers:?}"
    );
    let after: Vec<u32> = class.people[1].look(|seen| {
        let sent = &seen.sent[&Source::Camera].numbers;
        sent.iter().copied().filter(|number| *number > back + 8).collect()
    });
    assert_eq!(recording.missing(&after), [0; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_outside_consent() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start_with(|config| config.capture_period_s = 2).await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let nothing = Consents {
        recording: false,
        captures: false,
    };
    let everything = Consents {
        recording: true,
        captures: true,
    };
    let mut student = ScriptedParticipant::join(JoinOptions {
        consents: nothing,
        ..room.student(1)
    })
    .await?;
    publish_camera_and_microphone(&mut student).await?;
    send_on(&student, 30).await?;

    let mut spans = Vec::new();
    for _ in 0..2 {
        let from = frame_at(student.epoch().elapsed());
        student.consent(everything).await?;
        wait_kept(&student, everything).await?;
        send_on(&student, 45).await?;
        student.consent(nothing).await?;
        wait_kept(&student, nothing).await?;
        // The frame that is due next was not yet taken when the answer stood.
        spans.push(from..frame_at(student.epoch().elapsed()) + 1);
        send_on(&student, 30).await?;
    }
    room.close(&server).await?;

    let lesson = KeptLesson::of(&server.recordings(), &room.number)?;
    let recording = lesson.recording("student1.webm").await?;
    assert_whole(&recording, "student1.webm");
    let numbers = recording.numbers();
    for span in &spans {
        let kept = numbers.iter().filter(|number| span.contains(*number)).count();
        assert!(kept >= 30, "only {kept} of {span:?} were kept: {numbers:?}");
    }
    let outside: Vec<_> = numbers
        .iter()
        .filter(|number| !spans.iter().any(|span| span.contains(*number)))
        .collect();
    assert!(outside.is_empty(), "{outside:?} lie outside {spans:?}");
    let zero_s = media_zero_s(&recording);
    for (_, at_s) in &recording.steps {
        let heard = ((at_s - zero_s) * f64::from(FRAMES_PER_SECOND)) as u32;
        // A step is found to 5 ms, a frame is 67.
        let kept = spans
            .iter()
            .any(|span| (span.start.saturating_sub(1)..span.end + 1).contains(&heard));
        assert!(kept, "a tone at frame {heard} lies outside {spans:?}");
    }
    let gaps = lesson.entry("student1.webm")?["gaps"].as_array().expect("a list");
    assert!(gaps.iter().any(|gap| gap["reason"] == "consent"), "{gaps:?}");
    for path in files_below(&server.captures())? {
        if path.extension().is_some_and(|extension| extension == "jpg") {
            let counter = seodang_tests::files::read_jpeg(&path)?
                .counter
                .expect("a counter");
            assert!(
                spans.iter().any(|span| span.contains(&counter.frame)),
                "{counter:?} lies outside {spans:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_declines_leaves_no_trace() -> Result {
    const NAME: &str = "안지원";
    const LINE: &str = "비밀이에요 from me";
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start_with(|config| config.capture_period_s = 2).await?;
    let mut class = Class::meet(&server, 1).await?;
    let options = JoinOptions {
        name: NAME.to_owned(),
        consents: Consents {
            recording: false,
            captures: false,
        },
        ..class.room.student(2)
    };
    let mut declining = ScriptedParticipant::join(options).await?;
    publish_camera_and_microphone(&mut declining).await?;
    declining.chat(LINE).await?;
    class.people[1].chat("이 줄은 남아요").await?;
    class.people[0]
        .wait_for("both lines", PATIENCE, |seen| {
            (seen.chat.len() == 2).then_some(())
        })
        .await?;
    send_on(&declining, 90).await?;
    let id = declining.id().to_string();
    class.room.close(&server).await?;

    let lesson = KeptLesson::of(&server.recordings(), &class.room.number)?;
    let chat = std::fs::read_to_string(lesson.folder.join("chat.jsonl"))?;
    assert!(
        chat.contains("이 줄은 남아요"),
        "the others' chat is kept: {chat}"
    );
    let kept = [
        files_below(&server.recordings())?,
        files_below(&server.captures())?,
    ]
    .concat();
    assert!(
        kept.iter()
            .any(|path| path.extension().is_some_and(|extension| extension == "jpg"))
    );
    for path in kept {
        let mut data = std::fs::read(&path)?;
        data.extend(path.as_os_str().as_encoded_bytes());
        for trace in [NAME, LINE, &id] {
            let found = data.windows(trace.len()).any(|bytes| bytes == trace.as_bytes());
            assert!(!found, "{trace} in {}", path.display());
        }
    }
    for path in ["teacher.webm", "student1.webm"] {
        let recording = lesson.recording(path).await?;
        assert!(
            !recording.shown().contains(&2) && !recording.heard.contains(&2),
            "{path}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_leaves_one_file_with_a_gap() -> Result {
    let _turn = one_class_at_a_time().await;
    let mut server = TestServer::start().await?;
    let mut class = Class::meet(&server, 1).await?;
    send_on(&class.people[1], 45).await?;
    server.restart().await?;
    for person in &mut class.people {
        person
            .wait_for("closed socket", PATIENCE, |seen| {
                (!seen.socket_open).then_some(())
            })
            .await?;
        person.reconnect().await?;
        person.connect_media().await?;
    }
    let back = frame_at(class.people[1].epoch().elapsed());
    send_on(&class.people[1], 45).await?;
    class.room.close(&server).await?;

    let lesson = KeptLesson::of(&server.recordings(), &class.room.number)?;
    assert_eq!(
        lesson.names()?,
        [
            "chat.jsonl",
            "chat.vtt",
            "lesson.json",
            "student1.webm",
            "teacher.webm"
        ]
    );
    for path in ["student1.webm", "teacher.webm"] {
        let recording = lesson.recording(path).await?;
        assert_whole(&recording, path);
        assert_in_sync(&recording, path);
        let gaps = lesson.entry(path)?["gaps"].as_array().expect("a list").clone();
        assert!(
            gaps.iter().any(|gap| gap["reason"] == "restart"),
            "{path}: {gaps:?}"
        );
    }
    let numbers = lesson.recording("student1.webm").await?.numbers();
    let (before, after): (Vec<u32>, Vec<u32>) = numbers.iter().partition(|number| **number < back);
    assert!(before.len() >= 40 && after.len() >= 30, "{numbers:?}");
    Ok(())
}

/// Plays from end to end and can be sought in; every picture once and in order.
fn assert_whole(recording: &Recording, path: &str) {
    assert_eq!(recording.codecs, ["vp8", "opus"], "{path}");
    assert!(
        recording.decode_errors.is_empty(),
        "{path}: {:?}",
        recording.decode_errors
    );
    assert!(
        recording.has_cues && recording.duration_s.is_some(),
        "{path} cannot be sought in"
    );
    assert_eq!(recording.steps_back(), 0, "{path}: {:?}", recording.numbers());
}

/// Lip sync as people bear it.
fn assert_in_sync(recording: &Recording, path: &str) {
    let sync = recording.sync_error().expect("picture and sound");
    assert!(
        sync.steps >= 8 && sync.median_s.abs() < 0.08 && sync.p90_s < 0.08,
        "{path}: {sync:?}"
    );
}

/// Where the participant's media time began in the file's time, by the middle of all pictures.
fn media_zero_s(recording: &Recording) -> f64 {
    let mut shown = None;
    let mut zeros: Vec<f64> = recording
        .frames
        .iter()
        .filter_map(|frame| Some((frame.at_s, frame.counter?)))
        .filter(|(_, counter)| shown.replace(*counter) != Some(*counter))
        .map(|(at_s, counter)| at_s - f64::from(counter.frame) / f64::from(FRAMES_PER_SECOND))
        .collect();
    zeros.sort_by(f64::total_cmp);
    zeros[zeros.len() / 2]
}

fn frame_of(media_time_s: f64) -> u32 {
    (media_time_s * f64::from(FRAMES_PER_SECOND)) as u32
}

async fn further_sound(person: &ScriptedParticipant, packets: usize) -> Result {
    let before = person.look(|seen| seen.sent[&Source::Microphone].numbers.len());
    person
        .wait_for("further sound", PATIENCE, |seen| {
            (seen.sent[&Source::Microphone].numbers.len() >= before + packets).then_some(())
        })
        .await?;
    Ok(())
}

async fn wait_kept(person: &ScriptedParticipant, consents: Consents) -> Result {
    person
        .wait_for("what is kept", PATIENCE, |seen| {
            (seen.kept?.0 == consents).then_some(())
        })
        .await?;
    Ok(())
}

fn rows(list: &Value) -> Vec<Value> {
    let lessons = list["lessons"].as_array().cloned().unwrap_or_default();
    lessons
        .iter()
        .flat_map(|lesson| lesson["recordings"].as_array().cloned().unwrap_or_default())
        .collect()
}

fn href(row: &Value) -> &str {
    row["href"].as_str().expect("a link")
}

fn sha256(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn files_below(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
