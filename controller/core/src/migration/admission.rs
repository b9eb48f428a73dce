//! A move begins: it is checked as a whole, both places are reserved, and the store is written. Or it
//! is refused, with the reason, and nothing has changed.

use crate::compute::moves::{Migration, at};
use crate::compute::pending_writes::PendingWrite;
use crate::compute::placement_view::Seen;
use crate::migration::commands::MigrationRequest;
use crate::migration::{MigrationMut, MigrationRef, precopy, reservations};
use crate::network::pinned_paths::in_order;
use crate::network::place::Placement;
use crate::network::{attachment, path_tree, topology_state};
use crate::rejection::refused;
use crate::rules::owners;
use tandem_model::paths::Path;
use tandem_model::{
    BitRate, Hop, MigrationId, MigrationMode, MigrationRecord, NearMiss, NodeId, Phase, Place, Prediction,
    Rejection, RequestId, Resource, Resources, ServerId, VmId, VmRecord, VmState, paths,
};

impl<'a> MigrationRef<'a> {
    /// Why a move has to wait for others to end; `None` when it need not. A refusal for this reason
    /// is one to come back from.
    pub(crate) fn must_wait(self, vm: VmId, from: ServerId, to: Option<ServerId>) -> Option<String> {
        let cfg = &self.cx.site.migration;
        let open = self.compute.migrations.open.len();
        if open >= cfg.at_once as usize {
            return Some(format!("{open} migrations are under way, and [migration] at_once allows no more"));
        }
        for server in std::iter::once(from).chain(to) {
            let there = self.moves_at(server);
            if there >= cfg.per_server as usize {
                let name = self.cx.site.topology.name(NodeId::Server(server));
                return Some(format!(
                    "{there} migrations leave or enter {name} now, and [migration] per_server allows no more"
                ));
            }
        }
        let mates = self.compute.groups.values().filter(|g| g.members.contains(&vm)).flat_map(|g| &g.members);
        let mate = mates.copied().find(|m| self.compute().is_moving(*m))?;
        Some(format!("{mate}, which is in a group with it, is being moved; one of a group moves at a time"))
    }

    fn may_move(self, order: &MigrationRequest) -> Result<VmRecord, Rejection> {
        let id = order.vm;
        let Some(vm) = self.compute.vms.get(&id) else { return Err(refused(format!("there is no {id}"))) };
        let no = |why: String| Err(refused(format!("{id} cannot be moved: {why}")));
        if let Some(m) = self.compute().migration_of(id) {
            return no(format!("{} moves it already ({})", m.record.id, m.record.phase));
        }
        if vm.record.state != VmState::Running {
            return no(format!("it is {}; only a running VM can be moved", vm.record.state));
        }
        if self.compute.strays.elsewhere.contains(&id) {
            return no("it does not run where it should, and a VM with its id runs elsewhere; adopt or stop that one first (`tandem vm list --strays`)".into());
        }
        if vm.resizing.is_some() {
            return no("it is being resized; try again when that is done".into());
        }
        let written = |w: &PendingWrite| matches!(w, PendingWrite::Pin(v, ..) | PendingWrite::Deleting(v, _) if *v == id);
        if self.compute.stores.values().any(written) {
            return no("a change of it is being written to the store; try again".into());
        }
        if self.compute.world.is_none() {
            return no("no hypervisor is connected; start the lab (`tandem-lab up`) or attach servers".into());
        }
        Ok(vm.record.clone())
    }

    /// A place on one server, or what is short there.
    fn goes_to(
        self,
        vm: &VmRecord,
        server: ServerId,
        size: Resources,
        force: bool,
    ) -> Result<Place, Rejection> {
        let topology = &self.cx.site.topology;
        if topology.server(server).is_none() {
            return Err(refused(format!("there is no server {server}")));
        }
        let name = topology.name(NodeId::Server(server)).to_owned();
        let no = |why: &str| Err(refused(format!("{} cannot be moved to {name}: {why}", vm.id)));
        if server == vm.server {
            return no("it is there");
        }
        if self.compute().is_drained(server) {
            return no("it was taken out of service; `tandem evacuate --return` takes it back");
        }
        if let Some(why) = self.compute().barred_move(vm, server) {
            return no(&why);
        }
        let short = self.compute.inventory.shortage(server, size);
        if !short.is_empty() {
            let miss = |(resource, needed, available): (Resource, u64, u64)| NearMiss {
                place: name.clone(),
                resource,
                needed,
                available,
            };
            let nearest: Vec<NearMiss> = short.into_iter().map(miss).collect();
            let summary = format!("{} cannot be moved to {name}: it is full", vm.id);
            let counts = nearest.iter().map(|m| (m.resource, 1)).collect();
            return Err(Rejection { summary, counts, nearest });
        }
        self.new_place(vm, &Place::of(vm), server, size, force)
    }

