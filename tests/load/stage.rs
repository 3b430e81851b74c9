//! A server and the people in its rooms: what every scenario begins with.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use seodang_model::protocol::{ClientMessage, Offer, ViewSlot};
use seodang_model::{ParticipantId, RoomKind, Source};
use serde::Serialize;

use crate::clip::Clip;
use crate::crew::{Crew, Note, Outcome};
use crate::fanout::{Fanout, Watch};
use crate::floor::{FloorConfig, FloorReport};
use crate::janus::JanusSession;
use crate::machine::{Moment, Usage};
use crate::peer::{Peer, PeerId, Purpose, Sends};
use crate::server::Server;
use crate::signaling::{Room, Seat, Wish, create_room};
use crate::wire::Faults;

/// Which server is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This program.
    Seodang,
    /// Debian's Janus, for comparison; needs `--address` with an address that is not a loopback one.
    Janus,
}

/// What all scenarios can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// Which server is under test.
    #[arg(long, value_enum, default_value = "seodang")]
    target: Target,
    /// The program under test, best a release build; `janus` for the target of that name.
    #[arg(long, default_value = "target/release/seodang")]
    server: PathBuf,
    /// Media workers of the server.
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// How much nicer than this tool the server is to other programs; below zero it goes first, as where it has the machine to
    /// itself (needs root).
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    server_nice: i8,
    /// The address at which media is exchanged.
    #[arg(long, default_value = "127.0.0.1")]
    address: Ipv4Addr,
    /// Threads that play the participants.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Bits per second of each camera (640x360, 25 pictures a second).
    #[arg(long, default_value_t = 600_000)]
    pub(crate) camera_bps: u32,
    /// Cameras send three encodings (160x90, 320x180, 640x360; a tenth, a quarter and all of the bits).
    #[arg(long)]
    pub(crate) simulcast: bool,
    /// Everyone agrees to recording and captures.
    #[arg(long)]
    pub(crate) recorded: bool,
    /// Seconds before measuring begins, after everybody sees everything.
    #[arg(long, default_value_t = 1.5)]
    settle_s: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 6.0)]
    pub(crate) window_s: f64,
    /// Seconds for which the floor is measured afterwards, half of them in each of two ways; 0 leaves it out.
    #[arg(long, default_value_t = 4.0)]
    floor_s: f64,
    /// Microseconds for which the floor gathers packets in the second of its two ways.
    #[arg(long, default_value_t = 1_000)]
    floor_gather_us: u64,
}

impl Common {
    /// How long is measured.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.window_s)
    }

    /// How long nothing is done before.
    pub(crate) fn settle(&self) -> Duration {
        Duration::from_secs_f64(self.settle_s)
    }

    fn clips(&self) -> anyhow::Result<Vec<Arc<Clip>>> {
        let bps = self.camera_bps;
        let sizes = [(160, 90, bps / 10), (320, 180, bps / 4), (640, 360, bps)];
        let from = if self.simulcast { 0 } else { 2 };
        sizes[from..]
            .iter()
            .map(|(width, height, bps)| Clip::encode(*width, *height, *bps))
            .collect()
    }
}

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

/// Somebody in a room.
#[derive(Debug)]
pub(crate) struct Person {
    /// The connection on which they receive.
    pub(crate) peer: PeerId,
    pub(crate) participant: Option<ParticipantId>,
    pub(crate) seat: Option<Seat>,
    pub(crate) camera_slots: Vec<String>,
    generation: u32,
    janus: Option<(JanusSession, Option<u64>)>,
}

impl Person {
    /// Asks for these cameras, in slots from the first on.
    pub(crate) async fn view(&mut self, cameras: &[ParticipantId], small: bool) -> anyhow::Result<()> {
        let Some(seat) = &self.seat else { return Ok(()) };
        let (width, height) = if small { (320, 180) } else { (640, 360) };
        self.generation += 1;
        let slots = self
            .camera_slots
            .iter()
            .zip(cameras)
            .map(|(mid, participant)| ViewSlot {
                mid: mid.clone(),
                participant: *participant,
                source: Source::Camera,
                width,
                height,
            });
        let generation = self.generation;
        seat.send(ClientMessage::View {
            generation,
            slots: slots.collect(),
        })
        .await
    }
}

