//! The one entry: commands in, events out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use seodang_model::protocol::{Offer, ViewSlot};
use seodang_model::{LessonId, ParticipantId, Publication, Rights};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Command, CommandQueue, Links, Worker, WorkerConfig, offered_addresses};
use crate::net::{BatchSocket, Streams};
use crate::placing::Placing;
use crate::room::RoomConfig;
use crate::transport::dtls::Identity;
use crate::transport::sdp::read_offer;
use crate::{OfferError, RoomReport, SfuConfig, SfuError, SfuEvent, SfuStats, TrackSink};

/// Events that may wait for signaling: several seconds of a school. When it is full a worker keeps the newest state of
/// each participant and tells it later.
const EVENTS: usize = 8_192;
/// The running SFU. Dropping it without [`Sfu::shutdown`] leaves its threads running.
#[derive(Debug)]
pub struct Sfu {
    handle: SfuHandle,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

/// A participant takes its place on a worker.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// The lesson. It stays on the worker of its first join until it outgrows that.
    pub lesson: LessonId,
    /// Who. Joining again keeps the connection and replaces the rights.
    pub participant: ParticipantId,
    /// What may be published.
    pub rights: Rights,
}

/// So often another port is tried where any will do, and the one that is free for UDP is not for TCP.
const MOST_PORTS: usize = 16;

/// Opens a port for UDP, and the same one for TCP if that is wanted and possible.
fn open_port(config: &SfuConfig, port: u16) -> std::io::Result<(BatchSocket, Option<Streams>)> {
    let mut tried = 1;
    loop {
        let socket = open_socket(config.bind, port)?;
        let address = socket.local_addr()?;
        match config.tcp.then(|| Streams::listen(address)) {
            None => return Ok((socket, None)),
            Some(Ok(streams)) => return Ok((socket, Some(streams))),
            Some(Err(_)) if port == 0 && tried < MOST_PORTS => tried += 1,
            Some(Err(error)) => {
                tracing::warn!(port = address.port(), %error, "media over TCP is off: the port cannot be opened");
                return Ok((socket, None));
            }
        }
    }
}

impl Sfu {
    /// Opens the ports and starts the workers.
    ///
    /// # Errors
    /// When a port cannot be opened, no address can be offered, or a thread or certificate cannot be made.
    pub fn start(config: SfuConfig) -> Result<(Self, SfuHandle, mpsc::Receiver<SfuEvent>), SfuError> {
        let provider =
            rtc_crypto::default_provider().map_err(|error| SfuError::Certificate(error.to_string()))?;
        let identity = Arc::new(Identity::generate(&provider)?);
        let hosts = offered_addresses(config.bind, &config.candidates)?;
        let (sender, events) = mpsc::channel(EVENTS);
        let (mut workers, mut queues, mut addresses) = (Vec::new(), Vec::<CommandQueue>::new(), Vec::new());
        let mut receive_buffer_bytes = usize::MAX;
        for index in 0..config.workers.max(1) {
            let port = if config.port == 0 {
                0
            } else {
                config.port.saturating_add(index)
            };
            let (socket, streams) =
                open_port(&config, port).map_err(|source| SfuError::Bind { port, source })?;
            let address = socket.local_addr().map_err(SfuError::Thread)?;
            let granted = socket.receive_buffer_bytes().map_err(SfuError::Thread)?;
            receive_buffer_bytes = receive_buffer_bytes.min(granted);
            let (worker, queue) = Worker::new(WorkerConfig {
                socket,
                streams,
                candidates: hosts
                    .iter()
                    .map(|host| SocketAddr::new(*host, address.port()))
                    .collect(),
                identity: Arc::clone(&identity),
                provider: Arc::clone(&provider),
                room: RoomConfig {
                    publisher_bitrate_bps: config.publisher_bitrate_bps,
                    recording_size: config.recording_size,
                    capture_size: config.capture_size,
                },
                events: sender.clone(),
            })
            .map_err(SfuError::Thread)?;
            workers.push(worker);
            queues.push(queue);
            addresses.push(address);
        }
        let wakers: Vec<_> = queues.iter().map(|queue| Arc::clone(&queue.waker)).collect();
        let mut threads = Vec::new();
        for (index, (worker, links)) in workers.into_iter().zip(Links::between(&wakers)).enumerate() {
            let thread = std::thread::Builder::new().name(format!("media-{index}"));
            threads.push(
                thread
                    .spawn(move || worker.run(links))
                    .map_err(SfuError::Thread)?,
            );
        }
        let placing = Placing::new(queues.len(), config.worker_seats.into());
        let handle = SfuHandle {
            queues: queues.into(),
            placing: Arc::new(Mutex::new(placing)),
            receive_buffer_bytes,
        };
        Ok((
            Self {
                handle: handle.clone(),
                threads,
                addresses,
            },
            handle,
            events,
        ))
    }

