//! The smallest changes that would let in a request that is refused. Each is tried on paper before
//! it is said; the smallest share of what is asked for, or of what there is, comes first.

use crate::compute::ComputeRef;
use std::collections::BTreeSet;
use tandem_model::{
    BitRate, Bytes, Candidate, Change, Resource, Resources, ServerId, VmGroupRequest, VmRequest,
};

/// On a site of more servers no changes are looked for: each is a hundred tries on copies of all of it,
/// and nothing else is decided meanwhile.
const LARGEST_SITE: usize = 20_000;
/// So many changes are told at most.
const TOLD: usize = 5;
/// So many servers, the nearest first, are tried with more of something.
const SERVERS: usize = 8;
/// Margins are tried up to so many times what they are.
const MOST_MARGIN: u32 = 10;

/// A change, and how large it is: a share of what is asked for or of what there is.
type Sized = (f64, Change);

impl<'a> ComputeRef<'a> {
    /// What would let in a request of which member `at` is refused, where servers are as the
    /// `candidates` say.
    pub(crate) fn smallest_changes(
        self,
        request: &VmGroupRequest,
        at: usize,
        candidates: &[Candidate],
    ) -> Vec<Change> {
        let class_exists = |member: &VmRequest| self.rules().class_exists(member).is_ok();
        let many = self.compute.inventory.servers().len() > LARGEST_SITE;
        if many || !request.members.iter().all(class_exists) {
            return Vec::new();
        }
        let mut found: Vec<Sized> = Vec::new();
        found.extend(self.less(request));
        found.extend(self.more_on_a_server(request, candidates));
        found.extend(self.margins(request));
        found.extend(self.without_conditions(request, at));
        found.extend(self.servers_back(request));
        found.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        found.into_iter().map(|(_, change)| change).take(TOLD).collect()
    }

    /// Less of one resource in each VM. What is admitted with less of it is admitted with still
    /// less, so the most that is admitted is searched by halves.
    fn less(self, request: &VmGroupRequest) -> Vec<Sized> {
        let asked = |resource: Resource| {
            let of = |r: &VmRequest| amount(&r.resources, resource);
            request.members.iter().map(of).max().unwrap_or_default()
        };
        let mut found = Vec::new();
        for resource in [Resource::Cpu, Resource::Ram, Resource::Disk, Resource::Net] {
            let most = asked(resource);
            let fits = |cap: u64| {
                let mut less = request.clone();
                for member in &mut less.members {
                    let has = amount(&member.resources, resource).min(cap);
                    set_amount(&mut member.resources, resource, has);
                }
                self.is_admitted(&mut self.paper(), &less)
            };
            // A VM has one core and some memory at least.
            let least = u64::from(matches!(resource, Resource::Cpu | Resource::Ram));
            if most <= least || !fits(least) {
                continue;
            }
            let (mut good, mut bad) = (least, most);
            while bad - good > step(resource, most) {
                let middle = good + (bad - good) / 2;
                if fits(middle) { good = middle } else { bad = middle }
            }
            let good = round_down(resource, good, &fits);
            found.push((
                (most - good) as f64 / most as f64,
                Change::AskForLess { resource, less: most - good },
            ));
        }
        found
    }

    /// More of everything that one server is short of: where that is one resource only.
    fn more_on_a_server(self, request: &VmGroupRequest, candidates: &[Candidate]) -> Vec<Sized> {
        let mut near: Vec<(f64, ServerId, Resource, u64)> = Vec::new();
        for (n, candidate) in (0u32..).zip(candidates) {
            let [miss] = candidate.short.as_slice() else { continue };
            let of_server =
                matches!(miss.resource, Resource::Cpu | Resource::Ram | Resource::Disk | Resource::Net);
            if !of_server || miss.place != candidate.server {
                continue;
            }
            let id = ServerId(n);
            let has = self.compute.inventory.server(id).map_or(0, |s| amount(&s.capacity, miss.resource));
            let more = miss.needed.saturating_sub(miss.available);
            near.push((more as f64 / has.max(1) as f64, id, miss.resource, more));
        }
        near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.truncate(SERVERS);
        let fits = |id: ServerId, resource, more| {
            let mut paper = self.paper();
            let mut what = Resources::default();
            set_amount(&mut what, resource, more);
            paper.inventory.enlarge(id, what);
            self.is_admitted(&mut paper, request)
        };
        let found = near.into_iter().find(|(_, id, resource, more)| fits(*id, *resource, *more));
        let change = |(size, id, resource, more)| {
            (size, Change::MoreOnServer { server: self.cx.server_name(id), resource, more })
        };
        found.map(change).into_iter().collect()
    }

