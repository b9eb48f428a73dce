//! The switches, wires, frames and rules of the measurement.

use super::{CLASSES, Mark, Measured, Options};
use crate::bench::agent::Agent;
use crate::controller_process;
use crate::node::ping::checksum;
use crate::openflow_client::{self, OpenFlowClient};
use anyhow::Context;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tandem_linux::link::{self, Veth};
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::packet::{Batch, Receiver, Transmitter};
use tandem_openflow::of13::oxm::{Masked, VLAN_PRESENT};
use tandem_openflow::of13::{Action, Field, Match};
use tandem_openflow::wire::Pad;

/// Bytes of a frame, without FCS.
const LENGTH: usize = 1400;
/// Between two looks at what is to be sent and has come.
const TICK: Duration = Duration::from_millis(2);
/// Not measured: queues fill.
const SETTLE: f64 = 1.0;
/// Between samples.
const SAMPLE: f64 = 0.5;
/// What each sender offers, of the bottleneck's rate.
const OFFERED: f64 = 1.2;
/// The VLAN that carries the priority.
const VLAN: u16 = 5;
const COOKIE: u64 = 1;

/// The interface of a wire, in a namespace of its own or in this one.
struct End {
    ns: Option<NetNs>,
    name: String,
    index: u32,
}

impl End {
    fn real(name: &str) -> anyhow::Result<End> {
        let all = link::list_bare(&mut Netlink::open()?)?;
        let found =
            all.iter().find(|i| i.name == name).with_context(|| format!("there is no interface {name}"))?;
        Ok(End { ns: None, name: name.to_owned(), index: found.index })
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        match &self.ns {
            Some(ns) => ns.run(work)?,
            None => work(),
        }
    }
}

/// The senders' ends, the interfaces of the card's ports, the hop's interface towards the card, and
/// the sink's end.
struct Wires {
    senders: [End; 2],
    ports: [String; 3],
    hop: String,
    sink: End,
}

fn wires(options: &Options) -> anyhow::Result<Wires> {
    let here = NetNs::current()?;
    let mut spaces = NetNs::many(3, link::disable_ipv6)?.into_iter();
    let mut next = || spaces.next().context("three namespaces");
    let a = next()?;
    let b = next()?;
    let far = next()?;
    let sink = Veth::new(("hq-out", 150, &here), ("sink", 250, &far)).request();
    let mut requests = vec![sink];
    let ports = [0, 1, 2].map(|n| format!("hq-card{n}"));
    let wires = match &options.wires[..] {
        [first, second, hop] => Wires {
            senders: [End::real(first)?, End::real(second)?],
            // With its driver the card's ports are these; without it they have no interface.
            ports: if options.card.starts_with("ioctl:") {
                [0, 1, 2].map(|n| format!("nf2c{n}"))
            } else {
                ports
            },
            hop: hop.clone(),
            sink: End { ns: Some(far), name: "sink".into(), index: 250 },
        },
        _ => {
            requests.push(Veth::new((&ports[0], 110, &here), ("gold", 210, &a)).request());
            requests.push(Veth::new((&ports[1], 111, &here), ("silver", 211, &b)).request());
            requests.push(Veth::new((&ports[2], 112, &here), ("hq-hop", 212, &here)).request());
            Wires {
                senders: [
                    End { ns: Some(a), name: "gold".into(), index: 210 },
                    End { ns: Some(b), name: "silver".into(), index: 211 },
                ],
                ports,
                hop: "hq-hop".into(),
                sink: End { ns: Some(far), name: "sink".into(), index: 250 },
            }
        }
    };
    Netlink::open()?.batch(&requests)?;
    for end in wires.senders.iter().chain([&wires.sink]) {
        let up = [link::set_up(end.index, true)];
        end.inside(|| Ok(Netlink::open()?.batch(&up)?))?;
    }
    Ok(wires)
}

