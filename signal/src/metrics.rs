//! Counters of the house itself, written as Prometheus text; no names and no rooms in labels.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start. Cheap to count, read now and then.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(Route, u16), u64>>,
    accepts_failed: AtomicU64,
    tls_failed: AtomicU64,
    write_stalls: AtomicU64,
    download_bytes: AtomicU64,
}

/// Groups of addresses, few enough to be a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Pages and what they load.
    Pages,
    /// JSON and files under `/api/`.
    Api,
    /// Probes and metrics.
    Health,
}

impl Route {
    /// The group of a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "/livez" | "/readyz" | "/metrics" => Self::Health,
            _ if path.starts_with("/api/") => Self::Api,
            _ => Self::Pages,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Api => "api",
            Self::Health => "health",
        }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, route: Route, status: u16) {
        let mut requests = self.requests.lock().expect("counting does not panic");
        *requests.entry((route, status)).or_default() += 1;
    }

    /// The system refused a connection.
    pub fn accept_failed(&self) {
        self.accepts_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A TLS handshake failed or took too long.
    pub fn tls_failed(&self) {
        self.tls_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was closed because its other end read nothing.
    pub fn write_stalled(&self) {
        self.write_stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of recordings and captures were handed to a connection.
    pub fn downloaded(&self, bytes: u64) {
        self.download_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All counters in the Prometheus text format, version 0.0.4.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        text.push_str("# TYPE seodang_http_requests_total counter\n");
        for ((route, code), count) in &*self.requests.lock().expect("counting does not panic") {
            let route = route.as_str();
            line(
                &mut text,
                &format!("seodang_http_requests_total{{route=\"{route}\",code=\"{code}\"}}"),
                *count,
            );
        }
        for (name, counter) in [
            ("seodang_accept_failures_total", &self.accepts_failed),
            ("seodang_tls_failures_total", &self.tls_failed),
            ("seodang_write_stalls_total", &self.write_stalls),
            ("seodang_download_bytes_total", &self.download_bytes),
        ] {
            counter_line(&mut text, name, counter.load(Ordering::Relaxed));
        }
        text
    }
}

/// A counter with its type.
pub fn counter_line(text: &mut String, name: &str, value: u64) {
    writeln!(text, "# TYPE {name} counter").expect("writing to a string does not fail");
    line(text, name, value);
}

/// A value that goes up and down, with its type.
pub fn gauge_line(text: &mut String, name: &str, value: u64) {
    writeln!(text, "# TYPE {name} gauge").expect("writing to a string does not fail");
    line(text, name, value);
}

fn line(text: &mut String, name: &str, value: u64) {
    writeln!(text, "{name} {value}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_group_and_code() {
        let metrics = Metrics::default();
        metrics.answered(Route::of("/api/v1/rooms/secret-room"), 404);
        metrics.answered(Route::of("/api/v1/rooms/another"), 404);
        metrics.answered(Route::of("/class/secret-room"), 200);
        let text = metrics.to_text();
        assert!(text.contains("seodang_http_requests_total{route=\"api\",code=\"404\"} 2\n"));
        assert!(text.contains("seodang_http_requests_total{route=\"pages\",code=\"200\"} 1\n"));
        assert!(!text.contains("secret"));
    }
}
