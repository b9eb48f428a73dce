//! The controller's own certificate authority, and the registry of enrolled agents.
//!
//! Everything is in one folder, created on the first start: the authority's key and certificate,
//! and `registry.sqlite` with tokens (only their hashes) and agents. Keys are readable by their
//! owner only.

use super::bounds;
use anyhow::Context;
use rand::RngExt;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension, params};
use rusqlite_migration::{M, Migrations};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tandem_agent_protocol::CONTROLLER_NAME;
use tandem_api::agents::Enrolled;
use tandem_model::text;
use time::{Duration, OffsetDateTime};

/// How long an agent's certificate is valid; it is renewed when a third of that is left.
const AGENT_DAYS: i64 = 90;
/// How long the authority's certificate is valid.
const AUTHORITY_DAYS: i64 = 3650;
/// Certificates are valid from this long before they are made, so that either side's clock may be
/// set back by less without a refusal.
const BACKDATED_DAYS: i64 = 7;
/// How long the certificate before a renewal stays valid if the new one is not presented: an agent
/// whose reply was lost renews again within an hour.
const RENEWAL: Duration = Duration::hours(24);
/// The most switches of one agent.
const SWITCHES: usize = 1024;

/// Agents are admitted by serial number, never by name: a name is reused, a certificate is not.
const MIGRATIONS: &[M<'static>] = &[
    M::up(
        "CREATE TABLE token (hash TEXT PRIMARY KEY, name TEXT NOT NULL, expires INTEGER NOT NULL);
         CREATE TABLE agent (name TEXT PRIMARY KEY, serial TEXT NOT NULL, expires INTEGER NOT NULL,
                             enrolled INTEGER NOT NULL, revoked INTEGER NOT NULL);",
    ),
    // `renewed`: the serial of a renewal that was not presented yet, and until when the one before
    // it is valid. `switches`: a JSON list of names; NULL if none were set.
    M::up(
        "ALTER TABLE token ADD COLUMN switches TEXT;
         ALTER TABLE agent ADD COLUMN renewed TEXT;
         ALTER TABLE agent ADD COLUMN renewed_until INTEGER;
         ALTER TABLE agent ADD COLUMN switches TEXT;",
    ),
];

/// Why an agent is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token is unknown, used, or too old.
    #[error(
        "the token is not known here, was used already, or has expired; make another: tandem agent token {0}"
    )]
    Token(String),
    /// The token was made for another name.
    #[error("the token was made for agent {0:?}; set name = {0:?} in agent.toml, or make one for this agent")]
    Name(String),
    /// The certificate request cannot be read.
    #[error("the certificate request cannot be used: {0}")]
    Request(String),
    /// Not enrolled here.
    #[error("agent {0:?} is not enrolled here; enrol it: tandem agent token {0}")]
    Unknown(String),
    /// The agent was revoked.
    #[error("agent {0:?} was revoked; to let it in again, enrol it anew: tandem agent token {0}")]
    Revoked(String),
    /// The certificate was replaced by a newer one.
    #[error(
        "the certificate is not the current one of agent {0:?}: it was renewed or enrolled anew since; if that was not you, revoke it \
         (tandem agent revoke {0}), otherwise enrol this host again: tandem agent token {0}"
    )]
    Replaced(String),
    /// Another agent has the switch.
    #[error(
        "switch {switch:?} is agent {agent:?}'s; take it from that one first: tandem agent allow {agent} --switch ... without it, or tandem agent revoke {agent}"
    )]
    Taken {
        /// The switch.
        switch: String,
        /// The other agent.
        agent: String,
    },
    /// The name is not valid for an agent.
    #[error("{0} cannot be an agent's name; write up to 64 letters, digits, '-', '_' or '.'")]
    BadName(String),
    /// More switches than an agent may have.
    #[error("{0} switches; an agent has at most {SWITCHES}")]
    TooManySwitches(usize),
    /// The lifetime of a token exceeds the range of time.
    #[error("that is too many minutes")]
    TooLong,
    /// The registry cannot be read or written.
    #[error("the registry of agents: {0}")]
    Registry(String),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Refusal {
        Refusal::Registry(error.to_string())
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Refusal {
        Refusal::Registry(error.to_string())
    }
}

