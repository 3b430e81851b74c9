//! What is missing or wrong on this machine, in plain words, each with the mend.

mod ways;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use seodang_sfu::{WANTED_RECEIVE_BUFFER_BYTES, granted_receive_buffer_bytes};

use crate::config::Config;
use crate::data::{DataError, DataFolder};
use crate::tls::{Identity, interface_addresses};
use crate::{disk, elements};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub what: String,
    /// What to do about it; empty when nothing has to be done.
    pub mend: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, but not as well as it could.
    Weak,
    /// Something will not work.
    Bad,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "ok  ",
            Verdict::Weak => "weak",
            Verdict::Bad => "BAD ",
        };
        write!(f, "{verdict}  {}", self.what)?;
        if !self.mend.is_empty() {
            write!(f, "\n      -> {}", self.mend)?;
        }
        Ok(())
    }
}

fn good(what: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Good,
        what: what.into(),
        mend: String::new(),
    }
}

fn weak(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Weak,
        what: what.into(),
        mend: mend.into(),
    }
}

fn bad(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Bad,
        what: what.into(),
        mend: mend.into(),
    }
}

/// Looks at everything that `serve` with this configuration needs. Blocks; changes nothing but makes the data folder.
#[must_use]
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let data = DataFolder::open(&config.data);
    let runs = matches!(data, Err(DataError::InUse { .. }));
    findings.push(data_folder(config, data.as_ref().err()));
    drop(data);
    findings.extend(disk_space(config));
    if runs {
        findings.push(good("ports: in use by the seodang that uses this data folder"));
    } else {
        findings.push(tcp_port(config.bind_address()));
        findings.extend(media_ports(config));
        findings.extend(ways::ways_in(config));
    }
    findings.push(ways::media_addresses(config));
    findings.extend(ways::turn_servers(config));
    findings.extend(granted_receive_buffer_bytes().ok().map(receive_buffer));
    findings.extend(open_files(config, disk::most_open_files()));
    findings.extend(certificate(config, UnixTime::now()));
    findings.extend(gstreamer());
    findings.extend(packages());
    findings
}

fn data_folder(config: &Config, error: Option<&DataError>) -> Finding {
    let path = config.data.display();
    match error {
        None => match tempfile_in(config) {
            Ok(()) => good(format!("data folder {path}: writable, for its owner only")),
            Err(error) => bad(
                format!("data folder {path}: cannot be written ({error})"),
                format!("give the folder to the user that runs seodang: sudo chown -R $USER {path}"),
            ),
        },
        Some(DataError::InUse { .. }) => good(format!("data folder {path}: in use by a running seodang")),
        Some(DataError::TooOpen { mode, .. }) => bad(
            format!("data folder {path}: others on this machine can read it (mode {mode:o})"),
            format!("chmod 700 {path}"),
        ),
        Some(DataError::Unusable { source, .. }) => bad(
            format!("data folder {path}: {source}"),
            "choose another with --data, or give it to the user that runs seodang",
        ),
    }
}

/// Whether a file can be made and removed.
fn tempfile_in(config: &Config) -> io::Result<()> {
    let path = config.data.join(format!(".doctor-{}", std::process::id()));
    std::fs::write(&path, b"seodang")?;
    std::fs::remove_file(&path)
}

fn disk_space(config: &Config) -> Option<Finding> {
    const GIGA: u64 = 1_000_000_000;
    let space = disk::space(&config.data).ok()?;
    let (free_gb, percent) = (
        space.free_bytes / GIGA,
        space.free_bytes * 100 / space.total_bytes.max(1),
    );
    let what = format!("disk: {free_gb} GB free ({percent} %)");
    // A class of 30 for an hour: camera and voice at 700 kbit/s each.
    let mend = "a class of 30 writes about 10 GB an hour: free space, or put --data on a larger disk";
    Some(if space.free_bytes < (5 * GIGA).min(space.total_bytes / 20) {
        bad(what, mend)
    } else if space.free_bytes < (10 * GIGA).min(space.total_bytes / 10) {
        weak(what, mend)
    } else {
        good(what)
    })
}

