//! Pages whose commands are run.
//!
//! All blocks of a page run in one shell, in a folder of their own, with network, processes, /run
//! and /var/lib of their own: a page may start controllers and labs at their usual places, and
//! everything that it leaves running ends with it.

use super::page::{self, Mark, Page};
use anyhow::Context;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a page may take. Most take a few seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Written before each block, so that a failure can say where it was.
const HERE: &str = "@@ ";

/// What went wrong when the page's commands ran; nothing if it has none, or if all went well.
pub(crate) fn fault(page: &Page) -> anyhow::Result<Option<String>> {
    if !page.blocks.iter().any(|block| block.mark == Mark::Run) {
        return Ok(None);
    }
    let folder = tempfile::Builder::new().prefix("tandem-docs-").tempdir()?;
    let programs = tandem_tests::program("tandem")?.parent().context("a folder")?.to_owned();
    let script = folder.path().join(".page");
    std::fs::write(&script, text(page, folder.path())?)?;
    std::os::unix::fs::symlink(page::root().join("examples"), folder.path().join("examples"))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("timeout")
        .arg(LIMIT.as_secs().to_string())
        .args(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["/bin/bash", &script.display().to_string()])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HOME", folder.path())
        .env_remove("TANDEM_API")
        .env_remove("TANDEM_TOKEN")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    let place = said.lines().rev().find_map(|line| line.strip_prefix(HERE)).unwrap_or(&page.name);
    Ok(Some(format!(
        "{place}: the block failed ({}):\n{}\n{}",
        output.status,
        last(&printed, 15),
        last(&said, 15)
    )))
}

/// What stands before a page's commands.
///
/// A reader is slower than the controller's next look for hypervisors; a script has to wait for it.
const PREAMBLE: &str = r#"set -euo pipefail
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
ip link set lo up
tandem-lab() {
    command tandem-lab "$@"
    if [ "$1" = up ] && [ -S /run/tandem/api.sock ]; then
        until tandem --json notices | grep -q world-up; do sleep 0.1; done
    fi
}
"#;

/// The page as one script.
fn text(page: &Page, folder: &Path) -> anyhow::Result<String> {
    let mut script = PREAMBLE.to_owned();
    for (number, block) in page.blocks.iter().enumerate() {
        for written in page.written.iter().filter(|w| w.before == number) {
            let path = folder.join(&written.name);
            std::fs::write(folder.join(format!(".{number}-{}", written.name)), &written.text)?;
            let from = folder.join(format!(".{number}-{}", written.name));
            script.push_str(&format!("cp '{}' '{}'\n", from.display(), path.display()));
        }
        if block.mark == Mark::Run {
            script.push_str(&format!("echo '{HERE}{}' >&2\n{}", block.place, block.text));
        }
    }
    Ok(script)
}

fn last(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
