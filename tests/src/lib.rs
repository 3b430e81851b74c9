//! The whole program under test: a harness around the real server, a lossy network, and judges of what comes out.
//!
//! Nothing here is a fake server or a fake browser: classes consist of `seodang-fixtures`' scripted participants (and, in
//! `tests/browser`, of Chromium) against the server as it is shipped. Read [`TestServer`] first.

mod class;
mod coturn;
pub mod files;
mod http;
mod kept;
mod lesson;
mod program;
mod relay;
mod server;

pub use class::{Class, TestRoom, publish_camera_and_microphone};
pub use coturn::Coturn;
pub use http::{Reply, get, post, request};
pub use kept::{KeptLesson, send_on, until};
pub use lesson::{FinishedLesson, files_below};
pub use program::{Program, server_binary};
pub use relay::{LossyRelay, NetworkFaults};
pub use server::TestServer;

use std::time::Duration;

/// What anything a test waits for may take on a busy machine of two cores.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Classes keep a small machine busy; two at a time would only measure the machine. Hold what this returns.
pub async fn one_class_at_a_time() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}
