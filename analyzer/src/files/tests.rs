use std::os::unix::fs::{PermissionsExt as _, symlink};

use seodang_model::DisplayName;

use super::*;

fn room() -> RoomNumber {
    "math-7b".parse().expect("a number")
}

fn opened(root: &Path) -> RoomFolder {
    RoomFolder::open(root, &room()).expect("a folder")
}

fn name(text: &str) -> StorageName {
    StorageName::for_display(&DisplayName::parse(text).expect("a name"))
}

#[test]
fn folder_and_files_are_for_their_group_only() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = opened(root.path());
    folder.store_temporary(".tmp-1.jpg", b"picture").expect("stored");
    let mode = |path: &str| {
        std::fs::metadata(root.path().join(path))
            .expect("there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("math-7b"), 0o750);
    assert_eq!(mode("math-7b/captures.jsonl"), 0o640);
    assert_eq!(mode("math-7b/.tmp-1.jpg"), 0o640);
}

#[test]
fn a_name_that_is_taken_is_never_replaced() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = opened(root.path());
    let tick = OffsetDateTime::UNIX_EPOCH;
    let mut names = Vec::new();
    for content in [b"first", b"other", b"third"] {
        let path = folder
            .free_path(&room(), &name("민수"), tick)
            .expect("a free name");
        folder.store_temporary(".tmp-1.jpg", content).expect("stored");
        folder
            .publish(".tmp-1.jpg", &path.file_name())
            .expect("published");
        names.push(path.file_name());
    }
    assert_eq!(
        names,
        [
            "민수_19700101_00_00_00.jpg",
            "민수-2_19700101_00_00_00.jpg",
            "민수-3_19700101_00_00_00.jpg"
        ]
    );
    folder.store_temporary(".tmp-1.jpg", b"late").expect("stored");
    let error = folder
        .publish(".tmp-1.jpg", &names[0])
        .expect_err("the name is taken");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(
        folder.read(&names[0]).expect("readable").as_deref(),
        Some(b"first".as_slice())
    );
}

#[test]
fn links_are_not_followed() {
    let root = tempfile::tempdir().expect("a folder");
    let outside = tempfile::tempdir().expect("a folder");
    symlink(outside.path(), root.path().join("math-7b")).expect("a link");
    assert!(RoomFolder::open(root.path(), &room()).is_err());
    std::fs::remove_file(root.path().join("math-7b")).expect("removed");

    let folder = opened(root.path());
    std::fs::remove_file(root.path().join("math-7b/captures.jsonl")).expect("removed");
    symlink(
        outside.path().join("stolen"),
        root.path().join("math-7b/captures.jsonl"),
    )
    .expect("a link");
    assert!(folder.append(b"{}\n").is_err());
    symlink(
        outside.path().join("stolen"),
        root.path().join("math-7b/.tmp-1.jpg"),
    )
    .expect("a link");
    assert!(folder.store_temporary(".tmp-1.jpg", b"face").is_err());
    assert_eq!(std::fs::read_dir(outside.path()).expect("readable").count(), 0);
}
