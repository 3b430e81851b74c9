//! SRTP: AES-128-GCM in place (RFC 7714), and AES-CM with HMAC-SHA1 for who offers nothing better.
//!
//! A nonce is made of SSRC and packet index, so sealing two different packets under one (SSRC, index) would give the
//! key away. The room hands every index out once; what it hands out again is the same packet.

mod gcm;
mod window;

use bytes::BytesMut;
use ring::aead::{LessSafeKey, UnboundKey};
use rtc_crypto::RTCCrypto;
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

use gcm::GcmKeys;
use window::Windows;

/// Why a packet is refused; each has its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SrtpError {
    /// Too short to be what it says it is.
    #[error("truncated")]
    Truncated,
    /// Wrong tag: not from the other end, or changed on the way.
    #[error("not authentic")]
    NotAuthentic,
    /// Seen before, or too old to tell.
    #[error("replayed")]
    Replayed,
    /// More SSRCs than a connection may have.
    #[error("too many sources")]
    TooManySources,
}

/// Both directions' master keys and salts, from the DTLS exporter (RFC 5764 section 4.2).
pub(crate) struct MasterKeys {
    pub(crate) profile: Profile,
    pub(crate) client: MasterKey,
    pub(crate) server: MasterKey,
}

/// One direction's master key and salt.
#[derive(Clone)]
pub(crate) struct MasterKey {
    pub(crate) key: [u8; 16],
    pub(crate) salt: Vec<u8>,
}

