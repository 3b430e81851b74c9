//! The selective forwarding unit: one offer for the life of a connection, fixed slots, packets never decoded.
//!
//! It must not know signaling, SQL, HTTP or files: commands go in through [`SfuHandle`], events come out of the
//! channel that [`Sfu::start`] returns, and mirrored packets go to the [`TrackSink`]s that were attached. Read
//! [`SfuHandle`] first.

mod config;
mod driver;
mod error;
mod event;
mod handle;
mod net;
mod placing;
pub mod probe;
mod room;
mod sink;
mod transport;

pub use config::SfuConfig;
pub use driver::offered_addresses;
pub use error::{OfferError, SfuError};
pub use event::{ParticipantReport, PublicationReport, RoomReport, SfuEvent, SfuStats};
pub use handle::{Join, Sfu, SfuHandle};
pub use net::{WANTED_RECEIVE_BUFFER_BYTES, granted_receive_buffer_bytes};
pub use sink::TrackSink;
