//! `tandem init`, and what `tandem serve` offers where there is no site file.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const TANDEM: &str = env!("CARGO_BIN_EXE_tandem");

/// Runs `tandem` in a folder, with a text on its standard input, which is a pipe.
fn tandem(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(TANDEM)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tandem runs");
    // One that does not read its input has ended before.
    let _ = child.stdin.take().expect("an input").write_all(input.as_bytes());
    child.wait_with_output().expect("its output")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn files(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).expect("a folder").flatten();
    all.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn answers_on_a_pipe_make_a_file_that_check_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let output =
        tandem(folder.path(), &["init", "my.toml"], &format!("lab\nlinear\n0\n4\n{}", "\n".repeat(12)));
    assert!(output.status.success() && said(&output).contains("wrote my.toml"), "{}", said(&output));
    assert!(said(&output).contains("0 is out of range"), "the reader's own words: {}", said(&output));
    let output = tandem(folder.path(), &["check", "my.toml"], "");
    assert!(said(&output).contains("lab: 1 gateways, 4 switches"), "{}", said(&output));
    assert_eq!(files(folder.path()), ["my.toml"]);
    // It is there now, and nobody can be asked whether it may go.
    let before = std::fs::read(folder.path().join("my.toml")).expect("the file");
    for arguments in [["init", "my.toml"].as_slice(), &["init", "my.toml", "--yes"]] {
        let output = tandem(folder.path(), arguments, "y\n");
        assert!(!output.status.success() && said(&output).contains("is there already"), "{}", said(&output));
    }
    assert_eq!(std::fs::read(folder.path().join("my.toml")).expect("the file"), before);
}

#[test]
fn defaults_make_a_file_and_an_early_end_makes_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = tandem(folder.path(), &["init"], "mine\nfat-tree\n");
    assert!(!output.status.success() && said(&output).contains("missing: topology.k, "), "{}", said(&output));
    assert!(files(folder.path()).is_empty());
    let output = tandem(folder.path(), &["init", "--yes"], "");
    assert!(output.status.success(), "{}", said(&output));
    assert!(tandem(folder.path(), &["check", "site.toml"], "").status.success());
}

#[test]
fn serve_without_a_site_names_init_where_nobody_can_be_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, file) in [(["serve"].as_slice(), "site.toml"), (&["serve", "--site", "x.toml"], "x.toml")]
    {
        let output = tandem(folder.path(), arguments, "");
        let expected = format!("there is no site file {file}; make one by `tandem init {file}`");
        assert!(!output.status.success() && said(&output).contains(&expected), "{}", said(&output));
    }
}

/// On a terminal, `serve` asks; Ctrl-C in the middle leaves nothing.
#[test]
fn serve_on_a_terminal_asks_and_ctrl_c_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // util-linux' script gives its child a terminal; what it reads is what is typed there.
    let mut child = Command::new("script")
        .args(["-qec", &format!("{TANDEM} serve"), "/dev/null"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script (bsdutils)");
    let mut typed = child.stdin.take().expect("an input");
    let mut shown = child.stdout.take().expect("an output");
    let mut all = String::new();
    let mut until = |words: &str| {
        let mut buffer = [0; 256];
        while !all.contains(words) {
            let read = std::io::Read::read(&mut shown, &mut buffer).expect("what is shown");
            assert!(read > 0, "{words:?} is not shown: {all}");
            all.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    };
    until("There is no site file site.toml. These questions make one");
    until("name [mine]:");
    typed.write_all(b"lab\n").expect("typed");
    until("topology.shape [three-tier]:");
    typed.write_all(b"\x03").expect("typed");
    let status = child.wait().expect("it ends");
    assert!(!status.success(), "{status}");
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
}
