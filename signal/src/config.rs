//! The one configuration: defaults, then the file, then the environment, then the flags; read and checked once.
//!
//! Every key is a row of one table below, which makes the struct, the key in the file, the variable
//! (`SEODANG_` and the key in capitals), the flag (`--` and the key with hyphens) and its help. The sample file is
//! kept equal to the table by a test. Unknown keys and unknown `SEODANG_*` variables are refused: a misspelt
//! limit must not go unnoticed.

mod layer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use seodang_model::Token;
use seodang_rtp::FrameSize;
use serde::Deserialize;

use crate::turn::TurnUrl;
use layer::FromText;
pub use layer::{ConfigError, Setting};

/// Variables with this prefix are ours.
const PREFIX: &str = "SEODANG_";

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:expr;)*) => {
        /// What the program runs with. Secrets print redacted.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $kind,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Config {
            /// Every key, in the order of the sample file.
            pub const SETTINGS: &'static [Setting] = &[$(Setting {
                name: stringify!($name),
                help: concat!($($doc),+),
                is_switch: <$kind as FromText>::IS_SWITCH,
            },)*];

            /// The value of a key as its flag would take it; `None` where there is none to show.
            #[must_use]
            pub fn text(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => self.$name.to_text(),)*
                    _ => None,
                }
            }
        }

        /// One source of settings: what it does not name stays as it was.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Layer {
            $($name: Option<$kind>,)*
        }

        impl Layer {
            fn set(&mut self, name: &str, text: &str) -> Result<(), layer::SetError> {
                match name {
                    $(stringify!($name) => self.$name = Some(<$kind>::from_text(text).map_err(layer::SetError::Value)?),)*
                    _ => return Err(layer::SetError::Unknown),
                }
                Ok(())
            }

            fn lay_over(self, config: &mut Config) {
                $(if let Some(value) = self.$name {
                    config.$name = value;
                })*
            }
        }
    };
}

settings! {
    /// Address and TCP port of pages, API and WebSocket. Plain HTTP is served on loopback only.
    listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    /// Folder of database, recordings, captures and the self-signed certificate; readable by its owner only.
    data: PathBuf = PathBuf::from("data");
    /// Listens on all addresses instead of loopback, with a self-signed certificate unless one is given.
    lan: bool = false;
    /// File with the certificate chain (PEM); needs tls_key.
    tls_certificate: Option<PathBuf> = None;
    /// File with the certificate's private key (PEM).
    tls_key: Option<PathBuf> = None;
    /// Serves plain HTTP beyond loopback. Browsers then give no camera; meant for a TLS proxy in front.
    insecure_http: bool = false;
    /// Address under which browsers reach the server, such as `https://class.example.org`; default: as listened on.
    public_url: Option<String> = None;
    /// Address on which media arrives (UDP and TCP); `::` is every address, IPv6 and IPv4, and `0.0.0.0` every IPv4 address.
    media_bind: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    /// First port of the media (UDP and TCP); each further worker takes the next one. 0 takes free ones. The default lies
    /// below the range from which Linux hands out ports, so that one firewall rule stays true.
    media_port: u16 = 8189;
    /// Whether media is also taken over TCP, for browsers whose network lets no UDP out.
    media_tcp: bool = true;
    /// Addresses told to browsers for media, IPv4 and IPv6; behind a router the outer ones. Default: those of every
    /// network interface.
    media_addresses: Vec<IpAddr> = Vec::new();
    /// TURN servers for browsers behind a firewall, such as `turn:turn.example.org` or `turns:turn.example.org:443`.
    turn_urls: Vec<String> = Vec::new();
    /// Secret shared with the TURN servers (coturn: `static-auth-secret`), which signs short-lived credentials.
    turn_secret: Option<Token> = None;
    /// Seconds for which a TURN credential is good, 60 to 86,400; when half of them are over a fresh one comes.
    turn_lifetime_s: u64 = 21_600;
    /// Media threads, at most 64; each has a port of its own (UDP and TCP) and carries whole rooms, as long as they are
    /// not larger than worker_seats. 0 takes one for each core, at most 16.
    workers: u16 = 0;
    /// Participants of one room on one worker, 1 to 1,000. Those who join beyond are placed on a worker that has fewer
    /// participants: a packet then leaves to all of them sooner.
    worker_seats: u16 = 100;
    /// Bitrate each participant is told to send at most, in bits per second.
    media_bitrate_bps: u64 = 2_500_000;
    /// Of each camera, recordings and captures take the largest picture up to this many pixels wide (high, if the
    /// camera stands upright).
    recording_width: u16 = 640;
    /// And up to this many pixels high.
    recording_height: u16 = 480;
    /// The same for captures alone, which then come beside the recording at the cost of a second copy of the camera inside
    /// the server. Default: what recordings take.
    capture_width: Option<u16> = None;
    /// And up to this many pixels high.
    capture_height: Option<u16> = None;
    /// Most participants of a room at a time, 1 to 1,000.
    room_capacity: u32 = 40;
    /// Seconds for which the seat of somebody who vanished is kept.
    seat_grace_s: u64 = 30;
    /// Seconds after which a lesson with nobody in it ends.
    lesson_empty_end_s: u64 = 300;
    /// Seconds after which a lesson without a host ends.
    lesson_hostless_end_s: u64 = 600;
    /// Seconds between captures; 0 takes none.
    capture_period_s: u32 = 10;
    /// JPEG quality of captures, 1 to 100.
    capture_quality: u8 = 85;
    /// IANA name of the time zone in file names, such as Asia/Seoul; default: the system's.
    time_zone: Option<String> = None;
    /// Hours for which recordings a host did not keep are put aside before they are erased.
    discarded_keep_hours: u32 = 24;
    /// Most HTTP and WebSocket connections at a time; never more than three quarters of the open-files limit.
    connections: u32 = 4_096;
    /// Milliseconds within which a request's header (or a TLS handshake) has to arrive.
    header_timeout_ms: u64 = 5_000;
    /// Milliseconds after which a connection is closed whose other end reads nothing.
    write_stall_ms: u64 = 30_000;
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,seodang_sfu=debug.
    log: String = "info".to_owned();
    /// Form of the log lines on the standard error output: text or json.
    log_format: LogFormat = LogFormat::Text;
    /// Secret that lets others than loopback read /metrics, sent as a bearer token; default: nobody else.
    metrics_token: Option<Token> = None;
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where settings come from, apart from the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Text of the configuration file.
    pub file: Option<String>,
    /// Environment variables; those without our prefix are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags by key.
    pub flags: Vec<(String, String)>,
}

