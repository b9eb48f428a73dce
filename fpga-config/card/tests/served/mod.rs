//! Runs `tandem-fpga` as processes: a served model, and commands that access it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

pub(crate) fn tool(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-fpga"));
    command.env_remove("TANDEM_FPGA_CARD").args(arguments).output().expect("it runs")
}

pub(crate) fn out(arguments: &[&str]) -> String {
    let output = tool(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

pub(crate) fn error(arguments: &[&str]) -> String {
    let output = tool(arguments);
    assert!(!output.status.success(), "{arguments:?} must fail");
    String::from_utf8(output.stderr).expect("text")
}

/// A `tandem-fpga model`; dropping it stops the process.
pub(crate) struct Served {
    child: Child,
    pub(crate) socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Served {
    pub(crate) fn start(more: &[&str]) -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("card");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-fpga"));
        command.arg("model").arg("--listen").arg(&socket).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert!(line.contains("answers at cosim:"), "{line}");
        Served { child, socket, _folder: folder }
    }

    pub(crate) fn card(&self) -> String {
        format!("cosim:{}", self.socket.display())
    }

    pub(crate) fn stop(&mut self) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}
