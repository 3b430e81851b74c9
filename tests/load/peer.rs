//! One connection: an independent stack (str0m), its socket, what it sends and what it counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::net::UdpSocket;
use seodang_model::Source;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Rid, Simulcast, SimulcastLayer};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc};

use crate::clip::{Camera, Clip, Microphone, Record};
use crate::crew::{Note, Shared};
use crate::tally::Tally;
use crate::wire::{Faults, Wire, WireCounts};

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

/// A camera and a microphone.
#[derive(Clone, Debug)]
pub(crate) struct Sends {
    /// The number in the records.
    pub(crate) source: u16,
    /// One encoding, or those of simulcast, the smallest first.
    pub(crate) clips: Vec<Arc<Clip>>,
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
    timeout: Instant,
    connected: bool,
    /// Cameras of which the first key frame is to be told.
    awaited: HashSet<u16>,
    up: Wire,
    down: Wire,
    stuck_asked_at: HashMap<u16, Instant>,
    /// Streams of which what is missing is asked for again.
    repaired: HashSet<u32>,
}

/// What a sender keeps for sending again, as browsers do: str0m by itself stops at 15 % of what it sends.
const RESENDABLE_PACKETS: usize = 1_024;
/// So long.
const RESENDABLE_FOR: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Sending {
    source: u16,
    since: Option<Instant>,
    camera_mid: Mid,
    cameras: Vec<Encoding>,
    microphone_mid: Mid,
    microphone: Microphone,
    microphone_sequence: u64,
}

