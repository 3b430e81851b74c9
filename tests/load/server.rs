//! The server under test as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::machine::Process;

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
        Self::start_seodang(program, Ipv4Addr::LOCALHOST.into(), 1, 0)
    }

    /// Starts `program serve` with an empty data folder and media at this address, `nice` to others by so much more than
    /// this program.
    pub(crate) fn start_seodang(
        program: &Path,
        media: IpAddr,
        workers: u16,
        nice: i8,
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut child = Command::new("nice")
            .args(["-n", &nice.to_string(), "--"])
            .arg(program)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--media-port",
                "0",
                "--log",
                "warn",
            ])
            .args(["--room-capacity", "500", "--media-addresses", &media.to_string()])
            .args(["--workers", &workers.to_string()])
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

    /// Starts Janus with its videoroom and its WebSocket alone, and media at this address, which
    /// must not be a loopback one.
    pub(crate) fn start_janus(program: &Path, media: IpAddr) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        drop(listener);
        std::fs::write(data.path().join("janus.jcfg"), janus_config(media))?;
        std::fs::write(
            data.path().join("janus.transport.websockets.jcfg"),
            format!(
                "general: {{ json = \"compact\" ws = true ws_port = {} ws_ip = \"127.0.0.1\" wss = false }}\n",
                address.port()
            ),
        )?;
        let mut child = Command::new(program)
            .arg("--configs-folder")
            .arg(data.path())
            .arg("--config")
            .arg(data.path().join("janus.jcfg"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("janus ended at once: {status}");
            }
            if begin.elapsed() > START_PATIENCE {
                // Already gone, then.
                let _ = child.kill();
                bail!("janus does not listen after {START_PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { child, address, data })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data folder, which goes with it.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// The process, for what the kernel says about it.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
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

/// Everything off but the videoroom and the WebSocket; no session ends by silence.
fn janus_config(media: IpAddr) -> String {
    format!(
        r#"general: {{ debug_level = 2 session_timeout = 0 log_to_stdout = true }}
media: {{ ipv6 = false }}
nat: {{ nice_debug = false full_trickle = false ice_enforce_list = "{media}" }}
plugins: {{ disable = "libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so" }}
transports: {{ disable = "libjanus_http.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so" }}
loggers: {{ disable = "libjanus_jsonlog.so" }}
events: {{ broadcast = false }}
"#
    )
}

/// How long a server may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(10);
