//! The rules that the switches of a [`World`] have, in real switches: sent by the switch driver as
//! OpenFlow messages, looked up by the project's own tables (`tandem_openflow::switch`), and whole
//! frames walked from machine to machine.

use crate::world::World;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{
    Dpid, ETH_ARP, ETH_IPV4, Effect, Event, Leave, LinkId, Mac, NodeId, Rule, Site, SwitchId, Time, TxnId,
};
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Port, Queue, Sink, Switch};
use tandem_openflow::{framing, header, session};
use tandem_switch_driver::{Driver, Output};

/// What discovery frames are signed with.
pub(crate) const SECRET: u64 = 42;

/// Ethernet types of tags: 802.1Q and 802.1ad.
pub(crate) const TAG: u16 = 0x8100;
pub(crate) const SERVICE_TAG: u16 = 0x88a8;

/// What a switch sends: out of ports, and to its controller.
#[derive(Default)]
struct Sent {
    frames: Vec<(u32, Vec<u8>)>,
    messages: Vec<u8>,
}

impl Sink for Sent {
    fn transmit(&mut self, port: u32, _: u32, frame: &[u8]) {
        self.frames.push((port, frame.to_vec()));
    }
    fn send(&mut self, _: ConnId, bytes: &[u8]) {
        self.messages.extend_from_slice(bytes);
    }
    fn close(&mut self, _: ConnId, why: &SessionError) {
        panic!("the session ends: {why}");
    }
    fn set_port(&mut self, _: u32, _: bool) {}
}

/// A switch and its driver.
struct Pair {
    switch: Switch,
    conn: ConnId,
    sent: Sent,
    driver: Driver,
    now: Time,
    /// FLOW_MODs that the driver has sent.
    changes: usize,
}

fn each(bytes: &[u8], mut what: impl FnMut(&[u8])) {
    let mut rest = bytes;
    while let Ok(Some((message, after))) = framing::next(rest) {
        rest = after;
        what(message);
    }
    assert!(rest.is_empty(), "half a message");
}

impl Pair {
    fn new(dpid: Dpid, version: u8, ports: &[u32]) -> Pair {
        let tables = if version == header::V10 { 1 } else { 2 };
        let cfg = Config { dpid, tables, versions: vec![version], buffers: 0, ..Config::default() };
        let (mut switch, mut sent) = (Switch::new(cfg), Sent::default());
        for number in ports {
            let mac = [2, 9, 0, 0, 0, *number as u8];
            let (name, speed) = (format!("p{number}"), Some(1_000_000_000));
            let queues = (0..4).map(|id| Queue { id, min: None, max: None }).collect();
            let port = Port { number: *number, name, mac, up: true, speed, config: 0, queues };
            switch.port(port, Time::ZERO, &mut sent);
        }
        let conn = switch.connected(Time::ZERO, &mut sent);
        let cfg = tandem_switch_driver::Config {
            poll_period: Duration::from_secs(1),
            lldp_period: None,
            secret: SECRET,
            packet_ins: 100_000,
            session: session::Config::default(),
        };
        let mut out = Output::default();
        let driver = Driver::new(cfg, "a test", Time::ZERO, &mut out);
        let mut pair = Pair { switch, conn, sent, driver, now: Time::ZERO, changes: 0 };
        pair.talk(out);
        assert_eq!(pair.driver.dpid(), Some(dpid), "the handshake is done");
        pair
    }

