//! Who sends and who watches on a lossy line.

use std::collections::{BTreeMap, BTreeSet};

use seodang_rtp::{NtpTime, ReportBlock, SenderInfo};

use super::super::*;

/// A browser's picture: 30 frames a second of four packets, key frames of twelve when asked for.
pub(super) struct Sender {
    start: Instant,
    rtx: bool,
    pub(super) next_at: Instant,
    pub(super) frames: u32,
    key_wished: bool,
    next: u32,
    next_repair: u16,
    /// What was sent, and when last.
    history: BTreeMap<u16, (Vec<u8>, Instant)>,
    /// Packets, and whether it was sent before.
    pub(super) out: Vec<(Vec<u8>, bool)>,
    pub(super) reports: Vec<Vec<u8>>,
}

const FRAME: Duration = Duration::from_micros(33_333);
const PACKETS: u8 = 4;
const KEY_PACKETS: u8 = 12;
/// libwebrtc sends a packet again at most once in a round trip.
const ROUND_TRIP: Duration = Duration::from_millis(40);

impl Sender {
    pub(super) fn new(start: Instant, rtx: bool) -> Self {
        Self {
            start,
            rtx,
            next_at: start,
            frames: 0,
            key_wished: true,
            next: 65_000,
            next_repair: 0,
            history: BTreeMap::new(),
            out: Vec::new(),
            reports: Vec::new(),
        }
    }

    pub(super) fn turn(&mut self, now: Instant) {
        if now < self.next_at {
            return;
        }
        self.next_at += FRAME;
        let key = std::mem::take(&mut self.key_wished);
        let packets = if key { KEY_PACKETS } else { PACKETS };
        for place in 0..packets {
            let sequence_number = self.next as u16;
            let bytes = part_of_picture(sequence_number, self.frames, place, packets, key);
            self.history.insert(sequence_number, (bytes.clone(), now));
            self.history.remove(&sequence_number.wrapping_sub(600));
            self.next += 1;
            self.out.push((bytes, false));
        }
        if self.frames.is_multiple_of(30) {
            let mut writer = RtcpWriter::default();
            let elapsed = now - self.start;
            let info = SenderInfo {
                ntp: NtpTime((elapsed.as_millis() as u64 + 1) << 22),
                rtp: self.frames * 3_000,
                packets: self.next,
                bytes: 0,
            };
            writer.sender_report(ssrc(super::SENDER, Source::Camera), info);
            self.reports.push(writer.take());
        }
        self.frames += 1;
    }

    pub(super) fn feedback(&mut self, now: Instant, compound: &[u8]) {
        for packet in read_rtcp(compound) {
            match packet.expect("well formed") {
                Rtcp::Pli { .. } => self.key_wished = true,
                Rtcp::Nack { lost, .. } => lost.iter().for_each(|number| self.again(now, number)),
                _ => {}
            }
        }
    }

    fn again(&mut self, now: Instant, sequence_number: u16) {
        let Some((bytes, last)) = self.history.get_mut(&sequence_number) else {
            return;
        };
        if now - *last < ROUND_TRIP {
            return;
        }
        *last = now;
        let mut bytes = bytes.clone();
        if self.rtx {
            bytes[1] = bytes[1] & 0x80 | RTX;
            bytes[2..4].copy_from_slice(&self.next_repair.to_be_bytes());
            bytes[8..12].copy_from_slice(&rtx_ssrc(super::SENDER, Source::Camera).to_be_bytes());
            bytes.splice(12..12, sequence_number.to_be_bytes());
            self.next_repair = self.next_repair.wrapping_add(1);
        }
        self.out.push((bytes, true));
    }
}

