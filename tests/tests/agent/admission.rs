//! Who is let in by the controller, and what both sides say of whom it does not let in.

use crate::host::{AGENTS, Host};
use anyhow::{Result, ensure};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SerialNumber,
};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use tandem_tests::{can_emulate, wait};

/// The serial number of a certificate.
fn serial(pem: &str) -> Result<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    Ok(pem.parse_x509()?.raw_serial().to_vec())
}

/// A certificate for the agent, by the controller's own authority, good from and until so many days
/// from now.
fn certificate(
    authority: &Path,
    name: &str,
    serial: &[u8],
    from: i64,
    until: i64,
) -> Result<(String, String)> {
    let key = KeyPair::from_pem(&std::fs::read_to_string(authority.join("authority.key"))?)?;
    let issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(authority.join("authority.crt"))?, key)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from_slice(serial));
    let now = time::OffsetDateTime::now_utc();
    (params.not_before, params.not_after) =
        (now + time::Duration::days(from), now + time::Duration::days(until));
    let own = KeyPair::generate()?;
    Ok((params.signed_by(&own, &issuer)?.pem(), own.serialize_pem()))
}

#[test]
fn who_is_not_let_in_is_told_why_and_the_controller_logs_it() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::new()?;
    host.start_controller("store.sqlite")?;
    // 1. Not enrolled.
    host.start_agent()?;
    host.said("agent.log", "tandem-agent enroll --token")?;
    // 2. Enrolled while it runs: the next attempt is let in.
    host.enroll()?;
    host.applied()?;
    // 3. Revoked.
    host.tandem(&["agent", "revoke", "mini1"])?;
    host.said("tandem.log", "was revoked")?;
    host.said("agent.log", "was revoked; to let it in again")?;
    // 4. Enrolled anew.
    host.enroll()?;
    host.applied()?;
    host.agent = None;
    // 5. Expired.
    let (authority, state) = (host.path("store.sqlite.agents"), host.path("state"));
    let current = serial(&std::fs::read_to_string(state.join("agent.crt"))?)?;
    let put = |(certificate, key): (String, String)| -> Result<()> {
        std::fs::write(state.join("agent.crt"), certificate)?;
        Ok(std::fs::write(state.join("agent.key"), key)?)
    };
    put(certificate(&authority, "mini1", &current, -100, -10)?)?;
    host.start_agent()?;
    host.said("tandem.log", "certificate expired")?;
    host.said("agent.log", "a certificate has expired: is this host's clock right")?;
    host.agent = None;
    // 6. An unknown peer with a name that was never enrolled, by a certificate of ours.
    put(certificate(&authority, "nobody", &current, -1, 10)?)?;
    host.start_agent()?;
    host.said("agent.log", "is not enrolled here")?;
    host.agent = None;
    // 7. Nearly expired: renewed at once, and let in by the new one.
    let old = certificate(&authority, "mini1", &current, -89, 1)?;
    put(old.clone())?;
    host.start_agent()?;
    host.said("tandem.log", "has renewed its certificate")?;
    wait("the new certificate is kept", || {
        let (now, key) = (
            std::fs::read_to_string(state.join("agent.crt"))?,
            std::fs::read_to_string(state.join("agent.key"))?,
        );
        Ok((now != old.0 && key != old.1).then_some(()))
    })?;
    host.agent = None;
    host.start_agent()?;
    host.applied()?;
    Ok(())
}

#[test]
fn garbage_is_logged_and_a_controller_with_another_authority_is_refused() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::attached()?;
    // Garbage on the agents' port, TLS that never comes, and a lot of it.
    let before = host.log("tandem.log").matches("refused").count();
    for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[0x16, 3, 1, 255, 255]] {
        let mut stream = host.ns.run(|| TcpStream::connect(AGENTS))??;
        stream.write_all(words)?;
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    wait("it is logged", || {
        Ok((host.log("tandem.log").matches("refused").count() >= before + 3).then_some(()))
    })?;
    host.applied()?;
    // A controller with another authority.
    host.controller = None;
    host.start_controller("other.sqlite")?;
    host.said("agent.log", "another authority than the one this host was enrolled with")?;
    host.said("tandem.log", "refused")?;
    ensure!(
        host.vsctl(&["list-ports", "edge1"])? == "p1\np2\np3" && host.classes("p2")?.len() == 3,
        "what was applied stays"
    );
    Ok(())
}
