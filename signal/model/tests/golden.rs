//! The golden messages are what the code speaks and what `docs/protocol.md` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use seodang_model::protocol::{ClientMessage, ClosingReason, ErrorCode, ServerMessage};
use serde_json::Value;

#[test]
fn every_golden_message_reads_and_writes_as_it_stands() {
    for (name, golden) in golden() {
        let written = match name.split_once('_').expect("side and type") {
            ("client", _) => {
                let message = ClientMessage::parse(&golden.to_string()).expect("a message");
                serde_json::to_value(&message).expect("json")
            }
            _ => {
                let message: ServerMessage = serde_json::from_value(golden.clone()).expect("a message");
                serde_json::to_value(&message).expect("json")
            }
        };
        assert_eq!(written, golden, "{name}");
    }
}

#[test]
fn every_message_has_a_golden_one() {
    let golden = golden();
    let of_side = |side: &str| -> BTreeSet<String> {
        golden
            .keys()
            .filter_map(|name| name.strip_prefix(side))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(
        of_side("client_"),
        ClientMessage::TYPES
            .iter()
            .map(|kind| (*kind).to_owned())
            .collect()
    );
    let kinds = [
        "welcome",
        "room_info",
        "all_users",
        "user_enter",
        "user_exit",
        "user_update",
        "answer",
        "slots",
        "layers",
        "chat",
        "chat_history",
        "recording_state",
        "reoffer",
        "ice_servers",
        "closing",
        "error",
        "pong",
    ];
    assert_eq!(
        of_side("server_"),
        kinds.iter().map(|kind| (*kind).to_owned()).collect()
    );
}

#[test]
fn the_document_shows_the_golden_messages() {
    let document = document();
    let shown: Vec<Value> = document
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().expect("the block ends"))
        .map(|block| serde_json::from_str(block).expect("json"))
        .collect();
    let golden: Vec<Value> = golden().into_values().collect();
    assert_eq!(shown.len(), golden.len());
    for message in golden {
        assert!(shown.contains(&message), "{message}");
    }
}

#[test]
fn the_document_names_every_error_code_and_every_close_code() {
    let document = document();
    for code in ErrorCode::ALL {
        let row = format!("| `{}` | {} |", code.as_str(), code.http_status());
        assert!(document.contains(&row), "{row}");
    }
    for reason in [
        ClosingReason::LessonEnded,
        ClosingReason::HostMissing,
        ClosingReason::Replaced,
        ClosingReason::ServerRestart,
        ClosingReason::TooSlow,
        ClosingReason::Misbehaved,
    ] {
        let word = serde_json::to_value(reason).expect("a word");
        let word = word.as_str().expect("a word");
        let row = document
            .lines()
            .find(|line| line.starts_with('|') && line.contains(&format!("`{word}`")));
        assert!(
            row.is_some_and(|row| row.starts_with(&format!("| {} |", reason.close_code()))),
            "{word}"
        );
    }
}

fn golden() -> BTreeMap<String, Value> {
    let folder = root().join("fixtures/data/protocol");
    fs::read_dir(folder)
        .expect("the golden messages")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path
                .file_stem()
                .and_then(|name| name.to_str())
                .expect("a name")
                .to_owned();
            (
                name,
                serde_json::from_str(&fs::read_to_string(&path).expect("a file")).expect("json"),
            )
        })
        .collect()
}

fn document() -> String {
    fs::read_to_string(root().join("docs/protocol.md")).expect("the document")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
