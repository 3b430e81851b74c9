//! Seodang's signaling, pages and API: everything around the SFU, the recorder and the analyzer.
//!
//! It is the outermost layer and may know every other crate but the tests. Read [`server::start`] first: it is the
//! one entry of the program and of every test.
//!
//! ```no_run
//! use seodang_signal::{config::Config, server};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example() -> Result<(), server::StartError> {
//! let shutdown = CancellationToken::new();
//! let running = server::start(Config::default(), shutdown.clone()).await?;
//! println!("{}", running.url());
//! shutdown.cancel();
//! running.finished().await;
//! # Ok(())
//! # }
//! ```

mod auth;
pub mod chat;
pub mod config;
mod consent;
pub mod data;
pub mod disk;
pub mod doctor;
pub mod elements;
pub mod erasure;
pub mod error;
pub mod files;
pub mod health;
pub mod hub;
mod lesson;
pub mod metrics;
pub mod mirror;
pub mod pages;
pub mod range;
mod routes;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod turn;