/// The payload ends with frame, place, number of packets, and whether it is a key frame.
fn part_of_picture(sequence_number: u16, frame: u32, place: u8, packets: u8, key: bool) -> Vec<u8> {
    let header = RtpHeader {
        marker: place + 1 == packets,
        payload_type: VP8,
        sequence_number,
        timestamp: frame * 3_000,
        ssrc: ssrc(super::SENDER, Source::Camera),
    };
    let mut bytes = header.to_bytes().to_vec();
    let [_, _, high, low] = (frame & 0x7fff).to_be_bytes();
    bytes.extend_from_slice(&[
        0x80 | if place == 0 { 0x10 } else { 0 },
        0xc0,
        0x80 | high,
        low,
        frame as u8,
    ]);
    bytes.extend_from_slice(&[if key { 0x10 } else { 0x11 }, 2, 0, 0x9d, 1, 0x2a, 64, 0, 48, 0]);
    bytes.resize(1_000, 0);
    bytes.extend_from_slice(&frame.to_be_bytes());
    bytes.extend_from_slice(&[place, packets, u8::from(key)]);
    bytes
}

/// How somebody who watches asks for what is missing, and tells of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habit {
    /// Requests for one packet.
    most_asks: u32,
    /// Time between two of them, and how often it looks for what is missing.
    between: Duration,
    turn: Duration,
    /// It looks as soon as a gap is seen, too.
    at_once: bool,
    /// What is so many packets behind is not taken any more.
    window: u16,
    /// What came again counts as received in its reports.
    hides_loss: bool,
    /// A key frame is asked for when whole frames wait for so long for one that lacks a packet, and as long after
    /// the last time.
    patience: Duration,
    asks_again_after: Duration,
}

impl Habit {
    /// As libwebrtc does it.
    pub(super) const BROWSER: Self = Self {
        most_asks: 10,
        between: MEASURED_ROUND_TRIP,
        turn: Duration::from_millis(20),
        at_once: true,
        window: 1_000,
        hides_loss: false,
        patience: Duration::from_secs(3),
        asks_again_after: Duration::from_secs(3),
    };
    /// As str0m 0.25 does it within the load tool, which asks for key frames.
    pub(super) const STR0M: Self = Self {
        most_asks: 5,
        between: Duration::from_millis(105),
        turn: Duration::from_millis(33),
        at_once: false,
        window: 100,
        hides_loss: true,
        patience: Duration::from_millis(250),
        asks_again_after: Duration::from_millis(500),
    };
}

/// Somebody who watches.
pub(super) struct Watcher {
    number: usize,
    habit: Habit,
    pub(super) next_at: Instant,
    pub(super) out: Vec<Vec<u8>>,
    highest: Option<u16>,
    /// Packets, but for those that came as repair.
    expected: u32,
    received: u32,
    /// Times asked, and when next.
    missing: BTreeMap<u16, (u32, Instant)>,
    frames: BTreeMap<u32, Frame>,
    /// The next frame to be shown follows this one.
    shown: Option<u32>,
    shown_at: Instant,
    stuck_since: Option<Instant>,
    asked_at: Instant,
    pub(super) longest_freeze: Duration,
    pub(super) freezes: u32,
    whole: u32,
}

#[derive(Default)]
struct Frame {
    places: BTreeSet<u8>,
    packets: u8,
    key: bool,
}

/// With the mean jitter of both ways.
const MEASURED_ROUND_TRIP: Duration = Duration::from_millis(44);
/// What counts as one.
const FREEZE: Duration = Duration::from_secs(2);

impl Watcher {
    pub(super) fn new(number: usize, habit: Habit, start: Instant) -> Self {
        Self {
            number,
            habit,
            next_at: start,
            out: Vec::new(),
            highest: None,
            expected: 0,
            received: 0,
            missing: BTreeMap::new(),
            frames: BTreeMap::new(),
            shown: None,
            shown_at: start,
            stuck_since: None,
            asked_at: start,
            longest_freeze: Duration::ZERO,
            freezes: 0,
            whole: 0,
        }
    }

    /// Frames of which every packet came.
    pub(super) fn whole(&self) -> u32 {
        self.whole
    }

