//! Deploys to one machine: looks, compares, and changes the differences, in the steps of the module
//! above.

use super::release::{BASE, Binary, STATE, Version};
use super::{Control, Enrolled, Options, Outcome, Progress, Report, script};
use crate::inventory::{Inventory, Machine, Service};
use crate::ssh::{COMMAND, FILE, Ssh, SshError, quote_path};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// Additional time for stopping the old agent and rolling back, besides the new agent's own.
const ALLOWANCE: Duration = Duration::from_secs(60);

/// An agent's status (`tandem-agent status --json`), with the machine's own state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The machine's processor, as printed by `uname -m`.
    #[serde(default)]
    pub architecture: String,
    /// The installed version; empty without one.
    #[serde(default)]
    pub installed: String,
    /// True while its process runs.
    #[serde(default)]
    pub alive: bool,
    /// The agent's own version.
    #[serde(default)]
    pub version: String,
    /// True while it is connected to its controller.
    #[serde(default)]
    pub connected: bool,
    /// Why it is not connected.
    #[serde(default)]
    pub trouble: String,
    /// True once it has applied the controller's desired state.
    #[serde(default)]
    pub applied: bool,
    /// The parts of it that failed.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// The output of [`script::look`].
#[derive(Debug, Default)]
struct Look {
    architecture: String,
    is_root: bool,
    has_systemd: bool,
    has_ovs: bool,
    version: String,
    sums: Vec<String>,
    unit_same: bool,
    certificate: bool,
    alive: bool,
    status: Option<Status>,
    /// Interfaces of the ssh connection or of the connection to the controller.
    carries: Vec<String>,
}

fn look(ssh: &Ssh, inventory: &Inventory) -> Result<Look, SshError> {
    let text =
        ssh.run("looking at the machine", &script::look(ssh.machine(), &inventory.controller.address))?;
    let mut found = Look::default();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "architecture" => found.architecture = value.to_owned(),
            "root" => found.is_root = value == "0",
            "systemd" => found.has_systemd = true,
            "ovs" => found.has_ovs = true,
            "version" => found.version = value.to_owned(),
            "sum" => found.sums.push(value.to_owned()),
            "unit" => found.unit_same = true,
            "certificate" => found.certificate = true,
            "alive" => found.alive = true,
            "status" => found.status = serde_json::from_str(value).ok(),
            "carries" => found.carries.push(value.trim_end_matches(':').to_owned()),
            _ => {}
        }
    }
    Ok(found)
}

/// Reads the status of a machine's agent.
pub(super) fn status(ssh: &Ssh, inventory: &Inventory) -> Result<Status, SshError> {
    let found = look(ssh, inventory)?;
    Ok(Status {
        architecture: found.architecture,
        installed: found.version,
        alive: found.alive,
        ..found.status.unwrap_or_default()
    })
}

/// Why a machine cannot be deployed to in its present state.
fn obstacle(machine: &Machine, found: &Look, binary: &Binary) -> Option<String> {
    if found.architecture != binary.architecture {
        return Some(format!(
            "it is {}, the agent was built for {}; build one for it: cargo build --target {}-unknown-linux-gnu",
            found.architecture, binary.architecture, found.architecture
        ));
    }
    if let Some((switch, port)) = (machine.switches.iter())
        .flat_map(|s| s.ports.iter().map(move |p| (s, p)))
        .find(|(_, p)| found.carries.contains(&p.interface))
    {
        return Some(format!(
            "{} is port {} of {}, but carries ssh or the way to the controller: as a port it would cut off the machine; correct the inventory",
            port.interface, port.number, switch.name
        ));
    }
    if machine.service == Service::Systemd && !found.has_systemd {
        return Some("systemd does not run there; write service = \"process\" in the inventory".into());
    }
    if machine.service == Service::Systemd && !found.is_root {
        return Some(format!(
            "{} is not root there and may install no service; write user = \"root\" under [ssh]",
            machine.ssh.user
        ));
    }
    if !found.has_ovs {
        return Some(format!(
            "no Open vSwitch answers there{}; `apt-get install openvswitch-switch`, `systemctl start openvswitch-switch`",
            machine
                .ovs
                .database
                .as_ref()
                .map(|d| format!(" (no socket {})", d.display()))
                .unwrap_or_default()
        ));
    }
    None
}

