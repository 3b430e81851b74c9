//! DTLS 1.2, always as server (RFC 5764): from the browser's hello to the keys of SRTP.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use sha2::{Digest as _, Sha256};

use super::hello::{Hello, HelloReader};
use super::srtp::{MasterKeys, Profile};
use crate::SfuError;

/// How long an unanswered flight waits: the library repeats it seven times at this distance, so 2.8 s in all.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(400);
/// A handshake that is not through by then never will be.
const PATIENCE: Duration = Duration::from_secs(10);
/// Datagrams kept until the hello is whole: it has two.
const MOST_WAITING: usize = 4;

/// TLS record type of alerts (RFC 5246 section 6.2.1).
const ALERT: u8 = 21;
/// Alerts that the library raises for any garbage (RFC 5246 section 7.2).
const UNEXPECTED_MESSAGE: u8 = 10;
const DECODE_ERROR: u8 = 50;

/// SHA-256 of a certificate.
pub(crate) type Fingerprint = [u8; 32];

/// The certificate of this process and what it is used with; one for all connections.
pub(crate) struct Identity {
    gcm: Arc<HandshakeConfig>,
    any: Arc<HandshakeConfig>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// A fresh self-signed certificate.
    ///
    /// # Errors
    /// When the cryptography cannot make one.
    pub(crate) fn generate(provider: &Arc<dyn RTCCryptoProvider>) -> Result<Self, SfuError> {
        let failed = |error: &dyn std::fmt::Display| SfuError::Certificate(error.to_string());
        let certificate = Certificate::generate_self_signed(vec!["seodang".to_owned()], provider.crypto())
            .map_err(|error| failed(&error))?;
        let der = certificate
            .certificate
            .first()
            .ok_or_else(|| failed(&"no certificate was made"))?;
        let fingerprint = Sha256::digest(der.as_ref()).into();
        let config = |profiles| {
            ConfigBuilder::default()
                .with_crypto_provider(Arc::clone(provider))
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(profiles)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                // Self-signed, as all of them are: what counts is the fingerprint in the offer, compared below.
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .with_flight_interval(FLIGHT_INTERVAL)
                .build(false, None)
                .map(Arc::new)
                .map_err(|error| failed(&error))
        };
        Ok(Self {
            gcm: config(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])?,
            any: config(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])?,
            fingerprint,
        })
    }

    /// Of our certificate, for the answer.
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// Why a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DtlsError {
    /// The library gave up: wrong messages, or silence.
    #[error("handshake failed")]
    Failed,
    /// The certificate is not the one the offer announced.
    #[error("fingerprint mismatch")]
    Fingerprint,
    /// The other end said goodbye.
    #[error("closed")]
    Closed,
}

/// One association. Datagrams to send are taken with [`Self::poll_transmit`] after every call.
pub(crate) struct Dtls {
    endpoint: Endpoint,
    identity: Arc<Identity>,
    expected: Fingerprint,
    hello: Option<(HelloReader, Vec<BytesMut>)>,
    /// Taken from the endpoint, not yet sent.
    outgoing: VecDeque<BytesMut>,
    started: Option<Instant>,
    done: bool,
}

/// The library keys associations by address; one each under a constant name survives a change of the real one.
const OTHER_END: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 1);
const OUR_END: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)), 2);

impl Dtls {
    /// Waits for the hello of whoever holds the certificate with this fingerprint.
    pub(crate) fn new(identity: Arc<Identity>, expected: Fingerprint) -> Self {
        let endpoint = Endpoint::new(OUR_END, rtc_shared::TransportProtocol::UDP, None);
        let hello = Some((HelloReader::default(), Vec::new()));
        Self {
            endpoint,
            identity,
            expected,
            hello,
            outgoing: VecDeque::new(),
            started: None,
            done: false,
        }
    }

