//! Every tool in two namespaces with a wire between them: real packets, real programs.
//!
//! Where no namespaces can be made, or a program is missing, a test says so; in CI it fails.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_model::ToolOption;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(40);
const FROM: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Two nodes and their traffic.
struct Wire {
    from: NetNs,
    to: NetNs,
    traffic: Traffic,
    folder: crate::temp_dir::TempDir,
    runtime: tokio::runtime::Runtime,
}

/// `None` where it cannot be, said; in CI that is a failure.
fn skipped<T>(result: anyhow::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why:#}");
            eprintln!("skipped: {why:#}");
            None
        }
    }
}

impl Wire {
    fn up() -> anyhow::Result<Wire> {
        let mut spaces = NetNs::many(2, link::disable_ipv6)?;
        let (to, from) = (spaces.pop().context("two")?, spaces.pop().context("two")?);
        let veth = link::Veth::new(("eth0", 80_001, &from), ("eth0", 80_001, &to));
        Netlink::open()?.batch(&[veth.request()])?;
        for (ns, address) in [(&from, FROM), (&to, TO)] {
            let requests =
                [link::set_up(1, true), link::set_up(80_001, true), link::address(80_001, address, 24)];
            ns.run(|| Netlink::open()?.batch(&requests))??;
        }
        static WIRES: AtomicU64 = AtomicU64::new(0);
        let number = WIRES.fetch_add(1, Ordering::Relaxed);
        let folder = crate::temp_dir::TempDir::new(&format!("traffic-{number}"))?;
        let traffic = Traffic::new(folder.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Wire { from, to, traffic, folder, runtime })
    }

    /// Starts a flow as the lab does, on a thread that is not the runtime's.
    fn start(&mut self, tool: &str, rate: u64, options: &[(&str, ToolOption)]) -> anyhow::Result<()> {
        let _guard = self.runtime.enter();
        let ends = [("a".to_owned(), FROM), ("b".to_owned(), TO)];
        let mut flow = FlowSpec::of(7, &ends[0], &ends[1], rate, tool.parse()?);
        flow.options = options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        self.traffic.start(flow, Some((&self.from, Gate::default())), Some(&self.to))
    }

    fn report(&self) -> FlowReport {
        self.traffic.report().into_iter().next().expect("the flow")
    }