    /// Where the allocation policy wants a VM if it cannot stay where it is.
    fn choose(self, vm: &VmRecord, size: Resources, force: bool) -> Result<Place, Rejection> {
        let request = tandem_model::VmRequest { resources: size, ..vm.request.clone() };
        let (mut found, mut last, mut barred) = (None, None, None);
        let allowed =
            self.compute().allowed(&vm.request, Some(vm.id), &|other| other.server, &mut std::iter::empty());
        let from = Place::of(vm);
        let view =
            Seen { compute: self.compute(), inventory: &self.compute.inventory, links: &self.net.links };
        self.compute.inventory.find(&view, &request, &mut |server, _| {
            if server == vm.server || self.compute().is_drained(server) {
                return false;
            }
            let bars = allowed.bars(server).or_else(|| self.compute().short_for_mates(vm, server));
            if bars.is_some() {
                barred = bars;
                return false;
            }
            match self.new_place(vm, &from, server, size, force) {
                Ok(place) => found = Some(place),
                Err(why) => last = Some(why),
            }
            found.is_some()
        });
        found.ok_or_else(|| {
            let summary = format!("{} cannot be moved: no other server has room and a path for it", vm.id);
            match last {
                Some(Rejection { counts, nearest, .. }) => Rejection { summary, counts, nearest },
                None if barred.is_some() => refused(format!("{summary}: {}", barred.unwrap_or_default())),
                None => Rejection { summary, ..self.compute().explain(&request) },
            }
        })
    }

    /// A place for a VM on another server, with paths that make a tree with those of the place that
    /// it has. Its gateway stays: it is the VM's router. A pin holds if the new paths can keep it;
    /// if they cannot, only `force` moves the VM (the pin stays, as a wish).
    pub(crate) fn new_place(
        self,
        vm: &VmRecord,
        from: &Place,
        server: ServerId,
        size: Resources,
        force: bool,
    ) -> Result<Place, Rejection> {
        let topology = &self.cx.site.topology;
        let name = topology.name(NodeId::Server(server));
        let uplinks = topology.server(server).map_or(0, |s| s.uplinks.len());
        let pins: &[bool] = match (&vm.pin, force) {
            (None, _) => &[false],
            (Some(_), false) => &[true],
            (Some(_), true) => &[true, false],
        };
        let mut unkept = None;
        for pinned in pins {
            for uplink in 0..uplinks {
                let Some(place) = self.by_uplink(vm, from, (server, uplink), size.net, *pinned) else {
                    continue;
                };
                let placement = Placement::at(&place);
                match self.rules().class_is_kept(&vm.request, &placement) {
                    Ok(()) => return Ok(place),
                    Err(why) => unkept = Some(why),
                }
            }
        }
        if let Some(rejection) = unkept {
            return Err(rejection);
        }
        let pin = if vm.pin.is_some() && !force {
            " by the switches that it is pinned to (unpin it, or move it with force)"
        } else {
            ""
        };
        let summary = format!(
            "{} cannot be moved to {name}: no live path with {} free leads there from its present one{pin}",
            vm.id, size.net
        );
        let miss = NearMiss { place: name.to_owned(), resource: Resource::Path, needed: 1, available: 0 };
        Err(Rejection { summary, counts: vec![(Resource::Path, 1)], nearest: vec![miss] })
    }