    /// The UDP addresses of the workers, in order.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Says goodbye to every connection and waits until the threads have ended: blocks for milliseconds.
    pub fn shutdown(self) {
        for queue in self.handle.queues.iter() {
            if queue.send(Command::Shutdown).is_err() {
                tracing::error!("a media worker does not take commands; its thread is left behind");
                return;
            }
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a media worker had panicked");
            }
        }
    }
}

/// Sends commands to the media workers. Cloning is cheap. Methods that are not `async` never wait.
#[derive(Clone)]
pub struct SfuHandle {
    queues: Arc<[CommandQueue]>,
    /// Never locked by a media thread.
    placing: Arc<Mutex<Placing>>,
    /// Of the worker that was granted least.
    receive_buffer_bytes: usize,
}

impl std::fmt::Debug for SfuHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SfuHandle")
            .field("workers", &self.queues.len())
            .finish_non_exhaustive()
    }
}

impl SfuHandle {
    /// Takes a seat. Afterwards the participant may be named in all other commands.
    ///
    /// # Errors
    /// When the worker does not take commands.
    pub async fn join(&self, join: Join) -> Result<(), SfuError> {
        let Join {
            lesson,
            participant,
            rights,
        } = join;
        let (done, answer) = oneshot::channel();
        {
            // Held while sending, so that a worker sees joins and leaves in the order in which they were placed.
            let mut placing = self.placing();
            if let Some((earlier, on)) = placing.place_of(participant)
                && earlier != lesson
            {
                self.queues[on].send(Command::Leave(participant))?;
                placing.leave(participant);
            }
            let worker = placing.worker_for(lesson, participant);
            let mut others = placing.workers_of(lesson);
            others.retain(|other| *other != worker);
            self.queues[worker].send(Command::Join {
                lesson,
                participant,
                rights,
                others,
                done,
            })?;
            placing.take(lesson, participant, worker);
        }
        answer.await.map_err(|_| SfuError::Busy)
    }

    /// Answers an offer. A second offer of the same participant replaces its connection; publications and sinks stay.
    ///
    /// # Errors
    /// When the offer cannot be answered; then nothing has changed.
    pub async fn offer(&self, participant: ParticipantId, offer: Offer) -> Result<String, OfferError> {
        let worker = self
            .worker_of(participant)
            .map_err(|_| OfferError::UnknownParticipant)?;
        let offer = Box::new(read_offer(&offer)?);
        let (answer, result) = oneshot::channel();
        let command = Command::Offer {
            participant,
            offer,
            answer,
        };
        self.queues[worker].send(command).map_err(|_| OfferError::Busy)?;
        result.await.map_err(|_| OfferError::Busy)?
    }

    /// A source begins to send; packets of sources that are not published are dropped.
    ///
    /// # Errors
    /// When the participant has not joined or the worker does not take commands; the same for all that follow.
    pub fn publish(&self, publication: Publication) -> Result<(), SfuError> {
        self.send(publication.participant, Command::Publish(publication))
    }