    /// Takes a datagram; the keys come out once, when the handshake is through.
    ///
    /// # Errors
    /// When the association is at its end.
    pub(crate) fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<MasterKeys>, DtlsError> {
        self.started.get_or_insert(now);
        let Some((reader, waiting)) = &mut self.hello else {
            return self.feed(now, datagram.into());
        };
        if waiting.len() == MOST_WAITING {
            waiting.remove(0);
        }
        waiting.push(datagram.into());
        let Hello::Complete { gcm } = reader.push(datagram) else {
            return Ok(None);
        };
        let config = if gcm {
            &self.identity.gcm
        } else {
            &self.identity.any
        };
        self.endpoint.set_server_config(Some(Arc::clone(config)));
        let waiting = std::mem::take(waiting);
        self.hello = None;
        for datagram in waiting {
            self.feed(now, datagram)?;
        }
        Ok(None)
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.take_transmits();
        self.outgoing.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        let patience = self.started.map(|started| started + PATIENCE);
        [self.endpoint.poll_timeout(&OTHER_END), patience]
            .into_iter()
            .flatten()
            .min()
    }

    /// Repeats what was not answered.
    ///
    /// # Errors
    /// When there is no hope left.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.done {
            return Ok(());
        }
        if self.started.is_some_and(|started| now >= started + PATIENCE) {
            return Err(DtlsError::Failed);
        }
        if self.hello.is_some() {
            return Ok(());
        }
        self.endpoint
            .handle_timeout(OTHER_END, now)
            .map_err(|_| DtlsError::Failed)
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, OTHER_END);
    }

    fn feed(&mut self, now: Instant, datagram: BytesMut) -> Result<Option<MasterKeys>, DtlsError> {
        self.take_transmits();
        let sound = self.outgoing.len();
        let events = match self.endpoint.read(now, OTHER_END, None, datagram) {
            Ok(events) => events,
            Err(_) => {
                self.take_transmits();
                return self.pass_over(sound);
            }
        };
        let mut keys = None;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => keys = Some(self.complete(now)?),
                EndpointEvent::PeerClosed => return Err(DtlsError::Closed),
                // There are no data channels here.
                _ => {}
            }
        }
        Ok(keys)
    }

    /// After a record the library could not use: anyone who knows an address can forge one, so it is passed over (RFC
    /// 6347 section 4.1.2.7) unless the library ended the handshake for a reason that only the other end can give.
    fn pass_over(&mut self, sound: usize) -> Result<Option<MasterKeys>, DtlsError> {
        let refuses = |datagram: &BytesMut| {
            let noise = matches!(datagram.get(14), Some(&(UNEXPECTED_MESSAGE | DECODE_ERROR)));
            datagram.first() == Some(&ALERT) && !noise
        };
        if !self.done && self.outgoing.iter().skip(sound).any(refuses) {
            return Err(DtlsError::Failed);
        }
        // The library answers garbage with a fatal alert, which would end a sound association at the other end.
        let mut place = 0;
        self.outgoing.retain(|datagram| {
            place += 1;
            place <= sound || datagram.first() != Some(&ALERT)
        });
        Ok(None)
    }

    fn take_transmits(&mut self) {
        let transmits = std::iter::from_fn(|| self.endpoint.poll_transmit());
        self.outgoing.extend(transmits.map(|transmit| transmit.message));
    }

    fn complete(&mut self, now: Instant) -> Result<MasterKeys, DtlsError> {
        let keys = self.read_keys();
        match keys {
            Ok(_) => self.done = true,
            Err(_) => self.close(now),
        }
        keys
    }

    fn read_keys(&self) -> Result<MasterKeys, DtlsError> {
        let state = self
            .endpoint
            .get_connection_state(OTHER_END)
            .ok_or(DtlsError::Failed)?;
        let certificate = state.peer_certificates.first().ok_or(DtlsError::Fingerprint)?;
        if <Fingerprint>::from(Sha256::digest(certificate)) != self.expected {
            return Err(DtlsError::Fingerprint);
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::Sha1,
            _ => return Err(DtlsError::Failed),
        };
        let length = 2 * (16 + profile.salt_bytes());
        let material = state
            .export_keying_material("EXTRACTOR-dtls_srtp", &[], length)
            .map_err(|_| DtlsError::Failed)?;
        MasterKeys::split(profile, material.as_ref()).ok_or(DtlsError::Failed)
    }
}

#[cfg(test)]
mod tests;
