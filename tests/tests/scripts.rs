//! What the scripts say while they work, and what they do with words that they do not know.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs a script of the repository; a line about progress comes after a second of silence.
fn script(name: &str, arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(root.join("scripts").join(name))
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

#[test]
fn programs_are_taken_away_again_and_nothing_else_is() {
    let prefix = tempfile::Builder::new().prefix("tandem-install-").tempdir().expect("a folder");
    let bin = prefix.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    for name in ["tandem", "tandem-agent", "tandem-fpga", "tandem-lab", "other"] {
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
