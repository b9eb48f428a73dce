//! The switches: the real engine of `tandem-openflow`, each with a connection to the controller on
//! whose other end is the real driver. Bytes go between the two as messages with a delay; a switch
//! may refuse, lose, repeat and put off what it is told to say.

use super::action::Refusal;
use super::draw::Draw;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{Dpid, NodeId, PortNo, Site, SwitchId, Time};
use tandem_openflow::error::OfErrorCode;
use tandem_openflow::session::{self, SessionError};
use tandem_openflow::switch::{Config, ConnId, Description, Port, PortCounters, Sink, Switch};
use tandem_openflow::table::WireForm;
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{AnyMessage, framing, header, of10, of13};
use tandem_switch_driver::{self as driver, Driver, Output};

/// OFPT_FLOW_MOD, in both versions.
const FLOW_MOD: u8 = 14;
/// Bytes that may wait in a driver for a switch's confirmation: far more than all rules of these
/// sites.
pub(super) const MOST_BACKLOG: usize = 4 << 20;

/// What a switch says during one call.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// To its controllers.
    pub(super) messages: Vec<(ConnId, Vec<u8>)>,
    /// Out of its ports.
    pub(super) frames: Vec<(u32, Vec<u8>)>,
    /// Ports that the controller has switched off or on.
    pub(super) ports: Vec<(u32, bool)>,
    /// Bytes received and sent besides what went through the switch itself, by port.
    traffic: BTreeMap<u32, (u64, u64)>,
}

impl Sink for Said {
    fn transmit(&mut self, port: u32, _: u32, frame: &[u8]) {
        self.frames.push((port, frame.to_vec()));
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.messages.push((conn, bytes.to_vec()));
    }

    fn close(&mut self, _: ConnId, _: &SessionError) {}

    fn set_port(&mut self, number: u32, up: bool) {
        self.ports.push((number, up));
    }

    fn port_counters(&mut self, number: u32, mut seen: PortCounters) -> PortCounters {
        let (rx, tx) = self.traffic.get(&number).copied().unwrap_or_default();
        seen.rx_bytes += rx;
        seen.tx_bytes += tx;
        seen.rx_packets += rx / 1000;
        seen.tx_packets += tx / 1000;
        seen
    }
}

/// A connection: the driver at one end, the switch's number for it at the other.
pub(super) struct Line {
    /// Which connection of all: what is under way of another one is lost.
    pub(super) serial: u64,
    /// The controller's end.
    pub(super) driver: Driver,
    conn: ConnId,
    /// When what was last sent to the switch arrives, and the other way; what is sent later arrives
    /// later.
    arrives: [Time; 2],
}

/// What a switch does wrong.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    refuse: Option<(u32, Refusal)>,
    slow: Duration,
    swallow: u32,
    stutter: u32,
    /// Planted for a test: deletions of flows are taken and nothing is done.
    keeps_flows: bool,
}

/// One switch.
pub(super) struct SwitchBox {
    /// Its place in the site.
    pub(super) id: SwitchId,
    /// Its datapath id.
    pub(super) dpid: Dpid,
    /// The switch itself.
    pub(super) soft: Switch,
    /// The version byte that it speaks.
    pub(super) version: u8,
    /// Its number of flow tables.
    pub(super) tables: u8,
    /// The connection that drives it.
    pub(super) active: Option<Line>,
    /// One that has not finished its handshake.
    pub(super) joining: Option<Line>,
    /// What it says while it is asked something.
    pub(super) said: Said,
    faults: Faults,
    draw: Draw,
}

fn description() -> Description {
    Description {
        manufacturer: "nobody".to_owned(),
        hardware: "memory".to_owned(),
        software: "1".to_owned(),
        ..Description::default()
    }
}

/// A switch without ports.
pub(super) fn empty_switch(dpid: Dpid, version: u8, tables: u8) -> Switch {
    Switch::new(Config {
        dpid,
        tables,
        flows: 10_000,
        versions: vec![version],
        description: description(),
        buffers: 0,
        cache: 0,
        ..Config::default()
    })
}

/// What drivers are configured with; `secret` ties discovery frames to one run of the controller.
pub(super) fn driver_config(site: &Site, secret: u64) -> driver::Config {
    driver::Config {
        poll_period: site.statistics.poll_period(),
        lldp_period: site.modules.discovery.then_some(site.discovery.lldp_period),
        secret,
        packet_ins: 1000,
        // Nobody waits for an echo where nothing is lost without an action that says so.
        session: session::Config { idle: Duration::from_secs(40), ..session::Config::default() },
    }
}

/// The Ethernet address of a switch's port.
pub(super) fn port_mac(id: SwitchId, port: u32) -> [u8; 6] {
    let [_, _, a, b] = id.0.to_be_bytes();
    [0x06, 0, a, b, (port >> 8) as u8, port as u8]
}

