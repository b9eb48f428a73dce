//! What the tests that cross crates share: the programs under test, and a small data centre that is
//! gone when the test ends, however it ends.

pub mod damage;
pub mod exposition;
pub mod foreign_controllers;
pub mod pings;
pub mod sshd;
pub mod vm;

use anyhow::{Context, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A program built beside the tests.
///
/// # Errors
/// When it is not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.ancestors().nth(2).map(|f| f.join(name)).filter(|p| p.exists());
    path.with_context(|| {
        format!("{name} is not built; run `cargo test --workspace --no-run` first, or scripts/test")
    })
}

/// Copies a program, by a process of its own: a descriptor that is open for writing here would be
/// inherited by what a test beside this one starts, and the copy could not be started while that
/// lives (ETXTBSY, execve(2)).
///
/// # Errors
/// When it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) -> anyhow::Result<()> {
    let output = Command::new("cp").arg("--").args([from, to]).stdin(Stdio::null()).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// True when this machine can hold an emulated data centre. Where it cannot, the test says why and
/// is skipped; in CI that is a failure.
pub fn can_emulate() -> bool {
    can_emulate_on("ovs")
}

/// The same with switches of a datapath, as `tandem-lab up --datapath` has it: only `ovs` needs
/// Open vSwitch.
pub fn can_emulate_on(datapath: &str) -> bool {
    let ovs = datapath == "ovs";
    let root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.starts_with("Uid:\t0\t")));
    let there = |p: &str| Path::new(p).exists();
    let missing: Vec<&str> = [
        (root, "root"),
        (!ovs || there("/usr/sbin/ovs-vswitchd"), "openvswitch-switch"),
        (there("/usr/sbin/udhcpc") || there("/sbin/udhcpc"), "udhcpc"),
        (!ovs || there("/dev/net/tun") || there("/sys/module/openvswitch"), "/dev/net/tun"),
    ]
    .into_iter()
    .filter(|(ok, _)| !ok)
    .map(|(_, name)| name)
    .collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: {}", missing.join(", "));
    eprintln!("skipped: missing {}", missing.join(", "));
    false
}

