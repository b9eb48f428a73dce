//! What an agent should make of its switches: from the site and the classes' shares as they are
//! now.

use crate::agents::connected::Presented;
use crate::rules::qos::portion;
use tandem_model::{DesiredClass, DesiredPort, DesiredSwitch, NodeId, PortNo, Share, Site, SwitchId};

/// The switches of `presented`, as the site has them. Ports that the site does not know are left
/// out, and switches that speak no OpenFlow.
pub(crate) fn switches(site: &Site, shares: &[Share], presented: &[Presented]) -> Vec<DesiredSwitch> {
    presented.iter().filter_map(|(id, ports)| switch(site, shares, *id, ports)).collect()
}

fn switch(site: &Site, shares: &[Share], id: SwitchId, ports: &[PortNo]) -> Option<DesiredSwitch> {
    let switch = site.topology.switch(id).filter(|s| !s.legacy)?;
    Some(DesiredSwitch {
        name: switch.name.clone(),
        dpid: switch.dpid,
        ports: ports.iter().filter_map(|number| port(site, shares, id, *number)).collect(),
    })
}

fn port(site: &Site, shares: &[Share], switch: SwitchId, port: PortNo) -> Option<DesiredPort> {
    let link = site.topology.link_at(NodeId::Switch(switch), port)?;
    let link = site.topology.link(link)?.cfg;
    let classes = site.classes.iter().zip(shares).map(|(class, now)| {
        let rate = portion(link.rate, now.share);
        DesiredClass {
            rate,
            // Both are rounded down by themselves.
            ceiling: portion(link.rate, now.ceiling).max(rate),
            dscp: class.dscp,
            queue: class.queue,
        }
    });
    Some(DesiredPort {
        port,
        rate: link.rate,
        queue: link.queue,
        classes: classes.collect(),
        default_class: site.default_class.map_or(0, |d| d.0.into()),
    })
}
