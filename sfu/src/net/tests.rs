//! The socket over loopback: what goes out comes in, in order, whatever the kernel refuses.

use std::net::UdpSocket as StdSocket;
use std::time::{Duration, Instant};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);
const LENGTHS: [usize; 9] = [900, 900, 900, 300, 1_200, 1_200, 40, 40, 1_432];

#[test]
fn packets_arrive_in_order_and_equal_ones_take_one_message() {
    for ip in ["127.0.0.1", "::1"] {
        let mut socket = bind(ip);
        let (ann, ben) = (receiver(ip), receiver(ip));
        let mut outgoing = Outgoing::new();
        let sent = send_all(&mut socket, &mut outgoing, &[&ann, &ben]);
        assert_eq!((sent.datagrams, sent.messages, sent.calls), (18, 8, 1), "{ip}");
        assert_eq!(sent.bytes, 2 * LENGTHS.iter().sum::<usize>() as u64);
        assert_eq!((numbers(&ann), numbers(&ben)), (all(), all()));
        assert!(outgoing.is_empty());
    }
}

#[test]
fn a_socket_of_ipv6_reaches_and_names_ipv4() {
    let mut socket = bind("::");
    let peer = receiver("127.0.0.1");
    let target = SocketAddr::from(([127, 0, 0, 1], port(&socket)));
    peer.send_to(b"12345678", target).expect("loopback takes it");
    let mut inbox = Inbox::new();
    assert_eq!(wait_for(&mut socket, &mut inbox), 1);
    let (datagram, from) = inbox.datagram(0).expect("whole");
    assert_eq!(
        (&*datagram, from),
        (&b"12345678"[..], peer.local_addr().expect("bound"))
    );
    send_all(&mut socket, &mut Outgoing::new(), &[&peer]);
    assert_eq!(numbers(&peer), all());
}