    /// Both say what they have to say to each other; what the driver makes of it.
    fn talk(&mut self, mut out: Output) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.append(&mut out.events);
            assert_eq!(out.warnings, Vec::<String>::new());
            let bytes = std::mem::take(&mut out.bytes);
            each(&bytes, |message| {
                self.changes += usize::from(message[1] == 14);
                let done = self.switch.on_message(self.conn, message, self.now, &mut self.sent);
                done.expect("a session");
            });
            let answers = std::mem::take(&mut self.sent.messages);
            if answers.is_empty() {
                return events;
            }
            each(&answers, |message| {
                assert_ne!(message[1], 1, "the switch refuses a message: {message:x?}");
                self.driver.on_message(message, self.now, &mut out).expect("a session");
            });
        }
    }

    fn sync(&mut self, dpid: Dpid, rules: Vec<Rule>) {
        let mut out = Output::default();
        let sync = Effect::SyncRules { switch: dpid, txn: TxnId(1), rules, leave: Leave::Nothing };
        self.driver.execute(sync, self.now, &mut out);
        self.talk(out);
    }

    /// Time passes; how many changes the driver makes until its switch's flows have been read so
    /// often.
    fn audit(&mut self, polls: usize) -> usize {
        let (before, mut read) = (self.changes, 0);
        for _ in 0..polls * 20 {
            self.now = self.driver.next_deadline();
            let mut out = Output::default();
            self.driver.on_deadline(self.now, &mut out).expect("a session");
            let events = self.talk(out);
            let is_read = |e: &&Event| matches!(e, Event::Samples { flows, .. } if !flows.is_empty());
            read += events.iter().filter(is_read).count();
            if read >= polls {
                break;
            }
        }
        assert!(read >= polls, "the flows were read {read} times");
        self.changes - before
    }
}

/// What has become of a frame.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ended {
    /// Which machines have got it, with what they have got.
    pub(crate) at: Vec<(NodeId, Vec<u8>)>,
    /// How often a switch has sent it to its controller.
    pub(crate) punted: usize,
    /// What the controller has made of it.
    pub(crate) events: Vec<Event>,
}

impl Ended {
    /// Nobody has got anything.
    pub(crate) fn is_nowhere(&self) -> bool {
        *self == Ended::default()
    }

    /// This machine has got it once, and nobody else.
    pub(crate) fn is_at(&self, node: NodeId) -> bool {
        self.punted == 0 && matches!(&self.at[..], [(at, _)] if *at == node)
    }
}

/// The switches of a [`World`] with their rules, as OpenFlow tables that frames are walked through.
pub(crate) struct Fabric {
    site: Arc<Site>,
    pairs: BTreeMap<SwitchId, Pair>,
}

impl Fabric {
    /// The switches of a world, with the rules that they have now.
    pub(crate) fn of(world: &World) -> Fabric {
        let site = world.site.clone();
        let version = if world.one_table { header::V10 } else { header::V13 };
        let mut pairs = BTreeMap::new();
        for (n, switch) in (0u32..).zip(&site.topology.switches).filter(|(_, s)| !s.legacy) {
            let ports = site.topology.ports(NodeId::Switch(SwitchId(n)));
            let ports: Vec<u32> = ports.iter().map(|(p, _)| p.0).collect();
            let mut pair = Pair::new(switch.dpid, version, &ports);
            let rules = world.tables.get(&switch.dpid).into_iter().flat_map(|t| t.values());
            pair.sync(switch.dpid, rules.cloned().collect());
            pairs.insert(SwitchId(n), pair);
        }
        Fabric { site, pairs }
    }

    /// How many changes the drivers make when they read back what they have sent.
    pub(crate) fn repairs(&mut self, polls: usize) -> usize {
        self.pairs.values_mut().map(|p| p.audit(polls)).sum()
    }

    /// How many flows a switch has.
    pub(crate) fn flows(&self, switch: SwitchId) -> usize {
        self.pairs[&switch].switch.pipeline().tables.iter().map(|t| t.iter().count()).sum()
    }