fn configuration(options: &Options, wires: &Wires, folder: &Path) -> (String, String) {
    let at = |name: &str| format!("{:?}", folder.join(name).display().to_string());
    let mut config = format!(
        "name = \"hardware-qos\"\ncontroller = {:?}\nstate = {}\ncontrol = {}\ninitial = {}\n[ovs]\ndatabase = {}\n",
        controller_process::agents(folder),
        at("state"),
        at("control.sock"),
        at("initial.toml"),
        at("db.sock"),
    );
    let mut initial = String::from("[[switch]]\nname = \"card\"\ndatapath_id = \"0000000000000001\"\n");
    let _ = write!(
        config,
        "[[switch]]\nname = \"card\"\ndatapath = \"netfpga\"\n[switch.card]\ndevice = {:?}\nprofile = \"openflow-switch\"\n",
        options.card
    );
    for (n, interface) in wires.ports.iter().enumerate() {
        let port = format!("[[switch.port]]\nnumber = {}\ninterface = \"{interface}\"\n", n + 1);
        let _ = writeln!(config, "{port}card_port = {n}");
        initial.push_str(&port);
    }
    let hop = "[[switch]]\nname = \"hop\"\n";
    let port = |(n, interface): (usize, &str)| {
        format!("[[switch.port]]\nnumber = {}\ninterface = \"{interface}\"\n", n + 1)
    };
    let ports: String = [wires.hop.as_str(), "hq-out"].into_iter().enumerate().map(port).collect();
    let _ = write!(config, "{hop}datapath = \"soft\"\n{ports}");
    let _ = write!(initial, "{hop}datapath_id = \"0000000000000002\"\n{ports}");
    // Of the port towards the sink.
    let _ = writeln!(initial, "rate = \"{} Mbit/s\"\ndefault_class = 1", options.link);
    for (_, share, dscp, _) in CLASSES {
        let rate = u64::from(options.link) * 10_000 * share;
        let _ = writeln!(
            initial,
            "[[switch.port.class]]\nrate = \"{rate} bit/s\"\nceiling = \"{} Mbit/s\"\ndscp = {dscp}",
            options.link
        );
    }
    (config, initial)
}

/// A frame of UDP over IPv4 whose source address says which class it is of.
fn frame(class: usize) -> Vec<u8> {
    let mut frame = vec![2, 9, 0, 0, 0, 99, 2, 9, 0, 0, 0, class as u8 + 1, 8, 0];
    let total = (LENGTH - 14) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, class as u8 + 1, 10, 9, 0, 99];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    frame.extend(ip);
    frame.extend([0x27, 0x10, 0x13, 0x88]);
    frame.extend((total - 20).to_be_bytes());
    frame.resize(LENGTH, 0);
    frame
}

/// The rules of the card: each sender's port is a class.
fn card_rules(mark: Mark) -> Vec<tandem_openflow::of13::Message> {
    let rule = |(n, (_, _, dscp, priority)): (u32, (&str, u64, u8, u8))| {
        let mut fields = vec![Field::InPort(n)];
        let mut actions = Vec::new();
        match mark {
            Mark::None => {}
            Mark::Dscp => {
                fields.push(Field::EthType(0x0800));
                actions.push(Action::SetField(Field::IpDscp(dscp)));
            }
            Mark::Priority => {
                fields.push(Field::VlanVid(Masked::exact(0)));
                actions.push(Action::PushVlan(0x8100, Pad::default()));
                actions.push(Action::SetField(Field::VlanVid(Masked::exact(VLAN_PRESENT | VLAN))));
                actions.push(Action::SetField(Field::VlanPcp(priority)));
            }
        }
        actions.push(Action::output(3));
        openflow_client::add(COOKIE, 100, Match { fields }, openflow_client::apply(actions))
    };
    (1..).zip(CLASSES).map(rule).collect()
}

/// The rules of the next hop: a queue by the mark alone; what has none is in no class.
fn hop_rules() -> Vec<tandem_openflow::of13::Message> {
    let out = |queue: u32| vec![Action::SetQueue(queue), Action::output(2)];
    let mut rules = vec![openflow_client::add(
        COOKIE,
        1,
        Match { fields: vec![Field::InPort(1)] },
        openflow_client::apply(vec![Action::output(2)]),
    )];
    for (queue, (_, _, dscp, priority)) in (0..).zip(CLASSES) {
        let fields = vec![Field::InPort(1), Field::EthType(0x0800), Field::IpDscp(dscp)];
        rules.push(openflow_client::add(COOKIE, 10, Match { fields }, openflow_client::apply(out(queue))));
        let tagged = Masked { value: VLAN_PRESENT | VLAN, mask: None };
        let fields = vec![Field::InPort(1), Field::VlanVid(tagged), Field::VlanPcp(priority)];
        rules.push(openflow_client::add(COOKIE, 10, Match { fields }, openflow_client::apply(out(queue))));
    }
    rules
}

/// Everything, one way to mark after the other.
pub(super) fn measure(options: &Options, folder: &Path) -> anyhow::Result<Vec<Measured>> {
    let wires = wires(options)?;
    let (config, initial) = configuration(options, &wires, folder);
    std::fs::write(folder.join("agent.toml"), config)?;
    std::fs::write(folder.join("initial.toml"), initial)?;
    let mut agent = Agent::start(folder)?;
    agent.wait(|s| s["applied"] == true)?;
    let mut card = OpenFlowClient::connect(&folder.join("state/netfpga/card.mgmt"))?;
    let mut hop = OpenFlowClient::connect(&folder.join("state/soft/hop.mgmt"))?;
    hop.must(&hop_rules())?;
    let mut all = Vec::new();
    for mark in Mark::ALL {
        eprintln!("marked by {}: {:.0} s", mark.word(), options.seconds);
        let mut messages = vec![openflow_client::delete(COOKIE)];
        messages.extend(card_rules(mark));
        card.must(&messages)?;
        let places = places(&folder.join("control.sock"))?;
        all.push(part(options, &wires, mark, places)?);
    }
    Ok(all)
}

