//! What this machine cannot do for a site, for `tandem check`. The lab knows what an emulated data
//! centre takes, so its program is asked: the one beside this one, or else the one on the PATH.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The lab's program.
const PROGRAM: &str = "tandem-lab";
/// How long it may take: it looks at a few files and tries traffic control in a namespace.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that its answer may have.
const LONGEST: u64 = 1 << 20;

/// Something that this machine cannot do for a site. It is no fault of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it is about, in a word.
    pub about: String,
    /// What is short.
    pub problem: String,
    /// What to do about it.
    pub instead: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.about, self.problem, self.instead)
    }
}

/// Asks the lab's program; that it cannot be asked is a note too.
pub fn notes(site: &Path) -> Vec<Note> {
    asked(&program(), site, PATIENCE).unwrap_or_else(|why| {
        vec![Note {
            about: "lab".to_owned(),
            problem: format!("what this machine can emulate was not looked at: {why}"),
            instead: format!(
                "install {PROGRAM} beside this program (scripts/install); a controller alone needs none"
            ),
        }]
    })
}

/// Beside this program, where it is installed with it; else by the PATH.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PROGRAM.into())
}

fn asked(program: &Path, site: &Path, patience: Duration) -> Result<Vec<Note>, String> {
    let name = program.display();
    let mut child = Command::new(program)
        .arg("check")
        .arg("--json")
        .arg("--site")
        .arg(site)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|why| format!("{name} cannot be started ({why})"))?;
    let answer = answer(&mut child, patience);
    // One that has answered is at its end; one that has not is ended.
    let _ = child.kill();
    let _ = child.wait();
    let text = answer.ok_or_else(|| format!("{name} did not answer within {} s", patience.as_secs()))?;
    serde_json::from_slice(&text).map_err(|_| format!("{name} does not say it (is it of another version?)"))
}

/// All that a child writes; `None` if it does not come to its end in time.
fn answer(child: &mut Child, patience: Duration) -> Option<Vec<u8>> {
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if stdout.take(LONGEST).read_to_end(&mut text).is_ok() {
            // Whoever asked may have given up.
            let _ = sender.send(text);
        }
    });
    receiver.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lab");
        // Written by a child: a descriptor for writing here could be in another test's child, and a
        // file that somebody may write cannot be run (ETXTBSY).
        let made = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .arg(text)
            .status();
        assert!(made.is_ok_and(|status| status.success()));
        (folder, path)
    }

    #[test]
    fn what_the_lab_says_is_told_and_what_it_cannot_say_too() {
        let site = Path::new("/nowhere/site.toml");
        let ask = |text: &str, patience| {
            let (_folder, path) = script(text);
            asked(&path, site, patience)
        };
        let long = Duration::from_secs(60);
        let said = r#"echo "[{\"about\": \"netem\", \"problem\": \"$*\", \"instead\": \"y\"}]""#;
        let notes = ask(said, long).expect("notes");
        assert_eq!(notes[0].problem, "check --json --site /nowhere/site.toml");
        assert!(ask("echo '[]'", long).is_ok_and(|notes| notes.is_empty()));
        for bad in ["exit 3", "echo no", "yes"] {
            assert!(ask(bad, long).is_err_and(|why| why.contains("does not say")), "{bad}");
        }
        let never = ask("exec sleep 600", Duration::from_millis(50));
        assert!(never.is_err_and(|why| why.contains("did not answer")));
        let nothing = asked(Path::new("/nowhere/lab"), site, long);
        assert!(nothing.is_err_and(|why| why.contains("cannot be started")));
    }
}
