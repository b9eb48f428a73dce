//! The wall clock is set while the controller runs, or was wrong when it started: nobody's time
//! ends early, no link is called silent.

use crate::world::{SMALL, World, read};
use std::time::Duration;
use tandem_core::record_replay::replay;
use tandem_model::{Effect, Event, PersistedState, StoreOp, Time, VmId, VmRecord, VmState};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
/// What is tried: an hour, a day, and a clock without a battery.
const STEPS: [i64; 5] = [HOUR, -HOUR, DAY, -DAY, -1_600_000_000 * SECOND];

/// A VM whose time ends after `seconds`.
fn vm_for(world: &mut World, seconds: u64) -> VmRecord {
    let mut request = world.request();
    request.timeout = Some(Duration::from_secs(seconds));
    world.vm_of(request)
}

fn runs(world: &World, vm: VmId) -> bool {
    world.core.vm(vm).is_some_and(|v| v.state == VmState::Running)
}

/// Moments in the store and in the snapshot follow the wall clock; what is left of a VM's time does
/// not.
#[test]
fn a_step_moves_stored_ends_and_no_timer() {
    for by in STEPS {
        let mut world = World::new(read(SMALL));
        let (timed, kept) = (vm_for(&mut world, 90), world.vm());
        world.wait_seen(Duration::from_secs(30));
        let before = world.core.next_deadline();
        world.forget();
        world.tell(Event::WallClockStepped { by });
        assert_eq!(world.core.next_deadline(), before, "{by}: no timer has moved");
        assert!(
            !world.log.iter().any(|e| !matches!(e, Effect::Store { .. } | Effect::Notice { .. })),
            "{by}: {:?}",
            world.log
        );
        let end = timed.expires_at.expect("an end").moved(by);
        assert_eq!(world.core.vm(timed.id).and_then(|v| v.expires_at), Some(end));
        let stored = world.stored.vms.iter().find(|v| v.id == timed.id).expect("it is stored");
        assert_eq!(stored.expires_at, Some(end), "{by}: the store follows");
        assert_eq!(world.stored.alive_at, Some(world.now.moved(by)));
        let snapshot = world.core.snapshot();
        assert_eq!(snapshot.at, world.now.moved(by));
        let notice = snapshot.notices.last().expect("a notice");
        assert_eq!((notice.kind.as_str(), notice.at), ("clock-stepped", world.now.moved(by)));
        assert!(notice.text.contains("the 1 VMs whose time ends keep what is left"), "{}", notice.text);
        let host = snapshot.hosts.iter().find(|h| h.address == kept.address).expect("the VM");
        let seen = host.seen.expect("it was seen");
        assert!(seen <= snapshot.at && snapshot.at.since(seen) < Duration::from_secs(60), "{by}: {seen:?}");
        // To the second.
        world.wait_seen(Duration::from_secs(59));
        assert!(runs(&world, timed.id) && runs(&world, kept.id), "{by}");
        world.wait(Duration::from_secs(1));
        assert_eq!(world.core.vm(timed.id), None, "{by}: its time has passed");
        assert!(runs(&world, kept.id));
        // One that begins by the new clock.
        let later = vm_for(&mut world, 60);
        assert_eq!(later.expires_at, Some(world.now.moved(by) + Duration::from_secs(60)));
        world.wait_seen(Duration::from_secs(59));
        assert!(runs(&world, later.id), "{by}");
        world.wait(Duration::from_secs(1));
        assert_eq!(world.core.vm(later.id), None, "{by}");
    }
}

/// Links that are seen stay; a cable that is pulled so that only discovery can tell is missed as
/// soon as without a step.
#[test]
fn discovery_is_not_misled_by_a_step() {
    for by in STEPS {
        let mut world = World::new(read(SMALL));
        let vm = world.vm();
        let cut = world.link("agg1", "edge1");
        world.wait_seen(Duration::from_secs(60));
        world.forget();
        world.tell(Event::WallClockStepped { by });
        world.wait_seen(Duration::from_secs(60));
        assert!(world.notices().iter().all(|n| n.kind == "clock-stepped"), "{by}: {:?}", world.notices());
        assert!(runs(&world, vm.id));
        let mut waited = Duration::ZERO;
        while world.core.is_usable(cut) && waited < Duration::from_secs(300) {
            world.discover_except(&[cut]);
            world.wait(Duration::from_secs(1));
            waited += Duration::from_secs(1);
        }
        let site = &world.site.discovery;
        let most = site.lldp_timeout + site.lldp_period * 2;
        assert!(!world.core.is_usable(cut) && waited <= most, "{by}: after {waited:?}, at most {most:?}");
        let rerouted = world.core.vm(vm.id).cloned().expect("the VM");
        world.assert_reachable(&rerouted);
    }
}

/// Another controller on the store of the first, at what the wall clock shows then.
fn restarted(stored: &PersistedState, at: Time, vms: &[&VmRecord]) -> World {
    let mut after = World::dark_at(read(SMALL), stored.clone(), at);
    after.connect_all();
    after.attach(vms.iter().map(|v| (v.id, v.server)).collect());
    after
}

