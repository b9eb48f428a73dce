//! `tandem-fpga` as it is used: a modelled card in one process, the other commands in others.

mod served;

use serde_json::Value;
use served::{Served, error, out};
use std::path::Path;
use tandem_fpga_card::pci;
use tandem_fpga_card::target::Target;
use tandem_fpga_config::bitfile::{Header, SYNC, write};
use tandem_fpga_config::profile::builtin;

#[test]
fn a_served_model_is_looked_into_from_another_process() {
    let mut served = Served::start(&[]);
    let card = served.card();
    let info = out(&["--card", &card, "info"]);
    assert!(info.contains("profile       openflow-switch\n"), "{info}");
    assert!(
        info.contains("32 wildcard rows, 32768 exact entries") && info.contains("port 3        link"),
        "{info}"
    );
    let test = out(&["--card", &card, "selftest"]);
    assert!(test.ends_with("checks, none failed\n"), "{test}");
    let counters = out(&["--card", &card, "counters", "MAC_GRP"]);
    assert_eq!(counters, "48 counters, all 0\n");
    let help = out(&["info", "--help"]);
    for fault in ["header-beyond-frame", "tagged-then-short", "short-header"] {
        assert!(info.contains(&format!("    {fault}: ")), "{info}");
        assert!(help.contains(&format!("({fault})")), "{help}");
    }
    assert!(info.contains("exact entries; row 0 is kept against a known fault\n"), "{info}");

    // A flow is compiled, applied and read back, and forwards.
    let text = "priority=100,in_port=1,ip,nw_dst=10.0.0.0/8,actions=mod_nw_tos:184,output:2";
    let writes = out(&["compile", text]);
    let file = served.socket.with_extension("writes");
    std::fs::write(&file, &writes).expect("written");
    let file = file.to_str().expect("text");
    assert_eq!(out(&["--card", &card, "reg", "apply", file]), "27 registers written\n");
    let flow = "in_port=1,dl_type=0x0800,nw_dst=10.0.0.0/8 actions=mod_nw_tos:184,output:2";
    let frame = "02000000000202000000000108004500002e00000000401166bd0a0000010a00000203e807d0001a00000000000000000000000000000000000000000000";
    let sent = out(&["--card", &card, "packet", "0", frame]);
    assert!(sent.starts_with("p 2 020000000002020000000001080045b8002e"), "{sent}");
    assert_eq!(out(&["--card", &card, "packet", "2", frame]), "", "another ingress port");
    let flows = out(&["--card", &card, "flows"]);
    assert!(flows.contains(&format!("row  0: {flow}  [1 packets, 62 bytes")), "{flows}");
    assert_eq!(out(&["decode", file]), format!("row 0: {flow}\n"));
    let counters: Value = serde_json::from_str(&out(&["--json", "--card", &card, "counters"])).expect("JSON");
    let value = |name: &str| {
        let all = counters.as_array().expect("a list");
        all.iter().find(|c| c["name"] == name).expect("listed")["value"].as_u64().expect("a number")
    };
    assert_eq!(value("MAC_GRP_0_RX_QUEUE_NUM_PKTS_STORED"), 1);
    assert_eq!(value("MAC_GRP_1_TX_QUEUE_NUM_BYTES_PUSHED"), 62);
    assert_eq!(value("OPENFLOW_LOOKUP_NUM_PKTS_DROPPED_2"), 1);

    // Counters that reading clears are read only on request, by a single reader.
    let left_out = out(&["--card", &card, "counters", "IN_ARB", "--clearing"]);
    assert_eq!(left_out, format!("{:<44} {:>20}\n", "IN_ARB_NUM_PKTS_SENT", 2));
    assert_eq!(out(&["--card", &card, "counters", "IN_ARB", "--clearing"]), "1 counters, all 0\n");
    let refused = error(&["--card", &card, "counters", "IN_ARB"]);
    assert!(refused.contains("reading clears every counter with \"IN_ARB\""), "{refused}");
    let all = out(&["--card", &card, "counters"]);
    assert!(all.ends_with("1 more that reading clears, left out; --clearing reads them too\n"), "{all}");
    out(&["--card", &card, "packet", "2", frame]);
    let read = out(&["--card", &card, "reg", "read", "IN_ARB_NUM_PKTS_SENT"]);
    assert!(read.contains("= 0x00000001 1  (reading has cleared it)"), "{read}");

    served.stop();
    assert!(!served.socket.exists(), "the socket goes with it");
    let error = error(&["--card", &card, "info"]);
    assert!(error.contains("opening the card cosim:"), "{error}");
}

