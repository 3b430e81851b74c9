//! A packet's way through the room, and the feedback's way back.

use std::time::Instant;

use seodang_model::{MediaKind, ParticipantId, Publication};
use seodang_rtp::{
    NackList, NtpTime, ReportBlocks, Rtcp, RtcpWriter, RtpHeader, RtpView, SenderInfo, read_rtcp,
};

use super::giving::{Way, give};
use super::history::Stored;
use super::line::{LayerId, LineId, Received};
use super::pacing::Turn;
use super::publisher::SERVER_CNAME;
use super::resend::Urgency;
use super::slot::Incoming;
use super::stats::Refusal;
use super::subscriber::Subscriber;
use super::{Output, Room};
use crate::SfuEvent;

/// Sequence numbers of one request to send again that are looked at; a browser lists far fewer.
const MAX_NACKED_PACKETS: usize = 512;

impl Room {
    /// Forwards and mirrors a packet. `packet` is decrypted, its header included; `now` is when its datagram was read.
    pub(crate) fn handle_rtp(
        &mut self,
        now: Instant,
        from: ParticipantId,
        packet: &[u8],
        out: &mut dyn Output,
    ) {
        self.counters.packets_in += 1;
        let Some(seat) = self.seats.get(&from).copied() else {
            return self.counters.refuse(Refusal::Unbound);
        };
        if let Err(refusal) = self.forward(now, seat, from, packet, out) {
            self.counters.refuse(refusal);
        }
        if self.changed {
            self.resolve(now, out);
        } else {
            self.rearm(seat);
        }
    }

    /// Takes reports of publishers and requests of subscribers. `packet` is a decrypted compound packet.
    pub(crate) fn handle_rtcp(
        &mut self,
        now: Instant,
        from: ParticipantId,
        packet: &[u8],
        out: &mut dyn Output,
    ) {
        let Some(seat) = self.seats.get(&from).copied() else {
            return;
        };
        for packet in read_rtcp(packet) {
            match packet {
                Ok(Rtcp::SenderReport { ssrc, info, reports }) => {
                    self.receiver_report(now, seat, reports);
                    self.sender_report(now, seat, ssrc, info, out);
                }
                Ok(Rtcp::ReceiverReport { reports, .. }) => self.receiver_report(now, seat, reports),
                Ok(Rtcp::Remb { bitrate_bps }) => self.estimate(now, seat, bitrate_bps),
                Ok(Rtcp::Pli { media_ssrc }) => self.wish_keyframe(now, seat, media_ssrc, out),
                Ok(Rtcp::Fir { requests }) => {
                    for ssrc in requests.ssrcs() {
                        self.wish_keyframe(now, seat, ssrc, out);
                    }
                }
                Ok(Rtcp::Nack { media_ssrc, lost }) => self.send_again(now, seat, media_ssrc, lost, out),
                // A source that says bye is silent, which is seen anyway.
                Ok(Rtcp::Bye { .. } | Rtcp::Other { .. }) => {}
                Err(_) => self.counters.rtcp_malformed += 1,
            }
        }
        if self.changed {
            self.resolve(now, out);
        }
    }

    fn forward(
        &mut self,
        now: Instant,
        seat: usize,
        from: ParticipantId,
        packet: &[u8],
        out: &mut dyn Output,
    ) -> Result<(), Refusal> {
        let view = RtpView::parse(packet).map_err(|_| Refusal::Malformed)?;
        let publisher = self.publishers[seat].as_mut().ok_or(Refusal::Unbound)?;
        publisher.note_arrival(now, &view);
        let binding = publisher.bind(&view).ok_or(Refusal::Unbound)?;
        let which = binding.line;
        if !publisher.is_active(which) {
            return Err(Refusal::Unpublished);
        }
        let line = &mut publisher.lines[which];
        let layer = binding.layer;
        let view = match binding.repairs {
            Some(ssrc) => line.repaired(&view, ssrc)?,
            None => view,
        };
        let received = line.receive(now, layer, &view, binding.repairs.is_some(), &mut self.epochs)?;
        self.counters.packets_repaired += u64::from(binding.repairs.is_some());
        self.counters.keyframes += u64::from(received.keyframe);
        let id = LineId { seat, line: which };
        self.distribute(
            now,
            LayerId { line: id, layer },
            &received,
            view.header,
            view.payload,
            out,
        );
        let publisher = self.publishers[seat].as_mut().ok_or(Refusal::Unbound)?;
        let line = &mut publisher.lines[which];
        line.mirror(now, id, &received, &view);
        if received.flowing {
            let publication = Publication {
                participant: from,
                source: line.source,
            };
            publisher.tell_state(now, out);
            out.event(SfuEvent::Flowing { publication });
        }
        Ok(())
    }

