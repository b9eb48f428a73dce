//! A lab without a controller: switches that know where servers and gateways are, and send
//! everything else (VMs', broadcasts) to all of their other ports, as hubs do. What such a lab
//! loses of a VM that moves is its hypervisor's pause and nothing else.

use super::{agents, datapath};
use crate::openflow_client::{self, OpenFlowClient};
use crate::world::emulated::lab_control::Start;
use std::path::Path;
use tandem_model::{Mac, NodeId, Site, SwitchId, paths};
use tandem_openflow::of13::{Action, Field, Masked, Match};

/// OFPP_FLOOD (OF 1.3.5 section A.2.1).
const FLOOD: u32 = 0xffff_fffb;

/// Makes hubs of all switches of a site, which may have no loops.
///
/// # Errors
/// When a switch is not reached or refuses a flow.
pub fn make(site: &Site, folder: &Path, start: &Start) -> anyhow::Result<()> {
    let t = &site.topology;
    let servers = (0u32..).zip(&t.servers).map(|(n, s)| (NodeId::Server(tandem_model::ServerId(n)), s.mac));
    let gateways =
        (0u32..).zip(&t.gateways).map(|(n, g)| (NodeId::Gateway(tandem_model::GatewayId(n)), g.mac));
    let known: Vec<(Mac, Vec<u32>)> =
        servers.chain(gateways).map(|(node, mac)| (mac, paths::distances_to(t, node, |_| true))).collect();
    for (n, switch) in (0u32..).zip(&t.switches).filter(|(_, s)| !s.legacy) {
        let node = NodeId::Switch(SwitchId(n));
        let portion = if start.agent_per_switch { &switch.name } else { &site.name };
        let state = agents::state(folder, portion);
        let socket = datapath::management(start.datapath.of(switch), folder, &state, &switch.name)?;
        let mut flows = vec![openflow_client::add(
            0,
            1,
            Match::any(),
            openflow_client::apply(vec![Action::output(FLOOD)]),
        )];
        for (mac, distances) in &known {
            let distance = |node: NodeId| distances.get(t.slot(node)).copied().unwrap_or(u32::MAX);
            let next = t.ports(node).iter().find(|(_, link)| {
                let other = t.link(*link).and_then(|l| l.other(node));
                other.is_some_and(|end| distance(end.node) < distance(node))
            });
            if let Some((port, _)) = next {
                let matching = Match { fields: vec![Field::EthDst(Masked::exact(*mac))] };
                flows.push(openflow_client::add(
                    0,
                    2,
                    matching,
                    openflow_client::apply(vec![Action::output(port.0)]),
                ));
            }
        }
        OpenFlowClient::connect(&socket)?.must(&flows)?;
    }
    Ok(())
}