#[derive(Debug)]
struct Encoding {
    rid: Option<Rid>,
    camera: Camera,
    /// Switched off by the server when nobody needs it.
    on: bool,
    sequence: u64,
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
    pub(crate) fn open(id: PeerId, address: IpAddr, purpose: &Purpose) -> anyhow::Result<Self> {
        str0m::crypto::from_feature_flags().install_process_default();
        let socket = std::net::UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
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
            timeout: now,
            connected: false,
            awaited: HashSet::new(),
            up: Wire::new(seed, purpose.up, resends.clone()),
            down: Wire::new(seed + 1, purpose.down, resends),
            stuck_asked_at: HashMap::new(),
            repaired: HashSet::new(),
        })
    }

    /// The offer of everything the purpose names.
    ///
    /// # Errors
    /// When the stack makes none.
    pub(crate) fn offer(&mut self, purpose: &Purpose) -> anyhow::Result<Offered> {
        let mut change = self.rtc.sdp_api();
        if let Some(sends) = &purpose.sends {
            let rids = &RIDS[RIDS.len().saturating_sub(sends.clips.len())..];
            let simulcast = (sends.clips.len() > 1).then(|| Simulcast {
                send: rids.iter().map(|rid| SimulcastLayer::new(rid)).collect(),
                recv: Vec::new(),
            });
            let cameras = sends
                .clips
                .iter()
                .enumerate()
                .map(|(layer, clip)| Encoding {
                    rid: simulcast.is_some().then(|| Rid::from(rids[layer])),
                    camera: Camera::new(Arc::clone(clip), sends.source, layer as u8),
                    on: true,
                    sequence: 1,
                })
                .collect();
            let camera_mid = change.add_media(MediaKind::Video, Direction::SendOnly, None, None, simulcast);
            let microphone_mid = change.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
            self.sending = Some(Sending {
                source: sends.source,
                since: None,
                camera_mid,
                cameras,
                microphone_mid,
                microphone: Microphone::new(sends.source),
                microphone_sequence: 1,
            });
        }
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
            sdp: as_browsers_offer(&offer.to_sdp_string()),
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
        for encoding in self.sending.iter_mut().flat_map(|sending| &mut sending.cameras) {
            let on = encoding
                .rid
                .is_none_or(|rid| rids.iter().any(|name| **name == *rid));
            if on && !encoding.on {
                encoding.camera.wish_key_frame();
            }
            encoding.on = on;
        }
    }

    /// Counts of the ways up and down.
    pub(crate) fn wires(&self) -> (WireCounts, WireCounts) {
        (self.up.counts, self.down.counts)
    }

    /// When it wants [`Self::play`] to be called.
    pub(crate) fn wakes_at(&self) -> Instant {
        let sending = self
            .sending
            .as_ref()
            .filter(|_| self.connected)
            .and_then(|sending| {
                let since = sending.since?;
                let next = sending
                    .cameras
                    .iter()
                    .map(|encoding| encoding.camera.next_at())
                    .min()?;
                Some(since + next.min(sending.microphone.next_at()))
            });
        [sending, self.up.next_at(), self.down.next_at()]
            .into_iter()
            .flatten()
            .fold(self.timeout, Instant::min)
    }

    /// Reads the socket empty. The connection holds one event at a time: what is not taken before the next datagram
    /// goes in is gone.
    ///
    /// # Errors
    /// When the connection ended.
    pub(crate) fn receive(&mut self, shared: &Shared, tally: &mut Tally) -> anyhow::Result<()> {
        let mut buffer = [0_u8; 2_048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, source)) => {
                    let now = Instant::now();
                    if self.down.pass(now, &buffer[..length], shared.is_faulty()) {
                        self.take(now, source, &buffer[..length], shared, tally)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // A server that is gone is noticed by who started it.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends what is due and runs its timers.
    ///
    /// # Errors
    /// When the connection ended.
    pub(crate) fn play(&mut self, shared: &Shared, tally: &mut Tally) -> anyhow::Result<()> {
        let now = Instant::now();
        // Faults begin when everybody is connected, so where to is known.
        if let Some(server) = self.server {
            while let Some(datagram) = self.down.arrived(now) {
                self.take(now, server, &datagram, shared, tally)?;
            }
            while let Some(datagram) = self.up.arrived(now) {
                self.transmit(&datagram, server)?;
            }
        }
        self.send_due(now, shared)?;
        if self.timeout <= now {
            self.rtc.handle_input(Input::Timeout(now))?;
        }
        self.drain(shared, tally)
    }

    fn take(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
        shared: &Shared,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let receive = Receive {
            proto: Protocol::Udp,
            source,
            destination: self.local,
            contents: datagram.try_into()?,
        };
        self.rtc.handle_input(Input::Receive(now, receive))?;
        self.drain(shared, tally)
    }

    fn send_due(&mut self, now: Instant, shared: &Shared) -> anyhow::Result<()> {
        let Some(sending) = self.sending.as_mut().filter(|_| self.connected) else {
            return Ok(());
        };
        // Sources are shifted against each other by the golden ratio, so that few send at the same time.
        let shift = Duration::from_millis(40).mul_f64(f64::from(sending.source) * 0.618_034 % 1.0);
        if sending.since.is_none() {
            for encoding in &sending.cameras {
                let mut api = self.rtc.direct_api();
                let stream = api
                    .stream_tx_by_mid(sending.camera_mid, encoding.rid)
                    .context("a camera stream")?;
                stream.set_rtx_cache(RESENDABLE_PACKETS, RESENDABLE_FOR, None);
            }
        }
        let since = *sending.since.get_or_insert_with(|| {
            let frames = now.duration_since(shared.epoch).as_millis() as u64 / 40 + 1;
            shared.epoch + Duration::from_millis(40 * frames) + shift
        });
        for encoding in &mut sending.cameras {
            while since + encoding.camera.next_at() <= now {
                let at = encoding.camera.next_at();
                if !encoding.on {
                    encoding.camera.skip();
                    continue;
                }
                let packets = encoding.camera.next(shared.epoch);
                let last = packets.len() - 1;
                let media = self.rtc.media(sending.camera_mid).context("a camera line")?;
                let pt = *media.remote_pts().first().context("VP8")?;
                let mut api = self.rtc.direct_api();
                let stream = api
                    .stream_tx_by_mid(sending.camera_mid, encoding.rid)
                    .context("a camera stream")?;
                for (index, payload) in packets.into_iter().enumerate() {
                    let sequence: SeqNo = encoding.sequence.into();
                    encoding.sequence += 1;
                    let time = (at.as_secs_f64() * 90_000.0) as u32;
                    let mut write = RtpWrite::new(pt, sequence, time, now, payload)
                        .marker(index == last)
                        .nackable(true);
                    if encoding.rid.is_some() {
                        write = write.ext_vals(ExtensionValues {
                            rid: encoding.rid,
                            ..Default::default()
                        });
                    }
                    stream.write_rtp(write);
                }
            }
        }
        while since + sending.microphone.next_at() <= now {
            let at = sending.microphone.next_at();
            let payload = sending.microphone.next(shared.epoch);
            let media = self
                .rtc
                .media(sending.microphone_mid)
                .context("a microphone line")?;
            let pt = *media.remote_pts().first().context("Opus")?;
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
            stream.write_rtp(
                RtpWrite::new(pt, sequence, time, now, payload)
                    .nackable(true)
                    .ext_vals(spoken),
            );
        }
        Ok(())
    }

    fn drain(&mut self, shared: &Shared, tally: &mut Tally) -> anyhow::Result<()> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    if self
                        .up
                        .pass(Instant::now(), &transmit.contents, shared.is_faulty())
                    {
                        self.transmit(&transmit.contents, transmit.destination)?;
                    }
                    self.server = Some(transmit.destination);
                }
                Output::Event(event) => self.handle_event(&event, shared, tally),
            }
        }
    }

    fn handle_event(&mut self, event: &Event, shared: &Shared, tally: &mut Tally) {
        match event {
            Event::Connected => {
                self.connected = true;
                shared.tell(Note::Connected { peer: self.id });
            }
            Event::KeyframeRequest(request) => {
                let encodings = self.sending.iter_mut().flat_map(|sending| &mut sending.cameras);
                for encoding in encodings.filter(|encoding| encoding.rid == request.rid) {
                    encoding.camera.wish_key_frame();
                }
            }
            Event::RtpPacket(packet) => self.count(packet, shared, tally),
            _ => {}
        }
    }

    fn count(&mut self, packet: &RtpPacket, shared: &Shared, tally: &mut Tally) {
        let Some(record) = Record::read(&packet.payload) else {
            return;
        };
        if self.repaired.insert(*packet.header.ssrc) {
            // Left alone, the stack asks only where resends have a stream of their own.
            if let Some(stream) = self.rtc.direct_api().stream_rx(&packet.header.ssrc) {
                stream.suppress_nack(false);
            }
        }
        let now = Instant::now();
        let now_us = (now - shared.epoch).as_micros() as u64;
        let progress = tally.take(self.participant, record, now_us, shared.window());
        if progress.key_frame && self.awaited.remove(&record.source) {
            shared.tell(Note::Picture {
                peer: self.id,
                source: record.source,
                at: now,
            });
        }
        let asked_at = self.stuck_asked_at.get(&record.source);
        if progress.stuck && asked_at.is_none_or(|at| now - *at > ASK_PERIOD) {
            self.stuck_asked_at.insert(record.source, now);
            let mut api = self.rtc.direct_api();
            if let Some(stream) = api.stream_rx(&packet.header.ssrc) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
            }
        }
    }

    fn transmit(&self, datagram: &[u8], to: SocketAddr) -> anyhow::Result<()> {
        match self.socket.send_to(datagram, to) {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }
}