pub(super) fn deploy(
    ssh: &Ssh,
    inventory: &Inventory,
    binary: &Binary,
    control: &dyn Control,
    options: &Options,
    progress: Progress<'_>,
) -> Report {
    let mut report = Report::new(ssh.machine(), Outcome::Unchanged);
    match try_deploy(ssh, inventory, binary, control, options, progress, &mut report) {
        Ok(outcome) => report.outcome = outcome,
        Err(error) => report.outcome = Outcome::Failed(error),
    }
    report
}

/// The differences between a machine and its inventory.
struct Plan {
    /// Its agent has to be enrolled.
    enrol: bool,
    /// The wanted version is installed, perhaps changed since.
    same_version: bool,
    /// It is installed and unchanged.
    whole: bool,
    /// No version is installed.
    empty: bool,
    /// The steps as text; none when there is no difference.
    steps: Vec<String>,
}

impl Plan {
    /// The outcome when all steps were successful.
    fn outcome(&self) -> Outcome {
        match (self.same_version, self.empty) {
            (true, _) => Outcome::Repaired,
            (false, true) => Outcome::Installed,
            (false, false) => Outcome::Upgraded,
        }
    }
}

fn try_deploy(
    ssh: &Ssh,
    inventory: &Inventory,
    binary: &Binary,
    control: &dyn Control,
    options: &Options,
    progress: Progress<'_>,
    report: &mut Report,
) -> Result<Outcome, String> {
    let machine = ssh.machine();
    let step = |what: &str| progress(&machine.name, what);
    step("looking");
    let found = look(ssh, inventory).map_err(|e| e.to_string())?;
    report.version.clone_from(&found.version);
    obstacle(machine, &found, binary).map_or(Ok(()), Err)?;
    let version = Version::of(inventory, machine, binary);
    let plan = compare(machine, &found, &version, control, options)?;
    let switches: Vec<String> = machine.switches.iter().map(|s| s.name.clone()).collect();
    if !plan.enrol && !options.dry_run {
        // For an agent that was enrolled before its inventory had these switches, or by an earlier
        // release.
        control
            .allow(&machine.name, &switches)
            .map_err(|why| format!("the controller does not let it speak for its switches: {why}"))?;
    }
    if plan.steps.is_empty() {
        if let Some(status) = &found.status {
            note_status(status, report);
        }
        return Ok(Outcome::Unchanged);
    }
    if options.dry_run {
        return Ok(Outcome::WouldDo(plan.steps));
    }
    let folder = version.folder(machine);
    if !plan.whole {
        step("copying");
        copy(ssh, binary, &version, &folder).map_err(|e| e.to_string())?;
    }
    step("examining");
    let agent = format!("{}/tandem-agent --config {}/agent.toml", quote_path(&folder), quote_path(&folder));
    report.notes.extend(examine(ssh, &agent, found.alive)?);
    if plan.enrol {
        step("enrolling");
        enrol(ssh, inventory, &agent, control, &switches)?;
    }
    step("starting");
    if let Some(outcome) = activate(ssh, &version, options.seconds, report)? {
        return Ok(outcome);
    }
    report.version.clone_from(&version.id);
    delete_old_versions(ssh, &version, &found, report);
    if let Ok(now) = look(ssh, inventory)
        && let Some(status) = &now.status
    {
        note_status(status, report);
    }
    Ok(plan.outcome())
}

