//! The admission of agents by their certificates, across restarts, kills and folders of earlier
//! releases.

use super::super::shown::identity;
use super::*;
use std::path::PathBuf;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

fn request() -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["i-am-somebody-else".to_owned()]).expect("parameters");
    params.serialize_request(&key).expect("a request").der().to_vec()
}

/// The serial number in a certificate, as a server reads it.
fn serial(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    identity(&der).expect("one of ours").serial
}

struct Place {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(&folder.path().join("agents")).expect("an authority");
        Place { folder, authority }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agents")
    }

    fn restart(self) -> Place {
        let Place { folder, authority } = self;
        drop(authority);
        let authority = Authority::open(&folder.path().join("agents")).expect("the same");
        Place { folder, authority }
    }

    fn enrol(&self, name: &str) -> String {
        let secret = self.authority.token(name, Duration::hours(1), None).expect("a token");
        serial(&self.authority.enrol(name, &secret, &request()).expect("it is good"))
    }

    fn renew(&self, name: &str, shown: &str) -> Result<String, Refusal> {
        self.authority.renew(name, shown, &request()).map(|pem| serial(&pem))
    }
}

#[test]
fn a_token_is_good_once_for_its_name_and_not_for_ever() {
    let place = Place::new();
    let authority = &place.authority;
    let secret = authority.token("mini1", Duration::hours(1), None).expect("a token");
    assert_eq!(authority.enrol("mini2", &secret, &request()), Err(Refusal::Name("mini1".into())));
    assert!(matches!(authority.enrol("mini1", &secret, b"garbage"), Err(Refusal::Request(_))));
    let certificate = authority.enrol("mini1", &secret, &request()).expect("it is good");
    assert!(certificate.contains("BEGIN CERTIFICATE"));
    assert_eq!(authority.enrol("mini1", &secret, &request()), Err(Refusal::Token("mini1".into())));
    let old = authority.token("mini1", Duration::seconds(-1), None).expect("a token");
    assert_eq!(authority.enrol("mini1", &old, &request()), Err(Refusal::Token("mini1".into())));
    assert!(authority.token("no spaces", Duration::hours(1), None).is_err());
    assert!(authority.token("mini1", Duration::MAX, None).is_err(), "no panic either");
}

