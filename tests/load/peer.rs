//! One connection: an independent stack (str0m), its socket, and what it counts.
//!
//! Three hundred of them share the machine with the server they measure. So the stack runs its timers and is asked for what
//! it has to send once for each waking, not once for each packet: it is told that a packet of media came just before its
//! timers ran last. Every packet is authenticated, decrypted, numbered and asked for again by it all the same.

mod offer;
mod sending;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::net::UdpSocket;
use seodang_model::Source;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{DatagramSend, Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, Input, Output, Rtc};

use crate::clip::Record;
use crate::crew::{Note, Shared};
use crate::post::{Post, Received};
use crate::tally::Tally;
use crate::wire::{Faults, Wire, WireCounts, is_rtp};
use sending::Sending;
pub(crate) use sending::Sends;

/// Number of a connection within the tool.
pub(crate) type PeerId = usize;

/// What a connection is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Purpose {
    /// Whose packets it counts: the number of the participant.
    pub(crate) participant: usize,
    /// What it sends.
    pub(crate) sends: Option<Sends>,
    /// Lines it receives cameras on.
    pub(crate) cameras: usize,
    /// Lines it receives microphones on.
    pub(crate) microphones: usize,
    /// Faults of the way up and down, once faults are in effect.
    pub(crate) up: Faults,
    /// As above.
    pub(crate) down: Faults,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) socket: UdpSocket,
    participant: usize,
    rtc: Rtc,
    local: SocketAddr,
    /// Where it last sent to.
    server: Option<SocketAddr>,
    camera_slots: Vec<Mid>,
    slots: Vec<Mid>,
    sending: Option<Sending>,
    /// The last time the stack was told.
    clock: Instant,
    /// When it is to be told the time again.
    timeout: Instant,
    /// How much later that may be once media flows.
    slack: Duration,
    connected: bool,
    /// What the stack sends, until the end of a waking.
    outgoing: Vec<(DatagramSend, SocketAddr)>,
    /// Cameras of which the first key frame is to be told.
    awaited: HashSet<u16>,
    up: Wire,
    down: Wire,
    stuck_asked_at: HashMap<u16, Instant>,
    /// Streams of which what is missing is asked for again.
    repaired: Vec<u32>,
}

/// An offer and what is needed to take its answer.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) sdp: String,
    pending: SdpPendingOffer,
}