/// Compares a machine with its inventory and with the controller's record of its agent.
fn compare(
    machine: &Machine,
    found: &Look,
    version: &Version,
    control: &dyn Control,
    options: &Options,
) -> Result<Plan, String> {
    let known =
        control.enrolled(&machine.name).map_err(|why| format!("the controller cannot be asked: {why}"))?;
    let enrol = options.enrol
        || match known {
            Enrolled::Yes => !found.certificate,
            Enrolled::No => true,
            Enrolled::Revoked => {
                return Err(format!("the agent {} was revoked; --enrol takes it in again", machine.name));
            }
        };
    let same_version = found.version == version.id;
    let whole = same_version && found.sums.join("\n") == version.sums;
    let unit = machine.service == Service::Process || found.unit_same;
    let mut steps = Vec::new();
    if !whole {
        steps.push(match (same_version, found.version.is_empty()) {
            (true, _) => format!("write version {} again: it was changed there", version.id),
            (false, true) => format!("install version {}", version.id),
            (false, false) => format!("upgrade from version {} to {}", found.version, version.id),
        });
    }
    if enrol {
        steps.push("enrol".to_owned());
    }
    if whole && !unit {
        steps.push("write the unit again: it was changed there".to_owned());
    }
    if !whole || enrol || !unit || !found.alive {
        steps.push("start and check".to_owned());
    }
    Ok(Plan { enrol, same_version, whole, empty: found.version.is_empty(), steps })
}

/// Copies the program and the files of a version.
fn copy(ssh: &Ssh, binary: &Binary, version: &Version, folder: &Path) -> Result<(), SshError> {
    ssh.put(&binary.bytes, &folder.join("tandem-agent"), 0o755)?;
    for (name, content, mode) in &version.files {
        ssh.put(content.as_bytes(), &folder.join(name), *mode)?;
    }
    Ok(())
}

/// Runs the doctor of the new agent, which has to run at least; its findings are returned for the
/// report, but do not stop the deployment.
fn examine(ssh: &Ssh, agent: &str, alive: bool) -> Result<Vec<String>, String> {
    let doctor = format!("timeout 40 {agent} --json doctor </dev/null");
    let output =
        ssh.try_run("running the new agent's doctor", &doctor, &[], COMMAND).map_err(|e| e.to_string())?;
    let findings: Vec<Finding> = serde_json::from_slice(&output.stdout).map_err(|_| {
        let status = output.status;
        format!(
            "the new agent does not run there (status {status}): {}; nothing was changed, {}",
            if output.stderr.is_empty() { "it says nothing" } else { &output.stderr },
            if alive { "the one before still runs" } else { "none runs" }
        )
    })?;
    let sick = findings.into_iter().filter(|f| f.good == Some(false) && f.what != "certificate");
    Ok(sick.map(|f| format!("doctor: {}: {}", f.what, f.found)).collect())
}

/// Enrols the agent with a token of the controller for these switches.
fn enrol(
    ssh: &Ssh,
    inventory: &Inventory,
    agent: &str,
    control: &dyn Control,
    switches: &[String],
) -> Result<(), String> {
    let machine = ssh.machine();
    let address = format!("{}:{}", inventory.controller.address, inventory.controller.agents);
    let token = control
        .token(&machine.name, &address, switches)
        .map_err(|why| format!("the controller gives no token: {why}"))?;
    // The token goes over standard input: any user there can read a command line.
    let command = format!(
        "mkdir -p -m 700 {} && timeout 50 {agent} enroll --token -",
        quote_path(&machine.path(STATE))
    );
    ssh.run_with("enrolling", &command, token.as_bytes(), COMMAND).map_err(|e| e.to_string())?;
    Ok(())
}

/// Deletes all versions but the new one and the previous one, for a rollback by hand.
fn delete_old_versions(ssh: &Ssh, version: &Version, found: &Look, report: &mut Report) {
    let mut keep = vec![version.id.as_str()];
    if !found.version.is_empty() {
        keep.push(&found.version);
    }
    if let Err(error) = ssh.run("deleting old versions", &script::prune(ssh.machine(), &keep)) {
        report.notes.push(error.to_string());
    }
}