#[test]
fn a_revoked_name_that_is_enrolled_again_does_not_make_the_old_certificate_good() {
    let place = Place::new();
    let first = place.enrol("mini1");
    let certificate = place.authority.certificate().to_owned();
    let place = place.restart();
    assert_eq!(place.authority.certificate(), certificate);
    assert_eq!(place.authority.admits("mini1", &first), Ok(()));
    assert_eq!(place.authority.admits("mini9", &first), Err(Refusal::Unknown("mini9".into())));
    assert!(place.authority.revoke("mini1").expect("room"));
    assert_eq!(place.authority.admits("mini1", &first), Err(Refusal::Revoked("mini1".into())));
    assert_eq!(place.renew("mini1", &first), Err(Refusal::Revoked("mini1".into())));
    let second = place.enrol("mini1");
    let place = place.restart();
    assert_eq!(place.authority.admits("mini1", &second), Ok(()));
    assert_eq!(place.authority.admits("mini1", &first), Err(Refusal::Replaced("mini1".into())));
    assert_eq!(place.renew("mini1", &first), Err(Refusal::Replaced("mini1".into())));
    assert_eq!(place.authority.admits("mini1", ""), Err(Refusal::Replaced("mini1".into())));
    // Enrolled again without having been revoked: a machine that was replaced.
    let third = place.enrol("mini1");
    assert_eq!(place.authority.admits("mini1", &second), Err(Refusal::Replaced("mini1".into())));
    assert_eq!(place.authority.admits("mini1", &third), Ok(()));
    let mode = std::fs::metadata(place.path().join("authority.key")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_renewal_voids_the_one_before_when_the_new_one_is_shown() {
    let place = Place::new();
    let first = place.enrol("mini1");
    // The reply is lost: it renews again with its present certificate.
    let lost = place.renew("mini1", &first).expect("it shows the current one");
    let second = place.renew("mini1", &first).expect("it still does");
    assert_eq!(place.authority.admits("mini1", &lost), Err(Refusal::Replaced("mini1".into())));
    assert_eq!(place.authority.admits("mini1", &first), Ok(()), "until the new one is shown");
    let place = place.restart();
    assert_eq!(place.authority.admits("mini1", &second), Ok(()));
    assert_eq!(place.authority.admits("mini1", &first), Err(Refusal::Replaced("mini1".into())));
    assert_eq!(place.renew("mini1", &first), Err(Refusal::Replaced("mini1".into())));
    // Never presented: the one before is valid for a day.
    let third = place.renew("mini1", &second).expect("it shows the current one");
    place
        .authority
        .registry()
        .execute("UPDATE agent SET renewed_until = ?1", [now().unix_timestamp() - 1])
        .expect("a day has passed");
    assert_eq!(place.authority.admits("mini1", &second), Err(Refusal::Replaced("mini1".into())));
    assert_eq!(place.authority.admits("mini1", &third), Ok(()));
    // Revoked between a renewal and its first use: none is valid.
    let fourth = place.renew("mini1", &third).expect("it shows the current one");
    place.authority.revoke("mini1").expect("room");
    for shown in [&first, &second, &third, &fourth] {
        assert_eq!(place.authority.admits("mini1", shown), Err(Refusal::Revoked("mini1".into())));
    }
}

#[test]
fn a_switch_has_one_agent() {
    let place = Place::new();
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<String>>();
    let edge1 = list(&["edge1"]);
    let secret = place.authority.token("mini1", Duration::hours(1), Some(&edge1)).expect("a token");
    let late = place.authority.token("mini2", Duration::hours(1), Some(&edge1)).expect("not enrolled yet");
    place.authority.enrol("mini1", &secret, &request()).expect("it is good");
    let taken = Refusal::Taken { switch: "edge1".into(), agent: "mini1".into() };
    assert_eq!(place.authority.enrol("mini2", &late, &request()), Err(taken.clone()));
    let error = place.authority.token("mini3", Duration::hours(1), Some(&edge1)).expect_err("it is mini1's");
    assert_eq!(error.to_string(), taken.to_string());
    place.enrol("mini4");
    assert!(place.authority.allow("mini4", &edge1).is_err());
    assert_eq!(place.authority.switches("mini4"), Ok(None), "nobody has said");
    // Enrolled again without switches: it keeps them. After they are removed, another agent may
    // have them.
    place.enrol("mini1");
    assert_eq!(place.authority.switches("mini1"), Ok(Some(edge1.clone())));
    assert!(place.authority.allow("mini1", &list(&["edge2"])).expect("room"));
    assert!(place.authority.allow("mini4", &edge1).expect("it is free"));
    assert!(!place.authority.allow("nobody", &[]).expect("room"));
}

/// A folder of the release before: certificates are valid by their latest serial, switches are not
/// set.
#[test]
fn a_folder_of_an_earlier_release_is_taken_over() {
    let place = Place::new();
    let first = place.enrol("mini1");
    let path = place.path().join("registry.sqlite");
    drop(place.authority);
    {
        let old = Connection::open(&path).expect("the registry");
        old.execute_batch(
            "ALTER TABLE token DROP COLUMN switches; ALTER TABLE agent DROP COLUMN renewed;
             ALTER TABLE agent DROP COLUMN renewed_until; ALTER TABLE agent DROP COLUMN switches; PRAGMA user_version = 1;",
        )
        .expect("as it was");
    }
    let authority = Authority::open(&place.folder.path().join("agents")).expect("taken over");
    assert_eq!(authority.admits("mini1", &first), Ok(()));
    assert_eq!(authority.enrolled().expect("a list")[0].switches, None);
}

/// The controller's clock was a day ahead when a certificate was made, or either side's is set back
/// by a day: it is valid nevertheless.
#[test]
fn a_certificate_outlives_a_clock_that_is_set_back_by_a_day() {
    let place = Place::new();
    let secret = place.authority.token("mini1", Duration::hours(1), None).expect("a token");
    let pem = place.authority.enrol("mini1", &secret, &request()).expect("it is good");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("it is read");
    let from = certificate.validity().not_before.timestamp();
    assert!(from < (now() - Duration::days(6)).unix_timestamp(), "{from}");
    let (_, authority) =
        x509_parser::pem::parse_x509_pem(place.authority.certificate().as_bytes()).expect("PEM");
    let from = authority.parse_x509().expect("it is read").validity().not_before.timestamp();
    assert!(from < (now() - Duration::days(6)).unix_timestamp(), "{from}");
}
