//! TLS to hosts with self-signed certificates, as XAPI has them: a certificate is verified by its
//! SHA-256 fingerprint only.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
};

/// SHA-256 of a certificate in DER. Written as by `openssl x509 -fingerprint -sha256`; colons may
/// be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(der: &[u8]) -> Fingerprint {
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Fingerprint(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = String;
    fn from_str(text: &str) -> Result<Fingerprint, String> {
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .unwrap_or_default();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(format!(
                "{text:?} is no SHA-256 fingerprint: write 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` shows them"
            ));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Fingerprint(bytes))
    }
}

/// A host has sent another certificate than the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its certificate has the fingerprint {found}, which is not among the {known} that are known of this pool"
)]
pub struct UnknownCertificate {
    /// The fingerprint of its certificate.
    pub found: Fingerprint,
    /// Number of known ones.
    pub known: usize,
}

/// Accepts a server with one of these certificates and a proof of its key.
#[derive(Debug)]
struct Pinned {
    known: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Fingerprint::of(end_entity);
        if self.known.contains(&found) {
            return Ok(ServerCertVerified::assertion());
        }
        let why = UnknownCertificate { found, known: self.known.len() };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connector to hosts with one of these certificates, by TLS 1.2 or 1.3.
///
/// When the TLS library supports no protocol version, which depends on its features.
pub fn connector(known: &[Fingerprint]) -> Result<TlsConnector, Error> {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let pinned = Pinned { known: known.to_vec(), provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The unknown certificate, if that was the reason for an error.
pub fn unknown_certificate(error: &std::io::Error) -> Option<UnknownCertificate> {
    let inner = error.get_ref()?.downcast_ref::<Error>()?;
    match inner {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => {
            why.downcast_ref::<UnknownCertificate>().cloned()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_writes_it() {
        let of = Fingerprint::of(b"abc");
        let written = of.to_string();
        // The example for "abc" in FIPS 180-4.
        assert!(written.starts_with("BA:78:16:BF:8F:01:CF:EA"), "{written}");
        assert_eq!(written.parse(), Ok(of));
        assert_eq!(written.replace(':', "").to_lowercase().parse(), Ok(of));
        assert!("BA:78".parse::<Fingerprint>().is_err_and(|e| e.contains("64 hexadecimal digits")));
        assert!("é".repeat(64).parse::<Fingerprint>().is_err());
    }
}
