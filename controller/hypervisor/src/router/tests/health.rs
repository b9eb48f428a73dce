//! Servers that become unreachable and come back, missing VMs, and a router that was detached.

use super::*;

#[tokio::test(start_paused = true)]
async fn servers_that_are_away_are_told_tried_again_and_what_they_have_is_adopted() {
    let memory = Memory::default();
    memory.with(|s| {
        s.away.insert(B);
        s.vms.insert((A, VM));
        s.vms.insert((B, VmId(9)));
    });
    let mut bed = Bed::start(memory).await;
    let Event::ServersUnreachable { servers } = bed.event().await else { panic!("B is away") };
    assert_eq!(servers.len(), 1);
    assert!(servers[0].0 == B && servers[0].1.contains("no route"), "{servers:?}");
    let up = |vms: &[(VmId, ServerId)]| Event::WorldUp {
        world: "hypervisors".into(),
        vms: vms.to_vec(),
        traffic: false,
    };
    assert_eq!(bed.event().await, up(&[(VM, A)]));
    // A request for the server fails at once, with the reason.
    bed.send(allocate(VmId(10), B));
    let Event::VmFailed { why, .. } = bed.event().await else { panic!("B is away") };
    assert!(why.contains("cannot be reached"), "{why}");
    assert_eq!(bed.memory.calls("allocate"), 0);
    // A VM that cannot be stopped now is not reported as stopped.
    bed.send(Effect::StopVm { vm: VmId(9), server: B, placed_at: None });
    bed.quiet().await;
    bed.memory.with(|s| s.away.clear());
    assert_eq!(bed.event().await, Event::ServersUnreachable { servers: Vec::new() });
    assert_eq!(bed.event().await, up(&[(VM, A), (VmId(9), B)]));
    // The server fails while its loads are read: that is reported, and no VM is declared dead.
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    for _ in 0..2 {
        assert!(matches!(bed.event().await, Event::ServerSamples { .. }));
    }
    bed.memory.with(|s| s.away.insert(B));
    let mut heard = Vec::new();
    while !heard.iter().any(|e| matches!(e, Event::ServersUnreachable { servers } if servers.len() == 1)) {
        heard.push(bed.event().await);
    }
    assert!(
        heard.iter().all(|e| matches!(e, Event::ServerSamples { .. } | Event::ServersUnreachable { .. })),
        "{heard:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_somebody_destroyed_is_told_and_one_that_is_only_missed_is_not() {
    let mut bed = Bed::up(Memory::default()).await;
    bed.send(Effect::ReportLoads { period: Duration::from_secs(5) });
    bed.memory.with(|s| s.vms.remove(&(A, VM)));
    let failed = loop {
        match bed.event().await {
            Event::ServerSamples { .. } => {}
            other => break other,
        }
    };
    let Event::VmDied { vm: VM, why } = failed else { panic!("{failed:?}") };
    assert!(why.contains("not on memory any more"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn what_a_driver_hears_of_is_looked_at_at_once() {
    let mut bed = Bed::up(Memory::default()).await;
    let ears = bed.memory.with(|s| s.ears.clone()).expect("the router listens");
    let vm_down = VmDown { server: A, vm: VM, why: "somebody has removed it".into() };
    // A false alarm.
    ears.send(vm_down.clone()).await.expect("heard");
    bed.quiet().await;
    bed.memory.with(|s| s.vms.remove(&(A, VM)));
    ears.send(vm_down).await.expect("heard");
    let failed = bed.event().await;
    assert!(matches!(&failed, Event::VmDied { vm: VM, .. }), "{failed:?}");
}

/// The event loop detaches a router whose queue is full: the router reports it, attaches again and
/// reports the running VMs.
#[tokio::test(start_paused = true)]
async fn a_router_that_was_let_go_attaches_again_and_tells_what_runs() {
    let Bed { memory, effects, inputs, _task } = Bed::up(Memory::default()).await;
    drop(effects);
    let mut inputs = inputs;
    let detached = inputs.recv().await;
    assert!(
        matches!(&detached, Some(HypervisorReport::Detached(why)) if why.contains("64 orders")),
        "{detached:?}"
    );
    let Some(HypervisorReport::Attached(effects)) = inputs.recv().await else { panic!("it attaches again") };
    let mut bed = Bed { memory, effects, inputs, _task };
    assert_eq!(bed.event().await, Event::ServersUnreachable { servers: Vec::new() });
    let up = Event::WorldUp { world: "hypervisors".into(), vms: vec![(VM, A)], traffic: false };
    assert_eq!(bed.event().await, up);
    bed.send(allocate(VmId(8), A));
    assert_eq!(bed.event().await, started(VmId(8)));
}
