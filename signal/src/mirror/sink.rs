//! The bounded queue between a media worker and the assembler thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use seodang_model::{MediaKind, Publication};
use seodang_rtp::{NtpTime, RtpPacket, Vp8Descriptor, begins_keyframe};
use seodang_sfu::TrackSink;

/// Packets that may wait for the assembler: about one second of thirty people at 1.2 Mbit/s, 10 MB at the most.
/// When it is full, video is dropped whole up to the next key frame and sound packet by packet, both counted.
const QUEUE_PACKETS: usize = 8_192;

/// What reaches the assembler thread from a media worker.
#[derive(Debug)]
pub(super) struct Mirrored {
    pub(super) publication: Publication,
    /// Which attachment it came through: what was sent before a detach is not taken for what follows an attach.
    pub(super) attachment: u64,
    /// When the datagram was read from the socket.
    pub(super) arrival: Instant,
    pub(super) content: Content,
}

/// A packet, or the sender's clock.
#[derive(Debug)]
pub(super) enum Content {
    Packet(RtpPacket),
    Clock { ntp: NtpTime, rtp: u32 },
}

/// What was dropped because the assembler did not keep up.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// Video packets.
    video_packets: AtomicU64,
    /// Sound packets.
    audio_packets: AtomicU64,
    /// Frames that found their recording not open for too long.
    unopened_frames: AtomicU64,
}

impl Overload {
    /// Video and sound packets, and frames whose recording could not be opened, dropped since the start.
    pub(crate) fn dropped(&self) -> [u64; 3] {
        [&self.video_packets, &self.audio_packets, &self.unopened_frames]
            .map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn add_unopened(&self, frames: u64) {
        self.unopened_frames.fetch_add(frames, Ordering::Relaxed);
    }
}

/// Makes sinks that all lead to one assembler thread.
#[derive(Clone, Debug)]
pub(super) struct SinkSource {
    queue: SyncSender<Mirrored>,
    overload: Arc<Overload>,
}

impl SinkSource {
    pub(super) fn new() -> (Self, Receiver<Mirrored>, Arc<Overload>) {
        let (queue, receiver) = sync_channel(QUEUE_PACKETS);
        let overload = Arc::new(Overload::default());
        (
            Self {
                queue,
                overload: Arc::clone(&overload),
            },
            receiver,
            overload,
        )
    }

    /// A sink for one attachment of a publication.
    pub(super) fn sink(&self, publication: Publication, attachment: u64) -> QueueSink {
        QueueSink {
            publication,
            attachment,
            skipping: false,
            queue: self.queue.clone(),
            overload: Arc::clone(&self.overload),
        }
    }
}

/// The SFU's end of the queue; never waits.
#[derive(Debug)]
pub(super) struct QueueSink {
    publication: Publication,
    attachment: u64,
    /// A video packet was dropped: nothing before the next key frame is worth sending.
    skipping: bool,
    queue: SyncSender<Mirrored>,
    overload: Arc<Overload>,
}

impl QueueSink {
    fn push(&self, content: Content, arrival: Instant) -> bool {
        let item = Mirrored {
            publication: self.publication,
            attachment: self.attachment,
            arrival,
            content,
        };
        match self.queue.try_send(item) {
            Ok(()) => true,
            // The assembler has ended: the same as a full queue for the little that may still come.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

impl TrackSink for QueueSink {
    fn write(&mut self, packet: &RtpPacket, arrival: Instant) {
        match self.publication.source.kind() {
            MediaKind::Video => {
                if self.skipping && !is_keyframe_start(&packet.payload) {
                    self.overload.video_packets.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                self.skipping = !self.push(Content::Packet(packet.clone()), arrival);
                if self.skipping {
                    self.overload.video_packets.fetch_add(1, Ordering::Relaxed);
                }
            }
            MediaKind::Audio => {
                if !self.push(Content::Packet(packet.clone()), arrival) {
                    self.overload.audio_packets.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn clock(&mut self, ntp: NtpTime, rtp: u32, arrival: Instant) {
        // A lost report costs nothing: the next one comes within seconds.
        let _ = self.push(Content::Clock { ntp, rtp }, arrival);
    }
}

fn is_keyframe_start(payload: &[u8]) -> bool {
    Vp8Descriptor::parse(payload).is_ok_and(|descriptor| begins_keyframe(payload, &descriptor))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use seodang_model::{ParticipantId, Source};

    use super::*;

    #[test]
    fn overload_drops_whole_video_up_to_the_next_key_frame() {
        let (source, receiver, overload) = SinkSource::new();
        let mut sink = source.sink(publication(Source::Camera), 1);
        let now = Instant::now();
        for number in 0..QUEUE_PACKETS + 3 {
            sink.write(&video(number as u16, false), now);
        }
        assert_eq!(overload.video_packets.load(Ordering::Relaxed), 3);
        // There is room again, yet what follows the gap is of no use before a key frame.
        for _ in 0..10 {
            receiver.recv().expect("a packet");
        }
        sink.write(&video(9_000, false), now);
        sink.write(&video(9_001, true), now);
        sink.write(&video(9_002, false), now);
        assert_eq!(overload.video_packets.load(Ordering::Relaxed), 4);
        let numbers: Vec<u16> = receiver.try_iter().filter_map(|item| number_of(&item)).collect();
        assert_eq!(numbers.len(), QUEUE_PACKETS - 10 + 2);
        assert!(numbers.ends_with(&[9_001, 9_002]));
    }

    #[test]
    fn overload_drops_sound_packet_by_packet() {
        let (source, receiver, overload) = SinkSource::new();
        let mut sink = source.sink(publication(Source::Microphone), 1);
        let now = Instant::now();
        for number in 0..=QUEUE_PACKETS {
            sink.write(&video(number as u16, false), now);
        }
        receiver.recv().expect("a packet");
        sink.write(&video(9_000, false), now);
        assert_eq!(overload.audio_packets.load(Ordering::Relaxed), 1);
        assert_eq!(
            receiver.try_iter().filter_map(|item| number_of(&item)).last(),
            Some(9_000)
        );
    }

    fn publication(source: Source) -> Publication {
        Publication {
            participant: ParticipantId::from_bits(7),
            source,
        }
    }

    fn video(sequence_number: u16, keyframe: bool) -> RtpPacket {
        // RFC 7741: a descriptor with S set, then a frame tag whose lowest bit is clear for a key frame.
        let payload = Bytes::from(vec![
            0x10,
            u8::from(!keyframe),
            0,
            0,
            0x9d,
            0x01,
            0x2a,
            64,
            0,
            64,
            0,
        ]);
        RtpPacket {
            marker: true,
            payload_type: 96,
            sequence_number,
            timestamp: 0,
            ssrc: 1,
            payload,
        }
    }

    fn number_of(item: &Mirrored) -> Option<u16> {
        match &item.content {
            Content::Packet(packet) => Some(packet.sequence_number),
            Content::Clock { .. } => None,
        }
    }
}