    /// A machine sends a frame by one of its links.
    pub(crate) fn send(&mut self, from: NodeId, by: LinkId, frame: &[u8]) -> Ended {
        let site = self.site.clone();
        let mut ended = Ended::default();
        let mut open = vec![(from, by, frame.to_vec(), 0)];
        while let Some((node, link, mut frame, steps)) = open.pop() {
            let end = site.topology.link(link).and_then(|l| l.other(node)).expect("a link");
            let NodeId::Switch(id) = end.node else {
                ended.at.push((end.node, frame));
                continue;
            };
            assert!(steps <= site.topology.switches.len(), "it goes in circles");
            let pair = self.pairs.get_mut(&id).expect("no legacy switches here");
            pair.switch.on_packet(end.port.0, &mut frame, pair.now, &mut pair.sent);
            for (port, frame) in std::mem::take(&mut pair.sent.frames) {
                let next = site.topology.link_at(end.node, tandem_model::PortNo(port)).expect("a port");
                open.push((end.node, next, frame, steps + 1));
            }
            // PACKET_IN has number 10 in both versions.
            let messages = std::mem::take(&mut pair.sent.messages);
            let mut out = Output::default();
            each(&messages, |message| {
                ended.punted += usize::from(message[1] == 10);
                pair.driver.on_message(message, pair.now, &mut out).expect("a session");
            });
            ended.events.extend(pair.talk(out));
        }
        ended
    }
}

/// A frame: addresses, tags (type, priority and VID), Ethernet type, body.
pub(crate) fn frame(dst: Mac, src: Mac, tags: &[(u16, u16)], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = [dst.0, src.0].concat();
    for (tpid, tci) in tags {
        out.extend_from_slice(&tpid.to_be_bytes());
        out.extend_from_slice(&tci.to_be_bytes());
    }
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().max(60), 0);
    out
}

/// An IPv4 packet (RFC 791); `fragment` is its offset in units of 8 bytes with the flag "more
/// fragments" (0x2000).
pub(crate) fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, proto: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut out = vec![0x45, 0];
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0, 7]);
    out.extend_from_slice(&fragment.to_be_bytes());
    out.extend_from_slice(&[64, proto, 0, 0]);
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&dst.octets());
    out.extend_from_slice(payload);
    out
}

/// A UDP datagram (RFC 768), without a checksum.
pub(crate) fn udp_datagram(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [from, to, 8 + data.len() as u16, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(data);
    out
}

/// An ARP request (RFC 826).
pub(crate) fn who_has(mac: Mac, ip: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut out = vec![0, 1, 8, 0, 6, 4, 0, 1];
    out.extend_from_slice(&mac.0);
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&target.octets());
    out
}

/// A machine that sends: where it is and who it says it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) node: NodeId,
    pub(crate) link: LinkId,
    pub(crate) mac: Mac,
    pub(crate) ip: Ipv4Addr,
}

impl Sender {
    pub(crate) fn vm(vm: &tandem_model::VmRecord) -> Sender {
        Sender { node: NodeId::Server(vm.server), link: vm.path_up[0].link, mac: vm.mac, ip: vm.address }
    }

    pub(crate) fn server(site: &Site, n: u32) -> Sender {
        let s = &site.topology.servers[n as usize];
        let node = NodeId::Server(tandem_model::ServerId(n));
        Sender { node, link: s.uplinks[0], mac: s.mac, ip: s.address }
    }

    pub(crate) fn gateway(site: &Site, n: u32) -> Sender {
        let g = &site.topology.gateways[n as usize];
        let node = NodeId::Gateway(tandem_model::GatewayId(n));
        Sender { node, link: g.uplinks[0], mac: g.mac, ip: g.address }
    }

    /// Plain UDP in a frame to some Ethernet address.
    pub(crate) fn udp(&self, mac: Mac, to: Ipv4Addr, tags: &[(u16, u16)]) -> Vec<u8> {
        frame(mac, self.mac, tags, ETH_IPV4, &ipv4(self.ip, to, 17, 0, &udp_datagram(5000, 5001, b"hello")))
    }

    pub(crate) fn arp(&self, target: Ipv4Addr, tags: &[(u16, u16)]) -> Vec<u8> {
        frame(Mac::BROADCAST, self.mac, tags, ETH_ARP, &who_has(self.mac, self.ip, target))
    }

    pub(crate) fn sends(&self, fabric: &mut Fabric, frame: &[u8]) -> Ended {
        fabric.send(self.node, self.link, frame)
    }
}