impl SwitchBox {
    /// A switch with all its ports up, and no connection.
    pub(super) fn new(site: &Site, id: SwitchId, version: u8, tables: u8, seed: u64) -> SwitchBox {
        let topology = &site.topology;
        let dpid = topology.switches[id.0 as usize].dpid;
        let mut switch = SwitchBox {
            id,
            dpid,
            soft: empty_switch(dpid, version, tables),
            version,
            tables,
            active: None,
            joining: None,
            said: Said::default(),
            faults: Faults::default(),
            draw: Draw::new(seed, 100 + u64::from(id.0)),
        };
        for (port, _) in topology.ports(NodeId::Switch(id)) {
            switch.set_port(*port, true, Time::ZERO);
        }
        switch.said.messages.clear();
        switch
    }

    /// A port's link is up or down now.
    pub(super) fn set_port(&mut self, port: PortNo, up: bool, now: Time) {
        let port = Port {
            number: port.0,
            name: format!("p{port}"),
            mac: port_mac(self.id, port.0),
            up,
            speed: Some(1_000_000_000),
            config: 0,
            queues: Vec::new(),
        };
        self.soft.port(port, now, &mut self.said);
    }

    /// A connection is begun; it drives the switch once its handshake is done.
    pub(super) fn connect(
        &mut self,
        serial: u64,
        cfg: driver::Config,
        core_now: Time,
        now: Time,
        out: &mut Output,
    ) {
        if let Some(old) = self.joining.take() {
            self.soft.closed(old.conn);
        }
        let driver = Driver::undecided(cfg, "memory", core_now, out);
        let conn = self.soft.connected(now, &mut self.said);
        self.joining = Some(Line { serial, driver, conn, arrives: [Time::ZERO; 2] });
    }

    /// The connection with that serial number.
    pub(super) fn line(&mut self, serial: u64) -> Option<&mut Line> {
        [&mut self.active, &mut self.joining].into_iter().flatten().find(|l| l.serial == serial)
    }

    /// A connection whose handshake is done takes the place of the one before.
    pub(super) fn promote(&mut self) {
        if let Some(old) = std::mem::replace(&mut self.active, self.joining.take()) {
            self.soft.closed(old.conn);
        }
    }

    /// A connection is lost; true when it was the one that drove the switch.
    pub(super) fn lose(&mut self, serial: u64) -> bool {
        if self.joining.as_ref().is_some_and(|l| l.serial == serial)
            && let Some(line) = self.joining.take()
        {
            self.soft.closed(line.conn);
        }
        if self.active.as_ref().is_none_or(|l| l.serial != serial) {
            return false;
        }
        if let Some(line) = self.active.take() {
            self.soft.closed(line.conn);
        }
        true
    }

    /// When something that is sent now arrives at the switch (0), or at the controller (1).
    pub(super) fn arrival(&mut self, serial: u64, way: usize, now: Time) -> Time {
        let delay = self.draw.micros(50, 900) + self.faults.slow;
        let Some(line) = self.line(serial) else { return now };
        let at = (now + delay).max(line.arrives[way]);
        line.arrives[way] = at;
        at
    }

    /// What a connection's serial number is.
    pub(super) fn serial_of(&self, conn: ConnId) -> Option<u64> {
        [&self.active, &self.joining].into_iter().flatten().find(|l| l.conn == conn).map(|l| l.serial)
    }

    /// Messages come in from the controller.
    pub(super) fn take(&mut self, serial: u64, bytes: &[u8], now: Time) {
        let Some(conn) = self.line(serial).map(|l| l.conn) else { return };
        let mut rest = bytes;
        while let Ok(Some((message, after))) = framing::next(rest) {
            rest = after;
            if !self.is_refused(conn, message) {
                // What ends a session is a fault of the driver's, which the missing answers show.
                let _ = self.soft.on_message(conn, message, now, &mut self.said);
            }
        }
    }

    /// How often the next message is to be said: not at all, once or twice. Only answers are lost:
    /// who waits for one notices in the end, and what nobody has asked for is never lost on a
    /// connection that lives on.
    pub(super) fn copies(&mut self, message: &[u8]) -> u32 {
        if self.faults.swallow > 0 && is_answer(self.version, message) {
            self.faults.swallow -= 1;
            return 0;
        }
        if self.faults.stutter > 0 && self.active.is_some() && self.joining.is_none() {
            self.faults.stutter -= 1;
            return 2;
        }
        1
    }

    fn is_refused(&mut self, conn: ConnId, message: &[u8]) -> bool {
        let Some(command) = command(self.version, message) else { return false };
        // OFPFC_DELETE and OFPFC_DELETE_STRICT.
        if self.faults.keeps_flows && command >= 3 {
            return true;
        }
        let Some((after, why)) = self.faults.refuse else { return false };
        if command != 0 {
            return false;
        }
        if after > 0 {
            self.faults.refuse = Some((after - 1, why));
            return false;
        }
        self.faults.refuse = None;
        let blame = match (self.version, why) {
            // OFPET_FLOW_MOD_FAILED, OFPFMFC_ALL_TABLES_FULL.
            (header::V10, _) => OfErrorCode { kind: 3, code: 0 },
            // OFPET_FLOW_MOD_FAILED, OFPFMFC_TABLE_FULL.
            (_, Refusal::TableFull) => OfErrorCode { kind: 5, code: 1 },
            // OFPET_BAD_INSTRUCTION, OFPBIC_UNSUP_METADATA.
            (_, Refusal::NoMetadata) => OfErrorCode { kind: 3, code: 3 },
        };
        let error = self.error(message, blame);
        self.said.send(conn, &error);
        true
    }

