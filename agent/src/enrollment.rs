//! Certificates: an agent gets its first one with a token, presents it, and renews it before it
//! expires. The private key is generated on the host and never leaves it.

use crate::config::Config;
use anyhow::{Context, bail};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tandem_agent_protocol::CONTROLLER_NAME;
use tandem_agent_protocol::agent as wire;
use tandem_agent_protocol::agent::agents_client::AgentsClient;
use tandem_agent_protocol::agent::enrolment_client::EnrolmentClient;
use tandem_agent_protocol::token::Token;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How often it is checked whether the certificate has to be renewed.
pub const RENEWAL_CHECK: Duration = Duration::from_secs(3600);

const KEY: &str = "agent.key";
const OWN: &str = "agent.crt";
const AUTHORITY: &str = "authority.crt";

fn endpoint(address: &str, tls: ClientTlsConfig, connect: Duration) -> anyhow::Result<Endpoint> {
    Endpoint::from_shared(format!("https://{address}"))
        .with_context(|| format!("{address} is no address"))?
        .connect_timeout(connect)
        .tls_config(tls.domain_name(CONTROLLER_NAME))
        .context("the certificates cannot be used")
}

/// A channel to the controller with the certificate in the state folder.
///
/// When the host is not enrolled yet, or the controller is unreachable or refuses the certificate.
pub async fn channel(
    config: &Config,
    address: &str,
    connect: Duration,
    keep_alive: Duration,
) -> anyhow::Result<Channel> {
    finish(&config.state)?;
    let read = |name: &str| {
        let path = config.state.join(name);
        std::fs::read_to_string(&path).with_context(|| {
            format!("{} cannot be read; enrol this host: tandem-agent enroll --token TOKEN (the controller makes one: tandem agent token {})", path.display(), config.name)
        })
    };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(AUTHORITY)?))
        .identity(Identity::from_pem(read(OWN)?, read(KEY)?));
    let endpoint = endpoint(address, tls, connect)?
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(keep_alive)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|e| explained(config, &e))
}

/// The cause behind tonic's `transport error`, and what to do about it.
pub fn explained(config: &Config, error: &dyn std::error::Error) -> anyhow::Error {
    anyhow::anyhow!("cannot reach the controller: {}", deepest(config, error))
}

/// The same for a call that the controller, or a layer below, has refused.
pub fn refused(config: &Config, status: &tonic::Status) -> anyhow::Error {
    match std::error::Error::source(status) {
        Some(source) => anyhow::anyhow!("{}: {}", status.message(), deepest(config, source)),
        None => anyhow::anyhow!("{}{}", status.message(), advice(config, status.message())),
    }
}

fn deepest(config: &Config, error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        text = e.to_string();
        next = e.source();
    }
    text.push_str(&advice(config, &text));
    text
}

/// What to do about it, as text to append.
fn advice(config: &Config, text: &str) -> String {
    let token = format!("tandem agent token {}", config.name);
    if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        format!(
            "; the controller has another authority than the one this host was enrolled with: enrol it again ({token})"
        )
    } else if text.contains("UnknownCA") || text.contains("DecryptError") {
        format!(
            "; the controller does not know the authority of this host's certificate: enrol it again ({token})"
        )
    } else if text.contains("Expired") || own_has_expired(config) {
        format!(
            "; a certificate has expired: is this host's clock right (`date`)? Otherwise enrol it again ({token})"
        )
    } else if text.contains("NotValidYet") {
        "; is this host's clock right (`date`)?".into()
    } else {
        String::new()
    }
}

/// Whether this agent's certificate has expired. A controller that refuses it may have closed the
/// connection before its reason is read (TLS 1.3 has no reply in between).
fn own_has_expired(config: &Config) -> bool {
    let Ok(pem) = std::fs::read_to_string(config.state.join(OWN)) else { return false };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let until = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .ok()
        .and_then(|(_, pem)| Some(pem.parse_x509().ok()?.validity().not_after.timestamp()));
    until.zip(now.ok()).is_some_and(|(until, now)| until < now.as_secs().cast_signed())
}

/// Gets the first certificate.
///
/// With the controller's reason; nothing is changed then.
pub async fn enroll(config: &Config, token: &str) -> anyhow::Result<()> {
    let token: Token = token.parse().map_err(|e: String| anyhow::anyhow!(e))?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&token.authority));
    let channel = endpoint(&token.address, tls, Duration::from_secs(15))?
        .connect()
        .await
        .map_err(|e| explained(config, &e))?;
    let (key, request) = request()?;
    let ask = wire::EnrolRequest { name: config.name.clone(), secret: token.secret, request };
    let reply = EnrolmentClient::new(channel).enrol(ask).await;
    let certificate = reply.map_err(|s| anyhow::anyhow!("{}", s.message()))?.into_inner();
    keep(&config.state, &key, &certificate)
}