#[test]
fn exact_entries_are_compiled_for_both_rows_and_read_back() {
    let text = "in_port=1,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_vlan=0xffff,dl_type=0x0800,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=0,nw_proto=17,tp_src=1000,tp_dst=2000,actions=output:4";
    let writes = out(&["compile", "--exact", text]);
    assert!(writes.lines().filter(|l| l.starts_with("# exact row 0x")).count() == 2, "{writes}");
    let served = Served::start(&[]);
    let file = served.socket.with_extension("writes");
    std::fs::write(&file, &writes).expect("written");
    // A card that was just reset is clearing its exact table, and loses writes to it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while out(&["--card", &served.card(), "reg", "read", "0x1000000"]).contains("(nothing answered)") {
        assert!(std::time::Instant::now() < deadline, "the exact table never answers");
    }
    out(&["--card", &served.card(), "reg", "apply", file.to_str().expect("text")]);
    let flows = out(&["--card", &served.card(), "flows"]);
    assert!(flows.contains("actions=output:4") && flows.contains("1 exact entries"), "{flows}");
}

#[test]
fn registers_are_read_and_written_by_name_and_address() {
    let served = Served::start(&[]);
    let card = served.card();
    let scratch = "openflow_lookup_dumy_software_0_reg";
    let text = out(&["--card", &card, "reg", "write", scratch, "0x2a"]);
    assert_eq!(text, "OPENFLOW_LOOKUP_DUMY_SOFTWARE_0: wrote 0x0000002a, reads 0x0000002a\n");
    assert!(out(&["--card", &card, "reg", "read", "0x2000030"]).starts_with("0x2000030 = 0x0000002a 42"));
    assert!(out(&["--card", &card, "reg", "read", "0x3000000"]).contains("(nothing answered)"));
    assert!(
        error(&["--card", &card, "reg", "read", "dumy"])
            .contains("did you mean OPENFLOW_LOOKUP_DUMY_SOFTWARE_0")
    );
    assert!(error(&["--card", &card, "reg", "read", "0x8000000"]).contains("the card was not touched"));
    assert!(error(&["--card", &card, "limit", "0", "100 Mbit/s"]).contains("has no rate limiter"));
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let served = Served::start(&[]);
    let (card, target) = (served.card(), Target::Cosim(served.socket.clone()));
    let lock = target.lock("an agent").expect("free");
    for verb in [&["flows"][..], &["selftest"], &["reg", "write", "0x20", "1"], &["limit", "0", "off"]] {
        let error = error(&[&["--card", &card], verb].concat());
        assert!(error.contains("is held by an agent (process "), "{verb:?}: {error}");
    }
    let info = out(&["--card", &card, "info"]);
    assert!(
        info.contains("the map was not probed")
            && info.contains("openflow-switch or openflow-switch-alternate"),
        "{info}"
    );
    out(&["--card", &card, "counters"]);
    drop(lock);
    out(&["--card", &card, "flows"]);
}

#[test]
fn limits_of_a_bitfile_that_has_them() {
    let served = Served::start(&["--profile", "tutorial-router"]);
    let card = served.card();
    assert_eq!(out(&["--card", &card, "limit", "2"]), "port 2: not limited\n");
    assert_eq!(
        out(&["--card", &card, "limit", "2", "200 Mbit/s"]),
        "port 2: at most 123.077 Mbit/s (Shift(6))\n"
    );
    assert_eq!(out(&["--card", &card, "limit", "2", "off"]), "port 2: not limited\n");
    assert!(error(&["--card", &card, "limit", "2", "1 kbit/s"]).contains("its lowest is 244.133 kbit/s"));
    assert!(error(&["--card", &card, "flows"]).contains("has no flow table"));
    let test = out(&["--card", &card, "selftest"]);
    assert!(test.contains("skip  flow table"), "{test}");
}

