//! What both ends agreed to prove themselves with, over the ICE restarts of a connection (RFC 8445 section 9).

use super::Credentials;

/// The names and the password of one offer and its answer.
pub(crate) struct Exchange {
    /// Ours.
    pub(crate) local: Credentials,
    /// The other end's fragment.
    pub(crate) remote_ufrag: String,
}

impl Exchange {
    fn with(remote_ufrag: String) -> Self {
        Self {
            local: Credentials::random(),
            remote_ufrag,
        }
    }
}

/// The exchange of the newest offer, and the one in use until a path of the newest is nominated.
pub(crate) struct Agreed {
    newest: Exchange,
    earlier: Option<Exchange>,
}

impl Agreed {
    /// The first exchange of a connection.
    pub(crate) fn new(remote_ufrag: String) -> Self {
        Self {
            newest: Exchange::with(remote_ufrag),
            earlier: None,
        }
    }

    /// What the answer tells.
    pub(crate) const fn newest(&self) -> &Exchange {
        &self.newest
    }

    /// The exchange in which we have this fragment.
    pub(crate) fn of(&self, local_ufrag: &str) -> Option<&Exchange> {
        let mut both = std::iter::once(&self.newest).chain(&self.earlier);
        both.find(|exchange| exchange.local.ufrag == local_ufrag)
    }

    /// Takes an offer of the connection. Another fragment than before restarts ICE; the result is then a fragment of
    /// ours that is good no more.
    pub(crate) fn offered(&mut self, remote_ufrag: &str) -> Option<String> {
        if self.newest.remote_ufrag == remote_ufrag {
            return None;
        }
        let replaced = std::mem::replace(&mut self.newest, Exchange::with(remote_ufrag.to_owned()));
        if self.earlier.is_some() {
            // Never came to be used: the path in use is that of before.
            return Some(replaced.local.ufrag);
        }
        self.earlier = Some(replaced);
        None
    }

    /// A path was nominated with this fragment of ours; the result is one that is good no more.
    pub(crate) fn nominated(&mut self, local_ufrag: &str) -> Option<String> {
        if self.newest.local.ufrag != local_ufrag {
            return None;
        }
        self.earlier.take().map(|exchange| exchange.local.ufrag)
    }

    /// Whether a restart waits for its path.
    pub(crate) const fn is_restarting(&self) -> bool {
        self.earlier.is_some()
    }

    /// Our fragments that are good.
    pub(crate) fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        let both = std::iter::once(&self.newest).chain(&self.earlier);
        both.map(|exchange| exchange.local.ufrag.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_exchanges_are_good_until_the_newest_has_a_path() {
        let mut agreed = Agreed::new("one".to_owned());
        let first = agreed.newest().local.ufrag.clone();
        assert_eq!(agreed.offered("two"), None);
        let second = agreed.newest().local.ufrag.clone();
        assert_ne!(first, second);
        assert_eq!(
            agreed.of(&first).map(|exchange| exchange.remote_ufrag.as_str()),
            Some("one")
        );
        assert_eq!(
            agreed.of(&second).map(|exchange| exchange.remote_ufrag.as_str()),
            Some("two")
        );
        assert!(agreed.is_restarting());

        assert_eq!(agreed.nominated(&first), None, "the old path is nominated again");
        assert_eq!(agreed.nominated(&second), Some(first.clone()));
        assert!(agreed.of(&first).is_none() && !agreed.is_restarting());
        assert_eq!(agreed.local_ufrags().collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn the_path_in_use_outlives_restarts_that_came_to_nothing() {
        let mut agreed = Agreed::new("one".to_owned());
        let first = agreed.newest().local.ufrag.clone();
        agreed.offered("two");
        let second = agreed.newest().local.ufrag.clone();
        assert_eq!(agreed.offered("three"), Some(second.clone()));
        assert!(agreed.of(&first).is_some() && agreed.of(&second).is_none());
        assert_eq!(agreed.local_ufrags().count(), 2);
    }

    #[test]
    fn the_same_offer_again_restarts_nothing() {
        let mut agreed = Agreed::new("one".to_owned());
        let first = agreed.newest().local.ufrag.clone();
        assert_eq!(agreed.offered("one"), None);
        assert!(!agreed.is_restarting() && agreed.newest().local.ufrag == first);
    }
}
