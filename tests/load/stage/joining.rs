//! How people come into rooms, are connected and see what they asked for.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use anyhow::Context as _;
use seodang_model::protocol::{ClientMessage, Offer, ViewSlot};
use seodang_model::{ParticipantId, Source};

use super::{PATIENCE, Stage, Target};
use crate::crew::Note;
use crate::fanout::Watch;
use crate::janus::JanusSession;
use crate::peer::{Peer, PeerId, Purpose, Sends};
use crate::signaling::{Seat, Wish};
use crate::wire::Faults;

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
}