/// Where the card's flows live.
fn places(control: &Path) -> anyhow::Result<Vec<String>> {
    let stream = UnixStream::connect(control)?;
    writeln!(&stream, "flows")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let views: Vec<(String, Value)> = serde_json::from_str(&line)?;
    let flows = views.iter().filter(|(name, _)| name == "card").filter_map(|(_, v)| v["flows"].as_array());
    Ok(flows.flatten().map(|f| f["place"].as_str().unwrap_or("software").to_owned()).collect())
}

/// Both senders offer more than the bottleneck has; what comes out of it is counted by source
/// address.
fn part(options: &Options, wires: &Wires, mark: Mark, places: Vec<String>) -> anyhow::Result<Measured> {
    let rate = f64::from(options.link) * 1e6 * OFFERED / (8 * LENGTH) as f64;
    let mut senders = Vec::new();
    for (class, end) in wires.senders.iter().enumerate() {
        let index = end.index;
        let transmitter = end.inside(|| Ok(Transmitter::open(index, 0)?))?;
        senders.push((frame(class), transmitter));
    }
    let sink = &wires.sink;
    let mut receiver = sink.inside(|| Ok(Receiver::open(&sink.name, sink.index)?))?;
    let mut batch = Batch::new(1500);
    let (mut bytes, mut marked) = ([0u64; 2], [0u64; 2]);
    let mut series = Vec::new();
    let mut sent = 0u64;
    let mut turn = [0, 1];
    let mut first = None;
    let mut last = (0.0, [0u64; 2]);
    let start = Instant::now();
    loop {
        let now = start.elapsed().as_secs_f64();
        // Frame by frame, and each of them first in turn: without classes neither is to have the
        // queue's last place always.
        let due = (now * rate) as u64;
        turn.reverse();
        // What a busy machine did not send in time is not sent in one go.
        sent = sent.max(due.saturating_sub(64));
        while sent < due {
            for n in turn {
                let (frame, transmitter) = &mut senders[n];
                transmitter.send(frame, &[(0, frame.len() as u32)])?;
            }
            sent += 1;
        }
        batch.clear();
        receiver.receive(&mut batch, 0)?;
        for (_, frame) in batch.frames() {
            if let Some((class, right)) = of(frame, mark) {
                bytes[class] += frame.len() as u64;
                // What waited from the last way to mark has its marks.
                marked[usize::from(!right)] += u64::from(first.is_some());
            }
        }
        if now >= SETTLE.min(options.seconds / 2.0) && first.is_none() {
            first = Some((now, bytes));
        }
        if now - last.0 >= SAMPLE {
            series.push((now, between(last, (now, bytes))));
            last = (now, bytes);
        }
        if now >= options.seconds {
            let rates = between(first.unwrap_or_default(), (now, bytes));
            return Ok(Measured { mark, places, rates, marked, series });
        }
        std::thread::sleep(TICK);
    }
}

/// Mbit/s per class between two moments.
fn between(from: (f64, [u64; 2]), to: (f64, [u64; 2])) -> [f64; 2] {
    [0, 1].map(|n| (to.1[n] - from.1[n]) as f64 * 8.0 / (to.0 - from.0).max(1e-9) / 1e6)
}

/// The class of a frame by its source address, and whether it has the class's mark.
fn of(frame: &[u8], mark: Mark) -> Option<(usize, bool)> {
    let tag = (frame.get(12..14)? == [0x81, 0x00]).then(|| u16::from_be_bytes([frame[14], frame[15]]));
    let ip = frame.get(if tag.is_some() { 18 } else { 14 }..)?;
    let class = match ip.get(12..16)? {
        [10, 9, 0, 1] => 0,
        [10, 9, 0, 2] => 1,
        _ => return None,
    };
    let (_, _, dscp, priority) = CLASSES[class];
    let right = match mark {
        Mark::None => tag.is_none() && ip[1] == 0,
        Mark::Dscp => tag.is_none() && ip[1] == dscp << 2 && checksum(ip.get(..20)?) == 0,
        Mark::Priority => tag == Some(u16::from(priority) << 13 | VLAN),
    };
    Some((class, right))
}
