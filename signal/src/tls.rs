//! Certificates: given as files, or self-signed and kept under the data folder.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::config::Config;

/// Longest life some browsers grant a certificate that no authority signed is 825 days.
const DAYS_VALID: i64 = 800;
/// A self-signed certificate is replaced this long before its end, not in the middle of a class.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("tls file {path:?}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file holds no certificate or key in PEM form.
    #[error("tls file {path:?} holds no {what} in PEM form")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key are no pair, or of a kind that is not spoken.
    #[error("certificate and key cannot be used")]
    Unusable(#[from] rustls::Error),
    /// A self-signed certificate cannot be made.
    #[error("self-signed certificate")]
    Make(#[from] rcgen::Error),
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Whether browsers have to be told to trust it.
    pub is_self_signed: bool,
}

impl Identity {
    /// The identity the configuration asks for; `None` where plain HTTP is served.
    ///
    /// # Errors
    /// When files are missing or wrong, or the self-signed certificate cannot be made or kept.
    pub fn of_config(config: &Config) -> Result<Option<Self>, TlsError> {
        match (&config.tls_certificate, &config.tls_key) {
            (Some(certificate), Some(key)) => Self::load(certificate, key).map(Some),
            _ if config.lan => Self::self_signed(&config.data, &own_names(), UnixTime::now()).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads certificate chain and key.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| pem_error(certificate, "certificate", error))?;
        if chain.is_empty() {
            return Err(TlsError::Pem {
                path: certificate.to_owned(),
                what: "certificate",
            });
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| pem_error(key, "private key", error))?;
        Ok(Self {
            chain,
            key,
            is_self_signed: false,
        })
    }

    /// The kept self-signed certificate, or a fresh one where there is none or it ends soon.
    ///
    /// It is kept when the machine's addresses change: whoever accepted it once does not have to again.
    ///
    /// # Errors
    /// When it cannot be read, made or written.
    pub fn self_signed(data: &Path, names: &[String], now: UnixTime) -> Result<Self, TlsError> {
        let folder = data.join("tls");
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        if certificate.exists() && key.exists() {
            let kept = Self::load(&certificate, &key)?;
            if kept.lasts_until(UnixTime::since_unix_epoch(
                Duration::from_secs(now.as_secs()) + RENEW_BEFORE,
            )) {
                return Ok(Self {
                    is_self_signed: true,
                    ..kept
                });
            }
        }
        let made = make(names, now)?;
        crate::data::make_private(&folder).map_err(|source| TlsError::File { path: folder, source })?;
        write_private(&key, &made.key)?;
        write_private(&certificate, &made.certificate)?;
        Ok(Self {
            is_self_signed: true,
            ..Self::load(&certificate, &key)?
        })
    }

    /// What the accept loop needs.
    ///
    /// # Errors
    /// When certificate and key are no pair.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// SHA-256 of the certificate, as browsers show it: upper-case pairs with colons.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = String::with_capacity(95);
        for (index, byte) in Sha256::digest(&self.chain[0]).iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(text, "{colon}{byte:02X}").expect("writing to a string does not fail");
        }
        text
    }

    /// Whether the certificate names this host or address.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else {
            return false;
        };
        ParsedCertificate::try_from(&self.chain[0])
            .is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
    }

    /// Whether a self-signed certificate is valid at `time`.
    #[must_use]
    pub fn lasts_until(&self, time: UnixTime) -> bool {
        let mut roots = RootCertStore::empty();
        let Ok(certificate) = ParsedCertificate::try_from(&self.chain[0]) else {
            return false;
        };
        roots.add(self.chain[0].clone()).is_ok()
            && verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &roots,
                &[],
                time,
                provider().signature_verification_algorithms.all,
            )
            .is_ok()
    }
}

/// Names and addresses by which this machine may be reached: localhost, its host name, every interface.
#[must_use]
pub fn own_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim();
        if !host.is_empty() && host != "localhost" && ServerName::try_from(host).is_ok() {
            names.push(host.to_owned());
        }
    }
    names.extend(interface_addresses(true).iter().map(ToString::to_string));
    names
}

/// Addresses of the network interfaces, IPv4 first; link-local IPv6 ones are of no use in a link.
#[must_use]
pub fn interface_addresses(with_loopback: bool) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .iter()
        .filter(|interface| with_loopback || !interface.is_loopback())
        .map(if_addrs::Interface::ip)
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The one crypto provider; none is installed for the whole process.
#[must_use]
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

struct Made {
    certificate: String,
    key: String,
}

fn make(names: &[String], now: UnixTime) -> Result<Made, TlsError> {
    let mut params = CertificateParams::new(names.to_vec())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Seodang");
    params.distinguished_name = name;
    let now = i64::try_from(now.as_secs()).expect("clocks are not that far ahead");
    let now = time::OffsetDateTime::from_unix_timestamp(now).expect("clocks are not that far ahead");
    // Laptops whose clock is a little behind must not see a certificate of the future.
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(DAYS_VALID - 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Made {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn pem_error(path: &Path, what: &'static str, error: rustls_pki_types::pem::Error) -> TlsError {
    match error {
        rustls_pki_types::pem::Error::Io(source) => TlsError::File {
            path: path.to_owned(),
            source,
        },
        _ => TlsError::Pem {
            path: path.to_owned(),
            what,
        },
    }
}

/// Writes the file whole, for its owner only.
fn write_private(path: &Path, text: &str) -> Result<(), TlsError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn days(count: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000 + count * 86_400))
    }

    #[test]
    fn the_self_signed_certificate_is_made_once_kept_private_and_renewed_in_time() {
        let data = tempfile::tempdir().expect("a folder");
        let names = ["localhost".to_owned(), "192.0.2.7".to_owned()];

        let first = Identity::self_signed(data.path(), &names, days(0)).expect("made");
        let second = Identity::self_signed(data.path(), &names, days(700)).expect("kept");
        let third = Identity::self_signed(data.path(), &names, days(790)).expect("renewed");

        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_ne!(first.fingerprint(), third.fingerprint());
        assert!(first.is_self_signed && second.is_self_signed && third.is_self_signed);
        assert!(first.names("localhost") && first.names("192.0.2.7") && !first.names("example.org"));
        let mode = std::fs::metadata(data.path().join("tls/key.pem"))
            .expect("written")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.pem");
        std::fs::write(&path, "nothing").expect("writable");
        assert!(matches!(
            Identity::load(&path, &path),
            Err(TlsError::Pem {
                what: "certificate",
                ..
            })
        ));
        let absent = folder.path().join("absent.pem");
        assert!(matches!(
            Identity::load(&absent, &path),
            Err(TlsError::File { .. })
        ));
    }
}
