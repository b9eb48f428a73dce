//! The vif script that Tandem installs on Xen hosts
//! (`controller/hypervisor/src/xl/scripts/vif-tandem`).

use crate::support::{self, is_root};
use crate::{bed, judged};
use std::process::Command;

/// The script filters the same frames, with nftables at the device's own ingress.
#[test]
fn by_the_vif_script_of_xen_hosts_only_honest_packets_leave_a_device() {
    if !is_root() {
        return;
    }
    let has_nft = Command::new("nft").arg("--version").output().is_ok();
    assert!(
        has_nft || std::env::var_os("CI").is_none(),
        "in CI nothing is skipped; missing: nft (package nftables)"
    );
    if !has_nft {
        return eprintln!("skipped: missing nft (package nftables)");
    }
    let bed = bed(None);
    assert!(judged(&bed).len() > 20, "without a filter nearly everything gets out");
    let script =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../controller/hypervisor/src/xl/scripts/vif-tandem");
    for _ in 0..2 {
        // A second run changes nothing: a host is prepared again with every connection to it.
        let arguments = [script, "guard", "port0", "02:00:00:00:00:07", "10.0.0.7"];
        let done =
            bed.host.run(|| Command::new("bash").args(arguments).output()).expect("inside").expect("bash");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let rules = support::text(&bed.host, "nft", &["list", "ruleset"]);
        assert!(rules.contains("hook ingress"), "by nftables, not by what stands in for it: {rules}");
        assert_eq!(judged(&bed), Vec::<String>::new());
    }
}

/// Rules of others at a device's ingress stay when the device is guarded, when it is released, and
/// when the guard is refused because of them.
#[test]
fn the_vif_script_takes_away_nothing_of_others() {
    if !is_root() {
        return;
    }
    let tools = ["nft", "tc"].iter().all(|t| Command::new(t).arg("-V").output().is_ok());
    assert!(tools || std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: nft, tc");
    if !tools {
        return eprintln!("skipped: missing nft or tc (packages nftables, iproute2)");
    }
    let bed = bed(None);
    let folder = std::env::temp_dir().join(format!("tandem-vif-{}", std::process::id()));
    // A host without nftables: a PATH with all tools of the script except that one.
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    for tool in ["cat", "cut", "grep", "ip", "mkdir", "printf", "rm", "tc", "tr"] {
        let found = Command::new("sh").args(["-c", "command -v -- \"$0\"", tool]).output().expect("sh");
        let path = String::from_utf8(found.stdout).expect("a path");
        let path = path.trim();
        if path.starts_with('/') {
            std::os::unix::fs::symlink(path, bin.join(tool)).expect("a link");
        }
    }
    let script =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../controller/hypervisor/src/xl/scripts/vif-tandem");
    let say = |path: Option<&std::path::Path>, words: &[&str]| {
        let mut command = Command::new("/bin/bash");
        command.arg(script).args(words).env("TANDEM_VIF_RECORDS", folder.join("records"));
        if let Some(path) = path {
            command.env("PATH", path);
        }
        bed.host.run(|| command.output()).expect("inside").expect("bash")
    };
    let guard = ["guard", "port0", "02:00:00:00:00:07", "10.0.0.7"];
    support::text(&bed.host, "tc", &["qdisc", "add", "dev", "port0", "ingress"]);
    let theirs = "add table netdev theirs; add chain netdev theirs c { type filter hook ingress device \"port0\" priority 5; }";
    support::text(&bed.host, "nft", &[theirs]);
    let all = || {
        let queueing = support::text(&bed.host, "tc", &["qdisc", "show", "dev", "port0"]);
        (queueing.contains("qdisc ingress"), support::text(&bed.host, "nft", &["list", "ruleset"]))
    };
    let before = all();
    assert!(before.0 && before.1.contains("theirs"), "{before:?}");
    let done = say(None, &guard);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(all().1.contains("table netdev tandem_port0"), "{}", all().1);
    assert_eq!(judged(&bed), Vec::<String>::new(), "ours holds beside theirs");
    assert!(say(None, &["unguard", "port0"]).status.success());
    assert_eq!(all(), before, "ours is gone with the VM, theirs is as it was");
    let refused = say(Some(&bin), &guard);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("ingress queueing of somebody else"), "{why}");
    assert!(say(Some(&bin), &["unguard", "port0"]).status.success());
    assert_eq!(all(), before);
    // Without rules of others, the script records what it adds, and removes it with the VM.
    support::text(&bed.host, "tc", &["qdisc", "del", "dev", "port0", "ingress"]);
    let done = say(Some(&bin), &guard);
    let has_flower = done.status.success();
    if !has_flower {
        eprintln!("this kernel has no flower classifier: {}", String::from_utf8_lossy(&done.stderr));
    }
    assert!(all().0, "our ingress, whether flower is there or not");
    if has_flower {
        let tags = |wrong: &String| !wrong.contains("tag");
        let wrong: Vec<String> = judged(&bed).into_iter().filter(tags).collect();
        assert_eq!(wrong, Vec::<String>::new(), "by flower; tagged packets are all dropped there");
    }
    assert!(say(Some(&bin), &["unguard", "port0"]).status.success());
    assert_eq!(all(), (false, before.1));
    let _ = std::fs::remove_dir_all(&folder);
}
