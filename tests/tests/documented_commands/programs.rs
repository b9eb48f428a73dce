//! Our programs, and that they only parse when they are asked to.

use anyhow::ensure;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The variable at which a program of a debug build ends after its command line was parsed.
pub(crate) const PARSE_ONLY: &str = "TANDEM_PARSE_ONLY";

/// Each program, and a command line that is well formed and would fail if it were carried out.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("tandem", &["check", "/nonexistent/site.toml"]),
    ("tandem-agent", &["--config", "/nonexistent/agent.toml", "status"]),
    ("tandem-fpga", &["--card", "cosim:/nonexistent", "info"]),
    ("tandem-lab", &["draw", "--site", "/nonexistent/site.toml"]),
];

/// The names of our programs.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|(name, _)| *name)
}

/// Where each program is, once it is certain that it carries nothing out under [`PARSE_ONLY`]: a
/// release build does not know the variable, and would do what the pages say.
///
/// # Errors
/// When a program is not built, or is a release build.
pub(crate) fn that_only_parse() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let mut programs = Vec::new();
    for (name, harmless) in PROGRAMS {
        let path = tandem_tests::program(name)?;
        let status = Command::new(&path)
            .args(*harmless)
            .env(PARSE_ONLY, "1")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "{name} does not know {PARSE_ONLY}: this test needs a debug build");
        programs.push((*name, path));
    }
    Ok(programs)
}
