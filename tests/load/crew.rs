//! The threads that play the connections, so that the tool is not what is measured.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::sync::mpsc;

use crate::peer::{Peer, PeerId};
use crate::post::Post;
use crate::tally::{Tally, Window};
use crate::wire::WireCounts;

/// Something a connection experienced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note {
    /// Its media path is connected.
    Connected { peer: PeerId },
    /// The first whole key frame of a camera it waited for came.
    Picture { peer: PeerId, source: u16, at: Instant },
}

/// What all threads know.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Time 0 of all records.
    pub(crate) epoch: Instant,
    begin_us: AtomicU64,
    end_us: AtomicU64,
    faulty_from_us: AtomicU64,
    faulty_until_us: AtomicU64,
    notes: mpsc::Sender<Note>,
}

impl Shared {
    /// The measured time; empty while there is none.
    pub(crate) fn window(&self) -> Window {
        Window {
            begin_us: self.begin_us.load(Ordering::Relaxed),
            end_us: self.end_us.load(Ordering::Relaxed),
        }
    }

    /// Whether ways have their faults.
    pub(crate) fn is_faulty(&self) -> bool {
        let from_us = self.faulty_from_us.load(Ordering::Relaxed);
        from_us != NEVER && {
            let now_us = self.now_us();
            now_us >= from_us && now_us < self.faulty_until_us.load(Ordering::Relaxed)
        }
    }

    /// Tells the scenario.
    pub(crate) fn tell(&self, note: Note) {
        // A scenario that ended reads no more.
        let _ = self.notes.blocking_send(note);
    }

    fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }
}

#[derive(Debug)]
enum Order {
    Add(Box<Peer>),
    Remove(PeerId),
    Await(PeerId, HashSet<u16>),
    Layers(PeerId, Vec<String>),
    Stop,
}

/// The way to one connection's thread.
#[derive(Clone, Debug)]
pub(crate) struct PeerHandle {
    peer: PeerId,
    orders: SyncSender<Order>,
    waker: Arc<Waker>,
}

impl PeerHandle {
    /// The connection sends the encodings with these names and no others.
    pub(crate) fn choose_layers(&self, rids: Vec<String>) {
        // A thread that ended needs no orders; it tells why when it is joined.
        let _ = self.orders.send(Order::Layers(self.peer, rids));
        let _ = self.waker.wake();
    }
}

/// What the connections of all threads counted.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) up: WireCounts,
    pub(crate) down: WireCounts,
}

/// All threads.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<Thread>,
    /// What the connections experience.
    pub(crate) notes: mpsc::Receiver<Note>,
}

#[derive(Debug)]
struct Thread {
    orders: SyncSender<Order>,
    waker: Arc<Waker>,
    handle: JoinHandle<anyhow::Result<Outcome>>,
}

impl Crew {
    /// Starts so many threads.
    ///
    /// # Errors
    /// When the kernel refuses what they need.
    pub(crate) fn start(threads: usize) -> anyhow::Result<Self> {
        let (sender, notes) = mpsc::channel(NOTES);
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            begin_us: AtomicU64::new(NEVER),
            end_us: AtomicU64::new(NEVER),
            faulty_from_us: AtomicU64::new(NEVER),
            faulty_until_us: AtomicU64::new(NEVER),
            notes: sender,
        });
        let threads = (0..threads.max(1))
            .map(|_| {
                let poll = Poll::new()?;
                let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
                let (orders, queue) = sync_channel(ORDERS);
                let shared = Arc::clone(&shared);
                let handle = std::thread::Builder::new()
                    .name("crew".to_owned())
                    .spawn(move || play(poll, &queue, &shared))?;
                Ok(Thread {
                    orders,
                    waker,
                    handle,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            shared,
            threads,
            notes,
        })
    }

    /// One more connection.
    pub(crate) fn add(&self, peer: Peer) -> anyhow::Result<()> {
        self.order(peer.id, Order::Add(Box::new(peer)))
    }

    /// The way to a connection, from anywhere.
    pub(crate) fn handle(&self, peer: PeerId) -> PeerHandle {
        let thread = &self.threads[peer % self.threads.len()];
        PeerHandle {
            peer,
            orders: thread.orders.clone(),
            waker: Arc::clone(&thread.waker),
        }
    }

    /// Forgets a connection.
    pub(crate) fn remove(&self, peer: PeerId) -> anyhow::Result<()> {
        self.order(peer, Order::Remove(peer))
    }

    /// The next whole key frame of each of these cameras is told.
    pub(crate) fn await_pictures(&self, peer: PeerId, cameras: HashSet<u16>) -> anyhow::Result<()> {
        self.order(peer, Order::Await(peer, cameras))
    }

    /// What is sent from here on counts, until [`Self::end`].
    pub(crate) fn begin(&self) {
        self.shared
            .begin_us
            .store(self.shared.now_us(), Ordering::Relaxed);
    }

    /// What is sent from here on does not count, and no fault is in effect any more.
    pub(crate) fn end(&self) {
        let now_us = self.shared.now_us();
        self.shared.end_us.store(now_us, Ordering::Relaxed);
        self.shared.faulty_until_us.store(now_us, Ordering::Relaxed);
    }

    /// Ways have their faults from here on.
    pub(crate) fn begin_faults(&self) {
        self.shared
            .faulty_from_us
            .store(self.shared.now_us(), Ordering::Relaxed);
    }

    /// Ends all threads and returns what they counted.
    ///
    /// # Errors
    /// When a connection ended early.
    pub(crate) fn stop(self) -> anyhow::Result<Outcome> {
        for thread in &self.threads {
            // A thread that is gone tells why when it is joined.
            let _ = thread.orders.send(Order::Stop);
            thread.waker.wake()?;
        }
        let mut sum = Outcome::default();
        for thread in self.threads {
            let part = thread
                .handle
                .join()
                .map_err(|_| anyhow::anyhow!("a thread of the tool panicked"))??;
            sum.tally.merge(part.tally);
            sum.up.add(part.up);
            sum.down.add(part.down);
        }
        Ok(sum)
    }

    fn order(&self, peer: PeerId, order: Order) -> anyhow::Result<()> {
        let thread = &self.threads[peer % self.threads.len()];
        thread
            .orders
            .send(order)
            .ok()
            .context("a thread of the tool ended")?;
        Ok(thread.waker.wake()?)
    }
}