/// What each socket asks for: hundreds of milliseconds of thirty cameras.
const BUFFER_BYTES: usize = 4 << 20;
/// How often a picture that stands still asks for a key frame.
const ASK_PERIOD: Duration = Duration::from_millis(500);
/// Names of simulcast layers, the smallest first.
const RIDS: [&str; 3] = ["q", "h", "f"];

/// The stack's offer as a page of ours would make it: NACK for Opus, and nothing on a receiving line that it does not need. A
/// message of the protocol has room for thirty cameras and thirty microphones that way.
fn as_browsers_offer(sdp: &str) -> String {
    let mut sections = vec![String::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        let section = sections.last_mut().expect("there is a section from the start");
        section.push_str(line);
        section.push_str("\r\n");
        if let Some((payload_type, _)) = line
            .strip_prefix("a=rtpmap:")
            .and_then(|map| map.split_once(" opus/"))
        {
            section.push_str(&format!("a=rtcp-fb:{payload_type} nack\r\n"));
        }
    }
    let superfluous = [
        "a=extmap:",
        "a=candidate:",
        "a=end-of-candidates",
        "a=msid",
        "a=ssrc",
    ];
    let mut offer = String::with_capacity(sdp.len());
    for section in sections {
        let receives = section.lines().any(|line| line == "a=recvonly");
        for line in section.lines() {
            if !(receives && superfluous.iter().any(|start| line.starts_with(start))) {
                offer.push_str(line);
                offer.push_str("\r\n");
            }
        }
    }
    offer
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
        let mut peer = Peer::open(0, Ipv4Addr::LOCALHOST.into(), &purpose).expect("a socket");
        let offered = peer.offer(&purpose).expect("an offer");
        assert_eq!(offered.sdp.matches("m=video").count(), 30);
        assert_eq!(offered.sdp.matches("m=audio").count(), 31);
        let escaped = serde_json::to_string(&offered.sdp).expect("JSON");
        assert!(escaped.len() < 60_000, "{}", escaped.len());
    }

    #[test]
    fn sending_lines_keep_what_receiving_lines_lose() {
        let sdp = "v=0\r\nm=audio 9 X 111\r\na=extmap:1 level\r\na=rtpmap:111 opus/48000/2\r\na=sendonly\r\n\
                   m=audio 9 X 111\r\na=extmap:1 level\r\na=rtpmap:111 opus/48000/2\r\na=recvonly\r\n";
        assert_eq!(
            as_browsers_offer(sdp),
            "v=0\r\nm=audio 9 X 111\r\na=extmap:1 level\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\n\
             a=sendonly\r\nm=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\na=recvonly\r\n"
        );
    }
}
