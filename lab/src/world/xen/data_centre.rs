//! A Xen lab with a controller of its own and agents on its switches: what tests and experiments
//! run on. Dropping it takes all down; when this process is killed, lab and controller end too.

use super::control;
use super::supervisor;
use super::{output, wait};
use crate::controller_process;
use crate::world::xen::control::{Status, XenRequest};
use crate::world::xen::supervisor::Plan;
use crate::world::xen::watch::Watch;
use anyhow::{Context, bail};
use serde_json::Value;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long anything that hosts do may take: they share few cores, with others.
pub const PATIENCE: Duration = Duration::from_secs(900);

/// A Xen lab with a controller and agents: a data centre that an experiment can use.
pub struct DataCentre {
    /// What the lab says of itself; the same for as long as it is up.
    pub lab: Status,
    program: PathBuf,
    controller: Option<Child>,
    _held: UnixStream,
}

/// A VM that runs.
#[derive(Debug, Clone)]
pub struct Vm {
    /// Its number.
    pub id: u64,
    /// Its address.
    pub address: Ipv4Addr,
}

/// A domain as `xl list` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// `-b----` and so on.
    pub state: String,
}

impl DataCentre {
    /// Everything up: hosts booted, controller started, agents deployed, every switch connected.
    /// `agent` is a static `tandem-agent`.
    ///
    /// # Errors
    /// With the step that failed; nothing is then left.
    pub fn up(plan: &Plan, agent: &Path, mut say: impl FnMut(&str)) -> anyhow::Result<DataCentre> {
        let lab = supervisor::up(plan, &mut say)?;
        let held = control::hold(&lab.name)?;
        let mut dc =
            DataCentre { lab, program: controller_process::program()?, controller: None, _held: held };
        dc.start_controller()?;
        dc.deploy(agent)?;
        say("agents are deployed");
        dc.wait_connected()?;
        say("all switches are connected");
        Ok(dc)
    }

    /// A file of the lab.
    pub fn file(&self, name: &str) -> PathBuf {
        self.lab.folder.join(name)
    }

    fn api(&self) -> String {
        format!("unix:{}", self.file("api.sock").display())
    }

    /// Starts the controller (again) and waits until its API answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_controller(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.file("tandem.log"))?;
        let ports = self.lab.ports;
        let child = Command::new(&self.program)
            .args(["--api", &self.api(), "serve", "--until-stdin-closes"])
            .args(["--openflow", &format!("tcp:127.0.0.1:{}", ports.openflow)])
            .args(["--agents", &format!("tcp:127.0.0.1:{}", ports.agents)])
            .arg("--site")
            .arg(self.file("site.toml"))
            .arg("--hypervisors")
            .arg(self.file("hypervisors.toml"))
            .arg("--store")
            .arg(self.file("tandem.sqlite"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        self.controller = Some(child);
        wait("the controller's API", Duration::from_secs(60), || self.json(&["notices"]).map(Some)).map(drop)
    }

    /// Ends the controller as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_controller(&mut self) -> anyhow::Result<()> {
        let mut child = self.controller.take().context("the controller does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn deploy(&self, agent: &Path) -> anyhow::Result<()> {
        output(
            Command::new(&self.program)
                .args(["--api", &self.api(), "testbed", "deploy", "--wait", "300", "--inventory"])
                .arg(self.file("inventory.toml"))
                .arg("--agent")
                .arg(agent)
                .stdin(Stdio::null()),
            "deploying agents",
        )
        .map(drop)
    }

    /// Waits until every switch is connected and has its rules, and every server is known.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_connected(&self) -> anyhow::Result<()> {
        wait("every switch connected", PATIENCE, || {
            let topology = self.json(&["topology"])?;
            let switches = topology["switches"].as_array().cloned().unwrap_or_default();
            let good = |s: &Value| s["connected"] == true && s["sync"] == "done";
            let world = self.json(&["notices"])?;
            let up = world.as_array().is_some_and(|l| l.iter().any(|n| n["kind"] == "world-up"));
            Ok((up && !switches.is_empty() && switches.iter().all(good)).then_some(()))
        })
    }

