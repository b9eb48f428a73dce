//! The controllers of others that tests run: os-ken's applications, Faucet, ovs-testcontroller. Each
//! is in a folder that `tests/conformance/install` fills once, and starts no service of this machine.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The folder that `tests/conformance/install` has filled.
#[derive(Debug, Clone)]
pub struct Tools(PathBuf);

impl Tools {
    /// Installs what is not there. Where that is not to be had, the test says why and is skipped.
    ///
    /// # Errors
    /// In CI, with the reason.
    pub fn if_installed() -> Result<Option<Tools>> {
        match Tools::install() {
            Ok(tools) => Ok(Some(tools)),
            Err(why) => {
                ensure!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; {why:#}");
                eprintln!("skipped: {why:#}");
                Ok(None)
            }
        }
    }

    fn install() -> Result<Tools> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/install");
        let output = Command::new(script).stdin(Stdio::null()).output().context(script)?;
        ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        let path = String::from_utf8(output.stdout)?;
        Ok(Tools(path.trim().into()))
    }

    /// One of os-ken's simple switches, as [`Tools::manager`] takes it.
    pub fn simple(&self, app: &str) -> String {
        self.0.join(format!("simple/os_ken/app/{app}.py")).display().to_string()
    }

    /// os-ken's program with an application, listening on a port. It is not started by its first
    /// line, which names the folder that it was made in.
    pub fn manager(&self, port: u16, app: &str) -> Command {
        let bin = self.0.join("venv/bin");
        let mut command = Command::new(bin.join("python"));
        command.args(["-W", "ignore"]).arg(bin.join("osken-manager"));
        command.args(["--ofp-tcp-listen-port", &port.to_string(), app]);
        command
    }

    /// Open vSwitch's controller.
    pub fn testcontroller(&self) -> Command {
        Command::new(self.0.join("testcontroller/usr/bin/ovs-testcontroller"))
    }
}
