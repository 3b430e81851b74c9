//! Recordings: every frame's counter and time, every step of the tone, decoded completely by ffmpeg.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use seodang_fixtures::picture::{Counter, read_counter};
use seodang_fixtures::timeline::{FRAMES_PER_SECOND, SAMPLES_PER_SECOND, SAMPLES_PER_STEP};
use seodang_fixtures::tone::{STEPS, ToneReader};
use serde_json::Value;

use super::ebml;

/// What is in one webm file. Times are seconds from the file's zero.
#[derive(Debug)]
pub struct Recording {
    /// From the header; `None` in a file that was not finished.
    pub duration_s: Option<f64>,
    /// Whether the file has cues, so that players can seek.
    pub has_cues: bool,
    /// Codec names by track, in order.
    pub codecs: Vec<String>,
    /// Every decoded picture in order.
    pub frames: Vec<RecordedFrame>,
    /// Steps of the tone and when they begin.
    pub steps: Vec<(u32, f64)>,
    /// Participants (modulo the number of pilots) heard.
    pub heard: Vec<u8>,
    /// Seconds in which a tone was heard, and in which none was.
    pub sound_s: (f64, f64),
    /// Everything ffmpeg complained about.
    pub decode_errors: Vec<String>,
}

/// One decoded picture.
#[derive(Clone, Copy, Debug)]
pub struct RecordedFrame {
    /// When it is shown.
    pub at_s: f64,
    /// Decodable on its own.
    pub keyframe: bool,
    /// What stands in it.
    pub counter: Option<Counter>,
    /// Mean brightness, 0 to 255; a filler is below 20.
    pub mean_luma: f64,
}

/// How far picture and sound are apart; positive when the sound is late.
#[derive(Clone, Copy, Debug)]
pub struct SyncError {
    /// Middle of all steps, in seconds.
    pub median_s: f64,
    /// The worst nine of ten keep within this, in seconds.
    pub p90_s: f64,
    /// Steps judged.
    pub steps: usize,
}

impl Recording {
    /// Decodes the whole file.
    ///
    /// # Errors
    /// When the file is missing or ffmpeg cannot be run; damage inside the file is reported in the result.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let data = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let probe = probe(path)?;
        let streams = probe["streams"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (frames, mut decode_errors) = if streams.iter().any(|stream| stream["codec_type"] == "video") {
            frames(path, &probe)?
        } else {
            (Vec::new(), Vec::new())
        };
        let mut reader = ToneReader::default();
        if streams.iter().any(|stream| stream["codec_type"] == "audio") {
            decode_errors.extend(listen(path, &mut reader)?);
        }
        let seconds = |sample: u64| sample as f64 / f64::from(SAMPLES_PER_SECOND);
        Ok(Self {
            duration_s: probe["format"]["duration"]
                .as_str()
                .and_then(|text| text.parse().ok()),
            has_cues: ebml::has_cues(&data),
            codecs: streams.iter().map(|stream| text(stream, "codec_name")).collect(),
            frames,
            steps: reader
                .changes()
                .iter()
                .map(|change| (change.step, seconds(change.at_sample)))
                .collect(),
            heard: reader.participants(),
            sound_s: reader.seconds(),
            decode_errors,
        })
    }

    /// Frame numbers in order, repeats of one and the same picture left out.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self
            .frames
            .iter()
            .filter_map(|frame| frame.counter)
            .map(|counter| counter.frame)
            .collect();
        numbers.dedup();
        numbers
    }

    /// Frames of `sent` that are not in the file, from its first frame to its last.
    #[must_use]
    pub fn missing(&self, sent: &[u32]) -> Vec<u32> {
        let numbers = self.numbers();
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return sent.to_vec();
        };
        let kept: std::collections::BTreeSet<_> = numbers.iter().collect();
        sent.iter()
            .filter(|number| (first..=last).contains(number) && !kept.contains(number))
            .copied()
            .collect()
    }

    /// Places where the counter goes back: a frame came twice or out of order.
    #[must_use]
    pub fn steps_back(&self) -> usize {
        self.numbers()
            .windows(2)
            .filter(|pair| pair[1] <= pair[0])
            .count()
    }

    /// Everyone whose picture is in the file.
    #[must_use]
    pub fn shown(&self) -> Vec<u8> {
        let counters = self.frames.iter().filter_map(|frame| frame.counter);
        counters
            .map(|counter| counter.participant)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// How far picture and sound are apart; `None` without both.
    ///
    /// A step of the tone says when, modulo 3.2 s, its frame should be on screen; the nearest frame says when it is.
    #[must_use]
    pub fn sync_error(&self) -> Option<SyncError> {
        let step_s = f64::from(SAMPLES_PER_STEP) / f64::from(SAMPLES_PER_SECOND);
        let cycle_s = step_s * f64::from(STEPS);
        // The first step after silence begins in the middle of a step and says nothing.
        let mut errors: Vec<f64> = self
            .steps
            .windows(2)
            .filter_map(|pair| {
                let ((before, _), (step, at_s)) = (pair[0], pair[1]);
                if (before + 1) % STEPS != step {
                    return None;
                }
                let (frame, counter) = self.frame_near(at_s)?;
                let picture_zero_s = frame.at_s - f64::from(counter.frame) / f64::from(FRAMES_PER_SECOND);
                let sound_zero_s = at_s - f64::from(step) * step_s;
                let apart_s = (sound_zero_s - picture_zero_s).rem_euclid(cycle_s);
                Some(if apart_s > cycle_s / 2.0 {
                    apart_s - cycle_s
                } else {
                    apart_s
                })
            })
            .collect();
        errors.sort_by(f64::total_cmp);
        let median_s = *errors.get(errors.len() / 2)?;
        let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        Some(SyncError {
            median_s,
            p90_s: sizes[(sizes.len() - 1) * 9 / 10],
            steps: errors.len(),
        })
    }

    /// The readable frame shown nearest to a time, if there is one within a quarter of a second. Of repeats the first
    /// counts: a filler repeats a picture whose own time has passed.
    fn frame_near(&self, at_s: f64) -> Option<(&RecordedFrame, Counter)> {
        let mut last = None;
        let fresh = self
            .frames
            .iter()
            .filter_map(|frame| Some((frame, frame.counter?)))
            .filter(|(_, counter)| {
                let is_fresh = last != Some(*counter);
                last = Some(*counter);
                is_fresh
            });
        fresh
            .filter(|(frame, _)| (frame.at_s - at_s).abs() < 0.25)
            .min_by(|a, b| (a.0.at_s - at_s).abs().total_cmp(&(b.0.at_s - at_s).abs()))
    }
}

