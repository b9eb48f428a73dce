//! The built-in profiles compared with the documentation of the cards, table by table, and the
//! faults of invalid profiles.

use std::time::Duration;
use tandem_fpga_config::profile::{
    Detect, Fault, FaultKey, FaultKind, LimiterKind, Meaning, Mode, Profile, QueueKind, Remedy, RowCounters,
    builtin,
};

fn profile(name: &str) -> Profile {
    builtin::named(name).expect("a profile that comes with the crate")
}

fn address(profile: &Profile, name: &str) -> u32 {
    profile.register(name).unwrap_or_else(|| panic!("{} has {name}", profile.name)).address
}

#[test]
fn every_profile_that_comes_along_is_right_and_says_what_it_is() {
    let all = builtin::all().expect("right");
    assert_eq!(all.len(), 8);
    for (profile, (name, _)) in all.iter().zip(builtin::PROFILES) {
        assert_eq!(profile.name, *name);
        assert_eq!(profile.board.name, "netfpga-1g");
        assert!(profile.registers.is_sorted_by_key(|r| r.address));
        assert!(profile.registers.len() > 200, "{name} has its board's registers too");
    }
}

#[test]
fn table_pci_and_driver_abi() {
    let board = profile("openflow-switch").board;
    let pci = board.pci.expect("known");
    assert_eq!((pci.vendor, pci.device, pci.bar_bytes), (0xfeed, 1, 128 << 20));
    assert_eq!((board.ioctl.device.as_str(), board.ioctl.read, board.ioctl.write), ("nf2c0", 0x89f0, 0x89f1));
    let fpga = board.user_fpga.expect("known");
    assert_eq!((fpga.part.as_str(), fpga.bytes), ("2vp50ff1152", 2_377_668));
    let bus = board.bus_fpga.expect("known");
    assert_eq!((bus.part.as_str(), bus.bytes, bus.version, bus.revision), ("2s200fg456", 166_980, 4, 1));
}

#[test]
fn table_ioctl_numbers_of_the_boards_collide() {
    let board = |name: &str| {
        let text = format!("name = \"x\"\nabout = \"\"\nboard = \"{name}\"\n");
        Profile::parse("x", &text).expect("right").board.ioctl
    };
    for (name, read, write, device) in [
        ("netfpga-1g", 0x89f0, 0x89f1, "nf2c0"),
        ("netfpga-10g", 0x89f2, 0x89f1, "/dev/nf10"),
        ("netfpga-sume", 0x89f2, 0x89f1, "nf0"),
        ("netfpga-plus", 0x89f2, 0x89f1, "nf0"),
    ] {
        let ioctl = board(name);
        assert_eq!((ioctl.read, ioctl.write, ioctl.device.as_str()), (read, write, device), "{name}");
    }
}

#[test]
fn table_cpci_registers() {
    let p = profile("reference-nic");
    for (name, at, mode) in [
        ("ID", 0x000, Mode::Read),
        ("BOARD_ID", 0x004, Mode::Read),
        ("CTRL", 0x008, Mode::ReadWrite),
        ("RESET", 0x00c, Mode::ReadWrite),
        ("ERROR", 0x010, Mode::Clears),
        ("DUMMY", 0x020, Mode::ReadWrite),
        ("INTERRUPT_MASK", 0x040, Mode::ReadWrite),
        ("INTERRUPT_STATUS", 0x044, Mode::Clears),
        ("CNET_CLK_SEL", 0x050, Mode::ReadWrite),
        ("PROG_DATA", 0x100, Mode::Write),
        ("PROG_STATUS", 0x104, Mode::Read),
        ("PROG_CTRL", 0x108, Mode::ReadWrite),
    ] {
        let register = p.register(&format!("CPCI_{name}")).expect("listed");
        assert_eq!((register.address, register.mode), (at, mode), "{name}");
    }
}

