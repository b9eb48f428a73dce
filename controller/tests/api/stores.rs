//! Stores that cannot be used, as whoever starts a controller sees them.

use crate::server::{SITE, Server, program};
use std::path::Path;

/// What `tandem serve` says instead of starting.
fn refused(folder: &Path, site: &str, store: Option<&Path>) -> String {
    std::fs::write(folder.join("other.toml"), site).expect("room");
    let at = |name: &str| format!("unix:{}", folder.join(name).display());
    let mut command = program();
    command
        .args([
            "--api",
            &at("2.sock"),
            "serve",
            "--openflow",
            &at("of2.sock"),
            "--agents",
            &at("agents2.sock"),
        ])
        .arg("--site")
        .arg(folder.join("other.toml"))
        .env("STATE_DIRECTORY", folder.join("state"))
        .current_dir(folder);
    if let Some(store) = store {
        command.arg("--store").arg(store);
    }
    let output = command.output().expect("the program");
    assert!(!output.status.success(), "it started and stopped");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_store_that_another_controller_has_is_named_with_its_process() {
    let server = Server::start();
    let text = refused(server.folder.path(), SITE, Some(&server.at("store.sqlite")));
    assert!(text.contains(&format!("process {} (tandem)", server.pid())), "{text}");
    assert!(!text.contains("damaged"), "{text}");
    assert!(server.log().contains("the store is "), "its place is printed: {}", server.log());
}

#[test]
fn another_sites_store_and_authority_are_refused_by_name() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let copied = folder.path().join("store.sqlite");
    let store = server.at("store.sqlite");
    drop_and_copy(server, &store, &copied);
    let text = refused(folder.path(), &SITE.replace("api-test", "elsewhere"), Some(&copied));
    for word in ["\"api-test\"", "\"elsewhere\"", "--store"] {
        assert!(text.contains(word), "{text}");
    }
}

/// Ends a controller before its store is copied.
fn drop_and_copy(server: Server, from: &Path, to: &Path) {
    // Its log is part of it until the next start: an ordered end writes it back.
    let pid = server.pid().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
    let start = std::time::Instant::now();
    while std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
        && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
    {
        assert!(start.elapsed() < crate::server::LIMIT, "it does not end");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::fs::copy(from, to).expect("room");
    drop(server);
}

#[test]
fn an_empty_file_where_the_sites_store_should_be_is_damage_and_not_a_new_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("state/api-test");
    std::fs::create_dir_all(&place).expect("a folder");
    std::fs::write(place.join("store.sqlite"), b"").expect("room");
    let text = refused(folder.path(), SITE, None);
    assert!(text.contains("0 bytes") && text.contains("damaged") && !text.contains("another"), "{text}");
    let left = std::fs::metadata(place.join("store.sqlite")).expect("it").len();
    assert_eq!(left, 0, "nothing was made in its place");
}
