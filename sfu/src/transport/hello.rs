//! A look into the ClientHello before the DTLS library sees it: does the other end speak AES-128-GCM for SRTP?
//!
//! rtc-dtls takes the first profile of the *client's* list that it knows, and Chromium lists the slow one first. The
//! hello comes in two datagrams, in any order, so it has to be put together here as well.

/// Longer hellos are not waited for: browsers send about 1,500 bytes.
const MOST_HELLO_BYTES: usize = 8_192;

/// Collects the fragments of one ClientHello (RFC 6347 section 4.2.3).
#[derive(Debug, Default)]
pub(super) struct HelloReader {
    body: Vec<u8>,
    /// Which bytes of `body` came.
    came: Vec<bool>,
}

/// What is known after a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// Parts are missing.
    Incomplete,
    /// Whole; says whether `SRTP_AEAD_AES_128_GCM` is offered.
    Complete { gcm: bool },
}

impl HelloReader {
    /// Takes a datagram: one or more DTLS records. What is no part of a hello is passed over.
    pub(super) fn push(&mut self, datagram: &[u8]) -> Hello {
        const HANDSHAKE: u8 = 22;
        let mut rest = datagram;
        while let Some((head, behind)) = rest.split_at_checked(13) {
            let length = usize::from(u16::from_be_bytes([head[11], head[12]]));
            let Some((record, behind)) = behind.split_at_checked(length) else {
                break;
            };
            if head[0] == HANDSHAKE {
                self.push_handshake(record);
            }
            rest = behind;
        }
        if self.is_whole() {
            Hello::Complete {
                gcm: offers_gcm(&self.body).unwrap_or(false),
            }
        } else {
            Hello::Incomplete
        }
    }

    fn push_handshake(&mut self, record: &[u8]) {
        const CLIENT_HELLO: u8 = 1;
        let Some((head, fragment)) = record.split_at_checked(12) else {
            return;
        };
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0_usize, |value, byte| value << 8 | usize::from(*byte))
        };
        let (total, offset, length) = (number(&head[1..4]), number(&head[6..9]), number(&head[9..12]));
        let Some(fragment) = fragment.get(..length) else {
            return;
        };
        if head[0] != CLIENT_HELLO || total > MOST_HELLO_BYTES || offset + length > total {
            return;
        }
        if self.body.len() != total {
            self.body = vec![0; total];
            self.came = vec![false; total];
        }
        self.body[offset..offset + length].copy_from_slice(fragment);
        self.came[offset..offset + length].fill(true);
    }

    fn is_whole(&self) -> bool {
        !self.came.is_empty() && !self.came.contains(&false)
    }
}

/// Reads the `use_srtp` extension (RFC 5764 section 4.1.1) of a ClientHello's body.
fn offers_gcm(body: &[u8]) -> Option<bool> {
    const USE_SRTP: u16 = 14;
    const AEAD_AES_128_GCM: u16 = 7;
    // Version and random, then session id, cookie, cipher suites and compression methods by their lengths.
    let rest = body.get(34..)?;
    let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    let rest = rest.get(2 + usize::from(word(rest)?)..)?;
    let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    let mut extensions = rest.get(2..2 + usize::from(word(rest)?))?;
    loop {
        let (kind, length) = (word(extensions)?, usize::from(word(extensions.get(2..)?)?));
        let value = extensions.get(4..4 + length)?;
        if kind == USE_SRTP {
            let profiles = value.get(2..2 + usize::from(word(value)?))?;
            return Some(
                profiles
                    .chunks_exact(2)
                    .any(|profile| word(profile) == Some(AEAD_AES_128_GCM)),
            );
        }
        extensions = extensions.get(4 + length..)?;
    }
}

fn word(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_offer_is_found_in_one_datagram_or_two_in_any_order() {
        for (profiles, gcm) in [(vec![1_u16, 8, 7], true), (vec![1, 8], false), (vec![7], true)] {
            let hello = hello(&profiles);
            assert_eq!(
                HelloReader::default().push(&record(&hello, 0, hello.len())),
                Hello::Complete { gcm }
            );
            for order in [[0, 1], [1, 0]] {
                let parts = [record(&hello, 0, 40), record(&hello, 40, hello.len())];
                let mut reader = HelloReader::default();
                assert_eq!(reader.push(&parts[order[0]]), Hello::Incomplete);
                assert_eq!(reader.push(&parts[order[1]]), Hello::Complete { gcm });
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
            let mut reader = HelloReader::default();
            for datagram in datagrams {
                let _ = reader.push(&datagram);
            }
        }

        #[test]
        fn a_damaged_hello_never_panics(at in 0_usize..120, byte: u8) {
            let hello = hello(&[1, 7]);
            let mut datagram = record(&hello, 0, hello.len());
            let at = at % datagram.len();
            datagram[at] = byte;
            let _ = HelloReader::default().push(&datagram);
        }
    }

    fn hello(profiles: &[u16]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let list: Vec<u8> = profiles
            .iter()
            .flat_map(|profile| profile.to_be_bytes())
            .collect();
        let mut extensions = vec![0, 23, 0, 0, 0, 14];
        extensions.extend((list.len() as u16 + 3).to_be_bytes());
        extensions.extend((list.len() as u16).to_be_bytes());
        extensions.extend(list);
        extensions.push(0);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    fn record(hello: &[u8], from: usize, to: usize) -> Vec<u8> {
        let three = |value: usize| [(value >> 16) as u8, (value >> 8) as u8, value as u8];
        let mut handshake = vec![1];
        handshake.extend(three(hello.len()));
        handshake.extend([0, 0]);
        handshake.extend(three(from));
        handshake.extend(three(to - from));
        handshake.extend(&hello[from..to]);
        let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend((handshake.len() as u16).to_be_bytes());
        record.extend(handshake);
        record
    }
}
