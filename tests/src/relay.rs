//! A network that loses, delays, reorders and repeats datagrams, the same way for the same seed.
//!
//! It stands between one participant and the server: the participant's answer is changed so that the server's candidate
//! is the relay, and the relay speaks to the server from a socket of its own.

use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::Instant;

/// What happens to datagrams of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkFaults {
    /// Share of datagrams that vanish, 0 to 1.
    pub loss: f64,
    /// Share that comes twice.
    pub duplicates: f64,
    /// Every datagram takes this long.
    pub delay: Duration,
    /// And up to this much longer, chosen for each: datagrams overtake one another.
    pub jitter: Duration,
}

/// The relay of one participant; dropping it cuts the line.
#[derive(Debug)]
pub struct LossyRelay {
    socket: Arc<UdpSocket>,
    faults: Arc<Mutex<(NetworkFaults, NetworkFaults)>>,
    server: watch::Sender<Option<SocketAddr>>,
    /// Datagrams that vanished, towards the server and from it.
    lost: Arc<[AtomicU64; 2]>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl LossyRelay {
    /// Opens a relay with faults towards the server and from it, and prints the seed.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub async fn open(seed: u64, up: NetworkFaults, down: NetworkFaults) -> std::io::Result<Arc<Self>> {
        println!("lossy relay: seed {seed}, up {up:?}, down {down:?}");
        let inner = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let outer = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let faults = Arc::new(Mutex::new((up, down)));
        let (server, to_server) = watch::channel(None);
        let (participant, to_participant) = watch::channel(None);
        let lost = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let upward = Line {
            from: Arc::clone(&inner),
            to: Arc::clone(&outer),
            target: to_server,
            seen: Some(participant),
            faults: {
                let faults = Arc::clone(&faults);
                Box::new(move || read(&faults).0)
            },
            lost: {
                let lost = Arc::clone(&lost);
                Box::new(move || count(&lost[0]))
            },
            chance: StdRng::seed_from_u64(seed),
        };
        let downward = Line {
            from: outer,
            to: Arc::clone(&inner),
            target: to_participant,
            seen: None,
            faults: {
                let faults = Arc::clone(&faults);
                Box::new(move || read(&faults).1)
            },
            lost: {
                let lost = Arc::clone(&lost);
                Box::new(move || count(&lost[1]))
            },
            chance: StdRng::seed_from_u64(seed.wrapping_add(1)),
        };
        let tasks = vec![tokio::spawn(upward.run()), tokio::spawn(downward.run())];
        Ok(Arc::new(Self {
            socket: inner,
            faults,
            server,
            lost,
            tasks,
        }))
    }

    /// For [`seodang_fixtures::JoinOptions::change_answer`]: leads the participant to this relay, and the relay to the
    /// server's first candidate.
    pub fn change_answer(self: &Arc<Self>) -> Arc<dyn Fn(String) -> String + Send + Sync> {
        let relay = Arc::clone(self);
        Arc::new(move |answer| relay.intercept(&answer))
    }

    /// Changes the faults, towards the server and from it.
    pub fn set_faults(&self, up: NetworkFaults, down: NetworkFaults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = (up, down);
    }

    /// Datagrams that vanished so far, towards the server and from it.
    #[must_use]
    pub fn lost(&self) -> [u64; 2] {
        [
            self.lost[0].load(Ordering::Relaxed),
            self.lost[1].load(Ordering::Relaxed),
        ]
    }

    fn intercept(&self, answer: &str) -> String {
        let Ok(here) = self.socket.local_addr() else {
            return answer.to_owned();
        };
        let mut lines = Vec::new();
        for line in answer.lines() {
            let Some(candidate) = line.strip_prefix("a=candidate:") else {
                lines.push(line.to_owned());
                continue;
            };
            let mut words: Vec<String> = candidate.split(' ').map(str::to_owned).collect();
            let address = words
                .get(4)
                .zip(words.get(5))
                .and_then(|(ip, port)| format!("{ip}:{port}").parse().ok());
            let Some(address) = address else { continue };
            self.server.send_if_modified(|known| {
                let first = known.is_none_or(|known| known != address);
                *known = Some(address);
                first
            });
            words[4] = here.ip().to_string();
            words[5] = here.port().to_string();
            lines.push(format!("a=candidate:{}", words.join(" ")));
        }
        lines.join("\r\n") + "\r\n"
    }
}

