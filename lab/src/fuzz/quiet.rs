//! When nothing is wrong any more: everything is mended, what is under way comes to its end, and
//! all of it must be as it should.

use super::switches::{driver_config, empty_switch, port_mac};
use super::walk::Walker;
use super::world::{Item, World};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_core::network::topology_state::Sync;
use tandem_model::{
    Cookie, Effect, LinkId, NodeId, Request, Rule, ServerId, SwitchId, Time, TxnId, VmId, VmRecord, VmState,
};
use tandem_openflow::framing;
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{ConnId, Port, Sink, Switch};
use tandem_openflow::table::Flow;
use tandem_switch_driver::{Driver, Output};

/// How long it may take until all is quiet: longer than any time-out and any pause between tries.
const PATIENCE: Duration = Duration::from_secs(900);
/// Pairs of VMs that packets are sent between, at most.
const PAIRS: usize = 160;

impl World {
    /// Mends everything and waits until nothing is under way; then everything is checked.
    pub(super) fn calm(&mut self) {
        self.mend();
        // Who was kept from starting by a VM with its id is started when the hypervisors are next
        // connected.
        self.lose_world(Duration::from_millis(700));
        let end = self.now + PATIENCE;
        let mut pause = Duration::from_secs(2);
        loop {
            self.run_until(self.now + pause);
            if self.violation.is_some() {
                return;
            }
            self.lift_overrides();
            let open = self.is_not_quiet();
            if self.now >= end {
                if let Some(what) = open {
                    let minutes = PATIENCE.as_secs() / 60;
                    let what = format!("{minutes} minutes after everything was mended {what}");
                    return self.violate("everything comes to an end", what);
                }
                break;
            }
            if open.is_none() {
                break;
            }
            // Counters are read, and flows with them, without waiting for the next period.
            if self.alive && pause > Duration::from_secs(4) {
                self.ask(Request::PollNow);
            }
            pause = (pause * 2).min(Duration::from_secs(30));
        }
        self.check_snapshot();
        self.check_store();
        self.check_together();
        self.check_hypervisors();
        self.check_flows();
        self.check_books();
        self.check_agents();
        self.check_packets();
    }

    fn mend(&mut self) {
        self.store.mend();
        for (at, later) in self.hypervisors.mend(self.now) {
            self.at(at, Item::Hypervisors(later));
        }
        for n in 0..self.switches.len() {
            self.switches[n].mend();
        }
        // After whatever flaps still.
        let wait = Duration::from_millis(600);
        for n in 0..self.cables.len() as u32 {
            self.later(wait, Item::Cable(LinkId(n), true));
        }
    }

    /// Ports that were switched off by hand, and servers out of service, are back.
    fn lift_overrides(&mut self) {
        if !self.alive {
            return;
        }
        let ports = self.store.kept.ports.clone();
        for port in ports.iter().filter(|p| !p.up) {
            self.ask(Request::SetPort { switch: port.switch, port: port.port, up: true });
        }
    }

    /// What is still under way, as text.
    fn is_not_quiet(&mut self) -> Option<String> {
        if !self.alive || !self.world_up || !self.hypervisors.away.is_empty() {
            return Some("the controller or the hypervisors are not back".to_owned());
        }
        if let Some(switch) = self.switches.iter().find(|s| s.active.is_none() || s.joining.is_some()) {
            return Some(format!("{} is not connected", switch.dpid));
        }
        if let Some((id, ask)) = self.requests.waiting().next() {
            return Some(format!("{id} has no answer: {ask:?}"));
        }
        if let Some(m) = self.core.migrations().next() {
            return Some(format!("{} of {} is in phase {}", m.id, m.vm, m.phase));
        }
        if !self.hypervisors.is_quiet() || !self.store.is_quiet() {
            return Some("the hypervisors or the store are at work".to_owned());
        }
        let is_busy =
            |s: &&super::switches::SwitchBox| s.active.as_ref().is_some_and(|l| !l.driver.is_idle());
        if let Some(switch) = self.switches.iter().find(is_busy) {
            return Some(format!("{} is being asked something", switch.dpid));
        }
        let snapshot = self.core.snapshot();
        let asked = snapshot.switches.iter().filter(|s| s.sync != Sync::Done);
        if let Some(switch) = asked.into_iter().find(|s| s.connected) {
            return Some(format!("{} has refused some of its rules", switch.name));
        }
        if !self.books.is_quiet() {
            return Some("switches have not confirmed all rules".to_owned());
        }
        if let Some(vm) = self.core.vms().find(|v| !World::runs(&v.state)) {
            return Some(format!("{} is {}", vm.id, vm.state));
        }
        if let Some(port) = self.store.kept.ports.first() {
            return Some(format!("port {} of {} is still overridden", port.port, port.switch));
        }
        self.differing_flows()
    }

