//! A VM's life: made from an image, addressed, listed, measured, removed.

use super::Bench;
use crate::world::xen::wait;
use anyhow::ensure;
use std::time::{Duration, Instant};

pub(super) fn life(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let began = Instant::now();
    let vm = b.dc.request(&["--image", "idle"])?;
    b.figures.seconds("VM made and addressed by DHCP", began);
    b.dc.expect_answer(vm.address)?;
    b.figures.seconds("VM answers ping, since its request", began);
    b.expect_at(&vm, "srv1")?;
    // Its memory and CPU time come with the statistics.
    let load = wait("what the VM uses", Duration::from_secs(120), || {
        let list = b.dc.json(&["vm", "list"])?;
        let load = list[0]["load"].clone();
        Ok((!load.is_null()).then_some(load))
    })?;
    println!("   load: {load}");
    let began = Instant::now();
    b.dc.tandem(&["vm", "delete", &vm.id.to_string()])?;
    b.figures.seconds("VM shut down and removed", began);
    b.dc.expect_domains("srv1", &[])?;
    let left =
        b.dc.lab.host("srv1")?.access.run("find /var/lib/tandem -name '*vm[0-9]*' -o -path '*/vms/?*'")?;
    ensure!(left.is_empty(), "left on srv1: {left}");
    Ok(())
}
