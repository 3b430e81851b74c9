//! Writes compound RTCP packets.

use super::{
    APPLICATION, NACK, PAYLOAD_FEEDBACK, PLI, RECEIVER_REPORT, REMB, ReportBlock, SENDER_REPORT,
    SOURCE_DESCRIPTION, SenderInfo, TRANSPORT_FEEDBACK,
};

/// Collects RTCP packets into one compound packet.
#[derive(Clone, Debug, Default)]
pub struct RtcpWriter {
    bytes: Vec<u8>,
}

impl RtcpWriter {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was written and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was written, handed over.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// A sender report without report blocks (RFC 3550 section 6.4.1).
    pub fn sender_report(&mut self, ssrc: u32, info: SenderInfo) {
        let start = self.begin(0, SENDER_REPORT);
        self.word(ssrc);
        self.bytes.extend_from_slice(&info.ntp.0.to_be_bytes());
        self.word(info.rtp);
        self.word(info.packets);
        self.word(info.bytes);
        self.end(start);
    }

    /// A receiver report with at most 31 blocks; more are left out (RFC 3550 section 6.4.2).
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) {
        let blocks = &blocks[..blocks.len().min(31)];
        let start = self.begin(blocks.len() as u8, RECEIVER_REPORT);
        self.word(ssrc);
        for block in blocks {
            // 24 bits, clamped rather than wrapped (RFC 3550 appendix A.3).
            let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0x00ff_ffff;
            self.word(block.ssrc);
            self.word((u32::from(block.fraction_lost) << 24) | lost);
            self.word(block.highest);
            self.word(block.jitter);
            self.word(block.last_report);
            self.word(block.since_last_report);
        }
        self.end(start);
    }

    /// A source description with a canonical name of at most 255 bytes (RFC 3550 section 6.5.1).
    pub fn cname(&mut self, ssrc: u32, name: &str) {
        let name = &name.as_bytes()[..name.len().min(255)];
        let start = self.begin(1, SOURCE_DESCRIPTION);
        self.word(ssrc);
        self.bytes.extend_from_slice(&[1, name.len() as u8]);
        self.bytes.extend_from_slice(name);
        // At least one zero ends the chunk, up to a whole word.
        self.bytes.push(0);
        while !(self.bytes.len() - start).is_multiple_of(4) {
            self.bytes.push(0);
        }
        self.end(start);
    }

    /// A request for a key frame (RFC 4585 section 6.3.1).
    pub fn pli(&mut self, sender_ssrc: u32, media_ssrc: u32) {
        let start = self.begin(PLI, PAYLOAD_FEEDBACK);
        self.word(sender_ssrc);
        self.word(media_ssrc);
        self.end(start);
    }

    /// A request to send packets again, best in ascending order (RFC 4585 section 6.2.1). Nothing is written for an
    /// empty list; the list ends where the packet is full.
    pub fn nack(&mut self, sender_ssrc: u32, media_ssrc: u32, lost: impl Iterator<Item = u16>) {
        let mut lost = lost.peekable();
        if lost.peek().is_none() {
            return;
        }
        let start = self.begin(NACK, TRANSPORT_FEEDBACK);
        self.word(sender_ssrc);
        self.word(media_ssrc);
        // 250 words of 17 numbers fit a datagram many times over.
        for _ in 0..250 {
            let Some(first) = lost.next() else { break };
            let mut following = 0u32;
            while let Some(next) = lost.next_if(|next| (1..=16).contains(&next.wrapping_sub(first))) {
                following |= 1 << (next.wrapping_sub(first) - 1);
            }
            self.word((u32::from(first) << 16) | following);
        }
        self.end(start);
    }

    /// A receiver's estimate (draft-alvestrand-rmcat-remb-03 section 2.2) for at most 255 SSRCs, rounded down to 18
    /// significant bits.
    pub fn remb(&mut self, sender_ssrc: u32, bitrate_bps: u64, media_ssrcs: &[u32]) {
        let media_ssrcs = &media_ssrcs[..media_ssrcs.len().min(255)];
        let exponent = (u64::BITS - bitrate_bps.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate_bps >> exponent) as u32;
        let start = self.begin(APPLICATION, PAYLOAD_FEEDBACK);
        self.word(sender_ssrc);
        self.word(0);
        self.word(REMB);
        self.word(((media_ssrcs.len() as u32) << 24) | (exponent << 18) | mantissa);
        for ssrc in media_ssrcs {
            self.word(*ssrc);
        }
        self.end(start);
    }

    /// A transport feedback packet whose body `write` appends; padded to whole words (RFC 3550 section 6.4.1).
    pub(crate) fn feedback(
        &mut self,
        format: u8,
        sender_ssrc: u32,
        media_ssrc: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.begin(format, TRANSPORT_FEEDBACK);
        self.word(sender_ssrc);
        self.word(media_ssrc);
        write(&mut self.bytes);
        let padding = (4 - (self.bytes.len() - start) % 4) % 4;
        if padding > 0 {
            self.bytes[start] |= 0x20;
            self.bytes.resize(self.bytes.len() + padding - 1, 0);
            self.bytes.push(padding as u8);
        }
        self.end(start);
    }

    fn begin(&mut self, count: u8, packet_type: u8) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0x80 | count, packet_type, 0, 0]);
        start
    }

    fn word(&mut self, word: u32) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    /// Sets the length: 32-bit words without the first.
    fn end(&mut self, start: usize) {
        let words = ((self.bytes.len() - start) / 4 - 1) as u16;
        self.bytes[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    }
}
