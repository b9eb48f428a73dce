//! A controller whose store is gone, and one that is started by accident beside another: nobody's
//! VMs are touched.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use tandem_tests::pings::Witnesses;
use tandem_tests::{DataCentre, can_emulate_on, program, wait};

const SITE: &str = "name = \"small\"\n[topology]\nshape = \"linear\"\nswitches = 2\nservers_per_switch = 2\n\
    [bandwidth]\nedge = \"20 Mbit/s\"\n[servers]\ncpu = 4\n[vm]\nnet = \"1 Mbit/s\"\n[policy]\nallocation = \"worst-fit\"\n\
    [traffic]\nenabled = false\n";
const GATEWAY: &str = "10.255.255.1";

/// A second controller, killed when dropped.
struct Second {
    child: Child,
    api: String,
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Second {
    fn start(dc: &DataCentre) -> Result<Second> {
        let socket = |name: &str| format!("unix:{}", dc.path(name).display());
        let api = socket("second.sock");
        let log = std::fs::File::create(dc.path("second.log"))?;
        let child = Command::new(program("tandem")?)
            .args(["--api", &api, "serve", "--openflow", &socket("second-openflow.sock")])
            .args(["--agents", &socket("second-agents.sock")])
            .args(["--world", &format!("@tandem-lab/{}/world", dc.name), "--site"])
            .arg(dc.path("site.toml"))
            .arg("--store")
            .arg(dc.path("second.sqlite"))
            .arg("--authority")
            .arg(dc.path("second-agents"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Second { child, api })
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output =
            Command::new(program("tandem")?).args(["--api", &self.api, "--json"]).args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// The text of the first notice of a kind.
fn said(notices: &Value, kind: &str) -> Option<String> {
    let found = notices.as_array()?.iter().find(|n| n["kind"] == kind)?;
    found["text"].as_str().map(str::to_owned)
}

/// The controller is killed and comes back with an empty store: the strays that it lists.
fn lose_store(dc: &mut DataCentre) -> Result<Value> {
    dc.end_controller("-KILL")?;
    for name in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        let _ = std::fs::remove_file(dc.path(name));
    }
    dc.start_controller()?;
    dc.wait_ready()?;
    dc.json(&["vm", "list", "--strays"])
}

/// What says that a VM is the same one that it was: its namespace's own start, and how long its
/// first process has run.
fn identity(dc: &DataCentre, vm: &str) -> Result<String> {
    dc.exec(vm, &["readlink", "/proc/self/ns/net"])
}

/// A second `tandem serve` beside the first one is refused, both are told, and the VMs notice
/// nothing. The first one is killed: the second one, whose store is empty, finds its VMs and leaves
/// them alone.
#[test]
fn a_second_controller_is_refused_and_both_are_told() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let mut dc = DataCentre::up_on(SITE, "soft")?;
    let (id, _) = dc.request_vm()?;
    let vm = format!("vm{id}");
    let before = identity(&dc, &vm)?;
    let second = Second::start(&dc)?;
    let refused = wait("the second one hears that it is refused", || {
        Ok(said(&second.json(&["notices"])?, "world-refused"))
    })?;
    for word in ["serves another controller", "stop that one first", "--world"] {
        ensure!(refused.contains(word), "{refused}");
    }
    let why = second.json(&["vm", "request"]).err().context("a VM of a controller that is refused")?;
    ensure!(why.to_string().contains("serves another controller"), "{why}");
    let told =
        wait("the first one hears of the second", || Ok(said(&dc.json(&["notices"])?, "second-controller")))?;
    ensure!(told.contains("of site small"), "{told}");
    dc.exec(&vm, &["ping", "-c", "3", "-i", "0.2", "-W", "2", GATEWAY])?;
    ensure!(identity(&dc, &vm)? == before, "the VM is another one");
    dc.end_controller("-KILL")?;
    let strays = wait("the second one is served", || {
        let strays = second.json(&["vm", "list", "--strays"])?;
        Ok((strays.as_array().is_some_and(|s| !s.is_empty())).then_some(strays))
    })?;
    ensure!(
        strays[0]["id"].as_u64() == Some(id) && strays[0]["lacks"] == Value::Array(Vec::new()),
        "{strays}"
    );
    ensure!(identity(&dc, &vm)? == before, "the VM is another one");
    Ok(())
}

/// The store is gone, the VMs are not: they are listed as strays, the next VM has nothing of
/// theirs, and adopted they are what they were. One is stopped on request.
#[test]
fn vms_outlive_their_store_and_are_adopted() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let mut dc = DataCentre::up_on(SITE, "soft")?;
    let mut before = BTreeMap::new();
    for n in 0..3 {
        let name = format!("web{n}");
        let size = ["--cpu", "2", "--name", &name, "--timeout", "3600"];
        let vm = dc.json(&[&["vm", "request"][..], &size].concat())?;
        let id = format!("vm{}", vm["id"]);
        before.insert(id.clone(), (vm, identity(&dc, &id)?));
    }
    let strays = lose_store(&mut dc)?;
    let ids: Vec<String> =
        strays.as_array().context("a list")?.iter().map(|s| format!("vm{}", s["id"])).collect();
    ensure!(ids == before.keys().cloned().collect::<Vec<_>>(), "{strays}");
    let told = said(&dc.json(&["notices"])?, "vm-stray").context("strays are told")?;
    ensure!(told.contains("tandem vm adopt"), "{told}");
    ensure!(dc.json(&["vm", "list"])? == Value::Array(Vec::new()), "they are known");

    let (new, address) = dc.request_vm()?;
    ensure!(new == 4, "the next VM is vm{new}");
    for (vm, is) in before.values() {
        ensure!(vm["address"] != Value::String(address.clone()), "{vm}");
        let id = format!("vm{}", vm["id"]);
        ensure!(identity(&dc, &id)? == *is, "{id} is another VM");
    }
    dc.exec(&format!("vm{new}"), &["ping", "-c", "2", "-W", "2", GATEWAY])?;

    dc.tandem(&["vm", "stop-stray", "vm3"])?;
    ensure!(dc.exec("vm3", &["true"]).is_err(), "it was to be stopped");
    dc.tandem(&["vm", "adopt", "vm1"])?;
    dc.tandem(&["vm", "adopt", "--all"])?;
    ensure!(dc.json(&["vm", "list", "--strays"])? == Value::Array(Vec::new()), "all are adopted or stopped");
    for id in ["vm1", "vm2"] {
        let (was, is) = &before[id];
        let now = dc.json(&["vm", "show", id])?;
        for field in ["address", "mac", "server", "gateway", "request", "placed_at"] {
            ensure!(now[field] == was[field], "{id}: {field} is {} and was {}", now[field], was[field]);
        }
        ensure!(identity(&dc, id)? == *is, "{id} is another VM");
        dc.exec(id, &["ping", "-c", "2", "-W", "2", GATEWAY])?;
    }
    // What is adopted is in the store, and is as any other VM for the next controller.
    dc.end_controller("-KILL")?;
    dc.start_controller()?;
    dc.wait_ready()?;
    ensure!(dc.json(&["vm", "list"])?.as_array().map(Vec::len) == Some(3), "a VM was lost");
    ensure!(dc.json(&["vm", "list", "--strays"])? == Value::Array(Vec::new()), "a VM is not known");
    dc.tandem(&["vm", "delete", "vm1"])?;
    ensure!(dc.exec("vm1", &["true"]).is_err(), "it was deleted");
    Ok(())
}

/// The seconds that pings go on while the controller is away, comes back without its store, and
/// learns what runs.
const WITNESSED: u32 = 20;

/// VMs ping their gateway and each other, 100 times a second, while their controller is killed,
/// comes back with an empty store, and adopts them: nothing is lost. What is stopped then has no
/// rules any more.
fn strays_keep_their_network(mut dc: DataCentre) -> Result<()> {
    let mut vms = Vec::new();
    for _ in 0..3 {
        vms.push(dc.request_vm()?);
    }
    let names: Vec<String> = vms.iter().map(|(id, _)| format!("vm{id}")).collect();
    dc.tandem(&["group", "create", &vms[0].1, &vms[1].1])?;
    let mut ways: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), GATEWAY)).collect();
    ways.push((&names[0], &vms[1].1));
    let witnesses = Witnesses::start(&dc, &ways, WITNESSED * 100)?;
    let strays = lose_store(&mut dc)?;
    let served = strays.as_array().context("a list")?.iter().filter(|s| s["unserved"].is_null()).count();
    ensure!(served == vms.len(), "{strays}");
    // They go on for longer than it takes until flows are read, and would be put right, several
    // times.
    witnesses.lost_nothing("a controller came back without its store")?;
    ensure!(!dc.notice("rules-repaired")?, "a switch had other rules than it should have");

    // By hand, so that nothing is known of the gateway: it is asked for, and answered.
    for name in &names {
        dc.exec(name, &["ip", "neigh", "flush", "all"])?;
    }
    let ways: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), GATEWAY)).collect();
    let witnesses = Witnesses::start(&dc, &ways[..2], 300)?;
    dc.tandem(&["vm", "adopt", &names[0]])?;
    witnesses.lost_nothing("one was adopted")?;
    ensure!(dc.tandem(&["rules"])?.contains(&names[2]), "it has no rules");
    dc.tandem(&["vm", "stop-stray", &names[2]])?;
    ensure!(!dc.tandem(&["rules"])?.contains(&names[2]), "its rules are still wanted");
    dc.exec(&names[1], &["ping", "-c", "2", "-W", "2", GATEWAY])?;
    Ok(())
}

#[test]
fn strays_keep_their_network_on_soft_switches() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    strays_keep_their_network(DataCentre::up_on(SITE, "soft")?)
}

#[test]
fn strays_keep_their_network_on_open_vswitch() -> Result<()> {
    if !can_emulate_on("ovs") {
        return Ok(());
    }
    strays_keep_their_network(DataCentre::up_on(SITE, "ovs")?)
}

#[test]
fn strays_keep_their_network_on_switches_with_one_table() -> Result<()> {
    if !can_emulate_on("ovs") {
        return Ok(());
    }
    strays_keep_their_network(DataCentre::up_speaking(SITE, Some("OpenFlow10"))?)
}
