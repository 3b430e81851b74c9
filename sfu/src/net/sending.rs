//! What is sent with which call: many messages at once, cut by the kernel (GSO), and less where it refuses.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::outgoing::{Message, Outgoing, Packet};
use super::syscalls::Batch;

/// An address whose messages the kernel would not cut gets its packets one by one for this long: its way may change.
const APART: Duration = Duration::from_secs(60);
/// Addresses that are remembered for it; those beyond cost a refused call each time.
const MOST_APART: usize = 1_024;

/// How a socket's kernel sends, as far as it is known.
///
/// A refusal to cut is a matter of the way to one address (a narrow path, an interface without checksums), so it is
/// remembered of that address alone. A kernel that never cuts refuses each address once in [`APART`].
#[derive(Debug)]
pub(super) struct Sending {
    is_ipv6: bool,
    /// The kernel takes many messages with one call.
    pub(super) many: bool,
    /// The kernel cuts messages into datagrams.
    segments: bool,
    /// Until when an address gets its packets one by one.
    apart: HashMap<SocketAddr, Instant>,
}

/// What became of what was to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Datagrams handed to the kernel.
    pub(crate) datagrams: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Messages they were in.
    pub(crate) messages: u64,
    /// Calls it took.
    pub(crate) calls: u64,
    /// Datagrams dropped because the send queue was full.
    pub(crate) queue_full: u64,
    /// Datagrams the system could not send: no way there.
    pub(crate) unreachable: u64,
}

impl Sending {
    /// Of a socket of IPv6 or not, whose kernel knows how to cut or does not.
    pub(super) fn new(is_ipv6: bool, segments: bool) -> Self {
        Self {
            is_ipv6,
            many: true,
            segments,
            apart: HashMap::new(),
        }
    }