    /// A source stops; its sink stays attached.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn unpublish(&self, publication: Publication) -> Result<(), SfuError> {
        self.send(publication.participant, Command::Unpublish(publication))
    }

    /// Replaces the rights; what is not allowed any more is not forwarded any more.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn set_rights(&self, participant: ParticipantId, rights: Rights) -> Result<(), SfuError> {
        self.send(participant, Command::SetRights(participant, rights))
    }

    /// What the participant's video slots shall show.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn view(
        &self,
        participant: ParticipantId,
        generation: u32,
        slots: Vec<ViewSlot>,
    ) -> Result<(), SfuError> {
        self.send(
            participant,
            Command::View {
                participant,
                generation,
                slots,
            },
        )
    }

    /// Mirrors a publication to `sink` until it is detached or its participant leaves; reconnecting and camera off
    /// and on keep it. An earlier sink of the publication is dropped.
    ///
    /// # Errors
    /// As [`Self::publish`]; the sink is dropped then.
    pub fn attach(&self, publication: Publication, sink: Box<dyn TrackSink>) -> Result<(), SfuError> {
        self.send(publication.participant, Command::Attach(publication, sink))
    }

    /// Drops a publication's sink before the next packet; one that [`Self::attach_captures`] attached stays.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn detach(&self, publication: Publication) -> Result<(), SfuError> {
        self.send(publication.participant, Command::Detach(publication))
    }

    /// Mirrors a camera to a second `sink`, which gets the capture layer; else as [`Self::attach`].
    ///
    /// # Errors
    /// As [`Self::publish`]; the sink is dropped then.
    pub fn attach_captures(
        &self,
        publication: Publication,
        sink: Box<dyn TrackSink>,
    ) -> Result<(), SfuError> {
        self.send(
            publication.participant,
            Command::AttachCaptures(publication, sink),
        )
    }

    /// Drops the sink of [`Self::attach_captures`] before the next packet.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn detach_captures(&self, publication: Publication) -> Result<(), SfuError> {
        self.send(publication.participant, Command::DetachCaptures(publication))
    }

    /// Asks the sender for a key frame: at most once a second together with all other wishes, or at once `for_tick`, and
    /// then of the layer that captures get.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn request_keyframe(&self, publication: Publication, for_tick: bool) -> Result<(), SfuError> {
        self.send(
            publication.participant,
            Command::RequestKeyframe {
                publication,
                for_tick,
            },
        )
    }

    /// Gives the seat up; connection and sinks are dropped. Unknown participants are ignored.
    ///
    /// # Errors
    /// When the worker does not take commands.
    pub fn leave(&self, participant: ParticipantId) -> Result<(), SfuError> {
        let mut placing = self.placing();
        let Some((_, worker)) = placing.place_of(participant) else {
            return Ok(());
        };
        self.queues[worker].send(Command::Leave(participant))?;
        placing.leave(participant);
        Ok(())
    }

    /// Ends a room. Answered when every sink of it is dropped.
    ///
    /// # Errors
    /// When one of its workers does not take commands; ending it again ends what is left.
    pub async fn close_room(&self, lesson: LessonId) -> Result<(), SfuError> {
        let mut answers = Vec::new();
        let told = {
            let mut placing = self.placing();
            placing.workers_of(lesson).into_iter().try_for_each(|worker| {
                let (done, answer) = oneshot::channel();
                self.queues[worker].send(Command::CloseRoom { lesson, done })?;
                placing.close(lesson, worker);
                answers.push(answer);
                Ok(())
            })
        };
        for answer in answers {
            answer.await.map_err(|_| SfuError::Busy)?;
        }
        told
    }

    /// Who sends and receives what.
    ///
    /// # Errors
    /// When the worker does not take commands.
    pub async fn room_report(&self, lesson: LessonId) -> Result<RoomReport, SfuError> {
        let workers = self.placing().workers_of(lesson);
        let mut whole = RoomReport::default();
        for worker in workers {
            let (report, answer) = oneshot::channel();
            self.queues[worker].send(Command::Report { lesson, report })?;
            let part = answer.await.map_err(|_| SfuError::Busy)?;
            whole.participants.extend(part.participants);
        }
        whole.participants.sort_by_key(|report| report.participant);
        Ok(whole)
    }

    /// The counters of all workers; a worker that does not answer is left out. Beside them stand how many `rooms` and
    /// `connections` there are (a room on several workers counts on each), and the `receive_buffer_bytes` of each socket.
    pub async fn stats(&self) -> SfuStats {
        let mut sum = SfuStats::new();
        for queue in self.queues.iter() {
            let (answer, stats) = oneshot::channel();
            if queue.send(Command::Stats(answer)).is_ok()
                && let Ok(stats) = stats.await
            {
                for (name, count) in stats {
                    *sum.entry(name).or_default() += count;
                }
            }
        }
        if !sum.is_empty() {
            sum.insert("receive_buffer_bytes", self.receive_buffer_bytes as u64);
        }
        sum
    }

    fn send(&self, participant: ParticipantId, command: Command) -> Result<(), SfuError> {
        let worker = self.worker_of(participant)?;
        self.queues[worker].send(command)
    }

    fn worker_of(&self, participant: ParticipantId) -> Result<usize, SfuError> {
        let place = self.placing().place_of(participant);
        place
            .map(|(_, worker)| worker)
            .ok_or(SfuError::UnknownParticipant(participant))
    }

    fn placing(&self) -> std::sync::MutexGuard<'_, Placing> {
        // A panic while it was held would be a bug of the counts alone, which only choose workers.
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where every address is meant, a system without IPv6 gets those of IPv4.
fn open_socket(bind: IpAddr, port: u16) -> std::io::Result<BatchSocket> {
    let bound = BatchSocket::bind(SocketAddr::new(bind, port));
    match bound {
        Err(error)
            if bind == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && matches!(
                    error.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                ) =>
        {
            BatchSocket::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        bound => bound,
    }
}
