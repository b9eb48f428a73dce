//! What an agent should make of its switches: from the site and the classes' shares as they are
//! now.

use tandem_agent_protocol::agent as wire;
use tandem_core::rules::qos::{ClassView, portion};
use tandem_model::{NodeId, PortNo, Site, SwitchId};

/// The switches of `presented`, as the site has them. What the site does not know is left out.
pub fn of(site: &Site, classes: &[ClassView], presented: &[wire::Presented]) -> Vec<wire::Switch> {
    presented.iter().filter_map(|p| switch(site, classes, p)).collect()
}

/// The switch of that name.
pub fn find(site: &Site, name: &str) -> Option<SwitchId> {
    match site.topology.by_name(name)? {
        NodeId::Switch(id) => Some(id),
        _ => None,
    }
}

fn switch(site: &Site, classes: &[ClassView], presented: &wire::Presented) -> Option<wire::Switch> {
    let id = find(site, &presented.name)?;
    let switch = site.topology.switch(id).filter(|s| !s.legacy)?;
    let ports = presented.ports.iter().filter_map(|p| port(site, classes, id, p.number)).collect();
    Some(wire::Switch {
        name: switch.name.clone(),
        datapath_id: switch.dpid.0,
        controllers: Vec::new(),
        protocols: Vec::new(),
        ports,
    })
}

fn port(site: &Site, classes: &[ClassView], switch: SwitchId, number: u32) -> Option<wire::Port> {
    let link = site.topology.link_at(NodeId::Switch(switch), PortNo(number))?;
    let cfg = site.topology.link(link)?.cfg;
    let rate = cfg.rate;
    let classes = site.classes.iter().zip(classes).map(|(class, now)| wire::Class {
        rate_bit_per_s: portion(rate, now.share.share).0,
        ceiling_bit_per_s: portion(rate, now.share.ceiling).max(portion(rate, now.share.share)).0,
        dscp: class.dscp.into(),
        queue_packets: class.queue,
    });
    Some(wire::Port {
        number,
        rate_bit_per_s: rate.0,
        queue_packets: cfg.queue,
        classes: classes.collect(),
        default_class: site.default_class.map_or(0, |d| d.0.into()),
    })
}
