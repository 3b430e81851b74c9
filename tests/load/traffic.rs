//! What the server says of its own datagrams.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde::Serialize;

use crate::signaling::get;

/// Counts since the server's start, of all its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    datagrams_in: u64,
    receive_calls: u64,
    datagrams_out: u64,
    messages_out: u64,
    send_calls: u64,
}

/// In which batches a server received and sent: the same as the floor's of this name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Batches {
    /// Datagrams received with one `recvmmsg`, mean; calls that find nothing are calls.
    server_packets_a_receive: f64,
    /// Datagrams sent with one message of `sendmmsg`, mean: above 1 by GSO.
    server_packets_a_message: f64,
    /// Messages sent with one `sendmmsg`, mean.
    server_messages_a_send: f64,
}

impl Traffic {
    /// Asks the server.
    ///
    /// # Errors
    /// When it does not say.
    pub(crate) async fn of(server: SocketAddr) -> anyhow::Result<Self> {
        Self::read(&get(server, "/metrics").await?).context("counts of datagrams")
    }

    fn read(metrics: &str) -> Option<Self> {
        let count = |name: &str| {
            let line = format!("seodang_sfu_{name}_total ");
            metrics
                .lines()
                .find_map(|text| text.strip_prefix(&line)?.trim().parse().ok())
        };
        Some(Self {
            datagrams_in: count("datagrams_in")?,
            receive_calls: count("receive_calls")?,
            datagrams_out: count("datagrams_out")?,
            messages_out: count("messages_out")?,
            send_calls: count("send_calls")?,
        })
    }

    /// What happened since.
    pub(crate) fn since(self, before: Self) -> Batches {
        let per = |count: fn(Self) -> u64, of: fn(Self) -> u64| {
            (count(self) - count(before)) as f64 / (of(self) - of(before)).max(1) as f64
        };
        Batches {
            server_packets_a_receive: per(|all| all.datagrams_in, |all| all.receive_calls),
            server_packets_a_message: per(|all| all.datagrams_out, |all| all.messages_out),
            server_messages_a_send: per(|all| all.messages_out, |all| all.send_calls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_those_between_two_readings() {
        let reading = |factor: u64| {
            let line = |name, count| {
                let name = format!("seodang_sfu_{name}_total");
                format!("# TYPE {name} counter\n{name} {}\n", factor * count)
            };
            let text = [
                line("datagrams_in", 30),
                line("receive_calls", 10),
                line("datagrams_out", 120),
                line("messages_out", 40),
                line("send_calls", 5),
            ];
            Traffic::read(&text.concat()).expect("all counts")
        };
        let batches = Batches {
            server_packets_a_receive: 3.0,
            server_packets_a_message: 3.0,
            server_messages_a_send: 8.0,
        };
        assert_eq!(reading(3).since(reading(1)), batches);
        assert_eq!(Traffic::read("seodang_sfu_datagrams_in_total 1"), None);
    }
}
