//! Key frames are given out slowly on a line that is known to be thin: sent as fast as it comes, one overflows such a line's
//! queue, takes voices with it and does not come whole either.
//!
//! What follows a key frame in its slot waits behind it. Voices never wait, nor do pictures that no key frame is in front
//! of; but they count, and a key frame gets what they leave. (When all pictures were paced Chromium took that for a full
//! line, and its estimate never rose again.)
//!
//! What waits is not copied: for each slot a cursor stands in the ring of what its source sent last (`history`), and a packet
//! gets its place in the slot's count when it is sent.

use std::time::{Duration, Instant};

use super::history::Stored;
use super::line::{LayerId, LineId};
use super::publisher::Publisher;
use super::slot::{Incoming, Slot};
use super::stream::Stream;

/// Lines that carry more swallow a key frame by themselves.
pub(super) const PACED_BELOW_BPS: u64 = 2_000_000;
/// A picture that waits longer is broken off, and goes on with a key frame. A key frame that has begun is finished: over a
/// line that needs longer for one, none would ever be whole.
pub(super) const MOST_WAIT: Duration = Duration::from_secs(2);
/// Where voices fill a line, pictures get one part in as many all the same: the most important one never pauses.
const LEAST_PART: u64 = 4;
/// Voices that are more than a line carries are not held against it for longer.
const MOST_DEBT: Duration = Duration::from_millis(200);
/// What UDP, IP and sealing add to a packet.
pub(super) const HEADERS_BYTES: usize = 44;

/// What waits for one subscriber's line.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// When the line will have carried what it was given.
    free_at: Option<Instant>,
    /// When the next picture may go even if voices fill the line.
    due_at: Option<Instant>,
    /// By place of the slot.
    slots: Vec<Waiting>,
    /// Some slot waits or is broken off.
    busy: bool,
    /// What the pictures that were granted take between key frames, in bits per second.
    granted_bps: u64,
}

/// What waits for one slot.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    cursor: Option<Cursor>,
    /// What would follow cannot be decoded before a key frame.
    broken: bool,
    /// The source's timestamp of the key frame that came last, and of the one that was given out last.
    came: Option<u32>,
    keyframe: Option<u32>,
}

/// The next packet in a source's ring.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    layer: LayerId,
    epoch: u64,
    next: u64,
    /// A feed begins with it.
    begins: bool,
}

/// A packet whose turn it is.
pub(super) struct Due<'a> {
    /// Of the slot.
    pub(super) place: usize,
    pub(super) packet: Incoming<'a>,
}

/// What becomes of a packet that came just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It comes late, behind what was given out.
    Now,
    /// It is given out from its source's ring.
    Later,
    /// As above; a feed begins with it, and no key frame is lacking any more.
    LaterAnew,
    /// It is of no use to the slot any more.
    Never,
}

impl Pacing {
    /// Begins anew, with so many slots.
    pub(super) fn reset(&mut self, slots: usize) {
        *self = Self::default();
        self.slots.resize(slots, Waiting::default());
    }

    /// These pictures were granted: they get what they take, whatever the line is believed to carry, but no more of it
    /// than that.
    pub(super) fn grant(&mut self, bps: u64) {
        self.granted_bps = bps;
    }

    /// Whether something waits, or was broken off.
    pub(super) const fn is_busy(&self) -> bool {
        self.busy
    }

    /// Counts what the line is given, whether or not it waited.
    pub(super) fn spend(&mut self, now: Instant, bytes: usize, bps: u64) {
        let free_at = self.free_at.map_or(now, |at| at.max(now)) + takes(bytes, bps);
        self.free_at = Some(free_at.min(now + MOST_DEBT));
    }