/// Generates a private key (PEM) and the request for its certificate (DER).
fn request() -> anyhow::Result<(String, Vec<u8>)> {
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::new(Vec::new())?.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// Writes all files under temporary names, then renames them, the key first and the certificate
/// last. If the agent is killed in between, [`finish`] completes it.
fn keep(state: &Path, key: &str, certificate: &wire::Certificate) -> anyhow::Result<()> {
    std::fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
    let files =
        [(KEY, key), (AUTHORITY, certificate.authority.as_str()), (OWN, certificate.certificate.as_str())];
    for (name, text) in files {
        let path = state.join(format!("{name}.new"));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    for (name, _) in files {
        std::fs::rename(state.join(format!("{name}.new")), state.join(name))?;
    }
    Ok(())
}

/// Completes [`keep`]: the new key is in place, the other files still have their temporary names.
fn finish(state: &Path) -> std::io::Result<()> {
    let beside = |name: &str| state.join(format!("{name}.new"));
    if beside(KEY).exists() || !beside(OWN).exists() {
        return Ok(());
    }
    for name in [AUTHORITY, OWN] {
        match std::fs::rename(beside(name), state.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// True when less than a third of the certificate's life is left.
fn is_due(pem: &str, now: i64) -> anyhow::Result<bool> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    let validity = pem.parse_x509()?.validity().clone();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok(until.saturating_sub(now) < until.saturating_sub(from) / 3)
}

/// Renews the certificate if it is due. A failure is logged and tried again later: a third of the
/// certificate's life is left for that.
pub async fn renew_if_due(config: &Config, channel: &Channel) {
    if let Err(error) = renew(config, channel).await {
        tracing::warn!("the certificate could not be renewed, trying again later: {error:#}");
    }
}

async fn renew(config: &Config, channel: &Channel) -> anyhow::Result<()> {
    let Ok(own) = std::fs::read_to_string(config.state.join(OWN)) else { return Ok(()) };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs().cast_signed();
    if !is_due(&own, now)? {
        return Ok(());
    }
    let (key, request) = request()?;
    let reply = AgentsClient::new(channel.clone()).renew(wire::RenewRequest { request }).await;
    let Ok(certificate) = reply else {
        bail!("{}", reply.err().map(|s| s.message().to_owned()).unwrap_or_default())
    };
    keep(&config.state, &key, &certificate.into_inner())?;
    tracing::info!("the certificate is renewed; the next connection shows the new one");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A kill between any two of the writes and renames leaves a matching pair after the next
    /// start.
    #[test]
    fn whoever_is_killed_while_keeping_a_certificate_has_a_whole_pair() {
        let files = [KEY, AUTHORITY, OWN];
        for written in 0..=3 {
            for moved in 0..=(if written == 3 { 3 } else { 0 }) {
                let folder = tempfile::tempdir().expect("a folder");
                for name in files {
                    std::fs::write(folder.path().join(name), "old").expect("a file");
                }
                for name in &files[..written] {
                    std::fs::write(folder.path().join(format!("{name}.new")), "new").expect("a file");
                }
                for name in &files[..moved] {
                    let beside = folder.path().join(format!("{name}.new"));
                    std::fs::rename(beside, folder.path().join(name)).expect("moved");
                }
                finish(folder.path()).expect("finished");
                let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a file");
                let expected = if moved > 0 { "new" } else { "old" };
                assert_eq!(files.map(read), [expected; 3], "{written} written, {moved} moved");
            }
        }
    }

    #[test]
    fn a_certificate_is_due_when_a_third_of_its_life_is_left() {
        let day = |n: i64| time_of(n);
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 4, 1));
        let pem = params.self_signed(&key).expect("a certificate").pem();
        assert!(!is_due(&pem, day(59)).expect("it is read"));
        assert!(is_due(&pem, day(61)).expect("it is read"));
        assert!(is_due(&pem, day(400)).expect("it is read"));
        assert!(is_due("no certificate", 0).is_err());
    }

    fn pem(from: i32, years: i32) -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(from + years, 1, 1));
        params.self_signed(&key).expect("a certificate").pem()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any bytes in the certificate's file (a disk fault, a faulty controller) are an error or
        /// a certificate.
        #[test]
        fn any_file_is_a_certificate_with_a_time_to_renew_or_an_error(
            from in 1950i32..2100,
            years in 0i32..100,
            now in any::<i64>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let whole = pem(from, years);
            prop_assert!(is_due(&whole, i64::MAX).expect("a whole one is read"));
            prop_assert!(!is_due(&whole, i64::MIN).expect("a whole one is read") || years == 0);
            let mut bytes = whole.into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let text = String::from_utf8_lossy(&bytes);
            let _ = is_due(&text, now);
            let folder = tempfile::tempdir().expect("a folder");
            let config = crate::config::Config { state: folder.path().to_owned(), ..config() };
            std::fs::write(folder.path().join(OWN), text.as_bytes()).expect("room");
            let _ = own_has_expired(&config);
        }
    }

    fn config() -> crate::config::Config {
        let folder = tempfile::tempdir().expect("a folder");
        crate::worker::tests::idle(folder.path()).0
    }

    /// Seconds since the epoch, `n` days after the beginning of 2026.
    fn time_of(n: i64) -> i64 {
        1_767_225_600 + n * 86_400
    }
}
