//! The program as it is run: exit statuses, signals, refusals.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn seodang(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seodang"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    seodang(arguments).output().expect("the program runs")
}

/// Starts `serve` on a free port and returns it with the address it prints.
fn serve(data: &Path) -> (Child, String) {
    let data = data.to_str().expect("plain");
    let mut child = seodang(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--media-port",
        "0",
        "--data",
        data,
    ])
    .stderr(Stdio::null())
    .spawn()
    .expect("the program runs");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line
        .trim()
        .strip_prefix("Seodang: http://")
        .expect("a link")
        .trim_end_matches('/')
        .to_owned();
    (child, address)
}

fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(child.id()).expect("small")).expect("a process");
    kill_process(id, signal).expect("it runs");
}

/// The status with which the program ends within the time; `None` when it has to be killed.
fn wait(mut child: Child, most: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    while started.elapsed() < most {
        if let Some(status) = child.try_wait().expect("ours") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("ours");
    None
}

#[test]
fn a_signal_ends_the_server_in_order_and_with_success() {
    for kind in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().expect("a folder");
        let (child, address) = serve(&folder.path().join("data"));
        let mut socket = TcpStream::connect(&address).expect("it listens");
        socket
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("written");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        signal(&child, kind);

        assert!(wait(child, Duration::from_secs(10)).is_some_and(|status| status.success()));
        assert!(TcpStream::connect(&address).is_err());
    }
}

#[test]
fn a_second_signal_does_not_wait_for_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    let (child, address) = serve(&folder.path().join("data"));
    // A request whose body never comes is given two seconds.
    let mut socket = TcpStream::connect(&address).expect("it listens");
    socket
        .write_all(b"POST /api/v1/rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        .expect("written");
    let mut probe = TcpStream::connect(&address).expect("it listens");
    probe
        .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("written");
    probe
        .read_to_end(&mut Vec::new())
        .expect("answered, so the request before it has arrived");

    signal(&child, Signal::TERM);
    let refused = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(
            refused.elapsed() < Duration::from_secs(5),
            "the first signal is taken"
        );
    }
    signal(&child, Signal::TERM);

    let status = wait(child, Duration::from_secs(1)).expect("ends at once");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn what_the_program_writes_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (child, _) = serve(&data);
    signal(&child, Signal::TERM);
    assert!(wait(child, Duration::from_secs(10)).is_some_and(|status| status.success()));
    for entry in std::fs::read_dir(&data).expect("made") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (child, _) = serve(&data);
    let second = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        data.to_str().expect("plain"),
    ]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another seodang uses the data folder"));
    signal(&child, Signal::TERM);
    assert!(wait(child, Duration::from_secs(10)).is_some_and(|status| status.success()));
}

#[test]
fn a_demo_keeps_its_own_data_and_leaves_the_schools_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = |more: &[&str]| {
        let flags = [
            "demo",
            "--listen",
            "127.0.0.1:0",
            "--media-port",
            "0",
            "--participants",
            "1",
            "--for",
            "1s",
        ];
        let output = seodang(&[&flags, more].concat())
            .current_dir(folder.path())
            .env("SEODANG_DATA", "school")
            .output()
            .expect("the program runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let there = |name: &str| folder.path().join(name).join("seodang.db").exists();
    demo(&[]);
    assert!(
        there("data-demo") && !folder.path().join("school").exists() && !folder.path().join("data").exists()
    );
    demo(&["--data", "elsewhere"]);
    assert!(there("elsewhere"));
}

#[test]
fn wrong_commands_flags_and_settings_end_with_a_sentence_and_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let data = data.to_str().expect("plain");
    for (arguments, status, said) in [
        (&["dance"][..], 2, "unrecognized subcommand"),
        (&["serve", "--dance"], 2, "unexpected argument"),
        (
            &["serve", "--listen", "0.0.0.0:0", "--data", data],
            1,
            "plain HTTP",
        ),
        (
            &["serve", "--workers", "65", "--data", data],
            1,
            "workers lies outside 0 to 64",
        ),
        (
            &["serve", "--lan", "--listen", "127.0.0.1:0", "--data", data],
            1,
            "listen names this machine alone",
        ),
        (&["serve", "--config", "/nowhere.toml"], 1, "cannot be read"),
        (
            &["serve", "--log", "a=b=c", "--data", data],
            1,
            "log is no filter",
        ),
    ] {
        let output = run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    let misspelt = seodang(&["serve", "--data", data])
        .env("SEODANG_WORKER", "1")
        .output()
        .expect("runs");
    assert_eq!(misspelt.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&misspelt.stderr).contains("SEODANG_WORKER is not known"));
    assert!(!Path::new(data).exists(), "nothing was made");
}

#[test]
fn help_is_there_for_every_command() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["doctor", "--help"]] {
        let output = run(arguments);
        assert!(output.status.success());
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("Usage: seodang"),
            "{arguments:?}"
        );
    }
}
