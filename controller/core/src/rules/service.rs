//! How changes of rules are begun and confirmed: the service of rules, for those that come after
//! it.

use crate::network::topology_state::connected;
use crate::rules::RulesMut;
use crate::rules::desired::Difference;
use crate::rules::transactions::{Late, Outcome, Present, Purpose};
use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{Dpid, Level, SwitchId, TxnId};

impl RulesMut<'_> {
    /// Begins a change; returns how it ended if there was nothing to send.
    pub(crate) fn start(
        &mut self,
        purpose: Purpose,
        differences: BTreeMap<SwitchId, Difference>,
        late: Late<'_>,
    ) -> Option<Outcome> {
        for switch in differences.keys() {
            self.cx.dirty.rules(*switch);
        }
        let (live, topology) = (&self.net.live, &self.cx.site.topology);
        let connected = |s: SwitchId| connected(live, topology, s);
        let present = Present { connected: &connected, desired: &self.rules.desired };
        self.rules.changes.start(purpose, differences, late, &present, &mut self.cx.effects)
    }

    /// A switch has confirmed a transaction; returns how its change ended, if it has.
    pub(crate) fn applied(&mut self, txn: TxnId) -> Option<Outcome> {
        let (live, topology) = (&self.net.live, &self.cx.site.topology);
        let connected = |s: SwitchId| connected(live, topology, s);
        let present = Present { connected: &connected, desired: &self.rules.desired };
        self.rules.changes.applied(txn, &present, &mut self.cx.effects)
    }

    /// A switch has refused a transaction; returns how its change ended.
    /// [`RulesMut::resume_changes`] is to follow when that has been dealt with.
    pub(crate) fn refused(&mut self, dpid: Dpid, txn: TxnId, why: &str) -> Option<Outcome> {
        let text = format!("{} refused rules: {why}", self.network().switch_name(dpid));
        self.cx.notice(Level::Error, "rules-refused", text.clone());
        self.rules.changes.refused(txn, text)
    }

    /// A switch has gone; returns how the changes that waited for it have ended.
    /// [`RulesMut::resume_changes`] is to follow when that has been dealt with.
    pub(crate) fn switch_gone(&mut self, switch: SwitchId) -> Vec<Outcome> {
        let (live, topology) = (&self.net.live, &self.cx.site.topology);
        let connected = |s: SwitchId| connected(live, topology, s);
        let present = Present { connected: &connected, desired: &self.rules.desired };
        self.rules.changes.switch_gone(switch, topology, &present, &mut self.cx.effects)
    }

    /// After a refusal was dealt with: what is left of the changes goes on. Returns the switches
    /// that are to be sent all their rules, because they have undone some that are still wanted.
    #[must_use]
    pub(crate) fn resume_changes(&mut self) -> BTreeSet<SwitchId> {
        let (live, topology) = (&self.net.live, &self.cx.site.topology);
        let connected = |s: SwitchId| connected(live, topology, s);
        let present = Present { connected: &connected, desired: &self.rules.desired };
        self.rules.changes.resume(&present, &mut self.cx.effects)
    }
}