#[test]
fn a_batch_is_read_with_its_addresses_and_the_rest_with_the_next() {
    let mut socket = bind("127.0.0.1");
    let target = SocketAddr::from(([127, 0, 0, 1], port(&socket)));
    let peers = [receiver("127.0.0.1"), receiver("127.0.0.1")];
    let count = Inbox::PLACES + 6;
    for number in 0..count {
        let datagram = vec![number as u8; 10 + number];
        peers[number % 2]
            .send_to(&datagram, target)
            .expect("loopback takes it");
    }
    let mut inbox = Inbox::new();
    assert_eq!(wait_for(&mut socket, &mut inbox), Inbox::PLACES);
    for number in 0..Inbox::PLACES {
        let (datagram, from) = inbox.datagram(number).expect("whole");
        assert_eq!(&*datagram, vec![number as u8; 10 + number]);
        assert_eq!(from, peers[number % 2].local_addr().expect("bound"));
    }
    assert_eq!(socket.receive(&mut inbox).expect("six more"), 6);
    assert!(inbox.datagram(6).is_none(), "what is left of the batch before");
    let nothing = socket.receive(&mut inbox).expect_err("nothing waits");
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_datagram_that_is_too_long_is_told_apart() {
    let mut socket = bind("127.0.0.1");
    let target = SocketAddr::from(([127, 0, 0, 1], port(&socket)));
    let peer = receiver("127.0.0.1");
    peer.send_to(&[7; 5_000], target).expect("loopback takes it");
    peer.send_to(&[], target).expect("loopback takes it");
    peer.send_to(&[7; 100], target).expect("loopback takes it");
    let mut inbox = Inbox::new();
    let mut read = 0;
    while read < 3 {
        for place in 0..wait_for(&mut socket, &mut inbox) {
            let length = inbox.datagram(place).map(|(datagram, _)| datagram.len());
            assert_eq!(length, [None, Some(0), Some(100)][read]);
            read += 1;
        }
    }
}

#[test]
fn a_kernel_that_does_not_cut_is_asked_once_for_each_address() {
    let mut socket = bind("127.0.0.1");
    // A segment needs a checksum of its own: without checksums the kernel refuses to cut, and sends all else.
    let cuts = |socket: &BatchSocket, value| {
        syscalls::set_option(socket.socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value)
            .expect("allowed");
    };
    cuts(&socket, 1);
    let (ann, ben) = (receiver("127.0.0.1"), receiver("127.0.0.1"));
    let mut outgoing = Outgoing::new();
    let sent = send_all(&mut socket, &mut outgoing, &[&ann]);
    assert_eq!((sent.datagrams, sent.unreachable), (9, 0));
    assert!(sent.calls > 1);
    assert_eq!(numbers(&ann), all());
    for _ in 0..20 {
        let sent = send_all(&mut socket, &mut outgoing, &[&ann]);
        assert_eq!((sent.messages, sent.calls, sent.unreachable), (9, 1, 0));
        assert_eq!(numbers(&ann), all());
    }
    cuts(&socket, 0);
    let sent = send_all(&mut socket, &mut outgoing, &[&ann, &ben]);
    assert_eq!(
        (sent.messages, sent.calls),
        (9 + 4, 1),
        "one path's refusals are its own"
    );
    assert_eq!((numbers(&ann), numbers(&ben)), (all(), all()));
}

#[test]
fn without_calls_for_many_everything_goes_one_by_one() {
    let mut socket = bind("127.0.0.1");
    (socket.sending.many, socket.reads_many) = (false, false);
    let peer = receiver("127.0.0.1");
    let sent = send_all(&mut socket, &mut Outgoing::new(), &[&peer]);
    assert_eq!((sent.datagrams, sent.messages, sent.calls), (9, 4, 4));
    assert_eq!(numbers(&peer), all());
    let target = SocketAddr::from(([127, 0, 0, 1], port(&socket)));
    peer.send_to(&[1; 100], target).expect("loopback takes it");
    peer.send_to(&[2; 200], target).expect("loopback takes it");
    let mut inbox = Inbox::new();
    for (byte, length) in [(1, 100), (2, 200)] {
        assert_eq!(wait_for(&mut socket, &mut inbox), 1);
        let (datagram, from) = inbox.datagram(0).expect("whole");
        assert_eq!(
            (&*datagram, from),
            (&vec![byte; length][..], peer.local_addr().expect("bound"))
        );
    }
}

#[test]
fn a_path_that_does_not_exist_costs_its_own_packets_alone() {
    let mut socket = bind("127.0.0.1");
    let peer = receiver("127.0.0.1");
    let mut outgoing = Outgoing::new();
    // A socket bound to loopback has no way out of this machine.
    let nowhere = SocketAddr::from(([203, 0, 113, 1], 9));
    let (mut lost, mut sound) = (Lane::default(), Lane::default());
    for number in 0..10 {
        push(&mut outgoing, 500, number, &mut lost, nowhere);
        push(
            &mut outgoing,
            500,
            number,
            &mut sound,
            peer.local_addr().expect("bound"),
        );
    }
    let sent = socket.send(Instant::now(), &mut outgoing);
    assert_eq!((sent.datagrams, sent.unreachable), (10, 10));
    assert_eq!(numbers_of(&peer, 10), (0..10).collect::<Vec<u8>>());
}

#[test]
fn what_the_kernel_has_no_room_for_is_counted() {
    let mut socket = bind("127.0.0.1");
    syscalls::set_option(socket.socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4_096).expect("allowed");
    assert_eq!(socket.dropped_by_kernel(), 0);
    let peer = receiver("127.0.0.1");
    let target = SocketAddr::from(([127, 0, 0, 1], port(&socket)));
    for _ in 0..100 {
        peer.send_to(&[7; 1_000], target).expect("loopback takes it");
    }
    let mut inbox = Inbox::new();
    let read = wait_for(&mut socket, &mut inbox);
    assert!(read < 20, "{read}");
    assert_eq!(read as u32 + socket.dropped_by_kernel(), 100);
}

#[test]
fn the_granted_buffer_is_told() {
    let socket = bind("127.0.0.1");
    let granted = socket.receive_buffer_bytes().expect("known");
    assert!((1..=WANTED_RECEIVE_BUFFER_BYTES).contains(&granted), "{granted}");
}

fn bind(ip: &str) -> BatchSocket {
    BatchSocket::bind(SocketAddr::new(ip.parse().expect("an address"), 0)).expect("loopback can be bound")
}

fn port(socket: &BatchSocket) -> u16 {
    socket.local_addr().expect("bound").port()
}

fn receiver(ip: &str) -> StdSocket {
    let socket = StdSocket::bind((ip, 0)).expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
}

/// Sends packets of [`LENGTHS`], numbered in their first byte, to each receiver.
fn send_all(socket: &mut BatchSocket, outgoing: &mut Outgoing, receivers: &[&StdSocket]) -> Sent {
    let mut lanes = vec![Lane::default(); receivers.len()];
    for (number, length) in LENGTHS.into_iter().enumerate() {
        for (receiver, lane) in receivers.iter().zip(&mut lanes) {
            push(
                outgoing,
                length,
                number as u8,
                lane,
                receiver.local_addr().expect("bound"),
            );
        }
    }
    socket.send(Instant::now(), outgoing)
}

fn push(outgoing: &mut Outgoing, length: usize, number: u8, lane: &mut Lane, to: SocketAddr) {
    let start = outgoing.bytes().len();
    outgoing.bytes().resize(start + length, number);
    outgoing.add(start, 0, lane, to);
}

fn all() -> Vec<u8> {
    (0..LENGTHS.len() as u8).collect()
}

/// The numbers that arrived, each packet of the length it was sent with.
fn numbers(receiver: &StdSocket) -> Vec<u8> {
    let mut buffer = [0; 2_048];
    LENGTHS
        .into_iter()
        .map(|length| {
            let read = receiver.recv(&mut buffer).expect("it arrives");
            assert_eq!(read, length);
            assert!(buffer[..read].iter().all(|byte| *byte == buffer[0]));
            buffer[0]
        })
        .collect()
}

fn numbers_of(receiver: &StdSocket, count: usize) -> Vec<u8> {
    let mut buffer = [0; 2_048];
    std::iter::repeat_with(|| receiver.recv(&mut buffer).map(|_| buffer[0]).expect("it arrives"))
        .take(count)
        .collect()
}

/// Reads as soon as something is there.
fn wait_for(socket: &mut BatchSocket, inbox: &mut Inbox) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match socket.receive(inbox) {
            Ok(count) => return count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(Instant::now() < deadline, "nothing came");
                std::thread::yield_now();
            }
        }
    }
}
