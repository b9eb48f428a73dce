//! What is measured on: one switch of a kind, made by a real agent, with four wires to ends in
//! namespaces of their own.
//!
//! ```text
//! end 1 --+           +-- end 2     port 2 has a rate, so that it can be backlogged
//!         +-- switch -+
//! end 3 --+           +-- end 4     1 <-> 2 and 3 <-> 4 are forwarded
//! ```

use crate::bench::agent::Agent;
use crate::controller_process;
use crate::openflow_client::{self, OpenFlowClient};
use crate::world::emulated::datapath;
use anyhow::Context;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tandem_agent_protocol::datapaths::DatapathDescription;
use tandem_linux::link::{self, Veth};
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_openflow::of13::{Action, Field, Match};

/// The rate of port 2.
pub(super) const SLOW: &str = "10 Mbit/s";
/// Cookie of the flows that forward.
const FORWARD: u64 = 1;
const SWITCH: &str = "sw";

/// One switch with four ends. The wires are there as long as their ends.
pub(super) struct Testbench {
    pub(super) client: OpenFlowClient,
    ends: Vec<NetNs>,
    control: PathBuf,
    _agent: Agent,
    _ovs: Option<Ovs>,
}

/// The address of an end, 1 to 4.
pub(super) fn address(end: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, end)
}

fn mac(end: u8) -> [u8; 6] {
    [2, 9, 0, 0, 0, end]
}

/// The interface number of an end in its namespace.
pub(super) fn index(end: u8) -> u32 {
    200 + u32::from(end)
}

fn wires() -> anyhow::Result<Vec<NetNs>> {
    let here = NetNs::current()?;
    let ends = NetNs::many(4, link::disable_ipv6)?;
    let mut requests = Vec::new();
    for (end, ns) in (1..).zip(&ends) {
        let near = format!("{SWITCH}p{end}");
        let far = format!("end{end}");
        let veth = Veth::new((&near, 100 + u32::from(end), &here), (&far, index(end), ns));
        requests.push(veth.mac_b(mac(end)).request());
    }
    Netlink::open()?.batch(&requests)?;
    for (end, ns) in (1..).zip(&ends) {
        let mut requests = vec![link::set_up(index(end), true), link::address(index(end), address(end), 24)];
        let others = (1..=4).filter(|other| *other != end);
        requests.extend(others.map(|other| link::neighbour(index(end), address(other), mac(other))));
        ns.run(|| Netlink::open()?.batch(&requests))??;
    }
    Ok(ends)
}

fn configuration(datapath: &DatapathDescription, folder: &Path) -> (String, String) {
    let at = |name: &str| format!("{:?}", folder.join(name).display().to_string());
    let mut config = format!(
        "name = \"datapaths\"\ncontroller = {:?}\nstate = {}\ncontrol = {}\ninitial = {}\n[ovs]\ndatabase = {}\n\
         pid_file = {}\n[[switch]]\nname = \"{SWITCH}\"\ndatapath = {:?}\n",
        controller_process::agents(folder),
        at("state"),
        at("control.sock"),
        at("initial.toml"),
        at("db.sock"),
        at("vswitchd.pid"),
        datapath.name,
    );
    let mut initial = format!("[[switch]]\nname = \"{SWITCH}\"\ndatapath_id = \"0000000000000001\"\n");
    config.push_str(&datapath.lab.switch);
    for port in 1..=4 {
        let text = format!("[[switch.port]]\nnumber = {port}\ninterface = \"{SWITCH}p{port}\"\n");
        config.push_str(&text);
        initial.push_str(&text);
        config.push_str(datapath.lab.ports.get(port - 1).map_or("", String::as_str));
        if port == 2 {
            let _ = writeln!(initial, "rate = {SLOW:?}");
        }
    }
    (config, initial)
}

impl Testbench {
    /// Made, connected to, and forwarding.
    pub(super) fn make(datapath: &DatapathDescription, folder: &Path) -> anyhow::Result<Testbench> {
        let ends = wires()?;
        let ovs = datapath.lab.needs_open_vswitch.then(|| Ovs::start(folder)).transpose()?;
        if let Some(ovs) = &ovs {
            let pid = ovs.switchd().context("vswitchd runs")?.to_string();
            std::fs::write(folder.join("vswitchd.pid"), pid)?;
        }
        let (config, initial) = configuration(datapath, folder);
        std::fs::write(folder.join("agent.toml"), config)?;
        std::fs::write(folder.join("initial.toml"), initial)?;
        let mut agent = Agent::start(folder)?;
        agent.wait(|s| s["applied"] == true)?;
        let socket = datapath::management(datapath, folder, &folder.join("state"), SWITCH)?;
        let mut client = OpenFlowClient::connect(&socket)?;
        let forward = [(1, 2), (2, 1), (3, 4), (4, 3)].map(|(from, to)| {
            let matching = Match { fields: vec![Field::InPort(from)] };
            openflow_client::add(FORWARD, 100, matching, openflow_client::apply(vec![Action::output(to)]))
        });
        client.must(&forward)?;
        Ok(Testbench { client, ends, control: folder.join("control.sock"), _agent: agent, _ovs: ovs })
    }

    /// Works in the namespace of an end, 1 to 4.
    pub(super) fn at<T: Send>(
        &self,
        end: u8,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let ns = self.ends.get(usize::from(end) - 1).context("there are four ends")?;
        ns.run(work)?
    }

    /// Where the flows of a cookie live, as `tandem-agent flows` shows it; `None` where the agent
    /// sees none of them (Open vSwitch).
    pub(super) fn places(&self, cookie: u64) -> anyhow::Result<Option<Vec<String>>> {
        let stream = UnixStream::connect(&self.control)?;
        writeln!(&stream, "flows")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let views: Value = serde_json::from_str(&line)?;
        let Some(flows) = views[0][1]["flows"].as_array() else { return Ok(None) };
        let own = flows.iter().filter(|f| f["cookie"] == cookie);
        Ok(Some(own.map(|f| f["place"].as_str().unwrap_or("software").to_owned()).collect()))
    }
}
