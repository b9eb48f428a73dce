//! What fails: hosts without memory, cut connections, hosts that die, and people who were there
//! before us.

use super::Bench;
use crate::world::xen::data_centre::PATIENCE;
use crate::world::xen::wait;
use anyhow::{Context, ensure};
use std::process::Command;
use std::time::Instant;

/// A domain of somebody else that leaves no room on srv2.
const BALLAST: &str = "name = 'ballast'\ntype = 'pv'\nkernel = '/var/lib/tandem/images/vmlinux'\n\
    ramdisk = '/var/lib/tandem/images/initrd'\nextra = 'console=hvc0 quiet ip=192.0.2.1::192.0.2.2:255.255.255.0:b:eth0:off'\n";

pub(super) fn no_memory(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let vm = b.vm("idle")?;
    let target = b.dc.lab.host("srv2")?.access.clone();
    let free: u64 = target.run("xl info | sed -n 's/^free_memory *: //p'")?.parse().context("free memory")?;
    let ballast = format!("{BALLAST}memory = {}\n", free.saturating_sub(60));
    target
        .run(&format!("cat > /tmp/ballast.cfg << 'END'\n{ballast}END\nxl create -q -p /tmp/ballast.cfg"))?;
    let result = (|| {
        let end = b.dc.begin_move(vm.id, "srv2", &[]).and_then(|id| b.dc.end_of(id));
        match end {
            Err(why) => println!("   refused: {why:#}"),
            Ok((end, why)) => {
                println!("   {end}: {why}");
                ensure!(end == "undone", "srv2 has no memory, and the VM was {end}: {why}");
                ensure!(
                    why.contains("memory") || why.contains("MiB"),
                    "the reason does not name memory: {why}"
                );
            }
        }
        b.dc.expect_domains("srv2", &["ballast"])?;
        b.dc.expect_domains("srv1", &[&format!("tandem-vm{}", vm.id)])?;
        b.dc.expect_answer(vm.address)
    })();
    target.run("xl destroy ballast")?;
    result
}

pub(super) fn no_template(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let why =
        b.dc.request(&["--image", "nowhere"])
            .err()
            .context("a VM was made of an image that does not exist")?;
    println!("   {why:#}");
    let why = format!("{why:#}");
    ensure!(
        why.contains("nowhere") && why.contains("idle"),
        "the reason names neither it nor those that exist"
    );
    b.dc.expect_domains("srv1", &[])
}

pub(super) fn wrong_key(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let folder = b.dc.lab.folder.clone();
    let key = folder.join("other-key");
    let _ = std::fs::remove_file(&key);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    ensure!(made.success(), "ssh-keygen failed");
    let text = std::fs::read_to_string(folder.join("hypervisors.toml"))?;
    let file = folder.join("other-hypervisors.toml");
    std::fs::write(&file, text.replace("key = \"key\"", "key = \"other-key\""))?;
    let file = file.display().to_string();
    let site = folder.join("site.toml").display().to_string();
    let output = Command::new(crate::controller_process::program()?)
        .args(["hypervisors", "check", &file, "--site", &site, "--connect"])
        .output()?;
    let why = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    ensure!(!output.status.success(), "hosts let in whoever comes: {why}");
    println!("   {why}");
    ensure!(
        why.contains("authorized_keys") || why.contains("Permission denied"),
        "the reason does not say what to do"
    );
    Ok(())
}

pub(super) fn behind_our_back(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let vm = b.vm("idle")?;
    b.dc.lab.host("srv1")?.access.run(&format!("xl destroy tandem-vm{}", vm.id))?;
    let end = b.dc.begin_move(vm.id, "srv2", &[]).and_then(|id| b.dc.end_of(id));
    match end {
        Err(why) => println!("   refused: {why:#}"),
        Ok((end, why)) => {
            println!("   {end}: {why}");
            ensure!(end != "moved", "a VM that is gone was moved");
        }
    }
    // Either it is started again where it was, or the controller says that it is lost; never two,
    // never one that nobody knows.
    let state = wait("the VM again, or its end", PATIENCE, || {
        let known = b.dc.server_of(vm.id)?;
        let there = b.dc.domains("srv1")?.len() + b.dc.domains("srv2")?.len();
        Ok((known.is_some() == (there == 1))
            .then(|| format!("the controller has it on {known:?}, and {there} domains run")))
    })?;
    println!("   {state}");
    Ok(())
}

