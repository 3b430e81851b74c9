//! The server under test as a process of its own, and what the kernel says it used.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// A running server; killed on drop.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// What the data folder lies in.
    data: tempfile::TempDir,
}

impl Server {
    /// Starts `program serve` on free loopback ports with an empty data folder.
    pub(crate) fn start(program: &Path) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut child = Command::new(program)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--media-port",
                "0",
                "--media-addresses",
                "127.0.0.1",
                "--log",
                "warn",
            ])
            // A folder of its own making: the server refuses one that others may read.
            .arg("--data")
            .arg(data.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let output = child.stdout.take().context("the output is piped")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some(rest) = line.split("http://").nth(1) {
                let address = rest.split(['/', ' ']).next().unwrap_or(rest).parse()?;
                return Ok(Self { child, address, data });
            }
        }
        bail!("the server ended without saying where it listens")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data folder, which goes with it.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Time that all threads of the server spent on a processor.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut total = Duration::ZERO;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end between listing and reading.
            if let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) {
                let nanoseconds = text.split(' ').next().unwrap_or("0").parse()?;
                total += Duration::from_nanos(nanoseconds);
            }
        }
        Ok(total)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("a VmRSS line")?;
        let kibibytes: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kibibytes * 1024)
    }

    /// Ends the server.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