    /// Sends everything that waits in `outgoing`, and empties it. What finds the send queue full is dropped: a packet that
    /// waited would be late, and what it would wait for is the one way out of everybody.
    ///
    /// `call` hands a batch to the kernel, with one call for many messages or for the first alone, and says how many went.
    pub(super) fn send(
        &mut self,
        now: Instant,
        outgoing: &mut Outgoing,
        mut call: impl FnMut(&Batch<'_>, bool) -> io::Result<usize>,
    ) -> Sent {
        let mut sent = Sent::default();
        outgoing.arrange(self.is_ipv6, |to| self.cuts(now, to));
        let (bytes, packets, messages) = outgoing.arranged();
        let arranged = Batch {
            bytes,
            packets,
            messages,
        };
        let mut rest = messages;
        while let [first, behind @ ..] = rest {
            sent.calls += 1;
            let batch = Batch {
                messages: if self.many { rest } else { &rest[..1] },
                ..arranged
            };
            match call(&batch, self.many) {
                Ok(taken) => {
                    for message in &rest[..taken] {
                        sent.count(&packets[message.packets.clone()]);
                    }
                    rest = &rest[taken..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if self.many && error.raw_os_error() == Some(libc::ENOSYS) => self.many = false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // What is behind would find the queue as full, at one call each.
                    let datagrams = rest.iter().map(|message| message.packets.len()).sum();
                    sent.lose(&error, datagrams);
                    break;
                }
                Err(error) if first.segment_bytes != 0 && is_refusal(&error) => {
                    if let Some(to) = first.to.address() {
                        self.refused(now, to);
                    }
                    for place in first.packets.clone() {
                        let single = Message {
                            packets: place..place + 1,
                            segment_bytes: 0,
                            ..*first
                        };
                        sent.calls += 1;
                        let batch = Batch {
                            messages: std::slice::from_ref(&single),
                            ..arranged
                        };
                        match call(&batch, self.many) {
                            Ok(_) => sent.count(&packets[place..=place]),
                            Err(error) => sent.lose(&error, 1),
                        }
                    }
                    rest = behind;
                }
                Err(error) => {
                    sent.lose(&error, first.packets.len());
                    rest = behind;
                }
            }
        }
        outgoing.clear();
        sent
    }

    /// Whether messages to an address shall be cut by the kernel.
    fn cuts(&self, now: Instant, to: SocketAddr) -> bool {
        self.segments && (self.apart.is_empty() || self.apart.get(&to).is_none_or(|until| *until <= now))
    }

    /// The kernel would not cut a message to an address.
    fn refused(&mut self, now: Instant, to: SocketAddr) {
        if self.apart.is_empty() {
            tracing::debug!(
                "the kernel does not cut messages to some address (UDP GSO); sending there costs more"
            );
        }
        self.apart.retain(|_, until| *until > now);
        if self.apart.len() < MOST_APART {
            self.apart.insert(to, now + APART);
        }
    }
}

impl Sent {
    /// Counts the packets of a message that went.
    fn count(&mut self, packets: &[Packet]) {
        self.messages += 1;
        self.datagrams += packets.len() as u64;
        self.bytes += packets.iter().map(|packet| u64::from(packet.length)).sum::<u64>();
    }

    fn lose(&mut self, error: &io::Error, datagrams: usize) {
        match error.kind() {
            ErrorKind::WouldBlock => self.queue_full += datagrams as u64,
            // The way there is gone (no route, refused): silence will tell.
            _ => self.unreachable += datagrams as u64,
        }
    }
}

/// Whether the kernel would not cut a message, while its packets may go one by one.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::EMSGSIZE | libc::ENOPROTOOPT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Lane;

    /// Packets of one size to each address in a round.
    const PACKETS: usize = 5;

    #[test]
    fn a_narrow_path_is_sent_apart_and_all_others_go_on_being_cut() {
        let (mut sending, start) = (Sending::new(false, true), Instant::now());
        let narrow = at(1);
        let kernel = |messages: &[Message]| match &messages[0] {
            first if first.to.address() == Some(narrow) && first.segment_bytes != 0 => Err(libc::EMSGSIZE),
            _ => {
                let cut_there =
                    |message: &Message| message.to.address() == Some(narrow) && message.segment_bytes != 0;
                Ok(messages.iter().position(cut_there).unwrap_or(messages.len()))
            }
        };
        let addresses = [at(2), narrow, at(3)];
        let (sent, _) = round(&mut sending, start, &addresses, kernel);
        assert_eq!((sent.datagrams, sent.unreachable), (15, 0));
        for second in 0..59 {
            let now = start + Duration::from_secs(second);
            let (sent, messages) = round(&mut sending, now, &addresses, kernel);
            assert_eq!((sent.datagrams, sent.unreachable, sent.calls), (15, 0, 1));
            assert_eq!(messages, [5, 1, 1, 1, 1, 1, 5]);
        }
        let (_, messages) = round(&mut sending, start + APART, &addresses, |messages| {
            Ok(messages.len())
        });
        assert_eq!(messages, [5, 5, 5], "the way may be another one a minute later");
    }

    #[test]
    fn no_more_addresses_are_remembered_than_can_be_in_use() {
        let (mut sending, start) = (Sending::new(false, true), Instant::now());
        for port in 1..=2_000 {
            sending.refused(start, at(port));
        }
        assert_eq!(sending.apart.len(), MOST_APART);
        sending.refused(start + APART, at(2_000));
        assert_eq!(sending.apart.len(), 1, "those whose time is over are forgotten");
        assert!(!sending.cuts(start + APART, at(2_000)));
    }

    #[test]
    fn a_full_send_queue_is_asked_once_and_all_that_waits_is_dropped() {
        let mut sending = Sending::new(false, true);
        let mut calls = 0;
        let (sent, _) = round(
            &mut sending,
            Instant::now(),
            &[at(1), at(2), at(3), at(4)],
            |_| {
                calls += 1;
                if calls == 1 { Ok(1) } else { Err(libc::EAGAIN) }
            },
        );
        assert_eq!((sent.datagrams, sent.queue_full, sent.unreachable), (5, 15, 0));
        assert_eq!(
            (calls, sent.calls),
            (2, 2),
            "what is behind would find it as full"
        );
    }

    #[test]
    fn a_call_that_was_interrupted_is_made_again() {
        let mut sending = Sending::new(false, true);
        let mut calls = 0;
        let (sent, _) = round(&mut sending, Instant::now(), &[at(1)], |messages| {
            calls += 1;
            if calls == 1 {
                Err(libc::EINTR)
            } else {
                Ok(messages.len())
            }
        });
        assert_eq!((sent.datagrams, calls), (5, 2));
    }

    /// Sends [`PACKETS`] to each address through a kernel that is played; with the number of packets in each message that it
    /// took at last.
    fn round(
        sending: &mut Sending,
        now: Instant,
        addresses: &[SocketAddr],
        mut kernel: impl FnMut(&[Message]) -> Result<usize, i32>,
    ) -> (Sent, Vec<usize>) {
        let mut outgoing = Outgoing::new();
        for to in addresses {
            let mut lane = Lane::default();
            for _ in 0..PACKETS {
                let start = outgoing.bytes().len();
                outgoing.bytes().resize(start + 1_000, 7);
                outgoing.add(start, 0, &mut lane, *to);
            }
        }
        let mut taken = Vec::new();
        let sent = sending.send(now, &mut outgoing, |batch, _| {
            let count = kernel(batch.messages).map_err(io::Error::from_raw_os_error)?;
            taken.extend(
                batch.messages[..count]
                    .iter()
                    .map(|message| message.packets.len()),
            );
            Ok(count)
        });
        assert!(outgoing.is_empty());
        (sent, taken)
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }
}
