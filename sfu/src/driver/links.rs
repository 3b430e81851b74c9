//! Ways between workers: parcels of lessons that have a room on both ends.
//!
//! Each way has a fixed number of parcels that go round: a full one there, the empty one back. So nothing is allocated for
//! a packet once they have grown, nothing waits, and what a busy worker has not taken is bounded.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};

use mio::Waker;
use seodang_model::LessonId;

use crate::room::Parcel;

/// Parcels that go round on a way. While all of them are away a lesson's packets wait in the one that its room fills; when
/// that is full they are dropped. A worker takes its parcels every turn, so that one suffices mostly.
pub(super) const PARCELS: usize = 4;

/// The way to another worker.
struct Outbound {
    parcels: SyncSender<(LessonId, Parcel)>,
    empty: Receiver<Parcel>,
    waker: Arc<Waker>,
}

/// The way from another worker.
struct Inbound {
    parcels: Receiver<(LessonId, Parcel)>,
    empty: SyncSender<Parcel>,
}

/// A worker's ends of the ways to and from all others, by their number; its own place is empty.
#[derive(Default)]
pub(crate) struct Links {
    outbound: Vec<Option<Outbound>>,
    inbound: Vec<Option<Inbound>>,
}

impl Links {
    /// Ways between all workers; each has its waker here.
    pub(crate) fn between(wakers: &[Arc<Waker>]) -> Vec<Self> {
        let mut all: Vec<Self> = wakers.iter().map(|_| Self::default()).collect();
        for from in 0..wakers.len() {
            for (to, waker) in wakers.iter().enumerate() {
                if from == to {
                    all[from].outbound.push(None);
                    all[to].inbound.push(None);
                    continue;
                }
                let (sender, parcels) = sync_channel(PARCELS);
                let (back, empty) = sync_channel(PARCELS);
                for _ in 0..PARCELS {
                    back.try_send(Parcel::default())
                        .expect("the channel takes as many");
                }
                all[from].outbound.push(Some(Outbound {
                    parcels: sender,
                    empty,
                    waker: Arc::clone(waker),
                }));
                all[to].inbound.push(Some(Inbound { parcels, empty: back }));
            }
        }
        all
    }

    /// An empty parcel for a worker; `None` while all are away, or when that worker is gone.
    pub(super) fn empty_for(&self, worker: usize) -> Option<Parcel> {
        let outbound = self.outbound.get(worker)?.as_ref()?;
        outbound.empty.try_recv().ok()
    }

    /// Sends a parcel that [`Self::empty_for`] gave.
    pub(super) fn send(&self, worker: usize, lesson: LessonId, parcel: Parcel) {
        let Some(outbound) = self.outbound.get(worker).and_then(Option::as_ref) else {
            return;
        };
        match outbound.parcels.try_send((lesson, parcel)) {
            // A worker that cannot be woken finds the parcel at its next turn.
            Ok(()) => drop(outbound.waker.wake()),
            // There are never more parcels than places: the other worker is gone, and so is everybody on it.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Takes what came, with the worker that sent it.
    pub(super) fn receive(&self, into: &mut Vec<(usize, LessonId, Parcel)>) {
        for (worker, inbound) in self.inbound.iter().enumerate() {
            let Some(inbound) = inbound else { continue };
            for _ in 0..PARCELS {
                match inbound.parcels.try_recv() {
                    Ok((lesson, parcel)) => into.push((worker, lesson, parcel)),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
        }
    }

    /// Gives a parcel back that came from a worker.
    pub(super) fn give_back(&self, worker: usize, mut parcel: Parcel) {
        parcel.clear();
        if let Some(inbound) = self.inbound.get(worker).and_then(Option::as_ref) {
            // It has a place unless that worker is gone.
            let _ = inbound.empty.try_send(parcel);
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};

    use super::*;

    #[test]
    fn as_many_parcels_are_away_as_there_are_and_each_comes_back_empty() {
        let poll = Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let links = Links::between(&[Arc::clone(&waker), waker]);
        let lesson = LessonId::from_bits(1);
        for _ in 0..PARCELS {
            let parcel = links[0].empty_for(1).expect("not all are away");
            links[0].send(1, lesson, parcel);
        }
        assert!(links[0].empty_for(1).is_none());
        assert!(links[0].empty_for(0).is_none(), "there is no way to oneself");
        let mut came = Vec::new();
        links[1].receive(&mut came);
        assert_eq!(came.len(), PARCELS);
        let (worker, of, parcel) = came.pop().expect("parcels came");
        assert_eq!((worker, of), (0, lesson));
        links[1].give_back(worker, parcel);
        assert!(links[0].empty_for(1).is_some());
        assert!(links[0].empty_for(1).is_none());
    }
}
