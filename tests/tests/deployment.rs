//! Agents deployed by `tandem testbed deploy` over a real sshd, to a machine that is a network
//! namespace with an Open vSwitch of its own and a folder as its root: from nothing to a running
//! agent and back, and what happens when something goes wrong in between.

use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;
use tandem_tests::sshd::{Sshd, can_ssh};
use tandem_tests::{can_emulate, program, wait};

const SITE: &str = "name = \"loopback\"\n[topology]\nshape = \"linear\"\nswitches = 2\nservers_per_switch = 1\n\
    [statistics]\nperiod = \"1 s\"\n";

/// A machine, a controller, and what is needed to deploy; gone with all of its processes when
/// dropped.
struct Bed {
    folder: tempfile::TempDir,
    sshd: Option<Sshd>,
    /// In order of their end: controller, vswitchd, database, the namespace's holder.
    children: Vec<Child>,
    namespace: u32,
    /// What stands in the inventory besides: another machine.
    more: String,
}

fn can_deploy() -> bool {
    can_emulate() && can_ssh()
}

impl Bed {
    fn new() -> anyhow::Result<Bed> {
        let folder = tempfile::Builder::new().prefix("tandem-deploy-").tempdir()?;
        // It lives as long as its input is open, and that is as long as this process.
        let holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "ip link set lo up; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let namespace = holder.id();
        let mut bed = Bed { folder, sshd: None, children: vec![holder], namespace, more: String::new() };
        let outside = std::fs::read_link("/proc/self/ns/net")?;
        wait("the namespace", || {
            let is = std::fs::read_link(format!("/proc/{namespace}/ns/net"))?;
            Ok((is != outside && bed.run("ip", &["-o", "link", "show", "up", "dev", "lo"])?.contains("lo"))
                .then_some(()))
        })?;
        for port in ["p1", "p2"] {
            bed.run("ip", &["link", "add", port, "type", "veth", "peer", "name", &format!("{port}-far")])?;
            bed.run("ip", &["link", "set", port, "up"])?;
            bed.run("ip", &["link", "set", &format!("{port}-far"), "up"])?;
        }
        bed.start_ovs()?;
        bed.sshd = Some(Sshd::start_in(bed.folder.path(), Some(namespace))?);
        bed.start_controller()?;
        Ok(bed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn sshd(&self) -> &Sshd {
        self.sshd.as_ref().expect("it runs")
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &self.namespace.to_string(), "--", program]).stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.inside(program).args(arguments).output()?;
        anyhow::ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn start(&mut self, program: &str, arguments: &[String]) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("daemons.log"))?;
        let mut command = self.inside(program);
        for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(name, self.folder.path());
        }
        let child = command.args(arguments).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.children.insert(0, child);
        Ok(())
    }

    fn start_ovs(&mut self) -> anyhow::Result<()> {
        let at = |name: &str| self.path(name).display().to_string();
        let (database, socket) = (at("conf.db"), at("db.sock"));
        self.run("ovsdb-tool", &["create", &database, "/usr/share/openvswitch/vswitch.ovsschema"])?;
        let server =
            vec![database, format!("--remote=punix:{socket}"), format!("--unixctl={}", at("db.ctl"))];
        let switchd = vec![
            format!("unix:{socket}"),
            format!("--unixctl={}", at("vswitchd.ctl")),
            format!("--pidfile={}", at("vswitchd.pid")),
            "--disable-system".to_owned(),
        ];
        self.start("ovsdb-server", &server)?;
        wait("the database", || self.vsctl(&["init"]).map(Some))?;
        self.start("ovs-vswitchd", &switchd)?;
        wait("vswitchd", || Ok(self.path("vswitchd.pid").exists().then_some(())))
    }

    fn vsctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let database = format!("--db=unix:{}", self.path("db.sock").display());
        self.run("ovs-vsctl", &[&["--no-wait", "--timeout=10", &database], arguments].concat())
    }

    fn start_controller(&mut self) -> anyhow::Result<()> {
        std::fs::write(self.path("site.toml"), SITE)?;
        let at = |name: &str| self.path(name).display().to_string();
        // The namespace is ours alone: nobody else takes its ports.
        let arguments = [
            "--api",
            &format!("unix:{}", at("api.sock")),
            "serve",
            "--site",
            &at("site.toml"),
            "--store",
            &at("store.sqlite"),
            "--openflow",
            "tcp:127.0.0.1:6653",
            "--agents",
            "tcp:127.0.0.1:6655",
            "--world",
            &at("no-world.sock"),
        ]
        .map(str::to_owned);
        let program = program("tandem")?.display().to_string();
        self.start(&program, &arguments)?;
        wait("the controller", || {
            self.tandem(&["agent", "list"]).and_then(|(ok, text)| if ok { Ok(Some(())) } else { bail!(text) })
        })
    }

    /// `tandem ARGUMENTS`: whether it succeeded, and what it said.
    fn tandem(&self, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let output = Command::new(program("tandem")?)
            .args(["--api", &format!("unix:{}", self.path("api.sock").display()), "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    fn write_inventory(&self, port: &str) -> anyhow::Result<String> {
        let text = format!(
            "name = \"loopback\"\n[controller]\naddress = \"127.0.0.1\"\nagents = 6655\n{ssh}\
             [[machine]]\nname = \"m1\"\naddress = \"127.0.0.1\"\nservice = \"process\"\nroot = \"{root}\"\ncontrol = \"eth9\"\n\
             [machine.ovs]\ndatabase = \"{folder}/db.sock\"\npid_file = \"{folder}/vswitchd.pid\"\ndatapath = \"userspace\"\n\
             [[machine.switch]]\nname = \"edge1\"\n[[machine.switch.port]]\nnumber = 1\ninterface = \"{port}\"\n\
             [[machine.switch.port]]\nnumber = 2\ninterface = \"p2\"\n{more}",
            ssh = self.sshd().section(),
            root = self.root().display(),
            folder = self.folder.path().display(),
            more = self.more,
        );
        let file = self.path("inventory.toml");
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }

    fn testbed(&self, verb: &[&str]) -> anyhow::Result<(bool, String)> {
        let inventory = self.write_inventory("p1")?;
        self.tandem(&[&["testbed"], verb, &["--inventory", &inventory]].concat())
    }

    /// Deploys; what became of m1 and the whole answer.
    fn deploy(&self, agent: &Path, more: &[&str]) -> anyhow::Result<(String, Value)> {
        let agent = agent.display().to_string();
        let (_, text) = self.testbed(&[&["deploy", "--agent", &agent], more].concat())?;
        // What is said besides, as of a lock that could not be given back, comes behind it.
        let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let reports = values.next().with_context(|| text.clone())?.with_context(|| text.clone())?;
        let outcome = reports[0]["outcome"].as_str().with_context(|| text.clone())?.to_owned();
        Ok((outcome, reports))
    }

    /// The agent's status and its process, as the machine has them.
    fn status(&self) -> anyhow::Result<Value> {
        let (_, text) = self.testbed(&["status"])?;
        Ok(serde_json::from_str::<Value>(&text).with_context(|| text.clone())?[0].clone())
    }

    fn pid(&self) -> anyhow::Result<u32> {
        Ok(std::fs::read_to_string(self.root().join("run/tandem-agent/agent.pid"))?.trim().parse()?)
    }

    /// Every file below the root, with when it was changed.
    fn files(&self) -> anyhow::Result<BTreeMap<PathBuf, SystemTime>> {
        let mut open = vec![self.root()];
        let mut files = BTreeMap::new();
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                } else {
                    files.insert(entry.path(), entry.path().symlink_metadata()?.modified()?);
                }
            }
        }
        Ok(files)
    }

    /// The agent as it was built, with bytes behind its end that nobody reads: another version.
    fn version(&self, name: &str) -> anyhow::Result<PathBuf> {
        let mut bytes = std::fs::read(program("tandem-agent")?)?;
        bytes.extend(name.as_bytes());
        let path = self.path(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // The agent is no child of ours: by its number, if it is still ours.
        if let Ok(pid) = self.pid()
            && std::fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe.starts_with(self.folder.path()))
        {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        drop(self.sshd.take());
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for log in ["daemons.log", "root/var/log/tandem-agent.log"] {
                let text = std::fs::read_to_string(self.path(log)).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(15).collect();
                eprintln!("{log}:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
    }
}

/// Replaces a text in a program by another one of the same length.
fn patched(program: &[u8], from: &str, to: &str) -> anyhow::Result<Vec<u8>> {
    assert_eq!(from.len(), to.len());
    let mut bytes = program.to_vec();
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| *w == from.as_bytes())
        .map(|(n, _)| n)
        .collect();
    anyhow::ensure!(!places.is_empty(), "{from:?} is not in the program");
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    Ok(bytes)
}

#[test]
fn from_nothing_to_a_running_agent_and_back() -> anyhow::Result<()> {
    if !can_deploy() {
        return Ok(());
    }
    let mut bed = Bed::new()?;
    let first = bed.version("first")?;

    // What would be done is said, and nothing is.
    let (outcome, reports) = bed.deploy(&first, &["--dry-run"])?;
    assert_eq!(outcome, "would-do", "{reports}");
    assert!(bed.files()?.is_empty(), "{:?}", bed.files()?);

    // A machine that is not reached is told, and the other one goes on.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    bed.more = format!(
        "[[machine]]\nname = \"m2\"\naddress = \"127.0.0.1\"\ncontrol = \"eth0\"\n[machine.ssh]\nport = {nobody}\n\
         [[machine.switch]]\nname = \"edge2\"\n"
    );
    let start = std::time::Instant::now();
    let (outcome, reports) = bed.deploy(&first, &[])?;
    eprintln!("installed in {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(outcome, "installed", "{reports}");
    assert_eq!(reports[1]["outcome"], "failed", "{reports}");
    assert!(reports[1]["what"].as_str().unwrap_or_default().contains("cannot reach 127.0.0.1"), "{reports}");
    bed.more.clear();
    let status = bed.status()?;
    assert_eq!(status["agent"]["connected"], true, "{status}");
    assert_eq!(status["agent"]["applied"], true, "{status}");
    assert_eq!(status["holder"], Value::Null, "the lock was given back: {status}");
    assert_eq!(bed.vsctl(&["list-br"])?, "edge1");

    // What is there becomes a site file.
    let inventory = bed.write_inventory("p1")?;
    let found = bed.path("found.toml");
    let (ok, text) =
        bed.tandem(&["site", "discover", "--inventory", &inventory, "--out", &found.display().to_string()])?;
    assert!(ok, "{text}");
    let text = std::fs::read_to_string(&found)?;
    let site = tandem_model::site::read(&text, "found.toml").map_err(|f| anyhow::anyhow!("{f}\n{text}"))?;
    assert_eq!(site.topology.switches.len(), 1);
    assert!(
        text.contains("edge1.1") && text.contains("FILL IN: no machine of the inventory is gw1"),
        "{text}"
    );
    let (ok, text) =
        bed.tandem(&["site", "discover", "--inventory", &inventory, "--out", &found.display().to_string()])?;
    assert!(!ok && text.contains("choose another --out"), "{text}");

    // A second time there is nothing to do, and nothing is touched.
    let (files, pid) = (bed.files()?, bed.pid()?);
    let (outcome, reports) = bed.deploy(&first, &[])?;
    assert_eq!(outcome, "unchanged", "{reports}");
    let changed: Vec<_> = bed.files()?.into_iter().filter(|f| files.get(&f.0) != Some(&f.1)).collect();
    let changed: Vec<_> = changed.into_iter().filter(|(p, _)| !p.ends_with("tandem-agent.log")).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(bed.pid()?, pid);

    // Somebody else's hand is on it.
    let (ok, id) = bed.testbed(&["lock", "--purpose", "cabling"])?;
    assert!(ok, "{id}");
    let second = bed.version("second")?;
    let (ok, refused) = bed.testbed(&["deploy", "--agent", &second.display().to_string()])?;
    assert!(!ok && refused.contains("cabling"), "{refused}");
    assert_eq!(bed.pid()?, pid);

    // An upgrade, under that lock: the bridge is the same one all the time.
    let bridge = bed.vsctl(&["get", "bridge", "edge1", "_uuid"])?;
    let (outcome, reports) = bed.deploy(&second, &["--lock", id.trim()])?;
    assert_eq!(outcome, "upgraded", "{reports}");
    let (ok, text) = bed.testbed(&["unlock", "--id", id.trim()])?;
    assert!(ok, "{text}");
    assert_ne!(bed.pid()?, pid);
    assert_eq!(bed.vsctl(&["get", "bridge", "edge1", "_uuid"])?, bridge);

    // What somebody changed there is mended.
    std::fs::write(bed.root().join("opt/tandem/current/agent.toml"), "name = \"m1\"\n")?;
    let (outcome, reports) = bed.deploy(&second, &[])?;
    assert_eq!(outcome, "repaired", "{reports}");
    let (outcome, _) = bed.deploy(&second, &[])?;
    assert_eq!(outcome, "unchanged");

    // Given back, then taken again.
    let (ok, text) = bed.testbed(&["release"])?;
    assert!(ok, "{text}");
    assert_eq!(bed.vsctl(&["list-br"])?, "");
    let (outcome, reports) = bed.deploy(&second, &[])?;
    assert_eq!(outcome, "repaired", "{reports}");
    wait("the bridge", || Ok((bed.vsctl(&["list-br"])? == "edge1").then_some(())))?;

    // And gone.
    let pid = bed.pid()?;
    let (ok, text) = bed.testbed(&["deploy", "--remove"])?;
    assert!(ok && text.contains("removed"), "{text}");
    assert_eq!(bed.vsctl(&["list-br"])?, "");
    assert!(bed.files()?.is_empty(), "{:?}", bed.files()?);
    // A process that has ended has no program any more, whether or not it was buried.
    assert!(std::fs::read_link(format!("/proc/{pid}/exe")).is_err(), "the agent still runs");
    assert!(bed.sshd().folder.join("authorized_keys").exists());
    Ok(())
}

#[test]
fn a_version_that_does_not_come_up_is_replaced_by_the_one_before() -> anyhow::Result<()> {
    if !can_deploy() {
        return Ok(());
    }
    let bed = Bed::new()?;
    let good = bed.version("good")?;
    let (outcome, reports) = bed.deploy(&good, &[])?;
    assert_eq!(outcome, "installed", "{reports}");
    let version = reports[0]["version"].clone();
    let back = |what: &str| -> anyhow::Result<()> {
        wait("the version before is connected again", || {
            let status = bed.status()?;
            Ok((status["agent"]["installed"] == version && status["agent"]["connected"] == true)
                .then_some(()))
        })
        .with_context(|| what.to_owned())
    };

    // One that does nothing but end is found out before anything is changed.
    let pid = bed.pid()?;
    let (outcome, reports) = bed.deploy(Path::new("/bin/false"), &[])?;
    assert_eq!(outcome, "failed", "{reports}");
    assert!(
        reports[0]["what"].as_str().unwrap_or_default().contains("the one before still runs"),
        "{reports}"
    );
    assert_eq!(bed.pid()?, pid);

    // One whose doctor is well, and that ends as soon as it is to work.
    let source = bed.path("ends.c");
    let text = "#include <stdio.h>\n#include <string.h>\nint main(int n, char **a) {\n\
        for (int i = 1; i < n; i++) if (!strcmp(a[i], \"doctor\")) { puts(\"[]\"); return 0; }\n\
        fputs(\"no licence\\n\", stderr); return 3; }\n";
    std::fs::write(&source, text)?;
    let ends = bed.path("ends");
    let built = Command::new("cc").arg("-o").arg(&ends).arg(&source).status().context("cc; package gcc")?;
    anyhow::ensure!(built.success(), "cc failed");
    let (outcome, reports) = bed.deploy(&ends, &[])?;
    assert_eq!(outcome, "rolled-back", "{reports}");
    assert!(reports[0]["what"].as_str().unwrap_or_default().contains("no licence"), "{reports}");
    back("after one that ends")?;

    // One that runs and answers, but speaks of another service than the controller's: it never
    // connects.
    let mute = bed.path("mute");
    std::fs::write(&mute, patched(&std::fs::read(&good)?, "Agents/Attach", "Agents/Attack")?)?;
    let (outcome, reports) = bed.deploy(&mute, &["--wait", "4"])?;
    assert_eq!(outcome, "rolled-back", "{reports}");
    assert!(
        reports[0]["what"].as_str().unwrap_or_default().contains("not connected within 4 s"),
        "{reports}"
    );
    back("after one that never connects")?;
    assert_eq!(bed.vsctl(&["list-br"])?, "edge1");

    // On a machine that had none, there is none afterwards.
    let (ok, text) = bed.testbed(&["deploy", "--remove"])?;
    assert!(ok, "{text}");
    let (outcome, reports) = bed.deploy(&ends, &[])?;
    assert_eq!(outcome, "failed", "{reports}");
    assert_eq!(bed.status()?["agent"]["alive"], false);
    Ok(())
}

#[test]
fn a_cable_that_is_pulled_leaves_the_old_version_running() -> anyhow::Result<()> {
    if !can_deploy() {
        return Ok(());
    }
    let bed = Bed::new()?;
    let (outcome, reports) = bed.deploy(&bed.version("old")?, &[])?;
    assert_eq!(outcome, "installed", "{reports}");
    let (pid, version) = (bed.pid()?, reports[0]["version"].clone());
    let new = bed.version("new")?;
    // In the middle of the copy.
    bed.sshd().cut_after(4 << 20);
    let (outcome, reports) = bed.deploy(&new, &[])?;
    assert_eq!(outcome, "failed", "{reports}");
    assert!(bed.sshd().was_cut());
    bed.sshd().mend();
    let status = bed.status()?;
    assert_eq!(status["agent"]["installed"], version, "{status}");
    assert_eq!(status["agent"]["connected"], true, "{status}");
    assert_eq!(bed.pid()?, pid);
    // The dead holder's lock is told and broken on request; then it goes on where it stopped.
    let (ok, text) = bed.testbed(&["unlock", "--break"])?;
    assert!(ok, "{text}");
    let (outcome, reports) = bed.deploy(&new, &[])?;
    assert_eq!(outcome, "upgraded", "{reports}");
    Ok(())
}

#[test]
fn an_interface_that_carries_ssh_is_refused_as_a_port() -> anyhow::Result<()> {
    if !can_deploy() {
        return Ok(());
    }
    let bed = Bed::new()?;
    let inventory = bed.write_inventory("lo")?;
    let agent = bed.version("agent")?.display().to_string();
    let (ok, text) = bed.tandem(&["testbed", "deploy", "--inventory", &inventory, "--agent", &agent])?;
    assert!(!ok && text.contains("would cut off the machine"), "{text}");
    assert!(bed.files()?.is_empty(), "{:?}", bed.files()?);
    Ok(())
}
