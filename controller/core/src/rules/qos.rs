//! Service classes: who can choose them where, and what they are guaranteed. What they have sent is
//! counted in [`crate::network::agent_ports`].

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{BitRate, PortNo, QueueSelection, Share, Site, SwitchId};

/// A class as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ClassView {
    /// Its name.
    pub name: String,
    /// What it is guaranteed and may have at most.
    #[serde(flatten)]
    pub share: Share,
    /// How its packets are marked.
    pub dscp: u8,
    /// Whoever asks for no class has this one.
    pub default: bool,
}

/// So many percent of a port's rate, down to whole bytes a second: shares of 100% in all never add
/// up to more than the rate.
pub fn portion(rate: BitRate, percent: f64) -> BitRate {
    BitRate((rate.0 as f64 * percent / 100.0) as u64 / 8 * 8)
}

/// The classes, their shares and which switches can queue by class.
#[derive(Debug, Clone)]
pub struct Classes {
    pub(crate) shares: Vec<Share>,
    pub(crate) selection: BTreeMap<SwitchId, BTreeMap<PortNo, QueueSelection>>,
    pub(crate) queues: BTreeSet<SwitchId>,
}

impl Classes {
    /// The site's classes; no agent has reported yet.
    pub fn new(site: &Site) -> Classes {
        Classes {
            shares: site.classes.iter().map(|c| Share { share: c.share, ceiling: c.ceiling }).collect(),
            selection: BTreeMap::new(),
            queues: BTreeSet::new(),
        }
    }

    /// The switches whose rules choose queues.
    pub fn queues(&self) -> &BTreeSet<SwitchId> {
        &self.queues
    }

    /// How a class is chosen at a port; `None` while no agent has said anything.
    pub fn selection(&self, switch: SwitchId, port: PortNo) -> Option<QueueSelection> {
        self.selection.get(&switch)?.get(&port).copied()
    }

    /// What classes have now, in their order.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// The same with their names and marks.
    pub fn views(&self, site: &Site) -> Vec<ClassView> {
        let default = site.default_class.map(|d| usize::from(d.0));
        let all = site.classes.iter().zip(&self.shares).enumerate();
        all.map(|(n, (class, share))| ClassView {
            name: class.name.clone(),
            share: *share,
            dscp: class.dscp,
            default: default == Some(n),
        })
        .collect()
    }

    /// Shares that were changed in an earlier run, if the site's classes are still as many.
    pub(crate) fn restore(&mut self, shares: &[Share]) {
        if shares.len() == self.shares.len() {
            self.shares = shares.to_vec();
        }
    }
}