impl Stage {
    /// Starts the server; nobody is there yet. `kind` and number of the rooms.
    pub(crate) async fn open(
        common: &Common,
        fanout: Fanout,
        kind: RoomKind,
        rooms: usize,
    ) -> anyhow::Result<Self> {
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

    /// Everybody joins and is connected, one after the other. `faults` are those of everybody's way up and down.
    pub(crate) async fn fill(&mut self, faults: (Faults, Faults)) -> anyhow::Result<()> {
        let classes = self.rooms.len().max(1);
        let (in_class, sources) = (
            self.fanout.subscribers.len() / classes,
            self.fanout.sources / classes,
        );
        for number in 0..self.fanout.subscribers.len() {
            let (class, place) = (number / in_class.max(1), number % in_class.max(1));
            let source = (place < sources).then(|| (class * sources + place) as u16);
            let watch = self.fanout.subscribers[number].clone();
            let person = self.join(class, number, source, &watch, faults).await?;
            self.people.push(person);
        }
        Ok(())
    }

    /// One person joins and is connected.
    pub(crate) async fn join(
        &mut self,
        class: usize,
        participant: usize,
        source: Option<u16>,
        watch: &Watch,
        faults: (Faults, Faults),
    ) -> anyhow::Result<Person> {
        let sends = source.map(|source| Sends {
            source,
            clips: self.clips.clone(),
        });
        let purpose = Purpose {
            participant,
            sends,
            cameras: watch.cameras.len(),
            // The last audio slot is kept for the sound of a screen.
            microphones: watch.microphones.len() + usize::from(!watch.microphones.is_empty()),
            up: faults.0,
            down: faults.1,
        };
        let started = Instant::now();
        let person = match self.common.target {
            Target::Seodang => self.join_seodang(class, participant, &purpose).await?,
            Target::Janus => self.join_janus(participant, &purpose).await?,
        };
        if self.common.target == Target::Seodang || source.is_some() {
            let join_ms = self.connected(person.peer, started).await?;
            self.joins_ms.push(join_ms);
        }
        Ok(person)
    }

    async fn join_seodang(
        &mut self,
        class: usize,
        participant: usize,
        purpose: &Purpose,
    ) -> anyhow::Result<Person> {
        let mut peer = self.open_peer(purpose)?;
        let offered = peer.offer(purpose)?;
        let room = &self.rooms[class];
        let offer = Offer {
            connection: 1,
            sdp: offered.sdp.clone(),
            sources: peer.sources(),
            slots: peer.slots(),
            restart: false,
            lips: BTreeMap::new(),
        };
        let both = [Source::Camera, Source::Microphone];
        let wish = Wish {
            room: &room.number,
            // In a seminar only a host publishes; every publisher of the tool holds the host token.
            host_token: purpose.sends.is_some().then_some(room.host_token.as_str()),
            name: format!("load {participant}"),
            consent: self.common.recorded,
            offer,
            publishes: if purpose.sends.is_some() { &both } else { &[] },
            peer: self.crew.handle(peer.id),
        };
        let (seat, answer) = Seat::take(self.server.address(), wish).await?;
        peer.accept(offered, &answer)?;
        let person = Person {
            peer: peer.id,
            participant: Some(seat.participant),
            seat: Some(seat),
            camera_slots: peer.camera_slots(),
            generation: 0,
            janus: None,
        };
        self.crew.add(peer)?;
        Ok(person)
    }

    /// Publishes; subscribing is another connection, made in [`Self::watch`].
    async fn join_janus(&mut self, participant: usize, purpose: &Purpose) -> anyhow::Result<Person> {
        let mut session = JanusSession::open(self.server.address()).await?;
        let sending = Purpose {
            cameras: 0,
            microphones: 0,
            ..purpose.clone()
        };
        let mut peer = self.open_peer(&sending)?;
        let mut feed = None;
        let id = peer.id;
        if purpose.sends.is_some() {
            let offered = peer.offer(&sending)?;
            let (answer, number) = session
                .publish(&format!("load {participant}"), &offered.sdp)
                .await?;
            peer.accept(offered, &answer)?;
            self.crew.add(peer)?;
            feed = Some(number);
        }
        Ok(Person {
            peer: id,
            participant: None,
            seat: None,
            camera_slots: Vec::new(),
            generation: 0,
            janus: Some((session, feed)),
        })
    }

    fn open_peer(&mut self, purpose: &Purpose) -> anyhow::Result<Peer> {
        let peer = Peer::open(self.next_peer, self.common.address, purpose)?;
        self.next_peer += 1;
        Ok(peer)
    }

    /// Everyone asks for what the fan-out gives them, and is waited for until they see all of it.
    pub(crate) async fn watch(&mut self, faults: (Faults, Faults)) -> anyhow::Result<()> {
        let mut missing = HashSet::new();
        for number in 0..self.people.len() {
            let cameras = self.fanout.subscribers[number].cameras.clone();
            if self.people[number].janus.is_some() {
                self.subscribe_janus(number, &cameras, faults).await?;
            } else {
                let awaited = cameras.iter().map(|camera| *camera as u16).collect();
                self.crew.await_pictures(self.people[number].peer, awaited)?;
                let shown = self.participants(&cameras);
                let small = self.common.simulcast;
                self.people[number].view(&shown, small).await?;
            }
            let peer = self.people[number].peer;
            missing.extend(cameras.iter().map(|camera| (peer, *camera as u16)));
        }
        let deadline = Instant::now() + PATIENCE;
        for (peer, source, _) in std::mem::take(&mut self.pictures) {
            missing.remove(&(peer, source));
        }
        while !missing.is_empty() {
            match self.note(deadline).await {
                Ok(Note::Picture { peer, source, .. }) => {
                    missing.remove(&(peer, source));
                }
                Ok(Note::Connected { .. }) => {}
                Err(error) => return Err(error.context(format!("{} pictures never came", missing.len()))),
            }
        }
        Ok(())
    }

    async fn subscribe_janus(
        &mut self,
        number: usize,
        cameras: &[usize],
        faults: (Faults, Faults),
    ) -> anyhow::Result<()> {
        if cameras.is_empty() {
            return Ok(());
        }
        let people = &self.people;
        let feeds: Vec<u64> = cameras
            .iter()
            .filter_map(|camera| people[*camera].janus.as_ref()?.1)
            .collect();
        let purpose = Purpose {
            participant: number,
            up: faults.0,
            down: faults.1,
            ..Purpose::default()
        };
        let started = Instant::now();
        let mut peer = self.open_peer(&purpose)?;
        let id = peer.id;
        peer.await_pictures(cameras.iter().map(|camera| *camera as u16).collect());
        let (session, feed) = self.people[number].janus.as_mut().context("a session")?;
        let is_watcher = feed.is_none();
        let (handle, offer) = session.subscribe(&feeds).await?;
        let answer = peer.answer(&offer)?;
        session.start(handle, &answer).await?;
        self.crew.add(peer)?;
        self.people[number].peer = id;
        let join_ms = self.connected(id, started).await?;
        if is_watcher {
            self.joins_ms.push(join_ms);
        }
        Ok(())
    }

    /// Who sends these cameras.
    pub(crate) fn participants(&self, cameras: &[usize]) -> Vec<ParticipantId> {
        let classes = self.rooms.len().max(1);
        let (in_class, sources) = (
            self.fanout.subscribers.len() / classes,
            self.fanout.sources / classes,
        );
        cameras
            .iter()
            .filter_map(|camera| self.people[camera / sources * in_class + camera % sources].participant)
            .collect()
    }

    async fn connected(&mut self, wanted: PeerId, started: Instant) -> anyhow::Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .note(deadline)
                .await
                .context("a participant is not connected")?
            {
                Note::Connected { peer } if peer == wanted => {
                    return Ok(started.elapsed().as_secs_f64() * 1e3);
                }
                Note::Connected { .. } => {}
                Note::Picture { peer, source, at } => self.pictures.push((peer, source, at)),
            }
        }
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