    fn check_store(&mut self) {
        let records: Vec<VmRecord> = self.core.vms().cloned().collect();
        let kept = &self.store.kept;
        // Whether a VM is cut off is seen anew by each controller: the store may have it as it was.
        let well = |vm: &VmRecord| match vm.state {
            VmState::Cut { .. } => VmRecord { state: VmState::Running, ..vm.clone() },
            _ => vm.clone(),
        };
        let differs = records.iter().find(|vm| {
            let there = kept.vms.iter().find(|v| v.id == vm.id);
            there.map(well) != Some(well(vm))
        });
        let more = kept.vms.iter().find(|v| !records.iter().any(|vm| vm.id == v.id));
        let snapshot = self.core.snapshot();
        let drained: BTreeSet<ServerId> =
            snapshot.servers.iter().filter(|s| s.drained).map(|s| s.id).collect();
        let kept_drained: BTreeSet<ServerId> = kept.drained.iter().copied().collect();
        let what = if let Some(vm) = differs {
            let kept = kept.vms.iter().find(|v| v.id == vm.id);
            format!("of {} the store has {kept:?}, and the controller {vm:?}", vm.id)
        } else if let Some(vm) = more {
            format!("the store has {}, which the controller does not know", vm.id)
        } else if *snapshot.groups != kept.groups {
            format!("the store has the groups {:?}, the controller {:?}", kept.groups, snapshot.groups)
        } else if !kept.migrations.is_empty() {
            format!("the store has migrations that have ended: {:?}", kept.migrations)
        } else if drained != kept_drained {
            format!("out of service are {drained:?}, in the store {kept_drained:?}")
        } else {
            return;
        };
        self.violate("when all is quiet, the store has what the controller has", what);
    }

    fn check_hypervisors(&mut self) {
        let records: BTreeMap<VmId, ServerId> = self.core.vms().map(|v| (v.id, v.server)).collect();
        // Where somebody else's VM has the id of ours, neither is touched.
        let guests = &self.hypervisors.guests;
        let taken: BTreeSet<VmId> =
            guests.iter().filter(|(_, g)| g.is_stray).map(|((vm, _), _)| *vm).collect();
        let missing = records
            .iter()
            .find(|(vm, server)| !taken.contains(vm) && !guests.contains_key(&(**vm, **server)));
        let more = self
            .hypervisors
            .guests
            .iter()
            .find(|((vm, server), guest)| !guest.is_stray && records.get(vm) != Some(server));
        let what = match (missing, more) {
            (Some((vm, server)), _) => format!("{vm} should run on {server} and does not"),
            (None, Some(((vm, server), _))) => {
                let known = records.get(vm);
                format!("{vm} runs on {server}, and the controller knows of it at {known:?}")
            }
            (None, None) => return,
        };
        self.violate("when all is quiet, the VMs that run are those on record", what);
    }