/// Waits until `ready` gives a value.
///
/// # Errors
/// When it does not within [`LIMIT`]; with its last error.
pub fn wait<T>(what: &str, mut ready: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        let last = match ready() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() > LIMIT {
            let last = last.map(|e| format!(": {e:#}")).unwrap_or_default();
            bail!("{what}: not within {LIMIT:?}{last}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A lab and a controller, with a folder of their own.
pub struct DataCentre {
    /// The lab's name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What its switches speak, as `tandem-lab up --protocols` has it; `None` for what they do by
    /// default.
    pub protocols: Option<&'static str>,
    /// What its switches are made of, as `tandem-lab up --datapath` has it; `None` for what they
    /// are by default.
    pub datapath: Option<&'static str>,
    /// What makes its hosts, switches and links, as `tandem-lab up --engine` has it; `None` for what
    /// does by default.
    pub engine: Option<&'static str>,
    /// Where its switches look for a controller, as `tandem-lab up --controller` has it; `None` for
    /// this data centre's own.
    pub controller_at: Option<String>,
    /// The command that starts the lab and the controller, whose programs and arguments are its
    /// last ones; none if it is empty.
    pub starter: Vec<String>,
    controller: Option<Child>,
    record: bool,
}

impl DataCentre {
    /// Only the folder, with a site file in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn prepare(site: &str) -> anyhow::Result<DataCentre> {
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("tandem-{name}"));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("site.toml"), site)?;
        Ok(DataCentre {
            name,
            folder,
            protocols: None,
            datapath: None,
            engine: None,
            controller_at: None,
            starter: Vec::new(),
            controller: None,
            record: false,
        })
    }

    /// Everything up, all switches connected, the hypervisor service found.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn up(site: &str) -> anyhow::Result<DataCentre> {
        DataCentre::up_speaking(site, None)
    }

    /// The same with switches that speak only these protocols.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn up_speaking(site: &str, protocols: Option<&'static str>) -> anyhow::Result<DataCentre> {
        let mut dc = DataCentre::prepare(site)?;
        dc.protocols = protocols;
        dc.start()?;
        Ok(dc)
    }

    /// The same with switches made of this.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn up_on(site: &str, datapath: &'static str) -> anyhow::Result<DataCentre> {
        let mut dc = DataCentre::prepare(site)?;
        dc.datapath = Some(datapath);
        dc.start()?;
        Ok(dc)
    }

    /// What was prepared, up.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.record = true;
        self.lab_up()?;
        self.start_controller()?;
        self.wait_ready()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn socket(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// Brings the lab up.
    ///
    /// # Errors
    /// With what `tandem-lab up` says.
    pub fn lab_up(&self) -> anyhow::Result<String> {
        self.lab_up_with(&[])
    }

    /// The same with more options.
    ///
    /// # Errors
    /// With what `tandem-lab up` says.
    pub fn lab_up_with(&self, options: &[&str]) -> anyhow::Result<String> {
        let site = self.path("site.toml").display().to_string();
        let controller = self.controller_at.clone().unwrap_or_else(|| self.socket("openflow.sock"));
        let up = ["up", "--site", &site, "--name", &self.name, "--controller", &controller];
        let agents = ["--agents", &self.socket("agents.sock")];
        let protocols: Vec<&str> = self.protocols.iter().flat_map(|p| ["--protocols", p]).collect();
        let datapath: Vec<&str> = self.datapath.iter().flat_map(|d| ["--datapath", d]).collect();
        let engine: Vec<&str> = self.engine.iter().flat_map(|e| ["--engine", e]).collect();
        let arguments = [&up[..], &agents[..], &protocols[..], &datapath[..], &engine[..], options].concat();
        let mut command = self.starting("tandem-lab")?;
        command.args(&arguments).stdin(Stdio::null());
        text(command.output()?, &format!("tandem-lab {}", arguments.join(" ")))
    }

    /// A program that runs on, by the starter.
    fn starting(&self, name: &str) -> anyhow::Result<Command> {
        let program = program(name)?;
        let Some((first, rest)) = self.starter.split_first() else { return Ok(Command::new(program)) };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        Ok(command)
    }

    /// Starts the controller (again).
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start_controller(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("tandem.log"))?;
        let mut command = self.starting("tandem")?;
        command
            .args(["--api", &self.socket("api.sock"), "serve", "--openflow", &self.socket("openflow.sock")])
            .args(["--agents", &self.socket("agents.sock")])
            .args(["--world", &format!("@tandem-lab/{}/world", self.name), "--site"])
            .arg(self.path("site.toml"))
            .arg("--store")
            .arg(self.path("store.sqlite"))
            .arg("--csv")
            .arg(self.path("csv"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if self.record {
            command.arg("--record").arg(self.path("run.jsonl"));
            self.record = false;
        }
        self.controller = Some(command.spawn()?);
        wait("the controller's API", || self.json(&["notices"]).map(Some))?;
        Ok(())
    }

    /// Waits until every switch is connected and the hypervisor service is found.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        wait("all switches connected and the lab found", || {
            let topology = self.json(&["topology"])?;
            let list = topology["switches"].as_array().cloned().unwrap_or_default();
            let all = !list.is_empty()
                && list.iter().all(|s| s["sync"] == "done" && s["connected"] == true || s["legacy"] == true);
            Ok((all && self.notice("world-up")?).then_some(()))
        })
    }

    /// The controller's process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn controller_pid(&self) -> anyhow::Result<u32> {
        Ok(self.controller.as_ref().context("the controller does not run")?.id())
    }

    /// Ends the controller with a signal, by its id, and waits for it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn end_controller(&mut self, signal: &str) -> anyhow::Result<()> {
        let mut child = self.controller.take().context("the controller does not run")?;
        Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        child.wait()?;
        Ok(())
    }

    /// `tandem ARGUMENTS`, as text.
    ///
    /// # Errors
    /// With what it says.
    pub fn tandem(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(program("tandem")?)
            .args(["--api", &self.socket("api.sock")])
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        text(output, &format!("tandem {}", arguments.join(" ")))
    }

    /// `tandem --json ARGUMENTS`.
    ///
    /// # Errors
    /// With what it says.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.tandem(&[&["--json"], arguments].concat())?;
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// The body of an answer of the API, as text.
    ///
    /// # Errors
    /// When it is anything but 200.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = UnixStream::connect(self.path("api.sock"))?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: tandem\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.lines().next().unwrap_or_default();
        anyhow::ensure!(status.contains(" 200 "), "GET {path}: {status}: {body}");
        Ok(body.to_owned())
    }

    /// What `/metrics` says, checked against its format.
    ///
    /// # Errors
    /// When it is not as it should be.
    pub fn metrics(&self) -> anyhow::Result<exposition::Exposition> {
        exposition::Exposition::read(&self.get("/metrics")?)
    }

    /// True when there is a notice of that kind.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub fn notice(&self, kind: &str) -> anyhow::Result<bool> {
        Ok(self.json(&["notices"])?.as_array().is_some_and(|l| l.iter().any(|n| n["kind"] == kind)))
    }

    /// `tandem-lab ARGUMENTS`.
    ///
    /// # Errors
    /// With what it says.
    pub fn lab(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(program("tandem-lab")?).args(arguments).stdin(Stdio::null()).output()?;
        text(output, &format!("tandem-lab {}", arguments.join(" ")))
    }

    /// A command inside a node.
    ///
    /// # Errors
    /// When it fails.
    pub fn exec(&self, node: &str, command: &[&str]) -> anyhow::Result<String> {
        self.lab(&[&["exec", "--name", &self.name, node, "--"], command].concat())
    }

    /// A command inside a node, on its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn exec_in_background(&self, node: &str, command: &[&str]) -> anyhow::Result<Child> {
        let mut child = Command::new(program("tandem-lab")?);
        child.args(["exec", "--name", &self.name, node, "--"]).args(command);
        Ok(child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Requests the site's default VM; its address.
    ///
    /// # Errors
    /// With what the controller says.
    pub fn request_vm(&self) -> anyhow::Result<(u64, String)> {
        let vm = self.json(&["vm", "request"])?;
        let address = vm["address"].as_str().context("no address")?.to_owned();
        let id = vm["id"].as_u64().context("no id")?;
        // The lease is acknowledged a moment before the client has configured it.
        wait("the VM's address", || {
            let shown = self.exec(&format!("vm{id}"), &["ip", "-4", "-o", "addr", "show", "dev", "eth0"])?;
            Ok(shown.contains(&address).then_some(()))
        })?;
        Ok((id, address))
    }
}

impl Drop for DataCentre {
    fn drop(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            let _ = controller.kill();
            let _ = controller.wait();
        }
        let _ = self.lab(&["down", "--name", &self.name]);
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("tandem.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!(
                "the controller's last words:\n{}",
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn text(output: Output, what: &str) -> anyhow::Result<String> {
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{what}: {}{}", out.trim(), err.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