impl Drop for LossyRelay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// One direction.
struct Line {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    target: watch::Receiver<Option<SocketAddr>>,
    /// Where the sender's address is noted, so that answers find back.
    seen: Option<watch::Sender<Option<SocketAddr>>>,
    faults: Box<dyn Fn() -> NetworkFaults + Send>,
    lost: Box<dyn Fn() + Send>,
    chance: StdRng,
}

/// A datagram under way; the earliest is the greatest.
#[derive(PartialEq, Eq)]
struct UnderWay {
    due: Instant,
    number: u64,
    data: Vec<u8>,
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Line {
    async fn run(mut self) {
        let mut under_way = BinaryHeap::new();
        let mut number = 0;
        let mut buffer = vec![0; 65_536];
        loop {
            let due = under_way.peek().map_or_else(
                || Instant::now() + Duration::from_secs(60),
                |next: &UnderWay| next.due,
            );
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => {
                    if let (Some(datagram), Some(target)) = (under_way.pop(), *self.target.borrow()) {
                        // A closed port at the other end is reported here; the next datagram may arrive all the same.
                        let _refused = self.to.try_send_to(&datagram.data, target);
                    }
                }
                received = self.from.recv_from(&mut buffer) => {
                    let Ok((length, sender)) = received else { continue };
                    if let Some(seen) = &self.seen {
                        seen.send_replace(Some(sender));
                    }
                    for due in self.fates() {
                        number += 1;
                        under_way.push(UnderWay { due, number, data: buffer[..length].to_vec() });
                    }
                }
            }
        }
    }

    /// When the datagram arrives: never, once, or twice.
    fn fates(&mut self) -> Vec<Instant> {
        let faults = (self.faults)();
        if self.chance.random_bool(faults.loss) {
            (self.lost)();
            return Vec::new();
        }
        let copies = if self.chance.random_bool(faults.duplicates) {
            2
        } else {
            1
        };
        (0..copies)
            .map(|_| Instant::now() + faults.delay + faults.jitter.mul_f64(self.chance.random()))
            .collect()
    }
}

fn read(faults: &Mutex<(NetworkFaults, NetworkFaults)>) -> (NetworkFaults, NetworkFaults) {
    *faults.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seed: u64, faults: NetworkFaults) -> Vec<u8> {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let relay = LossyRelay::open(seed, faults, NetworkFaults::default())
            .await
            .expect("a relay");
        let port = server.local_addr().expect("bound").port();
        let answer = format!("v=0\r\na=candidate:1 1 udp 1 127.0.0.1 {port} typ host\r\n");
        assert!(!relay.intercept(&answer).contains(&format!(" {port} ")));
        let participant = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let target = relay.socket.local_addr().expect("bound");
        for number in 0..100 {
            participant
                .send_to(&[number], target)
                .await
                .expect("loopback takes it");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let mut arrived = Vec::new();
        let mut buffer = [0; 16];
        while let Ok(Ok(_)) =
            tokio::time::timeout(Duration::from_millis(300), server.recv_from(&mut buffer)).await
        {
            arrived.push(buffer[0]);
        }
        arrived
    }

    #[tokio::test]
    async fn without_faults_everything_arrives_in_order() {
        assert_eq!(
            pass(1, NetworkFaults::default()).await,
            (0..100).collect::<Vec<u8>>()
        );
    }

    #[tokio::test]
    async fn the_same_seed_loses_the_same_datagrams() {
        let faults = NetworkFaults {
            loss: 0.3,
            duplicates: 0.1,
            ..NetworkFaults::default()
        };
        let (first, second) = (pass(7, faults).await, pass(7, faults).await);
        assert_eq!(first, second);
        assert!((50..95).contains(&first.len()), "{}", first.len());
    }

    #[tokio::test]
    async fn jitter_lets_datagrams_overtake() {
        let faults = NetworkFaults {
            jitter: Duration::from_millis(20),
            ..NetworkFaults::default()
        };
        let arrived = pass(3, faults).await;
        assert_eq!(arrived.len(), 100);
        assert!(!arrived.is_sorted());
    }
}