#[test]
fn table_device_id_block() {
    let p = profile("openflow-switch");
    for (name, at) in [
        ("DEV_ID_MD5_0", 0x40_0000),
        ("DEV_ID_DEVICE_ID", 0x40_0010),
        ("DEV_ID_VERSION", 0x40_0014),
        ("DEV_ID_CPCI_ID", 0x40_0018),
        ("DEV_ID_PROJ_DIR_0", 0x40_001c),
        ("DEV_ID_PROJ_NAME_0", 0x40_005c),
        ("DEV_ID_PROJ_DESC_0", 0x40_009c),
        ("DEV_ID_PROJ_DESC_24", 0x40_00fc),
    ] {
        assert_eq!(address(&p, name), at, "{name}");
    }
}

#[test]
fn table_ports_phy_and_mac() {
    let p = profile("openflow-switch");
    for port in 0..4 {
        let phy = 0x44_0000 + 0x80 * port;
        for (name, at) in [
            ("CONTROL", 0),
            ("STATUS", 4),
            ("PHY_ID_HI", 8),
            ("PHY_ID_LO", 0xc),
            ("AUX_STATUS", 0x64),
            ("INT_STATUS", 0x68),
            ("INT_MASK", 0x6c),
        ] {
            assert_eq!(address(&p, &format!("MDIO_PHY_{port}_{name}")), phy + at);
        }
        let mac = 0x60_0000 + 0x4_0000 * port;
        let names = [
            "CONTROL",
            "RX_QUEUE_NUM_PKTS_IN_QUEUE",
            "RX_QUEUE_NUM_PKTS_STORED",
            "RX_QUEUE_NUM_PKTS_DROPPED_FULL",
            "RX_QUEUE_NUM_PKTS_DROPPED_BAD",
            "RX_QUEUE_NUM_PKTS_DEQUEUED",
            "RX_QUEUE_NUM_WORDS_PUSHED",
            "RX_QUEUE_NUM_BYTES_PUSHED",
            "TX_QUEUE_NUM_PKTS_IN_QUEUE",
            "TX_QUEUE_NUM_PKTS_ENQUEUED",
            "TX_QUEUE_NUM_PKTS_SENT",
            "TX_QUEUE_NUM_WORDS_PUSHED",
            "TX_QUEUE_NUM_BYTES_PUSHED",
        ];
        let offsets = [0, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30];
        for (name, at) in names.iter().zip(offsets) {
            assert_eq!(address(&p, &format!("MAC_GRP_{port}_{name}")), mac + at);
        }
        assert_eq!(address(&p, &format!("CPU_QUEUE_{port}_CONTROL")), 0x70_0000 + 0x4_0000 * port);
    }
    assert_eq!(address(&p, "DMA_CTRL"), 0x50_0000);
}

#[test]
fn table_output_queues() {
    let p = profile("openflow-switch");
    assert_eq!(p.queues.as_ref().map(|q| (q.kind, q.count)), Some((QueueKind::Bram, 8)));
    assert_eq!(address(&p, "BRAM_OQ_DISABLE_QUEUES"), 0x200_0300);
    for q in 0..8 {
        let base = 0x200_0380 + 0x10 * q;
        for (name, at) in [
            ("NUM_PKT_BYTES_RECEIVED", 0),
            ("NUM_PKTS_RECEIVED", 4),
            ("NUM_PKTS_DROPPED", 8),
            ("NUM_WORDS_IN_QUEUE", 0xc),
        ] {
            assert_eq!(address(&p, &format!("BRAM_OQ_QUEUE_{q}_{name}")), base + at);
        }
    }
    for (name, base) in
        [("reference-switch", 0x200_1000), ("reference-router", 0x200_1000), ("reference-nic", 0x200_0000)]
    {
        let p = profile(name);
        assert_eq!(p.queues.as_ref().map(|q| (q.kind, q.count)), Some((QueueKind::Sram, 8)));
        for q in 0..8 {
            for (register, at) in [
                ("CTRL", 0x00),
                ("NUM_PKT_BYTES_STORED", 0x04),
                ("NUM_OVERHEAD_BYTES_STORED", 0x08),
                ("NUM_PKT_BYTES_REMOVED", 0x0c),
                ("NUM_OVERHEAD_BYTES_REMOVED", 0x10),
                ("NUM_PKTS_STORED", 0x14),
                ("NUM_PKTS_DROPPED", 0x18),
                ("NUM_PKTS_REMOVED", 0x1c),
                ("ADDRESS_LO", 0x20),
                ("ADDRESS_HI", 0x24),
                ("RD_ADDRESS", 0x28),
                ("WR_ADDRESS", 0x2c),
                ("NUM_PKTS_IN_Q", 0x30),
                ("MAX_PKTS_IN_Q", 0x34),
                ("NUM_WORDS_IN_Q", 0x38),
                ("NUM_WORDS_LEFT", 0x3c),
                ("FULL_THRESH", 0x40),
            ] {
                assert_eq!(address(&p, &format!("OQ_QUEUE_{q}_{register}")), base + 0x200 * q + at, "{name}");
            }
        }
    }
}

