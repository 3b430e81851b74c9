//! Log lines on the standard error output, as text for people or as JSON for machines.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError, LogFormat};

/// The libraries below the media say warnings about every handshake, some with addresses of participants.
const QUIETER: &str = "rtc=off,rtc_dtls=off,rtc_ice=off,rtc_interceptor=off,webrtc=off";

/// Starts logging for the whole process; a second call keeps the first one's settings.
///
/// # Errors
/// When the filter is malformed.
pub fn start(config: &Config) -> Result<(), ConfigError> {
    let filter =
        EnvFilter::try_new(format!("{QUIETER},{}", config.log)).map_err(|error| ConfigError::Value {
            key: "log".to_owned(),
            reason: format!("is no filter: {error}"),
        })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(true);
    // Fails only where a test or a caller has set a subscriber of its own, which then stays.
    let _ = match config.log_format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}