    fn check_flows(&mut self) {
        if let Some(what) = self.differing_flows() {
            return self.violate("when all is quiet, each switch's rules are the wanted ones", what);
        }
        let snapshot = self.core.snapshot();
        for n in 0..self.switches.len() {
            let rules = &snapshot.rules[n];
            let wanted = self.reference(n, rules);
            let may_stay = self.may_stay(n, rules);
            let switch = &self.switches[n];
            let difference = differ(&wanted, &switch.soft, &may_stay);
            if let Some(what) = difference {
                let what = format!("{}: {what}", switch.dpid);
                return self.violate("when all is quiet, each switch's rules are the wanted ones", what);
            }
        }
    }

    /// A switch whose number of flows is not that of the wanted rules, as text.
    fn differing_flows(&mut self) -> Option<String> {
        let snapshot = self.core.snapshot();
        for (n, switch) in self.switches.iter().enumerate() {
            let rules = &snapshot.rules[n];
            let may_stay = self.may_stay(n, rules);
            let flows = switch.soft.pipeline().tables.iter().flat_map(|t| t.iter());
            let there = flows.filter(|f| !may_stay(f)).count();
            if there != rules.len() {
                return Some(format!("{} has {there} flows, {} are wanted", switch.dpid, rules.len()));
            }
        }
        None
    }

    /// Flows of owners that may run without a record: the switch keeps them where it was told so.
    fn may_stay(&self, n: usize, rules: &[Rule]) -> impl Fn(&Flow) -> bool + use<> {
        let leave = self.books.leave.get(&self.switches[n].dpid).cloned().unwrap_or_default();
        let wanted: BTreeSet<_> = rules.iter().filter_map(|r| r.cookie.owner()).collect();
        move |flow: &Flow| {
            let owner = Cookie(flow.cookie).owner().filter(|o| o.is_recorded());
            match (&leave, owner) {
                (tandem_model::Leave::Unknown { but }, Some(owner)) => {
                    !but.contains(&owner) && !wanted.contains(&owner)
                }
                _ => false,
            }
        }
    }

    /// A fresh switch of the same kind that was told these rules and nothing else.
    fn reference(&self, n: usize, rules: &[Rule]) -> Switch {
        let real = &self.switches[n];
        let mut soft = empty_switch(real.dpid, real.version, real.tables);
        let mut said = Replies::default();
        for (port, _) in self.site.topology.ports(NodeId::Switch(SwitchId(n as u32))) {
            let mac = port_mac(real.id, port.0);
            let name = format!("p{port}");
            let port =
                Port { number: port.0, name, mac, up: true, speed: None, config: 0, queues: Vec::new() };
            soft.port(port, Time::ZERO, &mut said);
        }
        let mut out = Output::default();
        let mut driver = Driver::new(driver_config(&self.site, 1), "reference", Time::ZERO, &mut out);
        let conn = soft.connected(Time::ZERO, &mut said);
        let mut is_told = false;
        loop {
            let mut sent = std::mem::take(&mut out.bytes);
            if sent.is_empty() && said.0.is_empty() {
                if is_told || driver.dpid().is_none() {
                    return soft;
                }
                is_told = true;
                let leave = tandem_model::Leave::Nothing;
                let rules = rules.to_vec();
                let sync = Effect::SyncRules { switch: real.dpid, txn: TxnId(1), rules, leave };
                driver.execute(sync, Time::ZERO, &mut out);
                sent = std::mem::take(&mut out.bytes);
            }
            each(&sent, |message| drop(soft.on_message(conn, message, Time::ZERO, &mut said)));
            let heard = std::mem::take(&mut said.0);
            each(&heard, |message| drop(driver.on_message(message, Time::ZERO, &mut out)));
        }
    }

