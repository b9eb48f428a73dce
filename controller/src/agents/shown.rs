//! The certificate that a peer presents: TLS has verified its signature, this module reads its
//! holder.

use tokio_rustls::rustls::pki_types::CertificateDer;

/// The holder of a certificate, and which of that agent's certificates it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// The agent's name.
    pub(super) name: String,
    /// The serial number, hexadecimal.
    pub(super) serial: String,
}

/// The longest serial number (RFC 5280 section 4.1.2.2: 20 octets, and a sign).
const SERIAL: usize = 21;

/// The identity in a certificate; `None` if it is malformed, or not valid for an agent.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok().filter(|n| super::bounds::is_name(n))?;
    // With two names, another program could read the other one.
    if names.next().is_some() {
        return None;
    }
    let serial = parsed.tbs_certificate.raw_serial();
    if serial.is_empty() || serial.len() > SERIAL {
        return None;
    }
    let serial = serial.iter().map(|b| format!("{b:02x}")).collect();
    Some(Identity { name: name.to_owned(), serial })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

    fn certificate(names: &[&str], serial: &[u8]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn a_name_and_a_serial_number_are_read() {
        let read = |der: Vec<u8>| identity(&CertificateDer::from(der));
        let found = read(certificate(&["mini1"], &[0x41, 2, 3])).expect("one of ours");
        assert_eq!((found.name.as_str(), found.serial.as_str()), ("mini1", "410203"));
        assert_eq!(read(certificate(&["mini 1\n"], &[1])), None, "no name that an agent can have");
        assert_eq!(read(certificate(&[], &[1])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_somebody_or_nobody(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = identity(&CertificateDer::from(bytes));
        }

        #[test]
        fn a_spoilt_certificate_is_somebody_or_nobody(
            at in 0usize..600, with in any::<u8>(), cut in 0usize..600, more in prop::collection::vec((0usize..600, any::<u8>()), 0..6),
        ) {
            let mut der = SAMPLE.with(Clone::clone);
            for (at, with) in std::iter::once((at, with)).chain(more) {
                let length = der.len();
                der[at % length] = with;
            }
            der.truncate(cut.max(1));
            let found = identity(&CertificateDer::from(der));
            prop_assert!(found.is_none_or(|f| super::super::bounds::is_name(&f.name) && f.serial.len() <= 2 * SERIAL));
        }
    }

    thread_local! {
        static SAMPLE: Vec<u8> = certificate(&["mini1"], &[0x41; 16]);
    }
}
