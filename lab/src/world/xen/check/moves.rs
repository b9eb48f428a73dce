//! Moves that go well: live there and back under pings, cold with a disk, and one that is
//! cancelled.

use super::Bench;
use anyhow::ensure;
use std::time::{Duration, Instant};

pub(super) fn live(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let vm = b.vm("idle")?;
    for (to, way) in [("srv2", "live to srv2"), ("srv1", "live back")] {
        let watch = b.dc.watch(vm.address)?;
        let began = Instant::now();
        let id = b.dc.begin_move(vm.id, to, &[])?;
        let (end, why) = b.dc.end_of(id)?;
        b.figures.seconds(&format!("{way}, with pings every 10 ms"), began);
        b.dc.expect_answer(vm.address)?;
        // Pings after it, too.
        std::thread::sleep(Duration::from_secs(3));
        let report = watch.stop(&b.folder(to))?;
        ensure!(end == "moved", "it was {end}: {why}");
        b.expect_at(&vm, to)?;
        ensure!(
            report.servers.last().map(String::as_str) == Some(to),
            "it was heard on {:?}",
            report.servers
        );
        b.expect_nothing_lost(way, &report)?;
    }
    Ok(())
}

pub(super) fn cold(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let vm = b.vm("disk")?;
    let disk = format!("/var/lib/tandem/disks/tandem-vm{}.img", vm.id);
    let sum = |b: &Bench<'_>, server: &str| {
        b.dc.lab.host(server)?.access.run(&format!("[ ! -e {disk} ] || stat -c %s {disk}"))
    };
    let size = sum(b, "srv1")?;
    ensure!(!size.is_empty(), "there is no {disk} on srv1");
    let refused = b.dc.begin_move(vm.id, "srv2", &["--live"]).and_then(|id| b.dc.end_of(id));
    match refused {
        Err(why) => println!("   live: {why:#}"),
        Ok((end, why)) => {
            println!("   live: {end}: {why}");
            ensure!(end == "undone", "a live move of a disk that srv2 cannot reach was {end}");
        }
    }
    b.expect_at(&vm, "srv1")?;
    let began = Instant::now();
    let id = b.dc.begin_move(vm.id, "srv2", &["--cold"])?;
    let (end, why) = b.dc.end_of(id)?;
    ensure!(end == "moved", "it was {end}: {why}");
    b.figures.seconds("cold with a disk of 16 MiB", began);
    b.expect_at(&vm, "srv2")?;
    let here = sum(b, "srv2")?;
    let there = sum(b, "srv1")?;
    ensure!(here == size && there.is_empty(), "its disk has {here:?} bytes on srv2 and {there:?} on srv1");
    Ok(())
}

pub(super) fn cancel(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let vm = b.vm("idle")?;
    let watch = b.dc.watch(vm.address)?;
    let id = b.dc.begin_move(vm.id, "srv2", &[])?;
    let sent = b.dc.reach_bytes(id)?;
    let began = Instant::now();
    b.dc.tandem(&["migrations", "cancel", &id.to_string()])?;
    let (end, why) = b.dc.end_of(id)?;
    println!("   {end}: {why}");
    ensure!(end == "undone", "cancelled after {sent} bytes, and it was {end}: {why}");
    b.figures.seconds("cancel in the middle, until all is undone", began);
    b.expect_at(&vm, "srv1")?;
    let report = watch.stop(&b.folder("cancel"))?;
    b.expect_nothing_lost("cancelled", &report)
}
