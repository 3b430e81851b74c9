//! What ffprobe and ffmpeg, who know nothing of us, say of a file.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

/// One file as ffprobe sees it.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) duration: Option<Duration>,
    pub(crate) video: Vec<Packet>,
    pub(crate) audio: Vec<Packet>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Packet {
    pub(crate) at: Duration,
    pub(crate) bytes: u64,
    pub(crate) keyframe: bool,
}

impl Probe {
    pub(crate) fn end(&self) -> Duration {
        let last = |packets: &[Packet]| packets.last().map_or(Duration::ZERO, |packet| packet.at);
        last(&self.video).max(last(&self.audio))
    }
}

pub(crate) fn probe(path: &Path) -> Probe {
    let output = run(Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_format",
            "-show_streams",
            "-show_packets",
            "-of",
            "json",
        ])
        .arg(path));
    let json: Value = serde_json::from_slice(&output.stdout).expect("ffprobe prints json");
    let streams = json["streams"].as_array().expect("streams");
    let index = |kind: &str| {
        streams
            .iter()
            .find(|stream| stream["codec_type"] == kind)
            .map(|stream| &stream["index"])
    };
    let packets = |kind: &str| {
        let stream = index(kind);
        let all = json["packets"].as_array().expect("packets");
        all.iter()
            .filter(|packet| Some(&packet["stream_index"]) == stream)
            .map(packet)
            .collect()
    };
    let duration = json["format"]["duration"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .map(Duration::from_secs_f64);
    Probe {
        duration,
        video: packets("video"),
        audio: packets("audio"),
    }
}

/// Decodes everything; any complaint is a failure.
pub(crate) fn decode(path: &Path) {
    let output = run(Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(path)
        // Without a time base of its own the null output rounds to a guessed frame rate and complains of itself.
        .args([
            "-map",
            "0",
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            "1/1000",
            "-f",
            "null",
            "-",
        ]));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.is_empty(), "{}: {complaints}", path.display());
}

/// The MD5 of every decoded picture with its time.
pub(crate) fn pictures(path: &Path) -> Vec<(Duration, String)> {
    let output = run(Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(path)
        .args([
            "-map",
            "0:v",
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            "1/1000",
            "-f",
            "framemd5",
            "-",
        ]));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<_> = line.split(',').map(str::trim).collect();
            (
                Duration::from_millis(fields[2].parse().expect("a time")),
                fields[5].to_owned(),
            )
        })
        .collect()
}

/// Mean luma of the picture shown at `at`.
pub(crate) fn luma(path: &Path, at: Duration) -> u8 {
    let output = run(Command::new("ffmpeg")
        .args(["-v", "error", "-ss", &format!("{:.3}", at.as_secs_f64()), "-i"])
        .arg(path)
        .args([
            "-frames:v",
            "1",
            "-vf",
            "scale=1:1:flags=area,format=gray",
            "-f",
            "rawvideo",
            "-",
        ]));
    output.stdout[0]
}

/// Root mean square of the sound between two times, on a scale of 1.
pub(crate) fn loudness(path: &Path, from: Duration, to: Duration) -> f64 {
    let output = run(Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a", "-af"])
        .arg(format!(
            "aresample=async=1,atrim={:.3}:{:.3}",
            from.as_secs_f64(),
            to.as_secs_f64()
        ))
        .args(["-ac", "1", "-f", "s16le", "-"]));
    let samples: Vec<f64> = output
        .stdout
        .chunks_exact(2)
        .map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0)
        .collect();
    assert!(!samples.is_empty(), "no sound from {from:?} to {to:?}");
    (samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64).sqrt()
}

/// How long the sound of a file lasts for a player that plays packet after packet and does not look at their times.
pub(crate) fn heard(path: &Path) -> Duration {
    let output = run(Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args([
            "-map",
            "0:a",
            "-fps_mode",
            "passthrough",
            "-ac",
            "1",
            "-ar",
            "8000",
            "-f",
            "s16le",
            "-",
        ]));
    Duration::from_secs_f64(output.stdout.len() as f64 / 16_000.0)
}

fn packet(packet: &Value) -> Packet {
    Packet {
        at: Duration::from_millis(packet["pts"].as_u64().expect("a time in ms")),
        bytes: packet["size"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a size"),
        keyframe: packet["flags"].as_str().expect("flags").starts_with('K'),
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("ffmpeg is installed");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