fn tcp_port(address: SocketAddr) -> Finding {
    let port = address.port();
    match TcpListener::bind(address) {
        Ok(_) => good(format!("pages: {address} (TCP) is free")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bad(
            format!("pages: {address} (TCP) needs a right that this user has not"),
            "choose a port from 1024 up with --listen, or: sudo setcap cap_net_bind_service=+ep $(which seodang)",
        ),
        Err(error) => bad(
            format!("pages: cannot listen on {address} (TCP): {error}"),
            format!("see who uses it with: ss -ltnp 'sport = :{port}', or choose another with --listen"),
        ),
    }
}

fn media_ports(config: &Config) -> Vec<Finding> {
    if config.media_port == 0 {
        return vec![weak(
            format!(
                "media: the system chooses the ports ({}) anew at each start",
                ways::transports(config)
            ),
            "set media_port, so that a firewall can be opened for it",
        )];
    }
    let bind = ways::bindable(config.media_bind);
    let tcp = |address| config.media_tcp.then(|| TcpListener::bind(address)).transpose();
    (0..config.media_workers())
        .map(|worker| SocketAddr::new(bind, config.media_port + worker))
        .map(|address| match (UdpSocket::bind(address), tcp(address)) {
            (Ok(_), Ok(_)) => good(format!(
                "media: {address} ({}) is free; open it in the firewall for browsers elsewhere",
                ways::transports(config)
            )),
            (Ok(_), Err(error)) => weak(
                format!("media: {address} (UDP) is free, but not for TCP: {error}"),
                format!(
                    "browsers whose network lets no UDP out cannot join; see who uses it with: ss -ltnp 'sport = :{}', or set media_port, or \
                     media_tcp = false",
                    address.port()
                ),
            ),
            (Err(error), _) => bad(
                format!("media: cannot open {address} (UDP): {error}"),
                format!(
                    "see who uses it with: ss -lunp 'sport = :{}', or set media_port",
                    address.port()
                ),
            ),
        })
        .collect()
}

/// What a media socket is granted, with the rights of whoever asks: some may go beyond the limit.
fn receive_buffer(granted_bytes: usize) -> Finding {
    const WANTED_BYTES: usize = WANTED_RECEIVE_BUFFER_BYTES;
    if granted_bytes >= WANTED_BYTES {
        good(format!("media: receive buffer of {granted_bytes} bytes"))
    } else {
        weak(
            format!("media: receive buffer of {granted_bytes} bytes; large classes need {WANTED_BYTES}"),
            format!(
                "sudo sysctl -w net.core.rmem_max={WANTED_BYTES} net.core.wmem_max={WANTED_BYTES}, and both in /etc/sysctl.d/seodang.conf"
            ),
        )
    }
}

fn open_files(config: &Config, most: Option<u64>) -> Option<Finding> {
    let most = most?;
    let connections = u64::from(config.connections).min(most / 4 * 3);
    Some(if connections < u64::from(config.connections) {
        weak(
            format!("open files: the limit of {most} allows {connections} connections"),
            "raise it: ulimit -n 65536, or LimitNOFILE=65536 in the service's unit",
        )
    } else {
        good(format!("open files: up to {most}"))
    })
}

fn certificate(config: &Config, now: UnixTime) -> Vec<Finding> {
    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    if !config.is_tls() {
        let host = if config.insecure_http {
            "plain HTTP (TLS is a proxy's matter)"
        } else {
            "plain HTTP on loopback"
        };
        return vec![good(format!(
            "TLS: none, {host}; browsers elsewhere need --lan or a certificate"
        ))];
    }
    if config.tls_certificate.is_none() && !config.data.join("tls/certificate.pem").exists() {
        return vec![good("TLS: a self-signed certificate is made at the first start")];
    }
    let identity = match Identity::of_config(config) {
        Ok(Some(identity)) => identity,
        Ok(None) => return Vec::new(),
        Err(error) => {
            return vec![bad(
                format!("TLS: {error}"),
                "check tls_certificate and tls_key; for a fresh self-signed one remove the folder tls in the data folder",
            )];
        }
    };
    let mut findings = vec![match identity.server_config() {
        Ok(_) => good(format!("TLS: certificate {}", identity.fingerprint())),
        Err(error) => bad(
            format!("TLS: {error}"),
            "give the key that belongs to the certificate",
        ),
    }];
    if !identity.is_self_signed {
        return findings;
    }
    let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + MONTH);
    if !identity.lasts_until(later) {
        findings.push(weak(
            "TLS: the self-signed certificate ends soon",
            "it is renewed at the next start",
        ));
    }
    let unnamed: Vec<String> = interface_addresses(false)
        .iter()
        .map(ToString::to_string)
        .filter(|address| !identity.names(address))
        .collect();
    if !unnamed.is_empty() {
        findings.push(weak(
            format!(
                "TLS: the self-signed certificate does not name {}",
                unnamed.join(", ")
            ),
            "browsers warn anyway; for a fresh one remove the folder tls in the data folder",
        ));
    }
    findings
}