pub(super) fn transport_cut(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let vm = b.vm("idle")?;
    let watch = b.dc.watch(vm.address)?;
    let id = b.dc.begin_move(vm.id, "srv2", &[])?;
    b.dc.reach_bytes(id)?;
    // What receives on the target and what carries it there.
    let cut = "for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' < $p/cmdline 2> /dev/null)\" in *[m]igrate-receive*) kill -9 ${p#/proc/} ;; esac; done; true";
    b.dc.lab.host("srv2")?.access.run(cut)?;
    let began = Instant::now();
    let (end, why) = b.dc.end_of(id)?;
    println!("   {end}: {why}");
    ensure!(end == "undone", "its transport was cut, and it was {end}: {why}");
    b.figures.seconds("transport cut, until all is undone", began);
    b.expect_at(&vm, "srv1")?;
    let report = watch.stop(&b.folder("cut"))?;
    b.expect_nothing_lost("transport cut", &report)
}

pub(super) fn target_killed(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let vm = b.vm("idle")?;
    let id = b.dc.begin_move(vm.id, "srv2", &[])?;
    b.dc.reach_bytes(id)?;
    b.dc.kill_host("xen2")?;
    let began = Instant::now();
    b.dc.expect_answer(vm.address)?;
    let (end, why) = b.dc.end_of(id)?;
    println!("   {end}: {why}");
    ensure!(end == "undone", "its target died, and it was {end}: {why}");
    b.figures.seconds("target killed in pre-copy, until all is undone", began);
    b.dc.expect_domains("srv1", &[&format!("tandem-vm{}", vm.id)])?;
    b.dc.expect_answer(vm.address)?;
    b.dc.start_host("xen2")?;
    b.figures.seconds("target back, with its switch", began);
    b.expect_at(&vm, "srv1")
}

pub(super) fn host_gone(b: &mut Bench<'_>) -> anyhow::Result<()> {
    let vm = b.vm("idle")?;
    b.dc.kill_host("xen2")?;
    let end = b.dc.begin_move(vm.id, "srv2", &[]).and_then(|id| b.dc.end_of(id));
    match end {
        Err(why) => println!("   refused: {why:#}"),
        Ok((end, why)) => {
            println!("   {end}: {why}");
            ensure!(end == "undone", "its target is off, and it was {end}");
        }
    }
    b.dc.expect_answer(vm.address)?;
    b.dc.start_host("xen2")?;
    b.expect_at(&vm, "srv1")
}

pub(super) fn source_killed(b: &mut Bench<'_>) -> anyhow::Result<()> {
    // The source that dies is not the gateway's host.
    let vm = b.vm("idle")?;
    let id = b.dc.begin_move(vm.id, "srv2", &[])?;
    let (end, why) = b.dc.end_of(id)?;
    ensure!(end == "moved", "it was {end}: {why}");
    let id = b.dc.begin_move(vm.id, "srv1", &[])?;
    b.dc.reach_bytes(id)?;
    b.dc.kill_host("xen2")?;
    b.dc.start_host("xen2")?;
    let (end, why) = b.dc.end_of(id)?;
    println!("   {end}: {why}");
    ensure!(end != "moved", "it was moved from a host that died before it had sent it");
    b.dc.expect_domains("srv1", &[])?;
    let state = wait("the VM again, or its end", PATIENCE, || {
        let known = b.dc.server_of(vm.id)?;
        let there = b.dc.domains("srv2")?.len();
        Ok((known.is_some() == (there == 1))
            .then(|| format!("the controller has it on {known:?}, and {there} domains run")))
    })?;
    println!("   {state}");
    Ok(())
}
