//! Open vSwitch as Debian packages it, over TCP: every protocol that it may be told to speak, two
//! addresses of one controller, restarts. Its own database and daemons, in a namespace and a folder
//! of their own.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_model::{NodeId, Site, site};
use tandem_tests::{can_emulate, program, wait};

const SITE: &str = r#"
name = "interop"
[topology]
shape = "three-tier"
core = 1
aggregation = 1
edge = 2
servers_per_edge = 2
[bandwidth]
gateway = "100 Mbit/s"
core = "50 Mbit/s"
aggregation = "50 Mbit/s"
edge = "20 Mbit/s"
[servers]
cpu = 4
ram = "8 GiB"
disk = "100 GiB"
[statistics]
period = "500 ms"
[discovery]
lldp_period = "500 ms"
lldp_timeout = "5 s"
"#;

/// The controller's two addresses.
const ADDRESSES: [&str; 2] = ["tcp:127.0.0.1:6653", "tcp:127.0.0.2:6653"];
/// Seconds that every rule has to stand: six polls, each of which may repair.
const STANDS: f64 = 3.0;

/// The site's switches as bridges that are cabled, and a controller. Daemons go before the folder.
struct Network {
    controller: Child,
    ovs: Ovs,
    ns: NetNs,
    site: Site,
    version: &'static str,
    folder: tempfile::TempDir,
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.controller.kill();
        let _ = self.controller.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("tandem.log")).unwrap_or_default();
            eprintln!("the controller's log:\n{log}");
        }
    }
}