fn gstreamer() -> Vec<Finding> {
    let missing = match elements::missing() {
        Ok(missing) => missing,
        Err(error) => {
            return vec![bad(
                format!("GStreamer does not start: {error}"),
                "sudo apt install libgstreamer1.0-0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good",
            )];
        }
    };
    elements::ELEMENTS
        .iter()
        .map(|element| {
            if missing.contains(element) {
                bad(
                    format!(
                        "GStreamer: {} is missing, needed for {}",
                        element.name, element.needed_for
                    ),
                    format!("sudo apt install {}", element.package),
                )
            } else {
                good(format!("GStreamer: {} ({})", element.name, element.package))
            }
        })
        .collect()
}

/// Debian versions with the security fixes for what we feed with strangers' bytes.
const PACKAGES: [(&str, &str); 3] = [
    ("gstreamer1.0-plugins-good", "1.22.0-5+deb12u4"),
    ("gstreamer1.0-plugins-base", "1.22.0-3+deb12u7"),
    ("libvpx7", "1.12.0-1+deb12u5"),
];

/// Empty where there is no dpkg: then somebody else looks after the versions.
fn packages() -> Vec<Finding> {
    PACKAGES
        .iter()
        .filter_map(|(package, wanted)| {
            let query = Command::new("dpkg-query")
                .args(["-W", "-f=${Version}", package])
                .output()
                .ok()?;
            let version = String::from_utf8(query.stdout)
                .ok()
                .filter(|version| !version.is_empty())?;
            let new_enough = Command::new("dpkg")
                .args(["--compare-versions", &version, "ge", wanted])
                .status()
                .ok()?;
            Some(if new_enough.success() {
                good(format!("{package}: {version}"))
            } else {
                weak(
                    format!("{package}: {version} lacks security fixes of {wanted}"),
                    format!("sudo apt update && sudo apt install {package}"),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(data: &std::path::Path) -> Config {
        Config {
            data: data.to_owned(),
            listen: "127.0.0.1:0".parse().expect("an address"),
            media_port: 0,
            ..Config::default()
        }
    }

    #[test]
    fn a_sound_machine_has_nothing_bad() {
        let folder = tempfile::tempdir().expect("a folder");
        let findings = examine(&config(&folder.path().join("data")));
        let bad: Vec<_> = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Bad)
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert!(findings.iter().any(|finding| finding.what.contains("webmmux")));
        for finding in &findings {
            assert_eq!(
                finding.verdict == Verdict::Good,
                finding.mend.is_empty(),
                "{finding}"
            );
        }
    }

    #[test]
    fn an_open_folder_and_a_taken_port_are_bad_and_have_a_mend() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("writable");
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let config = Config {
            listen: taken.local_addr().expect("bound"),
            ..config(&data)
        };
        let bad: Vec<_> = examine(&config)
            .into_iter()
            .filter(|finding| finding.verdict == Verdict::Bad)
            .collect();
        assert_eq!(bad.len(), 2, "{bad:?}");
        assert!(bad[0].mend.contains("chmod 700") && bad[1].mend.contains("ss -ltnp"));
    }

    #[test]
    fn a_small_receive_buffer_names_the_sysctl() {
        let finding = receive_buffer(212_992);
        assert_eq!(finding.verdict, Verdict::Weak);
        assert!(finding.mend.contains("net.core.rmem_max=8388608"));
        let granted = granted_receive_buffer_bytes().expect("loopback can be bound");
        let enough = granted >= WANTED_RECEIVE_BUFFER_BYTES;
        assert_eq!(receive_buffer(granted).verdict == Verdict::Good, enough);
    }
}