    fn error(&self, message: &[u8], blame: OfErrorCode) -> Vec<u8> {
        let data = Bytes(message[..message.len().min(64)].to_vec());
        let OfErrorCode { kind, code } = blame;
        let error = if self.version == header::V13 {
            AnyMessage::V13(of13::Message::Error(of13::switch::ErrorMsg { kind, code, data }))
        } else {
            AnyMessage::V10(of10::Message::Error(of10::switch::ErrorMsg { kind, code, data }))
        };
        let xid = message.get(4..8).and_then(|x| x.try_into().ok()).map_or(0, u32::from_be_bytes);
        let mut bytes = Vec::new();
        // 76 bytes fit into any message.
        let _ = error.encode(xid, &mut bytes);
        bytes
    }

    /// The flow that comes after so many others is refused.
    pub(super) fn refuse(&mut self, after: u32, why: Refusal) {
        self.faults.refuse = Some((after, why));
    }

    /// Everything takes so much longer.
    pub(super) fn slow(&mut self, by: Duration) {
        self.faults.slow = by;
    }

    /// So many answers are lost.
    pub(super) fn swallow(&mut self, answers: u32) {
        self.faults.swallow = answers;
    }

    /// So many answers are said twice.
    pub(super) fn stutter(&mut self, answers: u32) {
        self.faults.stutter = answers;
    }

    /// Planted for a test: no flow is ever deleted.
    pub(super) fn keep_flows(&mut self) {
        self.faults.keeps_flows = true;
    }

    /// Nothing is wrong any more, but what was planted.
    pub(super) fn mend(&mut self) {
        self.faults = Faults { keeps_flows: self.faults.keeps_flows, ..Faults::default() };
    }

    /// Traffic that does not go through the switch itself, as far as it is counted.
    pub(super) fn count(&mut self, port: PortNo, rx: u64, tx: u64) {
        let counted = self.said.traffic.entry(port.0).or_default();
        counted.0 += rx;
        counted.1 += tx;
    }

    /// Somebody else deletes every `nth` flow.
    pub(super) fn wipe(&mut self, nth: u32, now: Time) {
        let flows = self.soft.pipeline().tables.iter().flat_map(|t| t.iter());
        let picked: Vec<AnyMessage> = flows
            .enumerate()
            .filter(|(n, _)| n % nth.max(1) as usize == 0)
            .filter_map(|(_, flow)| deletion(&flow.wording, flow.priority))
            .collect();
        let other = self.soft.connected(now, &mut self.said);
        let _ = self.soft.on_message(other, &[self.version, 0, 0, 8, 0, 0, 0, 1], now, &mut self.said);
        for message in picked {
            let mut bytes = Vec::new();
            if message.encode(77, &mut bytes).is_ok() {
                let _ = self.soft.on_message(other, &bytes, now, &mut self.said);
            }
        }
        self.soft.closed(other);
    }
}

/// Answers to questions for features, statistics and barriers (OF 1.0 section 5.1, OF 1.3.5 section
/// 7.1.1).
fn is_answer(version: u8, message: &[u8]) -> bool {
    let kinds = if version == header::V10 { [6, 17, 19] } else { [6, 19, 21] };
    message.get(1).is_some_and(|kind| kinds.contains(kind))
}

/// The command of an OFPT_FLOW_MOD (OF 1.0 section 5.3.3, OF 1.3.5 section 7.3.4.1).
fn command(version: u8, message: &[u8]) -> Option<u8> {
    let at = if version == header::V10 { 57 } else { 25 };
    (message.get(1) == Some(&FLOW_MOD)).then(|| message.get(at).copied()).flatten()
}

fn deletion(wording: &WireForm, priority: u16) -> Option<AnyMessage> {
    Some(match wording {
        WireForm::None => return None,
        WireForm::V10(matching, _) => AnyMessage::V10(of10::Message::FlowMod(of10::FlowMod {
            matching: matching.clone(),
            cookie: 0,
            command: of10::flow::command::DELETE_STRICT,
            idle_timeout: 0,
            hard_timeout: 0,
            priority,
            buffer_id: of10::flow::NO_BUFFER,
            out_port: of10::port::NONE,
            flags: 0,
            actions: Vec::new(),
        })),
        WireForm::V13(matching, _) => AnyMessage::V13(of13::Message::FlowMod(of13::FlowMod {
            cookie: 0,
            cookie_mask: 0,
            table_id: of13::flow::ALL_TABLES,
            command: of13::flow::command::DELETE_STRICT,
            idle_timeout: 0,
            hard_timeout: 0,
            priority,
            buffer_id: of13::flow::NO_BUFFER,
            out_port: of13::port::ANY,
            out_group: of13::group::ANY,
            flags: 0,
            pad: Pad::default(),
            matching: matching.clone(),
            instructions: Vec::new(),
        })),
    })
}