    /// Gives an accepted packet to the slots that it feeds, and to the other rooms of the lesson.
    pub(super) fn distribute(
        &mut self,
        now: Instant,
        id: LayerId,
        received: &Received,
        header: RtpHeader,
        payload: &[u8],
        out: &mut dyn Output,
    ) {
        let LayerId {
            line: LineId { seat, line: which },
            layer,
        } = id;
        let Some(publisher) = self.publishers[seat].as_ref() else {
            return;
        };
        let layered = publisher.lines[which].layers.len() > 1;
        self.changed |= received.begun || layered && (received.resumed || received.resized);
        if layered && received.resumed {
            // Who shall get the layer is found before the key frame it comes with is over.
            self.aim(now);
        }
        if self.is_spread() {
            self.relay(now, id, received, header, payload, out);
        }
        let Some(publisher) = self.publishers[seat].as_mut() else {
            return;
        };
        let line = &mut publisher.lines[which];
        let stream = line.layers[layer].stream.as_ref();
        let report = stream.and_then(|stream| stream.report);
        let incoming = Incoming {
            now,
            layer: id,
            epoch: received.epoch,
            index: received.index,
            header,
            payload,
            vp8: received.vp8,
            may_switch: received.may_switch,
            report,
        };
        // Slots lie far apart: asked one right after the other, they come out of the memory together.
        self.takers.clear();
        self.takers
            .extend(line.layers[layer].routes.iter().filter(|route| {
                let subscriber = self.subscribers[route.seat].as_ref();
                let slot = subscriber.and_then(|subscriber| subscriber.slots.get(route.slot));
                slot.is_some_and(|slot| slot.takes(&incoming))
            }));
        for route in &self.takers {
            let Some(subscriber) = self.subscribers[route.seat].as_mut() else {
                continue;
            };
            let turn = subscriber.turn(route.slot, &incoming, received.late);
            if turn != Turn::Now {
                self.changed |= turn == Turn::LaterAnew;
                self.pacing_at = Some(now);
                continue;
            }
            let way = Way {
                counters: &mut self.counters,
                writer: &mut self.writer,
                out,
            };
            self.changed |= give(now, subscriber, route.slot, &incoming, way);
        }
        if received.late || received.of_keyframe {
            self.send_twice(now, id, received, out);
        }
    }

    /// What a subscriber receives.
    fn receiver_report(&mut self, now: Instant, seat: usize, reports: ReportBlocks<'_>) {
        if let Some(subscriber) = self.subscribers[seat].as_mut() {
            self.changed |= subscriber.handle_reports(now, reports);
        }
    }

    /// What a subscriber believes that its line carries.
    fn estimate(&mut self, now: Instant, seat: usize, bitrate_bps: u64) {
        if let Some(subscriber) = self.subscribers[seat].as_mut() {
            self.changed |= subscriber.handle_estimate(now, bitrate_bps);
        }
    }

    /// A publisher's clock, for the mirror and, in the terms of each slot, for the subscribers.
    fn sender_report(
        &mut self,
        now: Instant,
        seat: usize,
        ssrc: u32,
        info: SenderInfo,
        out: &mut dyn Output,
    ) {
        let Some(publisher) = self.publishers[seat].as_mut() else {
            return;
        };
        let Some(which) = publisher
            .line_of(ssrc)
            .filter(|which| publisher.is_active(*which))
        else {
            return;
        };
        // RFC 3550 section 6.4.1: a sender without a clock says 0.
        if info.ntp == NtpTime(0) {
            return;
        }
        let line = &mut publisher.lines[which];
        let id = LineId { seat, line: which };
        let Some((layer, epoch)) = line.sender_report(now, id, ssrc, (info.ntp, info.rtp)) else {
            return;
        };
        self.distribute_report(now, LayerId { line: id, layer }, epoch, info, out);
    }

