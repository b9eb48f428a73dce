//! VMs that are started, stopped, resized and attached: order, limits, and failures.

use super::*;

#[tokio::test(start_paused = true)]
async fn wishes_of_one_vm_are_carried_out_in_their_order_and_repeated_ones_once() {
    let mut bed = Bed::up(Memory::default()).await;
    let vm = VmId(8);
    for effect in
        [allocate(vm, A), allocate(vm, A), Effect::StopVm { vm, server: A, placed_at: None }, allocate(vm, B)]
    {
        bed.send(effect);
    }
    assert_eq!(bed.event().await, started(vm));
    assert_eq!(bed.event().await, Event::VmStopped { vm });
    assert_eq!(bed.event().await, started(vm));
    bed.quiet().await;
    assert!(bed.memory.with(|s| s.vms.contains(&(B, vm)) && !s.vms.contains(&(A, vm))));
    assert_eq!(bed.memory.calls("allocate"), 2);
}

#[tokio::test(start_paused = true)]
async fn vms_are_served_side_by_side_within_the_bound_of_a_server() {
    let mut bed = Bed::up(Memory::default()).await;
    for n in 100..120 {
        bed.send(allocate(VmId(n), A));
    }
    for _ in 100..120 {
        assert!(matches!(bed.event().await, Event::VmStarted { .. }));
    }
    assert_eq!(bed.memory.with(|s| s.most_at_once), CALLS);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_hangs_or_panics_does_not_hold_up_what_comes_after_it() {
    let memory = Memory::default();
    memory.will("allocate", &[Does::Fail(refused("no kernel")), Does::Hang, Does::Panic]);
    let mut bed = Bed::up(memory).await;
    let vm = VmId(8);
    bed.send(allocate(vm, A));
    assert_eq!(bed.event().await, Event::VmFailed { vm, why: "it: no kernel".into() });
    bed.send(allocate(vm, A));
    let Event::VmFailed { why, .. } = bed.event().await else { panic!("it hangs") };
    assert!(why.contains("memory: starting vm8 was given up after 900s"), "{why}");
    // A hung call makes the router list its server again; the server answers, so nothing is
    // reported.
    bed.send(allocate(vm, A));
    bed.send(Effect::StopVm { vm, server: A, placed_at: None });
    assert_eq!(bed.event().await, Event::VmStopped { vm });
    bed.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_cannot_be_stopped_is_tried_until_it_is() {
    let memory = Memory::default();
    memory.will("destroy", &[Does::Fail(refused("busy")), Does::Fail(refused("busy"))]);
    let mut bed = Bed::up(memory).await;
    bed.send(Effect::StopVm { vm: VM, server: A, placed_at: None });
    assert_eq!(bed.event().await, Event::VmStopped { vm: VM });
    assert_eq!(bed.memory.calls("destroy"), 3);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_answered_too() {
    let memory = Memory::default();
    memory.will("resize", &[Does::Fail(refused("too large"))]);
    memory.will("attach", &[Does::Fail(refused("no bridge")), Does::Fail(refused("no bridge"))]);
    let mut bed = Bed::up(memory).await;
    let resources = spec().resources;
    bed.send(Effect::ResizeVm { vm: VM, server: A, resources });
    assert_eq!(bed.event().await, Event::VmFailed { vm: VM, why: "it: too large".into() });
    bed.send(Effect::AttachVm { vm: VM, server: A, uplink_port: PortNo(2) });
    bed.send(Effect::ResizeVm { vm: VM, server: A, resources });
    assert_eq!(bed.event().await, Event::VmResized { vm: VM });
    assert_eq!(bed.memory.calls("attach"), 3);
    bed.send(allocate(VM, ServerId(99)));
    let Event::VmFailed { why, .. } = bed.event().await else { panic!("no such server") };
    assert!(why.contains("not in the hypervisors file"), "{why}");
}

/// Uplinks of a server that flap during a hung call leave one job, the last.
#[tokio::test(start_paused = true)]
async fn a_line_of_attachments_is_one_attachment_long() {
    let memory = Memory::default();
    memory.will("attach", &[Does::Hang]);
    let mut bed = Bed::up(memory).await;
    for n in 0..50 {
        bed.send(Effect::AttachVm { vm: VM, server: A, uplink_port: PortNo(1 + n % 2) });
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(7200);
    while bed.memory.calls("attach") < 2 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bed.quiet().await;
    assert_eq!(bed.memory.calls("attach"), 2, "the one that hung, and the last");
}
