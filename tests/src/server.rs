//! The real server on free ports with a data folder of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use seodang_signal::config::Config;
use seodang_signal::server::{self, Server};
use tokio_util::sync::CancellationToken;

/// A running server; its folder is removed when this is dropped.
#[derive(Debug)]
pub struct TestServer {
    config: Config,
    address: SocketAddr,
    running: Option<(Server, CancellationToken)>,
    _folder: tempfile::TempDir,
}

impl TestServer {
    /// Starts one with the defaults: plain HTTP and media on loopback, free ports.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// Starts one with changed settings.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("seodang-test-")
            .tempdir()
            .context("data folder")?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut config = Config {
            listen: SocketAddr::new(loopback, 0),
            data: folder.path().join("data"),
            media_port: 0,
            media_addresses: vec![loopback],
            ..Config::default()
        };
        change(&mut config);
        let (server, stop) = launch(&config).await?;
        let address = server.address();
        Ok(Self {
            config,
            address,
            running: Some((server, stop)),
            _folder: folder,
        })
    }

    /// Address for participants, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Address for HTTP requests.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.config.data
    }

    /// Folder of the recordings.
    #[must_use]
    pub fn recordings(&self) -> PathBuf {
        self.config.recordings_folder()
    }

    /// Folder of the captures.
    #[must_use]
    pub fn captures(&self) -> PathBuf {
        self.config.captures_folder()
    }

    /// Stops the server as SIGTERM does and waits until everything is finished.
    pub async fn stop(&mut self) {
        if let Some((server, stop)) = self.running.take() {
            stop.cancel();
            server.finished().await;
        }
    }

    /// Stops it and starts it again with the same address and folder.
    ///
    /// # Errors
    /// When it does not start again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        self.config.listen = self.address;
        self.running = Some(launch(&self.config).await?);
        Ok(())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some((_, stop)) = &self.running {
            stop.cancel();
        }
    }
}

async fn launch(config: &Config) -> anyhow::Result<(Server, CancellationToken)> {
    let stop = CancellationToken::new();
    let server = server::start(config.clone(), stop.clone())
        .await
        .context("server")?;
    Ok((server, stop))
}
