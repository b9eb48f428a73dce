//! Anything in any order over a simulated data centre whose transfers fail, hang and lose VMs: no
//! server ever holds more than it may, nothing is twice or nowhere, and when all is quiet nothing
//! is left of any migration.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{
    BitRate, Bytes, LinkId, MigrationId, MigrationMode, MoveOptions, PlanGoal, PlanId, Request, Resources,
    Response, ServerId, Site, Time, VmId, VmRequest, VmState, site,
};
use tandem_sim::loads::Load;
use tandem_sim::{Faults, Simulation};

const SITE: &str = "[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 3\naggregation_core_links = 1\n\
                    [bandwidth]\ngateway = \"1 Gbit/s\"\ncore = \"400 Mbit/s\"\naggregation = \"200 Mbit/s\"\nedge = \"100 Mbit/s\"\n\
                    [servers]\ncpu = 4\nram = \"4 GiB\"\n[vm]\nram = \"256 MiB\"\nnet = \"5 Mbit/s\"\n\
                    [migration]\nrate = \"80 Mbit/s\"\ntimeout = \"60 s\"\nper_server = 2\n\
                    [hotspot]\nrelieve = true\n";

struct Chaos {
    sim: Simulation,
    site: Arc<Site>,
    random: ChaCha8Rng,
    migrations: Vec<MigrationId>,
    plans: Vec<PlanId>,
    asked: BTreeSet<u64>,
    cuts: bool,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut site = site::read(SITE, "chaos").expect("a good site");
        site.policy.allocation = match seed % 3 {
            0 => tandem_model::Allocation::BestFit,
            1 => tandem_model::Allocation::WorstFit,
            _ => tandem_model::Allocation::FirstFit,
        }
        .into();
        let site = Arc::new(site);
        let mut sim = Simulation::new(site.clone(), Time::ZERO, None).expect("known policies");
        sim.set_faults(Faults { fail: 0.15, hang: 0.1, lose: 0.05 }, seed);
        Chaos {
            sim,
            site,
            random: ChaCha8Rng::seed_from_u64(seed),
            migrations: Vec::new(),
            plans: Vec::new(),
            asked: BTreeSet::new(),
            cuts: seed % 2 == 1,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        (self.random.next_u64() % n.max(1) as u64) as usize
    }

    fn any_vm(&mut self) -> VmId {
        let ids: Vec<VmId> = self.sim.core().vms().map(|v| v.id).collect();
        let n = self.below(ids.len());
        ids.get(n).copied().unwrap_or(VmId(999))
    }

    fn any_server(&mut self) -> ServerId {
        let n = self.below(self.site.topology.servers.len());
        ServerId(n as u32)
    }

    fn ask(&mut self, ask: Request) {
        let id = self.sim.ask(self.sim.now(), ask);
        self.asked.insert(id.0);
    }

    fn request(&mut self) -> VmRequest {
        let timeout = (self.below(3) == 0).then(|| Duration::from_secs(20 + self.below(200) as u64));
        let resources = Resources { cpu: 1 + self.below(2) as u32, ..self.site.vm.default };
        VmRequest { resources, class: None, timeout, ..VmRequest::default() }
    }

    fn step(&mut self) {
        let options = MoveOptions {
            manner: [None, None, Some(MigrationMode::Live), Some(MigrationMode::Cold)][self.below(4)],
            force: self.below(4) == 0,
            ..MoveOptions::default()
        };
        match self.below(16) {
            0..=3 => {
                let request = self.request();
                self.ask(Request::RequestVm { request });
            }
            4 => {
                let vm = self.any_vm();
                self.ask(Request::DeleteVm { vm });
            }
            5..=7 => {
                let vm = self.any_vm();
                let server = self.any_server();
                let to = (self.below(2) == 0).then_some(server);
                self.ask(Request::MigrateVm { vm, to, options: MoveOptions { manner: None, ..options } });
            }
            8 => {
                let n = self.below(self.migrations.len());
                if let Some(migration) = self.migrations.get(n).copied() {
                    self.ask(Request::CancelMigration { migration });
                }
            }
            9 => {
                let aims = [PlanGoal::KeepPolicy, PlanGoal::Relieve];
                let aim = aims[self.below(2)].clone();
                self.ask(Request::Plan { aim, options: MoveOptions::default() });
            }
            10 => {
                if let Some(plan) = self.plans.pop() {
                    self.ask(Request::ApplyPlan { plan });
                }
            }
            11 => {
                let server = self.any_server();
                self.ask(Request::EvacuateServer { server, options: MoveOptions::default() });
            }
            12 => {
                let server = self.any_server();
                self.ask(Request::ReturnServer { server });
            }
            13 => {
                let vm = self.any_vm();
                let cpu = 1 + self.below(3) as u32;
                let resources = Resources { cpu, ..self.site.vm.default };
                self.ask(Request::ResizeVm { vm, resources });
            }
            14 => {
                let vm = self.any_vm();
                let cpu = self.below(3) as f64;
                let dirty = BitRate::mbit([0, 5, 40, 200][self.below(4)]);
                let disk = (BitRate(0), BitRate(0));
                self.sim.set_load(vm, Load { cpu, ram: Bytes(100 << 20), disk, dirty });
            }
            _ if self.cuts => {
                let link = LinkId(self.below(self.site.topology.links.len()) as u32);
                let now = self.sim.now();
                let up = self.below(3) > 0;
                self.sim.set_link(now, link, up);
            }
            _ => self.ask(Request::PollNow),
        }
    }

