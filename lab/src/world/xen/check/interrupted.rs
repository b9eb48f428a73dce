//! A controller that is killed while a VM moves: the next one finishes the move or undoes it, and
//! the VM is in one place.

use super::Bench;
use anyhow::ensure;
use std::time::Instant;

pub(super) fn before_transfer(b: &mut Bench<'_>) -> anyhow::Result<()> {
    killed(b, &["reserve", "prepare"])
}

pub(super) fn in_transfer(b: &mut Bench<'_>) -> anyhow::Result<()> {
    killed(b, &["transfer"])
}

pub(super) fn in_switch_over(b: &mut Bench<'_>) -> anyhow::Result<()> {
    killed(b, &["switch-over", "confirm", "release"])
}

fn killed(b: &mut Bench<'_>, phases: &[&str]) -> anyhow::Result<()> {
    let vm = b.vm("idle")?;
    let watch = b.dc.watch(vm.address)?;
    let id = b.dc.begin_move(vm.id, "srv2", &[])?;
    let phase = b.dc.reach_phase(id, phases)?;
    if phases == ["transfer"] {
        b.dc.reach_bytes(id)?;
    }
    b.dc.kill_controller()?;
    println!("   killed in phase {}", phase.as_deref().unwrap_or("none: it had ended"));
    let began = Instant::now();
    b.dc.start_controller()?;
    let (end, why) = b.dc.end_of(id)?;
    println!("   {end}: {why}");
    b.figures.seconds(&format!("controller killed in {}, until it is {end}", phases[0]), began);
    ensure!(end != "lost", "the VM was lost: {why}");
    let at = if end == "moved" { "srv2" } else { "srv1" };
    b.dc.wait_connected()?;
    b.expect_at(&vm, at)?;
    let report = watch.stop(&b.folder(phases[0]))?;
    b.expect_nothing_lost(&format!("controller killed in {}", phases[0]), &report)
}
