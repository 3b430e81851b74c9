//! What a host fetches after a lesson, and what a camera that is off leaves in it.

use std::collections::BTreeSet;

use seodang_fixtures::timeline::FRAMES_PER_SECOND;
use seodang_fixtures::{JoinOptions, ScriptedParticipant};
use seodang_model::Source;
use seodang_tests::files::Recording;
use seodang_tests::{
    Class, KeptLesson, PATIENCE, TestRoom, TestServer, get, one_class_at_a_time,
    publish_camera_and_microphone, request, send_on, until,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

type Result<T = ()> = anyhow::Result<T>;

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