    fn go_on(&mut self, time: Duration) {
        let until = self.sim.now() + time;
        self.sim.run_until(until).expect("a run");
        for (_, id, answer) in self.sim.take_answers() {
            assert!(self.asked.remove(&id.0), "{id} was answered twice: {answer:?}");
            match answer {
                Response::Migrating { migration } => self.migrations.push(migration),
                Response::Planned { plan } => self.plans.push(plan.id),
                _ => {}
            }
        }
    }

    /// What must hold at any moment.
    fn check(&mut self, what: &str) {
        let mut there: BTreeMap<ServerId, Resources> = BTreeMap::new();
        let mut put = |server: ServerId, more: Resources| {
            let sum = there.entry(server).or_default();
            *sum = sum.plus(more);
        };
        let really: BTreeMap<VmId, (ServerId, Resources)> =
            self.sim.vms().map(|(vm, server, spec)| (vm, (server, spec.resources))).collect();
        really.values().for_each(|(server, resources)| put(*server, *resources));
        for (vm, from, to) in self.sim.under_way() {
            assert_eq!(really.get(&vm).map(|v| v.0), Some(from), "{what}: {vm} moves from where it is not");
            put(to, really[&vm].1);
        }
        for (server, sum) in there {
            let has = self.site.topology.server(server).expect("declared").capacity;
            assert!(has.fits(sum), "{what}: {server} has {has:?}, on it are {sum:?}");
        }
        let snapshot = self.sim.core().snapshot();
        for server in snapshot.servers.iter() {
            assert!(server.capacity.fits(server.used), "{what}: {} is promised twice", server.name);
        }
        if !self.cuts {
            for link in snapshot.links.iter() {
                let most = link.reserved_up.max(link.reserved_down);
                assert!(most <= link.capacity, "{what}: {} is promised {most}", link.name);
            }
        }
        let moving: BTreeSet<VmId> =
            snapshot.migrations.iter().filter(|m| m.ended.is_none()).map(|m| m.record.vm).collect();
        for vm in snapshot.vms.iter().map(|v| &v.record) {
            if vm.state == VmState::Running && !moving.contains(&vm.id) {
                assert_eq!(
                    really.get(&vm.id).map(|r| r.0),
                    Some(vm.server),
                    "{what}: {} is elsewhere",
                    vm.id
                );
            }
        }
    }

    /// Everything is mended, and all that was begun may end.
    fn calm(&mut self, seed: u64) {
        self.sim.set_faults(Faults::default(), 0);
        for n in 0..self.site.topology.links.len() as u32 {
            let now = self.sim.now();
            self.sim.set_link(now, LinkId(n), true);
        }
        for n in 0..self.site.topology.servers.len() as u32 {
            self.ask(Request::ReturnServer { server: ServerId(n) });
        }
        let open: Vec<MigrationId> = {
            let snapshot = self.sim.core().snapshot();
            snapshot.migrations.iter().filter(|m| m.ended.is_none()).map(|m| m.record.id).collect()
        };
        open.into_iter().for_each(|migration| self.ask(Request::CancelMigration { migration }));
        self.go_on(Duration::from_secs(1200));
        let ids: Vec<VmId> = self.sim.core().vms().map(|v| v.id).collect();
        ids.into_iter().for_each(|vm| self.ask(Request::DeleteVm { vm }));
        self.go_on(Duration::from_secs(300));
        let of = format!("seed {seed}, in the end");
        assert!(self.asked.is_empty(), "{of}: never answered: {:?}", self.asked);
        assert_eq!((self.sim.vms().count(), self.sim.core().vms().count()), (0, 0), "{of}");
        assert!(self.sim.under_way().is_empty() && self.sim.flows().ids().is_empty(), "{of}");
        let snapshot = self.sim.core().snapshot();
        let open = snapshot.migrations.iter().filter(|m| m.ended.is_none()).count();
        let promised: u64 = snapshot.links.iter().map(|l| l.reserved_up.0 + l.reserved_down.0).sum();
        assert_eq!((open, promised), (0, 0), "{of}");
        assert!(snapshot.servers.iter().all(|s| s.used == Resources::default()), "{of}");
    }
}

#[test]
fn moves_in_any_order_with_any_failures_keep_what_must_hold() {
    let mut begun = 0;
    let mut moved = 0;
    let mut failed = 0;
    for seed in 0..30 {
        let mut chaos = Chaos::new(seed);
        for n in 0..120 {
            chaos.step();
            let time = [1, 3, 20, 500, 3000, 15_000][chaos.below(6)];
            chaos.go_on(Duration::from_millis(time));
            chaos.check(&format!("seed {seed}, step {n}"));
        }
        chaos.calm(seed);
        let numbers = chaos.sim.moved();
        begun += numbers.begun;
        moved += numbers.moved;
        failed += numbers.failed;
    }
    assert_eq!(begun, moved + failed, "every transfer ends once");
    assert!(moved > 100 && failed > 20, "it is about moves: {begun} begun, {moved} done, {failed} failed");
}
