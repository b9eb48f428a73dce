//! The canonical form of what the core decides, and its hash.
//!
//! The hash of a run says whether two builds of the core decide the same. It must not change when
//! types are renamed, files are moved or texts are worded anew, so this file gives every kind of
//! effect, record, answer and notice its own number. **The form never changes once hashes were
//! recorded**; whatever is new later is left out of it.
//!
//! The form of one call of the core that led to anything:
//! 1. The moment, in nanoseconds of the core's clock.
//! 2. Its effects in order of their *lanes*, those of one lane in the order in which they came. A
//!    lane is a switch, a VM, a migration, a flow of traffic, the store, a request, or a kind of
//!    notice: what is done in different lanes commutes.
//! 3. Of each effect its number, then its fields as numbers of 64 bits, little endian. Absent
//!    values are 0, present ones 1 and the value; lists begin with their length; amounts are in
//!    bit/s, bytes and nanoseconds; fractions are the bits of IEEE 754.
//!
//! Rules of one transaction are a set: the hashes of its rules are added up. Ids of transactions
//! and writes are left out, since the lanes say their order. Texts are left out. The hash is
//! FNV-1a, 64 bits, over these bytes.

use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Cause, DhcpReply, DhcpReplyKind, Effect, Hop, Leave, Level, Mac, MigrationMode, MigrationRecord, Owner,
    Phase, Place, Plan, PlanGoal, Prediction, Prefix, Rejection, Resource, Resources, Response, Rule,
    RuleAction, RuleKey, RuleMatch, StoreOp, TrafficEnd, TrafficTool, VlanTag, VmOrigin, VmRecord, VmRequest,
    VmSpec, VmState,
};

