//! ICE-TCP over real sockets: a participant whose every datagram goes through a TCP connection, and strangers who make some.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use super::*;

#[tokio::test]
async fn who_has_tcp_alone_is_in_the_class_with_everybody() {
    let (sfu, handle, _events) = start();
    let mut sender = enter_over_tcp(&sfu, &handle, 1, Peer::sending()).await;
    let mut watcher = enter_over_tcp(&sfu, &handle, 2, Peer::watching()).await;
    show(&handle, &sender, &watcher);
    play(&mut [&mut sender, &mut watcher], |peers| {
        peers[1].received.len() >= 200
    });
    let numbers = &watcher.received;
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "a stream loses nothing and keeps the order: {numbers:?}"
    );
    let stats = handle.stats().await;
    assert_eq!((stats["streams_accepted"], stats["handshakes_gcm"]), (2, 2));
    assert_eq!(stats["dropped_stream_full"], 0, "{stats:?}");
    handle.leave(sender.id).expect("room for a command");
    handle.leave(watcher.id).expect("room for a command");
    assert_eq!(handle.stats().await["connections"], 0);
    stop(sfu).await;
}

#[tokio::test]
async fn without_tcp_no_port_is_open_and_none_is_offered() {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let config = SfuConfig {
        tcp: false,
        ..config(localhost, &[localhost], 1)
    };
    let (sfu, handle, _events) = Sfu::start(config).expect("loopback can be bound");
    let refused = TcpStream::connect(sfu.local_addresses()[0]).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let (participant, rights) = (ParticipantId::from_bits(1), Rights::default());
    let join = Join {
        lesson: LESSON,
        participant,
        rights,
    };
    handle.join(join).await.expect("a seat");
    let offer = Peer::watching().offer();
    let answer = handle.offer(participant, offer).await.expect("an answer");
    assert!(answer.contains(" udp ") && !answer.contains(" tcp "), "{answer}");
    stop(sfu).await;
}

#[tokio::test]
async fn a_stream_that_proves_nothing_is_shown_out_at_its_first_datagram() {
    let (sfu, handle, _events) = start();
    let mut sender = enter(&handle, 1, Peer::sending()).await;
    let address = sfu.local_addresses()[0];
    let check_of_a_stranger = {
        let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        stun.resize(20, 7);
        framed(&stun)
    };
    let junk: [Vec<u8>; 4] = [
        framed(&[22; 100]),
        framed(&[128; 100]),
        check_of_a_stranger,
        vec![0xff; 4],
    ];
    for bytes in junk {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.write_all(&bytes).expect("taken");
        let mut answer = [0; 16];
        match stream.read(&mut answer) {
            Ok(length) => assert_eq!(length, 0, "{answer:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    let sent = sender.sent;
    play(&mut [&mut sender], |peers| peers[0].sent > sent + 20);
    let stats = handle.stats().await;
    assert_eq!(
        (stats["streams_accepted"], stats["streams_overdue"]),
        (4, 0),
        "{stats:?}"
    );
    stop(sfu).await;
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_datagram_is_let_go_at_once() {
    let (sfu, handle, _events) = start();
    let address = sfu.local_addresses()[0];
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(&[0]).expect("taken");
    stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    assert_eq!(stream.read(&mut [0; 16]).expect("the end"), 0);
    let stats = handle.stats().await;
    assert_eq!(
        (stats["streams_accepted"], stats["streams_overdue"]),
        (1, 0),
        "its end was seen, not waited for: {stats:?}"
    );
    stop(sfu).await;
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    let length = u16::try_from(datagram.len()).expect("short");
    [&length.to_be_bytes(), datagram].concat()
}

/// Like `enter`, with a connection in place of the way to the media port.
async fn enter_over_tcp(sfu: &Sfu, handle: &SfuHandle, bits: u128, mut peer: Peer) -> Peer {
    let server = sfu.local_addresses()[0];
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
    let offer = peer.offer();
    let answer = handle.offer(participant, offer).await.expect("an answer");
    let passive = format!(" {} typ host tcptype passive", server.port());
    assert!(answer.lines().any(|line| line.ends_with(&passive)), "{answer}");
    let way = way_over_tcp(server);
    let there = |port: u16| format!(" {port} typ host");
    peer.accept(
        participant,
        &answer.replace(&there(server.port()), &there(way.port())),
    );
    play(&mut [&mut peer], |peers| peers[0].connected);
    peer
}

/// An address whose datagrams go through one connection to the server, cut where networks may cut them. Its threads end
/// with the connection.
fn way_over_tcp(server: SocketAddr) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = near.local_addr().expect("bound");
    let mut far = TcpStream::connect(server).expect("it listens");
    far.set_nodelay(true).expect("an option");
    let (near_too, mut far_too) = (
        near.try_clone().expect("a handle"),
        far.try_clone().expect("a handle"),
    );
    near.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        let mut back = None;
        while let Ok((length, from)) = near.recv_from(&mut buffer) {
            if back.is_none() {
                back = Some(from);
                near.connect(from).expect("loopback");
            }
            let bytes = framed(&buffer[..length]);
            let (head, tail) = bytes.split_at(1 + length / 2);
            let written = far.write_all(head).and_then(|()| far.write_all(tail));
            if written.is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        let mut length = [0; 2];
        while far_too.read_exact(&mut length).is_ok() {
            let mut datagram = vec![0; usize::from(u16::from_be_bytes(length))];
            if far_too.read_exact(&mut datagram).is_err() {
                return;
            }
            // The server says nothing before the participant's first datagram, which has connected the socket. What the
            // participant does not take any more is lost, as on any way.
            drop(near_too.send(&datagram));
        }
    });
    address
}
