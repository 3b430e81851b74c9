//! The sending side of a participant.

use std::time::{Duration, Instant};

use seodang_model::protocol::MediaState;
use seodang_model::{MediaKind, ParticipantId, Rights, Source};
use seodang_rtp::{ReportBlock, RtcpWriter, RtpView, TransportArrivals};

use super::bindings::{Binding, Bindings};
use super::layers::MOST_LAYERS;
use super::line::{Layer, Line};
use super::remote::Remote;
use super::stats::Counters;
use super::stream::Stream;
use super::{Negotiated, Output};

/// A participant as one who sends.
pub(super) struct Publisher {
    pub(super) participant: ParticipantId,
    pub(super) rights: Rights,
    /// Keys are agreed.
    pub(super) ready: bool,
    pub(super) state: MediaState,
    /// In the order of [`Source::ALL`].
    pub(super) lines: [Line; 4],
    /// Of a participant who sends on another worker.
    pub(super) remote: Option<Remote>,
    bindings: Bindings,
    /// When the room began.
    began: Instant,
    next_report: Option<Instant>,
    /// Since the keys were agreed.
    reported: bool,
    transport: Option<TransportFeedback>,
}

/// What a sender is told about all its packets together (draft-holmer-rmcat-transport-wide-cc-extensions-01).
#[derive(Default)]
struct TransportFeedback {
    /// Of the header extension.
    id: u8,
    arrivals: TransportArrivals,
    /// Browsers take the feedback by the SSRC of one of their streams.
    newest_ssrc: u32,
    due: Option<Instant>,
}

/// Feedback about all packets goes out this long after the first of them, as browsers do it to one another.
const FEEDBACK_PERIOD: Duration = Duration::from_millis(100);

/// Reports and the estimate go out this often.
pub(super) const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// Reports of many go out at these times of a room, and not each at its own: a worker is woken less often.
const REPORT_GRID: Duration = Duration::from_millis(250);
/// A publication without a packet for as long is stalled.
const STALL: Duration = Duration::from_secs(5);
/// The server as a participant of RTCP. It sends no media under this SSRC.
pub(super) const SERVER_SSRC: u32 = 1;
/// One clock for all slots: browsers pair lips and sound by msid.
pub(super) const SERVER_CNAME: &str = "seodang";

/// Requests for packets go out together up to here; with the next stream's, which are 1,012 bytes at most, they still
/// fit a datagram.
const NACKS_TOGETHER_BYTES: usize = 188;

impl Publisher {
    /// Someone who sends nothing yet, in a room that began then.
    pub(super) fn new(began: Instant, participant: ParticipantId, rights: Rights) -> Self {
        Self {
            began,
            participant,
            rights,
            ready: false,
            state: MediaState::New,
            lines: Source::ALL.map(Line::new),
            remote: None,
            bindings: Bindings::default(),
            next_report: None,
            reported: false,
            transport: None,
        }
    }

    /// Whether packets of the line are forwarded and mirrored.
    pub(super) fn is_active(&self, line: usize) -> bool {
        let line = &self.lines[line];
        let connected = line.media.is_some() || self.remote.is_some();
        self.ready && line.published && connected && self.rights.allow(line.source)
    }

    pub(super) fn connect(&mut self, media: &Negotiated) {
        self.disconnect();
        for negotiated in &media.sources {
            let place = place(negotiated.source);
            if self.lines[place].media.is_none() {
                self.bindings.announce(place, negotiated);
                self.lines[place].connect(negotiated.clone());
            }
        }
        let mut ids = media.sources.iter().map(|source| source.extensions.transport_cc);
        self.transport = ids.find_map(|id| {
            Some(TransportFeedback {
                id: id?,
                ..Default::default()
            })
        });
    }

    pub(super) fn disconnect(&mut self) {
        for line in &mut self.lines {
            line.reset();
            line.media = None;
        }
        self.ready = false;
        self.bindings.clear();
        self.next_report = None;
        self.reported = false;
        self.transport = None;
    }