    /// Gives a sender's clock to the slots that it feeds, and to the other rooms of the lesson.
    pub(super) fn distribute_report(
        &mut self,
        now: Instant,
        id: LayerId,
        epoch: u64,
        info: SenderInfo,
        out: &mut dyn Output,
    ) {
        if self.is_spread() {
            self.relay_report(id, epoch, info);
        }
        let LayerId {
            line: LineId { seat, line },
            layer,
        } = id;
        let Some(publisher) = self.publishers[seat].as_ref() else {
            return;
        };
        let line = &publisher.lines[line];
        for route in &line.layers[layer].routes {
            let Some(subscriber) = self.subscribers[route.seat].as_mut() else {
                continue;
            };
            let Some(slot) = subscriber.slots.get_mut(route.slot) else {
                continue;
            };
            if slot.feed() == Some((id, epoch))
                && let Some(info) = slot.sender_info(info.ntp, info.rtp)
            {
                send_report(
                    &mut self.writer,
                    subscriber.participant,
                    slot.media.ssrc,
                    info,
                    out,
                );
                subscriber.round_trip.report_sent(now, info.ntp);
            }
        }
    }

    /// A subscriber cannot decode one of its slots.
    fn wish_keyframe(&mut self, now: Instant, seat: usize, slot_ssrc: u32, out: &mut dyn Output) {
        let slots = self.subscribers[seat]
            .iter()
            .flat_map(|subscriber| &subscriber.slots);
        let slot = slots.into_iter().find(|slot| slot.media.ssrc == slot_ssrc);
        let Some(LayerId { line, layer }) =
            slot.and_then(|slot| slot.target().or(slot.feed().map(|(layer, _)| layer)))
        else {
            return;
        };
        let Some(publisher) = self.publishers[line.seat].as_mut() else {
            return;
        };
        if let Some(layer) = publisher.lines[line.line].layers.get_mut(layer) {
            layer.wishes.wish();
            publisher.ask_keyframes(now, &mut self.writer, &mut self.counters, out);
            self.rearm(line.seat);
        }
    }

    /// Sends packets again that a subscriber misses, if the present feed gave them out and the budget allows it.
    fn send_again(
        &mut self,
        now: Instant,
        seat: usize,
        slot_ssrc: u32,
        lost: NackList<'_>,
        out: &mut dyn Output,
    ) {
        let Some(subscriber) = self.subscribers[seat].as_mut() else {
            return;
        };
        let Some(place) = subscriber
            .slots
            .iter()
            .position(|slot| slot.media.ssrc == slot_ssrc)
        else {
            return;
        };
        let slot = &subscriber.slots[place];
        let kind = slot.media.kind;
        if !slot.media.nack || !subscriber.ready {
            return;
        }
        let quality = subscriber.line_quality();
        let mut hopeless = false;
        for sequence_number in lost.iter().take(MAX_NACKED_PACKETS) {
            let slot = &subscriber.slots[place];
            let Some((LayerId { line, layer }, epoch, given, index)) = slot.source_index(sequence_number)
            else {
                continue;
            };
            let Some(publisher) = self.publishers[line.seat].as_ref() else {
                continue;
            };
            let layer = publisher.lines[line.line].layers.get(layer);
            let stream = layer
                .and_then(|layer| layer.stream.as_ref())
                .filter(|stream| stream.epoch == epoch);
            let Some(stream) = stream else {
                continue;
            };
            let resends = &mut subscriber.resends[place];
            let stored = stream.history.get(index);
            let copies = match stored {
                Some(stored) => resends.request(now, given, stored.at, quality),
                None => {
                    resends.request_in_vain(now, given);
                    0
                }
            };
            // A key frame that began after it has served the subscriber already.
            let served = stream.newest_keyframe.is_some_and(|begin| begin > index);
            hopeless |= !served
                && (resends.is_hopeless(now, given, quality)
                    || quality.is_very_lossy()
                        && resends.was_answered_again(given)
                        && stream.keyframe_is_old(now));
            let Some(stored) = stored else { continue };
            if copies > 0 && resends.is_first_answer(given) {
                self.changed |= subscriber.lost(now, stored.at);
            }
            for copy in 0..copies {
                let again = Again {
                    place,
                    index,
                    stored,
                    further_copy: copy > 0,
                };
                if !give_again(now, subscriber, &again, &mut self.scratch, out) {
                    self.counters.resends_refused += u64::from(copy == 0);
                    break;
                }
                self.counters.packets_resent += 1;
            }
        }
        if hopeless && kind == MediaKind::Video {
            self.wish_keyframe(now, seat, slot_ssrc, out);
        }
    }

