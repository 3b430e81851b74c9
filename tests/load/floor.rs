//! The floor under every figure: the packets and the fan-out of a class with nothing but receiving, opening, copying,
//! sealing and sending.
//!
//! One thread does what no server can leave out: `recvmmsg`, AES-128-GCM, one copy for each subscriber, AES-128-GCM,
//! `sendmmsg`, with GSO where packets of one size follow each other. It knows its peers from the start: no ICE, no DTLS, no rooms,
//! no feedback, no resending. Its processor time is that thread's alone; those who send to it and receive from it run in others.

mod crowd;
mod forwarder;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::apart::Halves;
use crate::fanout::{Fanout, Shape};

/// What the class is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    shape: Shape,
    /// Bits per second of each camera.
    #[arg(long, default_value_t = 600_000)]
    camera_bps: u32,
    /// Microseconds the thread waits for more after it was woken. Zero: none; more makes larger batches.
    #[arg(long, default_value_t = 1_000)]
    gather_us: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 5.0)]
    window_s: f64,
    /// The address everybody meets at.
    #[arg(long, default_value = "127.0.0.1")]
    address: Ipv4Addr,
    /// The thread has a processor of its own, and who sends and receives the upper half of them.
    #[arg(long)]
    apart: bool,
}

/// What is played for the floor.
#[derive(Clone, Debug)]
pub(crate) struct FloorConfig {
    pub(crate) fanout: Fanout,
    pub(crate) camera_bps: u32,
    pub(crate) gather: Duration,
    pub(crate) window: Duration,
    pub(crate) address: Ipv4Addr,
    /// The forwarding thread has a processor of its own.
    pub(crate) apart: bool,
}

/// What the floor costs.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct FloorReport {
    /// Processor time of the forwarding thread for each packet it sent.
    pub(crate) us_a_forwarded_packet: f64,
    /// The same a second.
    pub(crate) cores: f64,
    /// Packets sent in the window.
    pub(crate) packets: u64,
    /// Of all packets sent from first to last, those that no subscriber received.
    pub(crate) lost: u64,
    /// Packets received with one `recvmmsg`, mean.
    pub(crate) packets_a_receive: f64,
    /// Packets sent with one message of `sendmmsg`, mean: above 1 by GSO.
    pub(crate) packets_a_message: f64,
    /// Messages sent with one `sendmmsg`, mean.
    pub(crate) messages_a_send: f64,
    /// How long the thread waited for more after it was woken.
    pub(crate) gather_us: u64,
}

/// Plays the class and prints one JSON line.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = FloorConfig {
        fanout: arguments.shape.fanout(),
        camera_bps: arguments.camera_bps,
        gather: Duration::from_micros(arguments.gather_us),
        window: Duration::from_secs_f64(arguments.window_s),
        address: arguments.address,
        apart: arguments.apart,
    };
    println!("{}", serde_json::to_string(&measure(&config)?)?);
    Ok(())
}

/// Plays the class and returns its cost.
///
/// # Errors
/// When the kernel refuses a socket, or a thread ended early.
pub(crate) fn measure(config: &FloorConfig) -> anyhow::Result<FloorReport> {
    let halves = config.apart.then(Halves::get).transpose()?;
    if let Some(halves) = halves {
        halves.take_tools()?;
    }
    let subscribers = crowd::Subscribers::open(config.fanout.subscribers.len(), config.address)?;
    let forwarder = forwarder::Forwarder::open(config, subscribers.addresses())?;
    let publishers = crowd::Publishers::open(config, forwarder.address()?)?;

    let from = Instant::now() + SETTLE;
    let until = from + config.window;
    let receiving = subscribers.start(until + DRAIN);
    let sending = std::thread::spawn(move || publishers.play(until));
    // Made and used on one thread: what the kernel is told about buffers cannot be moved.
    let forwarding = move || {
        if let Some(halves) = halves {
            halves.take_first_workers()?;
        }
        forwarder.run(from, until)
    };
    let mut costs = std::thread::spawn(forwarding)
        .join()
        .map_err(|_| anyhow::anyhow!("the forwarding thread panicked"))??;
    sending
        .join()
        .map_err(|_| anyhow::anyhow!("the sending thread panicked"))??;
    let received = receiving
        .join()
        .map_err(|_| anyhow::anyhow!("the receiving thread panicked"))??;
    costs.report.lost = costs.sent_in_all.saturating_sub(received);
    Ok(costs.report)
}

/// Until every thread runs.
const SETTLE: Duration = Duration::from_millis(300);
/// For what is under way at the end.
const DRAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_delivers_everything_and_says_what_it_cost() {
        let report = measure(&FloorConfig {
            fanout: Fanout::classes(1, 2, 1, 9, 9),
            camera_bps: 600_000,
            gather: Duration::from_millis(1),
            window: Duration::from_millis(500),
            address: Ipv4Addr::LOCALHOST,
            apart: false,
        })
        .expect("loopback");
        // Four cameras and four microphones are received: about 500 packets a second.
        assert!((200..400).contains(&report.packets), "{report:?}");
        assert_eq!(report.lost, 0);
        assert!(report.us_a_forwarded_packet > 0.1, "{report:?}");
    }
}
