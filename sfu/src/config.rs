//! What the SFU is started with.

use std::net::IpAddr;

use seodang_rtp::FrameSize;

/// Configuration of the SFU; read from the outside by the program, never from the environment here.
#[derive(Clone, Debug)]
pub struct SfuConfig {
    /// Address to bind. `::` listens everywhere in both families, or in IPv4 where the system has no IPv6; `0.0.0.0`
    /// everywhere in IPv4.
    pub bind: IpAddr,
    /// Port (UDP, and TCP if `tcp`) of the first worker; the others follow. 0 takes any free ones (tests).
    pub port: u16,
    /// Whether the ports are opened for TCP as well (ICE-TCP).
    pub tcp: bool,
    /// Media threads, 1 to 64. A room lives on one of them, or on several when it outgrows that.
    pub workers: u16,
    /// Participants of one room that a worker carries before those who join are placed on another one with fewer
    /// participants; at least 1.
    pub worker_seats: u16,
    /// Addresses offered as host candidates. Empty: `bind` if it is one address, else every interface address that is
    /// neither loopback nor link-local, and 127.0.0.1 only if there is none.
    pub candidates: Vec<IpAddr>,
    /// Constant estimate sent to publishers as REMB, in bits per second for each connection.
    pub publisher_bitrate_bps: u64,
    /// Of a camera that sends several encodings, mirrors get the highest one within this size; the lowest if all are
    /// larger.
    pub recording_size: FrameSize,
    /// The same for the sinks of captures that are attached beside those of recordings.
    pub capture_size: FrameSize,
}
