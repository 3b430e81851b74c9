//! All participants of the class on one thread: one socket and one sans-I/O connection each.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use seodang_model::Source;
use seodang_model::protocol::{ClientMessage, Offer, ViewSlot};
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc};

use crate::clip::{Camera, Microphone, Record};
use crate::signaling;
use crate::tally::Tally;

/// How long a join may take.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// What a participant does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) sends: bool,
    pub(crate) slots: usize,
    pub(crate) voices: usize,
    pub(crate) camera_bps: u32,
}

/// Everybody in the class.
#[derive(Debug)]
pub(crate) struct Class {
    poll: Poll,
    epoch: Instant,
    everyone: Vec<Participant>,
    joins_ms: Vec<f64>,
    tally: Option<Tally>,
}

#[derive(Debug)]
struct Participant {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    signaling: signaling::Seat,
    video_slots: Vec<Mid>,
    sending: Option<Sending>,
    timeout: Instant,
    connected: bool,
}

#[derive(Debug)]
struct Sending {
    since: Option<Instant>,
    camera: Camera,
    camera_mid: Mid,
    camera_sequence: u64,
    microphone: Microphone,
    microphone_mid: Mid,
    microphone_sequence: u64,
}

impl Class {
    pub(crate) fn new() -> Self {
        str0m::crypto::from_feature_flags().install_process_default();
        let poll = Poll::new().expect("the kernel has epoll");
        Self {
            poll,
            epoch: Instant::now(),
            everyone: Vec::new(),
            joins_ms: Vec::new(),
            tally: None,
        }
    }

    /// One more participant joins and is connected.
    pub(crate) async fn join(
        &mut self,
        server: SocketAddr,
        room: &str,
        host_token: Option<&str>,
        seat: Seat,
        consent: bool,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let std_socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        std_socket.set_nonblocking(true)?;
        socket2::SockRef::from(&std_socket).set_recv_buffer_size(4 << 20)?;
        let mut socket = UdpSocket::from_std(std_socket);
        let local = socket.local_addr()?;
        self.poll
            .registry()
            .register(&mut socket, Token(self.everyone.len()), Interest::READABLE)?;

        let mut rtc = Rtc::builder()
            .clear_codecs()
            .enable_vp8(true)
            .enable_opus(true, false)
            .set_rtp_mode(true)
            .build(started);
        rtc.add_local_candidate(Candidate::host(local, "udp")?);
        let mut change = rtc.sdp_api();
        let mut sources = BTreeMap::new();
        let sending = seat.sends.then(|| {
            let camera_mid = change.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
            let microphone_mid = change.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
            sources.insert(camera_mid.to_string(), Source::Camera);
            sources.insert(microphone_mid.to_string(), Source::Microphone);
            Sending {
                since: None,
                camera: Camera::new(seat.camera_bps),
                camera_mid,
                camera_sequence: 1,
                microphone: Microphone::default(),
                microphone_mid,
                microphone_sequence: 1,
            }
        });
        let mut slots = |kind, count: usize| -> Vec<Mid> {
            (0..count)
                .map(|_| change.add_media(kind, Direction::RecvOnly, None, None, None))
                .collect()
        };
        let video_slots = slots(MediaKind::Video, seat.slots);
        let audio_slots = slots(MediaKind::Audio, seat.voices);
        let (offer, pending) = change.apply().context("an offer")?;
        let offer = Offer {
            connection: 1,
            sdp: offer.to_sdp_string(),
            sources,
            slots: video_slots
                .iter()
                .chain(&audio_slots)
                .map(Mid::to_string)
                .collect(),
            lips: Default::default(),
        };
        let name = format!("load {}", self.everyone.len());
        let (signaling, answer) =
            signaling::Seat::take(server, room, host_token, name, consent, offer).await?;
        rtc.sdp_api()
            .accept_answer(pending, SdpAnswer::from_sdp_string(&answer)?)?;
        if seat.sends {
            for source in [Source::Camera, Source::Microphone] {
                signaling.send(ClientMessage::Publish { source }).await?;
            }
        }
        self.everyone.push(Participant {
            rtc,
            socket,
            local,
            signaling,
            video_slots,
            sending,
            timeout: started,
            connected: false,
        });
        while !self
            .everyone
            .last()
            .is_some_and(|participant| participant.connected)
        {
            if started.elapsed() > JOIN_PATIENCE {
                bail!(
                    "participant {} is not connected after {JOIN_PATIENCE:?}",
                    self.everyone.len()
                );
            }
            self.turn(Instant::now() + Duration::from_millis(2))?;
        }
        self.joins_ms.push(started.elapsed().as_secs_f64() * 1_000.0);
        Ok(())
    }

    /// Everyone asks for the cameras of the others, as many as there are slots.
    pub(crate) async fn watch_each_other(&mut self) -> anyhow::Result<()> {
        let cameras: Vec<_> = self
            .everyone
            .iter()
            .filter(|participant| participant.sending.is_some())
            .map(|participant| participant.signaling.participant)
            .collect();
        for participant in &self.everyone {
            let others = cameras
                .iter()
                .filter(|other| **other != participant.signaling.participant);
            let slots = participant
                .video_slots
                .iter()
                .zip(others)
                .map(|(mid, other)| ViewSlot {
                    mid: mid.to_string(),
                    participant: *other,
                    source: Source::Camera,
                    width: 640,
                    height: 360,
                })
                .collect();
            participant
                .signaling
                .send(ClientMessage::View { generation: 1, slots })
                .await?;
        }
        Ok(())
    }