#[test]
fn table_reference_switch_mac_table() {
    let p = profile("reference-switch");
    for (name, at) in [
        ("PORTS_MAC_HI", 0x00),
        ("MAC_LO", 0x04),
        ("NUM_HITS", 0x08),
        ("NUM_MISSES", 0x0c),
        ("MAC_LUT_RD_ADDR", 0x10),
        ("MAC_LUT_WR_ADDR", 0x14),
    ] {
        assert_eq!(address(&p, &format!("SWITCH_OP_LUT_{name}")), 0x200_0100 + at);
    }
}

#[test]
fn table_rate_limiters_and_bitfiles_without() {
    let limiter = |name: &str| profile(name).rate_limiter;
    let at = |base: u32, n: u32| (0..n).map(|i| base + 0x40 * i).collect::<Vec<_>>();
    for (name, kind, addresses) in [
        ("router-buffer-sizing", LimiterKind::Shift, at(0x200_0200, 4)),
        ("tutorial-router", LimiterKind::Shift, at(0x200_0300, 4)),
        ("packet-generator", LimiterKind::Tokens, at(0x200_1140, 8)),
    ] {
        let limiter = limiter(name).expect("it has them");
        assert_eq!((limiter.kind, limiter.at), (kind, addresses), "{name}");
    }
    for name in [
        "openflow-switch",
        "openflow-switch-alternate",
        "reference-nic",
        "reference-switch",
        "reference-router",
    ] {
        assert_eq!(limiter(name), None, "{name} has no rate limiter");
    }
}

#[test]
fn table_openflow_lookup_and_watchdog_in_both_maps() {
    for (name, wildcard, watchdog) in
        [("openflow-switch", 0x200_1000, 0x200_0400), ("openflow-switch-alternate", 0x200_2000, 0x200_1400)]
    {
        let p = profile(name);
        let map = p.flow_table.expect("a flow table");
        assert_eq!(map.rows, 32);
        let offsets = [
            (map.action, 0x00),
            (map.mask, 0x28),
            (map.key, 0x48),
            (map.read_row, 0x68),
            (map.write_row, 0x6c),
            (map.bytes_hit, 0x70),
            (map.packets_hit, 0xf0),
            (map.last_seen, 0x178),
        ];
        for (address, offset) in offsets {
            assert_eq!(address, wildcard + offset);
        }
        let lookup = [map.wildcard_misses, map.wildcard_hits, map.exact_misses, map.exact_hits, map.dropped];
        assert_eq!(lookup, [0x200_0000, 0x200_0004, 0x200_0008, 0x200_000c, 0x200_0010]);
        assert_eq!(address(&p, "OPENFLOW_LOOKUP_NUM_PKTS_DROPPED_7"), 0x200_002c);
        assert_eq!(address(&p, "OPENFLOW_LOOKUP_DUMY_SOFTWARE_0"), 0x200_0030);
        assert_eq!(map.seconds, 0x200_0038);
        assert_eq!(address(&p, "IN_ARB_NUM_PKTS_SENT"), 0x200_0100);
        let dog = p.watchdog.expect("a watchdog");
        assert_eq!(
            (dog.enable, dog.counter, dog.period),
            (watchdog, watchdog + 4, Duration::from_millis(8600))
        );
        assert_eq!((map.exact, map.exact_rows), (0x100_0000, 32_768));
        assert_eq!(map.exact_entry(32_767), Some(0x100_0000 + 32_767 * 128));
        assert_eq!(map.exact_entry(32_768), None);
    }
}

