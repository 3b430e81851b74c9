//! A participant on a socket of its own: sends numbered VP8 packets, or notes the numbers that arrive.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seodang_model::protocol::Offer;
use seodang_model::{ParticipantId, Source};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc};

/// One side of a class.
pub(crate) struct Peer {
    pub(crate) id: ParticipantId,
    pub(crate) connected: bool,
    pub(crate) sent: u32,
    pub(crate) received: Vec<u32>,
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    sends: bool,
    mid: Option<Mid>,
    pending: Option<SdpPendingOffer>,
    key_wished: bool,
    send_at: Instant,
    /// Where its datagrams go.
    remote: Option<SocketAddr>,
    /// Share of media datagrams that are lost, each way.
    loss: f64,
    chance: StdRng,
    pub(crate) lost: usize,
}

impl Peer {
    pub(crate) fn sending() -> Self {
        Self::new(true)
    }

    pub(crate) fn watching() -> Self {
        Self::new(false)
    }

    fn new(sends: bool) -> Self {
        str0m::crypto::from_feature_flags().install_process_default();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("a time-out");
        let local = socket.local_addr().expect("bound");
        let mut rtc = Rtc::builder()
            .clear_codecs()
            .enable_vp8(true)
            .set_rtp_mode(true)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp").expect("an address"));
        Self {
            id: ParticipantId::from_bits(0),
            connected: false,
            sent: 0,
            received: Vec::new(),
            rtc,
            socket,
            local,
            sends,
            mid: None,
            pending: None,
            key_wished: true,
            send_at: Instant::now(),
            remote: None,
            loss: 0.0,
            chance: StdRng::seed_from_u64(u64::from(sends)),
            lost: 0,
        }
    }

    /// From here on this share of media datagrams is lost, each way.
    pub(crate) fn lose(&mut self, share: f64) {
        self.loss = share;
    }

    /// Whether a datagram gets through; checks of the way and the handshake always do.
    fn passes(&mut self, datagram: &[u8]) -> bool {
        let lost = (128..192).contains(&datagram[0]) && self.chance.random_bool(self.loss);
        self.lost += usize::from(lost);
        !lost
    }

    pub(crate) fn offer(&mut self) -> Offer {
        let mut change = self.rtc.sdp_api();
        let direction = if self.sends {
            Direction::SendOnly
        } else {
            Direction::RecvOnly
        };
        let mid = change.add_media(MediaKind::Video, direction, None, None, None);
        let (offer, pending) = change.apply().expect("an offer");
        (self.mid, self.pending) = (Some(mid), Some(pending));
        let sources = if self.sends {
            BTreeMap::from([(mid.to_string(), Source::Camera)])
        } else {
            BTreeMap::new()
        };
        let slots = if self.sends {
            Vec::new()
        } else {
            vec![mid.to_string()]
        };
        Offer {
            connection: 1,
            sdp: offer.to_sdp_string(),
            sources,
            slots,
            lips: Default::default(),
        }
    }

    pub(crate) fn accept(&mut self, id: ParticipantId, answer: &str) {
        self.id = id;
        let answer = SdpAnswer::from_sdp_string(answer).expect("readable by others");
        let pending = self.pending.take().expect("an offer was made");
        self.rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .expect("acceptable to others");
    }

    pub(crate) fn slot(&self) -> String {
        self.mid.expect("an offer was made").to_string()
    }

    /// Sends any bytes from the peer's own address.
    pub(crate) fn send_raw(&self, datagram: &[u8]) {
        let target = self.remote.expect("connected");
        self.socket.send_to(datagram, target).expect("loopback takes it");
    }

    /// Sends what is due and takes what has come.
    #[expect(
        clippy::panic,
        reason = "a test that cannot read its socket has nothing to say"
    )]
    pub(crate) fn turn(&mut self) {
        // What waits is read at once: a peer that reads one datagram a turn is late, and asks for what is under way.
        self.socket.set_nonblocking(true).expect("a socket");
        let mut buffer = [0; 2_048];
        while let Ok((length, source)) = self.socket.recv_from(&mut buffer) {
            self.take(&buffer[..length], source);
            self.drain();
        }
        self.socket.set_nonblocking(false).expect("a socket");
        match self.socket.recv_from(&mut buffer) {
            Ok((length, source)) => self.take(&buffer[..length], source),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.rtc
                    .handle_input(Input::Timeout(Instant::now()))
                    .expect("taken");
            }
            Err(error) => panic!("{error}"),
        }
        if self.connected && self.sends && Instant::now() >= self.send_at {
            self.send_at += Duration::from_millis(5);
            self.send_packet();
        }
        self.drain();
    }

    fn take(&mut self, datagram: &[u8], source: SocketAddr) {
        if !self.passes(datagram) {
            return;
        }
        let receive = Receive {
            proto: Protocol::Udp,
            source,
            destination: self.local,
            contents: datagram.try_into().expect("a datagram"),
        };
        self.rtc
            .handle_input(Input::Receive(Instant::now(), receive))
            .expect("taken");
    }

    fn send_packet(&mut self) {
        let mid = self.mid.expect("an offer was made");
        let pt = self
            .rtc
            .media(mid)
            .and_then(|media| media.remote_pts().first().copied())
            .expect("VP8");
        self.sent += 1;
        let key = std::mem::take(&mut self.key_wished);
        // RFC 7741: X, S; I; a 15-bit picture id; then the frame's first bytes and our number.
        let mut payload = vec![0x90, 0x80, 0x80 | (self.sent >> 8) as u8 & 0x7f, self.sent as u8];
        payload.extend([u8::from(!key) | 0x10, 0, 0]);
        payload.extend([0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]);
        payload.resize(600, 7);
        payload.extend(self.sent.to_be_bytes());
        let sequence = u64::from(self.sent).into();
        let write = RtpWrite::new(pt, sequence, self.sent * 450, Instant::now(), payload)
            .marker(true)
            .nackable(true);
        let mut api = self.rtc.direct_api();
        api.stream_tx_by_mid(mid, None)
            .expect("a stream")
            .write_rtp(write);
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().expect("alive") {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => {
                    self.remote = Some(transmit.destination);
                    if self.passes(&transmit.contents) {
                        self.socket
                            .send_to(&transmit.contents, transmit.destination)
                            .expect("loopback takes it");
                    }
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::KeyframeRequest(_)) => self.key_wished = true,
                Output::Event(Event::RtpPacket(packet)) => self.received.push(number_in(&packet.payload)),
                Output::Event(_) => {}
            }
        }
    }
}

/// The number a packet carries in its last four bytes.
pub(crate) fn number_in(payload: &[u8]) -> u32 {
    let at = payload.len() - 4;
    u32::from_be_bytes(payload[at..].try_into().expect("four bytes"))
}
