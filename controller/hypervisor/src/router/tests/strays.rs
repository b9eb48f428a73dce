//! VMs without a request, hosts that serve another controller, and orders for another VM with the
//! same id.

use super::*;
use tandem_model::{FoundVm, StoreUid, VmOrigin};

fn made_at(placed_at: u64) -> VmSpec {
    let origin = VmOrigin { placed_at: Time(placed_at), ..VmOrigin::default() };
    VmSpec { origin, ..spec() }
}

/// Running and stopped VMs are reported with their stored specifications before `WorldUp`; and the
/// router itself changes none of them.
#[tokio::test(start_paused = true)]
async fn what_is_there_is_told_with_what_is_kept_and_left_as_it_is() {
    let memory = Memory::default();
    memory.with(|s| {
        s.vms.extend([(A, VM), (B, VmId(8))]);
        s.halted.insert((B, VmId(9)));
        s.kept.insert(VM, made_at(5));
    });
    let mut bed = Bed::start(memory).await;
    assert_eq!(bed.any_event().await, Event::ServersUnreachable { servers: Vec::new() });
    let found =
        |vm, server, runs, spec: Option<VmSpec>| FoundVm { vm, server, runs, spec: spec.map(Box::new) };
    let vms = vec![
        found(VM, A, true, Some(made_at(5))),
        found(VmId(8), B, true, None),
        found(VmId(9), B, false, None),
    ];
    assert_eq!(bed.any_event().await, Event::VmsFound { vms });
    assert!(matches!(bed.any_event().await, Event::WorldUp { vms, .. } if vms == [(VM, A), (VmId(8), B)]));
    bed.quiet().await;
    assert!(bed.memory.with(|s| s.log.iter().all(|l| l.starts_with("list"))));
    // From now on it is stored with the VM.
    bed.send(Effect::TagVm { vm: VmId(8), server: B, spec: Box::new(made_at(6)) });
    bed.quiet().await;
    assert_eq!(bed.memory.with(|s| s.kept.get(&VmId(8)).cloned()), Some(made_at(6)));
}

/// A stop for a VM that was created for another request is answered like one for a VM that does not
/// exist, and the VM's server stays known.
#[tokio::test(start_paused = true)]
async fn a_stop_that_means_another_vm_stops_nobody() {
    let memory = Memory::default();
    memory.with(|s| s.kept.insert(VM, made_at(5)));
    let mut bed = Bed::up(memory).await;
    bed.send(Effect::StopVm { vm: VM, server: A, placed_at: Some(Time(6)) });
    assert_eq!(bed.event().await, Event::VmStopped { vm: VM });
    assert_eq!((bed.memory.calls("destroy"), bed.memory.with(|s| s.vms.len())), (0, 1));
    // Its end is noticed as before.
    bed.memory.with(|s| s.vms.clear());
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    loop {
        match bed.event().await {
            Event::ServerSamples { .. } => {}
            other => break assert!(matches!(other, Event::VmDied { vm: VM, .. }), "{other:?}"),
        }
    }
    bed.memory.with(|s| s.vms.insert((A, VM)));
    bed.send(Effect::StopVm { vm: VM, server: A, placed_at: Some(Time(5)) });
    while bed.event().await != (Event::VmStopped { vm: VM }) {}
    assert_eq!(bed.memory.with(|s| s.vms.len()), 0);
}

/// Hosts that serve another controller count as unreachable, with what to do, and get no calls.
/// When they are given to this controller, it uses them; when they are taken away, it stops. Both
/// are reported.
#[tokio::test(start_paused = true)]
async fn hosts_of_another_controller_are_left_alone() {
    let other = Owner { store: StoreUid(1), site: "dc".into() };
    let memory = Memory::default();
    memory.with(|s| {
        s.vms.insert((A, VM));
        s.owner = Some(other.clone());
    });
    let mut bed = Bed::start(memory).await;
    let Event::ServersUnreachable { servers } = bed.event().await else { panic!("they serve another one") };
    assert_eq!(servers.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [A, B]);
    for word in [&other.store.to_string(), "serves another controller", "tandem hypervisors take-over"] {
        assert!(servers[0].1.contains(word), "{}", servers[0].1);
    }
    assert!(matches!(bed.event().await, Event::WorldUp { vms, .. } if vms.is_empty()));
    bed.send(allocate(VmId(8), A));
    assert!(matches!(bed.event().await, Event::VmFailed { why, .. } if why.contains("take-over")));
    assert!(bed.memory.with(|s| s.log.is_empty()), "nothing was asked of them");
    assert_eq!(bed.memory.with(|s| s.rival.clone()), Some(owner()), "the other one hears of it");
    bed.memory.with(|s| (s.owner, s.rival) = (Some(owner()), None));
    // One after the other: each is tried again at its time.
    let served = loop {
        match bed.event().await {
            Event::ServersUnreachable { servers } if servers.is_empty() => break bed.event().await,
            _ => {}
        }
    };
    assert!(matches!(served, Event::WorldUp { vms, .. } if vms == [(VM, A)]));
    // Another controller tries: that is reported. Another controller has taken them: they are
    // unreachable again, and their VMs have not failed.
    bed.memory.with(|s| s.rival = Some(other.clone()));
    let Event::RivalSeen { who, .. } = bed.event().await else { panic!("another one has tried") };
    assert!(who.contains(&other.store.to_string()), "{who}");
    bed.memory.with(|s| s.owner = Some(other));
    let Event::ServersUnreachable { servers } = bed.event().await else { panic!("they were taken") };
    assert!(!servers.is_empty() && servers[0].1.contains("serves another controller"));
}
