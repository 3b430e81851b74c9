//! The door under attack: everything that is not of the class is counted by reason, and the class loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use seodang_model::protocol::Offer;
use seodang_sfu::{OfferError, SfuStats};

use super::peer::Hello;
use super::*;

/// What an attack lasts at least.
const ATTACK: Duration = Duration::from_secs(2);

#[tokio::test]
async fn ten_thousand_junk_datagrams_a_second_are_counted_and_cost_nobody_a_packet() {
    let (sfu, handle, _events) = start();
    let mut class = Class::gather(&handle).await;
    let target = sfu.local_addresses()[0];
    let before = handle.stats().await;
    // In turn: too short, a check of nobody, DTLS, media, and what is no protocol that is spoken here.
    let flood = Flood::start(target, 10_000, |number| match number % 5 {
        0 => vec![0x80; 4],
        1 => vec![0; 100],
        2 => [&[22, 0xfe, 0xff][..], &[0; 200]].concat(),
        3 => vec![0x80; 1_200],
        _ => vec![100; 60],
    });
    class.play_for(ATTACK);
    let sent = flood.stop();
    // From an address that is known, as a forger may write on his datagrams.
    let forged = 500;
    for number in 0..forged {
        let first = [0x80, 100][number % 2];
        class
            .sender
            .send_raw(&[&[first, 96][..], &[number as u8; 300]].concat());
    }
    let reasons = [
        "dropped_malformed",
        "dropped_unknown_ufrag",
        "dropped_unknown_address",
        "dropped_not_authentic",
    ];
    let dropped = class
        .wait_for(&handle, &before, &reasons, sent + forged as u64)
        .await;

    assert_eq!(dropped["dropped_malformed"], sent.div_ceil(5) + forged as u64 / 2);
    assert_eq!(dropped["dropped_unknown_ufrag"], (sent - 1).div_ceil(5));
    assert_eq!(dropped["dropped_not_authentic"], forged as u64 / 2);
    class.assert_whole(&handle).await;
    end(sfu).await;
}

#[tokio::test]
async fn checks_with_a_wrong_password_are_counted_and_move_nobody() {
    let (sfu, handle, _events) = start();
    let mut class = Class::gather(&handle).await;
    let before = handle.stats().await;
    let user_name = class.watchers[0].user_name.clone();
    let flood = Flood::start(sfu.local_addresses()[0], 5_000, move |number| {
        forged_check(&user_name, number)
    });
    class.play_for(ATTACK);
    let sent = flood.stop();
    let dropped = class
        .wait_for(&handle, &before, &["dropped_stun_not_authentic"], sent)
        .await;
    assert_eq!(dropped["dropped_stun_not_authentic"], sent);
    class.assert_whole(&handle).await;
    end(sfu).await;
}

#[tokio::test]
async fn a_hello_in_two_datagrams_in_either_order_gets_the_fast_cipher_while_others_race_it() {
    let (sfu, handle, _events) = start();
    let mut class = Class::gather(&handle).await;
    let before = handle.stats().await;
    // A ClientHello that offers no GCM, from wherever it may come.
    let hello = class.sender.first_hello.clone();
    assert_eq!(hello[13], 1, "a ClientHello");
    let flood = Flood::start(sfu.local_addresses()[0], 5_000, move |_| hello.clone());
    let mut joined = Vec::new();
    for (place, hello) in [Hello::InTwo, Hello::InTwoBackwards]
        .into_iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        joined.push(enter(&handle, 100 + place as u128, Peer::sending().saying(hello)).await);
        class.play_for(Duration::from_millis(50));
    }
    let sent = flood.stop();
    let dropped = class
        .wait_for(&handle, &before, &["dropped_unknown_address"], sent)
        .await;
    assert_eq!(dropped["dropped_unknown_address"], sent);
    let stats = handle.stats().await;
    assert_eq!(stats["handshakes_gcm"] - before["handshakes_gcm"], 6, "{stats:?}");
    assert_eq!(stats["handshakes_failed"], 0);
    class.assert_whole(&handle).await;
    end(sfu).await;
}

#[tokio::test]
async fn replayed_media_and_sources_nobody_announced_are_counted_and_go_nowhere() {
    let (sfu, handle, _events) = start();
    let mut class = Class::gather(&handle).await;
    let before = handle.stats().await;
    for _ in 0..300 {
        let again = class.sender.last_media.clone();
        class.sender.send_raw(&again);
        class.turn();
    }
    let dropped = class.wait_for(&handle, &before, &["dropped_replayed"], 300).await;
    assert_eq!(dropped["dropped_replayed"], 300);

    let mut prankster = enter(&handle, 5, Peer::sending()).await;
    let camera = Publication {
        participant: prankster.id,
        source: Source::Camera,
    };
    handle.publish(camera).expect("room for a command");
    play(&mut [&mut prankster], |peers| peers[0].sent >= 20);
    prankster.send_unannounced(40);
    class.others.push(prankster);
    let reasons = [
        "dropped_second_ssrc",
        "dropped_unbound",
        "dropped_too_many_sources",
    ];
    let dropped = class.wait_for(&handle, &before, &reasons, 40).await;
    assert_eq!(dropped.values().sum::<u64>(), 40, "{dropped:?}");
    assert!(
        dropped["dropped_too_many_sources"] > 0,
        "memory is bounded: {dropped:?}"
    );
    class.assert_whole(&handle).await;
    end(sfu).await;
}

