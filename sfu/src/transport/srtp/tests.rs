//! The vectors of RFC 7714, and both profiles against rtc-srtp: across a wrap, under replay and forgery.

use std::sync::Arc;

use proptest::prelude::*;
use rtc_crypto::RTCCryptoProvider;

use super::*;

const BOTH: [Profile; 2] = [Profile::Gcm, Profile::Sha1];
const REPORT: [u8; 12] = [0x81, 201, 0, 2, 0, 0, 0, 5, 1, 2, 3, 4];

#[test]
fn rtp_is_sealed_and_opened_as_in_rfc_7714_section_16_1() {
    let plain = bytes(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
         69736120 696e2070 61727465 73207472 6573",
    );
    let sealed = bytes(
        "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f
         42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
    );
    let mut packet = plain.clone();
    let mut sealer = Sealer {
        kind: Sealing::Gcm(GcmKeys::of_rfc_7714()),
        rtcp_index: 0,
    };
    assert!(sealer.seal_rtp(0xf17b, &mut packet, 0));
    assert_eq!(packet, sealed);
    let length = opener_of_the_rfc().open_rtp(&mut packet, 12).expect("authentic");
    assert_eq!(packet[..length], plain);
}

#[test]
fn rtcp_is_sealed_and_opened_as_in_rfc_7714_section_17_1() {
    let plain = bytes(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
         deadbeef deadbeef deadbeef deadbeef deadbeef",
    );
    let sealed = bytes(
        "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1
         730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
    );
    let mut packet = Vec::new();
    let mut sealer = Sealer {
        kind: Sealing::Gcm(GcmKeys::of_rfc_7714()),
        rtcp_index: 0x5d3,
    };
    assert!(sealer.seal_rtcp(&plain, &mut packet));
    assert_eq!(packet, sealed);
    let length = opener_of_the_rfc().open_rtcp(&mut packet).expect("authentic");
    assert_eq!(packet[..length], plain);
}

#[test]
fn what_is_sealed_another_implementation_opens_across_a_wrap() {
    for profile in BOTH {
        let (mut ours, mut theirs) = (sealer(profile), theirs(profile));
        for index in 0xfff0..0x1_0010_u64 {
            let plain = packet(5, index, b"sound");
            let mut sealed = plain.clone();
            assert!(ours.seal_rtp(index, &mut sealed, 0));
            assert_eq!(
                theirs.decrypt_rtp(&sealed).expect("authentic"),
                plain,
                "{profile:?} {index}"
            );
            let mut report = Vec::new();
            assert!(ours.seal_rtcp(&REPORT, &mut report));
            assert_eq!(
                theirs.decrypt_rtcp(&report).expect("authentic"),
                REPORT.as_slice()
            );
        }
    }
}

#[test]
fn what_another_implementation_seals_is_opened_once_across_a_wrap() {
    for profile in BOTH {
        let (mut ours, mut theirs) = (opener(profile), theirs(profile));
        for index in 0xfff0..0x1_0010_u64 {
            let plain = packet(5, index, b"picture");
            let sealed = theirs.encrypt_rtp(&plain).expect("sealed");
            let mut opened = sealed.to_vec();
            let length = ours.open_rtp(&mut opened, 12).expect("authentic");
            assert_eq!(opened[..length], plain, "{profile:?} {index}");
            assert_eq!(ours.open_rtp(&mut sealed.to_vec(), 12), Err(SrtpError::Replayed));
            let report = theirs.encrypt_rtcp(&REPORT).expect("sealed");
            let mut opened = report.to_vec();
            let length = ours.open_rtcp(&mut opened).expect("authentic");
            assert_eq!(opened[..length], REPORT);
            assert!(
                ours.open_rtcp(&mut report.to_vec()).is_err(),
                "{profile:?} replayed"
            );
        }
    }
}

