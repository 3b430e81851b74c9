//! How many sockets one address may hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Sockets of one address. A whole school may sit behind one.
#[derive(Clone, Copy, Debug)]
pub struct PlaceLimits {
    /// At a time.
    pub sockets: usize,
    /// Of which have not joined a room.
    pub strangers: usize,
}

impl Default for PlaceLimits {
    fn default() -> Self {
        Self {
            sockets: 2_000,
            strangers: 64,
        }
    }
}

/// Counts the sockets of every address.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    limits: PlaceLimits,
    taken: Arc<Mutex<HashMap<IpAddr, Taken>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    sockets: usize,
    strangers: usize,
}

/// One socket's place; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    address: IpAddr,
    is_stranger: bool,
}

impl Places {
    pub(crate) fn new(limits: PlaceLimits) -> Self {
        Self {
            limits,
            taken: Arc::default(),
        }
    }

    /// A place for a socket that has not joined, if there is one.
    pub(crate) fn try_take(&self, address: IpAddr) -> Option<Place> {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(address).or_default();
        if taken.sockets >= self.limits.sockets || taken.strangers >= self.limits.strangers {
            return None;
        }
        taken.sockets += 1;
        taken.strangers += 1;
        Some(Place {
            places: self.clone(),
            address,
            is_stranger: true,
        })
    }
}

impl Place {
    /// Its holder has joined a room.
    pub(crate) fn joined(&mut self) {
        if std::mem::take(&mut self.is_stranger) {
            self.change(|taken| taken.strangers -= 1);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Taken)) {
        let mut all = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.address) {
            change(taken);
            if taken.sockets == 0 {
                all.remove(&self.address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let stranger = usize::from(self.is_stranger);
        self.change(|taken| {
            taken.sockets -= 1;
            taken.strangers -= stranger;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_has_few_places_for_strangers_and_more_for_those_who_joined() {
        let places = Places::new(PlaceLimits {
            sockets: 3,
            strangers: 1,
        });
        let (here, there) = (
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        );
        let mut first = places.try_take(here).expect("a place");
        assert!(places.try_take(here).is_none());
        assert!(places.try_take(there).is_some(), "each address for itself");
        first.joined();
        let mut second = places.try_take(here).expect("a place");
        second.joined();
        let third = places.try_take(here).expect("a place");
        drop(third);
        drop(first);
        drop(second);
        assert!(
            places.taken.lock().expect("not poisoned").is_empty(),
            "nothing is remembered"
        );
    }
}
