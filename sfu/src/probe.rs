//! What can be asked of the network before a class: whether a datagram comes in at an offered address, and whether a TURN
//! server takes a credential (RFC 8656). Blocks for seconds; nothing of it is used while a class runs.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::{
    ATTR_DATA, ATTR_ERROR_CODE, ATTR_LIFETIME, ATTR_NONCE, ATTR_REALM, ATTR_REQUESTED_TRANSPORT,
    ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS, ATTR_XOR_RELAYED_ADDRESS, AttrType,
};
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_ALLOCATE, METHOD_BINDING,
    METHOD_CREATE_PERMISSION, METHOD_REFRESH, METHOD_SEND, Message, MessageType, Method, Setter as _,
};
use rtc_stun::xoraddr::XorMappedAddress;

/// An answer that has not come by then will not.
const PATIENCE: Duration = Duration::from_secs(2);
/// A datagram without an answer is sent again after this.
const AGAIN: Duration = Duration::from_millis(400);
/// Longer than any STUN message that is asked for here.
const MESSAGE_BYTES: usize = 2_048;
/// Header of a STUN message; bytes 2 and 3 say how many follow it (RFC 8489 section 5).
const HEADER_BYTES: usize = 20;

/// Why a way is not there.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing came back, or through.
    #[error("nothing comes back")]
    Silent,
    /// The system or the network says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server says no.
    #[error("refused with {code} {reason}")]
    Refused {
        /// As in RFC 8656 section 18.
        code: u16,
        /// The server's words, printable characters only.
        reason: String,
    },
    /// What answers is no TURN server.
    #[error("what answers is no TURN server")]
    NoTurn,
}

/// Sends a STUN binding request to `target`, and waits until it comes in at `socket`.
///
/// # Errors
/// When it does not.
pub fn reaches(socket: &UdpSocket, target: SocketAddr) -> Result<(), ProbeError> {
    let any = if target.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let asker = UdpSocket::bind(any)?;
    let request = message(METHOD_BINDING, CLASS_REQUEST)?;
    comes_in(socket, &request.raw, || {
        asker.send_to(&request.raw, target)?;
        Ok(())
    })
}

/// Sends something through the relay to `target`, and waits until it comes in at `socket`: whether the port is open to
/// where the TURN server stands.
///
/// # Errors
/// When it does not, or the relay does not send there.
pub fn reaches_through(relay: &mut Relay, socket: &UdpSocket, target: SocketAddr) -> Result<(), ProbeError> {
    let request = message(METHOD_BINDING, CLASS_REQUEST)?;
    relay.permit(target)?;
    comes_in(socket, &request.raw, || relay.send(target, &request.raw))
}