    /// When the next picture may go; `None` while none waits.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        let waits = self.slots.iter().any(|slot| slot.cursor.is_some());
        let at = self.free_at.into_iter().chain(self.due_at).min();
        waits.then(|| at.map_or(now, |at| at.max(now)))
    }

    /// Whether it is a picture's turn.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        let passed = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        passed(self.free_at) || passed(self.due_at)
    }

    /// Decides about a packet of a picture that came just now, `late` or in order.
    pub(super) fn turn(&mut self, place: usize, slot: &Slot, packet: &Incoming<'_>, late: bool) -> Turn {
        let waiting = &mut self.slots[place];
        waiting.forget_unwanted(slot);
        let feeds = slot.feed() == Some((packet.layer, packet.epoch));
        let begins = packet.may_switch && slot.target() == Some(packet.layer) && (waiting.broken || !feeds);
        if packet.begins_keyframe() {
            waiting.came = Some(packet.header.timestamp);
        }
        if !begins {
            if !feeds || waiting.broken {
                return Turn::Never;
            }
            let passes = late || waiting.came != Some(packet.header.timestamp);
            if waiting.cursor.map_or(passes, |cursor| packet.index < cursor.next) {
                return Turn::Now;
            }
        }
        if begins || waiting.cursor.is_none() {
            waiting.cursor = Some(Cursor {
                layer: packet.layer,
                epoch: packet.epoch,
                next: packet.index,
                begins,
            });
        }
        waiting.broken |= begins;
        self.busy = true;
        if begins { Turn::LaterAnew } else { Turn::Later }
    }

    /// The packet that waited longest; whether a picture was broken off on the way to it.
    pub(super) fn due<'a>(
        &mut self,
        now: Instant,
        slots: &[Slot],
        publishers: &'a [Option<Publisher>],
    ) -> (Option<Due<'a>>, bool) {
        let mut first: Option<Due<'a>> = None;
        let mut broken_off = false;
        for (place, (waiting, slot)) in self.slots.iter_mut().zip(slots).enumerate() {
            waiting.forget_unwanted(slot);
            let Some(cursor) = waiting.cursor else { continue };
            let LayerId { line, layer } = cursor.layer;
            let stream = stream(publishers, line, layer).filter(|stream| stream.epoch == cursor.epoch);
            let next = stream.and_then(|stream| Some((stream, waiting.look(now, stream, slot)?)));
            let Some((stream, (index, stored))) = next else {
                broken_off |= stream.is_some() && waiting.broken;
                waiting.cursor = None;
                continue;
            };
            if first.as_ref().is_none_or(|first| stored.at < first.packet.now) {
                let begins = waiting.cursor.is_some_and(|cursor| cursor.begins);
                first = Some(Due {
                    place,
                    packet: Incoming {
                        now: stored.at,
                        layer: cursor.layer,
                        epoch: cursor.epoch,
                        index,
                        header: stored.header,
                        payload: &stored.payload,
                        vp8: stored.vp8,
                        may_switch: begins,
                        report: stream.report,
                    },
                });
            }
        }
        self.busy = self.slots.iter().any(|slot| slot.cursor.is_some() || slot.broken);
        (first, broken_off)
    }

    /// The packet that was due went out, on a line that carries `bps`.
    pub(super) fn gave(&mut self, now: Instant, due: &Due<'_>, bps: u64) {
        let least_bps = (self.granted_bps / 4 * 5).min(bps).max(bps / LEAST_PART);
        self.due_at = Some(now + takes(due.packet.payload.len(), least_bps));
        let waiting = &mut self.slots[due.place];
        let packet = &due.packet;
        if packet.begins_keyframe() {
            waiting.keyframe = Some(packet.header.timestamp);
        }
        waiting.broken &= !packet.may_switch;
        if let Some(cursor) = &mut waiting.cursor {
            (cursor.next, cursor.begins) = (packet.index + 1, false);
        }
    }

    /// Whether a slot waits for a key frame of a layer: `None` where that does not depend on what waits here.
    pub(super) fn lacks_keyframe(&self, place: usize, layer: LayerId, epoch: Option<u64>) -> Option<bool> {
        let waiting = self.slots.get(place).filter(|waiting| waiting.broken)?;
        let comes = |cursor: Cursor| cursor.begins && (cursor.layer, Some(cursor.epoch)) == (layer, epoch);
        Some(!waiting.cursor.is_some_and(comes))
    }
}

impl Waiting {
    /// What waits for a slot that shows something else is not sent any more.
    fn forget_unwanted(&mut self, slot: &Slot) {
        let feed = slot.feed();
        let unwanted = |cursor: &Cursor| {
            if cursor.begins {
                slot.target() != Some(cursor.layer)
            } else {
                feed != Some((cursor.layer, cursor.epoch))
            }
        };
        if self.cursor.as_ref().is_some_and(unwanted) {
            self.cursor = None;
        }
        self.broken &= feed.is_some() || self.cursor.is_some();
    }

    /// The next packet there is of `stream`. Leaps to a newer key frame, and breaks off what waited too long; `None` then,
    /// and when all is sent.
    fn look<'a>(&mut self, now: Instant, stream: &'a Stream, slot: &Slot) -> Option<(u64, &'a Stored)> {
        let cursor = self.cursor.as_mut()?;
        let highest = stream.reception.highest();
        // What is missing in between comes late, and goes out when it does.
        let held = |from: u64| (from..=highest).find_map(|index| Some((index, stream.history.get(index)?)));
        let oldest = highest.saturating_sub(stream.history.capacity() as u64 - 1);
        let overtaken = cursor.next < oldest;
        let mut next = held(cursor.next.max(oldest))?;
        let finishes = !cursor.begins && self.keyframe == Some(next.1.header.timestamp) && !overtaken;
        let newer = stream.newest_keyframe.filter(|newer| *newer > cursor.next);
        if let Some(newer) = newer
            && !finishes
            && slot.target() == Some(cursor.layer)
            && let Some(stored) = stream.history.get(newer)
        {
            next = (newer, stored);
            (cursor.begins, self.broken) = (true, true);
        } else if overtaken || !finishes && !cursor.begins && now - next.1.at > MOST_WAIT {
            self.broken = true;
            return None;
        }
        cursor.next = next.0;
        Some(next)
    }
}

/// How long a line that carries `bps` takes for a packet.
fn takes(bytes: usize, bps: u64) -> Duration {
    let bits = (bytes + HEADERS_BYTES) as u64 * 8;
    Duration::from_nanos(bits * 1_000_000_000 / bps.max(1))
}

fn stream(publishers: &[Option<Publisher>], line: LineId, layer: usize) -> Option<&Stream> {
    let publisher = publishers[line.seat].as_ref()?;
    publisher.lines[line.line].layers.get(layer)?.stream.as_ref()
}
