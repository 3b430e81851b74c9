//! What a connection sends: a camera in one or several encodings, and a microphone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use str0m::Rtc;
use str0m::change::SdpApi;
use str0m::media::{Direction, MediaKind, Mid, Rid, Simulcast, SimulcastLayer};
use str0m::rtp::{ExtensionValues, RtpWrite, SeqNo};

use crate::clip::{Camera, Clip, Microphone};

/// A camera and a microphone.
#[derive(Clone, Debug)]
pub(crate) struct Sends {
    /// The number in the records.
    pub(crate) source: u16,
    /// One encoding, or those of simulcast, the smallest first.
    pub(crate) clips: Vec<Arc<Clip>>,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Sending {
    source: u16,
    since: Option<Instant>,
    pub(super) camera_mid: Mid,
    cameras: Vec<Encoding>,
    pub(super) microphone_mid: Mid,
    microphone: Microphone,
    microphone_sequence: u64,
}

#[derive(Debug)]
struct Encoding {
    rid: Option<Rid>,
    camera: Camera,
    /// Switched off by the server when nobody needs it.
    on: bool,
    sequence: u64,
}

impl Sending {
    /// Adds the lines it sends on to an offer.
    pub(super) fn offer(sends: &Sends, change: &mut SdpApi<'_>) -> Self {
        let rids = &RIDS[RIDS.len().saturating_sub(sends.clips.len())..];
        let simulcast = (sends.clips.len() > 1).then(|| Simulcast {
            send: rids.iter().map(|rid| SimulcastLayer::new(rid)).collect(),
            recv: Vec::new(),
        });
        let cameras = sends
            .clips
            .iter()
            .enumerate()
            .map(|(layer, clip)| Encoding {
                rid: simulcast.is_some().then(|| Rid::from(rids[layer])),
                camera: Camera::new(Arc::clone(clip), sends.source, layer as u8),
                on: true,
                sequence: 1,
            })
            .collect();
        Self {
            source: sends.source,
            since: None,
            camera_mid: change.add_media(MediaKind::Video, Direction::SendOnly, None, None, simulcast),
            cameras,
            microphone_mid: change.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None),
            microphone: Microphone::new(sends.source),
            microphone_sequence: 1,
        }
    }

    /// Sends the encodings with these names and no others.
    pub(super) fn choose_layers(&mut self, rids: &[String]) {
        for encoding in &mut self.cameras {
            let on = encoding
                .rid
                .is_none_or(|rid| rids.iter().any(|name| **name == *rid));
            if on && !encoding.on {
                encoding.camera.wish_key_frame();
            }
            encoding.on = on;
        }
    }

    /// The next picture of this encoding is a key frame.
    pub(super) fn wish_key_frame(&mut self, rid: Option<Rid>) {
        for encoding in self.cameras.iter_mut().filter(|encoding| encoding.rid == rid) {
            encoding.camera.wish_key_frame();
        }
    }

    /// When something is to be sent; `None` before [`Self::write_due`] was called for the first time.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let since = self.since?;
        let cameras = self.cameras.iter().map(|encoding| encoding.camera.next_at());
        Some(since + cameras.min()?.min(self.microphone.next_at()))
    }

    /// Hands what is due to the stack; `epoch` is time 0 of the records.
    pub(super) fn write_due(&mut self, rtc: &mut Rtc, now: Instant, epoch: Instant) -> anyhow::Result<()> {
        let since = match self.since {
            Some(since) => since,
            None => self.begin(rtc, now, epoch)?,
        };
        for encoding in &mut self.cameras {
            while since + encoding.camera.next_at() <= now {
                let at = encoding.camera.next_at();
                if !encoding.on {
                    encoding.camera.skip();
                    continue;
                }
                let packets = encoding.camera.next(epoch);
                let last = packets.len() - 1;
                let media = rtc.media(self.camera_mid).context("a camera line")?;
                let pt = *media.remote_pts().first().context("VP8")?;
                let mut api = rtc.direct_api();
                let stream = api
                    .stream_tx_by_mid(self.camera_mid, encoding.rid)
                    .context("a camera stream")?;
                for (index, payload) in packets.into_iter().enumerate() {
                    let sequence: SeqNo = encoding.sequence.into();
                    encoding.sequence += 1;
                    let time = (at.as_secs_f64() * 90_000.0) as u32;
                    let mut write = RtpWrite::new(pt, sequence, time, now, payload)
                        .marker(index == last)
                        .nackable(true);
                    if encoding.rid.is_some() {
                        write = write.ext_vals(ExtensionValues {
                            rid: encoding.rid,
                            ..Default::default()
                        });
                    }
                    stream.write_rtp(write);
                }
            }
        }
        while since + self.microphone.next_at() <= now {
            let at = self.microphone.next_at();
            let payload = self.microphone.next(epoch);
            let media = rtc.media(self.microphone_mid).context("a microphone line")?;
            let pt = *media.remote_pts().first().context("Opus")?;
            let mut api = rtc.direct_api();
            let stream = api
                .stream_tx_by_mid(self.microphone_mid, None)
                .context("a microphone stream")?;
            let sequence: SeqNo = self.microphone_sequence.into();
            self.microphone_sequence += 1;
            let time = (at.as_secs_f64() * 48_000.0) as u32;
            let spoken = ExtensionValues {
                audio_level: Some(-30),
                voice_activity: Some(true),
                ..Default::default()
            };
            stream.write_rtp(
                RtpWrite::new(pt, sequence, time, now, payload)
                    .nackable(true)
                    .ext_vals(spoken),
            );
        }
        Ok(())
    }

    /// The first picture's time. Sources are shifted against each other by the golden ratio, so that few send at the same time.
    fn begin(&mut self, rtc: &mut Rtc, now: Instant, epoch: Instant) -> anyhow::Result<Instant> {
        for encoding in &self.cameras {
            let mut api = rtc.direct_api();
            let stream = api
                .stream_tx_by_mid(self.camera_mid, encoding.rid)
                .context("a camera stream")?;
            stream.set_rtx_cache(RESENDABLE_PACKETS, RESENDABLE_FOR, None);
        }
        let shift = Duration::from_millis(40).mul_f64(f64::from(self.source) * 0.618_034 % 1.0);
        let frames = now.duration_since(epoch).as_millis() as u64 / 40 + 1;
        Ok(*self
            .since
            .insert(epoch + Duration::from_millis(40 * frames) + shift))
    }
}

/// What a sender keeps for sending again: str0m by itself stops at 15 % of what it sends.
const RESENDABLE_PACKETS: usize = 1_024;
/// So long, as browsers do.
const RESENDABLE_FOR: Duration = Duration::from_secs(1);
/// Names of simulcast layers, the smallest first.
const RIDS: [&str; 3] = ["q", "h", "f"];