/// The authority with its registry.
pub struct Authority {
    certificate: String,
    key: KeyPair,
    registry: Mutex<Connection>,
}

/// A certificate and its key, PEM.
pub struct Identity {
    /// Certificate.
    pub certificate: String,
    /// Private key.
    pub key: String,
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}

fn named(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

impl Authority {
    /// Opens the folder, or creates it with a new authority.
    ///
    /// When it cannot be created or read, or is of a newer version.
    pub fn open(folder: &Path) -> anyhow::Result<Authority> {
        let (key_file, certificate_file) = (folder.join("authority.key"), folder.join("authority.crt"));
        if !certificate_file.exists() {
            match std::fs::create_dir(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("cannot make {}", folder.display()));
                }
                _ => {}
            }
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name = named("Tandem agents' authority");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.not_before = now() - Duration::days(BACKDATED_DAYS);
            params.not_after = now() + Duration::days(AUTHORITY_DAYS);
            let certificate = params.self_signed(&key)?;
            // A key without its certificate is left over from a start that was interrupted; it was
            // never used.
            let _ = std::fs::remove_file(&key_file);
            write_private(&key_file, &key.serialize_pem())?;
            let beside = folder.join("authority.crt.new");
            let _ = std::fs::remove_file(&beside);
            write_private(&beside, &certificate.pem())?;
            std::fs::rename(&beside, &certificate_file)?;
            // Otherwise a machine that loses its power could come back with a registry and without
            // its authority.
            std::fs::File::open(folder)?.sync_all()?;
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let certificate = read(&certificate_file)?;
        let key = KeyPair::from_pem(&read(&key_file)?)
            .with_context(|| format!("{} holds no private key", key_file.display()))?;
        let mut registry = Connection::open(folder.join("registry.sqlite"))?;
        registry.pragma_update(None, "journal_mode", "WAL")?;
        // Every reply is on disk before it is sent: a power failure must not undo a revocation.
        registry.pragma_update(None, "synchronous", "FULL")?;
        Migrations::from_slice(MIGRATIONS)
            .to_latest(&mut registry)
            .with_context(|| format!("the registry in {} is of a newer version", folder.display()))?;
        Ok(Authority { certificate, key, registry: Mutex::new(registry) })
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    fn registry(&self) -> MutexGuard<'_, Connection> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_pem(&self.certificate, &self.key)
    }

    /// A certificate for the controller itself, with a key that lives as long as this process.
    ///
    /// When none can be created.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![CONTROLLER_NAME.to_owned()])?;
        params.distinguished_name = named(CONTROLLER_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = now() - Duration::days(BACKDATED_DAYS);
        params.not_after = now() + Duration::days(AUTHORITY_DAYS);
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Creates a secret that is valid once, for an agent of that name. `switches` are those that it
    /// may speak for; `None` leaves them unchanged.
    ///
    /// When the name is not valid, another agent has a switch, or the registry cannot be written.
    pub fn token(
        &self,
        name: &str,
        good_for: Duration,
        switches: Option<&[String]>,
    ) -> Result<String, Refusal> {
        if !bounds::is_name(name) {
            return Err(Refusal::BadName(text::escaped(name).to_string()));
        }
        let mut bytes = [0u8; 24];
        rand::rng().fill(&mut bytes);
        let secret = hex(&bytes);
        let expires = now().checked_add(good_for).ok_or(Refusal::TooLong)?.unix_timestamp();
        let registry = self.registry();
        if let Some(switches) = switches {
            check_switches(&registry, name, switches)?;
        }
        let switches = switches.map(serde_json::to_string).transpose()?;
        registry.execute("DELETE FROM token WHERE expires < ?1", [now().unix_timestamp()])?;
        registry.execute(
            "INSERT INTO token VALUES (?1, ?2, ?3, ?4)",
            params![hashed(&secret), name, expires, switches],
        )?;
        Ok(secret)
    }

    /// Sets the switches that an agent may speak for. False when there is none of that name.
    ///
    /// When another agent has a switch, or the registry cannot be written.
    pub fn allow(&self, name: &str, switches: &[String]) -> Result<bool, Refusal> {
        let registry = self.registry();
        check_switches(&registry, name, switches)?;
        let list = serde_json::to_string(switches)?;
        let changed =
            registry.execute("UPDATE agent SET switches = ?2 WHERE name = ?1", params![name, list])?;
        Ok(changed > 0)
    }

    /// The switches that an agent may speak for; `None` if they were never set.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub fn switches(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let text: Option<Option<String>> = self
            .registry()
            .query_row("SELECT switches FROM agent WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .map_err(|e| Refusal::Registry(e.to_string()))?;
        let parse = |t: String| serde_json::from_str(&t).map_err(|e| Refusal::Registry(e.to_string()));
        text.flatten().map(parse).transpose()
    }

    /// Enrols an agent: the token is used up, and its key gets a certificate. All earlier
    /// certificates of the name become invalid.
    ///
    /// When the token or the request is not valid.
    pub fn enrol(&self, name: &str, secret: &str, request: &[u8]) -> Result<String, Refusal> {
        let fail = |e: rusqlite::Error| Refusal::Registry(e.to_string());
        let mut registry = self.registry();
        let transaction = registry.transaction().map_err(fail)?;
        let made_for: Option<(String, Option<String>)> = transaction
            .query_row(
                "SELECT name, switches FROM token WHERE hash = ?1 AND expires >= ?2",
                params![hashed(secret), now().unix_timestamp()],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(fail)?;
        let (made_for, switches) = made_for.ok_or_else(|| Refusal::Token(name.to_owned()))?;
        if made_for != name {
            return Err(Refusal::Name(made_for));
        }
        if let Some(list) = &switches {
            let list: Vec<String> =
                serde_json::from_str(list).map_err(|e| Refusal::Registry(e.to_string()))?;
            // Another agent may have got it since the token was created.
            check_switches(&transaction, name, &list)?;
        }
        let (certificate, serial, expires) = self.sign(name, request)?;
        transaction.execute("DELETE FROM token WHERE hash = ?1", [hashed(secret)]).map_err(fail)?;
        transaction
            .execute(
                "INSERT INTO agent (name, serial, expires, enrolled, revoked, switches) VALUES (?1, ?2, ?3, ?4, 0, ?5)
                 ON CONFLICT (name) DO UPDATE SET serial = ?2, expires = ?3, enrolled = ?4, revoked = 0, renewed = NULL,
                     renewed_until = NULL, switches = coalesce(?5, switches)",
                params![name, serial, expires, now().unix_timestamp(), switches],
            )
            .map_err(fail)?;
        transaction.commit().map_err(fail)?;
        Ok(certificate)
    }

    /// Renews the certificate of an agent; `serial` is that of its current one. The current one
    /// stays valid until the new one is presented, for a day at most, so that a lost reply locks no
    /// agent out.
    ///
    /// When it is not enrolled, was revoked, presents another certificate than the current one, or
    /// the request is not valid.
    pub fn renew(&self, name: &str, serial: &str, request: &[u8]) -> Result<String, Refusal> {
        let fail = |e: rusqlite::Error| Refusal::Registry(e.to_string());
        let mut registry = self.registry();
        let transaction = registry.transaction().map_err(fail)?;
        // A renewed one that is presented for the first time becomes the current one.
        admit(&transaction, name, serial)?;
        let (certificate, new, expires) = self.sign(name, request)?;
        let until = (now() + RENEWAL).unix_timestamp();
        let changed = transaction
            .execute(
                "UPDATE agent SET renewed = ?3, renewed_until = ?4, expires = ?5 WHERE name = ?1 AND serial = ?2",
                params![name, serial, new, until, expires],
            )
            .map_err(fail)?;
        if changed == 0 {
            return Err(Refusal::Replaced(name.to_owned()));
        }
        transaction.commit().map_err(fail)?;
        Ok(certificate)
    }

    /// Signs the request's key only: the controller decides the other contents of the certificate.
    fn sign(&self, name: &str, request: &[u8]) -> Result<(String, String, i64), Refusal> {
        let fail = |e: rcgen::Error| Refusal::Request(e.to_string());
        bounds::check_request(request).map_err(|e| Refusal::Request(e.to_string()))?;
        let mut csr = CertificateSigningRequestParams::from_der(&request.into()).map_err(fail)?;
        let mut serial = [0u8; 16];
        rand::rng().fill(&mut serial);
        // Positive, as RFC 5280 section 4.1.2.2 demands, and of full length.
        serial[0] = serial[0] & 0x7f | 0x40;
        let expires = now() + Duration::days(AGENT_DAYS);
        let mut params = CertificateParams::new(Vec::new()).map_err(fail)?;
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = now() - Duration::days(BACKDATED_DAYS);
        params.not_after = expires;
        csr.params = params;
        let certificate = csr.signed_by(&self.issuer().map_err(fail)?).map_err(fail)?;
        Ok((certificate.pem(), hex(&serial), expires.unix_timestamp()))
    }

    /// Checks whether the holder of a certificate of this authority is (still) admitted, by its
    /// serial number. A renewed one that is presented for the first time invalidates the one before
    /// it.
    ///
    /// With the reason for the refusal.
    pub fn admits(&self, name: &str, serial: &str) -> Result<(), Refusal> {
        admit(&self.registry(), name, serial)
    }

    /// Revokes an agent. False when there is none of that name.
    ///
    /// # Errors
    /// When the registry cannot be written.
    pub fn revoke(&self, name: &str) -> Result<bool, Refusal> {
        let registry = self.registry();
        registry.execute("DELETE FROM token WHERE name = ?1", [name])?;
        let revoke =
            "UPDATE agent SET revoked = 1, serial = '', renewed = NULL, renewed_until = NULL WHERE name = ?1";
        Ok(registry.execute(revoke, [name])? > 0)
    }

    /// All enrolled agents, by name.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub fn enrolled(&self) -> Result<Vec<Enrolled>, Refusal> {
        let registry = self.registry();
        let mut query = registry
            .prepare("SELECT name, serial, expires, enrolled, revoked, switches FROM agent ORDER BY name")?;
        let rows = query.query_map([], |row| {
            Ok(Enrolled {
                name: row.get(0)?,
                serial: row.get(1)?,
                expires: row.get(2)?,
                enrolled: row.get(3)?,
                revoked: row.get(4)?,
                switches: row.get::<_, Option<String>>(5)?.and_then(|t| serde_json::from_str(&t).ok()),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// See [`Authority::admits`].
fn admit(registry: &Connection, name: &str, shown: &str) -> Result<(), Refusal> {
    let fail = |e: rusqlite::Error| Refusal::Registry(e.to_string());
    let row: Option<(bool, String, Option<String>, Option<i64>)> = registry
        .query_row(
            "SELECT revoked, serial, renewed, renewed_until FROM agent WHERE name = ?1",
            [name],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()
        .map_err(fail)?;
    let (revoked, current, renewed, until) = row.ok_or_else(|| Refusal::Unknown(name.to_owned()))?;
    if revoked {
        return Err(Refusal::Revoked(name.to_owned()));
    }
    if renewed.as_deref() == Some(shown) {
        let shown_first =
            "UPDATE agent SET serial = ?2, renewed = NULL, renewed_until = NULL WHERE name = ?1";
        return registry.execute(shown_first, params![name, shown]).map(drop).map_err(fail);
    }
    let is_over = renewed.is_some() && until.is_none_or(|t| t < now().unix_timestamp());
    if current == shown && !shown.is_empty() && !is_over {
        return Ok(());
    }
    Err(Refusal::Replaced(name.to_owned()))
}

/// Refuses switches that another agent has, and invalid names.
fn check_switches(registry: &Connection, name: &str, switches: &[String]) -> Result<(), Refusal> {
    let fail = |e: rusqlite::Error| Refusal::Registry(e.to_string());
    if switches.len() > SWITCHES {
        return Err(Refusal::TooManySwitches(switches.len()));
    }
    let mut query = registry
        .prepare("SELECT name, switches FROM agent WHERE revoked = 0 AND name <> ?1 AND switches IS NOT NULL")
        .map_err(fail)?;
    let rows = query
        .query_map([name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .map_err(fail)?;
    for row in rows {
        let (agent, list) = row.map_err(fail)?;
        let list: Vec<String> = serde_json::from_str(&list).unwrap_or_default();
        if let Some(switch) = switches.iter().find(|s| list.contains(s)) {
            return Err(Refusal::Taken { switch: switch.clone(), agent });
        }
    }
    Ok(())
}

fn hashed(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
