//! What follows when a switch comes or goes, or the topology changes: rules, paths, groups.

use crate::migration::MigrationMut;
use crate::network::port_damping::MORE_PORTS;
use crate::network::topology_state::Sync;
use crate::rules::compile;
use crate::rules::transactions::Purpose;
use crate::timers::Timer;
use std::time::Duration;
use tandem_model::{Dpid, Effect, Level, NodeId, PortInfo, SiteEvent, SwitchCaps, SwitchId};

/// Between two times that a switch is sent all its rules because it has refused some.
const RESYNC_PAUSE: Duration = Duration::from_secs(2);

impl MigrationMut<'_> {
    pub(crate) fn on_switch_up(&mut self, dpid: Dpid, ports: Vec<PortInfo>, caps: SwitchCaps) {
        let Some(id) = self.net.live.id(dpid) else {
            let text = format!(
                "switch {dpid} ({}) is not in the site file; it gets no rules. Add it, or disconnect it",
                caps.peer
            );
            self.net.live.unknown_mut().insert(dpid, caps);
            self.cx.dirty.switches = true;
            if self.net.live.is_to_be_said(dpid) {
                self.cx.notice(Level::Warning, "switch-unknown", text);
            }
            return;
        };
        for port in self.net.damping.forget_switch(id) {
            self.cx.timers.cancel(Timer::PortSettled(id, port));
        }
        let declared = self.cx.site.topology.ports(NodeId::Switch(id)).len();
        let two_tables = caps.version != "1.0" && caps.tables >= 2;
        // One that has refused metadata is asked again when it is another one, or has another
        // version.
        let what = |c: &SwitchCaps| (c.version.clone(), c.tables, c.description.clone());
        let before = self.net.live.switch(id).and_then(|s| s.caps.as_ref()).map(what);
        let metadata = !two_tables || before != Some(what(&caps)) || self.rules.desired.has_metadata(id);
        let (now, again) = (self.cx.now, self.net.live.switch(id).is_some_and(|s| s.connected));
        if let Some(switch) = self.net.live.switch_mut(id) {
            switch.connected = true;
            switch.dead = false;
            switch.resyncs = false;
            switch.since = now;
            switch.caps = Some(caps);
            switch.ports = ports.into_iter().map(|p| (p.port, p)).collect();
            switch.most_ports = switch.ports.len().max(declared) + MORE_PORTS;
        }
        self.net.statistics.forget_switch(id);
        self.net.rule_readings.forget_switch(id);
        self.cx.dirty.rule_readings.insert(id);
        // A second connection without a goodbye of the first: whatever was asked on the first is
        // void.
        if again {
            self.abandon(id);
        }
        let name = self.network().switch_name(dpid);
        if !again {
            self.cx.tell(SiteEvent::SwitchUp { switch: id });
        }
        self.cx.notice(Level::Info, "switch-up", format!("{name} is connected"));
        let txn = self.rules.changes.next_txn();
        if let Some(switch) = self.net.live.switch_mut(id) {
            switch.sync = (Sync::UnderWay, Some(txn));
        }
        if self.rules.desired.set_abilities(id, two_tables, metadata) {
            self.compute_mut().on_tables_changed(id);
        }
        let rules = self.rules.desired.all(id);
        let leave = self.compute_mut().leave_at_sync(id);
        self.cx.effects.push(Effect::SyncRules { switch: dpid, txn, rules, leave });
        self.compute_mut().tell_ports(id, dpid);
        self.cx.dirty.rules(id);
        self.cx.dirty.switches = true;
        let changed = self.network_mut().links_of_switch_changed(id);
        self.settle();
        if !changed {
            // No link changed, but a way over this switch counts only while the switch is attended.
            self.reroute_cut();
        }
        self.compute_mut().return_to_pins();
        self.network_mut().probe_hosts_at(id);
    }

    /// After some link came or went: new default routes, and other paths for the VMs that need
    /// them.
    pub(crate) fn topology_changed(&mut self) {
        let site = self.cx.site.clone();
        self.net.routes.recompute(&site.topology, &self.net.links);
        let plan = compile::plan(&site, &self.net.routes, self.rules.classes.queues());
        let (_, differences) = self.rules.desired.replace(tandem_model::Owner::Fabric, plan);
        self.compute_mut().start_change(Purpose::Upkeep, differences, &[]);
        self.reroute_all();
        self.compute_mut().serve_strays();
        self.compute_mut().refresh_groups();
        self.compute_mut().settle_all_rates();
        self.cx.dirty.links = true;
    }
}

impl MigrationMut<'_> {
    pub(crate) fn on_switch_down(&mut self, dpid: Dpid, why: &str) {
        let Some(id) = self.net.live.id(dpid) else {
            self.net.live.unknown_mut().remove(&dpid);
            self.cx.dirty.switches = true;
            return;
        };
        let now = self.cx.now;
        if let Some(switch) = self.net.live.switch_mut(id) {
            if std::mem::replace(&mut switch.connected, false) {
                self.cx.tell(SiteEvent::SwitchDown { switch: id });
            }
            switch.since = now;
        }
        self.net.managed.forget_switch(id);
        self.cx.dirty.switches = true;
        let name = self.network().switch_name(dpid);
        let text = format!("{name} has lost its connection ({why}); it keeps forwarding by the rules it has");
        self.cx.notice(Level::Warning, "switch-down", text);
        self.abandon(id);
        self.cx.timers.replace(now + self.cx.site.discovery.switch_grace, Timer::SwitchGrace(id));
        self.network_mut().polled(id);
        self.compute_mut().readings_told(id);
    }

    /// What was asked of a switch on a connection that has ended is void.
    pub(crate) fn abandon(&mut self, id: SwitchId) {
        let outcomes = self.rules_mut().switch_gone(id);
        for outcome in outcomes {
            self.compute_mut().on_outcome(outcome);
            self.settle();
        }
        self.resume_changes();
    }

    /// After a refusal was dealt with: changes that are still wanted go on. A switch that has undone
    /// something that is still wanted is sent all its rules, which its driver then keeps trying to
    /// bring about.
    pub(crate) fn resume_changes(&mut self) {
        for id in self.rules_mut().resume_changes() {
            self.resync(id);
        }
    }

    /// Sends a connected switch all its rules, after it has refused some; at most once a pause.
    pub(crate) fn resync(&mut self, id: SwitchId) {
        let now = self.cx.now;
        let Some(switch) = self.net.live.switch_mut(id).filter(|s| s.connected) else { return };
        switch.resyncs = true;
        if now < switch.resync_after {
            let at = switch.resync_after;
            return self.cx.timers.replace(at, Timer::Resync(id));
        }
        switch.resync_after = now + RESYNC_PAUSE;
        if let Some(dpid) = self.cx.site.topology.switch(id).map(|s| s.dpid) {
            self.send_all_rules(id, dpid);
        }
    }

    /// Sends a switch all its rules, whatever it has.
    fn send_all_rules(&mut self, id: SwitchId, dpid: Dpid) {
        let txn = self.rules.changes.next_txn();
        let rules = self.rules.desired.all(id);
        let leave = self.compute_mut().leave_at_sync(id);
        if let Some(switch) = self.net.live.switch_mut(id) {
            switch.sync = (Sync::UnderWay, Some(txn));
        }
        self.cx.effects.push(Effect::SyncRules { switch: dpid, txn, rules, leave });
        self.cx.dirty.rules(id);
        self.cx.dirty.switches = true;
    }
}
