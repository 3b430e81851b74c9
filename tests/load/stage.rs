//! A server and the people in its rooms: what every scenario begins with.

mod common;
mod joining;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use seodang_model::RoomKind;
use seodang_model::protocol::ClientMessage;

use crate::apart::Halves;
use crate::clip::Clip;
use crate::crew::{Crew, Note, Outcome};
use crate::fanout::Fanout;
use crate::janus::JanusSession;
use crate::machine::{Moment, Usage};
use crate::peer::PeerId;
use crate::server::Server;
use crate::signaling::{Room, create_room};
use crate::traffic::{Batches, Traffic};
pub(crate) use common::Common;
use common::Target;
pub(crate) use joining::Person;

/// A server with people.
#[derive(Debug)]
pub(crate) struct Stage {
    common: Common,
    pub(crate) server: Server,
    pub(crate) crew: Crew,
    clips: Vec<Arc<Clip>>,
    rooms: Vec<Room>,
    pub(crate) fanout: Fanout,
    /// In the order of the fan-out's subscribers; those who send first in each class.
    pub(crate) people: Vec<Person>,
    /// From opening the WebSocket to a connected media path.
    pub(crate) joins_ms: Vec<f64>,
    pub(crate) idle_bytes: u64,
    /// Pictures that were told while something else was waited for.
    pub(crate) pictures: Vec<(PeerId, u16, Instant)>,
    next_peer: PeerId,
}

impl Stage {
    /// Starts the server; nobody is there yet. `kind` and number of the rooms.
    pub(crate) async fn open(
        common: &Common,
        fanout: Fanout,
        kind: RoomKind,
        rooms: usize,
    ) -> anyhow::Result<Self> {
        if common.apart {
            Halves::get()?.take_tools()?;
        }
        let clips = common.clips()?;
        let address = IpAddr::V4(common.address);
        let server = match common.target {
            Target::Seodang => {
                Server::start_seodang(&common.server, address, common.workers, common.server_nice)?
            }
            Target::Janus => {
                ensure!(
                    !address.is_loopback(),
                    "janus has no candidates on loopback: give --address"
                );
                ensure!(rooms == 1, "one room is played with janus");
                Server::start_janus(&common.server, address)?
            }
        };
        if common.apart {
            Halves::get()?.give_server(server.process())?;
        }
        let idle_bytes = server.process().resident_bytes()?;
        let mut stage = Self {
            common: common.clone(),
            server,
            crew: Crew::start(common.threads)?,
            clips,
            rooms: Vec::new(),
            fanout,
            people: Vec::new(),
            joins_ms: Vec::new(),
            idle_bytes,
            pictures: Vec::new(),
            next_peer: 0,
        };
        match common.target {
            Target::Seodang => {
                for _ in 0..rooms {
                    stage.rooms.push(create_room(stage.server.address(), kind).await?);
                }
            }
            Target::Janus => {
                let mut session = JanusSession::open(stage.server.address()).await?;
                session.create_room(stage.fanout.sources).await?;
            }
        }
        Ok(stage)
    }

    /// The next thing some connection experiences.
    pub(crate) async fn note(&mut self, deadline: Instant) -> anyhow::Result<Note> {
        let next = tokio::time::timeout_at(deadline.into(), self.crew.notes.recv());
        match next.await {
            Ok(Some(note)) => Ok(note),
            Ok(None) => bail!("the threads of the tool ended"),
            Err(_) => bail!("nothing happens any more"),
        }
    }

    /// Measures the window while nothing else is done. Seodang says in which batches it forwarded.
    pub(crate) async fn measure(&mut self) -> anyhow::Result<(Usage, Option<Batches>)> {
        tokio::time::sleep(self.common.settle()).await;
        let traffic = self.traffic().await?;
        let before = self.begin()?;
        tokio::time::sleep(self.common.window()).await;
        let usage = self.end(before)?;
        let batches = self.traffic().await?.zip(traffic);
        Ok((usage, batches.map(|(after, before)| after.since(before))))
    }

    async fn traffic(&self) -> anyhow::Result<Option<Traffic>> {
        Ok(match self.common.target {
            Target::Seodang => Some(Traffic::of(self.server.address()).await?),
            Target::Janus => None,
        })
    }

    /// The measured time begins.
    pub(crate) fn begin(&self) -> anyhow::Result<Moment> {
        self.crew.begin();
        Moment::take(self.server.process())
    }

    /// The measured time ends.
    pub(crate) fn end(&self, before: Moment) -> anyhow::Result<Usage> {
        let after = Moment::take(self.server.process())?;
        self.crew.end();
        after.since(before)
    }

    /// Waits for what is under way, tells everybody to leave and ends the server.
    pub(crate) async fn close(self, drain: Duration) -> anyhow::Result<Outcome> {
        tokio::time::sleep(drain).await;
        let outcome = self.crew.stop()?;
        for person in &self.people {
            if let Some(seat) = &person.seat {
                // The server may be gone already; then there is nobody to tell.
                let _ = seat.send(ClientMessage::Leave).await;
            }
        }
        self.server.stop()?;
        Ok(outcome)
    }
}

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);
