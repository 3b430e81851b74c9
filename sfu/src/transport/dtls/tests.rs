//! Handshakes with rtc-dtls in the browser's place.

use super::*;

const CHROMIUM: [SrtpProtectionProfile; 3] = [
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
];

#[test]
fn both_sides_agree_on_gcm_although_chromium_lists_it_last() {
    let now = Instant::now();
    let mut client = Client::new(now, &CHROMIUM);
    let mut server = server(client.fingerprint);
    let keys = handshake(now, &mut client, &mut server)
        .expect("no error")
        .expect("keys");
    assert_eq!(keys.profile, Profile::Gcm);
    let state = client
        .endpoint
        .get_connection_state(OUR_END)
        .expect("a connection");
    let theirs = state
        .export_keying_material("EXTRACTOR-dtls_srtp", &[], 56)
        .expect("keys");
    assert_eq!(theirs.as_ref()[..16], keys.client.key);
    assert_eq!(theirs.as_ref()[16..32], keys.server.key);
    assert_eq!(theirs.as_ref()[32..44], keys.client.salt);
    assert_eq!(theirs.as_ref()[44..], keys.server.salt);
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn a_client_without_gcm_gets_the_fallback() {
    let now = Instant::now();
    let mut client = Client::new(now, &CHROMIUM[..1]);
    let mut server = server(client.fingerprint);
    let keys = handshake(now, &mut client, &mut server)
        .expect("no error")
        .expect("keys");
    assert_eq!((keys.profile, keys.client.salt.len()), (Profile::Sha1, 14));
}

#[test]
fn a_client_with_neither_profile_fails_at_once() {
    let now = Instant::now();
    let mut client = Client::new(now, &CHROMIUM[1..2]);
    let mut server = server(client.fingerprint);
    assert_eq!(
        handshake(now, &mut client, &mut server).err(),
        Some(DtlsError::Failed)
    );
}

#[test]
fn another_certificate_than_announced_gets_an_alert_and_no_keys() {
    let now = Instant::now();
    let mut client = Client::new(now, &CHROMIUM);
    let mut server = server([7; 32]);
    assert_eq!(
        handshake(now, &mut client, &mut server).err(),
        Some(DtlsError::Fingerprint)
    );
    let alerts = std::iter::from_fn(|| server.poll_transmit()).filter(|datagram| datagram[0] == ALERT);
    assert_eq!(alerts.count(), 1);
}

#[test]
fn garbage_ends_neither_a_handshake_nor_an_association() {
    let now = Instant::now();
    let mut client = Client::new(now, &CHROMIUM);
    let mut server = server(client.fingerprint);
    let garbage = |server: &mut Dtls| {
        for kind in [20, 21, 22, 23, 63] {
            for length in [13_usize, 14, 60] {
                let mut datagram = vec![kind; length];
                datagram[1..13].copy_from_slice(&[0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, length as u8 - 13]);
                assert_eq!(server.handle(now, &datagram).err(), None, "{kind} {length}");
                assert_eq!(
                    server.handle(now, &vec![kind; length]).err(),
                    None,
                    "{kind} {length}"
                );
            }
        }
    };
    garbage(&mut server);
    handshake(now, &mut client, &mut server)
        .expect("no error")
        .expect("keys");
    garbage(&mut server);
    client.endpoint.stop(now, OUR_END);
    let goodbye = client.datagrams().pop().expect("an alert");
    assert_eq!(
        server.handle(now, &goodbye).err(),
        Some(DtlsError::Closed),
        "the association is alive"
    );
}

#[test]
fn a_handshake_that_stops_is_repeated_and_then_given_up() {
    let now = Instant::now();
    let mut client = Client::new(now, &CHROMIUM);
    let mut server = server(client.fingerprint);
    for datagram in client.datagrams() {
        assert!(matches!(server.handle(now, &datagram), Ok(None)));
    }
    let (error, at) = loop {
        let at = server.poll_timeout().expect("something to wait for");
        if let Err(error) = server.handle_timeout(at) {
            break (error, at);
        }
    };
    assert_eq!(error, DtlsError::Failed);
    assert!(at > now && at <= now + PATIENCE);
}

/// A client that says hello with these profiles, in this order.
struct Client {
    endpoint: Endpoint,
    fingerprint: Fingerprint,
}

impl Client {
    fn new(now: Instant, profiles: &[SrtpProtectionProfile]) -> Self {
        let provider = rtc_crypto::default_provider().expect("ring is compiled in");
        let certificate =
            Certificate::generate_self_signed(vec!["browser".to_owned()], provider.crypto()).expect("made");
        let fingerprint = Sha256::digest(certificate.certificate[0].as_ref()).into();
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, None)
            .expect("a configuration");
        let mut endpoint = Endpoint::new(OTHER_END, rtc_shared::TransportProtocol::UDP, None);
        endpoint
            .connect(now, OUR_END, Arc::new(config), None)
            .expect("begun");
        Self {
            endpoint,
            fingerprint,
        }
    }

    fn datagrams(&mut self) -> Vec<BytesMut> {
        let transmits = std::iter::from_fn(|| self.endpoint.poll_transmit());
        transmits.map(|transmit| transmit.message).collect()
    }
}

fn server(expected: Fingerprint) -> Dtls {
    let provider = rtc_crypto::default_provider().expect("ring is compiled in");
    Dtls::new(Arc::new(Identity::generate(&provider).expect("made")), expected)
}

/// Carries datagrams both ways until the server has keys or gives up.
fn handshake(now: Instant, client: &mut Client, server: &mut Dtls) -> Result<Option<MasterKeys>, DtlsError> {
    for _ in 0..20 {
        for datagram in client.datagrams() {
            let outcome = server.handle(now, &datagram);
            if matches!(outcome, Ok(None)) {
                continue;
            }
            if outcome.is_ok() {
                while let Some(answer) = server.poll_transmit() {
                    client
                        .endpoint
                        .read(now, OUR_END, None, answer)
                        .expect("the last flight");
                }
            }
            return outcome;
        }
        while let Some(answer) = server.poll_transmit() {
            // A refusal is an error to the client; what counts is the server's own outcome.
            let _ = client.endpoint.read(now, OUR_END, None, answer);
        }
    }
    Ok(None)
}
