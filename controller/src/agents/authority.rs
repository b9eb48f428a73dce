//! The controller's own certificate authority, and the registry of who was taken in.
//!
//! Everything is in one folder, made on the first start: the authority's key and certificate, and `registry.sqlite` with tokens (only
//! their hashes) and agents. Keys are readable by their owner only.

use anyhow::{Context, bail};
use rand::RngExt;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension, params};
use rusqlite_migration::{M, Migrations};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tandem_agent_protocol::CONTROLLER_NAME;
use time::{Duration, OffsetDateTime};

/// How long an agent's certificate is good; it is renewed when a third of that is left.
const AGENT_DAYS: i64 = 90;
/// How long the authority is good.
const AUTHORITY_DAYS: i64 = 3650;

const MIGRATIONS: &[M<'static>] = &[M::up(
    "CREATE TABLE token (hash TEXT PRIMARY KEY, name TEXT NOT NULL, expires INTEGER NOT NULL);
     CREATE TABLE agent (name TEXT PRIMARY KEY, serial TEXT NOT NULL, expires INTEGER NOT NULL,
                         enrolled INTEGER NOT NULL, revoked INTEGER NOT NULL);",
)];

/// An agent as the registry has it. Times are seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its name.
    pub name: String,
    /// Its latest certificate's serial number, hexadecimal.
    pub serial: String,
    /// When that expires.
    pub expires: i64,
    /// When it enrolled.
    pub enrolled: i64,
    /// No longer let in.
    pub revoked: bool,
}

/// Why somebody is not taken in.
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
    Stranger(String),
    /// Revoked.
    #[error("agent {0:?} was revoked; to let it in again, enrol it anew: tandem agent token {0}")]
    Revoked(String),
    /// The registry cannot be read or written.
    #[error("the registry of agents: {0}")]
    Registry(String),
}