#[test]
fn table_what_the_openflow_switch_clears_lags_and_does_wrong_in_both_maps() {
    for name in ["openflow-switch", "openflow-switch-alternate"] {
        let p = profile(name);
        let clearing: Vec<&str> =
            p.registers.iter().filter(|r| p.clears(r) && r.is.is_some()).map(|r| r.name.as_str()).collect();
        assert_eq!(clearing, ["IN_ARB_NUM_PKTS_SENT"], "the one counter that any access clears");
        let map = p.flow_table.expect("a flow table");
        assert_eq!(
            map.row_counters,
            RowCounters::Accumulate,
            "on a card; the sources clear them in simulation"
        );
        let lag = p.data_path.as_ref().expect("described");
        assert_eq!((lag.entered, lag.entered_clears), (0x200_0100, true));
        assert_eq!(lag.decided, [map.exact_hits, map.exact_misses], "a wildcard hit is an exact miss too");
        assert_eq!(lag.ready, Some((0x200_011c, 1 << 1)));
        let faults: Vec<_> = p.faults.iter().map(|f| (f.id.as_str(), f.kind, f.detect, f.remedy)).collect();
        let (lag, no) = (Detect::DataPath, Detect::No);
        assert_eq!(
            faults,
            [
                ("header-beyond-frame", Some(FaultKind::HeaderBeyondFrame), lag, Remedy::Reset),
                ("tagged-then-short", Some(FaultKind::TaggedThenShort), lag, Remedy::Reset),
                ("short-header", Some(FaultKind::ShortHeader), no, Remedy::GuardRow),
            ]
        );
        assert_eq!(map.guard, Some(FaultKey { source: 0, vlan: 0xffff }));
        assert_eq!(p.fault(FaultKind::ShortHeader).and_then(|f| f.key), map.guard);
    }
    assert_eq!(profile("reference-nic").faults, [], "faults belong to a bitfile");
    assert_eq!(profile("reference-nic").data_path, None);
}

