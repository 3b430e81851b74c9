//! What lies between a browser and a room: ICE-lite, DTLS, SRTP and the answer to an offer. Sans I/O.

pub(crate) mod dtls;
mod hello;
pub(crate) mod ice;
pub(crate) mod sdp;
pub(crate) mod srtp;
