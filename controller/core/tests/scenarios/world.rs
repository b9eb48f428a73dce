//! Switches that do as they are told, hypervisors that start what they are asked to, VMs that take
//! their address by DHCP and a store that never fails: unless a test holds one of them and answers
//! in its place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tandem_core::Core;
use tandem_core::record_replay::{Header, Line};
use tandem_model::{
    DhcpReplyKind, DhcpRequest, DhcpRequestKind, Dpid, Effect, Event, FoundVm, Leave, LeftRules, LinkId, Mac,
    NodeId, Notice, Owner, PersistedState, PortInfo, PortNo, Request, RequestId, Resources, Response, Rule,
    RuleKey, ServerId, Site, SiteEvent, StoreOp, SwitchCaps, SwitchId, Time, VmId, VmRecord, VmRequest,
    VmSpec, site,
};

/// When every test starts: leases are stored as absolute times, so not at zero.
pub(crate) const START: Time = Time::from_secs(1_700_000_000);

/// Which parts do nothing by themselves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    pub(crate) rules: bool,
    /// Switches carry out transactions only when told to confirm them.
    pub(crate) switches: bool,
    pub(crate) store: bool,
    pub(crate) hypervisor: bool,
    pub(crate) dhcp: bool,
    /// Hypervisors begin moves and say nothing of them; a cancel is not answered either.
    pub(crate) moves: bool,
    /// Switches say nothing of what they are told of their ports.
    pub(crate) ports: bool,
    /// The store can write nothing.
    pub(crate) broken: bool,
}

/// What each switch has.
pub(crate) type Tables = BTreeMap<Dpid, BTreeMap<RuleKey, Rule>>;

pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) site: Arc<Site>,
    pub(crate) now: Time,
    pub(crate) held: Held,
    /// OpenFlow 1.0 switches with one table instead of 1.3 with two.
    pub(crate) one_table: bool,
    /// Every effect since the start, or since `forget`.
    pub(crate) log: Vec<Effect>,
    /// What the core has said of changes of the data centre, since the start or since `forget`.
    pub(crate) site_events: Vec<SiteEvent>,
    /// What each switch has.
    pub(crate) tables: Tables,
    /// What each switch is to have, and what may stay besides.
    wanted: Tables,
    leave: BTreeMap<Dpid, Leave>,
    /// What the store holds.
    pub(crate) stored: PersistedState,
    pub(crate) specs: BTreeMap<VmId, (ServerId, VmSpec)>,
    /// Transactions that switches have been sent and not carried out yet, while `held.switches`.
    pending: Vec<Effect>,
    queue: VecDeque<Event>,
    /// The last write that the store has carried out by itself.
    stored_to: Option<tandem_model::StoreId>,
    next_request: u64,
    pub(crate) header: Header,
    pub(crate) lines: Vec<Line>,
}