    fn by_uplink(
        self,
        vm: &VmRecord,
        from: &Place,
        (server, uplink): (ServerId, usize),
        rate: BitRate,
        pinned: bool,
    ) -> Option<Place> {
        let topology = &self.cx.site.topology;
        let own = *topology.server(server)?.uplinks.get(uplink)?;
        let edge = topology.edge_of(server, uplink)?;
        let (inside, outside) = (NodeId::Server(server), NodeId::Gateway(from.gateway));
        let room = |hop: Hop| {
            let ends = [paths::tail(topology, hop), paths::head(topology, hop)];
            if ends.contains(&Some(inside)) && hop.link != own {
                return None;
            }
            self.net
                .live
                .path_is_attended(&self.net.links, &[hop])
                .then(|| self.net.links.residual(hop))
                .flatten()
        };
        // A legacy switch passes a packet on where it has learnt that its receiver is. That is
        // enough behind an edge switch that both places have in common.
        let same_edge = topology.edge_of(from.server, from.uplink as usize) == Some(edge);
        let forks = |node: NodeId| match node {
            NodeId::Switch(_) => same_edge || topology_state::is_openflow(topology, node),
            _ => false,
        };
        let joins = |node: NodeId| node == outside || matches!(node, NodeId::Switch(_));
        let more = BitRate(rate.0.saturating_sub(vm.request.resources.net.0));
        let down = path_tree::SearchConstraints { topology, room: &room, forks: &forks };
        let up = path_tree::SearchConstraints { topology, room: &room, forks: &joins };
        let mut downs = path_tree::branches(&down, (outside, &from.path_down), inside, rate, more);
        let mut ups = path_tree::joins(&up, (outside, &from.path_up), inside, rate, more);
        let via = vm.pin.iter().flatten().copied();
        if pinned {
            ups.retain(|path| in_order(&paths::nodes(topology, inside, path), via.clone()));
            downs.retain(|path| in_order(&paths::nodes(topology, outside, path), via.clone().rev()));
        }
        let (mut path_up, mut path_down) = (ups.into_iter().next()?, downs.into_iter().next()?);
        if !pinned && let Some((up, down)) = self.home(vm, (server, uplink), from, rate, more) {
            path_up = up.filter(|p| p.len() == path_up.len()).unwrap_or(path_up);
            path_down = down.filter(|p| p.len() == path_down.len()).unwrap_or(path_down);
        }
        Some(Place { server, uplink: uplink as u32, gateway: from.gateway, path_up, path_down })
    }

    /// The default paths of a VM that stays behind its edge switch, or comes back there, where they
    /// fit: it needs no exact rules then.
    fn home(
        self,
        vm: &VmRecord,
        (server, uplink): (ServerId, usize),
        from: &Place,
        rate: BitRate,
        more: BitRate,
    ) -> Option<(Option<Path>, Option<Path>)> {
        let topology = &self.cx.site.topology;
        let place = Place { server, uplink: uplink as u32, ..from.clone() };
        let (up, down) = attachment::default_paths(topology, &self.net.routes, &at(vm, &place))?;
        let outside = NodeId::Gateway(from.gateway);
        let has_room = |path: &Path, trunk: &[Hop]| {
            path.iter().all(|hop| {
                let need = if trunk.contains(hop) { more } else { rate };
                let there = self.net.links.residual(*hop).is_some_and(|left| left >= need);
                (there || need.0 == 0) && self.net.live.path_is_attended(&self.net.links, &[*hop])
            })
        };
        let (flipped, trunk) = (path_tree::reversed(&up), path_tree::reversed(&from.path_up));
        let up_fits = path_tree::is_tree(topology, outside, &trunk, &flipped) && has_room(&up, &from.path_up);
        let down_fits = path_tree::shared(&from.path_down, &down) > 0
            && path_tree::is_tree(topology, outside, &from.path_down, &down)
            && has_room(&down, &from.path_down);
        Some((up_fits.then_some(up), down_fits.then_some(down)))
    }