#[tokio::test]
async fn an_offer_with_a_hundred_lines_or_a_data_channel_is_refused_and_changes_nothing() {
    let (sfu, handle, _events) = start();
    let mut class = Class::gather(&handle).await;
    let offer = Peer::sending().offer();
    let at = offer.sdp.find("m=video").expect("a media line");
    let (head, line) = offer.sdp.split_at(at);
    let lines = Offer {
        sdp: [head, &line.repeat(100)].concat(),
        ..offer.clone()
    };
    let channel = Offer {
        sdp: format!(
            "{}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n",
            offer.sdp
        ),
        ..offer
    };
    for _ in 0..50 {
        let refused = handle.offer(class.sender.id, lines.clone()).await;
        assert!(matches!(refused, Err(OfferError::Bad { .. })), "{refused:?}");
        let refused = handle.offer(class.sender.id, channel.clone()).await;
        assert_eq!(refused, Err(OfferError::Datachannel));
        class.turn();
    }
    class.assert_whole(&handle).await;
    end(sfu).await;
}

/// One sends, three watch, and none of them may miss anything.
struct Class {
    sender: Peer,
    watchers: Vec<Peer>,
    others: Vec<Peer>,
}

impl Class {
    async fn gather(handle: &SfuHandle) -> Self {
        let sender = enter(handle, 1, Peer::sending()).await;
        let camera = Publication {
            participant: sender.id,
            source: Source::Camera,
        };
        handle.publish(camera).expect("room for a command");
        let mut watchers = Vec::new();
        for place in 2..5 {
            let watcher = enter(handle, place, Peer::watching()).await;
            let wish = ViewSlot {
                mid: watcher.slot(),
                participant: sender.id,
                source: Source::Camera,
                width: 0,
                height: 0,
            };
            handle
                .view(watcher.id, 1, vec![wish])
                .expect("room for a command");
            watchers.push(watcher);
        }
        let mut class = Self {
            sender,
            watchers,
            others: Vec::new(),
        };
        class.play_until(|class| class.watchers.iter().all(|watcher| watcher.received.len() >= 20));
        class
    }

    fn turn(&mut self) {
        self.sender.turn();
        self.watchers
            .iter_mut()
            .chain(&mut self.others)
            .for_each(Peer::turn);
    }

    fn play_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn();
        }
    }

    fn play_until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "not done in time");
            self.turn();
        }
    }

    /// Plays on until as many datagrams were dropped for these reasons, which are the result.
    async fn wait_for(
        &mut self,
        handle: &SfuHandle,
        before: &SfuStats,
        reasons: &[&'static str],
        count: u64,
    ) -> SfuStats {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = handle.stats().await;
            let of = |stats: &SfuStats, reason| stats.get(reason).copied().unwrap_or_default();
            let dropped: SfuStats = reasons
                .iter()
                .map(|reason| (*reason, of(&stats, reason) - of(before, reason)))
                .collect();
            if dropped.values().sum::<u64>() >= count {
                return dropped;
            }
            assert!(
                Instant::now() < deadline,
                "{count} expected: {dropped:?} of {stats:?}"
            );
            self.turn();
        }
    }

    /// Everything that is sent from here on and was sent before has arrived, in order, without a request to repeat it.
    async fn assert_whole(&mut self, handle: &SfuHandle) {
        let last = self.sender.sent + 50;
        self.play_until(|class| {
            class
                .watchers
                .iter()
                .all(|watcher| watcher.received.last() >= Some(&last))
        });
        for watcher in &self.watchers {
            let gap = watcher.received.windows(2).find(|pair| pair[1] != pair[0] + 1);
            assert_eq!(gap, None);
        }
        let stats = handle.stats().await;
        for counter in [
            "packets_resent",
            "nacks_sent",
            "panics_contained",
            "dropped_receive_queue_full",
        ] {
            assert_eq!(stats[counter], 0, "{counter}");
        }
    }
}

/// A stranger who sends without pause.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: JoinHandle<u64>,
}

impl Flood {
    /// Sends what `datagram` makes of each number from 0, so many a second.
    fn start(target: SocketAddr, a_second: u64, datagram: impl Fn(u64) -> Vec<u8> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sent = std::thread::spawn(move || {
            let (began, mut sent) = (Instant::now(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let due = began.elapsed().as_millis() as u64 * a_second / 1_000;
                while sent < due {
                    socket
                        .send_to(&datagram(sent), target)
                        .expect("loopback takes it");
                    sent += 1;
                }
                std::thread::yield_now();
            }
            let lasted = began.elapsed().as_millis() as u64;
            assert!(
                sent >= a_second * lasted / 2_000,
                "{sent} in {lasted} ms: no attack worth the name"
            );
            sent
        });
        Self { stop, sent }
    }

    /// Ends it; the result is how many datagrams were sent.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sent.join().expect("no panic")
    }
}

/// A binding request with the right name and a made-up MESSAGE-INTEGRITY (RFC 8489 sections 5 and 14.5).
fn forged_check(user_name: &str, number: u64) -> Vec<u8> {
    let padded = user_name.len().next_multiple_of(4);
    let length = 4 + padded + 4 + 4 + 20;
    let mut request = vec![0, 1, 0, length as u8, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0];
    request.extend(number.to_be_bytes());
    request.extend([0, 6, 0, user_name.len() as u8]);
    request.extend(user_name.as_bytes());
    request.resize(20 + 4 + padded, 0);
    // USE-CANDIDATE: it would move the connection.
    request.extend([0, 0x25, 0, 0]);
    request.extend([0, 8, 0, 20]);
    request.extend([number as u8; 20]);
    request
}

async fn end(sfu: Sfu) {
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}