impl Config {
    /// Lays file, environment and flags over the defaults and checks the whole.
    ///
    /// # Errors
    /// When a key is unknown, a value is malformed, or the whole contradicts itself.
    pub fn from_sources(sources: &Sources) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut listen_is_wished = false;
        if let Some(text) = &sources.file {
            let layer: Layer = toml::from_str(text).map_err(|error| ConfigError::File(describe(&error)))?;
            // A copy of the sample file says what is so anyway.
            listen_is_wished |= layer.listen.is_some_and(|listen| listen != config.listen);
            layer.lay_over(&mut config);
        }
        let mut layer = Layer::default();
        for (variable, value) in &sources.environment {
            let Some(key) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            let known = !key.bytes().any(|byte| byte.is_ascii_lowercase());
            let key = if known {
                key.to_ascii_lowercase()
            } else {
                String::new()
            };
            layer
                .set(&key, value)
                .map_err(|error| error.of_variable(variable))?;
        }
        listen_is_wished |= layer.listen.is_some();
        layer.lay_over(&mut config);
        let mut layer = Layer::default();
        for (key, value) in &sources.flags {
            layer.set(key, value).map_err(|error| error.of_flag(key))?;
        }
        listen_is_wished |= layer.listen.is_some();
        layer.lay_over(&mut config);
        config.check()?;
        if listen_is_wished && config.lan && config.listen.ip().is_loopback() {
            return Err(ConfigError::value(
                "listen",
                "names this machine alone and lan the whole network: leave one of them out, or listen on 0.0.0.0 or an address \
                 of the network",
            ));
        }
        Ok(config)
    }

    /// The address that is bound: with `lan`, all of them instead of loopback.
    #[must_use]
    pub fn bind_address(&self) -> SocketAddr {
        if self.lan && self.listen.ip().is_loopback() {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.listen.port())
        } else {
            self.listen
        }
    }

    /// Whether pages are served over TLS by this program.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls_certificate.is_some() || self.lan
    }

    /// The time zone of file names.
    ///
    /// # Errors
    /// When its name is unknown.
    pub fn zone(&self) -> Result<jiff::tz::TimeZone, ConfigError> {
        match &self.time_zone {
            Some(name) => jiff::tz::TimeZone::get(name)
                .map_err(|_| ConfigError::value("time_zone", "is no IANA name such as Asia/Seoul")),
            None => Ok(jiff::tz::TimeZone::system()),
        }
    }

    /// How many media threads there are, and ports (UDP and TCP) from `media_port` on.
    #[must_use]
    pub fn media_workers(&self) -> u16 {
        /// Far more than one machine's network carries.
        const MOST_BY_DEFAULT: u16 = 16;
        if self.workers != 0 {
            return self.workers;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        u16::try_from(cores).map_or(MOST_BY_DEFAULT, |cores| cores.min(MOST_BY_DEFAULT))
    }

    /// Of each camera, recordings take the largest picture within this size.
    #[must_use]
    pub fn recording_size(&self) -> FrameSize {
        FrameSize {
            width: self.recording_width,
            height: self.recording_height,
        }
    }

    /// And captures within this.
    #[must_use]
    pub fn capture_size(&self) -> FrameSize {
        FrameSize {
            width: self.capture_width.unwrap_or(self.recording_width),
            height: self.capture_height.unwrap_or(self.recording_height),
        }
    }

    /// Folder of the recordings.
    #[must_use]
    pub fn recordings_folder(&self) -> PathBuf {
        self.data.join("recordings")
    }

    /// Folder of the captures.
    #[must_use]
    pub fn captures_folder(&self) -> PathBuf {
        self.data.join("captures")
    }

    fn check(&self) -> Result<(), ConfigError> {
        within("workers", u64::from(self.workers), 0, 64)?;
        within("worker_seats", u64::from(self.worker_seats), 1, 1_000)?;
        within("room_capacity", u64::from(self.room_capacity), 1, 1_000)?;
        within("seat_grace_s", self.seat_grace_s, 1, 3_600)?;
        within("lesson_empty_end_s", self.lesson_empty_end_s, 1, 86_400)?;
        within("lesson_hostless_end_s", self.lesson_hostless_end_s, 1, 86_400)?;
        within("capture_period_s", u64::from(self.capture_period_s), 0, 3_600)?;
        within("capture_quality", u64::from(self.capture_quality), 1, 100)?;
        within("media_bitrate_bps", self.media_bitrate_bps, 100_000, 100_000_000)?;
        let (recording, captures) = (self.recording_size(), self.capture_size());
        within("recording_width", u64::from(recording.width), 16, 4_096)?;
        within("recording_height", u64::from(recording.height), 16, 4_096)?;
        within("capture_width", u64::from(captures.width), 16, 4_096)?;
        within("capture_height", u64::from(captures.height), 16, 4_096)?;
        within("connections", u64::from(self.connections), 16, 1_000_000)?;
        within("header_timeout_ms", self.header_timeout_ms, 10, 600_000)?;
        within("write_stall_ms", self.write_stall_ms, 10, 600_000)?;
        if self.media_port != 0 && self.media_port.checked_add(self.media_workers() - 1).is_none() {
            return Err(ConfigError::value(
                "media_port",
                "leaves no room for a port for each worker",
            ));
        }
        within("turn_lifetime_s", self.turn_lifetime_s, 60, 86_400)?;
        if self.turn_urls.iter().any(|url| TurnUrl::parse(url).is_none()) {
            return Err(ConfigError::value(
                "turn_urls",
                "holds what is not of the form turn:host, turn:host:port?transport=tcp or turns:host:port",
            ));
        }
        if !self.turn_urls.is_empty() && self.turn_secret.is_none() {
            return Err(ConfigError::value("turn_urls", "needs turn_secret"));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(ConfigError::value(
                "tls_certificate",
                "and tls_key are given together or not at all",
            ));
        }
        if let Some(url) = &self.public_url {
            check_public_url(url)?;
        }
        self.zone()?;
        if !self.is_tls() && !self.insecure_http && !self.listen.ip().is_loopback() {
            return Err(ConfigError::PlainBeyondLoopback(self.listen));
        }
        Ok(())
    }
}

/// Reads a configuration file.
///
/// # Errors
/// When it cannot be read.
pub fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn within(key: &'static str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::Value {
            key: key.to_owned(),
            reason: format!("lies outside {least} to {most}"),
        })
    }
}

/// A scheme and a host, nothing behind: links are made by appending paths.
fn check_public_url(url: &str) -> Result<(), ConfigError> {
    let uri: Option<warp::http::Uri> = url.parse().ok();
    let fits = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.path() == "/"
            && uri.query().is_none()
            && !url.ends_with('/')
    });
    if fits {
        Ok(())
    } else {
        Err(ConfigError::value(
            "public_url",
            "is not of the form https://host or https://host:port",
        ))
    }
}

/// What is wrong with the file, without the line itself: it may hold the token.
fn describe(error: &toml::de::Error) -> String {
    error.message().to_owned()
}

#[cfg(test)]
mod tests;
