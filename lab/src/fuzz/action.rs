//! What a schedule is made of: concrete actions at fixed moments. Any of them may be left out and
//! the rest still makes sense: an action that names the n-th VM means the n-th of those that are
//! there then, counted around, and does nothing when there is none.

use super::draw::Draw;
use super::together;
use std::fmt;

/// An action, and when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Virtual milliseconds since the start.
    pub(super) at: u32,
    /// What is done.
    pub(super) action: Action,
}

/// Why a switch refuses a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its table is full.
    TableFull,
    /// It has no metadata (OpenFlow 1.3), or else as above.
    NoMetadata,
}

/// How the next transfer of a VM ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransferEnd {
    /// It fails while memory is copied.
    FailsEarly,
    /// It fails after the VM was paused; the VM runs where it was.
    FailsLate,
    /// The VM is lost.
    LosesVm,
    /// It copies and copies, until somebody cancels it.
    Hangs,
}

/// What a plan of moves is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlanKind {
    /// Every VM where the policy wants it.
    KeepPolicy,
    /// No hotspots.
    Relieve,
    /// An empty server, the n-th.
    Evacuate(u32),
    /// The n-th VM somewhere else.
    Move(u32),
}

/// What somebody at a server's port sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// An IPv4 packet with the right addresses.
    Right,
    /// An IPv4 packet with somebody else's address.
    Spoofed,
    /// An ARP request for the gateway.
    Arp,
    /// An ARP probe for an address (RFC 5227).
    Probe,
    /// A DHCP client that starts again.
    Discover,
    /// A DHCP client that gives its address back.
    Release,
    /// A DHCP client that wants an address that is not its own.
    Foreign,
}

/// One thing that is asked or goes wrong. Numbers are of VMs, servers, links and so on, counted
/// around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// A VM is asked for: CPU cores, network in tenths of the default, class (0 for none), lifetime
    /// in seconds (0 for none).
    RequestVm { cpu: u32, net: u32, class: u32, lifetime: u32 },
    /// VMs are asked for together: their network is the default, what each sends to each other one
    /// is in tenths of it (0 reserves nothing), and they are kept apart by server (0), by edge (1) or
    /// not.
    RequestTogether { name: u32, size: u32, cpu: u32, rate: u32, apart: u32 },
    /// A VM with constraints is asked for.
    RequestKept { cpu: u32, tag: u32, on: u32 },
    /// It is asked what a request would lead to.
    Explain { size: u32, cpu: u32 },
    /// A VM is deleted.
    DeleteVm(u32),
    /// A VM is given other resources.
    ResizeVm { vm: u32, cpu: u32, net: u32 },
    /// VMs become a group: `size` of them, every `stride`-th from the `first` on.
    CreateGroup { first: u32, stride: u32, size: u32 },
    /// A group is deleted.
    DeleteGroup(u32),
    /// The classes get other shares.
    SetShares(u32),
    /// A port of a link is switched off by hand.
    PortOff { link: u32, upper: bool },
    /// A port that was switched off is switched on again.
    PortOn(u32),
    /// A VM's path is pinned to a switch.
    PinPath { vm: u32, via: u32 },
    /// A VM's path is left to routing.
    UnpinPath(u32),
    /// A VM is moved to a server, or to where the policy wants it.
    MigrateVm { vm: u32, to: Option<u32>, force: bool, cold: bool },
    /// A migration is cancelled.
    CancelMigration(u32),
    /// Moves are thought through.
    Plan(PlanKind),
    /// The last plan is carried out.
    ApplyPlan,
    /// The last plan is stopped.
    StopPlan,
    /// A server is emptied.
    Evacuate(u32),
    /// A server that was emptied may have VMs again.
    ReturnServer(u32),
    /// Counters are read now.
    PollNow,
    /// A VM without a record is taken up.
    AdoptStray(u32),
    /// A VM without a record is stopped.
    StopStray(u32),

    /// A switch's connection is lost, and is back after so many milliseconds.
    LoseSwitch { switch: u32, back: u32 },
    /// A second connection of a switch takes over.
    TakeOver(u32),
    /// A switch refuses the flow that comes after so many others.
    Refuse { switch: u32, after: u32, why: Refusal },
    /// A switch takes so many milliseconds more for everything from now on.
    SlowSwitch { switch: u32, ms: u32 },
    /// So many of a switch's next answers are lost.
    Swallow { switch: u32, answers: u32 },
    /// A switch says so many of its next answers twice.
    Stutter { switch: u32, answers: u32 },
    /// Somebody else deletes every `nth` flow of a switch.
    Wipe { switch: u32, nth: u32 },

    /// A cable is pulled, and plugged in again after so many milliseconds.
    Cable { link: u32, back: u32 },
    /// A cable has a loose contact.
    Flap { link: u32, times: u32 },

    /// So many of the store's next transactions fail.
    StoreFails(u32),
    /// The store takes so many milliseconds more from now on.
    SlowStore(u32),

    /// The hypervisor service is gone, and is back after so many milliseconds.
    WorldDown { back: u32 },
    /// A server's hypervisor does not answer for so many milliseconds.
    ServerAway { server: u32, back: u32 },
    /// A server loses power: all its VMs are gone.
    ServerDies(u32),
    /// A VM dies.
    VmDies(u32),
    /// So many of the next starts and resizes fail.
    StartsFail(u32),
    /// How the next transfer ends.
    NextTransfer(TransferEnd),
    /// Hypervisors take so many milliseconds more from now on.
    SlowHypervisors(u32),
    /// So many of the hypervisors' next answers are said twice.
    HypervisorsStutter(u32),
    /// A VM is there that the store knows nothing of.
    Stray { server: u32, id: u32 },

    /// Somebody at a VM's port sends something.
    VmSends { vm: u32, what: Sent },
    /// A server or a gateway is seen.
    HostSends { host: u32, what: Sent },
    /// A server tells what it and its VMs use, every second, so many times.
    Loads { server: u32, percent: u32, times: u32 },
    /// An agent tells what it manages and has counted at a switch's ports.
    Agent { switch: u32, bytes: u32 },
    /// An agent is gone.
    AgentDown(u32),
    /// Traffic goes through a switch's ports, so that its counters grow.
    Traffic { link: u32, mbit: u32 },

    /// The wall clock is set by so many seconds.
    StepClock(i32),
    /// The controller is killed, and starts again after so many milliseconds; what it was writing
    /// is written or not.
    Restart { back: u32, written: bool },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7}.{:03} s  {}", self.at / 1000, self.at % 1000, self.action)
    }
}