impl Network {
    /// Bridges that speak these protocols and dial these addresses; everything in sync.
    fn up(protocols: &str, version: &'static str, targets: &[&str]) -> Result<Network> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("site.toml"), SITE)?;
        let ns = NetNs::many(1, link::disable_ipv6)?.pop().context("a namespace")?;
        ns.run(|| Netlink::open().and_then(|mut n| n.batch(&[link::set_up(1, true)])))??;
        let mut command = Command::new(program("tandem")?);
        command
            .args(["--api", &format!("unix:{}", at("api.sock")), "serve", "--site", &at("site.toml")])
            .args(["--openflow", ADDRESSES[0], "--openflow", ADDRESSES[1]])
            .args(["--agents", &format!("unix:{}", at("agents.sock")), "--world", &at("no-world.sock")])
            .args(["--store", &at("store.sqlite")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(at("tandem.log"))?);
        let mut controller = ns.run(|| command.spawn())??;
        let ovs = match ns.run(|| Ovs::start(folder.path())) {
            Ok(Ok(ovs)) => ovs,
            other => {
                let _ = controller.kill();
                let _ = controller.wait();
                other??
            }
        };
        let site = site::read(SITE, "site.toml")?;
        let network = Network { controller, ovs, ns, site, version, folder };
        wait("the controller's API", || network.json(&["notices"]).map(Some))?;
        network.build(protocols, targets)?;
        network.wait_synced()?;
        Ok(network)
    }

    fn build(&self, protocols: &str, targets: &[&str]) -> Result<()> {
        let kind = self.ovs.datapath().kind();
        let topology = &self.site.topology;
        for switch in &topology.switches {
            let name = &switch.name;
            let set = [
                format!("datapath_type={kind}"),
                "fail_mode=secure".to_owned(),
                format!("other-config:datapath-id={}", switch.dpid),
                format!("protocols={protocols}"),
            ];
            let set: Vec<&str> = set.iter().map(String::as_str).collect();
            self.vsctl(&[&["add-br", name, "--", "set", "bridge", name], &set[..]].concat())?;
        }
        for (n, link) in topology.links.iter().enumerate() {
            for (this, other, end) in [("a", "b", link.a), ("b", "a", link.b)] {
                let NodeId::Switch(id) = end.node else { continue };
                let switch = &topology.switch(id).context("a switch")?.name;
                let is_cable = matches!(link.other(end.node).context("two ends")?.node, NodeId::Switch(_));
                let (port, peer) = (format!("{this}{n}"), format!("options:peer={other}{n}"));
                let request = format!("ofport_request={}", end.port);
                let mut arguments =
                    vec!["add-port", switch, &port, "--", "set", "interface", &port, &request];
                arguments.extend(if is_cable { vec!["type=patch", &peer] } else { vec!["type=internal"] });
                self.vsctl(&arguments)?;
                if !is_cable {
                    self.text("ip", &["link", "set", &port, "up"])?;
                }
            }
        }
        for switch in &topology.switches {
            self.dial(&switch.name, targets)?;
        }
        Ok(())
    }

    /// Tells a bridge where its controller is.
    fn dial(&self, switch: &str, targets: &[&str]) -> Result<()> {
        self.vsctl(&[&["set-controller", switch], targets].concat())?;
        Ok(())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(arguments).env("OVS_RUNDIR", self.folder.path()).stdin(Stdio::null());
        Ok(self.ns.run(|| command.output())??)
    }

    fn text(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.run(program, arguments)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        let db = format!("--db=unix:{}", self.ovs.socket().display());
        self.text("ovs-vsctl", &[&[db.as_str(), "--timeout=20"], arguments].concat())
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let api = format!("unix:{}", self.folder.path().join("api.sock").display());
        let program = program("tandem")?.display().to_string();
        Ok(serde_json::from_str(&self.text(&program, &[&["--api", &api, "--json"], arguments].concat())?)?)
    }

    /// Notices of a kind, as texts.
    fn notices(&self, kind: &str) -> Result<Vec<String>> {
        let notices = self.json(&["notices"])?;
        let of = |n: &&Value| n["kind"] == kind;
        Ok(notices.as_array().context("notices")?.iter().filter(of).map(|n| n["text"].to_string()).collect())
    }

    fn switches(&self) -> impl Iterator<Item = &str> {
        self.site.topology.switches.iter().map(|s| s.name.as_str())
    }

    fn wait_synced(&self) -> Result<()> {
        wait("every switch connected and in sync, every cable seen", || {
            let topology = self.json(&["topology"])?;
            let is_synced =
                |s: &Value| s["connected"] == true && s["sync"] == "done" && s["version"] == self.version;
            let switches = topology["switches"].as_array().context("switches")?;
            let links = topology["links"].as_array().context("links")?;
            let is_up = |l: &Value| l["state"] == "confirmed";
            let all = switches.len() == self.site.topology.switches.len() && switches.iter().all(is_synced);
            Ok((all && links.iter().all(is_up)).then_some(()))
        })
    }

    /// The rules in a switch without what counts, and the seconds that the youngest of them stands.
    fn rules(&self, switch: &str) -> Result<(Vec<String>, f64)> {
        let protocol = if self.version == "1.0" { "OpenFlow10" } else { "OpenFlow13" };
        let text = self.text("ovs-ofctl", &["-O", protocol, "dump-flows", switch])?;
        let mut youngest = f64::INFINITY;
        let mut rules = Vec::new();
        for line in text.lines().filter(|l| l.contains("cookie=")) {
            let words: Vec<&str> = line.split([',', ' ']).map(str::trim).collect();
            let seconds = words.iter().find_map(|w| w.strip_prefix("duration=")?.strip_suffix('s'));
            youngest = youngest.min(seconds.context("a duration")?.parse()?);
            let counts = ["duration=", "n_packets=", "n_bytes=", "idle_age=", "hard_age="];
            let kept = words.iter().filter(|w| !counts.iter().any(|c| w.starts_with(c)));
            rules.push(kept.copied().collect::<Vec<_>>().join(" "));
        }
        rules.sort();
        Ok((rules, youngest))
    }

    /// Waits until every rule has stood for so long: a rule that each poll deletes and puts back
    /// never does.
    fn wait_stands(&self, seconds: f64) -> Result<()> {
        for switch in self.switches() {
            wait(&format!("every rule of {switch} has stood for {seconds} s"), || {
                let (rules, youngest) = self.rules(switch)?;
                Ok((!rules.is_empty() && youngest >= seconds).then_some(()))
            })?;
        }
        for kind in ["rules-repaired", "rules-unlike", "rules-refused", "switch-trouble"] {
            let notices = self.notices(kind)?;
            ensure!(notices.is_empty(), "{kind}: {notices:?}");
        }
        Ok(())
    }

    /// Waits until every bridge has as many connections as it has controllers.
    fn wait_dialled(&self) -> Result<()> {
        wait("every target connected", || {
            let text = self.vsctl(&["--bare", "--columns=is_connected", "list", "controller"])?;
            let states: Vec<&str> = text.split_whitespace().collect();
            Ok((!states.is_empty() && states.iter().all(|s| *s == "true")).then_some(()))
        })
    }
}

#[test]
fn rules_are_installed_once_and_stay_whatever_it_speaks() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    for (protocols, version) in
        [("OpenFlow10", "1.0"), ("OpenFlow13", "1.3"), ("OpenFlow10,OpenFlow13", "1.3")]
    {
        let network = Network::up(protocols, version, &ADDRESSES[..1])?;
        network.wait_stands(STANDS).with_context(|| protocols.to_owned())?;
        // Each is one that a repair finds missing.
        for switch in network.switches() {
            let before = network.rules(switch)?.0;
            network.text("ovs-ofctl", &["-O", protocols, "del-flows", switch])?;
            wait("the rules put back", || Ok((network.rules(switch)?.0 == before).then_some(())))?;
        }
    }
    Ok(())
}

