//! The threads and sockets of the SFU: one worker with one port, UDP and TCP, each.

mod candidates;
mod connection;
mod counters;
mod events;
mod filling;
mod gathering;
mod links;
mod outbox;
mod worker;

pub use candidates::offered_addresses;
pub(crate) use links::Links;
pub(crate) use worker::{Command, CommandQueue, Worker, WorkerConfig};