/// A user's own profile may have faults of its own, which are checked.
#[test]
fn the_faults_of_a_user_s_own_profile_are_checked() {
    let fault = |id: &str, more: &str| {
        format!(
            "[[fault]]\nid = \"{id}\"\ntitle = \"t\"\ntrigger = \"w\"\neffect = \"e\"\nadvice = \"a\"\n{more}\n"
        )
    };
    let parse = |faults: &[String]| {
        let head = "name = \"mine\"\nabout = \"\"\nboard = \"netfpga-1g\"\n";
        Profile::parse("mine.toml", &format!("{head}{}", faults.concat()))
    };
    let plain = fault("stops-at-noon", "detect = \"no\"\nremedy = \"none\"");
    let own = parse(std::slice::from_ref(&plain)).expect("right");
    assert_eq!((own.faults.len(), own.faults[0].kind), (1, None));
    for (faults, wanted) in [
        (vec![plain.clone(), plain], "two have this id"),
        (vec![fault("a", "detect = \"data path\"\nremedy = \"reset\"")], "needs [data_path]"),
        (
            vec![
                "[data_path]\nentered = \"CPCI_ID\"\ndecided = []\nready = \"CPCI_ID\"\nready_bit = 32\n"
                    .into(),
            ],
            "bits 0 to 31",
        ),
        (vec![fault("a", "detect = \"no\"\nremedy = \"guard row\"")], "needs the key"),
        (
            vec![fault("a", "detect = \"no\"\nremedy = \"guard row\"\nkey = { source = 0, vlan = 0 }")],
            "needs [flow_table]",
        ),
        (vec![fault("a", "detect = \"no\"\nremedy = \"prayer\"")], "unknown variant"),
    ] {
        let error = parse(&faults).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_register_is_found_by_the_name_that_public_headers_have() {
    let p = profile("openflow-switch");
    let register = p.register("mac_grp_2_control_reg").expect("any case, with _REG");
    assert_eq!((register.address, register.name.as_str()), (0x68_0000, "MAC_GRP_2_CONTROL"));
    assert_eq!(p.at(0x68_0000), Some(register));
    assert_eq!(p.at(0x68_0040), None);
    assert_eq!(p.register("MAC_GRP_2_CONTROL_REG_REG"), None);
    assert_eq!(p.like("wdt_cou"), ["WDT_COUNTER"]);
    assert_eq!(p.register("MAC_GRP_0_RX_QUEUE_NUM_BYTES_PUSHED").and_then(|r| r.is), Some(Meaning::Bytes));
}

#[test]
fn a_user_s_own_profile_is_told_everything_that_is_wrong_with_it_at_once() {
    let text = r#"
        name = "mine"
        about = "wrong in many ways"
        board = "netfpga-1g"
        [watchdog]
        block = "DOG"
        milliseconds = 0
        [[block]]
        name = "A"
        base = 0x2000000
        registers = [
          { name = "X", at = 0 },
          { name = "Y", at = 0 },
          { name = "X", at = 4 },
          { name = "Z_{}", at = 8 },
          { name = "W", at = 8, count = 2 },
          { name = "ODD", at = 13 },
        ]
        [[block]]
        name = "B"
        base = 0x8000000
        registers = [{ name = "OUT", at = 0 }]
    "#;
    let faults = Profile::parse("mine.toml", text).expect_err("wrong").faults;
    let has = |wanted: &dyn Fn(&Fault) -> bool| faults.iter().any(wanted);
    assert!(has(&|f| matches!(f, Fault::SameAddress { address: 0x200_0000, .. })), "{faults:?}");
    assert!(has(&|f| matches!(f, Fault::SameName { name, .. } if name == "A_X")));
    assert!(has(&|f| matches!(f, Fault::Numbering { name, count: 1 } if name == "Z_{}")));
    assert!(has(&|f| matches!(f, Fault::Numbering { name, count: 2 } if name == "W")));
    assert!(has(&|f| matches!(f, Fault::BadAddress { name, .. } if name == "A_ODD")));
    assert!(has(&|f| matches!(f, Fault::BadAddress { name, .. } if name == "B_OUT")));
    assert!(has(&|f| matches!(f, Fault::Missing { part: "watchdog", name } if name == "DOG_COUNTER")));
    assert!(has(&|f| matches!(f, Fault::Part { part: "watchdog", .. })));
}

#[test]
fn a_profile_that_is_no_toml_or_names_no_board_says_so() {
    let error = Profile::parse("x.toml", "name = 3").expect_err("not a profile");
    assert!(error.to_string().contains("x.toml"), "{error}");
    let error =
        Profile::parse("x.toml", "name = \"x\"\nabout = \"\"\nboard = \"netfpga-2g\"").expect_err("no board");
    assert!(error.to_string().contains("netfpga-1g, netfpga-10g"), "{error}");
    let error = builtin::named("openflow").expect_err("no such profile");
    assert!(error.to_string().contains("openflow-switch-alternate"), "{error}");
    let huge = "name = \"x\"\nabout = \"\"\nboard = \"netfpga-1g\"\n[[block]]\nname = \"A_{}\"\nbase = 0\ncount = 16000\nregisters = [{ name = \"B_{}\", at = 0, count = 16000 }]";
    let error = Profile::parse("x.toml", huge).expect_err("too many");
    assert_eq!(error.faults, [Fault::TooMany]);
}

#[test]
fn a_flow_table_whose_words_do_not_follow_each_other_is_refused() {
    let (_, text) = builtin::PROFILES[0];
    let spread =
        text.replace("name = \"CMP_MASK_{}\", at = 0x28", "name = \"CMP_MASK_{}\", stride = 8, at = 0x400");
    assert_ne!(spread, text);
    let error = Profile::parse("x.toml", &spread).expect_err("the codec could not be used with it");
    assert!(error.to_string().contains("CMP_MASK_1"), "{error}");
}
