//! A room that outgrows a worker, over real sockets.

use std::net::SocketAddr;

use super::*;

/// The numbers that came are without a gap.
fn is_whole(peer: &Peer) -> bool {
    peer.received.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

fn places(peers: &[&mut Peer]) -> Vec<SocketAddr> {
    peers.iter().map(|peer| peer.remote()).collect()
}

fn watched_by(
    events: &mut tokio::sync::mpsc::Receiver<SfuEvent>,
    watcher: &Peer,
) -> Option<Option<ParticipantId>> {
    let news = std::iter::from_fn(|| events.try_recv().ok());
    let slots = news.filter_map(|event| match event {
        SfuEvent::Slots {
            participant, slots, ..
        } if participant == watcher.id => Some(slots[0].participant),
        _ => None,
    });
    slots.last()
}

#[tokio::test]
async fn watchers_on_both_workers_see_everything_and_see_the_sender_leave() {
    let (sfu, handle, mut events) = start_spread(2, 2);
    let [first, second] = [0, 1].map(|worker| sfu.local_addresses()[worker]);
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let mut near = enter(&handle, 2, Peer::watching()).await;
    let mut far = enter(&handle, 3, Peer::watching()).await;
    for watcher in [&near, &far] {
        show(&handle, &sender, watcher);
    }
    play(&mut [&mut sender, &mut near, &mut far], |peers| {
        peers[1..].iter().all(|peer| peer.received.len() >= 50)
    });
    assert!(is_whole(&near) && is_whole(&far), "{:?}", far.received);
    assert_eq!(
        places(&[&mut sender, &mut near, &mut far]),
        [first, first, second]
    );

    // Somebody comes later: the key frame is asked of a sender on another worker.
    let mut late = enter(&handle, 4, Peer::watching()).await;
    show(&handle, &sender, &late);
    play(&mut [&mut sender, &mut near, &mut far, &mut late], |peers| {
        peers[3].received.len() >= 50
    });
    assert!(is_whole(&late) && is_whole(&far));
    assert_eq!(late.remote(), second);
    let stats = handle.stats().await;
    assert_eq!((stats["rooms"], stats["connections"]), (2, 4));
    assert!(
        stats["packets_relayed"] >= 100 && stats["dropped_relay_full"] == 0,
        "{stats:?}"
    );
    let report = handle.room_report(LESSON).await.expect("both workers answer");
    let people: Vec<_> = report.participants.iter().map(|one| one.participant).collect();
    assert_eq!(people, [sender.id, near.id, far.id, late.id]);
    assert!(
        report.participants[1..]
            .iter()
            .all(|one| one.slots[0].participant == Some(sender.id))
    );

    assert_eq!(watched_by(&mut events, &far), Some(Some(sender.id)));
    handle.leave(sender.id).expect("room for a command");
    let mut told = None;
    play(&mut [&mut near, &mut far, &mut late], |_| true);
    let deadline = Instant::now() + PATIENCE;
    while told != Some(None) {
        assert!(Instant::now() < deadline, "the slot is never emptied");
        tokio::task::yield_now().await;
        told = watched_by(&mut events, &far).or(told);
    }

    // With its last participant a worker's room ends, and the next one spreads the lesson again.
    for peer in [&far, &late] {
        handle.leave(peer.id).expect("room for a command");
    }
    let deadline = Instant::now() + PATIENCE;
    while handle.stats().await["rooms"] != 1 {
        assert!(Instant::now() < deadline, "a room without participants stays");
    }
    let mut sender = enter(&handle, 5, Peer::sending()).await;
    let mut far = enter(&handle, 6, Peer::watching()).await;
    show(&handle, &sender, &far);
    play(&mut [&mut sender, &mut far], |peers| {
        peers[1].received.len() >= 20
    });
    assert_eq!(places(&[&mut sender, &mut far]), [first, second]);
    handle.close_room(LESSON).await.expect("both workers");
    let stats = handle.stats().await;
    assert_eq!((stats["rooms"], stats["connections"]), (0, 0), "{stats:?}");
    stop(sfu).await;
}

#[tokio::test]
async fn senders_on_both_workers_are_seen_on_both_also_after_they_connect_again() {
    let (sfu, handle, _events) = start_spread(2, 2);
    let mut here = enter(&handle, 1, Peer::sending()).await;
    let mut watcher_here = enter(&handle, 2, Peer::watching()).await;
    let mut there = enter(&handle, 3, Peer::sending()).await;
    let mut watcher_there = enter(&handle, 4, Peer::watching()).await;
    show(&handle, &there, &watcher_here);
    show(&handle, &here, &watcher_there);
    play(
        &mut [&mut here, &mut watcher_here, &mut there, &mut watcher_there],
        |peers| peers[1].received.len() >= 50 && peers[3].received.len() >= 50,
    );
    assert!(is_whole(&watcher_here) && is_whole(&watcher_there));
    let mut again = enter(&handle, 1, Peer::sending()).await;
    watcher_there.received.clear();
    play(&mut [&mut again, &mut watcher_there], |peers| {
        peers[1].received.len() >= 50
    });
    assert!(is_whole(&watcher_there), "{:?}", watcher_there.received);
    assert_eq!(watcher_there.received[0], 1, "from its first key frame on");
    stop(sfu).await;
}

#[tokio::test]
async fn what_a_watcher_on_another_worker_loses_comes_again() {
    let (sfu, handle, _events) = start_spread(2, 1);
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let mut watcher = enter(&handle, 2, Peer::watching()).await;
    show(&handle, &sender, &watcher);
    lose_and_repair(&handle, &mut sender, &mut watcher).await;
    stop(sfu).await;
}
