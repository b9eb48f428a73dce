//! Tokens for the API over TCP, which allow more than reading.
//!
//! A token is 256 random bits that are shown once; only their SHA-256 is stored, in a file next to
//! the store that belongs to that store alone. A revoked token is refused from the next request on.

use super::hex;
use super::opening::{beside, sync_folder};
use anyhow::Context;
use rand::RngExt;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tandem_api::tokens::Token;
use tandem_model::text;

/// The most tokens.
const MOST: usize = 1000;
/// The prefix of a token, so that a search finds one that was published by mistake.
const PREFIX: &str = "tandem_";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    token: Token,
    hash: String,
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is unknown, or was revoked.
    #[error(
        "the token is not known here, or was revoked; make another on the controller's machine: tandem token create NAME"
    )]
    Unknown,
    /// It has expired.
    #[error(
        "the token {0:?} has expired; make another on the controller's machine: tandem token create NAME"
    )]
    Expired(String),
}

/// Why a token is not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Its name is not valid.
    #[error("{0}")]
    Name(String),
    /// Its lifetime in seconds is not positive, or exceeds the range of time.
    #[error("a token is good for some time that can be counted; {0} seconds are none")]
    Lifetime(i64),
    /// There is a token with that name.
    #[error("there is a token {0:?}; revoke it first (tandem token revoke), or choose another name")]
    Taken(String),
    /// The most tokens exist.
    #[error("there are {MOST} tokens already; revoke some (tandem token list, tandem token revoke)")]
    Full,
    /// The file cannot be written.
    #[error(transparent)]
    NotWritten(anyhow::Error),
}

/// All tokens of a store.
#[derive(Debug, Clone)]
pub struct Tokens {
    path: PathBuf,
    list: Arc<Mutex<Vec<Kept>>>,
}

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

fn hash_of(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// Compares in constant time.
fn same(a: &str, b: &str) -> bool {
    let different = a.bytes().zip(b.bytes()).fold(0, |d, (x, y)| d | (x ^ y));
    a.len() == b.len() && different == 0
}

impl Tokens {
    /// Reads the tokens of the store at `store`.
    ///
    /// When the file exists and cannot be read.
    pub fn open(store: &Path) -> anyhow::Result<Tokens> {
        let path = beside(store, "-tokens");
        let list = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("the tokens in {} are damaged; remove the file to begin with none", path.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Tokens { path, list: Arc::new(Mutex::new(list)) })
    }

    fn list(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a token, and returns its secret.
    ///
    /// When the name is not valid or is taken, or the file cannot be written.
    pub fn create(&self, name: &str, read_only: bool, good_for: Option<i64>) -> Result<String, CreateError> {
        text::check_name(name).map_err(|why| CreateError::Name(why.to_string()))?;
        let made = now();
        let expires = match good_for {
            Some(seconds) => {
                let until = Some(seconds).filter(|s| *s > 0).and_then(|s| made.checked_add(s));
                Some(until.ok_or(CreateError::Lifetime(seconds))?)
            }
            None => None,
        };
        let mut list = self.list();
        let mut next: Vec<Kept> =
            list.iter().filter(|k| k.token.expires.is_none_or(|at| at > made)).cloned().collect();
        if next.iter().any(|k| k.token.name == name) {
            return Err(CreateError::Taken(name.to_owned()));
        }
        if next.len() >= MOST {
            return Err(CreateError::Full);
        }
        let secret = format!("{PREFIX}{}", hex(&rand::rng().random::<[u8; 32]>()));
        let token = Token { name: name.to_owned(), read_only, made, expires };
        next.push(Kept { token, hash: hash_of(&secret) });
        self.write(&next).map_err(CreateError::NotWritten)?;
        *list = next;
        Ok(secret)
    }

    /// All tokens.
    pub fn all(&self) -> Vec<Token> {
        self.list().iter().map(|k| k.token.clone()).collect()
    }

    /// Revokes a token; false when there is none of that name.
    ///
    /// When the file cannot be written; the token is still valid then.
    pub fn revoke(&self, name: &str) -> anyhow::Result<bool> {
        let mut list = self.list();
        let next: Vec<Kept> = list.iter().filter(|k| k.token.name != name).cloned().collect();
        if next.len() == list.len() {
            return Ok(false);
        }
        self.write(&next)?;
        *list = next;
        Ok(true)
    }

    /// The token of a secret.
    ///
    /// When there is none, or it has expired.
    pub fn check(&self, secret: &str) -> Result<Token, Refusal> {
        let hash = hash_of(secret);
        let list = self.list();
        // All are compared, so that the time does not tell which one matches.
        let found = list.iter().fold(None, |found, k| if same(&k.hash, &hash) { Some(k) } else { found });
        let token = found.map(|k| k.token.clone()).ok_or(Refusal::Unknown)?;
        match token.expires {
            Some(at) if at <= now() => Err(Refusal::Expired(token.name)),
            _ => Ok(token),
        }
    }

    /// Writes all tokens, or leaves the file unchanged.
    fn write(&self, list: &[Kept]) -> anyhow::Result<()> {
        let next = beside(&self.path, ".new");
        (|| {
            let _ = std::fs::remove_file(&next);
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
            file.write_all(&serde_json::to_vec_pretty(list)?)?;
            file.sync_all()?;
            std::fs::rename(&next, &self.path)?;
            sync_folder(&self.path)
        })()
        .with_context(|| {
            format!("the tokens cannot be written to {}; nothing was changed", self.path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_good_until_it_is_revoked_and_only_its_hash_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store.sqlite");
        let tokens = Tokens::open(&store).expect("none yet");
        let secret = tokens.create("grafana", true, None).expect("room");
        let kept = std::fs::read_to_string(folder.path().join("store.sqlite-tokens")).expect("a file");
        assert!(!kept.contains(&secret) && !kept.contains(&secret[7..]), "only its hash is kept");
        let mode =
            std::fs::metadata(folder.path().join("store.sqlite-tokens")).expect("it").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Tokens::open(&store).expect("one");
        assert!(again.check(&secret).expect("it is good").read_only);
        assert_eq!(again.check("tandem_00"), Err(Refusal::Unknown));
        assert!(again.create("grafana", false, None).is_err(), "the name is taken");
        assert!(again.revoke("grafana").expect("room") && !again.revoke("grafana").expect("room"));
        assert_eq!(again.check(&secret), Err(Refusal::Unknown), "at once");
    }

    #[test]
    fn times_and_names_that_are_none_are_refused_and_an_old_token_is_too_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::open(&folder.path().join("s")).expect("none yet");
        for seconds in [0, -1, i64::MIN, i64::MAX] {
            assert!(tokens.create("a", false, Some(seconds)).is_err(), "{seconds}");
        }
        assert!(tokens.create("a\nb", false, None).is_err() && tokens.create("", false, None).is_err());
        let secret = tokens.create("a", false, Some(60)).expect("room");
        tokens.list()[0].token.expires = Some(now() - 1);
        assert_eq!(tokens.check(&secret), Err(Refusal::Expired("a".into())));
        tokens.create("a", false, Some(60)).expect("the old one's name is free again");
    }
}