fn comes_in(
    socket: &UdpSocket,
    wanted: &[u8],
    mut send: impl FnMut() -> Result<(), ProbeError>,
) -> Result<(), ProbeError> {
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; MESSAGE_BYTES];
    socket.set_read_timeout(Some(AGAIN))?;
    while Instant::now() < end {
        send()?;
        match socket.recv_from(&mut buffer) {
            Ok((length, _)) if &buffer[..length] == wanted => return Ok(()),
            Ok(_) => {}
            Err(error) if is_silence(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ProbeError::Silent)
}

/// An allocation on a TURN server, given back when it is dropped.
pub struct Relay {
    way: Way,
    provider: Arc<dyn RTCCryptoProvider>,
    username: String,
    credential: String,
    /// Realm and nonce of the server, once it has told them.
    challenge: Option<(String, Vec<u8>)>,
    relayed: SocketAddr,
}

enum Way {
    Datagrams(UdpSocket),
    Stream(TcpStream),
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("relayed", &self.relayed)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Allocates a port on the server with this credential, over UDP or TCP.
    ///
    /// # Errors
    /// When nothing answers, or the server refuses.
    pub fn allocate(
        server: SocketAddr,
        over_tcp: bool,
        username: &str,
        credential: &str,
    ) -> Result<Self, ProbeError> {
        let way = if over_tcp {
            let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Way::Stream(stream)
        } else {
            let any = if server.is_ipv4() {
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
            } else {
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(AGAIN))?;
            Way::Datagrams(socket)
        };
        let mut relay = Self {
            way,
            provider: rtc_crypto::default_provider().map_err(io::Error::other)?,
            username: username.to_owned(),
            credential: credential.to_owned(),
            challenge: None,
            relayed: server,
        };
        // RFC 8656 section 7.1; 17 is UDP.
        let allocate: &[(AttrType, &[u8])] = &[(ATTR_REQUESTED_TRANSPORT, &[17, 0, 0, 0])];
        let answer = match relay.request(METHOD_ALLOCATE, allocate, None) {
            // The first request is always refused: the refusal brings realm and nonce (RFC 8489 section 9.2.3).
            Err(ProbeError::Refused { code: 401, .. }) if relay.challenge.is_some() => {
                relay.request(METHOD_ALLOCATE, allocate, None)?
            }
            answer => answer?,
        };
        let mut relayed = XorMappedAddress::default();
        relayed
            .get_from_as(&answer, ATTR_XOR_RELAYED_ADDRESS)
            .map_err(|_| ProbeError::NoTurn)?;
        relay.relayed = SocketAddr::new(relayed.ip, relayed.port);
        Ok(relay)
    }

    /// The address that the server relays from.
    #[must_use]
    pub const fn relayed_address(&self) -> SocketAddr {
        self.relayed
    }

    fn permit(&mut self, peer: SocketAddr) -> Result<(), ProbeError> {
        self.request(METHOD_CREATE_PERMISSION, &[], Some(peer))
            .map(|_| ())
    }

    fn send(&mut self, peer: SocketAddr, data: &[u8]) -> Result<(), ProbeError> {
        let mut indication = message(METHOD_SEND, CLASS_INDICATION)?;
        add_peer(&mut indication, peer)?;
        indication.add(ATTR_DATA, data);
        self.write(&indication.raw)
    }

    /// Asks, signed as soon as the server has said with what, and waits for the answer.
    fn request(
        &mut self,
        method: Method,
        attributes: &[(AttrType, &[u8])],
        peer: Option<SocketAddr>,
    ) -> Result<Message, ProbeError> {
        let mut request = message(method, CLASS_REQUEST)?;
        for (kind, value) in attributes {
            request.add(*kind, value);
        }
        if let Some(peer) = peer {
            add_peer(&mut request, peer)?;
        }
        if let Some((realm, nonce)) = &self.challenge {
            request.add(ATTR_USERNAME, self.username.as_bytes());
            request.add(ATTR_REALM, realm.as_bytes());
            request.add(ATTR_NONCE, nonce);
            MessageIntegrity::new_long_term_integrity_with_provider(
                self.username.clone(),
                realm.clone(),
                self.credential.clone(),
                self.provider.crypto(),
            )
            .and_then(|integrity| integrity.add_to(&mut request))
            .map_err(io::Error::other)?;
        }
        let end = Instant::now() + PATIENCE;
        self.write(&request.raw)?;
        loop {
            match self.read() {
                Ok(answer) if answer.transaction_id == request.transaction_id => {
                    return self.judge(answer);
                }
                Ok(_) => {}
                Err(error) if is_silence(&error) => match self.way {
                    Way::Datagrams(_) if Instant::now() < end => self.write(&request.raw)?,
                    _ => return Err(ProbeError::Silent),
                },
                // Nobody listens there: the other machine says so.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Err(ProbeError::Silent),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn judge(&mut self, answer: Message) -> Result<Message, ProbeError> {
        if answer.typ.class == CLASS_SUCCESS_RESPONSE {
            return Ok(answer);
        }
        let error = answer.get(ATTR_ERROR_CODE).map_err(|_| ProbeError::NoTurn)?;
        let [_, _, hundreds, rest, reason @ ..] = error.as_slice() else {
            return Err(ProbeError::NoTurn);
        };
        if let (Ok(realm), Ok(nonce)) = (answer.get(ATTR_REALM), answer.get(ATTR_NONCE)) {
            let realm = String::from_utf8(realm).map_err(|_| ProbeError::NoTurn)?;
            self.challenge = Some((realm, nonce));
        }
        Err(ProbeError::Refused {
            code: u16::from(hundreds & 7) * 100 + u16::from(*rest),
            reason: reason
                .iter()
                .filter(|byte| byte.is_ascii_graphic() || **byte == b' ')
                .take(60)
                .map(|byte| char::from(*byte))
                .collect(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ProbeError> {
        match &mut self.way {
            Way::Datagrams(socket) => match socket.send(bytes) {
                // About an earlier datagram; the answer's absence tells.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                result => drop(result?),
            },
            Way::Stream(stream) => stream.write_all(bytes)?,
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<Message> {
        let mut buffer = [0; MESSAGE_BYTES];
        let length = match &mut self.way {
            Way::Datagrams(socket) => socket.recv(&mut buffer)?,
            Way::Stream(stream) => {
                stream.read_exact(&mut buffer[..HEADER_BYTES])?;
                let length = HEADER_BYTES + usize::from(u16::from_be_bytes([buffer[2], buffer[3]]));
                let body = buffer.get_mut(HEADER_BYTES..length);
                stream.read_exact(body.ok_or_else(|| io::Error::other("a message that is too long"))?)?;
                length
            }
        };
        let mut answer = Message::new();
        answer
            .unmarshal_binary(&buffer[..length])
            .map_err(|_| io::Error::other("an answer that is no STUN"))?;
        Ok(answer)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.challenge.is_some() {
            // The server frees the port by itself after ten minutes if this is lost.
            let _ = self.request(METHOD_REFRESH, &[(ATTR_LIFETIME, &[0; 4])], None);
        }
    }
}

fn message(method: Method, class: rtc_stun::message::MessageClass) -> Result<Message, ProbeError> {
    let mut message = Message::new();
    message.new_transaction_id().map_err(io::Error::other)?;
    message.set_type(MessageType::new(method, class));
    message.write_header();
    Ok(message)
}

fn add_peer(message: &mut Message, peer: SocketAddr) -> Result<(), ProbeError> {
    let peer = XorMappedAddress {
        ip: peer.ip(),
        port: peer.port(),
    };
    peer.add_to_as(message, ATTR_XOR_PEER_ADDRESS)
        .map_err(|error| io::Error::other(error).into())
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        (socket, address)
    }

    #[test]
    fn a_datagram_comes_in_where_it_was_sent_and_nowhere_else() {
        let ((here, address), (_there, elsewhere)) = (open(), open());
        assert!(reaches(&here, address).is_ok());
        assert!(matches!(reaches(&here, elsewhere), Err(ProbeError::Silent)));
    }

    #[test]
    fn nobody_and_somebody_else_are_told_apart() {
        // On an address of its own: nobody else may be given the port meanwhile.
        let closed = UdpSocket::bind("127.0.0.77:0").expect("a port");
        let address = closed.local_addr().expect("bound");
        drop(closed);
        let refused = Relay::allocate(address, false, "name", "secret");
        assert!(matches!(refused, Err(ProbeError::Silent)), "{refused:?}");
        let (echo, address) = open();
        std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while let Ok((length, from)) = echo.recv_from(&mut buffer) {
                // The request itself is no answer to it.
                drop(echo.send_to(&buffer[..length], from));
            }
        });
        let refused = Relay::allocate(address, false, "name", "secret");
        assert!(matches!(refused, Err(ProbeError::NoTurn)), "{refused:?}");
    }
}
