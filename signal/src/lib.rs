//! Signaling of Seodang: rooms and lessons, the WebSocket, the database, the pages and the API; the outermost layer.
//!
//! It must not know RTP packets or media containers. Read [`hub`] first: it is where a class happens.

pub mod chat;
mod consent;
pub mod store;