/// A checked site.
pub(crate) fn read(text: &str) -> Site {
    site::read(text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

/// The thesis' data centre: 1 gateway, 2 core, 4 aggregation, 8 edge switches, 16 servers; 3 VMs
/// fill a server.
pub(crate) fn thesis_site(policy: &str) -> Site {
    read(&format!(
        "[topology]\nshape = \"three-tier\"\n[bandwidth]\nedge = \"3 Mbit/s\"\n\
         [servers]\ncpu = 3\n[policy]\nallocation = \"{policy}\"\n"
    ))
}

/// Two edge switches under two aggregation switches, one core switch, two servers each: every edge
/// has two ways up.
pub(crate) const SMALL: &str = "[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 2\n\
                                aggregation_core_links = 1\n";

impl World {
    /// A data centre whose switches are connected and whose hypervisor service is attached.
    pub(crate) fn new(site: Site) -> World {
        let mut world = World::dark(site, PersistedState::default());
        world.connect_all();
        world.attach(Vec::new());
        world.forget();
        world
    }

    /// The same, nobody connected yet.
    pub(crate) fn dark(site: Site, stored: PersistedState) -> World {
        World::dark_at(site, stored, START)
    }

    pub(crate) fn dark_at(site: Site, stored: PersistedState, now: Time) -> World {
        let site = Arc::new(site);
        let header = Header {
            version: "test".into(),
            policy: String::new(),
            seed: 0,
            site: (*site).clone(),
            stored: stored.clone(),
            started: now,
        };
        World {
            core: Core::new(site.clone(), stored.clone(), now).unwrap_or_else(|why| panic!("{why}")),
            site,
            now,
            held: Held::default(),
            one_table: false,
            log: Vec::new(),
            site_events: Vec::new(),
            tables: BTreeMap::new(),
            wanted: BTreeMap::new(),
            leave: BTreeMap::new(),
            stored,
            specs: BTreeMap::new(),
            pending: Vec::new(),
            queue: VecDeque::new(),
            stored_to: None,
            next_request: 0,
            header,
            lines: Vec::new(),
        }
    }

    pub(crate) fn connect_all(&mut self) {
        for n in 0..self.site.topology.switches.len() as u32 {
            if !self.site.topology.switches[n as usize].legacy {
                self.connect(SwitchId(n));
            }
        }
    }

    pub(crate) fn connect(&mut self, id: SwitchId) {
        let ports =
            self.site.topology.ports(NodeId::Switch(id)).iter().map(|(p, _)| port(*p, true)).collect();
        let (version, tables) = if self.one_table { ("1.0", 1) } else { ("1.3", 2) };
        let caps =
            SwitchCaps { version: version.into(), tables, description: "test".into(), peer: "a test".into() };
        let switch = self.site.topology.switches[id.0 as usize].dpid;
        self.tell(Event::SwitchUp { switch, ports, caps });
    }

    pub(crate) fn attach(&mut self, vms: Vec<(VmId, ServerId)>) {
        self.tell(Event::WorldUp { world: "test".into(), vms, traffic: true });
    }

    /// What the hypervisors have, with what they keep with it.
    pub(crate) fn found(&self) -> Vec<FoundVm> {
        let found = |(vm, (server, spec)): (&VmId, &(ServerId, VmSpec))| {
            let spec = Some(Box::new(spec.clone()));
            FoundVm { vm: *vm, server: *server, runs: true, spec }
        };
        self.specs.iter().map(found).collect()
    }

    /// The hypervisor service comes (back), with what it has.
    pub(crate) fn attach_found(&mut self) {
        let vms = self.found();
        let there = vms.iter().map(|f| (f.vm, f.server)).collect();
        self.tell(Event::VmsFound { vms });
        self.attach(there);
    }

    /// Tells the core one event, and everything that follows from it.
    pub(crate) fn tell(&mut self, event: Event) {
        self.queue.push_back(event);
        while let Some(event) = self.queue.pop_front() {
            let effects = self.core.handle(event.clone(), self.now);
            self.site_events.extend_from_slice(self.core.site_events());
            self.lines.push(Line { now: self.now, event, effects: effects.clone() });
            for effect in effects {
                self.carry_out(&effect);
                self.log.push(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::SyncRules { switch, txn, rules, leave } => {
                self.wanted.insert(*switch, rules.iter().map(|r| (r.key, r.clone())).collect());
                self.leave_rules(*switch, leave);
                self.tables.entry(*switch).or_default().extend(rules.iter().map(|r| (r.key, r.clone())));
                let (added, removed) = (rules.len() as u32, 0);
                self.queue.push_back(Event::RulesApplied { switch: *switch, txn: *txn, added, removed });
            }
            Effect::LeaveRules { switch, leave } => self.leave_rules(*switch, leave),
            Effect::ApplyRules { .. } if self.held.switches => {
                change(&mut self.wanted, effect);
                self.pending.push(effect.clone());
            }
            Effect::ApplyRules { switch, txn, .. } if !self.held.rules => {
                self.apply(effect);
                let (added, removed) = (0, 0);
                self.queue.push_back(Event::RulesApplied { switch: *switch, txn: *txn, added, removed });
            }
            Effect::SetPort { switch, port, up } if !self.held.ports => {
                self.queue.push_back(Event::PortSet { switch: *switch, port: *port, up: *up });
            }
            Effect::AllocateVm { vm, spec, .. }
                if self.specs.get(vm).is_some_and(|(_, s)| s.origin.placed_at != spec.origin.placed_at) =>
            {
                let why = "there is one already that was made for another request".into();
                self.queue.push_back(Event::VmFailed { vm: *vm, why });
            }
            Effect::TagVm { vm, spec, .. } => {
                if let Some((_, kept)) = self.specs.get_mut(vm) {
                    kept.clone_from(spec);
                }
            }
            Effect::AllocateVm { vm, server, spec } => {
                self.specs.insert(*vm, (*server, spec.clone()));
                if !self.held.hypervisor {
                    self.queue.push_back(Event::VmStarted { vm: *vm, address: None });
                    if spec.fixed_address.is_none() && !self.held.dhcp {
                        self.queue.push_back(self.dhcp(*vm, DhcpRequestKind::Discover, None));
                    }
                }
            }
            Effect::SendDhcp { dhcp, .. } if dhcp.kind == DhcpReplyKind::Offer && !self.held.dhcp => {
                let vm = self.specs.iter().find(|(_, (_, s))| s.mac == dhcp.mac).map(|(vm, _)| *vm);
                if let Some(vm) = vm {
                    let event = self.dhcp(vm, DhcpRequestKind::Request, Some(dhcp.address));
                    self.queue.push_back(event);
                }
            }
            Effect::StopVm { vm, placed_at, .. } if !self.held.hypervisor => {
                // One that was made for another request is not the one that is meant.
                let meant =
                    |(_, spec): &(ServerId, VmSpec)| placed_at.is_none_or(|at| spec.origin.placed_at == at);
                if self.specs.get(vm).is_some_and(meant) {
                    self.specs.remove(vm);
                }
                self.queue.push_back(Event::VmStopped { vm: *vm });
            }
            Effect::AttachVm { vm, uplink_port, .. } => {
                if let Some((_, spec)) = self.specs.get_mut(vm) {
                    spec.uplink_port = *uplink_port;
                }
            }
            Effect::ResizeVm { vm, .. } if !self.held.hypervisor => {
                self.queue.push_back(Event::VmResized { vm: *vm });
            }
            Effect::MigrateVm { migration, .. } if !self.held.moves => {
                let migration = *migration;
                self.queue.push_back(Event::VmSuspended { migration });
                self.move_over(effect);
                let downtime = Some(Duration::from_millis(30));
                self.queue.push_back(Event::VmMoved { migration, downtime });
            }
            Effect::CancelMigration { migration, from, .. } if !self.held.moves => {
                let (migration, at, why) = (*migration, Some(*from), "cancelled".into());
                self.queue.push_back(Event::MigrationFailed { migration, at, why });
            }
            Effect::Store { id, .. } if self.held.broken => {
                self.queue.push_back(Event::StoreFailed { id: *id, why: "disk full".into() });
            }
            Effect::Store { id, op: record } if !self.held.store => {
                self.write(record);
                self.stored_to = Some(*id);
                self.queue.push_back(Event::Stored { id: *id });
            }
            _ => {}
        }
    }

    /// The hypervisors carry out a move.
    pub(crate) fn move_over(&mut self, order: &Effect) {
        let Effect::MigrateVm { vm, to, spec, .. } = order else { panic!("{order:?} is no move") };
        self.specs.insert(*vm, (*to, (**spec).clone()));
    }

    /// The last order to move a VM.
    pub(crate) fn order(&self) -> Effect {
        let order = self.log.iter().rev().find(|e| matches!(e, Effect::MigrateVm { .. }));
        order.cloned().expect("an order to move a VM")
    }

    /// The switch of the pending transaction that `pick` chooses carries out the oldest it has, and
    /// says so.
    pub(crate) fn confirm(&mut self, pick: impl FnOnce(usize) -> usize) {
        if self.pending.is_empty() {
            return;
        }
        let of = |e: &Effect| match e {
            Effect::ApplyRules { switch, txn, .. } => Some((*switch, *txn)),
            _ => None,
        };
        let chosen = of(&self.pending[pick(self.pending.len())]).map(|(switch, _)| switch);
        let oldest = self.pending.iter().position(|e| of(e).map(|(switch, _)| switch) == chosen);
        let effect = self.pending.remove(oldest.expect("the chosen one at least"));
        self.apply(&effect);
        if let Some((switch, txn)) = of(&effect) {
            self.tell(Event::RulesApplied { switch, txn, added: 0, removed: 0 });
        }
    }

    /// The switch of the oldest pending transaction refuses it, and carries out nothing of it.
    pub(crate) fn refuse_first(&mut self, why: &str) {
        if let Some(Effect::ApplyRules { switch, txn, .. }) = self.pending.first().cloned() {
            self.pending.remove(0);
            self.tell(Event::RulesRefused { switch, txn, why: why.into() });
        }
    }

    /// True while a switch has something to carry out.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A switch will not carry out a transaction.
    pub(crate) fn forget_pending(&mut self, switch: Dpid, txn: tandem_model::TxnId) {
        self.pending.retain(
            |e| !matches!(e, Effect::ApplyRules { switch: s, txn: t, .. } if (*s, *t) == (switch, txn)),
        );
    }

    /// A store that was held writes everything that it was asked to, in order, and works from now
    /// on.
    pub(crate) fn catch_up(&mut self) {
        if !std::mem::take(&mut self.held.store) {
            return;
        }
        let writes = self.log.iter().filter_map(|e| match e {
            Effect::Store { id, op: record } => Some((*id, record.clone())),
            _ => None,
        });
        let last = self.stored_to;
        let writes: Vec<_> = writes.filter(|(id, _)| last.is_none_or(|last| *id > last)).collect();
        for (id, record) in writes {
            self.write(&record);
            self.tell(Event::Stored { id });
        }
    }

    /// Another controller for what was there before: nobody who asked is taken for another.
    pub(crate) fn continue_after(&mut self, before: &World) {
        (self.next_request, self.one_table) = (before.next_request, before.one_table);
    }

    /// All switches carry out everything.
    pub(crate) fn confirm_all(&mut self) {
        while !self.pending.is_empty() {
            self.confirm(|_| 0);
        }
    }

    /// A switch carries out a transaction, additions first.
    pub(crate) fn apply(&mut self, effect: &Effect) {
        change(&mut self.tables, effect);
        change(&mut self.wanted, effect);
    }

    /// True for a rule that a switch may have although it is not wanted: of somebody who may not be
    /// on record.
    pub(crate) fn may_stay(&self, switch: Dpid, rule: &Rule) -> bool {
        let Some(owner) = rule.cookie.owner().filter(|o| o.is_recorded()) else { return false };
        let wants = |table: &BTreeMap<RuleKey, Rule>| table.values().any(|r| r.cookie.owner() == Some(owner));
        match self.leave.get(&switch) {
            Some(Leave::Unknown { but }) => {
                !but.contains(&owner) && !self.wanted.get(&switch).is_some_and(wants)
            }
            _ => false,
        }
    }

    /// A switch lets go of what is neither wanted nor left; it says what is left.
    fn leave_rules(&mut self, switch: Dpid, leave: &Leave) {
        self.leave.insert(switch, leave.clone());
        let unwanted = |key: &RuleKey| !self.wanted.get(&switch).is_some_and(|t| t.contains_key(key));
        let there = self.tables.get(&switch).into_iter().flatten();
        let gone: Vec<RuleKey> = there
            .filter(|(key, rule)| unwanted(key) && !self.may_stay(switch, rule))
            .map(|(k, _)| *k)
            .collect();
        let wanted = self.wanted.entry(switch).or_default();
        let table = self.tables.entry(switch).or_default();
        gone.iter().for_each(|key| drop(table.remove(key)));
        let mut owners: BTreeMap<Owner, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for rule in table.values().filter(|r| !wanted.contains_key(&r.key)) {
            let m = &rule.key.matching;
            let to = m.ip_dst.filter(|_| m.eth_dst.is_some());
            let machines =
                [m.ip_src, to].into_iter().flatten().filter(|p| p.len() == 32).map(|p| p.address());
            if let Some(owner) = rule.cookie.owner() {
                owners.entry(owner).or_default().extend(machines);
            }
        }
        if !leave.is_nothing() {
            let left = owners.into_iter().map(|(owner, addresses)| LeftRules { owner, addresses }).collect();
            self.queue.push_back(Event::RulesLeft { switch, left });
        }
    }

    fn write_migration(&mut self, migration: &tandem_model::MigrationRecord) {
        self.stored.migrations.retain(|m| m.id != migration.id);
        self.stored.last_migration = self.stored.last_migration.max(migration.id.0);
        self.stored.migrations.push(migration.clone());
    }

    pub(crate) fn write(&mut self, record: &StoreOp) {
        match record {
            StoreOp::PutVm { vm } => {
                self.stored.vms.retain(|v| v.id != vm.id);
                self.stored.last_vm = self.stored.last_vm.max(vm.id.0);
                self.stored.vms.push((**vm).clone());
            }
            StoreOp::RemoveVm { vm } => self.stored.vms.retain(|v| v.id != *vm),
            StoreOp::PutGroup { group } => {
                self.stored.groups.retain(|g| g.id != group.id);
                self.stored.last_group = self.stored.last_group.max(group.id.0);
                self.stored.groups.push(group.clone());
            }
            StoreOp::PutPort { port } => {
                self.stored.ports.retain(|p| (p.switch, p.port) != (port.switch, port.port));
                self.stored.ports.push(*port);
            }
            StoreOp::RemovePort { switch, port } => {
                self.stored.ports.retain(|p| (p.switch, p.port) != (*switch, *port));
            }
            StoreOp::PutAlive { at } => self.stored.alive_at = Some(*at),
            StoreOp::PutShares { shares } => self.stored.shares.clone_from(shares),
            StoreOp::RemoveGroup { group } => self.stored.groups.retain(|g| g.id != *group),
            StoreOp::PutMigration { migration } => self.write_migration(migration),
            StoreOp::RemoveMigration { migration } => self.stored.migrations.retain(|m| m.id != *migration),
            StoreOp::PutMoved { vm, migration } => {
                self.write(&StoreOp::PutVm { vm: vm.clone() });
                self.write_migration(migration);
            }
            StoreOp::PutDrained { server } => {
                self.stored.drained.retain(|s| s != server);
                self.stored.drained.push(*server);
            }
            StoreOp::RemoveDrained { server } => self.stored.drained.retain(|s| s != server),
            StoreOp::PutVmGroup { group, vms } => {
                self.write(&StoreOp::PutGroup { group: group.clone() });
                vms.iter().for_each(|vm| self.write(&StoreOp::PutVm { vm: Box::new(vm.clone()) }));
            }
            StoreOp::TakeBackVmGroup { group, vms } => {
                self.write(&StoreOp::RemoveGroup { group: *group });
                vms.iter().for_each(|vm| self.write(&StoreOp::PutVm { vm: Box::new(vm.clone()) }));
            }
        }
    }

    /// What a VM's DHCP client sends, as its edge switch sees it.
    pub(crate) fn dhcp(&self, vm: VmId, kind: DhcpRequestKind, requested: Option<Ipv4Addr>) -> Event {
        let (server, spec) = &self.specs[&vm];
        let topology = &self.site.topology;
        let link = topology.link_at(NodeId::Server(*server), spec.uplink_port).expect("an uplink");
        let (switch, port) = self.ends(link)[0];
        let dhcp = DhcpRequest {
            kind,
            xid: 7,
            mac: spec.mac,
            eth_src: spec.mac,
            client: Ipv4Addr::UNSPECIFIED,
            requested,
            server: None,
            broadcast: false,
        };
        Event::DhcpSeen { switch, port, dhcp }
    }

    /// The switch port that a server's first uplink is plugged into (no legacy switch between).
    pub(crate) fn port_of(&self, server: ServerId) -> (Dpid, PortNo) {
        let topology = &self.site.topology;
        let link = topology.servers[server.0 as usize].uplinks[0];
        let end = topology.link(link).and_then(|l| l.other(NodeId::Server(server))).expect("a link");
        let NodeId::Switch(id) = end.node else { panic!("{server} is not at a switch") };
        (topology.switches[id.0 as usize].dpid, end.port)
    }

    /// The same for a gateway's first uplink.
    pub(crate) fn gateway_port(&self) -> (Dpid, PortNo) {
        let topology = &self.site.topology;
        let link = topology.gateways[0].uplinks[0];
        let gateway = NodeId::Gateway(tandem_model::GatewayId(0));
        let end = topology.link(link).and_then(|l| l.other(gateway)).expect("a link");
        let NodeId::Switch(id) = end.node else { panic!("the gateway is not at a switch") };
        (topology.switches[id.0 as usize].dpid, end.port)
    }

    pub(crate) fn node(&self, name: &str) -> NodeId {
        self.site.topology.by_name(name).unwrap_or_else(|| panic!("no node {name}"))
    }

    pub(crate) fn switch(&self, name: &str) -> SwitchId {
        match self.node(name) {
            NodeId::Switch(id) => id,
            _ => panic!("{name} is no switch"),
        }
    }

    pub(crate) fn dpid(&self, name: &str) -> Dpid {
        self.site.topology.switches[self.switch(name).0 as usize].dpid
    }

    /// The first link between two nodes.
    pub(crate) fn link(&self, a: &str, b: &str) -> LinkId {
        let (a, b) = (self.node(a), self.node(b));
        let mut links = (0u32..).zip(&self.site.topology.links);
        let found = links.find(|(_, l)| l.other(a).is_some_and(|e| e.node == b));
        LinkId(found.expect("a link").0)
    }

    /// Both ends of a link that are ports of OpenFlow switches.
    pub(crate) fn ends(&self, link: LinkId) -> Vec<(Dpid, PortNo)> {
        let topology = &self.site.topology;
        let link = topology.link(link).expect("a link");
        let at = |e: tandem_model::Endpoint| match e.node {
            NodeId::Switch(id) if !topology.switches[id.0 as usize].legacy => {
                Some((topology.switches[id.0 as usize].dpid, e.port))
            }
            _ => None,
        };
        [link.a, link.b].into_iter().filter_map(at).collect()
    }

    /// Pulls a cable, or plugs it in again: both ends tell.
    pub(crate) fn set_link(&mut self, link: LinkId, up: bool) {
        for (switch, number) in self.ends(link) {
            self.tell(Event::PortChanged { switch, port: port(number, up), removed: false });
        }
    }

    pub(crate) fn switch_down(&mut self, name: &str) {
        let switch = self.dpid(name);
        self.pending.retain(|e| !matches!(e, Effect::ApplyRules { switch: s, .. } if *s == switch));
        self.tell(Event::SwitchDown { switch, why: "connection reset".into() });
    }

    /// Lets time pass, waking the core whenever it wants it.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.core.next_deadline().filter(|d| *d <= end) {
            self.now = self.now.max(due);
            self.tell(Event::Wake);
        }
        self.now = end;
        self.tell(Event::Wake);
    }

    /// The same with discovery frames going over all links, as they do where nothing is broken.
    pub(crate) fn wait_seen(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.discover_except(&[]);
            self.wait(Duration::from_secs(5).min(end.since(self.now)));
        }
    }

    /// Discovery frames go over all links between OpenFlow switches, except those.
    pub(crate) fn discover_except(&mut self, except: &[LinkId]) {
        for n in 0..self.site.topology.links.len() as u32 {
            let ends = self.ends(LinkId(n));
            if let ([a, b], false) = (&ends[..], except.contains(&LinkId(n))) {
                self.tell(Event::LinkSeen { from: *a, to: *b });
                self.tell(Event::LinkSeen { from: *b, to: *a });
            }
        }
    }

    pub(crate) fn ask(&mut self, ask: Request) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.tell(Event::Request { id, request: ask });
        id
    }

    /// The answer to a question, if there is one yet; two would be a fault.
    pub(crate) fn answer(&self, id: RequestId) -> Option<Response> {
        let mut answers = self.log.iter().filter_map(|e| match e {
            Effect::Response { id: to, response: answer } if *to == id => Some(answer.clone()),
            _ => None,
        });
        let first = answers.next();
        assert_eq!(answers.next(), None, "{id} was answered twice");
        first
    }

    /// The site's default VM.
    pub(crate) fn request(&self) -> VmRequest {
        VmRequest { resources: self.site.vm.default, ..VmRequest::default() }
    }

    pub(crate) fn ask_vm(&mut self) -> RequestId {
        let request = self.request();
        self.ask(Request::RequestVm { request })
    }

    /// A running VM.
    pub(crate) fn vm(&mut self) -> VmRecord {
        let request = self.request();
        self.vm_of(request)
    }

    pub(crate) fn vm_of(&mut self, request: VmRequest) -> VmRecord {
        let id = self.ask(Request::RequestVm { request });
        match self.answer(id) {
            Some(Response::VmRunning { vm }) => *vm,
            other => panic!("no VM: {other:?}"),
        }
    }

    pub(crate) fn forget(&mut self) {
        self.log.clear();
        self.site_events.clear();
    }

    pub(crate) fn notices(&self) -> Vec<&Notice> {
        self.log
            .iter()
            .filter_map(|e| match e {
                Effect::Notice { notice } => Some(notice),
                _ => None,
            })
            .collect()
    }

    /// The texts of the notices of a kind.
    pub(crate) fn noticed(&self, kind: &str) -> Vec<&str> {
        self.notices().into_iter().filter(|n| n.kind == kind).map(|n| n.text.as_str()).collect()
    }

    pub(crate) fn used(&mut self) -> Vec<Resources> {
        self.core.snapshot().servers.iter().map(|s| s.used).collect()
    }

    /// What is reserved over all links, both directions: zero when nothing is.
    pub(crate) fn reserved(&mut self) -> u64 {
        self.core.snapshot().links.iter().map(|l| l.reserved_up.0 + l.reserved_down.0).sum()
    }
}

/// A transaction in a switch's table, additions first.
fn change(tables: &mut Tables, effect: &Effect) {
    if let Effect::ApplyRules { switch, add, remove, .. } = effect {
        let table = tables.entry(*switch).or_default();
        table.extend(add.iter().map(|r| (r.key, r.clone())));
        remove.iter().for_each(|key| {
            table.remove(key);
        });
    }
}

pub(crate) fn port(number: PortNo, up: bool) -> PortInfo {
    PortInfo { port: number, name: format!("port{number}"), mac: Mac([2, 0, 0, 0, 0, 1]), up, speed: None }
}
