//! Credentials for relays: renewed in time, so that whoever has to find another path has good ones.

use std::time::Instant;

use super::{Lesson, Output};

impl Lesson {
    /// When somebody who is there is due for another credential.
    pub(super) fn relays_due(&self) -> impl Iterator<Item = Instant> {
        let present = self.seats.values().filter(|seat| seat.socket.is_some());
        present.filter_map(|seat| seat.relays_due)
    }

    /// Renews those that are due. Whoever is away gets theirs on coming back.
    pub(super) fn renew_relays(&mut self, now: Instant, out: &mut Vec<Output>) {
        let next = self.limits.relay_renewal.map(|after| now + after);
        for (participant, seat) in &mut self.seats {
            if let Some(socket) = seat.socket
                && seat.relays_due.is_some_and(|due| due <= now)
            {
                seat.relays_due = next;
                out.push(Output::RenewRelays {
                    participant: *participant,
                    socket,
                });
            }
        }
    }
}