/// A large number, to be counted around.
const ANY: u32 = 1 << 20;

/// The schedule of a seed: at most `most` actions.
pub(super) fn schedule(seed: u64, most: usize) -> Vec<Step> {
    let mut draw = Draw::new(seed, 1);
    let mut more = Draw::new(seed, 9);
    // Some seeds are about few kinds of things, so that these come together more often.
    let theme = draw.below(8);
    let mut at = 1500;
    let mut steps = Vec::with_capacity(most);
    for n in 0..most {
        at += match draw.below(20) {
            0..=9 => draw.below(20),
            10..=17 => draw.between(30, 1500),
            _ => draw.between(2_000, 12_000),
        };
        let action = if n < 4 { request(&mut draw) } else { action(&mut draw, theme) };
        let other = if seed >= together::FROM { together::action(&mut more) } else { None };
        let action = other.unwrap_or(action);
        steps.push(Step { at, action });
    }
    steps
}

fn request(draw: &mut Draw) -> Action {
    Action::RequestVm {
        cpu: draw.between(1, 4),
        net: draw.between(1, 30),
        class: draw.below(4),
        lifetime: if draw.chance(15) { draw.between(5, 120) } else { 0 },
    }
}

fn action(draw: &mut Draw, theme: u32) -> Action {
    let family = draw.below(100);
    // A theme takes a third of the actions.
    let themed = draw.chance(33);
    match (themed, theme) {
        (true, 1) => switch_fault(draw),
        (true, 2) => migration(draw),
        (true, 3) => hypervisor_fault(draw),
        (true, 4) => cable(draw),
        (true, 5) => group(draw),
        (true, 6) => store_fault(draw),
        _ => match family {
            0..=21 => request(draw),
            22..=28 => Action::DeleteVm(draw.below(ANY)),
            29..=33 => {
                Action::ResizeVm { vm: draw.below(ANY), cpu: draw.between(1, 6), net: draw.between(1, 40) }
            }
            34..=42 => group(draw),
            43..=55 => migration(draw),
            56..=63 => switch_fault(draw),
            64..=70 => cable(draw),
            71..=73 => store_fault(draw),
            74..=80 => hypervisor_fault(draw),
            81..=85 => by_hand(draw),
            86..=92 => seen(draw),
            93..=96 => measured(draw),
            97 => Action::StepClock(clock_step(draw)),
            _ => Action::Restart { back: draw.between(1, 3000), written: draw.chance(50) },
        },
    }
}

fn clock_step(draw: &mut Draw) -> i32 {
    let by = draw.pick(&[2, 60, 3600, 86_400]);
    if draw.chance(50) { by } else { -by }
}

fn group(draw: &mut Draw) -> Action {
    if draw.chance(30) {
        return Action::DeleteGroup(draw.below(ANY));
    }
    Action::CreateGroup { first: draw.below(ANY), stride: draw.between(1, 4), size: draw.between(2, 7) }
}

