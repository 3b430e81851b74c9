//! The one offer of a connection and its answer (RFC 8829, RFC 9429): what is sent, what is received, nothing else.

mod answer;
mod offer;

pub(crate) use answer::{AnswerLines, SlotSsrcs, write_answer};
pub(crate) use offer::{LineUse, ReadOffer, read_offer};

#[cfg(test)]
mod tests;