/// A connection and when it wants to be played: in one place for all of a thread.
#[derive(Debug)]
struct Part {
    wakes_at: Instant,
    connected: bool,
    peer: Box<Peer>,
}

impl Part {
    /// Takes over what playing changed.
    fn look(&mut self) {
        self.wakes_at = self.peer.wakes_at();
        self.connected = self.peer.is_connected();
    }
}

fn play(mut poll: Poll, orders: &Receiver<Order>, shared: &Shared) -> anyhow::Result<Outcome> {
    let mut parts: BTreeMap<PeerId, Part> = BTreeMap::new();
    let mut outcome = Outcome::default();
    let mut post = Post::new();
    let mut events = Events::with_capacity(512);
    let mut ready: Vec<PeerId> = Vec::new();
    let mut gathers = false;
    let mut woke_at = Instant::now();
    loop {
        let now = Instant::now();
        let mut wait = parts
            .values()
            .map(|part| part.wakes_at)
            .fold(now + IDLE, Instant::min);
        loop {
            let timeout = wait.saturating_duration_since(Instant::now());
            match poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            ready.extend(events.iter().map(|event| event.token().0));
            let rest = (woke_at + GATHER).saturating_duration_since(Instant::now());
            if !gathers || rest.is_zero() {
                break;
            }
            std::thread::sleep(rest);
            wait = woke_at;
        }
        woke_at = Instant::now();
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Add(mut peer) => {
                    let token = Token(peer.id);
                    poll.registry()
                        .register(&mut peer.socket, token, Interest::READABLE)?;
                    parts.insert(
                        peer.id,
                        Part {
                            wakes_at: woke_at,
                            connected: false,
                            peer,
                        },
                    );
                }
                Order::Remove(id) => {
                    if let Some(part) = parts.remove(&id) {
                        outcome.count(&part.peer);
                    }
                }
                Order::Await(id, cameras) => {
                    if let Some(part) = parts.get_mut(&id) {
                        part.peer.await_pictures(cameras);
                    }
                }
                Order::Layers(id, rids) => {
                    if let Some(part) = parts.get_mut(&id) {
                        part.peer.choose_layers(&rids);
                    }
                }
                Order::Stop => {
                    parts.values().for_each(|part| outcome.count(&part.peer));
                    return Ok(outcome);
                }
            }
        }
        ready.sort_unstable();
        ready.dedup();
        for id in ready.drain(..) {
            if let Some(part) = parts.get_mut(&id) {
                part.peer.receive(&mut post, shared, &mut outcome.tally)?;
                part.look();
            }
        }
        let now = Instant::now();
        for part in parts.values_mut().filter(|part| part.wakes_at <= now) {
            part.peer.play(&mut post, shared, &mut outcome.tally)?;
            part.look();
        }
        gathers = parts.values().all(|part| part.connected);
    }
}

impl Outcome {
    fn count(&mut self, peer: &Peer) {
        let (up, down) = peer.wires();
        self.up.add(up);
        self.down.add(down);
    }
}

/// Token of the order queue; no connection has it.
const WAKER: Token = Token(usize::MAX);
/// Orders that may wait; who orders then waits as well.
const ORDERS: usize = 1_024;
/// Notes that may wait: several of every connection. A thread with more waits.
const NOTES: usize = 65_536;
/// How long a thread lets datagrams and timers come together once all its connections are connected. When a datagram came is
/// what the kernel says, so nothing that is measured gets longer by it.
const GATHER: Duration = Duration::from_millis(1);
/// How long a thread without timers waits.
const IDLE: Duration = Duration::from_millis(100);
/// A time that does not come.
const NEVER: u64 = u64::MAX;
