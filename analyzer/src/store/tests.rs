use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use rand::Rng as _;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;
use crate::fake::{assert_matching, entry, jpeg, rows};
use crate::mend::mend;

/// Tells a child process of these tests which folder to write to.
const CHILD_ROOT: &str = "SEODANG_TEST_CAPTURES";

fn store(root: &Path) -> (Store, Receiver<CaptureEvent>) {
    let (events, received) = sync_channel(1_000);
    (
        Store::new(root.to_owned(), Arc::new(Counters::default()), events),
        received,
    )
}

#[test]
fn a_stored_picture_has_its_row_and_its_event() {
    let root = tempfile::tempdir().expect("a folder");
    let (mut store, events) = store(root.path());
    store.handle_entry(entry(1, "김 민수", 10, &jpeg()));
    store.handle_entry(entry(2, "김 민수", 10, &jpeg()));
    store.handle_idle();
    assert!(!store.is_restless());
    assert_matching(root.path());
    let paths: Vec<_> = rows(root.path()).into_iter().filter_map(|row| row.path).collect();
    assert_eq!(
        paths,
        [
            "math-7b/김-민수_19700101_00_00_10.jpg",
            "math-7b/김-민수-2_19700101_00_00_10.jpg"
        ]
    );
    assert_eq!(
        events.try_iter().map(|event| event.row).collect::<Vec<_>>(),
        rows(root.path())
    );
}

#[test]
fn rows_wait_for_a_disk_that_fails_and_are_written_when_it_works() {
    let root = tempfile::tempdir().expect("a folder");
    let (mut store, events) = store(root.path());
    // A file in the folder's place fails for root too, unlike missing rights.
    std::fs::write(root.path().join("math-7b"), b"").expect("written");
    store.handle_entry(entry(1, "민수", 10, &jpeg()));
    store.handle_entry(entry(1, "민수", 20, &jpeg()));
    assert!(store.is_restless() && events.try_iter().next().is_none());
    std::fs::remove_file(root.path().join("math-7b")).expect("removed");
    store.handle_idle();
    store.handle_entry(entry(1, "민수", 30, &jpeg()));
    let statuses: Vec<_> = rows(root.path()).iter().map(|row| row.status).collect();
    assert_eq!(
        statuses,
        [CaptureStatus::Disk, CaptureStatus::Disk, CaptureStatus::Ok]
    );
    assert_eq!(events.try_iter().count(), 3);
    assert_matching(root.path());
}

#[test]
fn a_reader_never_sees_a_partial_picture_or_a_row_without_its_picture() {
    let root = tempfile::tempdir().expect("a folder");
    let (mut store, _events) = store(root.path());
    let picture = jpeg();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            let mut last = false;
            loop {
                for entry in std::fs::read_dir(root.path().join("math-7b"))
                    .into_iter()
                    .flatten()
                {
                    let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
                    if !name.starts_with('.') && name.ends_with(".jpg") && seen.insert(name.clone()) {
                        let read = std::fs::read(root.path().join("math-7b").join(name)).expect("readable");
                        assert_eq!(read, picture);
                    }
                }
                let manifest =
                    std::fs::read_to_string(root.path().join("math-7b/captures.jsonl")).unwrap_or_default();
                for line in manifest.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                    let row: CaptureRow = serde_json::from_str(line).expect("a row");
                    assert!(root.path().join(row.path.expect("a path")).exists());
                }
                if last {
                    return seen.len();
                }
                last = done.load(Ordering::Acquire);
            }
        });
        (0..300).for_each(|tick| store.handle_entry(entry(1, "민수", tick * 10, &picture)));
        done.store(true, Ordering::Release);
        assert_eq!(reader.join().expect("the reader found nothing wrong"), 300);
    });
}

#[test]
fn pictures_and_rows_match_after_every_kill() {
    let root = tempfile::tempdir().expect("a folder");
    let mut rng = rand::rng();
    let mut before = 0;
    for _ in 0..12 {
        let mut child = child("child_writes_until_killed", root.path(), "");
        wait_until(|| rows_so_far(root.path()) > before + 2);
        std::thread::sleep(Duration::from_micros(rng.random_range(0..30_000)));
        child.kill().expect("it runs");
        child.wait().expect("it ended");
        let report = mend(root.path()).expect("a folder");
        assert_eq!(
            (report.rooms, report.rooms_not_mended, report.rows_without_picture),
            (1, 0, 0)
        );
        assert!(report.rows_completed + report.pictures_removed <= 1, "{report:?}");
        assert_matching(root.path());
        before = rows(root.path()).len();
    }
}

#[test]
fn a_full_disk_gives_disk_rows_tears_no_line_and_recovers() {
    let root = tempfile::tempdir().expect("a folder");
    // Ignored signals stay ignored over exec: writes beyond the limit then fail like those on a full disk.
    let mut child = child("child_meets_a_full_disk", root.path(), "trap '' XFSZ; ");
    assert!(child.wait().expect("it ended").success());
    let statuses: Vec<_> = rows(root.path()).iter().map(|row| row.status).collect();
    let (full, free) = statuses.split_at(30);
    assert!(
        full.iter().all(|status| *status == CaptureStatus::Disk),
        "{full:?}"
    );
    assert_eq!(free, [CaptureStatus::Ok; 5]);
    assert_matching(root.path());
}

/// Not a test of its own: the process that is killed.
#[test]
fn child_writes_until_killed() {
    let Ok(root) = std::env::var(CHILD_ROOT) else {
        return;
    };
    let (mut store, events) = store(Path::new(&root));
    let (picture, first) = (jpeg(), rows_so_far(Path::new(&root)));
    for tick in first.. {
        store.handle_entry(entry(
            1,
            "민수",
            i64::try_from(tick).expect("small") * 10,
            &picture,
        ));
        events.try_iter().for_each(drop);
    }
}

/// Not a test of its own: the process whose disk is full.
#[test]
fn child_meets_a_full_disk() {
    let Ok(root) = std::env::var(CHILD_ROOT) else {
        return;
    };
    let (mut store, events) = store(Path::new(&root));
    let limit = |bytes| {
        setrlimit(
            Resource::Fsize,
            Rlimit {
                current: bytes,
                maximum: None,
            },
        )
    };
    let picture = jpeg();
    assert!(picture.len() > 5_000);
    // Some rows fit, no picture does, and the limit lies within a row.
    limit(Some(5_000)).expect("lowering is allowed");
    (0..30).for_each(|tick| store.handle_entry(entry(1, "민수", tick * 10, &picture)));
    let written = events.try_iter().count();
    assert!((2..25).contains(&written), "{written}");
    assert_matching(Path::new(&root));
    limit(None).expect("the hard limit is untouched");
    (30..35).for_each(|tick| store.handle_entry(entry(1, "민수", tick * 10, &picture)));
    assert_eq!(events.try_iter().count(), 35 - written);
}

fn child(test: &str, root: &Path, shell: &str) -> Child {
    let program = std::env::current_exe().expect("this test");
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{shell}exec \"$0\" --exact store::tests::{test} --nocapture"
        ))
        .arg(program)
        .env(CHILD_ROOT, root)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

fn rows_so_far(root: &Path) -> usize {
    let manifest = std::fs::read(root.join("math-7b/captures.jsonl")).unwrap_or_default();
    manifest.iter().filter(|byte| **byte == b'\n').count()
}

fn wait_until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "nothing happened for 30 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}