/// Activates the new version and waits for the result; `None` when it is in use.
fn activate(
    ssh: &Ssh,
    version: &Version,
    seconds: u64,
    report: &mut Report,
) -> Result<Option<Outcome>, String> {
    let machine = ssh.machine();
    ssh.run("starting the new agent", &script::start_activation(machine, &version.id, seconds))
        .map_err(|e| e.to_string())?;
    let word = machine.path(&format!("{BASE}/activation"));
    let limit = Duration::from_secs(seconds) + ALLOWANCE;
    let start = Instant::now();
    let mut trouble = String::new();
    let text = loop {
        // If the connection is lost now, the next request opens another one.
        match ssh.get(&word) {
            Ok(Some(text)) => break String::from_utf8_lossy(&text).trim().to_owned(),
            Ok(None) => {}
            Err(error) => trouble = error.to_string(),
        }
        if start.elapsed() > limit {
            let why = if trouble.is_empty() { "the machine does not say how it went" } else { &trouble };
            return Err(format!("{why}; `tandem testbed status` shows what runs there"));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let (word, why) = text.split_once(' ').unwrap_or((&text, ""));
    match word {
        "ok" => Ok(None),
        "connected" => {
            report.notes.push(why.to_owned());
            Ok(None)
        }
        "back" => Ok(Some(Outcome::RolledBack(why.to_owned()))),
        "alone" => {
            report.version.clone_from(&version.id);
            Err(format!("version {} runs, but is {why}", version.id))
        }
        _ => {
            report.version.clear();
            Err(format!("the agent did not come up and is stopped: {why}"))
        }
    }
}

#[derive(Deserialize)]
struct Finding {
    good: Option<bool>,
    what: String,
    found: String,
}

fn note_status(status: &Status, report: &mut Report) {
    if !status.connected {
        report.notes.push(format!("not connected: {}", status.trouble));
    }
    report.notes.extend(status.faults.iter().map(|f| format!("not done: {f}")));
}

pub(super) fn release(ssh: &Ssh, progress: Progress<'_>) -> Report {
    progress(&ssh.machine().name, "giving back");
    let outcome = match ssh.run_with("giving everything back", &script::release(ssh.machine()), &[], FILE) {
        Ok(text) if text == "absent" => Outcome::Nothing("no agent is installed".into()),
        Ok(_) => Outcome::Released,
        Err(error) => Outcome::Failed(error.to_string()),
    };
    Report::new(ssh.machine(), outcome)
}

pub(super) fn remove(ssh: &Ssh, inventory: &Inventory, dry_run: bool, progress: Progress<'_>) -> Report {
    let machine = ssh.machine();
    if dry_run {
        let outcome = match look(ssh, inventory) {
            Ok(found) if found.version.is_empty() => Outcome::Nothing("no agent is installed".into()),
            Ok(found) => Outcome::WouldDo(vec![
                "give bridges and queueing back".into(),
                format!("delete version {} and its state", found.version),
            ]),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        return Report::new(machine, outcome);
    }
    let mut report = release(ssh, progress);
    match &report.outcome {
        Outcome::Released => {}
        Outcome::Failed(why) => {
            report.outcome =
                Outcome::Failed(format!("{why}; what is installed stays, so that it can be tried again"));
            return report;
        }
        _ => {
            // An interrupted deployment may have left a version or a certificate.
            let _ = ssh.run("deleting the agent", &script::delete(machine));
            return report;
        }
    }
    progress(&machine.name, "deleting");
    report.outcome = match ssh.run("deleting the agent", &script::delete(machine)) {
        Ok(_) => Outcome::Removed,
        Err(error) => Outcome::Failed(error.to_string()),
    };
    report
}
