//! AES-128-GCM for SRTP and SRTCP (RFC 7714), with the key derivation of RFC 3711 section 4.3.

use ring::aead::{Aad, LessSafeKey, Nonce};
use rtc_crypto::{BlockCipherAlgorithm, RTCCrypto};

use super::{MasterKey, SrtpError, aead_key};

/// Bytes of the authentication tag.
pub(super) const TAG_BYTES: usize = 16;

/// One direction's session keys.
pub(super) struct GcmKeys {
    pub(super) rtp: LessSafeKey,
    pub(super) rtcp: LessSafeKey,
    rtp_salt: [u8; 12],
    rtcp_salt: [u8; 12],
}

impl GcmKeys {
    pub(super) fn derive(key: &MasterKey, crypto: &dyn RTCCrypto) -> Option<Self> {
        /// Labels of RFC 3711 section 4.3.1 and 4.3.2.
        const RTP_KEY: u8 = 0;
        const RTP_SALT: u8 = 2;
        const RTCP_KEY: u8 = 3;
        const RTCP_SALT: u8 = 5;
        let salt = |label| derive_block(key, label, crypto)?[..12].try_into().ok();
        Some(Self {
            rtp: aead_key(&derive_block(key, RTP_KEY, crypto)?)?,
            rtcp: aead_key(&derive_block(key, RTCP_KEY, crypto)?)?,
            rtp_salt: salt(RTP_SALT)?,
            rtcp_salt: salt(RTCP_SALT)?,
        })
    }

    /// The session keys and salts of the test vectors (RFC 7714 sections 16.1 and 17.1), which are not derived.
    #[cfg(test)]
    pub(super) fn of_rfc_7714() -> Self {
        let key = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        Self {
            rtp: aead_key(&key).expect("16 bytes"),
            rtcp: aead_key(&key).expect("16 bytes"),
            rtp_salt: *b"Quid pro quo",
            rtcp_salt: *b"Quid pro quo",
        }
    }

    /// RFC 7714 section 8.1: two zero bytes, SSRC, rollover counter, sequence number; exclusive-or with the salt.
    pub(super) fn rtp_nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = self.rtp_salt;
        mix(&mut nonce[2..6], &ssrc.to_be_bytes());
        mix(&mut nonce[6..12], &index.to_be_bytes()[2..]);
        Nonce::assume_unique_for_key(nonce)
    }

    /// RFC 7714 section 9.1: two zero bytes, SSRC, two zero bytes, index; exclusive-or with the salt.
    pub(super) fn rtcp_nonce(&self, ssrc: u32, index: u32) -> Nonce {
        let mut nonce = self.rtcp_salt;
        mix(&mut nonce[2..6], &ssrc.to_be_bytes());
        mix(&mut nonce[8..12], &index.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Encrypts in place and returns the tag.
pub(super) fn seal(
    key: &LessSafeKey,
    nonce: Nonce,
    aad: &[u8],
    payload: &mut [u8],
) -> Option<[u8; TAG_BYTES]> {
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(aad), payload)
        .ok()?;
    tag.as_ref().try_into().ok()
}

/// Decrypts in place and returns the length of the plain text, which stands at the beginning.
pub(super) fn open(
    key: &LessSafeKey,
    nonce: Nonce,
    aad: &[u8],
    sealed: &mut [u8],
) -> Result<usize, SrtpError> {
    key.open_in_place(nonce, Aad::from(aad), sealed)
        .map(|plain| plain.len())
        .map_err(|_| SrtpError::NotAuthentic)
}

/// The first block of the key stream for `label`; with a key derivation rate of 0 it is all that is needed.
fn derive_block(key: &MasterKey, label: u8, crypto: &dyn RTCCrypto) -> Option<[u8; 16]> {
    let mut block = [0; 16];
    // A 96-bit salt stands left in the 112 bits (RFC 7714 section 11).
    block.get_mut(..key.salt.len())?.copy_from_slice(&key.salt);
    block[7] ^= label;
    crypto
        .block_encrypt(BlockCipherAlgorithm::Aes128, &key.key, &mut block)
        .ok()?;
    Some(block)
}

fn mix(into: &mut [u8], with: &[u8]) {
    for (byte, other) in into.iter_mut().zip(with) {
        *byte ^= other;
    }
}