fn probe(path: &Path) -> anyhow::Result<Value> {
    let entries =
        "format=duration:stream=codec_name,codec_type,width,height:frame=pts_time,key_frame,width,height";
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v",
            "-show_frames",
            "-show_entries",
            entries,
            "-of",
            "json",
        ])
        .arg(path)
        .output()
        .context("ffprobe")?;
    let mut frames: Value = serde_json::from_slice(&output.stdout).context("ffprobe's answer")?;
    // Selecting the video hides the other streams.
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "format=duration:stream=codec_name,codec_type,width,height",
            "-of",
            "json",
        ])
        .arg(path)
        .output()
        .context("ffprobe")?;
    let all: Value = serde_json::from_slice(&output.stdout).context("ffprobe's answer")?;
    frames["streams"] = all["streams"].clone();
    frames["format"] = all["format"].clone();
    Ok(frames)
}

/// Every picture at 320x180, whatever its size, so that the code stays readable and the memory small.
fn frames(path: &Path, probe: &Value) -> anyhow::Result<(Vec<RecordedFrame>, Vec<String>)> {
    const WIDTH: usize = 320;
    const HEIGHT: usize = 180;
    let output = ffmpeg(
        path,
        &[
            "-map",
            "0:v:0",
            "-fps_mode",
            "passthrough",
            // The times of the file, not those of a guessed frame rate in which two pictures may coincide.
            "-enc_time_base",
            "1:1000000",
            "-vf",
            "scale=320:180:flags=area",
            "-pix_fmt",
            "gray",
            "-f",
            "rawvideo",
        ],
    )?;
    let times = probe["frames"].as_array().cloned().unwrap_or_default();
    let pictures: Vec<&[u8]> = output.0.chunks_exact(WIDTH * HEIGHT).collect();
    ensure!(
        pictures.len() == times.len(),
        "{} pictures but {} times",
        pictures.len(),
        times.len()
    );
    let frames = pictures.iter().zip(&times).map(|(picture, time)| RecordedFrame {
        at_s: time["pts_time"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or(f64::NAN),
        keyframe: time["key_frame"] == 1,
        counter: read_counter(picture, WIDTH, HEIGHT, WIDTH),
        mean_luma: picture.iter().map(|pixel| f64::from(*pixel)).sum::<f64>() / picture.len() as f64,
    });
    Ok((frames.collect(), output.1))
}

/// The sound from the file's zero on, gaps filled with silence.
fn listen(path: &Path, reader: &mut ToneReader) -> anyhow::Result<Vec<String>> {
    let output = ffmpeg(
        path,
        &[
            "-map",
            "0:a:0",
            "-af",
            "aresample=48000:async=1:min_hard_comp=0.03:first_pts=0",
            "-ac",
            "1",
            "-f",
            "s16le",
        ],
    )?;
    let samples: Vec<i16> = output
        .0
        .as_chunks()
        .0
        .iter()
        .map(|pair| i16::from_le_bytes(*pair))
        .collect();
    reader.push(&samples);
    Ok(output.1)
}

fn ffmpeg(path: &Path, arguments: &[&str]) -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(arguments)
        .arg("-")
        .output()
        .context("ffmpeg")?;
    // The raw output knows only a constant rate and complains where two pictures fall on one of its ticks; that says
    // nothing about the file.
    let errors = String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| !line.contains("non monotonically increasing dts to muxer"))
        .map(str::to_owned)
        .collect();
    Ok((output.stdout, errors))
}
