//! Counters of a room.

use crate::SfuStats;

/// Why a packet was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No RTP, or no VP8 where VP8 must be.
    Malformed,
    /// Its SSRC belongs to no line.
    Unbound,
    /// A second SSRC on a line whose first one sends.
    SecondSsrc,
    /// Another payload type than the negotiated one.
    PayloadType,
    /// The source is not published, or may not be.
    Unpublished,
    /// From before the line was published.
    Late,
    /// Here already.
    Duplicate,
    /// Repair that carries nothing: a browser probes the way.
    Padding,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counted since the room began.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Counters {
            $($(#[$doc])* pub(super) $name: u64,)*
        }

        impl Counters {
            /// Adds every counter under its name.
            pub(super) fn add_to(&self, stats: &mut SfuStats) {
                $(*stats.entry(stringify!($name)).or_default() += self.$name;)*
            }
        }
    };
}

counters! {
    /// RTP packets of participants.
    packets_in,
    /// RTP packets to subscribers, first sending.
    packets_forwarded,
    /// RTP packets to another room of the lesson.
    packets_relayed,
    /// RTP packets for which another room's parcel had no place.
    dropped_relay_full,
    /// RTP packets to subscribers, sent again.
    packets_resent,
    /// Requests to send again that the budget refused.
    resends_refused,
    /// RTP packets of participants that came as repair (RFC 4588) and were missing.
    packets_repaired,
    /// Sequence numbers asked of publishers.
    nacks_sent,
    /// Transport-wide feedback told to publishers.
    transport_feedbacks,
    /// Key frames asked of publishers.
    keyframes_requested,
    /// Key frames that began.
    keyframes,
    /// Feeds begun.
    switches,
    /// Malformed RTCP packets.
    rtcp_malformed,
    /// See [`Refusal`].
    dropped_malformed,
    /// See [`Refusal`].
    dropped_unbound,
    /// See [`Refusal`].
    dropped_second_ssrc,
    /// See [`Refusal`].
    dropped_payload_type,
    /// See [`Refusal`].
    dropped_unpublished,
    /// See [`Refusal`].
    dropped_late,
    /// See [`Refusal`].
    dropped_duplicate,
    /// See [`Refusal`].
    dropped_padding,
}

impl Counters {
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        *match refusal {
            Refusal::Malformed => &mut self.dropped_malformed,
            Refusal::Unbound => &mut self.dropped_unbound,
            Refusal::SecondSsrc => &mut self.dropped_second_ssrc,
            Refusal::PayloadType => &mut self.dropped_payload_type,
            Refusal::Unpublished => &mut self.dropped_unpublished,
            Refusal::Late => &mut self.dropped_late,
            Refusal::Duplicate => &mut self.dropped_duplicate,
            Refusal::Padding => &mut self.dropped_padding,
        } += 1;
    }
}