    /// The path of a migration's own traffic, its rate, and what it will take; refused where that
    /// does not end.
    fn transfer(
        self,
        vm: &VmRecord,
        to: ServerId,
        manner: MigrationMode,
        force: bool,
    ) -> Result<(Path, BitRate, Prediction), Rejection> {
        let topology = &self.cx.site.topology;
        let (a, b) = (topology.name(NodeId::Server(vm.server)), topology.name(NodeId::Server(to)));
        let Some((path, free)) = self.transfer_path(vm.server, to, None) else {
            let summary = format!("{} cannot be moved: no live path leads from {a} to {b}", vm.id);
            return Err(Rejection { counts: vec![(Resource::Path, 1)], ..refused(summary) });
        };
        if free.0 == 0 {
            let full = path.iter().find(|hop| self.net.links.residual(**hop).is_none_or(|left| left.0 == 0));
            let miss = |hop: &Hop| self.network().link_miss(&self.net.links, *hop, BitRate(1));
            let nearest: Vec<NearMiss> = full.map(miss).into_iter().collect();
            let counts = vec![(nearest.first().map_or(Resource::Link, |miss| miss.resource), 1)];
            let summary =
                format!("{} cannot be moved: the path from {a} to {b} has nothing free to send it", vm.id);
            return Err(Rejection { summary, counts, nearest });
        }
        let cfg = &self.cx.site.migration;
        let rate = free.min(cfg.rate);
        let memory = vm.request.resources.ram;
        let predicted = match manner {
            MigrationMode::Cold => precopy::cold(memory, vm.request.resources.disk, rate),
            MigrationMode::Live => {
                precopy::predict(memory, rate, self.compute().dirty_rate(vm.id), cfg.downtime, cfg.rounds)
            }
        };
        if !predicted.converges && !force {
            return Err(refused(format!(
                "{} would not converge: its memory of {memory} is dirtied at {} and sent at {rate}, so that it would be silent for {:?} \
                 after {} rounds, where [migration] downtime allows {:?}; move it with force, or cold",
                vm.id,
                self.compute().dirty_rate(vm.id),
                predicted.downtime,
                predicted.rounds,
                cfg.downtime,
            )));
        }
        Ok((path, rate, predicted))
    }
}

impl MigrationMut<'_> {
    pub(crate) fn begin(
        &mut self,
        order: MigrationRequest,
        grow: Option<(RequestId, Resources)>,
    ) -> Result<MigrationId, Rejection> {
        let vm = self.migration().may_move(&order)?;
        // It comes with what it has, and may grow in one resource while it shrinks in another.
        let size = grow.map_or(vm.request.resources, |(_, r)| r.max(vm.request.resources));
        let to = match order.to {
            Some(server) => self.migration().goes_to(&vm, server, size, order.options.force)?,
            None => self.migration().choose(&vm, size, order.options.force)?,
        };
        if let Some(why) = self.migration().must_wait(vm.id, vm.server, Some(to.server)) {
            return Err(refused(format!("{} cannot be moved now: {why}", vm.id)));
        }
        let manner = order.options.manner.unwrap_or(self.cx.site.migration.manner);
        // The new place comes first: its traffic is what the transfer's rate must leave room for.
        let from = Place::of(&vm);
        let mut held = reservations::needed(&vm, &from, &to, size);
        // What its groups reserve at both places comes before the transfer too.
        let groups = self.compute().rates_beyond(&vm, to.server).unwrap_or_default();
        held.hops.extend(groups.into_iter().map(|(hop, rate)| (hop, BitRate(rate))));
        self.take(&held);
        let yields = self.migration().yields_on_the_way((vm.server, to.server), order.options.priority);
        self.take_yields(&yields);
        let transfer = self.migration().transfer(&vm, to.server, manner, order.options.force);
        self.untake(&held);
        if transfer.is_err() {
            self.return_yields(&yields);
        }
        let (path, rate, predicted) = transfer?;
        self.tell_yields(&yields);
        self.compute.migrations.last += 1;
        while self.compute.strays.left.has(owners::transfer_owner(MigrationId(self.compute.migrations.last)))
        {
            self.compute.migrations.last += 1;
        }
        let id = MigrationId(self.compute.migrations.last);
        let record = MigrationRecord {
            id,
            vm: vm.id,
            from,
            to,
            manner,
            cause: order.cause,
            plan: order.plan,
            path: path.clone(),
            rate,
            force: order.options.force,
            priority: order.options.priority,
            predicted,
            phase: Phase::Reserve,
            asked_at: self.cx.wall_now(),
            transfer_at: None,
        };
        let mut migration = Migration::new(record.clone(), self.cx.now);
        (migration.requester, migration.grow) = (order.requester, grow);
        self.compute.migrations.insert(migration);
        self.hold(id);
        self.reserve_transfer(id, path, rate);
        self.write_move(id);
        Ok(id)
    }
}
