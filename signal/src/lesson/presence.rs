//! Leaving, vanishing, and the clocks of a lesson that nobody, or no host, is in.

use std::time::Instant;

use seodang_model::ParticipantId;
use seodang_model::protocol::{ExitReason, ServerMessage};

use super::{Lesson, MediaCommand, Output, Seat, SocketId};
use crate::mirror::MirrorCommand;
use crate::store::EndReason;

impl Lesson {
    /// A socket is gone without having said why; whatever it held is kept for the grace time.
    pub(crate) fn handle_disconnect(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        socket: SocketId,
    ) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(seat) = self
            .seats
            .get_mut(&participant)
            .filter(|seat| seat.socket == Some(socket))
        else {
            return out;
        };
        seat.socket = None;
        seat.lost_at = Some(now);
        out.push(Output::Mirror(MirrorCommand::Away(participant)));
        self.announce(participant, &mut out);
        out
    }

    /// Somebody leaves.
    pub(crate) fn handle_leave(&mut self, now: Instant, participant: ParticipantId) -> Vec<Output> {
        let mut out = Vec::new();
        self.free(now, participant, ExitReason::Left, &mut out);
        out
    }

    /// The next instant at which [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let graces = self
            .seats
            .values()
            .filter_map(|seat| seat.lost_at)
            .map(|at| at + self.limits.seat_grace);
        let empty = self.empty_since.map(|at| at + self.limits.empty_end);
        let hostless = self.hostless_since.map(|at| at + self.limits.hostless_end);
        graces.chain(empty).chain(hostless).chain(self.relays_due()).min()
    }

    /// Frees the seats whose grace time is over, renews credentials, and ends a lesson that nobody holds.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        let grace = self.limits.seat_grace;
        let gone: Vec<ParticipantId> = self
            .seats
            .values()
            .filter(|seat| seat.lost_at.is_some_and(|at| at + grace <= now))
            .map(|seat| seat.record.participant)
            .collect();
        for participant in gone {
            self.free(now, participant, ExitReason::Lost, &mut out);
        }
        self.renew_relays(now, &mut out);
        if self
            .empty_since
            .is_some_and(|at| at + self.limits.empty_end <= now)
        {
            out.push(Output::End(EndReason::Empty));
        } else if self
            .hostless_since
            .is_some_and(|at| at + self.limits.hostless_end <= now)
        {
            out.push(Output::End(EndReason::HostMissing));
        }
        out
    }

    fn free(&mut self, now: Instant, participant: ParticipantId, reason: ExitReason, out: &mut Vec<Output>) {
        let Some(seat) = self.seats.remove(&participant) else {
            return;
        };
        let to: Vec<SocketId> = self.sockets().collect();
        out.push(Output::Send {
            to,
            message: Box::new(ServerMessage::UserExit { participant, reason }),
        });
        out.push(Output::Media(MediaCommand::Leave(participant)));
        if seat.mirrored {
            out.push(Output::Mirror(MirrorCommand::Left(participant)));
        }
        out.push(Output::Left(participant));
        self.tell_what_is_kept(out);
        self.watch_presence(now);
    }

    /// Starts and stops the clocks of a lesson that nobody, or no host, is in.
    pub(super) fn watch_presence(&mut self, now: Instant) {
        let empty = self.seats.is_empty();
        self.empty_since = empty.then(|| self.empty_since.unwrap_or(now));
        let hostless = !self.seats.values().any(Seat::is_host);
        self.hostless_since = hostless.then(|| self.hostless_since.unwrap_or(now));
    }
}
