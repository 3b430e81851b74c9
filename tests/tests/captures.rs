//! Captures of whole lessons: rows, pictures and recordings tell the same story.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use seodang_fixtures::ScriptedParticipant;
use seodang_fixtures::timeline::{FRAMES_PER_SECOND, frame_time};
use seodang_model::Source;
use seodang_tests::files::{Recording, read_jpeg};
use seodang_tests::{Class, KeptLesson, PATIENCE, TestServer, get, one_class_at_a_time, send_on, until};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

type Result<T = ()> = anyhow::Result<T>;

/// Seconds between ticks: as often as is allowed.
const PERIOD_S: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn every_tick_has_one_row_and_its_picture_for_everyone() -> Result {
    let _turn = one_class_at_a_time().await;
    let mut server = TestServer::start_with(|config| config.capture_period_s = PERIOD_S).await?;
    let class = Class::meet(&server, 2).await?;
    // Four ticks at least.
    send_on(&class.people[2], 9 * FRAMES_PER_SECOND as usize).await?;
    let closing = OffsetDateTime::now_utc();
    class.room.close(&server).await?;
    let folder = server.captures().join(&class.room.number);
    // A server that has stopped has written what it had.
    server.stop().await;
    let rows = rows_so_far(&folder)?;
    let lesson = KeptLesson::of(&server.recordings(), &class.room.number)?;

    let mut told: BTreeSet<String> = BTreeSet::new();
    for person in &class.people {
        let name = name_of(person);
        let own: Vec<&Value> = rows
            .iter()
            .filter(|row| row["participant"] == person.id().to_string())
            .collect();
        let ticks: Vec<i64> = own
            .iter()
            .map(|row| instant(row, "tick_utc").unix_timestamp())
            .collect();
        assert!(ticks.len() >= 4, "{name}: {ticks:?}");
        assert!(
            ticks.iter().all(|tick| tick % i64::from(PERIOD_S) == 0),
            "{name}: {ticks:?}"
        );
        let each = ticks
            .windows(2)
            .all(|pair| pair[1] - pair[0] == i64::from(PERIOD_S));
        assert!(each, "{name} has not exactly one row a tick: {ticks:?}");
        let last = ticks[ticks.len() - 1];
        assert!(
            closing.unix_timestamp() - last <= i64::from(2 * PERIOD_S),
            "{name}: the last tick is missing"
        );

        let recording = lesson.recording(&format!("{name}.webm")).await?;
        let began = OffsetDateTime::now_utc() - person.epoch().elapsed();
        let mut pictures = 0;
        let mut camera_was_on = false;
        for row in own {
            assert_eq!(
                (&row["schema"], &row["room"]),
                (&1.into(), &class.room.number.as_str().into())
            );
            assert_eq!(row["name"], name.as_str());
            assert!(
                row["consent_version"].as_u64().is_some_and(|version| version > 0),
                "{row}"
            );
            if row["status"] != "ok" {
                // The first tick may come before the camera, the last one after it.
                assert!(row["path"].is_null() && row["sha256"].is_null(), "{row}");
                camera_was_on = false;
                continue;
            }
            pictures += 1;
            told.insert(row["path"].as_str().context("path")?.to_owned());
            assert_picture(row, &server.captures(), person, began, camera_was_on)?;
            camera_was_on = true;
            if row["media_time_ms"].is_null() {
                // A slow disk may open the file after the first round.
                assert_eq!(pictures, 1, "without a place: {row}");
                continue;
            }
            assert_place(row, &server.captures(), &recording)?;
        }
        assert!(pictures >= 4, "{name} has only {pictures} pictures: {rows:?}");
    }
    let kept: BTreeSet<String> = pictures_in(&folder)?
        .iter()
        .map(|path| {
            format!(
                "{}/{}",
                class.room.number,
                path.file_name().unwrap_or_default().to_string_lossy()
            )
        })
        .collect();
    assert_eq!(told, kept, "rows and pictures differ");

    server.restart().await?;
    let path = format!("/api/v1/rooms/{}/captures", class.room.number);
    let host = Some(class.room.host_token.as_str());
    let reply = get(server.address(), &path, host).await?;
    let listed = reply.json()["captures"].as_array().cloned().unwrap_or_default();
    assert_eq!(listed.len(), rows.len());
    for row in listed.iter().filter(|row| row["status"] == "ok") {
        let picture = get(server.address(), row["href"].as_str().context("href")?, host).await?;
        let etag = format!("\"{}\"", row["sha256"].as_str().context("sha256")?);
        assert_eq!(
            (picture.status, picture.header("etag")),
            (200, Some(etag.as_str()))
        );
        assert_eq!(sha256(&picture.body), row["sha256"]);
    }
    let stranger = get(server.address(), &path, None).await?;
    assert_eq!(
        (stranger.status, stranger.code().as_deref()),
        (401, Some("unauthorized"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_folder_never_sees_half_a_picture() -> Result {
    let _turn = one_class_at_a_time().await;
    let mut server = TestServer::start_with(|config| config.capture_period_s = PERIOD_S).await?;
    let class = Class::meet(&server, 3).await?;
    let folder = server.captures().join(&class.room.number);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (folder, stop) = (folder.clone(), Arc::clone(&stop));
        std::thread::spawn(move || read_along(&folder, &stop))
    };
    send_on(&class.people[3], 8 * FRAMES_PER_SECOND as usize).await?;
    class.room.close(&server).await?;
    // A server that has stopped has written what it had.
    server.stop().await;
    let rows = rows_so_far(&folder)?;
    stop.store(true, Ordering::Relaxed);
    let read = reader.join().expect("the reader saw half a picture or row")?;
    let pictures = rows.iter().filter(|row| row["status"] == "ok").count();
    assert!(pictures >= 12, "{pictures}");
    assert_eq!(read.len(), pictures);
    for (path, data) in read {
        assert!(
            std::fs::read(&path)? == data,
            "{} changed after it had its name",
            path.display()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_is_off_gives_a_row_without_a_picture() -> Result {
    let _turn = one_class_at_a_time().await;
    let mut server = TestServer::start_with(|config| config.capture_period_s = PERIOD_S).await?;
    let mut class = Class::meet(&server, 1).await?;
    let folder = server.captures().join(&class.room.number);
    let id = class.people[1].id().to_string();
    let own = async |wanted: &str| {
        until(wanted, async || {
            let rows = rows_so_far(&folder)?;
            Ok(rows
                .into_iter()
                .rfind(|row| row["participant"] == id.as_str())
                .filter(|row| row["status"] == wanted))
        })
        .await
    };
    own("ok").await?;
    class.people[1].unpublish(Source::Camera).await?;
    let off = own("camera_off").await?;
    for field in [
        "path",
        "captured_at",
        "sha256",
        "bytes",
        "width",
        "height",
        "statistics",
        "media_time_ms",
    ] {
        assert!(off[field].is_null(), "{field} in {off}");
    }
    let pictures = |rows: &[Value]| rows.iter().filter(|row| row["status"] == "ok").count();
    let rows = rows_so_far(&folder)?;
    assert_eq!(pictures_in(&folder)?.len(), pictures(&rows));
    // And the others go on, and so does this one.
    class.people[1].publish(Source::Camera).await?;
    let on = own("ok").await?;
    assert!(instant(&on, "tick_utc") > instant(&off, "tick_utc"));
    class.room.close(&server).await?;
    // A server that has stopped has written what it had.
    server.stop().await;
    let rows = rows_so_far(&folder)?;
    let others = rows
        .iter()
        .filter(|row| row["participant"] != id.as_str() && row["status"] == "camera_off");
    assert_eq!(others.count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_no_row_leads_to_a_wrong_place_in_the_recording() -> Result {
    let _turn = one_class_at_a_time().await;
    let mut server = TestServer::start_with(|config| config.capture_period_s = PERIOD_S).await?;
    let mut class = Class::meet(&server, 0).await?;
    let folder = server.captures().join(&class.room.number);
    let with_picture = async |more_than: usize| {
        until("another picture", async || {
            let rows = rows_so_far(&folder)?;
            let pictures = rows.iter().filter(|row| row["status"] == "ok").count();
            Ok((pictures > more_than).then_some(pictures))
        })
        .await
    };
    let before = with_picture(0).await?;
    server.restart().await?;
    let host = &mut class.people[0];
    host.wait_for("closed socket", PATIENCE, |seen| {
        (!seen.socket_open).then_some(())
    })
    .await?;
    host.reconnect().await?;
    host.connect_media().await?;
    with_picture(before + 1).await?;
    class.room.close(&server).await?;
    server.stop().await;

    let lesson = KeptLesson::of(&server.recordings(), &class.room.number)?;
    let recording = lesson.recording("teacher.webm").await?;
    let host = &class.people[0];
    let began = OffsetDateTime::now_utc() - host.epoch().elapsed();
    let mut placed = 0;
    let mut camera_was_on = false;
    let mut resumed = false;
    for row in &rows_so_far(&folder)? {
        if row["status"] != "ok" {
            camera_was_on = false;
            continue;
        }
        // The camera begins anew with the second server.
        if row["media_time_ms"].is_null() && !std::mem::replace(&mut resumed, true) {
            camera_was_on = false;
        }
        assert_picture(row, &server.captures(), host, began, camera_was_on)?;
        camera_was_on = true;
        // Where a further part will lie is decided when the lesson ends; a row does not guess.
        if !row["media_time_ms"].is_null() {
            assert_place(row, &server.captures(), &recording)?;
            placed += 1;
        }
    }
    assert!(
        placed >= before,
        "{placed} of {before} pictures before the restart are placed"
    );
    Ok(())
}

/// The row says what the picture is, and the picture was taken at the tick, or as soon as the camera was on.
fn assert_picture(
    row: &Value,
    captures: &Path,
    person: &ScriptedParticipant,
    began: OffsetDateTime,
    camera_was_on: bool,
) -> Result {
    let path = captures.join(row["path"].as_str().context("path")?);
    let data = std::fs::read(&path)?;
    assert_eq!(
        (&row["bytes"], &row["sha256"]),
        (&data.len().into(), &sha256(&data).into()),
        "{row}"
    );
    let picture = read_jpeg(&path)?;
    assert_eq!(
        (&row["width"], &row["height"]),
        (&picture.width.into(), &picture.height.into()),
        "{row}"
    );
    let counter = picture.counter.context("no counter in a picture")?;
    assert_eq!(counter.participant, person.number(), "{row}");

    let shown_at = began + frame_time(counter.frame);
    let off_tick = shown_at - instant(row, "tick_utc");
    let latest = Duration::milliseconds(if camera_was_on { 500 } else { 1_500 });
    assert!(
        off_tick >= Duration::milliseconds(-500) && off_tick <= latest,
        "{off_tick} from the tick: {row}"
    );
    let off_stated = shown_at - instant(row, "captured_at");
    assert!(
        off_stated.abs() <= Duration::milliseconds(200),
        "{off_stated} from captured_at: {row}"
    );
    Ok(())
}

/// The recording shows the picture's frame where the row says.
fn assert_place(row: &Value, captures: &Path, recording: &Recording) -> Result {
    let picture = read_jpeg(&captures.join(row["path"].as_str().context("path")?))?;
    let counter = picture.counter.context("no counter in a picture")?;
    let stated_s = row["media_time_ms"].as_f64().context("media_time_ms")? / 1000.0;
    let frame = recording
        .frames
        .iter()
        .find(|frame| frame.counter == Some(counter))
        .with_context(|| format!("frame {} is not in the recording: {row}", counter.frame))?;
    let apart_s = (frame.at_s - stated_s).abs();
    assert!(
        apart_s <= 1.0 / f64::from(FRAMES_PER_SECOND),
        "{apart_s} s apart in the recording: {row}"
    );
    Ok(())
}

/// Reads every picture and row the moment it can be seen; panics at half a one.
fn read_along(folder: &Path, stop: &AtomicBool) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut read = BTreeMap::new();
    loop {
        let last_look = stop.load(Ordering::Relaxed);
        let rows = if folder.exists() {
            rows_so_far(folder)?
        } else {
            Vec::new()
        };
        let root = folder.parent().context("the captures folder")?;
        for path in rows.iter().filter_map(|row| row["path"].as_str()) {
            assert!(root.join(path).exists(), "a row came before its picture {path}");
        }
        for path in pictures_in(folder).unwrap_or_default() {
            if let Entry::Vacant(unread) = read.entry(path) {
                let data = std::fs::read(unread.key())?;
                let decoded = image::load_from_memory_with_format(&data, image::ImageFormat::Jpeg);
                assert!(
                    decoded.is_ok() && data.ends_with(&[0xff, 0xd9]),
                    "half a picture: {}",
                    unread.key().display()
                );
                unread.insert(data);
            }
        }
        if last_look {
            return Ok(read);
        }
        std::thread::yield_now();
    }
}

/// Complete lines, as docs/captures.md tells readers.
fn rows_so_far(folder: &Path) -> Result<Vec<Value>> {
    let text = match std::fs::read_to_string(folder.join("captures.jsonl")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("a row: {line}")))
        .collect()
}

fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name != "captures.jsonl" && !name.starts_with('.') {
            assert!(name.ends_with(".jpg"), "{name} is none of the contract's");
            pictures.push(path);
        }
    }
    Ok(pictures)
}

fn name_of(person: &ScriptedParticipant) -> String {
    match person.number() {
        0 => "teacher".to_owned(),
        number => format!("student{number}"),
    }
}

fn instant(row: &Value, field: &str) -> OffsetDateTime {
    let text = row[field].as_str().expect("a time");
    OffsetDateTime::parse(text, &Rfc3339).expect("RFC 3339")
}

fn sha256(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