/// FNV-1a, 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// The hash so far.
    pub fn value(self) -> u64 {
        self.0
    }

    fn put(&mut self, number: impl Into<u64>) {
        for byte in number.into().to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn maybe<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Fnv, T)) {
        self.put(u64::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn all<T>(&mut self, list: impl ExactSizeIterator<Item = T>, mut put: impl FnMut(&mut Fnv, T)) {
        self.put(list.len() as u64);
        list.for_each(|item| put(self, item));
    }

    fn ip(&mut self, ip: Ipv4Addr) {
        self.put(u32::from(ip));
    }

    fn mac(&mut self, mac: Mac) {
        self.put(mac.0.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
    }

    fn time(&mut self, time: Duration) {
        self.put(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn fraction(&mut self, fraction: f64) {
        self.put(fraction.to_bits());
    }
}

/// What an effect is ordered by: effects of different lanes commute.
pub fn lane(effect: &Effect) -> (u8, u64) {
    match effect {
        Effect::SyncRules { switch, .. }
        | Effect::LeaveRules { switch, .. }
        | Effect::ApplyRules { switch, .. }
        | Effect::SendArp { switch, .. }
        | Effect::SendDhcp { switch, .. }
        | Effect::Discover { switch }
        | Effect::SetPort { switch, .. }
        | Effect::PollNow { switch } => (1, switch.0),
        Effect::AllocateVm { vm, .. }
        | Effect::StopVm { vm, .. }
        | Effect::TagVm { vm, .. }
        | Effect::ResizeVm { vm, .. }
        | Effect::AttachVm { vm, .. }
        | Effect::MigrateVm { vm, .. }
        | Effect::CancelMigration { vm, .. } => (2, vm.0),
        Effect::SetMigrationRate { migration, .. } => (3, migration.0),
        Effect::ReportLoads { .. } => (4, 0),
        Effect::TrafficStart { spec } => (5, spec.id.0),
        Effect::TrafficStop { id } => (5, id.0),
        Effect::Store { .. } => (6, 0),
        Effect::Response { id, .. } => (7, id.0),
        Effect::Notice { notice } => (8, notice_kind(&notice.kind)),
        // New since the hashes were recorded: left out of them.
        Effect::ConfigureAgent { .. } => (9, 0),
        #[allow(unreachable_patterns, reason = "effects that are new are left out")]
        _ => (9, 0),
    }
}

/// Adds one call of the core: `effects` are in order of their lanes.
pub fn add_call(hash: &mut Fnv, now: tandem_model::Time, effects: &[Effect]) {
    let mut next = *hash;
    next.put(now.0);
    let mut is_left_out = true;
    for effect in effects {
        let before = next;
        if add(&mut next, effect) {
            is_left_out = false;
        } else {
            next = before;
        }
    }
    if !is_left_out {
        *hash = next;
    }
}

/// Adds an effect; false for one that is left out.
fn add(h: &mut Fnv, effect: &Effect) -> bool {
    match effect {
        Effect::Store { op: record, .. } => {
            h.put(20u64);
            add_record(h, record)
        }
        Effect::Response { id, response: answer } => {
            head(h, 21, id.0);
            add_answer(h, answer)
        }
        Effect::Notice { notice } => {
            let kind = notice_kind(&notice.kind);
            head(h, 22, kind);
            h.put(match notice.level {
                Level::Info => 0u64,
                Level::Warning => 1,
                Level::Error => 2,
            });
            kind != 0
        }
        other => add_to_switch(h, other) || add_to_vm(h, other) || add_to_transfer(h, other),
    }
}

/// Adds what a switch is told.
fn add_to_switch(h: &mut Fnv, effect: &Effect) -> bool {
    match effect {
        Effect::SyncRules { switch, rules, leave, .. } => {
            head(h, 1, switch.0);
            add_rules(h, rules);
            add_leave(h, leave);
        }
        Effect::LeaveRules { switch, leave } => {
            head(h, 2, switch.0);
            add_leave(h, leave);
        }
        Effect::ApplyRules { switch, add, remove, .. } => {
            head(h, 3, switch.0);
            add_rules(h, add);
            let removed = remove.iter().map(|key| {
                let mut one = Fnv::default();
                add_key(&mut one, key);
                one.value()
            });
            h.put(remove.len() as u64);
            h.put(removed.fold(0, u64::wrapping_add));
        }
        Effect::SendArp { switch, port, arp } => {
            head(h, 4, switch.0);
            h.put(port.0);
            h.put(u64::from(arp.op == tandem_model::ArpOp::Reply));
            [arp.eth_dst, arp.sender_mac, arp.target_mac].into_iter().for_each(|m| h.mac(m));
            [arp.sender_ip, arp.target_ip].into_iter().for_each(|ip| h.ip(ip));
        }
        Effect::SendDhcp { switch, port, dhcp } => {
            head(h, 5, switch.0);
            h.put(port.0);
            add_dhcp(h, dhcp);
        }
        Effect::Discover { switch } => head(h, 6, switch.0),
        Effect::SetPort { switch, port, up } => {
            head(h, 7, switch.0);
            h.put(port.0);
            h.put(u64::from(*up));
        }
        Effect::PollNow { switch } => head(h, 8, switch.0),
        _ => return false,
    }
    true
}

fn add_dhcp(h: &mut Fnv, dhcp: &DhcpReply) {
    h.put(match dhcp.kind {
        DhcpReplyKind::Offer => 1u64,
        DhcpReplyKind::Ack => 2,
        DhcpReplyKind::Nak => 3,
    });
    h.put(dhcp.xid);
    h.mac(dhcp.mac);
    h.ip(dhcp.client);
    h.ip(dhcp.address);
    h.maybe(dhcp.router, Fnv::ip);
    h.time(dhcp.lease);
    h.put(u64::from(dhcp.broadcast));
}

/// Adds what hypervisors are asked for.
fn add_to_vm(h: &mut Fnv, effect: &Effect) -> bool {
    match effect {
        Effect::AllocateVm { vm, server, spec } => {
            head(h, 9, vm.0);
            h.put(server.0);
            add_spec(h, spec);
        }
        Effect::StopVm { vm, server, placed_at } => {
            head(h, 10, vm.0);
            h.put(server.0);
            h.maybe(*placed_at, |h, at| h.put(at.0));
        }
        Effect::TagVm { vm, server, spec } => {
            head(h, 11, vm.0);
            h.put(server.0);
            add_spec(h, spec);
        }
        Effect::ResizeVm { vm, server, resources } => {
            head(h, 12, vm.0);
            h.put(server.0);
            add_resources(h, *resources);
        }
        Effect::AttachVm { vm, server, uplink_port } => {
            head(h, 13, vm.0);
            h.put(server.0);
            h.put(uplink_port.0);
        }
        _ => return false,
    }
    true
}

/// Adds what hypervisors are asked for besides: transfers, loads and traffic.
fn add_to_transfer(h: &mut Fnv, effect: &Effect) -> bool {
    match effect {
        Effect::MigrateVm { migration, vm, from, to, manner, spec, rate, downtime, rounds } => {
            head(h, 14, vm.0);
            [migration.0, from.0.into(), to.0.into()].into_iter().for_each(|n| h.put(n));
            add_manner(h, *manner);
            add_spec(h, spec);
            h.put(rate.0);
            h.time(*downtime);
            h.put(*rounds);
        }
        Effect::SetMigrationRate { migration, rate } => {
            head(h, 15, migration.0);
            h.put(rate.0);
        }
        Effect::CancelMigration { migration, vm, from, to } => {
            head(h, 16, vm.0);
            [migration.0, from.0.into(), to.0.into()].into_iter().for_each(|n| h.put(n));
        }
        Effect::ReportLoads { period } => {
            h.put(17u64);
            h.time(*period);
        }
        Effect::TrafficStart { spec } => {
            head(h, 18, spec.id.0);
            [spec.from, spec.to].into_iter().for_each(|end| match end {
                TrafficEnd::Gateway(id, ip) => {
                    head(h, 0, id.0.into());
                    h.ip(ip);
                }
                TrafficEnd::Vm(id, ip) => {
                    head(h, 1, id.0);
                    h.ip(ip);
                }
            });
            h.put(spec.rate.0);
            h.put(u64::from(spec.transport == TrafficTool::TCP));
            h.put(spec.packet);
            h.maybe(spec.class, |h, class| h.put(class.0));
        }
        Effect::TrafficStop { id } => head(h, 19, id.0),
        _ => return false,
    }
    true
}

fn head(h: &mut Fnv, kind: u8, of: u64) {
    h.put(kind);
    h.put(of);
}

fn add_rules(h: &mut Fnv, rules: &[Rule]) {
    let hashes = rules.iter().map(|rule| {
        let mut one = Fnv::default();
        add_key(&mut one, &rule.key);
        one.all(rule.actions.iter(), |h, action| add_action(h, *action));
        one.put(rule.cookie.0);
        one.value()
    });
    h.put(rules.len() as u64);
    h.put(hashes.fold(0, u64::wrapping_add));
}

fn add_key(h: &mut Fnv, key: &RuleKey) {
    h.put(key.table);
    h.put(key.priority);
    let RuleMatch {
        in_port,
        metadata,
        eth_src,
        eth_dst,
        eth_type,
        vlan,
        ip_src,
        ip_dst,
        ip_dscp,
        ip_proto,
        l4_src,
        l4_dst,
    } = key.matching;
    h.maybe(in_port, |h, port| h.put(port.0));
    h.maybe(metadata, |h, m| {
        h.put(m.value);
        h.put(m.mask);
    });
    h.maybe(eth_src, Fnv::mac);
    h.maybe(eth_dst, Fnv::mac);
    h.maybe(eth_type, Fnv::put);
    h.maybe(vlan, |h, vlan| {
        h.put(match vlan {
            VlanTag::NoVlan => 1u64,
            VlanTag::Untagged => 2,
            VlanTag::Priority => 3,
        });
    });
    h.maybe(ip_src, add_prefix);
    h.maybe(ip_dst, add_prefix);
    h.maybe(ip_dscp, Fnv::put);
    h.maybe(ip_proto, Fnv::put);
    h.maybe(l4_src, Fnv::put);
    h.maybe(l4_dst, Fnv::put);
}

fn add_prefix(h: &mut Fnv, prefix: Prefix) {
    h.ip(prefix.address());
    h.put(prefix.len());
}

fn add_action(h: &mut Fnv, action: RuleAction) {
    match action {
        RuleAction::Output(port) => head(h, 1, port.0.into()),
        RuleAction::Hairpin => h.put(2u64),
        RuleAction::Controller => h.put(3u64),
        RuleAction::Enqueue { port, queue } => {
            head(h, 4, port.0.into());
            h.put(queue);
        }
        RuleAction::WriteMetadata(m) => {
            head(h, 5, m.value);
            h.put(m.mask);
        }
        RuleAction::Goto(table) => head(h, 6, table.into()),
        RuleAction::SetQueue(queue) => head(h, 7, queue.into()),
        RuleAction::SetDscp(dscp) => head(h, 8, dscp.into()),
        RuleAction::SetEthDst(mac) => {
            h.put(9u64);
            h.mac(mac);
        }
    }
}

fn add_leave(h: &mut Fnv, leave: &Leave) {
    match leave {
        Leave::Nothing => h.put(0u64),
        Leave::Unknown { but } => {
            h.put(1u64);
            let owners = but.iter().map(|owner| {
                let mut one = Fnv::default();
                add_owner(&mut one, *owner);
                one.value()
            });
            h.put(but.len() as u64);
            h.put(owners.fold(0, u64::wrapping_add));
        }
    }
}

fn add_owner(h: &mut Fnv, owner: Owner) {
    match owner {
        Owner::Base => head(h, 1, 0),
        Owner::Fabric => head(h, 2, 0),
        Owner::Vm(n) => head(h, 3, n.into()),
        Owner::Group(n) => head(h, 4, n.into()),
        Owner::Admin(n) => head(h, 5, n.into()),
        Owner::Migration(n) => head(h, 6, n.into()),
    }
}

fn add_resources(h: &mut Fnv, r: Resources) {
    [r.cpu.into(), r.ram.0, r.disk.0, r.net.0].into_iter().for_each(|n: u64| h.put(n));
}

fn add_manner(h: &mut Fnv, manner: MigrationMode) {
    h.put(match manner {
        MigrationMode::Live => 1u64,
        MigrationMode::Cold => 2,
    });
}

fn add_spec(h: &mut Fnv, spec: &VmSpec) {
    add_resources(h, spec.resources);
    h.mac(spec.mac);
    h.ip(spec.address);
    h.put(spec.uplink_port.0);
    h.maybe(spec.fixed_address, |h, fixed| {
        h.ip(fixed.address);
        h.put(fixed.prefix_len);
        h.ip(fixed.router);
    });
    let VmOrigin { placed_at, class, timeout, gateway } = spec.origin;
    h.put(placed_at.0);
    h.maybe(class, |h, class| h.put(class.0));
    h.maybe(timeout, Fnv::time);
    h.maybe(gateway, |h, gateway| h.put(gateway.0));
}

fn add_hops(h: &mut Fnv, path: &[Hop]) {
    h.all(path.iter(), |h, hop| h.put(u64::from(hop.link.0) << 1 | u64::from(hop.down)));
}

fn add_request(h: &mut Fnv, request: &VmRequest) {
    add_resources(h, request.resources);
    h.maybe(request.class, |h, class| h.put(class.0));
    h.maybe(request.timeout, Fnv::time);
}

fn add_vm(h: &mut Fnv, vm: &VmRecord) {
    h.put(vm.id.0);
    add_request(h, &vm.request);
    [vm.server.0, vm.uplink, vm.gateway.0].into_iter().for_each(|n| h.put(n));
    h.mac(vm.mac);
    h.ip(vm.address);
    add_hops(h, &vm.path_up);
    add_hops(h, &vm.path_down);
    h.maybe(vm.pin.as_ref(), |h, pin| h.all(pin.iter(), |h, switch| h.put(switch.0)));
    h.put(match vm.state {
        VmState::Placed => 1u64,
        VmState::Starting => 2,
        VmState::Running => 3,
        VmState::Cut { .. } => 4,
        VmState::Stopping { .. } => 5,
    });
    h.put(vm.placed_at.0);
    h.maybe(vm.running_at, |h, at| h.put(at.0));
    h.maybe(vm.expires_at, |h, at| h.put(at.0));
}

fn add_place(h: &mut Fnv, place: &Place) {
    [place.server.0, place.uplink, place.gateway.0].into_iter().for_each(|n| h.put(n));
    add_hops(h, &place.path_up);
    add_hops(h, &place.path_down);
}

fn add_cause(h: &mut Fnv, cause: Cause) {
    h.put(match cause {
        Cause::Asked => 1u64,
        Cause::Resize => 2,
        Cause::Evacuate => 3,
        Cause::HotServer => 4,
        Cause::HotLink => 5,
        Cause::Expected => 6,
        Cause::KeepPolicy => 7,
    });
}

fn add_prediction(h: &mut Fnv, p: &Prediction) {
    h.put(p.bytes.0);
    h.put(p.rounds);
    h.time(p.duration);
    h.time(p.downtime);
    h.put(u64::from(p.converges));
}

fn add_migration(h: &mut Fnv, m: &MigrationRecord) {
    h.put(m.id.0);
    h.put(m.vm.0);
    add_place(h, &m.from);
    add_place(h, &m.to);
    add_manner(h, m.manner);
    add_cause(h, m.cause);
    h.maybe(m.plan, |h, plan| h.put(plan.0));
    add_hops(h, &m.path);
    h.put(m.rate.0);
    h.put(u64::from(m.force));
    add_prediction(h, &m.predicted);
    h.put(match m.phase {
        Phase::Reserve => 1u64,
        Phase::Prepare => 2,
        Phase::Transfer => 3,
        Phase::SwitchOver => 4,
        Phase::Confirm => 5,
        Phase::Release => 6,
        Phase::Undo => 7,
    });
    h.put(m.asked_at.0);
    h.maybe(m.transfer_at, |h, at| h.put(at.0));
}

fn add_record(h: &mut Fnv, record: &StoreOp) -> bool {
    match record {
        StoreOp::PutVm { vm } => {
            h.put(1u64);
            add_vm(h, vm);
        }
        StoreOp::PutShares { shares } => {
            h.put(2u64);
            h.all(shares.iter(), |h, share| {
                h.fraction(share.share);
                h.fraction(share.ceiling);
            });
        }
        StoreOp::PutPort { port } => {
            head(h, 3, port.switch.0.into());
            h.put(port.port.0);
            h.put(u64::from(port.up));
            h.put(port.since.0);
        }
        StoreOp::RemovePort { switch, port } => {
            head(h, 4, switch.0.into());
            h.put(port.0);
        }
        StoreOp::RemoveVm { vm } => head(h, 5, vm.0),
        StoreOp::PutMigration { migration } => {
            h.put(6u64);
            add_migration(h, migration);
        }
        StoreOp::RemoveMigration { migration } => head(h, 7, migration.0),
        StoreOp::PutMoved { vm, migration } => {
            h.put(8u64);
            add_vm(h, vm);
            add_migration(h, migration);
        }
        StoreOp::PutDrained { server } => head(h, 9, server.0.into()),
        StoreOp::RemoveDrained { server } => head(h, 10, server.0.into()),
        StoreOp::PutGroup { group } => {
            head(h, 11, group.id.0);
            h.all(group.members.iter(), |h, vm| h.put(vm.0));
        }
        StoreOp::RemoveGroup { group } => head(h, 12, group.0),
        StoreOp::PutAlive { at } => head(h, 13, at.0),
        StoreOp::PutVmGroup { group, vms } => {
            head(h, 14, group.id.0);
            vms.iter().for_each(|vm| add_vm(h, vm));
        }
        StoreOp::TakeBackVmGroup { group, vms } => {
            head(h, 15, group.0);
            vms.iter().for_each(|vm| add_vm(h, vm));
        }
        #[allow(unreachable_patterns, reason = "records that are new are left out")]
        _ => return false,
    }
    true
}

fn add_answer(h: &mut Fnv, answer: &Response) -> bool {
    match answer {
        Response::VmRunning { vm } => {
            h.put(1u64);
            add_vm(h, vm);
        }
        Response::Rejected { rejection } => {
            h.put(2u64);
            add_rejection(h, rejection);
        }
        Response::Failed { .. } => h.put(3u64),
        Response::Conflict { .. } => h.put(4u64),
        Response::NotFound { .. } => h.put(5u64),
        Response::Planned { plan } => {
            h.put(6u64);
            add_plan(h, plan);
        }
        Response::Migrating { migration } => head(h, 7, migration.0),
        Response::GroupCreated { group } => head(h, 8, group.0),
        Response::Done => h.put(9u64),
        Response::VmGroupRunning { group, vms } => {
            head(h, 10, group.0);
            vms.iter().for_each(|vm| add_vm(h, vm));
        }
        #[allow(unreachable_patterns, reason = "answers that are new are left out")]
        _ => return false,
    }
    true
}

fn add_resource(h: &mut Fnv, resource: Resource) {
    h.put(match resource {
        Resource::Cpu => 1u64,
        Resource::Ram => 2,
        Resource::Disk => 3,
        Resource::Net => 4,
        Resource::Link => 5,
        Resource::Address => 6,
        Resource::Path => 7,
        Resource::Switch => 8,
    });
}

fn add_rejection(h: &mut Fnv, rejection: &Rejection) {
    h.all(rejection.counts.iter(), |h, (resource, count)| {
        add_resource(h, *resource);
        h.put(*count);
    });
    h.all(rejection.nearest.iter(), |h, miss| {
        add_resource(h, miss.resource);
        h.put(miss.needed);
        h.put(miss.available);
    });
}

fn add_plan(h: &mut Fnv, plan: &Plan) {
    h.put(plan.id.0);
    match &plan.aim {
        PlanGoal::KeepPolicy => h.put(1u64),
        PlanGoal::Relieve => h.put(2u64),
        PlanGoal::Evacuate { server } => head(h, 3, server.0.into()),
        PlanGoal::Move { vm, to } => {
            head(h, 4, vm.0);
            h.maybe(*to, |h, to| h.put(to.0));
        }
    }
    h.put(plan.made_at.0);
    h.all(plan.moves.iter(), |h, m| {
        [m.vm.0, m.from.0.into(), m.to.0.into()].into_iter().for_each(|n| h.put(n));
        add_manner(h, m.manner);
        add_cause(h, m.cause);
        h.all(m.after.iter(), |h, n| h.put(*n));
        add_prediction(h, &m.predicted);
    });
    h.all(plan.left.iter(), |h, (vm, _)| h.put(vm.0));
    h.put(plan.active_before);
    h.put(plan.active_after);
    h.put(plan.bytes.0);
    h.time(plan.duration);
}

/// The words of notices, in the order of their numbers; a word that is not here has number 0 and is
/// left out.
const NOTICES: [&str; 68] = [
    "agent-down",
    "agent-trouble",
    "agent-unknown-switch",
    "agent-up",
    "clock-doubted",
    "clock-stepped",
    "dhcp-declined",
    "host-joined",
    "host-lost",
    "host-moved",
    "host-unknown",
    "hosts-too-many",
    "hotspot",
    "hotspot-cool",
    "link-down",
    "link-missing",
    "link-miswired",
    "link-unknown",
    "link-up",
    "metadata-refused",
    "migration-begun",
    "migration-ended",
    "migration-failed",
    "migration-stuck",
    "migration-undone",
    "path-back",
    "path-left",
    "path-pinned",
    "path-unpinned",
    "plan-begun",
    "plan-ended",
    "port-flapping",
    "port-off",
    "port-on",
    "port-refused",
    "ports-too-many",
    "rules-refused",
    "rules-repaired",
    "rules-unlike",
    "second-controller",
    "server-away",
    "server-back",
    "server-drained",
    "server-there",
    "spoofed",
    "store-back",
    "store-failed",
    "switch-dead",
    "switch-down",
    "switch-trouble",
    "switch-unknown",
    "switch-up",
    "traffic-ended",
    "vm-adopted",
    "vm-cut",
    "vm-elsewhere",
    "vm-expired",
    "vm-failed",
    "vm-gone",
    "vm-orphan",
    "vm-rejected",
    "vm-rerouted",
    "vm-running",
    "vm-stray",
    "vm-stray-unserved",
    "world-down",
    "world-refused",
    "world-up",
];

fn notice_kind(word: &str) -> u64 {
    NOTICES.binary_search(&word).map_or(0, |at| at as u64 + 1)
}
