//! A packet's last step: into a slot's count and out, at once or when a thin line has its turn for it.

use std::time::Instant;

use seodang_rtp::RtcpWriter;

use super::forward::send_report;
use super::slot::Incoming;
use super::stats::Counters;
use super::subscriber::Subscriber;
use super::{Output, Room};

impl Room {
    /// Gives out what waited for a thin line and has its turn.
    pub(super) fn give_waiting(&mut self, now: Instant, out: &mut dyn Output) {
        self.pacing_at = None;
        for subscriber in self.subscribers.iter_mut().flatten() {
            while subscriber.pacing.is_busy() && subscriber.pacing.is_free(now) {
                let (due, broken_off) = subscriber.pacing.due(now, &subscriber.slots, &self.publishers);
                // A key frame is asked for.
                self.changed |= broken_off;
                let (Some(due), Some(bps)) = (due, subscriber.paced_bps()) else {
                    break;
                };
                if due.packet.may_switch {
                    subscriber.slots[due.place].break_off();
                }
                let way = Way {
                    counters: &mut self.counters,
                    writer: &mut self.writer,
                    out,
                };
                self.changed |= give(now, subscriber, due.place, &due.packet, way);
                subscriber.pacing.gave(now, &due, bps);
            }
            let next = subscriber.pacing.next_at(now);
            self.pacing_at = [self.pacing_at, next].into_iter().flatten().min();
        }
    }
}

/// Where what is given out goes.
pub(super) struct Way<'a> {
    pub(super) counters: &'a mut Counters,
    pub(super) writer: &'a mut RtcpWriter,
    pub(super) out: &'a mut dyn Output,
}

/// Gives a packet to a slot; whether a feed begins with it.
pub(super) fn give(
    now: Instant,
    subscriber: &mut Subscriber,
    place: usize,
    packet: &Incoming<'_>,
    way: Way<'_>,
) -> bool {
    let slot = &mut subscriber.slots[place];
    let Some(outgoing) = slot.offer(packet) else {
        return false;
    };
    let to = subscriber.participant;
    way.out.rtp(
        to,
        outgoing.index,
        &outgoing.header,
        outgoing.prefix(),
        outgoing.payload,
    );
    way.counters.packets_forwarded += 1;
    let (bytes, switched) = (outgoing.len(), outgoing.switched);
    if switched {
        way.counters.switches += 1;
        if let Some((ntp, rtp)) = packet.report
            && let Some(info) = slot.sender_info(ntp, rtp)
        {
            send_report(way.writer, to, slot.media.ssrc, info, way.out);
            subscriber.round_trip.report_sent(now, ntp);
        }
    }
    subscriber.gave(now, place, bytes);
    switched
}
