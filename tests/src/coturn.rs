//! Debian's TURN server as a process of its own on loopback, with a shared secret.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// What a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running coturn; it ends when this is dropped.
#[derive(Debug)]
pub struct Coturn {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Coturn {
    /// Starts one that takes credentials signed with `secret`.
    ///
    /// # Errors
    /// When it is not installed or does not listen in time.
    pub fn start(secret: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder")?;
        let free = UdpSocket::bind("127.0.0.1:0").context("a free port")?;
        let address = free.local_addr()?;
        drop(free);
        let file = |name: &str| folder.path().join(name).display().to_string();
        let process = Command::new("turnserver")
            // Nothing of the machine's own configuration.
            .args([
                "-n",
                "--no-cli",
                "--no-tls",
                "--no-dtls",
                "--no-rfc5780",
                "--no-stdout-log",
            ])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--listening-port", &address.port().to_string()])
            .args(["--allow-loopback-peers", "--realm", "seodang.test"])
            .args(["--use-auth-secret", "--static-auth-secret", secret])
            .args(["--pidfile", &file("pid"), "--userdb", &file("users")])
            .args(["--log-file", &file("log"), "--simple-log"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("turnserver; scripts/setup installs it")?;
        let server = Self {
            process,
            address,
            _folder: folder,
        };
        let end = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).is_err() {
            anyhow::ensure!(Instant::now() < end, "turnserver does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where it listens, UDP and TCP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        // Its own child by its id; it has nothing to finish.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
