//! What an action asks of the controller, if there is what it is about.

use super::act::nth;
use super::action::{Action, PlanKind};
use super::world::World;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Adoption, BitRate, ClassId, MigrationMode, MoveOptions, NodeId, PlanGoal, PlanId, Request, Resources,
    ServerId, Share, VmId, VmRequest, VmState,
};

impl World {
    fn vm(&self, n: u32) -> Option<VmId> {
        let ids: Vec<VmId> = self.core.vms().map(|v| v.id).collect();
        nth(&ids, n)
    }

    /// The n-th VM that runs; sometimes the n-th of all, which may be on its way in or out.
    fn running(&self, n: u32) -> Option<VmId> {
        let running = self.core.vms().filter(|v| n.is_multiple_of(4) || v.state == VmState::Running);
        let ids: Vec<VmId> = running.map(|v| v.id).collect();
        nth(&ids, n / 4)
    }

    pub(super) fn resources(&self, cpu: u32, net: u32) -> Resources {
        let default = self.site.vm.default;
        Resources { cpu, net: BitRate(default.net.0 * u64::from(net) / 10), ..default }
    }

    /// What an action asks of the controller, if there is what it is about.
    pub(super) fn ask_of(&self, action: Action) -> Option<Request> {
        Some(match action {
            Action::RequestVm { cpu, net, class, lifetime } => {
                let classes = self.site.classes.len() as u32;
                let class = (class > 0 && classes > 0).then(|| ClassId(((class - 1) % classes) as u16));
                let timeout = (lifetime > 0).then(|| Duration::from_secs(lifetime.into()));
                let resources = self.resources(cpu, net);
                Request::RequestVm {
                    request: VmRequest { resources, class, timeout, name: None, image: None },
                }
            }
            Action::DeleteVm(vm) => Request::DeleteVm { vm: self.vm(vm)? },
            Action::ResizeVm { vm, cpu, net } => {
                Request::ResizeVm { vm: self.running(vm)?, resources: self.resources(cpu, net) }
            }
            Action::CreateGroup { first, stride, size } => self.group(first, stride, size)?,
            Action::DeleteGroup(n) => {
                let groups: Vec<_> = self.store.kept.groups.iter().map(|g| g.id).collect();
                Request::DeleteGroup { group: nth(&groups, n)? }
            }
            Action::SetShares(n) => self.shares(n)?,
            Action::PortOff { link, upper } => {
                let link = self.site.topology.link(self.link(link))?;
                let ends = if upper { [link.a, link.b] } else { [link.b, link.a] };
                let end = ends.into_iter().find(|e| matches!(e.node, NodeId::Switch(_)))?;
                let NodeId::Switch(switch) = end.node else { return None };
                Request::SetPort { switch, port: end.port, up: false }
            }
            Action::PortOn(n) => {
                let port = nth(&self.store.kept.ports, n)?;
                Request::SetPort { switch: port.switch, port: port.port, up: true }
            }
            Action::PinPath { vm, via } => {
                Request::PinPath { vm: self.running(vm)?, via: vec![self.switch(via)] }
            }
            Action::UnpinPath(vm) => Request::UnpinPath { vm: self.vm(vm)? },
            other => return self.move_of(other),
        })
    }

    fn move_of(&self, action: Action) -> Option<Request> {
        let options = MoveOptions::default();
        Some(match action {
            Action::MigrateVm { vm, to, force, cold } => {
                let manner = cold.then_some(MigrationMode::Cold);
                let to = to.map(|n| self.server(n));
                Request::MigrateVm {
                    vm: self.running(vm)?,
                    to,
                    options: MoveOptions { manner, force, ..MoveOptions::default() },
                }
            }
            Action::CancelMigration(n) => {
                let open: Vec<_> = self.core.migrations().map(|m| m.id).collect();
                Request::CancelMigration { migration: nth(&open, n)? }
            }
            Action::Plan(kind) => {
                let aim = match kind {
                    PlanKind::KeepPolicy => PlanGoal::KeepPolicy,
                    PlanKind::Relieve => PlanGoal::Relieve,
                    PlanKind::Evacuate(n) => PlanGoal::Evacuate { server: self.server(n) },
                    PlanKind::Move(n) => PlanGoal::Move { vm: self.vm(n)?, to: None },
                };
                Request::Plan { aim, options }
            }
            Action::ApplyPlan => Request::ApplyPlan { plan: self.last_plan.unwrap_or(PlanId(1)) },
            Action::StopPlan => Request::StopPlan { plan: self.last_plan.unwrap_or(PlanId(1)) },
            Action::Evacuate(n) => Request::EvacuateServer { server: self.server(n), options },
            Action::ReturnServer(n) => Request::ReturnServer { server: nth(&self.store.kept.drained, n)? },
            Action::PollNow => Request::PollNow,
            Action::AdoptStray(n) => {
                let (vm, server) = self.stray(n)?;
                Request::AdoptVm { vm, server: Some(server), known: Adoption::default() }
            }
            Action::StopStray(n) => {
                let (vm, server) = self.stray(n)?;
                Request::StopStray { vm, server: Some(server) }
            }
            _ => return None,
        })
    }

    fn stray(&self, n: u32) -> Option<(VmId, ServerId)> {
        let strays = self.hypervisors.guests.iter().filter(|(_, g)| g.is_stray).map(|(at, _)| *at);
        nth(&strays.collect::<Vec<_>>(), n)
    }

    fn group(&self, first: u32, stride: u32, size: u32) -> Option<Request> {
        let running: Vec<Ipv4Addr> =
            self.core.vms().filter(|v| v.state == VmState::Running).map(|v| v.address).collect();
        let mut members = Vec::new();
        for n in 0..size {
            let member = nth(&running, first.wrapping_add(n * stride))?;
            if !members.contains(&member) {
                members.push(member);
            }
        }
        Some(Request::CreateGroup { members })
    }

    fn shares(&self, n: u32) -> Option<Request> {
        let count = self.site.classes.len() as u32;
        if count == 0 {
            return None;
        }
        let share = |class: u32| Share {
            share: f64::from(5 + (n >> (class * 4)) % 16) * f64::from(3 - count.min(2)),
            ceiling: f64::from(60 + (n >> (class * 3)) % 40),
        };
        Some(Request::SetShares { shares: (0..count).map(share).collect() })
    }
}
