//! The store's path, and the move from a former path.

use super::super::Sqlite;
use super::*;
use rusqlite::Connection;
use tandem_model::Site;

fn site() -> Site {
    let text = "name = \"here\"\n[topology]\nshape = \"three-tier\"\n";
    tandem_model::site::read(text, "site.toml").expect("a site")
}

fn around(folder: &Path) -> Surroundings {
    let cwd = folder.join("cwd");
    std::fs::create_dir_all(&cwd).expect("a folder");
    Surroundings {
        uid: rustix::process::geteuid().as_raw(),
        state_directory: Some(folder.join("state")),
        started_in: cwd,
        ..Surroundings::default()
    }
}

/// A former store with a row in its log that was not moved into the file, and agents.
fn former(at: &Path) {
    drop(Sqlite::open(at, &site()).expect("a store"));
    let db = Connection::open(at).expect("it");
    db.pragma_update(None, "journal_mode", "WAL").expect("a log");
    db.execute("INSERT INTO last_id VALUES ('vm', 41)", []).expect("room");
    let agents = at.with_file_name("agents");
    std::fs::create_dir(&agents).expect("a folder");
    std::fs::write(agents.join("authority.crt"), "certificate").expect("room");
    std::fs::write(agents.join("authority.key"), "key").expect("room");
}

fn last_vm(at: &Path) -> u64 {
    use super::super::Store;
    Sqlite::open(at, &site()).and_then(|mut s| s.load()).expect("a store").last_vm
}

#[test]
fn everybody_has_a_place_and_it_is_the_same_from_every_folder() {
    let user = Surroundings { uid: 1000, home: Some("/home/u".into()), ..Surroundings::default() };
    let folder = |s: &Surroundings| s.folder("dc1").expect("a place");
    assert_eq!(folder(&user), Path::new("/home/u/.local/state/tandem/dc1"));
    let xdg = Surroundings { xdg_state_home: Some("/s".into()), ..user.clone() };
    assert_eq!(folder(&xdg), Path::new("/s/tandem/dc1"));
    let relative = Surroundings { xdg_state_home: Some("s".into()), ..user.clone() };
    assert_eq!(
        folder(&relative),
        Path::new("/home/u/.local/state/tandem/dc1"),
        "the specification ignores it"
    );
    assert_eq!(folder(&Surroundings { uid: 0, ..user.clone() }), Path::new("/var/lib/tandem/dc1"));
    let unit = Surroundings { state_directory: Some("/var/lib/private/tandem".into()), ..user.clone() };
    assert_eq!(folder(&unit), Path::new("/var/lib/private/tandem/dc1"));
    assert!(Surroundings { uid: 1000, ..Surroundings::default() }.folder("dc1").is_err());
    for name in ["", ".", "..", "../etc", "a/b", ".hidden", "a\0b", "a\nb", &"n".repeat(64)] {
        assert!(user.folder(name).is_err(), "{name:?}");
    }
}

#[test]
fn folders_are_private_whatever_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    let around = around(folder.path());
    std::fs::create_dir_all(folder.path().join("state/here")).expect("a folder");
    let place = find("here", &around).expect("a place");
    let mode = |p: &Path| std::fs::metadata(p).expect("it").permissions().mode() & 0o777;
    let own = place.file.parent().expect("a folder");
    assert_eq!((mode(own), mode(&folder.path().join("state"))), (0o700, 0o700));
    std::fs::remove_dir(own).expect("empty");
    std::fs::write(own, "in the way").expect("room");
    let error = find("here", &around).expect_err("a file").to_string();
    assert!(error.contains("no folder"), "{error}");
}

#[test]
fn a_store_at_a_former_place_is_taken_over_with_its_log_and_its_agents() {
    let folder = tempfile::tempdir().expect("a folder");
    let around = around(folder.path());
    let old = around.started_in.join("tandem.sqlite");
    former(&old);
    let place = find("here", &around).expect("taken over");
    assert_eq!(place.taken_over.as_deref(), Some(old.as_path()));
    assert_eq!(last_vm(&place.file), 41, "with what was in its log");
    assert!(place.file.with_file_name("agents").join("authority.key").exists());
    assert!(!old.exists() && opening::beside(&old, ".taken-over").exists());
    let again = find("here", &around).expect("the same");
    assert_eq!((again.taken_over, again.left), (None, None));
}

#[test]
fn of_two_the_one_in_its_place_is_used_and_the_other_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let around = around(folder.path());
    let place = find("here", &around).expect("a place");
    drop(Sqlite::open(&place.file, &site()).expect("a store"));
    let old = around.started_in.join("tandem.sqlite");
    former(&old);
    let place = find("here", &around).expect("a place");
    assert_eq!(place.left.map(|(p, _)| p), Some(old.clone()));
    assert_eq!(last_vm(&place.file), 0);
    assert_eq!(last_vm(&old), 41, "it is as it was");
}

#[test]
fn a_take_over_that_fails_or_was_interrupted_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let around = around(folder.path());
    let old = around.started_in.join("tandem.sqlite");
    former(&old);
    // Killed meanwhile: half a copy under its temporary name.
    let scratch = folder.path().join("state/here.taking-over");
    std::fs::create_dir_all(&scratch).expect("a folder");
    std::fs::write(scratch.join("store.sqlite"), "half").expect("room");
    // A file in the new place that is not a store: nothing is mixed.
    let own = folder.path().join("state/here");
    std::fs::create_dir_all(own.join("agents")).expect("a folder");
    let error = format!("{:#}", find("here", &around).expect_err("it is in the way"));
    assert!(error.contains("as it was") && old.exists(), "{error}");
    assert_eq!(std::fs::read_dir(&own).expect("it").count(), 1);
    std::fs::remove_dir(own.join("agents")).expect("empty");
    let place = find("here", &around).expect("now it goes");
    assert_eq!(last_vm(&place.file), 41);
    assert!(!scratch.exists());
}

#[test]
fn what_others_could_have_put_there_is_not_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let around = around(folder.path());
    let old = around.started_in.join("tandem.sqlite");
    former(&old);
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o666)).expect("ours");
    let why = |around: &Surroundings| find("here", around).expect("a place").left.expect("left").1;
    assert!(why(&around).contains("others may write"));
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let other = Surroundings { uid: around.uid + 1, ..around.clone() };
    assert!(why(&other).contains("user"));
    let elsewhere = find("there", &around).expect("a place").left.expect("another site's").1;
    assert!(elsewhere.contains("\"here\""), "{elsewhere}");
    let moved = around.started_in.join("moved");
    std::fs::rename(&old, &moved).expect("ours");
    std::os::unix::fs::symlink(&moved, &old).expect("a link");
    assert!(why(&around).contains("no ordinary file"));
}

#[test]
fn an_agents_authority_belongs_to_one_site() {
    let folder = tempfile::tempdir().expect("a folder");
    claim_agents(folder.path(), "here").expect("nobody's yet");
    claim_agents(folder.path(), "here").expect("the same");
    let error = claim_agents(folder.path(), "there").expect_err("another's").to_string();
    assert!(error.contains("of site here") && error.contains("--authority"), "{error}");
}