/// One connection drives a switch, the other takes over; Open vSwitch keeps its rules, and nobody
/// is told that the switch was gone.
#[test]
fn of_two_addresses_of_one_controller_either_may_be_unplugged() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    for (protocols, version) in [("OpenFlow10", "1.0"), ("OpenFlow13", "1.3")] {
        let network = Network::up(protocols, version, &ADDRESSES)?;
        network.wait_dialled()?;
        network.wait_stands(STANDS)?;
        let start = Instant::now();
        let before: Vec<_> = network.switches().map(|s| network.rules(s)).collect::<Result<_>>()?;
        let ups = network.notices("switch-up")?.len();
        for unplugged in [1, 0] {
            for switch in network.switches() {
                network.dial(switch, &[ADDRESSES[1 - unplugged]])?;
            }
            // The other one, or the same as before: it stays connected, and knows what there is.
            network.wait_synced()?;
            for switch in network.switches() {
                network.dial(switch, &ADDRESSES)?;
            }
            network.wait_dialled()?;
        }
        // Whichever was active was unplugged in one of the rounds.
        let taken_over = network.notices("switch-up")?.len() - ups;
        let count = network.switches().count();
        ensure!(taken_over >= count, "{taken_over} connections have taken over, of {count} switches");
        ensure!(network.notices("switch-down")?.is_empty(), "{:?}", network.notices("switch-down")?);
        network.wait_synced()?;
        network.wait_stands(start.elapsed().as_secs_f64() + STANDS)?;
        for (switch, (rules, _)) in network.switches().zip(before) {
            ensure!(network.rules(switch)?.0 == rules, "{switch} has other rules than before");
        }
    }
    Ok(())
}

#[test]
fn a_restart_of_vswitchd_is_synchronised_anew_over_either_address() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut network = Network::up("OpenFlow13", "1.3", &ADDRESSES)?;
    network.wait_dialled()?;
    let before: Vec<_> = network.switches().map(|s| network.rules(s)).collect::<Result<_>>()?;
    let Network { ns, ovs, .. } = &mut network;
    ns.run(|| ovs.restart_switchd())??;
    for (n, link) in network.site.topology.links.iter().enumerate() {
        for (this, end) in [("a", link.a), ("b", link.b)] {
            let is_cable = matches!(link.other(end.node).context("two ends")?.node, NodeId::Switch(_));
            if matches!(end.node, NodeId::Switch(_)) && !is_cable {
                let port = format!("{this}{n}");
                wait("the port again", || network.text("ip", &["link", "set", &port, "up"]).map(Some))?;
            }
        }
    }
    network.wait_dialled()?;
    for (switch, (rules, _)) in network.switches().zip(before) {
        wait("the rules again", || Ok((network.rules(switch)?.0 == rules).then_some(())))?;
    }
    network.wait_synced()?;
    network.wait_stands(STANDS)
}
