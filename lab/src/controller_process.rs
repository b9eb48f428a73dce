//! The controller as the lab runs it: the `tandem` program beside this one, as a process of its
//! own.

use anyhow::{Context, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tandem_agent_protocol::lab_sockets::Lab;

/// The `tandem` program: beside this one, or by $TANDEM.
///
/// # Errors
/// When it is not there.
pub fn program() -> anyhow::Result<PathBuf> {
    beside("tandem", "TANDEM")
}

/// A program of ours: beside this one, or where an environment variable says.
///
/// # Errors
/// When it is not there.
pub fn beside(name: &str, variable: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("finding this program")?;
    // Tests run from a folder below.
    let candidates = own.ancestors().skip(1).take(2).map(|f| f.join(name));
    candidates.into_iter().find(|p| p.exists()).with_context(|| {
        format!(
            "the program `{name}` is not beside {}; build it (cargo build), or set {variable}",
            own.display()
        )
    })
}

/// Runs a command on the API of any controller and reads its JSON.
///
/// # Errors
/// With what the command says.
pub fn json(api: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = Command::new(program()?);
    command.args(["--api", api, "--json"]).args(arguments).stdin(Stdio::null());
    read(&mut command, arguments)
}

fn read(command: &mut Command, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("tandem {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    if output.stdout.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("tandem {} prints no JSON", arguments.join(" ")))
}

/// A running controller; killed when dropped.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    program: PathBuf,
    api: String,
}

/// What a controller is started with.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// Site file.
    pub site: &'a Path,
    /// Folder for its sockets, its store and its log.
    pub folder: &'a Path,
    /// The lab's name.
    pub lab: &'a str,
    /// Folder for CSV files.
    pub csv: Option<&'a Path>,
    /// Recording.
    pub record: Option<&'a Path>,
    /// Further arguments of `tandem serve`.
    pub more: &'a [String],
}

/// Where switches reach a controller started in `folder`.
pub fn openflow(folder: &Path) -> String {
    format!("unix:{}", folder.join("openflow.sock").display())
}

/// Where agents reach a controller started in `folder`.
pub fn agents(folder: &Path) -> String {
    format!("unix:{}", folder.join("agents.sock").display())
}

impl Controller {
    /// Starts one and waits until its API answers.
    ///
    /// # Errors
    /// When it ends or does not answer within 20 s; with the end of its log.
    pub fn start(options: &Options<'_>) -> anyhow::Result<Controller> {
        let program = program()?;
        let (folder, log) = (options.folder, options.folder.join("tandem.log"));
        let api = format!("unix:{}", folder.join("api.sock").display());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = Command::new(&program);
        command
            .args(["--api", &api, "serve", "--site"])
            .arg(options.site)
            .args([
                "--openflow",
                &openflow(folder),
                "--agents",
                &agents(folder),
                "--world",
                &Lab::named(options.lab)?.world(),
                "--store",
            ])
            .arg(folder.join("store.sqlite"))
            // It ends with us, also when we are killed: the other end of the pipe is ours.
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file);
        if let Some(csv) = options.csv {
            command.arg("--csv").arg(csv);
        }
        if let Some(record) = options.record {
            command.arg("--record").arg(record);
        }
        command.args(options.more);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut controller = Controller { child, program, api };
        let start = Instant::now();
        while controller.json(&["topology"]).is_err() {
            let ended = controller.child.try_wait()?;
            if ended.is_some() || start.elapsed() > Duration::from_secs(20) {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(5).collect();
                bail!(
                    "the controller does not come up: {}",
                    last.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(controller)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A command on its API, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--api", &self.api, "--json"]).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command and reads its JSON.
    ///
    /// # Errors
    /// With what the command says.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        read(&mut self.command(arguments), arguments)
    }

    /// Waits until every OpenFlow switch is connected and has its rules: from then on all hosts
    /// reach each other.
    ///
    /// # Errors
    /// When that is not so within `limit`.
    pub fn wait_connected(&self, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let topology = self.json(&["topology"])?;
            let switches = topology["switches"].as_array().cloned().unwrap_or_default();
            let away = switches
                .iter()
                .filter(|s| s["legacy"] == false && (s["connected"] != true || s["sync"] != "done"))
                .count();
            if away == 0 && !switches.is_empty() {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!("{away} of {} switches have not connected within {limit:?}", switches.len());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it politely and waits.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Kills it, as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