    /// What is reserved is what the VMs have, and nothing of anything that has ended.
    fn check_books(&mut self) {
        let snapshot = self.core.snapshot();
        let servers = self.recount_servers();
        for server in snapshot.servers.iter() {
            let counted = servers.get(&server.id).copied().unwrap_or_default();
            if counted != server.used {
                let what = format!("{} has {:?} reserved, its VMs {counted:?}", server.name, server.used);
                return self.violate("when all is quiet, servers and links are promised what VMs have", what);
            }
        }
        let hops = self.recount_links();
        for (n, link) in (0u32..).zip(snapshot.links.iter()) {
            for (down, reserved) in [(false, link.reserved_up), (true, link.reserved_down)] {
                let hop = tandem_model::Hop { link: LinkId(n), down };
                let counted = hops.get(&hop).copied().unwrap_or_default();
                if counted != reserved.0 {
                    let way = if down { "down" } else { "up" };
                    let what = format!(
                        "{} has {reserved} reserved {way}, the VMs' paths make {counted} bit/s",
                        link.name
                    );
                    return self
                        .violate("when all is quiet, servers and links are promised what VMs have", what);
                }
            }
        }
    }

    fn check_packets(&mut self) {
        let vms: Vec<VmRecord> = self.core.vms().filter(|v| World::runs(&v.state)).cloned().collect();
        let mates = self.mates();
        let mut walker = Walker::default();
        let mut wrong = vms.iter().find_map(|vm| walker.is_cut_off(self, vm));
        let mut pairs = 0;
        'all: for a in &vms {
            for b in vms.iter().filter(|b| b.id != a.id) {
                if wrong.is_some() || pairs == PAIRS {
                    break 'all;
                }
                pairs += 1;
                wrong = walker.is_wrong(self, a, b, mates.contains(&(a.id, b.id)));
            }
        }
        for (n, vm) in vms.iter().take(4).enumerate() {
            let server = ServerId((n % self.site.topology.servers.len()) as u32);
            wrong = wrong.or_else(|| walker.server_to(self, server, vm));
        }
        if let Some(what) = wrong {
            self.violate("every packet that may pass passes, and no other", what);
        }
    }

    /// Pairs of VMs that share a group, both ways.
    pub(super) fn mates(&mut self) -> BTreeSet<(VmId, VmId)> {
        let snapshot = self.core.snapshot();
        let mut mates = BTreeSet::new();
        for group in snapshot.groups.iter() {
            for a in &group.members {
                mates.extend(group.members.iter().filter(|b| *b != a).map(|b| (*a, *b)));
            }
        }
        mates
    }
}

/// What a switch answers to the one controller it has.
#[derive(Default)]
struct Replies(Vec<u8>);

impl Sink for Replies {
    fn transmit(&mut self, _: u32, _: u32, _: &[u8]) {}
    fn send(&mut self, _: ConnId, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn close(&mut self, _: ConnId, _: &SessionError) {}
    fn set_port(&mut self, _: u32, _: bool) {}
}

/// Hands over whole messages.
fn each(bytes: &[u8], mut message: impl FnMut(&[u8])) {
    let mut rest = bytes;
    while let Ok(Some((first, after))) = framing::next(rest) {
        rest = after;
        message(first);
    }
}

/// What a switch has that it should not, or has not, as text.
fn differ(wanted: &Switch, real: &Switch, may_stay: &dyn Fn(&Flow) -> bool) -> Option<String> {
    let same = |a: &Flow, b: &Flow| a.priority == b.priority && a.criteria == b.criteria;
    for (n, (a, b)) in wanted.pipeline().tables.iter().zip(&real.pipeline().tables).enumerate() {
        for flow in a.iter() {
            let Some(there) = b.iter().find(|f| same(f, flow)) else {
                return Some(format!("table {n} lacks {flow:?}"));
            };
            if there.cookie != flow.cookie || there.instructions != flow.instructions {
                return Some(format!("table {n} has {there:?} instead of {flow:?}"));
            }
        }
        let more = b.iter().find(|f| !may_stay(f) && !a.iter().any(|g| same(f, g)));
        if let Some(flow) = more {
            return Some(format!("table {n} has {flow:?}, which nobody wants"));
        }
    }
    None
}
