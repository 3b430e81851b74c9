//! Settings as text: how a value of each type is read from a variable or a flag, and what may be wrong with it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use seodang_model::Token;

use super::LogFormat;

/// A key of the configuration as the command line shows it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key in the file.
    pub name: &'static str,
    /// What it does, with unit and range.
    pub help: &'static str,
    /// Whether it is on or off, so that its flag needs no value.
    pub is_switch: bool,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path:?} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("configuration file: {0}")]
    File(String),
    /// A variable with our prefix that names no key.
    #[error("the environment variable {0} is not known")]
    UnknownVariable(String),
    /// A flag that names no key.
    #[error("the flag {0} is not known")]
    UnknownFlag(String),
    /// A value does not fit.
    #[error("{key} {reason}")]
    Value {
        /// The key, variable or flag.
        key: String,
        /// Completes the sentence.
        reason: String,
    },
    /// Faces and voices must not travel in the clear by accident.
    #[error(
        "plain HTTP on {0}, beyond this machine, is refused: use --lan, a certificate, or --insecure-http behind a TLS proxy"
    )]
    PlainBeyondLoopback(SocketAddr),
}

impl ConfigError {
    pub(super) fn value(key: &str, reason: &str) -> Self {
        Self::Value {
            key: key.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// Why a layer does not take a text.
pub(super) enum SetError {
    Unknown,
    Value(&'static str),
}

impl SetError {
    pub(super) fn of_variable(self, variable: &str) -> ConfigError {
        match self {
            Self::Unknown => ConfigError::UnknownVariable(variable.to_owned()),
            Self::Value(reason) => ConfigError::value(variable, reason),
        }
    }

    pub(super) fn of_flag(self, key: &str) -> ConfigError {
        let flag = format!("--{}", key.replace('_', "-"));
        match self {
            Self::Unknown => ConfigError::UnknownFlag(flag),
            Self::Value(reason) => ConfigError::value(&flag, reason),
        }
    }
}

/// A value read from a variable or a flag; the error completes the sentence "KEY ...".
pub(super) trait FromText: Sized {
    const IS_SWITCH: bool = false;

    fn from_text(text: &str) -> Result<Self, &'static str>;

    /// What [`Self::from_text`] takes; `None` where there is nothing to show.
    fn to_text(&self) -> Option<String>;
}

impl FromText for bool {
    const IS_SWITCH: bool = true;

    fn from_text(text: &str) -> Result<Self, &'static str> {
        match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("is neither true nor false"),
        }
    }

    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromText for LogFormat {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is neither text nor json"),
        }
    }

    fn to_text(&self) -> Option<String> {
        Some(match self {
            Self::Text => "text".to_owned(),
            Self::Json => "json".to_owned(),
        })
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        Ok(text.to_owned())
    }

    fn to_text(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            Err("is empty")
        } else {
            Ok(Self::from(text))
        }
    }

    fn to_text(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl FromText for Token {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            Err("is empty")
        } else {
            Ok(Self::presented(text))
        }
    }

    fn to_text(&self) -> Option<String> {
        // A secret.
        None
    }
}

impl FromText for SocketAddr {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        text.parse()
            .map_err(|_| "is no address with a port such as 127.0.0.1:8080")
    }

    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromText for IpAddr {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        text.trim().parse().map_err(|_| "is no IP address")
    }

    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromText for Vec<IpAddr> {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        text.split(',')
            .filter(|part| !part.trim().is_empty())
            .map(IpAddr::from_text)
            .collect()
    }

    fn to_text(&self) -> Option<String> {
        let texts: Vec<String> = self.iter().map(IpAddr::to_string).collect();
        (!texts.is_empty()).then(|| texts.join(","))
    }
}

impl<T: FromText> FromText for Option<T> {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        T::from_text(text).map(Some)
    }

    fn to_text(&self) -> Option<String> {
        self.as_ref().and_then(T::to_text)
    }
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl FromText for $kind {
            fn from_text(text: &str) -> Result<Self, &'static str> {
                text.parse().map_err(|_| "is no number in range")
            }

            fn to_text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64);