    fn until(&self, what: &str, is: impl Fn(&FlowReport) -> bool) -> FlowReport {
        let begin = Instant::now();
        loop {
            let report = self.report();
            if is(&report) {
                return report;
            }
            assert!(begin.elapsed() < LIMIT, "{what}: {report:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the flow: what is left of it in both namespaces and in the folder.
    fn stop(&mut self) -> FlowReport {
        let runtime = self.runtime.enter();
        self.traffic.stop(7);
        drop(runtime);
        let spaces = [&self.from, &self.to].map(|ns| crate::node::processes::inode(ns).expect("a number"));
        for process in std::fs::read_dir("/proc").expect("processes").flatten() {
            let Ok(link) = std::fs::read_link(process.path().join("ns/net")) else { continue };
            let link = link.display().to_string();
            let here = spaces.iter().any(|inode| link == format!("net:[{inode}]"));
            assert!(!here, "{} is left", process.path().display());
        }
        let files: Vec<_> = std::fs::read_dir(self.folder.path()).expect("a folder").flatten().collect();
        assert!(files.is_empty(), "{files:?} are left");
        self.report()
    }
}

fn text(text: &str) -> ToolOption {
    ToolOption::Text(text.to_owned())
}

/// A capture of DNS questions and of a page, as a file.
fn capture(wire: &Wire) -> std::path::PathBuf {
    let mut file = pcap_file::pcap::PcapWriter::new(Vec::new()).expect("a file");
    for n in 0..40u16 {
        let mut frame = Vec::new();
        let ip =
            etherparse::PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
        if n % 2 == 0 {
            ip.udp(5000 + n, 53).write(&mut frame, &[7; 200]).expect("a frame");
        } else {
            ip.tcp(5000 + n, 80, 1, 1024).write(&mut frame, &[8; 600]).expect("a frame");
        }
        let at = Duration::from_millis(u64::from(n) * 3);
        let packet = pcap_file::pcap::PcapPacket::new(at, frame.len() as u32, &frame);
        file.write_packet(&packet).expect("a frame");
    }
    // Not in the folder of flows, which has to be empty in the end.
    let path = std::env::temp_dir()
        .join(format!("tandem-capture-{}", wire.folder.path().display().to_string().replace('/', "-")));
    std::fs::write(&path, file.into_writer()).expect("a file");
    path
}

#[test]
fn native_tools_have_the_flows_rate_and_lose_nothing_on_an_empty_wire() {
    for (tool, options) in [
        ("udp", vec![]),
        ("poisson", vec![]),
        ("on-off", vec![("on", text("20 ms")), ("off", text("20 ms"))]),
        ("flows-hadoop", vec![]),
        ("flows-keyvalue", vec![]),
    ] {
        let Some(mut wire) = skipped(Wire::up()) else { return };
        wire.start(tool, 8_000_000, &options).expect(tool);
        let report = wire.until(tool, |f| f.received > 100 && f.bytes > 100_000);
        assert!(report.delay_ms > 0.0 && report.delay_ms < 1000.0, "{tool}: {report:?}");
        let report = wire.stop();
        assert!(report.ended && report.sent >= report.received, "{tool}: {report:?}");
        assert_eq!(report.note, None, "{tool}");
    }
}

#[test]
fn a_capture_is_replayed_by_us_and_by_tcpreplay() {
    for tool in ["pcap", "tcpreplay"] {
        let Some(mut wire) = skipped(Wire::up()) else { return };
        let file = capture(&wire);
        let started = wire.start(tool, 4_000_000, &[("file", text(&file.display().to_string()))]);
        std::fs::remove_file(&file).expect("our file");
        if tool == "tcpreplay" && skipped(super::tcpreplay::TCPREPLAY.find().map_err(Into::into)).is_none() {
            return;
        }
        started.expect(tool);
        // More than a round of the file's 40 frames.
        let report = wire.until(tool, |f| f.received > 100 && f.sent > 100);
        assert!(report.bytes > 40_000, "{tool}: {report:?}");
        if tool == "pcap" {
            assert!(report.delay_ms > 0.0, "{report:?}");
        }
        let report = wire.stop();
        let lost = report.sent.saturating_sub(report.received);
        assert!(lost * 20 <= report.sent, "{tool}: {report:?}");
    }
}

#[test]
fn iperf3_says_what_has_arrived_by_udp_and_by_tcp() {
    let Some(_) = skipped(iperf3::IPERF3.find().map_err(Into::into)) else { return };
    for transport in ["udp", "tcp"] {
        let Some(mut wire) = skipped(Wire::up()) else { return };
        let options = [("transport", text(transport)), ("session", text("1 s"))];
        wire.start("iperf3", 4_000_000, &options).expect(transport);
        let first = wire.until(transport, |f| f.bytes > 100_000);
        assert_eq!(first.received > 0, transport == "udp", "{first:?}");
        let report = wire.stop();
        assert!(report.bytes >= first.bytes, "{report:?}");
        assert!(report.goodput > 2e6, "{report:?}");
    }
}

/// One that is killed says so and is started again; one whose receiver was killed too.
#[test]
fn a_tool_that_is_killed_is_started_again_and_the_report_says_so() {
    let Some(_) = skipped(iperf3::IPERF3.find().map_err(Into::into)) else { return };
    let Some(mut wire) = skipped(Wire::up()) else { return };
    wire.start("iperf3", 4_000_000, &[("session", text("1 s"))]).expect("it starts");
    let first = wire.until("it runs", |f| f.bytes > 0);
    let inode = crate::node::processes::inode(&wire.to).expect("a number");
    // The server is the only process in the receiver's namespace.
    let server = std::fs::read_dir("/proc").expect("processes").flatten().find_map(|process| {
        let link = std::fs::read_link(process.path().join("ns/net")).ok()?;
        (link.display().to_string() == format!("net:[{inode}]")).then_some(())?;
        process.file_name().to_str()?.parse::<i32>().ok()
    });
    let server = nix::unistd::Pid::from_raw(server.expect("it runs"));
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    let report = wire.until("it says so", |f| f.note.is_some());
    let note = report.note.unwrap_or_default();
    assert!(note.contains("iperf3") && note.contains("started again"), "{note}");
    wire.until("it goes on", |f| f.bytes > first.bytes + 400_000);
    wire.stop();
}

#[test]
fn ditg_says_delay_jitter_and_loss_of_each_profile() {
    let Some(_) = skipped(ditg::SEND.find().map_err(Into::into)) else { return };
    for tool in ["ditg-poisson", "ditg-voip", "ditg-telnet", "ditg-dns", "ditg-csa", "ditg-quake3"] {
        let Some(mut wire) = skipped(Wire::up()) else { return };
        wire.start(tool, 2_000_000, &[("session", text("1 s"))]).expect(tool);
        let report = wire.until(tool, |f| f.received > 0 && f.delay_ms > 0.0);
        assert!(report.own_clock && report.delay_ms < 1000.0, "{tool}: {report:?}");
        let report = wire.stop();
        assert!(report.bytes > 0 && report.sent >= report.received, "{tool}: {report:?}");
    }
}

#[test]
fn another_name_of_a_tool_is_that_tool_with_its_options() {
    let Some(mut wire) = skipped(Wire::up()) else { return };
    let options = [("tool", text("on-off")), ("on", text("5 ms")), ("off", text("5 ms"))];
    wire.start("chatty", 4_000_000, &options).expect("on-off by another name");
    wire.until("it arrives", |f| f.received > 10);
    let report = wire.stop();
    assert_eq!(
        (report.transport.as_str(), report.tool.map(|t| t.to_string())),
        ("chatty", Some("on-off".into()))
    );
    let wrong = wire.start("chatty", 4_000_000, &[("tool", text("on-off")), ("on", text("5"))]);
    let why = format!("{:#}", wrong.expect_err("no unit"));
    assert!(why.starts_with("[traffic.chatty]: on: \"5\" is no time"), "{why}");
}

#[test]
fn a_flow_is_understood_by_whoever_knows_tools_and_by_whoever_knows_the_flag_only() {
    let ends = [("a".to_owned(), Ipv4Addr::LOCALHOST), ("b".to_owned(), Ipv4Addr::LOCALHOST)];
    let flow = |tool| FlowSpec::of(7, &ends[0], &ends[1], 1000, tool);
    for (tool, tcp) in [(TrafficTool::UDP, false), (TrafficTool::TCP, true)] {
        let mut message = serde_json::to_value(flow(tool)).expect("JSON");
        assert_eq!(message["tcp"], tcp, "for a node of before");
        let heard: FlowSpec = serde_json::from_value(message.clone()).expect("a flow");
        assert_eq!(heard, flow(tool));
        // From a coordinator of before.
        message.as_object_mut().expect("an object").remove("tool");
        let heard: FlowSpec = serde_json::from_value(message).expect("a flow");
        assert_eq!(heard, flow(tool));
    }
}

#[tokio::test]
async fn a_tool_that_is_not_there_is_refused_with_those_that_are() {
    let ends = [("a".to_owned(), Ipv4Addr::LOCALHOST), ("b".to_owned(), Ipv4Addr::LOCALHOST)];
    let tool = "pigeon".parse().expect("a name");
    let refused = Traffic::new(&std::env::temp_dir()).start(
        FlowSpec::of(7, &ends[0], &ends[1], 1000, tool),
        None,
        None,
    );
    let why = refused.expect_err("no such tool").to_string();
    assert!(why.starts_with("this lab has no traffic tool pigeon; it has udp, tcp"), "{why}");
}

#[test]
fn names_of_tools_are_names_and_unique() {
    for (n, g) in GENERATORS.iter().enumerate() {
        assert!(g.name().parse::<TrafficTool>().is_ok(), "{}", g.name());
        assert!(!GENERATORS[..n].iter().any(|other| other.name() == g.name()), "{}", g.name());
    }
}
