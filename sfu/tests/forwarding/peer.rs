//! A participant on a socket of its own: sends numbered VP8 packets, or notes the numbers that arrive.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seodang_model::protocol::Offer;
use seodang_model::{ParticipantId, Source};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, Ssrc};
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
    remote: Option<SocketAddr>,
    /// How its ClientHellos leave.
    hello: Hello,
    /// The first datagram of its handshake.
    pub(crate) first_hello: Vec<u8>,
    /// The last datagram of media that left.
    pub(crate) last_media: Vec<u8>,
    /// What its checks are named with, ours first.
    pub(crate) user_name: String,
    /// Share of media datagrams that are lost, each way.
    loss: f64,
    chance: StdRng,
    pub(crate) lost: usize,
}

/// How a ClientHello leaves: browsers' are so long that they come in two datagrams, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    Whole,
    InTwo,
    InTwoBackwards,
}

impl Peer {
    pub(crate) fn sending() -> Self {
        Self::new(true, "127.0.0.1:0")
    }

    pub(crate) fn watching() -> Self {
        Self::new(false, "127.0.0.1:0")
    }

    pub(crate) fn watching_from(address: &str) -> Self {
        Self::new(false, address)
    }

    fn new(sends: bool, address: &str) -> Self {
        str0m::crypto::from_feature_flags().install_process_default();
        let socket = open_socket(address);
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
            hello: Hello::Whole,
            first_hello: Vec::new(),
            last_media: Vec::new(),
            user_name: String::new(),
            loss: 0.0,
            chance: StdRng::seed_from_u64(u64::from(sends)),
            lost: 0,
        }
    }

    pub(crate) fn saying(self, hello: Hello) -> Self {
        Self { hello, ..self }
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
        self.user_name = ufrag(&offer.to_sdp_string());
        (self.mid, self.pending) = (Some(mid), Some(pending));
        self.describe(&offer, false)
    }

    /// An ICE restart. What is sent and received from here on goes through another port.
    pub(crate) fn restart(&mut self) -> Offer {
        let mut change = self.rtc.sdp_api();
        change.ice_restart(false);
        let (offer, pending) = change.apply().expect("an offer");
        self.pending = Some(pending);
        self.socket = open_socket("127.0.0.1:0");
        self.local = self.socket.local_addr().expect("bound");
        self.describe(&offer, true)
    }

    /// What a router does that forgot its table: another outer port, of which this side knows nothing.
    pub(crate) fn rebind(&mut self) {
        self.socket = open_socket("127.0.0.1:0");
    }

    fn describe(&self, offer: &SdpOffer, restart: bool) -> Offer {
        let mid = self.slot();
        let sources = if self.sends {
            BTreeMap::from([(mid.clone(), Source::Camera)])
        } else {
            BTreeMap::new()
        };
        let slots = if self.sends { Vec::new() } else { vec![mid] };
        Offer {
            connection: 1,
            sdp: offer.to_sdp_string(),
            sources,
            slots,
            restart,
            lips: Default::default(),
        }
    }

    pub(crate) fn accept(&mut self, id: ParticipantId, answer: &str) {
        self.id = id;
        self.user_name = format!("{}:{}", ufrag(answer), self.user_name);
        let answer = SdpAnswer::from_sdp_string(answer).expect("readable by others");
        let pending = self.pending.take().expect("an offer was made");
        self.rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .expect("acceptable to others");
        // A restart forgets the candidates of before; saying one twice is harmless.
        let local = Candidate::host(self.local, "udp").expect("an address");
        self.rtc.add_local_candidate(local);
    }

    pub(crate) fn slot(&self) -> String {
        self.mid.expect("an offer was made").to_string()
    }

    /// Sends any bytes from the peer's own address.
    pub(crate) fn send_raw(&self, datagram: &[u8]) {
        self.socket
            .send_to(datagram, self.remote())
            .expect("loopback takes it");
    }

    /// Where its datagrams go.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote.expect("it has sent something")
    }

    /// Sends one packet each of `count` SSRCs that nobody announced. The stack is not made for this: its camera ends.
    pub(crate) fn send_unannounced(&mut self, count: u32) {
        let mid = self.mid.expect("an offer was made");
        for ssrc in 1..=count {
            // By rid, or each would take the place of the one before.
            self.rtc.direct_api().declare_stream_tx(
                ssrc.into(),
                None,
                mid,
                Some(ssrc.to_string().as_str().into()),
            );
            self.write_packet(ssrc.into(), u64::from(ssrc), vec![0x10; 100]);
        }
        self.sends = false;
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
        self.sent += 1;
        let key = std::mem::take(&mut self.key_wished);
        // RFC 7741: X, S; I; a 15-bit picture id; then the frame's first bytes and our number.
        let mut payload = vec![0x90, 0x80, 0x80 | (self.sent >> 8) as u8 & 0x7f, self.sent as u8];
        payload.extend([u8::from(!key) | 0x10, 0, 0]);
        payload.extend([0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]);
        payload.resize(600, 7);
        payload.extend(self.sent.to_be_bytes());
        let mid = self.mid.expect("an offer was made");
        let mut api = self.rtc.direct_api();
        let ssrc = api.stream_tx_by_mid(mid, None).expect("a stream").ssrc();
        self.write_packet(ssrc, u64::from(self.sent), payload);
    }

    fn write_packet(&mut self, ssrc: Ssrc, sequence: u64, payload: Vec<u8>) {
        let mid = self.mid.expect("an offer was made");
        let pt = self
            .rtc
            .media(mid)
            .and_then(|media| media.remote_pts().first().copied())
            .expect("VP8");
        let timestamp = sequence as u32 * 450;
        let write = RtpWrite::new(pt, sequence.into(), timestamp, Instant::now(), payload)
            .marker(true)
            .nackable(true);
        let mut api = self.rtc.direct_api();
        api.stream_tx(&ssrc).expect("a stream").write_rtp(write);
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().expect("alive") {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => {
                    self.remote = Some(transmit.destination);
                    if transmit.contents[0] & 0xc0 == 0x80 && !(192..224).contains(&transmit.contents[1]) {
                        self.last_media = transmit.contents.to_vec();
                    }
                    if transmit.contents[0] == 22 && self.first_hello.is_empty() {
                        self.first_hello = transmit.contents.to_vec();
                    }
                    if self.passes(&transmit.contents) {
                        for datagram in cut_hello(&transmit.contents, self.hello) {
                            self.send_raw(&datagram);
                        }
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

fn open_socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("a port");
    let brief = Some(Duration::from_millis(1));
    socket.set_read_timeout(brief).expect("a time-out");
    socket
}

/// The number a packet carries in its last four bytes.
pub(crate) fn number_in(payload: &[u8]) -> u32 {
    let at = payload.len() - 4;
    u32::from_be_bytes(payload[at..].try_into().expect("four bytes"))
}

/// The user name fragment of a description.
fn ufrag(sdp: &str) -> String {
    let (_, behind) = sdp.split_once("a=ice-ufrag:").expect("a fragment");
    behind.lines().next().expect("a line").to_owned()
}

/// A datagram as it leaves: one with a ClientHello alone is cut in two, each a record of its own with a fragment of the
/// message (RFC 6347 section 4.2.3). Records before encryption are numbered anew, so that both have a number.
fn cut_hello(datagram: &[u8], how: Hello) -> Vec<Vec<u8>> {
    const RECORD: usize = 13;
    const HANDSHAKE: usize = 12;
    if how == Hello::Whole || !(20..=63).contains(&datagram[0]) {
        return vec![datagram.to_vec()];
    }
    let mut renumbered = datagram.to_vec();
    let mut at = 0;
    while at + RECORD <= renumbered.len() {
        let record = &mut renumbered[at..];
        let encrypted = record[3..5] != [0, 0];
        let length = usize::from(u16::from_be_bytes([record[11], record[12]]));
        if !encrypted {
            let number = record[5..11]
                .iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            record[5..11].copy_from_slice(&(2 * number).to_be_bytes()[2..]);
        }
        at += RECORD + length;
    }
    let is_hello = renumbered[0] == 22 && renumbered[3..5] == [0, 0] && renumbered[RECORD] == 1;
    if !is_hello {
        return vec![renumbered];
    }
    let (head, message) = renumbered.split_at(RECORD);
    let (message_head, body) = message.split_at(HANDSHAKE);
    let half = body.len() / 2;
    let fragment = |number: u8, from: usize, to: usize| {
        let three = |value: usize| u32::try_from(value).expect("a short message").to_be_bytes()[1..].to_vec();
        let mut part = head.to_vec();
        part[10] |= number;
        part[11..].copy_from_slice(&((HANDSHAKE + to - from) as u16).to_be_bytes());
        part.extend(&message_head[..6]);
        part.extend(three(from));
        part.extend(three(to - from));
        part.extend(&body[from..to]);
        part
    };
    let mut parts = vec![fragment(0, 0, half), fragment(1, half, body.len())];
    if how == Hello::InTwoBackwards {
        parts.reverse();
    }
    parts
}
