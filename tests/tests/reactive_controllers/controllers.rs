//! The controllers of others, and how each is started.

use anyhow::Result;
use std::path::Path;
use std::process::Command;
use tandem_tests::foreign_controllers::Tools;

/// Where they listen, in a namespace of their own.
const PORT: u16 = 6653;

/// A controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Controller {
    /// What it is called.
    pub(crate) name: &'static str,
    /// The OpenFlow versions that its switch may speak.
    pub(crate) protocols: &'static str,
    /// Its flows have time-outs of seconds.
    pub(crate) flows_expire: bool,
    /// It takes back what it said of a MAC address that is somewhere else now.
    pub(crate) takes_back: bool,
    start: fn(&Tools, &Path) -> Result<Command>,
}

/// Faucet: two tables and more, VLANs, rules that it puts in before there is a packet.
pub(crate) const FAUCET: Controller = Controller {
    name: "Faucet",
    protocols: r#""OpenFlow10", "OpenFlow13""#,
    flows_expire: true,
    takes_back: true,
    start: faucet,
};

/// os-ken's learning switch for OpenFlow 1.0: a flow for each pair, without time-outs, by buffers
/// of the switch.
pub(crate) const SIMPLE_10: Controller = Controller {
    name: "simple_switch",
    protocols: r#""OpenFlow10", "OpenFlow13""#,
    flows_expire: false,
    takes_back: false,
    start: |tools, _| Ok(tools.manager(PORT, &tools.simple("simple_switch"))),
};

/// The same for OpenFlow 1.3.
pub(crate) const SIMPLE_13: Controller = Controller {
    name: "simple_switch_13",
    start: |tools, _| Ok(tools.manager(PORT, &tools.simple("simple_switch_13"))),
    ..SIMPLE_10
};

/// Open vSwitch's: a flow for each pair, which expires.
pub(crate) const TESTCONTROLLER: Controller = Controller {
    name: "ovs-testcontroller",
    protocols: r#""OpenFlow10", "OpenFlow13""#,
    flows_expire: true,
    takes_back: false,
    start: testcontroller,
};

/// Seconds after which flows of ovs-testcontroller expire that nobody uses.
const IDLE: u32 = 3;
/// Seconds that Faucet remembers a host that says nothing: the least that it takes.
const FORGET: u32 = 16;
/// Seconds after which it asks for one's address again: less than half of that.
const ASK: u32 = 7;
/// The fields of a packet that flows of ovs-testcontroller leave open (OFPFW_*, OpenFlow 1.0
/// section 5.2.3): all but the port and the two MAC addresses. By default it matches all, and of a
/// packet that it was sent the first 128 bytes of it then matches another one: it takes what was
/// cut off for a packet that is broken.
const OPEN: &str = "0x3ffff2";

fn faucet(tools: &Tools, folder: &Path) -> Result<Command> {
    let interfaces: String = (1..=4).map(|n| format!("      {n}: {{native_vlan: office}}\n")).collect();
    let text = format!(
        "vlans:\n  office: {{vid: 100}}\ndps:\n  sw1:\n    dp_id: 1\n    hardware: \"Open vSwitch\"\n    timeout: {FORGET}\n    \
         arp_neighbor_timeout: {ASK}\n    nd_neighbor_timeout: {ASK}\n    interfaces:\n{interfaces}"
    );
    let path = folder.join("faucet.yaml");
    std::fs::write(&path, text)?;
    let mut command = tools.manager(PORT, "faucet.faucet");
    command
        .env("FAUCET_CONFIG", path)
        .env("FAUCET_LOG", folder.join("faucet.log"))
        .env("FAUCET_EXCEPTION_LOG", folder.join("faucet.exceptions"))
        .env("FAUCET_EVENT_SOCK", "");
    Ok(command)
}

fn testcontroller(tools: &Tools, folder: &Path) -> Result<Command> {
    let mut command = tools.testcontroller();
    let socket = folder.join("testcontroller.ctl");
    // A process that was killed leaves its socket.
    let _ = std::fs::remove_file(&socket);
    command.arg(format!("--max-idle={IDLE}")).arg(format!("--unixctl={}", socket.display()));
    command.arg(format!("--wildcards={OPEN}")).args(["-O", "OpenFlow10,OpenFlow13", &format!("ptcp:{PORT}")]);
    Ok(command)
}

impl Controller {
    /// What starts it, with files in a folder.
    pub(crate) fn command(&self, tools: &Tools, folder: &Path) -> Result<Command> {
        (self.start)(tools, folder)
    }
}
