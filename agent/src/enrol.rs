//! Certificates: how an agent gets its first one by a token, shows it, and renews it before it expires. The private key is made here and
//! never leaves the host.

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

/// How often is looked whether the certificate is to be renewed.
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

/// A channel to the controller by the certificate in the state folder.
///
/// # Errors
/// When the host is not enrolled yet, or the controller is not reached or does not know it.
pub async fn channel(
    config: &Config,
    address: &str,
    connect: Duration,
    keep_alive: Duration,
) -> anyhow::Result<Channel> {
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
    endpoint.connect().await.map_err(explained)
}

/// What stands behind tonic's `transport error`.
fn explained(error: tonic::transport::Error) -> anyhow::Error {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(e) = next {
        text = e.to_string();
        next = e.source();
    }
    if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        text.push_str(
            "; the controller has another authority than the one this host was enrolled with: enrol it again",
        );
    }
    anyhow::anyhow!("cannot reach the controller: {text}")
}

/// Gets the first certificate.
///
/// # Errors
/// With what the controller says; nothing is then changed.
pub async fn enrol(config: &Config, token: &str) -> anyhow::Result<()> {
    let token: Token = token.parse().map_err(|e: String| anyhow::anyhow!(e))?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&token.authority));
    let channel =
        endpoint(&token.address, tls, Duration::from_secs(15))?.connect().await.map_err(explained)?;
    let (key, request) = request()?;
    let ask = wire::EnrolRequest { name: config.name.clone(), secret: token.secret, request };
    let reply = EnrolmentClient::new(channel).enrol(ask).await;
    let certificate = reply.map_err(|s| anyhow::anyhow!("{}", s.message()))?.into_inner();
    keep(&config.state, &key, &certificate)
}

/// A new private key (PEM) and the request for its certificate (DER).
fn request() -> anyhow::Result<(String, Vec<u8>)> {
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::new(Vec::new())?.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// Written beside and moved over, the certificate last: at no moment is there half of a pair that is used.
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

/// True when less than a third of the certificate's life is left.
fn is_due(pem: &str, now: i64) -> anyhow::Result<bool> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    let validity = pem.parse_x509()?.validity().clone();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok(until.saturating_sub(now) < until.saturating_sub(from) / 3)
}

/// Renews the certificate if it is time. A failure is said and tried again later: there is a third of its life left for that.
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
