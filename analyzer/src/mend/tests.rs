use super::*;
use crate::fake::{assert_matching, jpeg, row, rows};
use crate::row::CaptureRow;

/// The state a crash leaves behind, step by step as the writer goes.
struct Crash {
    root: tempfile::TempDir,
    folder: RoomFolder,
}

impl Crash {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let folder = RoomFolder::open(root.path(), &"math-7b".parse().expect("a number")).expect("a folder");
        Self { root, folder }
    }

    fn temporary(&self, tick_s: i64) -> CaptureRow {
        let picture = jpeg();
        let mut row = row(1, "민수", tick_s, &picture);
        self.folder
            .store_temporary(&temporary_name(&row), &picture)
            .expect("stored");
        row.path = Some(format!("math-7b/민수_19700101_00_00_{tick_s}.jpg"));
        row
    }

    fn intended(&self, tick_s: i64) -> CaptureRow {
        let row = self.temporary(tick_s);
        self.folder.note_intent(&row.to_line()).expect("noted");
        row
    }

    fn published(&self, tick_s: i64) -> CaptureRow {
        let row = self.intended(tick_s);
        self.folder
            .publish(&temporary_name(&row), &file_name(&row))
            .expect("published");
        row
    }

    fn appended(&self, tick_s: i64) -> CaptureRow {
        let row = self.published(tick_s);
        self.folder.append(&row.to_line()).expect("appended");
        row
    }

    fn mended(&self) -> MendReport {
        let report = mend(self.root.path()).expect("a folder");
        assert_matching(self.root.path());
        assert_eq!(
            mend(self.root.path()).expect("a folder"),
            MendReport {
                rooms: 1,
                ..MendReport::default()
            }
        );
        report
    }

    fn ticks(&self) -> Vec<i64> {
        rows(self.root.path())
            .iter()
            .map(|row| row.tick_utc.unix_timestamp())
            .collect()
    }
}

#[test]
fn a_crash_at_any_step_leaves_rows_and_pictures_one_to_one() {
    let crash = Crash::new();
    crash.appended(10);
    crash.temporary(20);
    assert_eq!(crash.mended().temporaries_removed, 1);
    assert_eq!(crash.ticks(), [10]);

    crash.intended(30);
    assert_eq!(crash.mended().rows_completed, 1);
    crash.published(40);
    assert_eq!(crash.mended().rows_completed, 1);
    crash.appended(50);
    assert_eq!(crash.mended().rows_completed, 0);
    assert_eq!(crash.ticks(), [10, 30, 40, 50]);
}

#[test]
fn a_picture_without_owner_is_removed() {
    let crash = Crash::new();
    crash.appended(10);
    crash.published(20);
    crash.folder.remove(INTENT).expect("removed");
    assert_eq!(crash.mended().pictures_removed, 1);
    assert_eq!(crash.ticks(), [10]);
}

#[test]
fn a_torn_line_is_cut_and_its_picture_gets_the_row_from_the_intent() {
    let crash = Crash::new();
    crash.appended(10);
    let row = crash.published(20);
    let line = row.to_line();
    crash.folder.append(&line[..line.len() / 2]).expect("appended");
    let report = crash.mended();
    assert_eq!((report.torn_lines, report.rows_completed), (1, 1));
    assert_eq!(crash.ticks(), [10, 20]);
}

#[test]
fn a_line_that_lacks_only_its_end_is_kept() {
    let crash = Crash::new();
    let row = crash.published(20);
    let line = row.to_line();
    crash.folder.append(&line[..line.len() - 1]).expect("appended");
    let report = crash.mended();
    assert_eq!((report.torn_lines, report.rows_completed), (1, 0));
    assert_eq!(rows(crash.root.path()), [row]);
}

#[test]
fn lines_of_other_kinds_and_foreign_files_stay() {
    let crash = Crash::new();
    crash.appended(10);
    crash
        .folder
        .append(b"{\"erased\":{\"rows\":3}}\n")
        .expect("appended");
    std::fs::write(crash.root.path().join("math-7b/notes.txt"), b"mine").expect("written");
    std::fs::write(crash.root.path().join("README"), b"mine").expect("written");
    mend(crash.root.path()).expect("a folder");
    let manifest =
        std::fs::read_to_string(crash.root.path().join("math-7b/captures.jsonl")).expect("readable");
    assert_eq!(manifest.lines().count(), 2);
    assert!(crash.root.path().join("math-7b/notes.txt").exists());
}

#[test]
fn a_lost_manifest_costs_no_picture() {
    let crash = Crash::new();
    crash.appended(10);
    crash.folder.remove(INTENT).expect("removed");
    crash.folder.remove(MANIFEST).expect("removed");
    let report = mend(crash.root.path()).expect("a folder");
    assert_eq!((report.rooms_not_mended, report.pictures_removed), (1, 0));
    assert!(
        crash
            .root
            .path()
            .join("math-7b/민수_19700101_00_00_10.jpg")
            .exists()
    );
}

#[test]
fn an_intent_that_points_elsewhere_is_ignored() {
    let crash = Crash::new();
    for path in [
        "../x.jpg",
        "other/민수_19700101_00_00_10.jpg",
        "math-7b/../math-7b/a_19700101_00_00_10.jpg",
    ] {
        let row = CaptureRow {
            path: Some(path.to_owned()),
            ..crash.temporary(10)
        };
        crash.folder.note_intent(&row.to_line()).expect("noted");
        assert_eq!(crash.mended().rows_completed, 0, "{path}");
    }
    crash.folder.note_intent(b"{\"capture_id\":").expect("noted");
    assert_eq!(crash.mended().rows_completed, 0);
}

#[test]
fn a_folder_that_does_not_exist_has_nothing_to_mend() {
    let root = tempfile::tempdir().expect("a folder");
    assert_eq!(
        mend(&root.path().join("none")).expect("nothing"),
        MendReport::default()
    );
}