/// The two profiles that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`.
    Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`: several times the cost; only for who cannot do better.
    Sha1,
}

impl Profile {
    pub(crate) const fn salt_bytes(self) -> usize {
        match self {
            Self::Gcm => 12,
            Self::Sha1 => 14,
        }
    }
}

impl MasterKeys {
    /// Splits the exporter's output: client key, server key, client salt, server salt.
    pub(crate) fn split(profile: Profile, material: &[u8]) -> Option<Self> {
        let salt_bytes = profile.salt_bytes();
        let (keys, salts) = material.split_at_checked(32)?;
        let (client_salt, server_salt) = salts.split_at_checked(salt_bytes)?;
        let key = |from: usize| keys[from..from + 16].try_into().ok();
        Some(Self {
            profile,
            client: MasterKey {
                key: key(0)?,
                salt: client_salt.to_vec(),
            },
            server: MasterKey {
                key: key(16)?,
                salt: server_salt.get(..salt_bytes)?.to_vec(),
            },
        })
    }
}

/// Our direction.
pub(crate) struct Sealer {
    kind: Sealing,
    rtcp_index: u32,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what nearly every connection has"
)]
enum Sealing {
    Gcm(GcmKeys),
    Sha1(Box<Context>),
}

impl Sealer {
    /// Keys for what we send.
    pub(crate) fn new(profile: Profile, key: &MasterKey, crypto: &dyn RTCCrypto) -> Option<Self> {
        let kind = match profile {
            Profile::Gcm => Sealing::Gcm(GcmKeys::derive(key, crypto)?),
            Profile::Sha1 => Sealing::Sha1(Box::new(sha1_context(key, crypto)?)),
        };
        Some(Self { kind, rtcp_index: 0 })
    }

    /// Seals the RTP packet `buffer[start..]`, whose fixed header has 12 bytes and no extension, in place.
    ///
    /// `index` is its 48-bit packet index (RFC 3711 section 3.3.1). Returns whether it may be sent.
    pub(crate) fn seal_rtp(&mut self, index: u64, buffer: &mut Vec<u8>, start: usize) -> bool {
        const HEADER_BYTES: usize = 12;
        match &mut self.kind {
            Sealing::Gcm(keys) => {
                // RFC 3711 section 9.2: more than 2^48 packets would use nonces again.
                if index >> 48 != 0 {
                    return false;
                }
                let (_, packet) = buffer.split_at_mut(start);
                let (header, payload) = packet.split_at_mut(HEADER_BYTES);
                let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
                let nonce = keys.rtp_nonce(ssrc, index);
                let Some(tag) = gcm::seal(&keys.rtp, nonce, header, payload) else {
                    return false;
                };
                buffer.extend_from_slice(&tag);
                true
            }
            Sealing::Sha1(context) => match context.encrypt_rtp(&buffer[start..]) {
                Ok(sealed) => {
                    buffer.truncate(start);
                    buffer.extend_from_slice(&sealed);
                    true
                }
                Err(_) => false,
            },
        }
    }

    /// Appends the sealed form of a compound RTCP packet to `buffer`. Returns whether it may be sent.
    pub(crate) fn seal_rtcp(&mut self, compound: &[u8], buffer: &mut Vec<u8>) -> bool {
        /// RFC 3711 section 9.2: a key lasts for 2^31 control packets; hundreds of years here.
        const MOST_INDEX: u32 = (1 << 31) - 1;
        if compound.len() < 8 || self.rtcp_index >= MOST_INDEX {
            return false;
        }
        self.rtcp_index += 1;
        match &mut self.kind {
            Sealing::Gcm(keys) => {
                let start = buffer.len();
                buffer.extend_from_slice(compound);
                let word = (self.rtcp_index | 1 << 31).to_be_bytes();
                let (header, payload) = buffer[start..].split_at_mut(8);
                let ssrc = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                let nonce = keys.rtcp_nonce(ssrc, self.rtcp_index);
                let mut aad = [0; 12];
                aad[..8].copy_from_slice(header);
                aad[8..].copy_from_slice(&word);
                let Some(tag) = gcm::seal(&keys.rtcp, nonce, &aad, payload) else {
                    return false;
                };
                buffer.extend_from_slice(&tag);
                buffer.extend_from_slice(&word);
                true
            }
            Sealing::Sha1(context) => match context.encrypt_rtcp(compound) {
                Ok(sealed) => {
                    buffer.extend_from_slice(&sealed);
                    true
                }
                Err(_) => false,
            },
        }
    }
}

/// The other end's direction.
pub(crate) struct Opener {
    kind: Opening,
    rtp: Windows,
    rtcp: Windows,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what nearly every connection has"
)]
enum Opening {
    Gcm(GcmKeys),
    Sha1(Box<Sha1Opening>),
}

impl Opener {
    /// Keys for what we receive.
    pub(crate) fn new(profile: Profile, key: &MasterKey, crypto: &dyn RTCCrypto) -> Option<Self> {
        let kind = match profile {
            Profile::Gcm => Opening::Gcm(GcmKeys::derive(key, crypto)?),
            Profile::Sha1 => Opening::Sha1(Box::new(Sha1Opening::new(key, crypto)?)),
        };
        Some(Self {
            kind,
            rtp: Windows::default(),
            rtcp: Windows::default(),
        })
    }

    /// Opens an RTP packet whose header has `header_bytes` bytes, in place; the result is the length of the plain
    /// packet. No state is made for an SSRC before one of its packets proved authentic.
    ///
    /// # Errors
    /// When it is truncated, not authentic, replayed, or of one source too many.
    pub(crate) fn open_rtp(&mut self, packet: &mut [u8], header_bytes: usize) -> Result<usize, SrtpError> {
        if packet.len() < header_bytes.max(12) {
            return Err(SrtpError::Truncated);
        }
        let sequence_number = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let index = self.rtp.guess(ssrc, sequence_number);
        self.rtp.check(ssrc, index)?;
        let length = match &mut self.kind {
            Opening::Gcm(keys) => {
                let nonce = keys.rtp_nonce(ssrc, index);
                let (header, sealed) = packet.split_at_mut(header_bytes);
                header_bytes + gcm::open(&keys.rtp, nonce, header, sealed)?
            }
            Opening::Sha1(sha1) => sha1.open(packet, self.rtp.knows(ssrc), Context::decrypt_rtp)?,
        };
        self.rtp.accept(ssrc, index);
        Ok(length)
    }

    /// Opens a compound RTCP packet in place; the result is the length of the plain packet.
    ///
    /// # Errors
    /// As [`Self::open_rtp`].
    pub(crate) fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        /// Header, tag or authentication, index.
        const LEAST_BYTES: usize = 8 + 10 + 4;
        if packet.len() < LEAST_BYTES {
            return Err(SrtpError::Truncated);
        }
        let ssrc = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        match &mut self.kind {
            Opening::Gcm(keys) => {
                let (rest, word) = packet.split_at_mut(packet.len() - 4);
                let word = [word[0], word[1], word[2], word[3]];
                let index = u32::from_be_bytes(word) & !(1 << 31);
                if word[0] & 0x80 == 0 {
                    // Control packets in the clear are not spoken here.
                    return Err(SrtpError::NotAuthentic);
                }
                self.rtcp.check(ssrc, u64::from(index))?;
                let (header, sealed) = rest.split_at_mut(8);
                let mut aad = [0; 12];
                aad[..8].copy_from_slice(header);
                aad[8..].copy_from_slice(&word);
                let length = gcm::open(&keys.rtcp, keys.rtcp_nonce(ssrc, index), &aad, sealed)?;
                self.rtcp.accept(ssrc, u64::from(index));
                Ok(8 + length)
            }
            Opening::Sha1(sha1) => {
                // The context keeps its own replay window; ours bounds the number of sources.
                self.rtcp.admits(ssrc)?;
                let length = sha1.open(packet, self.rtcp.knows(ssrc), Context::decrypt_rtcp)?;
                self.rtcp.accept(ssrc, 0);
                Ok(length)
            }
        }
    }
}

/// rtc-srtp makes state for an SSRC before it knows whether the packet is authentic, and never forgets it: an SSRC that
/// has not proved itself is tried in a context that is made anew from time to time.
struct Sha1Opening {
    key: MasterKey,
    context: Context,
    probe: Context,
    probes: u32,
}

impl Sha1Opening {
    /// SSRCs that may leave state in the probing context.
    const MOST_PROBES: u32 = 64;

    fn new(key: &MasterKey, crypto: &dyn RTCCrypto) -> Option<Self> {
        Some(Self {
            key: key.clone(),
            context: sha1_context(key, crypto)?,
            probe: sha1_context(key, crypto)?,
            probes: 0,
        })
    }

    fn open<E>(
        &mut self,
        packet: &mut [u8],
        known: bool,
        decrypt: impl Fn(&mut Context, &[u8]) -> Result<BytesMut, E>,
    ) -> Result<usize, SrtpError> {
        if !known {
            if self.probes >= Self::MOST_PROBES {
                let provider = rtc_crypto::default_provider().map_err(|_| SrtpError::NotAuthentic)?;
                self.probe = sha1_context(&self.key, provider.crypto()).ok_or(SrtpError::NotAuthentic)?;
                self.probes = 0;
            }
            self.probes += 1;
            decrypt(&mut self.probe, packet).map_err(|_| SrtpError::NotAuthentic)?;
        }
        let plain = decrypt(&mut self.context, packet).map_err(|_| SrtpError::NotAuthentic)?;
        let place = packet.get_mut(..plain.len()).ok_or(SrtpError::Truncated)?;
        place.copy_from_slice(&plain);
        Ok(plain.len())
    }
}

fn sha1_context(key: &MasterKey, crypto: &dyn RTCCrypto) -> Option<Context> {
    /// Packets; more than a second of a fast sender.
    const WINDOW: usize = 512;
    Context::new(
        &key.key,
        &key.salt,
        ProtectionProfile::Aes128CmHmacSha1_80,
        Some(srtp_replay_protection(WINDOW)),
        Some(srtcp_replay_protection(WINDOW)),
        crypto,
    )
    .ok()
}

fn aead_key(bytes: &[u8; 16]) -> Option<LessSafeKey> {
    UnboundKey::new(&ring::aead::AES_128_GCM, bytes)
        .ok()
        .map(LessSafeKey::new)
}

#[cfg(test)]
mod tests;