    pub(super) fn ready(&mut self, now: Instant) {
        self.ready = true;
        self.next_report = Some(now);
        for line in &mut self.lines {
            line.heard_at = Some(now);
        }
    }

    /// What an authentic packet is for.
    pub(super) fn bind(&mut self, packet: &RtpView<'_>) -> Option<Binding> {
        let lines = self.lines.iter().map(|line| line.media.as_ref());
        self.bindings.bind(packet, lines)
    }

    /// Notes the arrival of an authentic packet, whatever becomes of it.
    pub(super) fn note_arrival(&mut self, now: Instant, packet: &RtpView<'_>) {
        let Some(transport) = &mut self.transport else {
            return;
        };
        if let Some(number) = packet.extensions.transport_sequence_number(transport.id) {
            transport.arrivals.packet(now, number);
            transport.newest_ssrc = packet.header.ssrc;
            transport.due.get_or_insert(now + FEEDBACK_PERIOD);
        }
    }

    /// The line that an SSRC sends on.
    pub(super) fn line_of(&self, ssrc: u32) -> Option<usize> {
        let sends = |stream: &Stream| stream.ssrc == ssrc;
        self.lines.iter().position(|line| {
            line.layers
                .iter()
                .any(|layer| layer.stream.as_ref().is_some_and(sends))
        })
    }

    /// Asks for key frames that are wished and due.
    pub(super) fn ask_keyframes(
        &mut self,
        now: Instant,
        writer: &mut RtcpWriter,
        counters: &mut Counters,
        out: &mut dyn Output,
    ) {
        for place in 0..self.lines.len() {
            if !self.is_active(place) {
                continue;
            }
            let line = &mut self.lines[place];
            for layer in 0..line.layers.len() {
                if let Some(remote) = &mut self.remote {
                    if line.layers[layer].wishes.take(now) > 0 {
                        remote.asked.push((place, layer));
                    }
                    continue;
                }
                let Some(ssrc) = line.media_ssrc(layer) else {
                    continue;
                };
                for _ in 0..line.layers[layer].wishes.take(now) {
                    send_pli(writer, self.participant, ssrc, out);
                    counters.keyframes_requested += 1;
                }
            }
        }
    }