/// How long a VM lives from here on, in seconds, with discovery going on; `most` ends the wait.
fn lives(world: &mut World, vm: VmId, most: u64) -> u64 {
    let mut seconds = 0;
    while runs(world, vm) && seconds < most {
        world.wait_seen(Duration::from_secs(1));
        seconds += 1;
    }
    seconds
}

/// Time without a controller counts while it is believable. If it is not, the clock may be wrong,
/// and every VM has what was left of its time.
#[test]
fn a_restart_under_a_wrong_clock_takes_nobodys_time() {
    // How far the clock is from where the first controller stopped; how much of a VM's time that
    // costs.
    let rows: [(i64, u64); 9] = [
        (0, 0),
        (5 * SECOND, 5),
        (599 * SECOND, 599),
        (601 * SECOND, 0),
        (HOUR, 0),
        (-HOUR, 0),
        (DAY, 0),
        (-DAY, 0),
        (-1_600_000_000 * SECOND, 0),
    ];
    for (away, cost) in rows {
        let mut before = World::new(read(SMALL));
        let (timed, kept) = (vm_for(&mut before, 1200), before.vm());
        // Until it was written that a controller runs.
        before.wait_seen(Duration::from_secs(120));
        assert_eq!(before.stored.alive_at, Some(before.now));
        let mut after = restarted(&before.stored, before.now.moved(away), &[&timed, &kept]);
        let doubted = !after.noticed("clock-doubted").is_empty();
        assert_eq!(doubted, cost == 0 && away != 0, "{away}: {:?}", after.notices());
        assert_eq!(lives(&mut after, timed.id, 4000), 1080 - cost, "{away}");
        assert!(runs(&after, kept.id));
        // The clock is put right while it runs, or goes wrong: no difference.
        let mut corrected = restarted(&before.stored, before.now.moved(away), &[&timed, &kept]);
        corrected.tell(Event::WallClockStepped { by: away.saturating_neg() });
        assert_eq!(lives(&mut corrected, timed.id, 4000), 1080 - cost, "{away}, put right");
    }
}

/// A time that ran out while no controller ran, and that is believed: it ends at once. Without an
/// end nothing is doubted or written.
#[test]
fn what_is_believed_ends_at_once_and_without_ends_nothing_is_written() {
    let mut before = World::new(read(SMALL));
    let timed = vm_for(&mut before, 60);
    let mut after = restarted(&before.stored, before.now + Duration::from_secs(61), &[&timed]);
    after.wait(Duration::ZERO);
    assert_eq!(after.core.vm(timed.id), None);
    let mut world = World::new(read(SMALL));
    let kept = world.vm();
    world.wait_seen(Duration::from_secs(600));
    assert_eq!(world.stored.alive_at, None);
    world.tell(Event::WallClockStepped { by: DAY });
    let after = restarted(&world.stored, world.now.moved(-DAY), &[&kept]);
    assert_eq!(after.noticed("clock-doubted"), Vec::<&str>::new());
    // Once a minute while there is one, and no more when it is gone.
    let timed = vm_for(&mut world, 300);
    world.forget();
    world.wait_seen(Duration::from_secs(900));
    let alive = |e: &&Effect| matches!(e, Effect::Store { op: StoreOp::PutAlive { .. }, .. });
    assert_eq!(world.log.iter().filter(alive).count(), 4, "in five minutes, the first of them before");
    assert_eq!(world.core.vm(timed.id), None);
}

/// Killed between any two writes of a step, and started under the clock as it is then: nobody has
/// less than what was left.
#[test]
fn a_kill_within_a_step_takes_nobodys_time() {
    for by in STEPS {
        let mut before = World::new(read(SMALL));
        let vms: Vec<VmRecord> = (0..2).map(|_| vm_for(&mut before, 900)).collect();
        before.wait_seen(Duration::from_secs(60));
        let stored = before.stored.clone();
        before.forget();
        before.tell(Event::WallClockStepped { by });
        let writes: Vec<StoreOp> = before
            .log
            .iter()
            .filter_map(|e| match e {
                Effect::Store { op: record, .. } => Some(record.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(writes.len(), 3, "two VMs, and that a controller runs");
        for cut in 0..=writes.len() {
            let mut disk = World::dark_at(read(SMALL), stored.clone(), before.now);
            writes.iter().take(cut).for_each(|w| disk.write(w));
            let mut after = restarted(&disk.stored, before.now.moved(by), &vms.iter().collect::<Vec<_>>());
            after.wait_seen(Duration::from_secs(839));
            assert!(vms.iter().all(|v| runs(&after, v.id)), "{by}, {cut} writes: of 840 s");
        }
    }
}

/// A recorded run with a step in it is decided again the same way.
#[test]
fn a_step_is_replayed() {
    let mut world = World::new(read(SMALL));
    vm_for(&mut world, 90);
    world.tell(Event::WallClockStepped { by: -DAY });
    world.wait_seen(Duration::from_secs(120));
    let recorded = crate::restart::recorded(&world);
    assert!(replay(&recorded[..]).is_ok_and(|events| events == world.lines.len()));
}