fn migration(draw: &mut Draw) -> Action {
    match draw.below(20) {
        0..=10 => Action::MigrateVm {
            vm: draw.below(ANY),
            to: draw.chance(60).then(|| draw.below(ANY)),
            force: draw.chance(70),
            cold: draw.chance(20),
        },
        11 => Action::CancelMigration(draw.below(ANY)),
        12 => Action::Plan(match draw.below(4) {
            0 => PlanKind::KeepPolicy,
            1 => PlanKind::Relieve,
            2 => PlanKind::Evacuate(draw.below(ANY)),
            _ => PlanKind::Move(draw.below(ANY)),
        }),
        13 | 14 => Action::ApplyPlan,
        15 => Action::StopPlan,
        16 => Action::Evacuate(draw.below(ANY)),
        17 | 18 => Action::ReturnServer(draw.below(ANY)),
        _ => Action::NextTransfer(draw.pick(&[
            TransferEnd::FailsEarly,
            TransferEnd::FailsLate,
            TransferEnd::LosesVm,
            TransferEnd::Hangs,
        ])),
    }
}

fn switch_fault(draw: &mut Draw) -> Action {
    let switch = draw.below(ANY);
    match draw.below(16) {
        0..=4 => Action::LoseSwitch {
            switch,
            back: if draw.chance(80) { draw.between(5, 3000) } else { draw.between(3000, 40_000) },
        },
        5 => Action::TakeOver(switch),
        6..=8 => Action::Refuse {
            switch,
            after: draw.below(12),
            why: if draw.chance(75) { Refusal::TableFull } else { Refusal::NoMetadata },
        },
        9 | 10 => Action::SlowSwitch { switch, ms: draw.pick(&[0, 0, 20, 300, 2500]) },
        11 | 12 => Action::Swallow { switch, answers: draw.between(1, 4) },
        13 | 14 => Action::Stutter { switch, answers: draw.between(1, 6) },
        _ => Action::Wipe { switch, nth: draw.between(1, 5) },
    }
}

fn cable(draw: &mut Draw) -> Action {
    let link = draw.below(ANY);
    match draw.below(6) {
        0 => Action::Flap { link, times: draw.between(1, 6) },
        1 => Action::Cable { link, back: draw.between(20_000, 90_000) },
        _ => Action::Cable { link, back: draw.between(20, 12_000) },
    }
}

fn store_fault(draw: &mut Draw) -> Action {
    match draw.below(5) {
        0 => Action::SlowStore(draw.pick(&[0, 0, 50, 800])),
        1 => Action::Restart { back: draw.between(1, 3000), written: draw.chance(50) },
        _ => Action::StoreFails(draw.between(1, 4)),
    }
}

fn hypervisor_fault(draw: &mut Draw) -> Action {
    match draw.below(14) {
        0 | 1 => Action::WorldDown { back: draw.between(5, 5_000) },
        2 => Action::ServerAway { server: draw.below(ANY), back: draw.between(100, 9_000) },
        3 => Action::ServerDies(draw.below(ANY)),
        4..=6 => Action::VmDies(draw.below(ANY)),
        7 | 8 => Action::StartsFail(draw.between(1, 3)),
        9 => Action::SlowHypervisors(draw.pick(&[0, 0, 100, 3000])),
        10 | 11 => Action::HypervisorsStutter(draw.between(1, 4)),
        12 => Action::Stray { server: draw.below(ANY), id: draw.below(8) },
        _ => match draw.below(2) {
            0 => Action::AdoptStray(draw.below(ANY)),
            _ => Action::StopStray(draw.below(ANY)),
        },
    }
}

fn by_hand(draw: &mut Draw) -> Action {
    match draw.below(6) {
        0 => Action::SetShares(draw.below(ANY)),
        1 => Action::PortOff { link: draw.below(ANY), upper: draw.chance(50) },
        2 => Action::PortOn(draw.below(ANY)),
        3 | 4 => Action::PinPath { vm: draw.below(ANY), via: draw.below(ANY) },
        _ => Action::UnpinPath(draw.below(ANY)),
    }
}

fn seen(draw: &mut Draw) -> Action {
    let what = draw.pick(&[
        Sent::Right,
        Sent::Right,
        Sent::Spoofed,
        Sent::Arp,
        Sent::Probe,
        Sent::Discover,
        Sent::Release,
        Sent::Foreign,
    ]);
    if draw.chance(70) {
        Action::VmSends { vm: draw.below(ANY), what }
    } else {
        Action::HostSends { host: draw.below(ANY), what }
    }
}

fn measured(draw: &mut Draw) -> Action {
    match draw.below(8) {
        0 | 1 => Action::Loads {
            server: draw.below(ANY),
            percent: draw.between(5, 130),
            times: draw.between(1, 8),
        },
        2 | 3 => Action::Agent { switch: draw.below(ANY), bytes: draw.below(1 << 30) },
        4 => Action::AgentDown(draw.below(ANY)),
        5 | 6 => Action::Traffic { link: draw.below(ANY), mbit: draw.between(1, 200) },
        _ => Action::PollNow,
    }
}