    /// Measures the window while nothing else is done.
    pub(crate) async fn measure(&mut self) -> anyhow::Result<Usage> {
        tokio::time::sleep(self.common.settle()).await;
        let before = self.begin()?;
        tokio::time::sleep(self.common.window()).await;
        self.end(before)
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

impl Common {
    /// The floor under a fan-out, if it is wanted: the cheaper of two ways, with and without waiting for more packets. Waiting
    /// makes larger batches, but where little comes it only wakes the thread once more.
    pub(crate) fn floor(&self, fanout: &Fanout) -> anyhow::Result<Option<FloorReport>> {
        if self.floor_s <= 0.0 {
            return Ok(None);
        }
        let bps = if self.simulcast {
            self.camera_bps / 4
        } else {
            self.camera_bps
        };
        let mut lowest: Option<FloorReport> = None;
        for gather_us in [0, self.floor_gather_us] {
            let report = crate::floor::measure(&FloorConfig {
                fanout: fanout.clone(),
                camera_bps: bps,
                gather: Duration::from_micros(gather_us),
                window: Duration::from_secs_f64(self.floor_s / 2.0),
                address: self.address,
            })?;
            let cheaper = |lowest: &FloorReport| report.us_a_forwarded_packet < lowest.us_a_forwarded_packet;
            if lowest.as_ref().is_none_or(cheaper) {
                lowest = Some(report);
            }
        }
        Ok(lowest)
    }

    /// What every line of results begins with.
    pub(crate) fn head(&self, scenario: &str) -> serde_json::Value {
        serde_json::json!({
            "scenario": scenario, "target": self.target, "camera_bps": self.camera_bps,
            "simulcast": self.simulcast, "recorded": self.recorded, "workers": self.workers,
            "client_threads": self.threads, "server_nice": self.server_nice,
        })
    }
}

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);
