//! The program as a process of its own, for what only a process can suffer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::PATIENCE;

/// A running `seodang serve`; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    /// Starts it on loopback with this data folder and free ports, and waits for its address.
    ///
    /// # Errors
    /// When the program was not built, or prints no address in time.
    pub async fn serve(data: &Path) -> anyhow::Result<Self> {
        let binary = server_binary()?;
        let mut child = Command::new(&binary)
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
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
        let address = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await? {
                let host = line
                    .split("http://")
                    .nth(1)
                    .and_then(|rest| rest.split('/').next());
                if let Some(address) = host.and_then(|host| host.parse().ok()) {
                    return Ok(address);
                }
            }
            anyhow::bail!("the program ended without printing an address")
        });
        let address = address.await.context("address")??;
        Ok(Self { child, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it with SIGKILL, as a power button does, and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// The program beside the tests: `SEODANG_BIN`, or the one cargo built into the same folder.
///
/// # Errors
/// When it was not built.
pub fn server_binary() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("SEODANG_BIN") {
        return Ok(PathBuf::from(binary));
    }
    let test = std::env::current_exe().context("own path")?;
    let folder = test.parent().and_then(Path::parent).context("target folder")?;
    let binary = folder.join("seodang");
    ensure!(
        binary.exists(),
        "{} is missing: cargo build -p seodang-signal",
        binary.display()
    );
    Ok(binary)
}
