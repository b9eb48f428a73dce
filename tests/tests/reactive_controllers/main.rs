//! The life of a soft switch under controllers of others, as users have them: over TCP, with hosts
//! that ping each other.
//!
//! Each controller sees the same: hosts that it does not know, much traffic, silence, a host that
//! is somewhere else, its own restart, the switch's. `tests/conformance/install` installs them,
//! once.

mod controllers;
mod network;

use anyhow::{Context, Result, ensure};
use controllers::Controller;
use network::Network;
use tandem_tests::foreign_controllers::Tools;
use tandem_tests::{can_emulate_on, wait};

/// Packets in a row of which none may be lost.
const PACKETS: u32 = 2000;

/// The hosts as (host, whose addresses it has).
const BEFORE: [(u8, u8); 3] = [(1, 1), (2, 2), (3, 3)];
/// Host 4 has taken the place of host 3.
const AFTER: [(u8, u8); 3] = [(1, 1), (2, 2), (4, 3)];

fn life_under(controller: Controller) -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let Some(tools) = Tools::if_installed()? else { return Ok(()) };
    let mut network = Network::up(controller, tools)?;
    live(&mut network, controller).with_context(|| format!("{}; {}", controller.name, network.logs()))
}

fn live(network: &mut Network, controller: Controller) -> Result<()> {
    network.wait_connected()?;
    network.wait_all_reach(&BEFORE)?;
    forwards_by_its_flows(network)?;
    if controller.flows_expire {
        wait("silence: flows to host 2 expire", || Ok(network.flows_to(2, 2)?.is_empty().then_some(())))?;
        network.wait_all_reach(&BEFORE)?;
    }
    moves(network, controller)?;
    survives_its_controller(network)?;
    network.kill_agent();
    network.start_agent()?;
    network.wait_connected()?;
    network.wait_all_reach(&AFTER)
}

/// The controller has said where host 2 is, and what is for it goes there without loss, and not by
/// the controller.
fn forwards_by_its_flows(network: &Network) -> Result<()> {
    let (one, two) = (network.host(1)?, network.host(2)?);
    let count = PACKETS.to_string();
    let lost = one.ping(2, &["-f", "-s", "1400", "-c", &count])?;
    ensure!(lost == 0, "{lost} of {PACKETS} packets lost");
    let flows = network.flows_to(2, 2)?;
    let most = flows.iter().map(|f| f.packets).max().context("no flow sends to host 2")?;
    ensure!(
        most >= u64::from(PACKETS) - 1,
        "the flows to host 2 have forwarded {most} packets of {PACKETS}: {flows:?}"
    );
    one.send_bulk(&two, 2)
}

/// Host 3's addresses are at port 4 from now on.
fn moves(network: &Network, controller: Controller) -> Result<()> {
    network.host(3)?.detach()?;
    let there = network.host(4)?;
    there.attach(3)?;
    // The first that is heard of it: requests, whether answers come back or not.
    there.ping(1, &["-c", "3", "-i", "0.2", "-W", "1"])?;
    if !controller.takes_back && !controller.flows_expire {
        network.delete_flows("dl_dst", 3)?;
    }
    wait("what is for host 3 goes to port 4", || {
        network.host(1)?.ping(3, &["-c", "1", "-W", "1"])?;
        if !network.flows_to(3, 4)?.is_empty() && network.flows_to(3, 3)?.is_empty() {
            return Ok(Some(()));
        }
        if !controller.takes_back {
            // Flows that are used do not expire.
            wait_silent(network)?;
        }
        Ok(None)
    })?;
    network.wait_all_reach(&AFTER)
}

/// Waits until the flows that send host 3's packets to where it was are gone.
fn wait_silent(network: &Network) -> Result<()> {
    wait("the flows to port 3 expire", || Ok(network.flows_to(3, 3)?.is_empty().then_some(())))
}

/// What it has said goes on without it, and the next one goes on from there.
fn survives_its_controller(network: &mut Network) -> Result<()> {
    network.wait_all_reach(&AFTER)?;
    network.kill_controller();
    let lost = network.host(1)?.ping(2, &["-c", "5", "-i", "0.1", "-W", "1"])?;
    ensure!(lost == 0, "{lost} of 5 packets lost without a controller");
    network.start_controller()?;
    network.wait_connected()?;
    // Nothing says any more where the host is that has moved, or takes what it says past the new
    // controller, which has to find it.
    network.delete_flows("dl_dst", 3)?;
    network.delete_flows("dl_src", 3)?;
    network.wait_all_reach(&AFTER)?;
    wait("the new controller says where host 3 is", || {
        network.host(1)?.ping(3, &["-c", "1", "-W", "1"])?;
        Ok((!network.flows_to(3, 4)?.is_empty()).then_some(()))
    })
}

#[test]
fn faucet() -> Result<()> {
    life_under(controllers::FAUCET)
}

#[test]
fn simple_switch_of_os_ken() -> Result<()> {
    life_under(controllers::SIMPLE_10)
}

#[test]
fn simple_switch_13_of_os_ken() -> Result<()> {
    life_under(controllers::SIMPLE_13)
}

#[test]
fn testcontroller_of_open_vswitch() -> Result<()> {
    life_under(controllers::TESTCONTROLLER)
}