#[test]
fn a_header_extension_stays_readable_and_authentic() {
    let mut plain = vec![
        0x90, 96, 0, 1, 0, 0, 0, 9, 0, 0, 0, 5, 0xbe, 0xde, 0, 1, 0x10, b'0', 0, 0,
    ];
    plain.extend_from_slice(b"picture");
    for profile in BOTH {
        let sealed = theirs(profile).encrypt_rtp(&plain).expect("sealed");
        let mut opened = sealed.to_vec();
        let length = opener(profile).open_rtp(&mut opened, 20).expect("authentic");
        assert_eq!(opened[..length], plain);
        let mut tampered = sealed.to_vec();
        tampered[17] = b'1';
        assert_eq!(
            opener(profile).open_rtp(&mut tampered, 20),
            Err(SrtpError::NotAuthentic)
        );
    }
}

#[test]
fn forged_packets_of_many_ssrcs_do_not_shut_out_the_real_one() {
    for profile in BOTH {
        let mut ours = opener(profile);
        for ssrc in 0..200 {
            let mut forged = packet(ssrc, 1, &[0; 40]);
            assert_eq!(ours.open_rtp(&mut forged, 12), Err(SrtpError::NotAuthentic));
            assert!(ours.open_rtcp(&mut [0x81; 60]).is_err());
        }
        if let Opening::Sha1(sha1) = &ours.kind {
            assert!(sha1.probes <= Sha1Opening::MOST_PROBES);
        }
        let mut sealed = theirs(profile)
            .encrypt_rtp(&packet(7, 1, b"real"))
            .expect("sealed")
            .to_vec();
        assert_eq!(ours.open_rtp(&mut sealed, 12), Ok(16), "{profile:?}");
    }
}

#[test]
fn a_retransmission_is_the_same_datagram() {
    let mut ours = sealer(Profile::Gcm);
    let (mut first, mut again) = (packet(5, 70_000, b"one"), packet(5, 70_000, b"one"));
    assert!(ours.seal_rtp(70_000, &mut first, 0));
    assert!(ours.seal_rtp(70_000, &mut again, 0));
    assert_eq!(first, again);
}

#[test]
fn a_key_protects_no_more_packets_than_it_may() {
    assert!(sealer(Profile::Gcm).seal_rtp((1 << 48) - 1, &mut vec![0; 20], 0));
    assert!(!sealer(Profile::Gcm).seal_rtp(1 << 48, &mut vec![0; 20], 0));
}

proptest! {
    #[test]
    fn arbitrary_datagrams_never_panic(mut datagram in prop::collection::vec(any::<u8>(), 0..80), header: usize) {
        for profile in BOTH {
            let mut ours = opener(profile);
            let header = 12 + header % 60;
            let _ = ours.open_rtp(&mut datagram, header);
            let _ = ours.open_rtcp(&mut datagram);
        }
    }
}

fn opener_of_the_rfc() -> Opener {
    Opener {
        kind: Opening::Gcm(GcmKeys::of_rfc_7714()),
        rtp: Windows::default(),
        rtcp: Windows::default(),
    }
}

fn master(profile: Profile) -> MasterKey {
    MasterKey {
        key: *b"sixteen bytes ke",
        salt: (0..profile.salt_bytes() as u8).collect(),
    }
}

fn provider() -> Arc<dyn RTCCryptoProvider> {
    rtc_crypto::default_provider().expect("ring is compiled in")
}

fn sealer(profile: Profile) -> Sealer {
    Sealer::new(profile, &master(profile), provider().crypto()).expect("keys of the right length")
}

fn opener(profile: Profile) -> Opener {
    Opener::new(profile, &master(profile), provider().crypto()).expect("keys of the right length")
}

/// The other implementation with the same keys.
fn theirs(profile: Profile) -> Context {
    let MasterKey { key, salt } = master(profile);
    let profile = match profile {
        Profile::Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::Sha1 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(&key, &salt, profile, None, None, provider().crypto()).expect("keys of the right length")
}

fn packet(ssrc: u32, index: u64, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(index as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 9]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).expect("ascii"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("two digits"))
        .collect()
}
