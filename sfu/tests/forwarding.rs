//! The SFU over real sockets, with participants of an independent stack.

#[path = "forwarding/door.rs"]
mod door;
#[path = "forwarding/peer.rs"]
mod peer;
#[path = "forwarding/spread.rs"]
mod spread;
#[path = "forwarding/streams.rs"]
mod streams;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use peer::Peer;
use seodang_model::protocol::{IceState, MediaState, ViewSlot};
use seodang_model::{LessonId, ParticipantId, Publication, Rights, Source};
use seodang_rtp::{NtpTime, RtpPacket};
use seodang_sfu::{Join, OfferError, Sfu, SfuConfig, SfuEvent, SfuHandle, SfuStats, TrackSink};

const PATIENCE: Duration = Duration::from_secs(10);
const LESSON: LessonId = LessonId::from_bits(7);

#[tokio::test]
async fn what_one_sends_another_receives_and_a_sink_sees() {
    let (sfu, handle, mut events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let mut watcher = enter(&handle, 2, Peer::watching()).await;
    let (sink, mirrored) = CountingSink::new();
    let camera = Publication {
        participant: sender.id,
        source: Source::Camera,
    };
    handle.publish(camera).expect("room for a command");
    handle.attach(camera, Box::new(sink)).expect("room for a command");
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
    play(&mut [&mut sender, &mut watcher], |peers| {
        peers[1].received.len() >= 50
    });

    // Every packet of the picture came whole, in order, and the mirror saw what was sent.
    let numbers = &watcher.received;
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{numbers:?}"
    );
    // The mirror comes after the watchers: its last packet may still be on its way.
    let seen: Vec<u32> = std::iter::from_fn(|| mirrored.recv_timeout(PATIENCE).ok())
        .take(50)
        .collect();
    assert!(
        seen.len() == 50 && seen.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{seen:?}"
    );
    let stats = handle.stats().await;
    assert_eq!(stats["handshakes_gcm"], 2, "the fast cipher must win");
    assert!(
        std::iter::from_fn(|| events.try_recv().ok()).any(|event| matches!(
            event,
            SfuEvent::States {
                media: MediaState::Ready,
                ..
            }
        ))
    );

    handle.close_room(LESSON).await.expect("a worker");
    let end = std::iter::repeat_with(|| mirrored.try_recv()).find_map(Result::err);
    assert_eq!(
        end,
        Some(mpsc::TryRecvError::Disconnected),
        "closing drops the sinks before it is answered"
    );
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

#[tokio::test]
async fn a_detached_sink_sees_nothing_more_while_the_class_goes_on() {
    let (sfu, handle, _events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let (sink, mirrored) = CountingSink::new();
    let camera = Publication {
        participant: sender.id,
        source: Source::Camera,
    };
    handle.publish(camera).expect("room for a command");
    handle.attach(camera, Box::new(sink)).expect("room for a command");
    play(&mut [&mut sender], |peers| peers[0].sent > 20);
    handle.detach(camera).expect("room for a command");
    let seen = mirrored.iter().count();
    assert!(seen > 0, "the sink is dropped, so counting ends");
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

#[tokio::test]
async fn a_second_offer_replaces_the_connection_and_keeps_publication_and_sink() {
    let (sfu, handle, _events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let (sink, mirrored) = CountingSink::new();
    let camera = Publication {
        participant: sender.id,
        source: Source::Camera,
    };
    handle.publish(camera).expect("room for a command");
    handle.attach(camera, Box::new(sink)).expect("room for a command");
    play(&mut [&mut sender], |peers| peers[0].sent > 20);
    let before = mirrored.try_iter().count();
    let mut again = enter(&handle, 1, Peer::sending()).await;
    play(&mut [&mut again], |peers| peers[0].sent > 40);
    let after = mirrored.try_iter().count();
    assert!(before > 0 && after > 0, "{before} packets before, {after} after");
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

#[tokio::test]
async fn an_ice_restart_keeps_keys_slots_and_streams_on_both_sides() {
    let (sfu, handle, mut events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let mut watcher = enter(&handle, 2, Peer::watching()).await;
    show(&handle, &sender, &watcher);
    play(&mut [&mut sender, &mut watcher], |peers| {
        peers[1].received.len() >= 20
    });
    for moving in 0..2 {
        let peer = [&mut sender, &mut watcher].into_iter().nth(moving).expect("two");
        let offer = peer.restart();
        let answer = handle.offer(peer.id, offer).await.expect("an answer");
        assert!(
            answer.contains("o=- 1 2 IN"),
            "a changed answer counts its version up"
        );
        peer.accept(peer.id, &answer);
        let before = watcher.received.len();
        play(&mut [&mut sender, &mut watcher], |peers| {
            peers[1].received.len() >= before + 50
        });
    }
    // One stream on one slot: what was lost on the old path was asked for again.
    let mut numbers = watcher.received.clone();
    numbers.sort_unstable();
    numbers.dedup();
    let lost = (numbers[numbers.len() - 1] - numbers[0]) as usize + 1 - numbers.len();
    assert!(lost < 20, "{lost} packets lost: {numbers:?}");
    let stats = handle.stats().await;
    assert_eq!(
        (stats["handshakes_done"], stats["connections"]),
        (2, 2),
        "{stats:?}"
    );
    assert!(
        !std::iter::from_fn(|| events.try_recv().ok())
            .any(|event| matches!(event, SfuEvent::ReofferNeeded { .. }))
    );
    stop(sfu).await;
}

#[tokio::test]
async fn a_restart_of_a_connection_that_is_gone_or_has_other_lines_is_refused() {
    let (sfu, handle, _events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let mut offer = sender.restart();
    offer.sources.clear();
    let refused = handle.offer(sender.id, offer.clone()).await.expect_err("refused");
    assert!(matches!(refused, OfferError::Bad { line: None, .. }), "{refused}");
    assert_eq!(
        handle.stats().await["connections"],
        1,
        "the connection is as it was"
    );
    offer.connection += 1;
    let refused = handle.offer(sender.id, offer).await.expect_err("refused");
    assert_eq!(refused, OfferError::Gone);
    let stranger = Peer::sending();
    let refused = enter_with_restart(&handle, 2, stranger).await;
    assert_eq!(refused, OfferError::Gone);
    stop(sfu).await;
}

#[tokio::test]
async fn a_router_that_changes_the_port_loses_nobody() {
    let (sfu, handle, mut events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let mut watcher = enter(&handle, 2, Peer::watching()).await;
    show(&handle, &sender, &watcher);
    play(&mut [&mut sender, &mut watcher], |peers| {
        peers[1].received.len() >= 20
    });
    for moving in 0..2 {
        [&mut sender, &mut watcher][moving].rebind();
        let before = watcher.received.len();
        play(&mut [&mut sender, &mut watcher], |peers| {
            peers[1].received.len() >= before + 50
        });
    }
    assert!(
        !std::iter::from_fn(|| events.try_recv().ok())
            .any(|event| matches!(event, SfuEvent::ReofferNeeded { .. }))
    );
    stop(sfu).await;
}

#[tokio::test]
async fn ipv6_and_ipv4_meet_on_one_port() {
    if UdpSocket::bind("[::1]:0").is_err() {
        // A system without IPv6 has nothing to show here.
        return;
    }
    let (sfu, handle, _events) = start_on(
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        &[Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        1,
        100,
    );
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let mut watcher = enter(&handle, 2, Peer::watching_from("[::1]:0")).await;
    show(&handle, &sender, &watcher);
    play(&mut [&mut sender, &mut watcher], |peers| {
        peers[1].received.len() >= 50
    });
    assert!(
        watcher.remote().is_ipv6() && sender.remote().is_ipv4(),
        "{} and {}",
        watcher.remote(),
        sender.remote()
    );
    stop(sfu).await;
}

#[tokio::test]
async fn what_is_lost_both_ways_comes_again_by_rtx() {
    let (sfu, handle, _events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let mut watcher = enter(&handle, 2, Peer::watching()).await;
    show(&handle, &sender, &watcher);
    let stats = lose_and_repair(&handle, &mut sender, &mut watcher).await;
    assert!(
        stats["packets_resent"] <= 2 * watcher.lost as u64,
        "{} for {} lost",
        stats["packets_resent"],
        watcher.lost
    );
    stop(sfu).await;
}

/// A tenth is lost both ways for 400 pictures, of which at most one in a hundred may be missing in the end; the counters then.
async fn lose_and_repair(handle: &SfuHandle, sender: &mut Peer, watcher: &mut Peer) -> SfuStats {
    play(&mut [&mut *sender, &mut *watcher], |peers| {
        peers[1].received.len() >= 10
    });
    sender.lose(0.1);
    watcher.lose(0.1);
    let wanted = watcher.received.len() + 400;
    play(&mut [&mut *sender, &mut *watcher], |peers| {
        peers[1].received.len() >= wanted
    });
    // What was lost last is repaired, too.
    sender.lose(0.0);
    watcher.lose(0.0);
    let last = sender.sent;
    play(&mut [&mut *sender, &mut *watcher], |peers| {
        peers[1].received.iter().any(|number| *number > last + 50)
    });
    assert!(sender.lost > 30 && watcher.lost > 30);
    let numbers: std::collections::BTreeSet<u32> = watcher.received.iter().copied().collect();
    let first = *numbers.first().expect("some came");
    let missing = (first..=last).filter(|number| !numbers.contains(number)).count();
    assert!(missing * 100 <= (last - first) as usize, "{missing} did not come");
    let stats = handle.stats().await;
    assert!(
        stats["packets_repaired"] > 10 && stats["packets_resent"] > 10,
        "{stats:?}"
    );
    stats
}

#[tokio::test]
async fn strangers_are_counted_and_change_nothing() {
    let (sfu, handle, _events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let camera = Publication {
        participant: sender.id,
        source: Source::Camera,
    };
    handle.publish(camera).expect("room for a command");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = sfu.local_addresses()[0];
    for number in 0..2_000_u32 {
        let shape = [0_u8, 1, 22, 23, 128, 200, 255][number as usize % 7];
        let mut datagram = vec![shape; 4 + number as usize % 200];
        datagram.extend(number.to_be_bytes());
        stranger.send_to(&datagram, target).expect("loopback takes it");
    }
    let sent = sender.sent;
    play(&mut [&mut sender], |peers| peers[0].sent > sent + 50);
    let stats = handle.stats().await;
    let dropped: u64 = stats
        .iter()
        .filter(|(name, _)| name.starts_with("dropped_"))
        .map(|(_, count)| count)
        .sum();
    assert!(dropped >= 1_900, "{stats:?}");
    assert_eq!(stats["panics_contained"], 0);
    // The last of the fifty may still be on their way.
    assert!(stats["packets_in"] > 25);
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

#[tokio::test]
async fn another_certificate_than_the_announced_one_gets_no_keys() {
    let (sfu, handle, mut events) = start();
    let id = ParticipantId::from_bits(1);
    let rights = Rights {
        may_publish: true,
        may_share_screen: true,
    };
    handle
        .join(Join {
            lesson: LESSON,
            participant: id,
            rights,
        })
        .await
        .expect("a seat");
    let mut peer = Peer::sending();
    let mut offer = peer.offer();
    let at =
        offer.sdp.find("a=fingerprint:sha-256 ").expect("a fingerprint") + "a=fingerprint:sha-256 ".len();
    let forged = if &offer.sdp[at..at + 1] == "0" { "1" } else { "0" };
    offer.sdp.replace_range(at..at + 1, forged);
    let answer = handle.offer(id, offer).await.expect("an answer");
    peer.accept(id, &answer);
    let deadline = Instant::now() + PATIENCE;
    let reason = loop {
        assert!(Instant::now() < deadline, "nobody noticed");
        peer.turn();
        match events.try_recv() {
            Ok(SfuEvent::ReofferNeeded { reason, .. }) => break reason,
            Ok(SfuEvent::States { media, .. }) => assert_eq!(media, MediaState::New),
            _ => {}
        }
    };
    assert_eq!(reason, "the certificate is not the announced one");
    assert_eq!(handle.stats().await["fingerprint_mismatches"], 1);
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

#[tokio::test]
async fn a_sink_that_panics_ends_one_connection_and_nobody_else_notices() {
    let (sfu, handle, mut events) = start();
    let mut faulty = enter(&handle, 1, Peer::sending()).await;
    let mut other = enter(&handle, 2, Peer::sending()).await;
    let camera = |participant| Publication {
        participant,
        source: Source::Camera,
    };
    let (sink, mirrored) = CountingSink::new();
    handle.publish(camera(other.id)).expect("room for a command");
    handle
        .attach(camera(other.id), Box::new(sink))
        .expect("room for a command");
    handle.publish(camera(faulty.id)).expect("room for a command");
    handle
        .attach(camera(faulty.id), Box::new(PanickingSink))
        .expect("room for a command");
    let deadline = Instant::now() + PATIENCE;
    let lost = loop {
        assert!(Instant::now() < deadline, "nobody noticed");
        faulty.turn();
        other.turn();
        if let Ok(SfuEvent::ReofferNeeded { participant, .. }) = events.try_recv() {
            break participant;
        }
    };
    assert_eq!(lost, faulty.id);
    assert_eq!(handle.stats().await["panics_contained"], 1);
    let report = handle.room_report(LESSON).await.expect("a worker");
    let states: Vec<_> = report
        .participants
        .iter()
        .map(|participant| (participant.ice, participant.media))
        .collect();
    assert_eq!(
        states,
        [
            (IceState::Lost, MediaState::New),
            (IceState::Connected, MediaState::Ready)
        ]
    );

    let seen = mirrored.try_iter().count();
    let sent = other.sent;
    play(&mut [&mut other], |peers| peers[0].sent > sent + 20);
    assert!(seen > 0 && mirrored.try_iter().count() > 0);
    handle.detach(camera(faulty.id)).expect("room for a command");
    enter(&handle, 1, Peer::sending()).await;
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

#[tokio::test]
async fn one_forged_record_from_a_known_address_ends_nothing() {
    let (sfu, handle, mut events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    for kind in 20..64_u8 {
        sender.send_raw(&[kind; 40]);
        sender.send_raw(&[kind, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 99, 0, 1, 0]);
    }
    let sent = sender.sent;
    play(&mut [&mut sender], |peers| peers[0].sent > sent + 20);
    assert!(
        !std::iter::from_fn(|| events.try_recv().ok())
            .any(|event| matches!(event, SfuEvent::ReofferNeeded { .. }))
    );
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

#[tokio::test]
async fn a_lesson_that_fits_lives_on_one_worker_and_browsers_are_told_its_port() {
    let (sfu, handle, _events) = start_workers(2);
    let ports = sfu.local_addresses();
    assert_ne!(ports[0], ports[1]);
    let mut everybody = Vec::new();
    for (place, lesson) in [1, 2, 2, 1].into_iter().enumerate() {
        let lesson = LessonId::from_bits(lesson);
        let sender = enter_lesson(&handle, lesson, 10 + place as u128, Peer::sending()).await;
        let camera = Publication {
            participant: sender.id,
            source: Source::Camera,
        };
        handle.publish(camera).expect("room for a command");
        let watcher = enter_lesson(&handle, lesson, 20 + place as u128, Peer::watching()).await;
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
        everybody.extend([sender, watcher]);
    }
    let mut everybody: Vec<&mut Peer> = everybody.iter_mut().collect();
    play(&mut everybody, |peers| {
        let mut watchers = peers.iter().skip(1).step_by(2);
        watchers.all(|watcher| watcher.received.len() >= 20)
    });
    let places: Vec<_> = everybody.iter().map(|peer| peer.remote()).collect();
    let [first, second] = [ports[0], ports[1]];
    assert_eq!(
        places,
        [first, first, second, second, second, second, first, first]
    );
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

#[tokio::test]
async fn counters_outlive_their_rooms() {
    let (sfu, handle, _events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    play(&mut [&mut sender], |peers| peers[0].sent > 20);
    let counted = handle.stats().await["packets_in"];
    handle.leave(sender.id).expect("room for a command");
    assert!(counted > 0 && handle.stats().await["packets_in"] >= counted);
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

fn start() -> (Sfu, SfuHandle, tokio::sync::mpsc::Receiver<SfuEvent>) {
    start_workers(1)
}

fn start_workers(workers: u16) -> (Sfu, SfuHandle, tokio::sync::mpsc::Receiver<SfuEvent>) {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    start_on(localhost, &[localhost], workers, 100)
}

/// Rooms of more than `worker_seats` participants spread over the workers.
fn start_spread(workers: u16, worker_seats: u16) -> (Sfu, SfuHandle, tokio::sync::mpsc::Receiver<SfuEvent>) {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    start_on(localhost, &[localhost], workers, worker_seats)
}

fn start_on(
    bind: IpAddr,
    candidates: &[IpAddr],
    workers: u16,
    worker_seats: u16,
) -> (Sfu, SfuHandle, tokio::sync::mpsc::Receiver<SfuEvent>) {
    let config = SfuConfig {
        worker_seats,
        ..config(bind, candidates, workers)
    };
    Sfu::start(config).expect("loopback can be bound")
}

fn config(bind: IpAddr, candidates: &[IpAddr], workers: u16) -> SfuConfig {
    SfuConfig {
        bind,
        port: 0,
        tcp: true,
        workers,
        worker_seats: 100,
        candidates: candidates.to_vec(),
        publisher_bitrate_bps: 2_000_000,
        recording_size: seodang_rtp::FrameSize {
            width: 640,
            height: 480,
        },
        capture_size: seodang_rtp::FrameSize {
            width: 640,
            height: 480,
        },
    }
}

async fn stop(sfu: Sfu) {
    tokio::task::spawn_blocking(|| sfu.shutdown())
        .await
        .expect("no panic");
}

/// The sender's camera on the watcher's slot.
fn show(handle: &SfuHandle, sender: &Peer, watcher: &Peer) {
    let camera = Publication {
        participant: sender.id,
        source: Source::Camera,
    };
    handle.publish(camera).expect("room for a command");
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
}

/// Joins, and restarts what never was.
async fn enter_with_restart(handle: &SfuHandle, bits: u128, mut peer: Peer) -> OfferError {
    let participant = ParticipantId::from_bits(bits);
    let rights = Rights {
        may_publish: true,
        may_share_screen: true,
    };
    let join = Join {
        lesson: LESSON,
        participant,
        rights,
    };
    handle.join(join).await.expect("a seat");
    let mut offer = peer.offer();
    offer.restart = true;
    handle.offer(participant, offer).await.expect_err("refused")
}

/// Joins, offers and plays until the peer is connected.
async fn enter(handle: &SfuHandle, bits: u128, peer: Peer) -> Peer {
    enter_lesson(handle, LESSON, bits, peer).await
}

async fn enter_lesson(handle: &SfuHandle, lesson: LessonId, bits: u128, mut peer: Peer) -> Peer {
    let id = ParticipantId::from_bits(bits);
    let rights = Rights {
        may_publish: true,
        may_share_screen: true,
    };
    handle
        .join(Join {
            lesson,
            participant: id,
            rights,
        })
        .await
        .expect("a seat");
    let offer = peer.offer();
    let answer = handle.offer(id, offer).await.expect("an answer");
    peer.accept(id, &answer);
    play(&mut [&mut peer], |peers| peers[0].connected);
    peer
}

fn play(peers: &mut [&mut Peer], done: impl Fn(&[&mut Peer]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(peers) {
        assert!(Instant::now() < deadline, "not done in time");
        for peer in peers.iter_mut() {
            peer.turn();
        }
    }
}

/// Reports the number inside each mirrored packet.
struct CountingSink(mpsc::SyncSender<u32>);

impl CountingSink {
    fn new() -> (Self, mpsc::Receiver<u32>) {
        let (sender, receiver) = mpsc::sync_channel(100_000);
        (Self(sender), receiver)
    }
}

impl TrackSink for CountingSink {
    fn write(&mut self, packet: &RtpPacket, _arrival: Instant) {
        self.0
            .try_send(peer::number_in(&packet.payload))
            .expect("room in the channel");
    }

    fn clock(&mut self, _ntp: NtpTime, _rtp: u32, _arrival: Instant) {}
}

/// Somebody else's bug.
struct PanickingSink;

#[expect(clippy::panic, reason = "what a bug does")]
impl TrackSink for PanickingSink {
    fn write(&mut self, _packet: &RtpPacket, _arrival: Instant) {
        panic!("a sink's bug");
    }

    fn clock(&mut self, _ntp: NtpTime, _rtp: u32, _arrival: Instant) {}
}