/// See the module.
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
    /// Opens the folder, or makes it with a new authority.
    ///
    /// # Errors
    /// When it cannot be made or read, or is of a newer version.
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
            params.not_before = now() - Duration::hours(1);
            params.not_after = now() + Duration::days(AUTHORITY_DAYS);
            let certificate = params.self_signed(&key)?;
            // A key without its certificate is from a start that was interrupted; nobody has seen it.
            let _ = std::fs::remove_file(&key_file);
            write_private(&key_file, &key.serialize_pem())?;
            let beside = folder.join("authority.crt.new");
            std::fs::write(&beside, certificate.pem())?;
            std::fs::rename(&beside, &certificate_file)?;
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let certificate = read(&certificate_file)?;
        let key = KeyPair::from_pem(&read(&key_file)?)
            .with_context(|| format!("{} holds no private key", key_file.display()))?;
        let mut registry = Connection::open(folder.join("registry.sqlite"))?;
        registry.pragma_update(None, "journal_mode", "WAL")?;
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

    /// A certificate for the controller itself, by a key that lives as long as this process.
    ///
    /// # Errors
    /// When none can be made.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![CONTROLLER_NAME.to_owned()])?;
        params.distinguished_name = named(CONTROLLER_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = now() - Duration::hours(1);
        params.not_after = now() + Duration::days(AUTHORITY_DAYS);
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A secret that is good once, for an agent of that name.
    ///
    /// # Errors
    /// When the registry cannot be written.
    pub fn token(&self, name: &str, good_for: Duration) -> anyhow::Result<String> {
        if name.is_empty()
            || name.len() > 64
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            bail!("{name:?} cannot be an agent's name; write up to 64 letters, digits, '-', '_' or '.'");
        }
        let mut bytes = [0u8; 24];
        rand::rng().fill(&mut bytes);
        let secret = hex(&bytes);
        let expires = (now() + good_for).unix_timestamp();
        let registry = self.registry();
        registry.execute("DELETE FROM token WHERE expires < ?1", [now().unix_timestamp()])?;
        registry.execute("INSERT INTO token VALUES (?1, ?2, ?3)", params![hashed(&secret), name, expires])?;
        Ok(secret)
    }

    /// Takes an agent in: the token is used up, and its key gets a certificate.
    ///
    /// # Errors
    /// When the token is not good, or the request is not.
    pub fn enrol(&self, name: &str, secret: &str, request: &[u8]) -> Result<String, Refusal> {
        let fail = |e: rusqlite::Error| Refusal::Registry(e.to_string());
        let mut registry = self.registry();
        let transaction = registry.transaction().map_err(fail)?;
        let made_for: Option<String> = transaction
            .query_row(
                "SELECT name FROM token WHERE hash = ?1 AND expires >= ?2",
                params![hashed(secret), now().unix_timestamp()],
                |row| row.get(0),
            )
            .optional()
            .map_err(fail)?;
        let made_for = made_for.ok_or_else(|| Refusal::Token(name.to_owned()))?;
        if made_for != name {
            return Err(Refusal::Name(made_for));
        }
        let (certificate, serial, expires) = self.sign(name, request)?;
        transaction.execute("DELETE FROM token WHERE hash = ?1", [hashed(secret)]).map_err(fail)?;
        transaction
            .execute(
                "INSERT OR REPLACE INTO agent VALUES (?1, ?2, ?3, ?4, 0)",
                params![name, serial, expires, now().unix_timestamp()],
            )
            .map_err(fail)?;
        transaction.commit().map_err(fail)?;
        Ok(certificate)
    }

    /// Another certificate for an agent that has one.
    ///
    /// # Errors
    /// When it is not enrolled, was revoked, or the request is not good.
    pub fn renew(&self, name: &str, request: &[u8]) -> Result<String, Refusal> {
        let (certificate, serial, expires) = self.sign(name, request)?;
        let changed = self.registry().execute(
            "UPDATE agent SET serial = ?2, expires = ?3 WHERE name = ?1 AND revoked = 0",
            params![name, serial, expires],
        );
        match changed {
            Ok(0) => Err(Refusal::Revoked(name.to_owned())),
            Ok(_) => Ok(certificate),
            Err(e) => Err(Refusal::Registry(e.to_string())),
        }
    }

    /// Only the request's key is used: what the certificate says is for the controller to decide.
    fn sign(&self, name: &str, request: &[u8]) -> Result<(String, String, i64), Refusal> {
        let fail = |e: rcgen::Error| Refusal::Request(e.to_string());
        if request.len() > 64 << 10 {
            return Err(Refusal::Request("it is longer than 64 KiB".into()));
        }
        let mut csr = CertificateSigningRequestParams::from_der(&request.into()).map_err(fail)?;
        let mut serial = [0u8; 16];
        rand::rng().fill(&mut serial);
        // Positive, as RFC 5280 section 4.1.2.2 asks, and of full length.
        serial[0] = serial[0] & 0x7f | 0x40;
        let expires = now() + Duration::days(AGENT_DAYS);
        let mut params = CertificateParams::new(Vec::new()).map_err(fail)?;
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = now() - Duration::hours(1);
        params.not_after = expires;
        csr.params = params;
        let certificate = csr.signed_by(&self.issuer().map_err(fail)?).map_err(fail)?;
        Ok((certificate.pem(), hex(&serial), expires.unix_timestamp()))
    }

    /// Whether the holder of a certificate that this authority signed is (still) let in.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn admits(&self, name: &str) -> Result<(), Refusal> {
        let revoked: Option<bool> = self
            .registry()
            .query_row("SELECT revoked FROM agent WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .map_err(|e| Refusal::Registry(e.to_string()))?;
        match revoked {
            None => Err(Refusal::Stranger(name.to_owned())),
            Some(true) => Err(Refusal::Revoked(name.to_owned())),
            Some(false) => Ok(()),
        }
    }

    /// Lets an agent in no longer. False when there is none of that name.
    ///
    /// # Errors
    /// When the registry cannot be written.
    pub fn revoke(&self, name: &str) -> anyhow::Result<bool> {
        let registry = self.registry();
        registry.execute("DELETE FROM token WHERE name = ?1", [name])?;
        Ok(registry.execute("UPDATE agent SET revoked = 1 WHERE name = ?1", [name])? > 0)
    }

    /// All that were taken in, by name.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub fn enrolled(&self) -> anyhow::Result<Vec<Enrolled>> {
        let registry = self.registry();
        let mut query =
            registry.prepare("SELECT name, serial, expires, enrolled, revoked FROM agent ORDER BY name")?;
        let rows = query.query_map([], |row| {
            Ok(Enrolled {
                name: row.get(0)?,
                serial: row.get(1)?,
                expires: row.get(2)?,
                enrolled: row.get(3)?,
                revoked: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn hashed(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["i-am-somebody-else".to_owned()]).expect("parameters");
        params.serialize_request(&key).expect("a request").der().to_vec()
    }

    #[test]
    fn a_token_is_good_once_for_its_name_and_not_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(&folder.path().join("agents")).expect("an authority");
        let secret = authority.token("mini1", Duration::hours(1)).expect("a token");
        assert_eq!(authority.enrol("mini2", &secret, &request()), Err(Refusal::Name("mini1".into())));
        assert!(matches!(authority.enrol("mini1", &secret, b"garbage"), Err(Refusal::Request(_))));
        let certificate = authority.enrol("mini1", &secret, &request()).expect("it is good");
        assert!(certificate.contains("BEGIN CERTIFICATE"));
        assert_eq!(authority.enrol("mini1", &secret, &request()), Err(Refusal::Token("mini1".into())));
        let old = authority.token("mini1", Duration::seconds(-1)).expect("a token");
        assert_eq!(authority.enrol("mini1", &old, &request()), Err(Refusal::Token("mini1".into())));
        assert!(authority.token("no spaces", Duration::hours(1)).is_err());
    }

    #[test]
    fn who_was_revoked_is_out_until_enrolled_again_and_all_survives_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Authority::open(folder.path()).expect("an authority");
        let secret = first.token("mini1", Duration::hours(1)).expect("a token");
        first.enrol("mini1", &secret, &request()).expect("it is good");
        let authority_certificate = first.certificate().to_owned();
        drop(first);
        let again = Authority::open(folder.path()).expect("the same");
        assert_eq!(again.certificate(), authority_certificate);
        assert_eq!(again.admits("mini1"), Ok(()));
        assert_eq!(again.admits("mini9"), Err(Refusal::Stranger("mini9".into())));
        assert!(again.revoke("mini1").expect("room"));
        assert_eq!(again.admits("mini1"), Err(Refusal::Revoked("mini1".into())));
        assert_eq!(again.renew("mini1", &request()), Err(Refusal::Revoked("mini1".into())));
        let secret = again.token("mini1", Duration::hours(1)).expect("a token");
        again.enrol("mini1", &secret, &request()).expect("it is good");
        assert_eq!(again.admits("mini1"), Ok(()));
        let mode =
            std::fs::metadata(folder.path().join("authority.key")).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