    /// Sends and receives for a while.
    pub(crate) fn play(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(end)?;
        }
        Ok(())
    }

    /// Packets count from here on.
    pub(crate) fn begin_measuring(&mut self) {
        self.tally = Some(Tally::default());
    }

    /// What was counted since.
    pub(crate) fn tally(&mut self) -> Tally {
        let mut tally = self.tally.take().unwrap_or_default();
        tally.settle(&self.joins_ms);
        tally
    }

    /// Everybody leaves.
    pub(crate) async fn leave(self) {
        for participant in self.everyone {
            // The server may be gone already; then there is nobody to tell.
            let _ = participant.signaling.send(ClientMessage::Leave).await;
        }
    }

    /// Waits for the next packet, frame or timer, at most until `end`, and handles what is due.
    fn turn(&mut self, end: Instant) -> anyhow::Result<()> {
        let next = self
            .everyone
            .iter()
            .map(Participant::wakes_at)
            .min()
            .unwrap_or(end)
            .min(end);
        let mut events = Events::with_capacity(256);
        let wait = next.saturating_duration_since(Instant::now());
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let index = event.token().0;
            self.everyone[index].receive(index, self.epoch, &mut self.tally)?;
        }
        for (index, participant) in self.everyone.iter_mut().enumerate() {
            participant.send_due(self.epoch)?;
            participant.drain(index, self.epoch, &mut self.tally)?;
        }
        Ok(())
    }
}

impl Participant {
    fn wakes_at(&self) -> Instant {
        let sending = self
            .sending
            .as_ref()
            .filter(|_| self.connected)
            .and_then(|sending| {
                let since = sending.since?;
                Some(since + sending.camera.next_at().min(sending.microphone.next_at()))
            });
        sending.map_or(self.timeout, |at| at.min(self.timeout))
    }

    /// Reads the socket empty. The connection holds one event at a time: what is not taken before the next datagram
    /// goes in is gone.
    fn receive(&mut self, index: usize, epoch: Instant, tally: &mut Option<Tally>) -> anyhow::Result<()> {
        let mut buffer = [0_u8; 2_048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, source)) => {
                    let contents = buffer[..length].try_into()?;
                    let receive = Receive {
                        proto: Protocol::Udp,
                        source,
                        destination: self.local,
                        contents,
                    };
                    self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
                    self.drain(index, epoch, tally)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send_due(&mut self, epoch: Instant) -> anyhow::Result<()> {
        let now = Instant::now();
        let Some(sending) = self.sending.as_mut().filter(|_| self.connected) else {
            return Ok(());
        };
        let since = *sending.since.get_or_insert(now);
        while since + sending.camera.next_at() <= now {
            let at = sending.camera.next_at();
            let packets = sending.camera.next(epoch);
            let last = packets.len() - 1;
            let pt = *self
                .rtc
                .media(sending.camera_mid)
                .context("a camera line")?
                .remote_pts()
                .first()
                .context("VP8")?;
            let mut api = self.rtc.direct_api();
            let stream = api
                .stream_tx_by_mid(sending.camera_mid, None)
                .context("a camera stream")?;
            for (index, payload) in packets.into_iter().enumerate() {
                let sequence: SeqNo = sending.camera_sequence.into();
                sending.camera_sequence += 1;
                let time = (at.as_secs_f64() * 90_000.0) as u32;
                stream.write_rtp(
                    RtpWrite::new(pt, sequence, time, now, payload)
                        .marker(index == last)
                        .nackable(true),
                );
            }
        }
        while since + sending.microphone.next_at() <= now {
            let at = sending.microphone.next_at();
            let payload = sending.microphone.next(epoch);
            let pt = *self
                .rtc
                .media(sending.microphone_mid)
                .context("a microphone line")?
                .remote_pts()
                .first()
                .context("Opus")?;
            let mut api = self.rtc.direct_api();
            let stream = api
                .stream_tx_by_mid(sending.microphone_mid, None)
                .context("a microphone stream")?;
            let sequence: SeqNo = sending.microphone_sequence.into();
            sending.microphone_sequence += 1;
            let time = (at.as_secs_f64() * 48_000.0) as u32;
            let spoken = ExtensionValues {
                audio_level: Some(-30),
                voice_activity: Some(true),
                ..Default::default()
            };
            stream.write_rtp(RtpWrite::new(pt, sequence, time, now, payload).ext_vals(spoken));
        }
        Ok(())
    }

    fn drain(&mut self, index: usize, epoch: Instant, tally: &mut Option<Tally>) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.timeout <= now {
            self.rtc.handle_input(Input::Timeout(now))?;
        }
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    match self.socket.send_to(&transmit.contents, transmit.destination) {
                        Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
                        _ => {}
                    }
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::KeyframeRequest(_)) => {
                    if let Some(sending) = &mut self.sending {
                        sending.camera.wish_key_frame();
                    }
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    if let (Some(tally), Some(record)) = (tally.as_mut(), Record::read(&packet.payload)) {
                        tally.take(
                            index,
                            *packet.header.ssrc,
                            record,
                            epoch.elapsed().as_micros() as u64,
                        );
                    }
                }
                Output::Event(_) => {}
            }
        }
    }
}