#[test]
fn a_bitfile_is_loaded_and_what_is_none_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, part: &str, bytes: usize| {
        let header = Header { design: "top".into(), part: part.into(), date: "d".into(), time: "t".into() };
        let mut data = SYNC.to_vec();
        data.resize(bytes, 0);
        let path = folder.path().join(name);
        std::fs::write(&path, write(&header, &data).expect("written")).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let whole = file("whole.bit", "2vp50ff1152", 2_377_668);
    let text = out(&["load", &whole]);
    assert!(text.contains("loaded; the card says: openflow-switch 1.0.0"), "{text}");
    assert!(error(&["load", &file("short.bit", "2vp50ff1152", 4_096)]).contains("has 4096 bytes"));
    assert!(
        error(&["load", &file("cpci.bit", "2s200fg456", 166_980)]).contains("the bus FPGA of a NetFPGA-1G")
    );
    let cut = Path::new(&whole).with_extension("cut");
    std::fs::write(&cut, &std::fs::read(&whole).expect("read")[..100_000]).expect("written");
    assert!(error(&["load", cut.to_str().expect("text")]).contains("cut off in section e"));
    assert!(error(&["load", "/nonexistent.bit"]).contains("reading /nonexistent.bit"));
}

#[test]
fn profiles_are_listed_and_a_user_s_own_is_checked() {
    let text = out(&["profiles"]);
    for (name, _) in builtin::PROFILES {
        assert!(text.contains(&format!("{name}: ")), "{text}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, "name = \"mine\"\nabout = \"\"\nboard = \"netfpga-1g\"\n[watchdog]\nblock = \"DOG\"\nmilliseconds = 1\n").expect("written");
    let error = error(&["--profile", path.to_str().expect("text"), "info"]);
    assert!(error.contains("mine.toml; [watchdog] needs the register DOG_ENABLE_FLG"), "{error}");
}

#[test]
fn cards_are_found_by_pci_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let id = builtin::named("openflow-switch").expect("a profile").board.pci.expect("known");
    for (address, vendor, device) in
        [("0000:03:00.0", "0xfeed\n", "0x0001\n"), ("0000:01:00.0", "0x8086\n", "0x0001\n")]
    {
        let device_folder = folder.path().join(address);
        std::fs::create_dir_all(device_folder.join("net/nf2c0")).expect("made");
        std::fs::write(device_folder.join("vendor"), vendor).expect("written");
        std::fs::write(device_folder.join("device"), device).expect("written");
    }
    let found = pci::list(folder.path(), &id).expect("listed");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].address.as_str(), &found[0].driver), ("0000:03:00.0", &None));
    assert_eq!(found[0].interfaces, ["nf2c0"]);
    assert_eq!(pci::list(&folder.path().join("none"), &id).expect("no PCI"), []);
    out(&["list"]);
}

#[test]
fn a_mapped_bar_is_registers_and_a_smaller_one_is_refused() {
    use tandem_fpga_card::mmap::MmapCard;
    use tandem_fpga_config::registers::Registers;
    let folder = tempfile::tempdir().expect("a folder");
    let bar = std::fs::File::create(folder.path().join("resource0")).expect("made");
    bar.set_len(4096).expect("sparse");
    let error = MmapCard::open(folder.path()).expect_err("too small").to_string();
    assert!(error.contains("has 4096 bytes"), "{error}");
    bar.set_len(128 << 20).expect("sparse");
    let mut card = MmapCard::open(folder.path()).expect("mapped");
    card.write32(0x7ff_fffc, 0x0102_0304).expect("written");
    assert_eq!(card.read32(0x7ff_fffc).expect("read"), 0x0102_0304);
    assert!(
        card.read32(0x800_0000).is_err() && card.write32(0x800_0000, 0).is_err() && card.read32(1).is_err()
    );
    drop(card);
    let mut bytes = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(
        &std::fs::File::open(folder.path().join("resource0")).expect("there"),
        &mut bytes,
        0x7ff_fffc,
    )
    .expect("read");
    assert_eq!(bytes, [4, 3, 2, 1], "little-endian");
}

#[test]
fn an_interface_that_is_no_card_s_is_an_error() {
    assert!(error(&["--card", "ioctl:nf2c9", "info"]).contains("there is no interface nf2c9"));
    // The loopback interface does not support the request.
    let error = error(&["--card", "ioctl:lo", "info"]);
    assert!(error.contains("reading 0x0000000 failed"), "{error}");
}