    /// `tandem ARGUMENTS`, as text.
    ///
    /// # Errors
    /// With what it says.
    pub fn tandem(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["--api", &self.api()]).args(arguments).stdin(Stdio::null());
        output(&mut command, &format!("tandem {}", arguments.join(" ")))
    }

    /// `tandem --json ARGUMENTS`.
    ///
    /// # Errors
    /// With what it says.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.tandem(&[&["--json"], arguments].concat())?;
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// Requests a VM and waits until it runs.
    ///
    /// # Errors
    /// With what the controller says.
    pub fn request(&self, arguments: &[&str]) -> anyhow::Result<Vm> {
        let vm = self.json(&[&["vm", "request"], arguments].concat())?;
        let address =
            vm["address"].as_str().and_then(|a| a.parse().ok()).context("a VM without an address")?;
        Ok(Vm { id: vm["id"].as_u64().context("a VM without a number")?, address })
    }

    /// The name of a VM's server; none where there is no such VM.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub fn server_of(&self, vm: u64) -> anyhow::Result<Option<String>> {
        let list = self.json(&["vm", "list"])?;
        let found = list.as_array().and_then(|l| l.iter().find(|v| v["id"] == vm)).cloned();
        Ok(found.and_then(|v| v["server_name"].as_str().map(str::to_owned)))
    }

    /// Asks for a migration and returns its number.
    ///
    /// # Errors
    /// With why it was refused.
    pub fn begin_move(&self, vm: u64, to: &str, more: &[&str]) -> anyhow::Result<u64> {
        let vm = vm.to_string();
        let known = self.newest_migration()?;
        self.tandem(&[&["migrate", &vm, "--to", to, "--no-wait"], more].concat())?;
        wait("the migration in the list", PATIENCE, || {
            Ok(self.newest_migration()?.filter(|n| Some(*n) != known))
        })
    }

    fn newest_migration(&self) -> anyhow::Result<Option<u64>> {
        let list = self.json(&["migrations"])?;
        Ok(list.as_array().and_then(|l| l.iter().filter_map(|m| m["id"].as_u64()).max()))
    }

    /// A migration as the API has it.
    ///
    /// # Errors
    /// When the controller does not answer, or has no such migration.
    pub fn migration(&self, id: u64) -> anyhow::Result<Option<Value>> {
        let list = self.json(&["migrations"])?;
        Ok(list.as_array().and_then(|l| l.iter().find(|m| m["id"] == id)).cloned())
    }

    /// Waits for a migration's end and gives it: `moved`, `undone` or `lost`, and why.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end_of(&self, id: u64) -> anyhow::Result<(String, String)> {
        wait(&format!("the end of mig{id}"), PATIENCE, || {
            let Some(m) = self.migration(id)? else { return Ok(None) };
            let end = &m["ended"][1];
            let word = |key: &str| end[key].as_str().unwrap_or_default().to_owned();
            Ok(end["result"].is_string().then(|| (word("result"), word("why"))))
        })
    }

    /// Waits until a migration is in one of these phases; gives which. `None` when it has ended
    /// before.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub fn reach_phase(&self, id: u64, phases: &[&str]) -> anyhow::Result<Option<String>> {
        wait(&format!("mig{id} in phase {}", phases.join(" or ")), PATIENCE, || {
            let Some(m) = self.migration(id)? else { return Ok(None) };
            let phase = m["phase"].as_str().unwrap_or_default().to_owned();
            let ended = m["ended"].is_array();
            Ok((ended || phases.contains(&phase.as_str())).then_some((!ended).then_some(phase)))
        })
    }

    /// Waits until a transfer has sent something.
    ///
    /// # Errors
    /// When it does not.
    pub fn reach_bytes(&self, id: u64) -> anyhow::Result<u64> {
        wait(&format!("mig{id} sending"), PATIENCE, || {
            let Some(m) = self.migration(id)? else { return Ok(None) };
            if m["ended"].is_array() {
                bail!("mig{id} has ended already: {}", m["ended"][1]);
            }
            Ok(m["progress"]["sent"].as_u64().filter(|n| *n > 1 << 20))
        })
    }

    /// Domains on the host of a server, domain 0 left out.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn domains(&self, server: &str) -> anyhow::Result<Vec<Domain>> {
        let text = self.lab.host(server)?.access.run("xl list")?;
        let domain = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name @ .., id, _, _, state, _] = fields.as_slice() else { return None };
            Some(Domain { name: name.join(" "), id: id.parse().ok()?, state: (*state).to_owned() })
        };
        Ok(text.lines().skip(1).filter_map(domain).filter(|d| d.id != 0).collect())
    }

    /// Waits until a server's host has these domains and no other.
    ///
    /// # Errors
    /// When it has others.
    pub fn expect_domains(&self, server: &str, names: &[&str]) -> anyhow::Result<()> {
        let mut seen = Vec::new();
        let limit = Duration::from_secs(180);
        wait(&format!("on {server} the domains {names:?}"), limit, || {
            seen = self.domains(server)?.into_iter().map(|d| d.name).collect::<Vec<_>>();
            seen.sort();
            Ok((seen == names).then_some(()))
        })
        .with_context(|| format!("it has {seen:?}"))
    }

    /// Pings a VM from the gateway until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn expect_answer(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        let gateway = &self.lab.host("gw1")?.access;
        wait(&format!("an answer of {address}"), Duration::from_secs(180), || {
            let ping = format!("ip netns exec gw1 ping -c 1 -W 2 {address} > /dev/null && echo yes || true");
            Ok((gateway.run(&ping)? == "yes").then_some(()))
        })
    }

    /// Pings a VM every 10 ms until told to stop.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn watch(&self, address: Ipv4Addr) -> anyhow::Result<Watch> {
        Watch::start(&self.lab, address, Duration::from_millis(10), Duration::from_secs(300))
    }

    /// Ends a host as a power cut would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_host(&self, host: &str) -> anyhow::Result<()> {
        control::ask(&self.lab.name, &XenRequest::Kill { host: host.to_owned() }).map(drop)
    }

    /// Boots a host again and waits until it is up and its switches are connected.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_host(&self, host: &str) -> anyhow::Result<()> {
        control::ask(&self.lab.name, &XenRequest::Start { host: host.to_owned() })?;
        wait(&format!("{host} to be up"), super::BOOT, || {
            let status = control::status(&self.lab.name)?;
            Ok(status.host(host)?.ready.then_some(()))
        })?;
        self.wait_connected()
    }

    /// Deletes every VM, and waits until no host has a domain.
    ///
    /// # Errors
    /// When one stays.
    pub fn clean(&self) -> anyhow::Result<()> {
        let list = self.json(&["vm", "list"])?;
        for vm in list.as_array().into_iter().flatten().filter_map(|v| v["id"].as_u64()) {
            self.tandem(&["vm", "delete", &vm.to_string()])?;
        }
        let servers = self.lab.hosts.iter().flat_map(|h| &h.nodes).filter(|n| n.starts_with("srv"));
        for server in servers {
            self.expect_domains(server, &[])?;
        }
        Ok(())
    }
}

impl Drop for DataCentre {
    fn drop(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            let _ = controller.kill();
            let _ = controller.wait();
        }
        if let Err(error) = supervisor::down(&self.lab.name) {
            tracing::warn!("{error:#}");
        }
    }
}