    /// Larger margins, in hundredths.
    fn margins(self, request: &VmGroupRequest) -> Vec<Sized> {
        let policy = &self.cx.site.policy;
        let links = |margin: f64| {
            let mut paper = self.paper();
            paper.links.set_margin(margin);
            self.is_admitted(&mut paper, request)
        };
        let servers = |margin: f64| {
            let mut paper = self.paper();
            paper.inventory.set_margin(&self.cx.site.topology, margin);
            self.is_admitted(&mut paper, request)
        };
        let link = least_margin(policy.link_margin, &links)
            .map(|(size, hundredths)| (size, Change::LinkMargin { hundredths }));
        let server = least_margin(policy.server_margin, &servers)
            .map(|(size, hundredths)| (size, Change::ServerMargin { hundredths }));
        let switches = |margin: f64| {
            let mut paper = self.paper();
            paper.links.set_switch_margin(margin);
            self.is_admitted(&mut paper, request)
        };
        let switch = policy.switch_margin.and_then(|margin| least_margin(margin, &switches));
        let switch = switch.map(|(size, hundredths)| (size, Change::SwitchMargin { hundredths }));
        link.into_iter().chain(server).chain(switch).collect()
    }

    /// What is asked for besides resources, left out.
    fn without_conditions(self, request: &VmGroupRequest, at: usize) -> Vec<Sized> {
        let Some(refused) = request.members.get(at) else { return Vec::new() };
        let mut tried = Vec::new();
        if refused.constraints.spread.is_some() {
            let mut other = request.clone();
            other.members.iter_mut().for_each(|m| m.constraints.spread = None);
            tried.push((Change::WithoutSpread, other));
        }
        if refused.constraints.on.is_some() {
            let mut other = request.clone();
            other.members.iter_mut().for_each(|m| m.constraints.on = None);
            tried.push((Change::AnyPlace, other));
        }
        if request.rate.is_some() {
            tried.push((Change::WithoutRate, VmGroupRequest { rate: None, ..request.clone() }));
        }
        let fits = |other: &VmGroupRequest| self.is_admitted(&mut self.paper(), other);
        tried.into_iter().filter(|(_, other)| fits(other)).map(|(change, _)| (1.0, change)).collect()
    }

    /// A server that was taken out of service, back.
    fn servers_back(self, request: &VmGroupRequest) -> Vec<Sized> {
        let drained: BTreeSet<ServerId> = self.compute.inventory.drained().take(SERVERS).collect();
        let fits = |id: &ServerId| {
            let mut paper = self.paper();
            paper.inventory.set_drained(*id, false);
            self.is_admitted(&mut paper, request)
        };
        let found = drained.into_iter().find(fits);
        found.map(|id| (1.0, Change::ReturnServer { server: self.cx.server_name(id) })).into_iter().collect()
    }
}

fn amount(of: &Resources, resource: Resource) -> u64 {
    match resource {
        Resource::Cpu => u64::from(of.cpu),
        Resource::Ram => of.ram.0,
        Resource::Disk => of.disk.0,
        Resource::Net => of.net.0,
        Resource::Link | Resource::Address | Resource::Path | Resource::Switch => 0,
    }
}

fn set_amount(of: &mut Resources, resource: Resource, to: u64) {
    match resource {
        Resource::Cpu => of.cpu = u32::try_from(to).unwrap_or(u32::MAX),
        Resource::Ram => of.ram = Bytes(to),
        Resource::Disk => of.disk = Bytes(to),
        Resource::Net => of.net = BitRate(to),
        Resource::Link | Resource::Address | Resource::Path | Resource::Switch => {}
    }
}

/// How near to the most a search comes: a core, and else a part in a million.
fn step(resource: Resource, most: u64) -> u64 {
    if resource == Resource::Cpu { 1 } else { (most >> 20).max(1) }
}

/// A number that people would write, a little below the one that was found.
fn round_down(resource: Resource, found: u64, fits: &dyn Fn(u64) -> bool) -> u64 {
    let units: &[u64] = match resource {
        Resource::Ram | Resource::Disk => &[1 << 30, 1 << 20, 1 << 10],
        Resource::Net => &[1_000_000, 1_000],
        _ => &[],
    };
    // A step of the search above, so that a whole number that was just missed is met.
    let near = |unit: &u64| {
        let up = found.div_ceil(*unit) * unit;
        let is_near = up - found <= (found >> 18).max(2);
        if is_near { up } else { found / unit * unit }
    };
    let all = units.iter().map(near);
    let is_good = |n: &u64| *n > 0 && n.abs_diff(found) <= found / 20 && fits(*n);
    all.into_iter().find(is_good).unwrap_or(found)
}

/// The least margin above `now` that admits, in hundredths, and by which share it is larger.
fn least_margin(now: f64, fits: &dyn Fn(f64) -> bool) -> Option<(f64, u32)> {
    let of = |hundredths: u32| f64::from(hundredths) / 100.0;
    let start = (now * 100.0).floor().max(1.0) as u32;
    let most = start.saturating_mul(MOST_MARGIN);
    if !fits(of(most)) {
        return None;
    }
    let (mut bad, mut good) = (start, most);
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        if fits(of(middle)) { good = middle } else { bad = middle }
    }
    Some(((of(good) - now) / now, good))
}
