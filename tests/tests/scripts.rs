//! What the scripts say while they work, and what they do with words that they do not know.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What scripts/install installs.
const PROGRAMS: &[&str] = &["tandem", "tandem-agent", "tandem-fpga", "tandem-lab"];

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts")
}

/// Runs a script of the repository; a line about progress comes after a second of silence.
fn script(name: &str, arguments: &[&str]) -> Output {
    Command::new(scripts().join(name))
        .args(arguments)
        .env("TANDEM_PROGRESS_EVERY", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the script starts")
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A build that is silent but for cargo's own progress: how far it is comes out, once in a while,
/// and so does what is no progress.
#[test]
fn a_build_says_how_far_it_is() {
    let cargo = r#"printf '   Compiling syn v2\n    Building [=>   ] 3/7: syn\r    Building [==>  ] 4/7: tokio, serde\r'
        echo 'warning: look here'; sleep 2; exit 3"#;
    let output = script("progress", &["building", "sh", "-c", cargo]);
    assert_eq!(output.status.code(), Some(3), "the command's own status");
    let lines = printed(&output);
    assert!(lines.contains(", 4/7: tokio, serde\n"), "{lines}");
    assert!(lines.contains("warning: look here\n"), "{lines}");
    assert!(!lines.contains("Compiling"), "{lines}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("building: failed after"));
}

#[test]
fn a_silent_command_is_not_silent() {
    let output = script("progress", &["waiting", "sh", "-c", "sleep 2; echo over"]);
    assert!(output.status.success());
    let lines = printed(&output);
    assert!(lines.starts_with("waiting: 0:0"), "{lines}");
    assert!(lines.contains("over\nwaiting: done in 0:0"), "{lines}");
}

/// A line that is written in two parts, a second apart, comes out whole.
#[test]
fn a_line_in_parts_stays_a_line() {
    let output = script("progress", &["slow", "sh", "-c", "printf one; sleep 2; echo ' two'"]);
    assert!(printed(&output).contains("one two\n"), "{}", printed(&output));
}

/// The programs, made by a cargo that is none, are put where the PATH does not find them yet.
#[test]
fn programs_are_put_where_they_are_said_to_be() {
    if !Path::new("/usr/bin/dpkg-query").exists() {
        assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: dpkg");
        eprintln!("skipped: missing dpkg");
        return;
    }
    let home = tempfile::Builder::new().prefix("tandem-install-").tempdir().expect("a folder");
    let (cargo, built) = (home.path().join("cargo"), home.path().join("target/quick"));
    std::fs::create_dir_all(&built).expect("a folder");
    std::fs::write(&cargo, "#!/bin/sh\necho \"$*\" > \"$HOME/asked\"\n").expect("a file");
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    for name in PROGRAMS {
        std::fs::write(built.join(name), name).expect("a file");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(scripts().join("install"))
        .args(["--quick", "--prefix"])
        .arg(home.path().join("local"))
        .env("HOME", home.path())
        .env("CARGO_TARGET_DIR", home.path().join("target"))
        .env("PATH", format!("{}:{path}", home.path().display()))
        .stdin(Stdio::null())
        .output()
        .expect("the script starts");
    let said = printed(&output);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("that folder is not on your PATH"), "{said}");
    for name in PROGRAMS {
        let installed = home.path().join("local/bin").join(name);
        let mode = installed.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{name}");
    }
    let asked = std::fs::read_to_string(home.path().join("asked")).expect("cargo was called");
    assert!(asked.starts_with("build --profile quick "), "{asked}");
}

#[test]
fn programs_are_taken_away_again_and_nothing_else_is() {
    let prefix = tempfile::Builder::new().prefix("tandem-install-").tempdir().expect("a folder");
    let bin = prefix.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    for name in PROGRAMS.iter().chain(&["other"]) {
        std::fs::write(bin.join(name), "").expect("a file");
    }
    let folder = prefix.path().display().to_string();
    let output = script("install", &["--prefix", &folder, "--uninstall"]);
    assert!(output.status.success());
    let left: Vec<_> =
        std::fs::read_dir(&bin).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["other"]);
}

#[test]
fn a_word_that_a_script_does_not_know_is_answered_with_its_usage() {
    for (name, word) in [("install", "--frobnicate"), ("prerequisites", "everything"), ("progress", "alone")]
    {
        let output = script(name, &[word]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("scripts/{name} ")), "{said}");
    }
}
