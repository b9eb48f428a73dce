//! Blocks whose words are parsed and not carried out.
//!
//! A block is run by a shell in which our programs only parse, scripts of the repository are
//! replaced, and everything else is not found. So pipes, variables and quotes are the shell's own
//! matter, as they are when a reader runs the block.

use super::page::{self, Block, Mark};
use super::programs::{self, PARSE_ONLY};
use anyhow::Context;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Programs of others that pages use. None of them is run here.
const OTHERS: &[&str] = &[
    "apt-get",
    "cargo",
    "cat",
    "chmod",
    "cp",
    "curl",
    "dpkg",
    "ethtool",
    "git",
    "head",
    "ip",
    "journalctl",
    "ls",
    "lspci",
    "mkdir",
    "mv",
    "ovs-ofctl",
    "ovs-vsctl",
    "nc",
    "ping",
    "python3",
    "rm",
    "sleep",
    "ss",
    "ssh",
    "ssh-copy-id",
    "ssh-keygen",
    "sudo",
    "systemctl",
    "tail",
    "tee",
];

/// Scripts of the repository whose words go on to a program of ours.
const SCRIPTS: &[(&str, &str)] = &[
    (
        "scripts/deploy",
        r#"inventory=$1; shift; set -- testbed deploy --inventory "$inventory" --agent a "$@"; exec tandem "$@""#,
    ),
    (
        "tests/xen/run",
        r#"verb=$1; shift; case $verb in
           check) exec tandem-lab xen check --agent a "$@" ;;
           experiment) exec tandem-lab experiment live-migration --world xen --agent a "$@" ;;
           *) exec tandem-lab xen "$verb" "$@" ;; esac"#,
    ),
];

/// What is wrong with the blocks.
pub(crate) fn faults<'a>(blocks: impl Iterator<Item = &'a Block>) -> anyhow::Result<Vec<String>> {
    let folder = tempfile::Builder::new().prefix("tandem-docs-").tempdir()?;
    let programs = folder.path().join("programs");
    let log = folder.path().join("faults");
    let calls = folder.path().join("calls");
    std::fs::create_dir(&programs)?;
    for (name, path) in programs::that_only_parse()? {
        let text = format!(
            "#!/bin/bash\necho \"{name} $*\" >> '{calls}'\n\
             said=$({PARSE_ONLY}=1 '{program}' \"$@\" 2>&1) ||\n  \
             printf '%s: %s\\n' \"{name} $*\" \"$said\" >> '{log}'\n",
            program = path.display(),
            calls = calls.display(),
            log = log.display()
        );
        script(&programs.join(name), &text)?;
    }
    for (name, body) in SCRIPTS {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        script(&path, &format!("#!/bin/bash\n{body}\n"))?;
    }
    let mut faults = Vec::new();
    for block in blocks {
        let _ = std::fs::remove_file(&log);
        let _ = std::fs::remove_file(&calls);
        let said = shell(folder.path(), &programs, block)?;
        let place = &block.place;
        faults.extend(said.lines().map(|line| format!("{place}: {line}")));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        faults.extend(read(&log).lines().map(|line| format!("{place}: {line}")));
        // Nothing that stands at the beginning of a line was jumped over.
        let expected = block.text.lines().filter(|l| starts_with_ours(l)).count();
        let seen = read(&calls).lines().count();
        if block.mark != Mark::Example && seen < expected {
            faults.push(format!("{place}: {seen} commands of ours were parsed, {expected} stand there"));
        }
    }
    Ok(faults)
}

fn starts_with_ours(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    programs::names().any(|name| name == first)
}

/// Has a shell go through a block; what it says.
fn shell(folder: &Path, programs: &Path, block: &Block) -> anyhow::Result<String> {
    let bash = |script: &str, options: &[&str]| {
        Command::new("/bin/bash")
            .args(options)
            .args(["-c", script])
            .current_dir(folder)
            .env_clear()
            .env("PATH", programs)
            .env("HOME", folder)
            .stdin(Stdio::null())
            .output()
    };
    let checked = bash(&block.text, &["-n"])?;
    let mut said = String::from_utf8_lossy(&checked.stderr).into_owned();
    if block.mark == Mark::Example || !said.is_empty() {
        return Ok(said);
    }
    let mut lines = String::new();
    for line in block.text.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        if !word.starts_with("scripts/") && !word.starts_with("tests/") {
            lines.push_str(line);
        } else if !is_executable(&page::root().join(word)) {
            writeln!(said, "{word} is no program of the repository")?;
        } else if SCRIPTS.iter().any(|(name, _)| *name == word) {
            lines.push_str(line);
        }
        lines.push('\n');
    }
    // There is no terminal here.
    let lines = lines.replace("/dev/tty", "/dev/null");
    let others = OTHERS.join("|");
    let script = format!(
        "command_not_found_handle() {{ case $1 in {others}) ;; \
         *) echo \"$1 is not known\" >&2 ;; esac; }}\n{lines}\nwait\n"
    );
    let output = bash(&script, &[])?;
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn script(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

#[test]
fn what_no_program_takes_is_named() {
    let text = "tandem check site.toml\ntandem vm reqest\ntandem vm list | frobnicate\nscripts/absent\n";
    let block = Block { place: "x.md:1".to_owned(), mark: Mark::Parse, text: text.to_owned() };
    let faults = faults([&block].into_iter()).expect("a shell").join("\n");
    assert!(faults.contains("x.md:1: scripts/absent is no program of the repository"), "{faults}");
    assert!(faults.contains("unrecognized subcommand 'reqest'"), "{faults}");
    assert!(faults.contains("frobnicate is not known"), "{faults}");
    assert!(!faults.contains("site.toml"), "{faults}");
}
