//! Output of `xl` on real hosts (Xen 4.17.5, Debian 12), and a check that no text makes the parsers
//! panic.

use super::job::Look;
use super::live::Watch;
use super::parse::{Domain, Info, Log, State, complaint, counters, domains, info};
use proptest::prelude::*;
use std::time::Duration;
use tandem_model::{BitRate, Bytes, ServerId, VmId};
use tokio::time::Instant;

/// Domain 0 as captured; the other rows are those of an interrupted migration, in the same columns.
const LIST: &str = include_str!("captured/list");
const INFO: &str = include_str!("captured/info");
const MIGRATED: &str = include_str!("captured/migrated");
const CUT: &str = include_str!("captured/cut");

#[test]
fn domains_are_read_in_all_their_states() {
    let all = domains(LIST).expect("real");
    let find = |name: &str| all.iter().find(|d| d.name == name).expect("is listed").clone();
    assert_eq!(all.len(), 6);
    let dom0 = Domain {
        name: "Domain-0".into(),
        id: 0,
        memory_mib: 512,
        vcpus: 1,
        state: State::default(),
        cpu_ns: 27_700_000_000,
        uuid: "00000000-0000-0000-0000-000000000000".into(),
    };
    assert_eq!(all[0], dom0);
    assert!(find("tandem-vm7--migratedaway").state.shutdown);
    assert!(find("tandem-vm8--incoming").state.paused);
    assert!(find("(null)").state.dying);
    assert_eq!(find("a name with spaces").id, 12);
    assert_eq!(domains("").expect("nothing"), []);
    for bad in ["tandem-vm7", "x 1 2 3 r----- y z", "Xen is not running"] {
        assert!(domains(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_hosts_memory_is_read() {
    let expected = Info { total_mib: 1023, free_mib: 498, cpus: 1, version: "4.17.5".into() };
    assert_eq!(info(INFO), Ok(expected));
    assert!(info("free_memory : lots").is_err());
}

#[test]
fn counters_are_read_and_other_lines_left_out() {
    let all = counters("vif3.0 120 360\nuplink:eth1 1 2\n\nnonsense\nvif4.0 1 x\n");
    assert_eq!(all.len(), 2);
    assert_eq!(all["vif3.0"], (120, 360));
}

#[test]
fn a_migration_that_was_captured_tells_its_suspension_and_no_trouble() {
    let mut log = Log::default();
    // In parts, as it is read.
    let (before, after) = MIGRATED.split_at(MIGRATED.find("guest acknowledged").expect("there"));
    log.read(before);
    assert!(!log.suspended);
    log.read(after);
    assert!(log.suspended);
    assert_eq!(complaint(CUT), "");
}

#[test]
fn what_a_failed_migration_says_is_told_without_what_is_for_developers() {
    let text = "libxl: debug: x\nxc: info: y\nxc: error: Failed to write page data to stream (32 = Broken pipe): Internal error\n\
                migration sender: libxl_domain_suspend failed (rc=-3)\nMigration failed, resuming at sender.\nxencall:buffer: debug: z\n";
    let to_router = complaint(text);
    assert!(
        to_router.starts_with("xc: error: Failed to write page data")
            && to_router.ends_with("resuming at sender."),
        "{to_router}"
    );
}

#[test]
fn progress_is_by_the_bytes_that_left_and_the_memory_that_there_is() {
    let start = Instant::now();
    let mut watch = Watch::new(start, Bytes::mib(96));
    let look = |sent: u64, log: &str| Look {
        known: true,
        alive: true,
        sent: Some(sent),
        log: log.into(),
        ..Look::default()
    };
    let p = watch.see(&look(0, ""), start);
    assert_eq!((p.round, p.remaining), (0, Bytes::mib(96)));
    let p = watch.see(&look(12 << 20, ""), start + Duration::from_secs(2));
    assert_eq!((p.round, p.sent, p.remaining), (1, Bytes::mib(12), Bytes::mib(84)));
    assert_eq!(p.rate, BitRate(48 << 20));
    let p = watch.see(&look(100 << 20, "guest has suspended\n"), start + Duration::from_secs(4));
    assert_eq!((p.round, p.remaining), (2, Bytes(0)));
    assert!(watch.log.suspended);
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in "(?s).{0,400}", row in "[A-Za-z0-9() .-]{0,40} +[0-9]{1,6} +[0-9]{1,6} +[0-9]{1,4} +[rbpscd-]{6} +[0-9.]{1,9} [0-9a-f-]{36}.{0,20}") {
        for text in [&text, &row] {
            let _ = (domains(text), info(text), counters(text), complaint(text));
            Log::default().read(text);
        }
    }

    #[test]
    fn a_row_is_read_back(name in "[a-z0-9-]{1,30}", id in 1u32..32752, memory in 0u64..1 << 40, vcpus in 0u32..4096, tenths in 0u64..1 << 36, p in any::<bool>(), d in any::<bool>()) {
        let uuid = "74616e64-656d-8000-8000-000000000007";
        let state = format!("--{}--{}", if p { 'p' } else { '-' }, if d { 'd' } else { '-' });
        let row = format!("{name:<40} {id:5} {memory:5} {vcpus:5}     {state}  {:8} {uuid} {:>8} {:>16}", format!("{}.{}", tenths / 10, tenths % 10), "-", "-");
        let all = domains(&row).expect("a row");
        prop_assert_eq!(all.len(), 1);
        prop_assert_eq!((&all[0].name, all[0].id, all[0].memory_mib, all[0].vcpus), (&name, id, memory, vcpus));
        prop_assert_eq!((all[0].state.paused, all[0].state.dying, all[0].cpu_ns), (p, d, tenths * 100_000_000));
    }

    #[test]
    fn the_cpu_time_of_a_host_never_falls(steps in proptest::collection::vec(proptest::collection::vec((1u32..5, 0u64..1000), 0..5), 1..20)) {
        let mut cpu = super::host::CpuTime::default();
        let mut last = 0;
        for step in steps {
            let all: Vec<Domain> = step.iter().map(|(id, cpu_ns)| Domain {
                name: "x".into(), id: *id, memory_mib: 1, vcpus: 1, state: State::default(), cpu_ns: *cpu_ns, uuid: id.to_string(),
            }).collect();
            let now = cpu.add(&all);
            prop_assert!(now >= last);
            last = now;
        }
    }
}

/// Any user of a host may choose a domain's name: it may look like another domain's columns, or
/// like the separator lines in our script's output.
#[test]
fn a_foreign_name_passes_for_nobody_and_hides_nothing() {
    let ours = super::answers::uuid("testbed", VmId(7)).expect("small");
    let foreign = "11111111-2222-3333-4444-555555555555";
    let list = format!(
        "Name ID Mem VCPUs State Time(s) UUID\n\
         tandem-vm7 3 64 1 r----- 1.5 {ours} - -\n\
         x 9 64 1 --p--- 1.0 {ours} - - 4 64 1 r----- 2.0 {foreign} - -\n\
         a == info x 5 64 1 r----- 2.0 {foreign} - -\n"
    );
    let found = super::answers::found("testbed", ServerId(0), &list).expect("domains");
    assert_eq!(found.len(), 1, "{found:?}");
    let text = format!("{list}== info\n{INFO}== interfaces\nvif3.0 120 360\n== disks\n");
    let load = super::answers::loads("testbed", [text.as_str()]).expect("loads");
    assert_eq!(load.vms.len(), 1);
    assert_eq!((load.vms[0].1.cpu_ns, load.vms[0].1.tx_bytes), (1_500_000_000, 120));
}

/// Sizes beyond any real host are clamped, and do not overflow.
#[test]
fn a_host_that_says_absurd_numbers_is_believed_up_to_the_largest() {
    let ours = super::answers::uuid("testbed", VmId(7)).expect("small");
    let most = u64::MAX;
    let text = format!(
        "tandem-vm7 3 {most} 1 r----- 1.5 {ours}\n== info\ntotal_memory : {most}\nfree_memory : 0\n\
         == interfaces\nuplink:a {most} {most}\nuplink:b {most} 1\n== disks\nvbd-3-1 {most} {most}\n"
    );
    let load = super::answers::loads("testbed", [text.as_str()]).expect("loads");
    assert_eq!(load.vms[0].1.ram, u64::MAX - 1, "not wrapped, and not the word for 'not counted'");
    assert_eq!(load.server.ram, u64::MAX - 1);
    let look = format!("known\nalive\nsent {most}\nsize {most}\n== log\nguest has suspended");
    let (progress, suspended) = super::answers::followed(Bytes(most), [look.as_str(), look.as_str()]);
    assert_eq!((progress.sent, progress.remaining, suspended), (Bytes(most), Bytes(0), true));
}

fn line() -> impl Strategy<Value = String> {
    let ours = super::answers::uuid("testbed", VmId(7)).expect("small");
    let word = prop_oneof![
        Just(ours),
        Just("tandem-vm7".to_owned()),
        Just("tandem-vm7--incoming".to_owned()),
        Just("(null)".to_owned()),
        Just("== info".to_owned()),
        Just("11111111-2222-3333-4444-555555555555".to_owned()),
        "[r-][b-][p-][s-][c-][d-]",
        "[0-9]{1,21}",
        "[0-9]{1,20}\\.[0-9]{1,3}",
        "(total_memory|free_memory|sent|size|rc|known|alive|vif3.0|uplink:a|vbd-3-1|:)",
        ".{0,12}",
    ];
    prop::collection::vec(word, 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    /// From a host's output to the decision: no text makes a VM run on both sides, or removes it
    /// from the side where it is.
    #[test]
    fn whatever_hosts_print_the_driver_concludes_or_refuses(
        here in prop::option::of(prop::collection::vec(line(), 0..5)),
        there in prop::option::of(prop::collection::vec(line(), 0..5)),
    ) {
        let (here, there) = (here.map(|l| l.join("\n")), there.map(|l| l.join("\n")));
        let all = [here.as_deref().unwrap_or(""), there.as_deref().unwrap_or("")];
        let _ = super::answers::found("testbed", ServerId(0), all[0]);
        let _ = super::answers::loads("testbed", all);
        let _ = super::answers::followed(Bytes(u64::MAX), all);
        if let Ok((place, runs, destroyed)) =
            super::answers::resolved("testbed", VmId(7), here.as_deref(), there.as_deref())
        {
            prop_assert!(!(runs[0] && runs[1]));
            if let Some(at_target) = place {
                prop_assert!(!destroyed[usize::from(at_target)], "the side that has it is destroyed");
            }
        }
    }
}