    /// A packet came that some get twice: on a line that loses much everybody waits for what is late or of a key frame,
    /// and who asked for a late one in vain may be about to give it up.
    fn send_twice(&mut self, now: Instant, id: LayerId, received: &Received, out: &mut dyn Output) {
        let (epoch, index) = (received.epoch, received.index);
        let Some(publisher) = self.publishers[id.line.seat].as_ref() else {
            return;
        };
        let layer = &publisher.lines[id.line.line].layers[id.layer];
        let Some(stored) = layer.stream.as_ref().and_then(|stream| stream.history.get(index)) else {
            return;
        };
        for route in &layer.routes {
            let Some(subscriber) = self.subscribers[route.seat].as_mut() else {
                continue;
            };
            let Some(slot) = subscriber.slots.get(route.slot) else {
                continue;
            };
            let again = Again {
                place: route.slot,
                index,
                stored,
                further_copy: true,
            };
            if slot.media.nack
                && slot.feed() == Some((id, epoch))
                && let Some(given) = slot.again(index, stored)
                && (subscriber.line_quality().is_very_lossy()
                    || received.late && subscriber.resends[route.slot].was_asked_in_vain(given.index))
                && give_again(now, subscriber, &again, &mut self.scratch, out)
            {
                self.counters.packets_resent += 1;
            }
        }
    }
}

/// A packet of a slot's present feed that is given out again.
struct Again<'a> {
    /// Of the slot.
    place: usize,
    /// Of the source.
    index: u64,
    stored: &'a Stored,
    /// It goes out beside another copy.
    further_copy: bool,
}

/// Gives a subscriber a packet again, if its budget allows it.
fn give_again(
    now: Instant,
    subscriber: &mut Subscriber,
    again: &Again<'_>,
    scratch: &mut Vec<u8>,
    out: &mut dyn Output,
) -> bool {
    let Again {
        place,
        index,
        stored,
        further_copy,
    } = *again;
    let allowance = subscriber.allowance();
    let slot = &mut subscriber.slots[place];
    let Some(outgoing) = slot.again(index, stored) else {
        return false;
    };
    let urgency = match slot.media.kind {
        MediaKind::Audio => Urgency::Sound,
        MediaKind::Video if further_copy => Urgency::Copy,
        MediaKind::Video => Urgency::Picture,
    };
    if !subscriber.budget.admit(now, outgoing.len(), urgency, allowance) {
        return false;
    }
    let bytes = outgoing.len();
    subscriber.count_sent(now, place, bytes);
    let slot = &mut subscriber.slots[place];
    let to = subscriber.participant;
    if let Some(repair) = slot.repair(index, stored) {
        out.rtp(to, repair.index, &repair.header, repair.prefix(), repair.payload);
    } else {
        scratch.clear();
        scratch.extend_from_slice(&outgoing.header);
        scratch.extend_from_slice(outgoing.prefix());
        scratch.extend_from_slice(outgoing.payload);
        out.rtp_again(to, outgoing.index, scratch);
    }
    true
}

pub(super) fn send_report(
    writer: &mut RtcpWriter,
    to: ParticipantId,
    ssrc: u32,
    info: SenderInfo,
    out: &mut dyn Output,
) {
    writer.clear();
    writer.sender_report(ssrc, info);
    writer.cname(ssrc, SERVER_CNAME);
    out.rtcp(to, writer.as_bytes());
}