impl Peer {
    /// Opens a socket and a connection.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub(crate) fn open(id: PeerId, address: Ipv4Addr, purpose: &Purpose) -> anyhow::Result<Self> {
        str0m::crypto::from_feature_flags().install_process_default();
        let socket = std::net::UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
        Post::note_arrivals(&socket)?;
        let options = socket2::SockRef::from(&socket);
        options.set_recv_buffer_size(BUFFER_BYTES)?;
        options.set_send_buffer_size(BUFFER_BYTES)?;
        let socket = UdpSocket::from_std(socket);
        let local = socket.local_addr()?;
        let now = Instant::now();
        let mut builder = Rtc::builder()
            .clear_codecs()
            .enable_vp8(true)
            .enable_opus(true, false)
            .set_rtp_mode(true);
        let resends: Vec<u8> = builder
            .codec_config()
            .params()
            .iter()
            .filter_map(|params| params.resend().map(|pt| *pt))
            .collect();
        let mut rtc = builder.build(now);
        rtc.add_local_candidate(Candidate::host(local, "udp")?);
        let seed = id as u64 * 2;
        let faultless = purpose.up.is_none() && purpose.down.is_none();
        Ok(Self {
            id,
            socket,
            participant: purpose.participant,
            rtc,
            local,
            server: None,
            camera_slots: Vec::new(),
            slots: Vec::new(),
            sending: None,
            clock: now,
            timeout: now,
            slack: if faultless { TIMER_SLACK } else { Duration::ZERO },
            connected: false,
            outgoing: Vec::new(),
            awaited: HashSet::new(),
            up: Wire::new(seed, purpose.up, resends.clone()),
            down: Wire::new(seed + 1, purpose.down, resends),
            stuck_asked_at: HashMap::new(),
            repaired: Vec::new(),
        })
    }

    /// The offer of everything the purpose names.
    ///
    /// # Errors
    /// When the stack makes none.
    pub(crate) fn offer(&mut self, purpose: &Purpose) -> anyhow::Result<Offered> {
        let mut change = self.rtc.sdp_api();
        self.sending = purpose
            .sends
            .as_ref()
            .map(|sends| Sending::offer(sends, &mut change));
        let mut slots = |kind, count: usize| -> Vec<Mid> {
            (0..count)
                .map(|_| change.add_media(kind, Direction::RecvOnly, None, None, None))
                .collect()
        };
        self.camera_slots = slots(MediaKind::Video, purpose.cameras);
        let microphone_slots = slots(MediaKind::Audio, purpose.microphones);
        self.slots = [&self.camera_slots[..], &microphone_slots].concat();
        let (offer, pending) = change.apply().context("an offer")?;
        Ok(Offered {
            sdp: offer::as_browsers_offer(&offer.to_sdp_string()),
            pending,
        })
    }

    /// Takes the answer to its offer.
    ///
    /// # Errors
    /// When the answer does not fit.
    pub(crate) fn accept(&mut self, offered: Offered, answer: &str) -> anyhow::Result<()> {
        let answer = SdpAnswer::from_sdp_string(answer)?;
        Ok(self.rtc.sdp_api().accept_answer(offered.pending, answer)?)
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// When the offer cannot be read.
    pub(crate) fn answer(&mut self, offer: &str) -> anyhow::Result<String> {
        let answer = self
            .rtc
            .sdp_api()
            .accept_offer(SdpOffer::from_sdp_string(offer)?)?;
        Ok(answer.to_sdp_string())
    }

    /// Which line of the offer carries which source, by mid.
    pub(crate) fn sources(&self) -> BTreeMap<String, Source> {
        let Some(sending) = &self.sending else {
            return BTreeMap::new();
        };
        BTreeMap::from([
            (sending.camera_mid.to_string(), Source::Camera),
            (sending.microphone_mid.to_string(), Source::Microphone),
        ])
    }

    /// All receiving lines in order, by mid.
    pub(crate) fn slots(&self) -> Vec<String> {
        self.slots.iter().map(Mid::to_string).collect()
    }

    /// Those for cameras.
    pub(crate) fn camera_slots(&self) -> Vec<String> {
        self.camera_slots.iter().map(Mid::to_string).collect()
    }

    /// The first key frame of each of these cameras is told from here on.
    pub(crate) fn await_pictures(&mut self, cameras: HashSet<u16>) {
        self.awaited = cameras;
    }

    /// Sends the encodings with these names and no others.
    pub(crate) fn choose_layers(&mut self, rids: &[String]) {
        if let Some(sending) = &mut self.sending {
            sending.choose_layers(rids);
        }
    }

    /// Counts of the ways up and down.
    pub(crate) fn wires(&self) -> (WireCounts, WireCounts) {
        (self.up.counts, self.down.counts)
    }

    /// Media can flow.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// When it wants [`Self::play`] to be called.
    pub(crate) fn wakes_at(&self) -> Instant {
        let sending = self.sending.as_ref().and_then(Sending::next_at);
        [sending, self.up.next_at(), self.down.next_at()]
            .into_iter()
            .flatten()
            .fold(self.timeout, Instant::min)
    }

    /// Reads the socket empty.
    ///
    /// # Errors
    /// When the connection ended.
    pub(crate) fn receive(
        &mut self,
        post: &mut Post,
        shared: &Shared,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let faulty = shared.is_faulty();
        loop {
            let count = post.read(&self.socket)?;
            for index in 0..count {
                let received = post.received(index);
                if self.down.pass(received.at, received.bytes, faulty) {
                    self.take(received, shared, tally)?;
                }
            }
            if count < Post::BATCH {
                return Ok(());
            }
        }
    }

    /// Sends what is due, runs its timers and sends what they make.
    ///
    /// # Errors
    /// When the connection ended.
    pub(crate) fn play(&mut self, post: &mut Post, shared: &Shared, tally: &mut Tally) -> anyhow::Result<()> {
        let now = Instant::now();
        // Faults begin when everybody is connected, so where to is known.
        if let Some(source) = self.server {
            while let Some(bytes) = self.down.arrived(now) {
                let received = Received {
                    bytes: &bytes,
                    source,
                    at: now,
                };
                self.take(received, shared, tally)?;
            }
            while let Some(bytes) = self.up.arrived(now) {
                self.outgoing.push((bytes.into(), source));
            }
        }
        if self.connected
            && let Some(sending) = &mut self.sending
        {
            sending.write_due(&mut self.rtc, now, shared.epoch)?;
        }
        self.rtc.handle_input(Input::Timeout(now))?;
        self.clock = now;
        while let Some(event) = self.poll(shared)? {
            self.handle_event(event, now, shared, tally);
        }
        post.send(&self.socket, &mut self.outgoing)
    }

    /// Hands a datagram to the stack, which holds one packet at a time: it is taken before the next datagram goes in.
    fn take(&mut self, received: Received<'_>, shared: &Shared, tally: &mut Tally) -> anyhow::Result<()> {
        let media = is_rtp(received.bytes);
        // Anything else is answered in this waking.
        let now = Instant::now();
        let (told, answered) = if media {
            let before_timers = self.clock - Duration::from_nanos(1);
            (received.at.min(before_timers), now + self.slack)
        } else {
            self.clock = now;
            (now, now)
        };
        let datagram = Receive {
            proto: Protocol::Udp,
            source: received.source,
            destination: self.local,
            contents: received.bytes.try_into()?,
        };
        self.rtc.handle_input(Input::Receive(told, datagram))?;
        while let Some(event) = self.poll(shared)? {
            let was_packet = matches!(event, Event::RtpPacket(_));
            self.handle_event(event, received.at, shared, tally);
            if was_packet {
                break;
            }
        }
        self.timeout = self.timeout.min(answered);
        Ok(())
    }

    /// The stack's next event; with none, all it has to send is in `outgoing`.
    fn poll(&mut self, shared: &Shared) -> anyhow::Result<Option<Event>> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => {
                    self.timeout = if self.connected { at + self.slack } else { at };
                    return Ok(None);
                }
                Output::Transmit(transmit) => {
                    let to = transmit.destination;
                    self.server = Some(to);
                    if self
                        .up
                        .pass(Instant::now(), &transmit.contents, shared.is_faulty())
                    {
                        self.outgoing.push((transmit.contents, to));
                    }
                }
                Output::Event(event) => return Ok(Some(event)),
            }
        }
    }

    fn handle_event(&mut self, event: Event, at: Instant, shared: &Shared, tally: &mut Tally) {
        match event {
            Event::Connected => {
                self.connected = true;
                shared.tell(Note::Connected { peer: self.id });
            }
            Event::KeyframeRequest(request) => {
                if let Some(sending) = &mut self.sending {
                    sending.wish_key_frame(request.rid);
                }
            }
            Event::RtpPacket(packet) => self.count(&packet, at, shared, tally),
            _ => {}
        }
    }

    fn count(&mut self, packet: &RtpPacket, at: Instant, shared: &Shared, tally: &mut Tally) {
        let Some(record) = Record::read(&packet.payload) else {
            return;
        };
        if !self.repaired.contains(&packet.header.ssrc) {
            self.repaired.push(*packet.header.ssrc);
            // Left alone, the stack asks only where resends have a stream of their own.
            if let Some(stream) = self.rtc.direct_api().stream_rx(&packet.header.ssrc) {
                stream.suppress_nack(false);
            }
        }
        let at_us = (at - shared.epoch).as_micros() as u64;
        let progress = tally.take(self.participant, record, at_us, shared.window());
        if progress.key_frame && self.awaited.remove(&record.source) {
            shared.tell(Note::Picture {
                peer: self.id,
                source: record.source,
                at,
            });
        }
        if progress.stuck {
            let asked_at = self.stuck_asked_at.get(&record.source);
            if asked_at.is_none_or(|asked_at| at - *asked_at > ASK_PERIOD) {
                self.stuck_asked_at.insert(record.source, at);
                let mut api = self.rtc.direct_api();
                if let Some(stream) = api.stream_rx(&packet.header.ssrc) {
                    stream.request_keyframe(KeyframeRequestKind::Pli);
                }
            }
        }
    }
}

/// What each socket asks for: hundreds of milliseconds of thirty cameras.
const BUFFER_BYTES: usize = 4 << 20;
/// How often a picture that stands still asks for a key frame.
const ASK_PERIOD: Duration = Duration::from_millis(500);
/// How late timers of the stack may run where nothing is lost: who sends is awake every 20 ms, and most of its timers look for
/// what is missing every 33 ms.
const TIMER_SLACK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_for_a_class_of_thirty_fits_into_a_message() {
        let purpose = Purpose {
            sends: Some(Sends {
                source: 0,
                clips: Vec::new(),
            }),
            cameras: 29,
            microphones: 30,
            ..Purpose::default()
        };
        let mut peer = Peer::open(0, Ipv4Addr::LOCALHOST, &purpose).expect("a socket");
        let offered = peer.offer(&purpose).expect("an offer");
        assert_eq!(offered.sdp.matches("m=video").count(), 30);
        assert_eq!(offered.sdp.matches("m=audio").count(), 31);
        let escaped = serde_json::to_string(&offered.sdp).expect("JSON");
        assert!(escaped.len() < 60_000, "{}", escaped.len());
    }
}
