//! What a worker counts; every reason for a dropped datagram has its own number.

use crate::SfuStats;
use crate::net::Sent;
use crate::transport::ice::StunError;
use crate::transport::srtp::SrtpError;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the worker's start.
        #[derive(Debug, Default)]
        pub(super) struct Counters {$(
            $(#[$doc])*
            pub(super) $name: u64,
        )*}

        impl Counters {
            /// Adds them to what other workers counted.
            pub(super) fn add_to(&self, stats: &mut SfuStats) {
                $(*stats.entry(stringify!($name)).or_default() += self.$name;)*
            }
        }
    };
}

counters! {
    /// Datagrams read.
    datagrams_in,
    /// Their bytes.
    bytes_in,
    /// Datagrams sent.
    datagrams_out,
    /// Their bytes.
    bytes_out,
    /// Messages they were in, which the kernel cut into datagrams.
    messages_out,
    /// Calls into the kernel that took them.
    send_calls,
    /// Calls that read datagrams.
    receive_calls,
    /// Datagrams the kernel had no room for before they were read.
    dropped_receive_queue_full,
    /// Too short for anything, or of no known protocol.
    dropped_malformed,
    /// From an address nobody proved to be at.
    dropped_unknown_address,
    /// Checks for a user name nobody has.
    dropped_unknown_ufrag,
    /// Checks with a wrong password.
    dropped_stun_not_authentic,
    /// Media before the keys are agreed.
    dropped_before_keys,
    /// Media whose tag is wrong.
    dropped_not_authentic,
    /// Media that was seen before.
    dropped_replayed,
    /// Media of one source too many.
    dropped_too_many_sources,
    /// Packets the kernel had no room for.
    dropped_send_queue_full,
    /// Datagrams the system could not send: no way there.
    dropped_unreachable,
    /// Packets that could not be sealed.
    dropped_unsealed,
    /// Packets longer than any that is sent.
    dropped_too_long,
    /// Packets for a stream whose reader is too slow, or that is gone.
    dropped_stream_full,
    /// TCP streams that came.
    streams_accepted,
    /// TCP streams that were too many.
    streams_refused,
    /// TCP streams that proved nothing, or were not read, in time.
    streams_overdue,
    /// DTLS handshakes that failed, by message or silence.
    handshakes_failed,
    /// DTLS certificates that are not the announced ones.
    fingerprint_mismatches,
    /// DTLS handshakes that led to keys.
    handshakes_done,
    /// Of these, with AES-128-GCM.
    handshakes_gcm,
    /// Connections that fell silent.
    connections_lost,
    /// Panics that ended a participant's connection.
    panics_contained,
}

impl Counters {
    pub(super) fn count_sent(&mut self, sent: &Sent) {
        self.datagrams_out += sent.datagrams;
        self.bytes_out += sent.bytes;
        self.messages_out += sent.messages;
        self.send_calls += sent.calls;
        self.dropped_send_queue_full += sent.queue_full;
        self.dropped_unreachable += sent.unreachable;
    }

    pub(super) fn count_srtp(&mut self, error: SrtpError) {
        match error {
            SrtpError::Truncated => self.dropped_malformed += 1,
            SrtpError::NotAuthentic => self.dropped_not_authentic += 1,
            SrtpError::Replayed => self.dropped_replayed += 1,
            SrtpError::TooManySources => self.dropped_too_many_sources += 1,
        }
    }

    pub(super) fn count_stun(&mut self, error: StunError) {
        match error {
            StunError::Malformed => self.dropped_malformed += 1,
            StunError::NotAuthentic => self.dropped_stun_not_authentic += 1,
        }
    }
}
