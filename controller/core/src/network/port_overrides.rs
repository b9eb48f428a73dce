//! Ports that an operator has switched off.

use std::collections::BTreeMap;
use tandem_model::{PortNo, PortOverride, SwitchId};

/// What the operator wants of ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct PortOverrides(pub(crate) BTreeMap<(SwitchId, PortNo), PortOverride>);

impl PortOverrides {
    /// True for a port that the operator has switched off.
    pub(crate) fn is_off(&self, switch: SwitchId, port: PortNo) -> bool {
        self.0.get(&(switch, port)).is_some_and(|o| !o.up)
    }

    /// All, in order of switch and port.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PortOverride> {
        self.0.values()
    }

    pub(crate) fn get(&self, switch: SwitchId, port: PortNo) -> Option<PortOverride> {
        self.0.get(&(switch, port)).copied()
    }

    pub(crate) fn restore(&mut self, stored: Vec<PortOverride>) {
        self.0 = stored.into_iter().map(|o| ((o.switch, o.port), o)).collect();
    }

    pub(crate) fn of(&self, switch: SwitchId) -> Vec<PortOverride> {
        self.0.range((switch, PortNo(0))..=(switch, PortNo(u32::MAX))).map(|(_, o)| *o).collect()
    }
}