    pub(super) fn packet(&mut self, now: Instant, bytes: &[u8]) {
        let view = RtpView::parse(bytes).expect("a packet");
        let view = if view.header.payload_type == SLOT_RTX {
            view.repaired(slot_ssrc(self.number, 0), 120)
                .expect("a sequence number")
        } else {
            view
        };
        let number = view.header.sequence_number;
        let highest = *self.highest.get_or_insert(number);
        let ahead = number.wrapping_sub(highest);
        if ahead >= 0x8000 && ahead.wrapping_neg() > self.habit.window {
            return;
        }
        let again = bytes[1] & 0x7f == SLOT_RTX;
        let new = self.missing.remove(&number).is_some() || ahead < 0x8000 && ahead > 0;
        self.received += u32::from(if self.habit.hides_loss { new } else { !again });
        if ahead < 0x8000 {
            for between in 1..ahead {
                self.missing.insert(highest.wrapping_add(between), (0, now));
            }
            self.highest = Some(number);
            self.expected += u32::from(ahead);
            if self.habit.at_once {
                self.ask(now);
            }
        }
        let payload = view.payload;
        let tail = &payload[payload.len() - 7..];
        let frame = u32::from_be_bytes([tail[0], tail[1], tail[2], tail[3]]);
        let entry = self.frames.entry(frame).or_default();
        (entry.packets, entry.key) = (tail[5], tail[6] == 1);
        if entry.places.insert(tail[4]) && entry.places.len() == usize::from(entry.packets) {
            self.whole += 1;
            self.show(now);
        }
    }

    /// Shows what can be decoded: the frame after the last, or the newest whole key frame.
    fn show(&mut self, now: Instant) {
        let whole = |frame: &Frame| frame.places.len() == usize::from(frame.packets);
        loop {
            let next = self.shown.map(|shown| shown + 1);
            let follows = next.filter(|next| self.frames.get(next).is_some_and(whole));
            let key = || {
                let frames = self.frames.iter().rev();
                let keys = frames.filter(|(_, frame)| frame.key && whole(frame));
                keys.map(|(number, _)| *number)
                    .find(|number| Some(*number) > self.shown)
            };
            let Some(number) = follows.or_else(key) else {
                let waits = self.frames.range(self.shown.map_or(0, |shown| shown + 1)..);
                self.stuck_since = match self.stuck_since {
                    _ if !waits.into_iter().any(|(_, frame)| whole(frame)) => None,
                    since => since.or(Some(now)),
                };
                return;
            };
            self.stuck_since = None;
            if self.shown.is_some() {
                let stood_still = now - self.shown_at;
                self.longest_freeze = self.longest_freeze.max(stood_still);
                self.freezes += u32::from(stood_still > FREEZE);
            }
            self.shown = Some(number);
            self.shown_at = now;
        }
    }

    pub(super) fn turn(&mut self, now: Instant) {
        if now < self.next_at {
            return;
        }
        self.next_at = now + self.habit.turn;
        self.ask(now);
        let since = if self.habit.hides_loss {
            self.stuck_since
        } else {
            Some(self.shown_at)
        };
        if since.is_some_and(|since| now - since > self.habit.patience)
            && now - self.asked_at > self.habit.asks_again_after
        {
            self.asked_at = now;
            let mut writer = RtcpWriter::default();
            writer.pli(1, slot_ssrc(self.number, 0));
            self.out.push(writer.take());
        }
    }

    fn ask(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.missing.retain(|number, (asked, at)| {
            if *at <= now {
                due.push(*number);
                *asked += 1;
                *at = now + self.habit.between;
            }
            *asked < self.habit.most_asks
        });
        if due.is_empty() {
            return;
        }
        let mut writer = RtcpWriter::default();
        writer.nack(1, slot_ssrc(self.number, 0), due.into_iter());
        self.out.push(writer.take());
    }

    /// Answers a sender report, so that the room learns the round trip.
    pub(super) fn report(&mut self, _now: Instant, compound: &[u8]) {
        for packet in read_rtcp(compound).flatten() {
            if let Rtcp::SenderReport { ssrc, info, .. } = packet {
                let mut writer = RtcpWriter::default();
                let block = ReportBlock {
                    ssrc,
                    highest: self.expected,
                    lost: self.expected as i32 - self.received as i32,
                    last_report: (info.ntp.0 >> 16) as u32,
                    ..Default::default()
                };
                writer.receiver_report(1, &[block]);
                self.out.push(writer.take());
            }
        }
    }
}