    /// Requests for missing packets, and once a second the reports and the estimate.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        bitrate_bps: u64,
        writer: &mut RtcpWriter,
        counters: &mut Counters,
        out: &mut dyn Output,
    ) {
        if self.remote.is_some() {
            return self.ask_keyframes(now, writer, counters, out);
        }
        if !self.ready {
            return;
        }
        writer.clear();
        let mut due = Vec::new();
        let mut urgent = false;
        for line in &mut self.lines {
            let kind = line.source.kind();
            for Layer { stream, wishes, .. } in &mut line.layers {
                let Some(stream) = stream else { continue };
                urgent |= stream.missing.take_due(now, &mut due);
                if stream.missing.take_hopeless() && kind == MediaKind::Video {
                    wishes.wish();
                }
                counters.nacks_sent += due.len() as u64;
                writer.nack(SERVER_SSRC, stream.ssrc, due.drain(..));
                if writer.as_bytes().len() > NACKS_TOGETHER_BYTES {
                    send_nacks(self.participant, urgent, writer, out);
                }
            }
        }
        send_nacks(self.participant, urgent, writer, out);
        if let Some(transport) = &mut self.transport
            && transport.due.is_some_and(|at| at <= now)
        {
            transport.due = None;
            while transport
                .arrivals
                .report(SERVER_SSRC, transport.newest_ssrc, writer)
            {
                counters.transport_feedbacks += 1;
                out.rtcp(self.participant, writer.as_bytes());
                writer.clear();
            }
        }
        self.ask_keyframes(now, writer, counters, out);
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = Some(on_grid(self.began, now + REPORT_PERIOD));
            self.report(now, bitrate_bps, writer, out);
            self.tell_state(now, out);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let feedback = self.transport.as_ref().and_then(|transport| transport.due);
        let mut next = earliest(self.next_report, feedback);
        for (place, line) in self.lines.iter().enumerate() {
            for (which, layer) in line.layers.iter().enumerate() {
                if let Some(stream) = &layer.stream {
                    next = earliest(next, stream.missing.deadline());
                }
                let wish = layer.wishes.deadline();
                let can_ask = || self.remote.is_some() || line.media_ssrc(which).is_some();
                if wish.is_some() && self.is_active(place) && can_ask() {
                    next = earliest(next, wish);
                }
            }
        }
        next
    }

    /// Tells the driver when the state is another than before.
    pub(super) fn tell_state(&mut self, now: Instant, out: &mut dyn Output) {
        let stalled = (0..self.lines.len()).any(|place| {
            let silent = self.lines[place]
                .heard_at
                .map(|at| now.saturating_duration_since(at));
            self.is_active(place) && silent.is_some_and(|silent| silent >= STALL)
        });
        let state = match (self.ready, stalled) {
            (false, _) => MediaState::New,
            (true, false) => MediaState::Ready,
            (true, true) => MediaState::Stalled,
        };
        if state != self.state {
            self.state = state;
            out.media(self.participant, state);
        }
    }

    fn report(&mut self, now: Instant, bitrate_bps: u64, writer: &mut RtcpWriter, out: &mut dyn Output) {
        let mut blocks = [ReportBlock::default(); MOST_STREAMS];
        let mut ssrcs = [0; MOST_STREAMS];
        let mut count = 0;
        for stream in streams(&mut self.lines) {
            (blocks[count], ssrcs[count]) = (stream.reception.report(now), stream.ssrc);
            count += 1;
        }
        if std::mem::replace(&mut self.reported, true) && count == 0 {
            // Who only watches has heard the estimate.
            return;
        }
        writer.clear();
        writer.receiver_report(SERVER_SSRC, &blocks[..count]);
        writer.cname(SERVER_SSRC, SERVER_CNAME);
        // A constant estimate lets a browser ramp up within a second; without one it needs half a minute. Beside
        // transport-wide feedback it is the limit: Chromium starts at it and probes no further.
        writer.remb(SERVER_SSRC, bitrate_bps, &ssrcs[..count]);
        out.rtcp(self.participant, writer.as_bytes());
    }
}

/// The last time of the grid that is not after `at`.
fn on_grid(began: Instant, at: Instant) -> Instant {
    let past = at.saturating_duration_since(began).as_nanos() % REPORT_GRID.as_nanos();
    at - Duration::from_nanos(past as u64)
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn streams(lines: &mut [Line; 4]) -> impl Iterator<Item = &mut Stream> {
    let layers = lines.iter_mut().flat_map(|line| &mut line.layers);
    layers.filter_map(|layer| layer.stream.as_mut())
}

/// Of one participant.
const MOST_STREAMS: usize = Source::ALL.len() * MOST_LAYERS;

pub(super) fn send_pli(writer: &mut RtcpWriter, to: ParticipantId, ssrc: u32, out: &mut dyn Output) {
    writer.clear();
    writer.pli(SERVER_SSRC, ssrc);
    out.rtcp(to, writer.as_bytes());
}

/// The place of a source among a seat's lines.
pub(super) fn place(source: Source) -> usize {
    match source {
        Source::Camera => 0,
        Source::Microphone => 1,
        Source::Screen => 2,
        Source::ScreenAudio => 3,
    }
}

/// On a line that loses much (`urgent`) a request is lost as often as its answer; who gets both sends the packet once.
fn send_nacks(to: ParticipantId, urgent: bool, writer: &mut RtcpWriter, out: &mut dyn Output) {
    for _ in 0..1 + usize::from(urgent) {
        if !writer.is_empty() {
            out.rtcp(to, writer.as_bytes());
        }
    }
    writer.clear();
}
