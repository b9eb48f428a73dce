//! A switch in memory, of either version: the `Switch` of `tandem-openflow`, with faults that a
//! test turns on. A second controller is connected to it, for changes that the driver does not see.
#![allow(dead_code, reason = "shared by test files that each use a part")]

use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{Arp, ArpOp, Dpid, Mac, Time};
use tandem_openflow::error::OfErrorCode;
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Description, Port, Sink, Switch};
use tandem_openflow::table::{Flow, Pipeline, WireForm};
use tandem_openflow::wire::{Bytes, Pad, Text};
use tandem_openflow::{AnyMessage, framing, header, of10, of13, session};
use tandem_switch_driver::{Driver, Output, packets};

/// A driver after its handshake with a switch that speaks this version.
pub(crate) fn connected(version: u8) -> Driver {
    connected_with(version, cfg(), 1)
}

/// The same with another configuration, and a switch with this many ports.
#[allow(dead_code, reason = "not every test program needs it")]
pub(crate) fn connected_with(version: u8, cfg: tandem_switch_driver::Config, ports: u32) -> Driver {
    let mut out = Output::default();
    let mut driver = Driver::new(cfg, "test", Time::ZERO, &mut out);
    let mut switch = Memory::with_ports(version, ports);
    while !out.bytes.is_empty() {
        let answered = switch.answer(&std::mem::take(&mut out.bytes), Time::ZERO);
        let mut rest = &answered[..];
        while let Ok(Some((message, after))) = framing::next(rest) {
            rest = after;
            driver.on_message(message, Time::ZERO, &mut out).expect("a handshake");
        }
    }
    assert_eq!(driver.dpid(), Some(Dpid(7)));
    driver
}

/// Cuts bytes into messages.
pub(crate) fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut list) = (bytes, Vec::new());
    while let Ok(Some((message, after))) = framing::next(rest) {
        rest = after;
        list.push(message.to_vec());
    }
    list
}

/// A file of `tests/data/cases`, as bytes.
#[allow(clippy::disallowed_methods, reason = "the tests read files")]
pub(crate) fn case(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/data/cases/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let text = text.trim();
    let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("hexadecimal");
    (0..text.len() / 2).map(byte).collect()
}

/// The frame of an ARP request of 10.0.0.9 for 10.0.0.1.
pub(crate) fn arp_request() -> Vec<u8> {
    packets::arp_frame(&Arp {
        op: ArpOp::Request,
        eth_dst: Mac::BROADCAST,
        sender_mac: Mac([2, 0, 0, 0, 0, 9]),
        sender_ip: Ipv4Addr::new(10, 0, 0, 9),
        target_mac: Mac([0; 6]),
        target_ip: Ipv4Addr::new(10, 0, 0, 1),
    })
}

/// The configuration of drivers in tests.
pub(crate) fn cfg() -> tandem_switch_driver::Config {
    tandem_switch_driver::Config {
        poll_period: Duration::from_secs(1),
        lldp_period: None,
        secret: 1,
        packet_ins: 3,
        session: session::Config::default(),
    }
}

/// The PACKET_IN of a frame that came in by a port.
pub(crate) fn packet_in(version: u8, port: u16, frame: &[u8]) -> Vec<u8> {
    let (total_len, data) = (frame.len() as u16, Bytes(frame.to_vec()));
    let message = if version == header::V10 {
        AnyMessage::V10(of10::Message::PacketIn(of10::PacketIn {
            buffer_id: of10::flow::NO_BUFFER,
            total_len,
            in_port: port,
            reason: 1,
            pad: Pad::default(),
            data,
        }))
    } else {
        AnyMessage::V13(of13::Message::PacketIn(of13::PacketIn {
            buffer_id: of13::flow::NO_BUFFER,
            total_len,
            reason: 1,
            table_id: 0,
            cookie: 0,
            matching: of13::Match { fields: vec![of13::Field::InPort(port.into())] },
            pad: Pad::default(),
            data,
        }))
    };
    let mut bytes = Vec::new();
    message.encode(0, &mut bytes).expect("a packet is shorter than a message");
    bytes
}

/// Its port's address.
pub(crate) const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// As the specification defines it.
    Right,
    /// With an error.
    WithError,
    /// Not at all.
    Never,
}

/// Collects the switch's messages to each of its controllers.
#[derive(Default)]
struct Said(Vec<(ConnId, Vec<u8>)>);

impl Sink for Said {
    fn transmit(&mut self, _: u32, _: u32, _: &[u8]) {}
    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.0.push((conn, bytes.to_vec()));
    }
    fn close(&mut self, _: ConnId, _: &SessionError) {}
    fn set_port(&mut self, _: u32, _: bool) {}
}

/// The switch, and the faults that are turned on.
pub(crate) struct Memory {
    pub(crate) version: u8,
    switch: Switch,
    said: Said,
    /// The connections of the driver and of the other controller.
    conn: ConnId,
    other: ConnId,
    /// Refuses additions with this priority, as a full table does.
    pub(crate) refuses: Option<u16>,
    pub(crate) silent: bool,
    pub(crate) flows: Answers,
    pub(crate) counters: Answers,
    pub(crate) barriers: Answers,
    pub(crate) ports: Answers,
    /// The PORT_MODs that it got: number, address, configuration and mask; and whether it executes
    /// them.
    pub(crate) port_mods: Vec<(u32, Mac, u32, u32)>,
    pub(crate) refuses_ports: bool,
    /// How often flows and counters were requested.
    pub(crate) asked: (u32, u32),
    /// Errors that it sent to the driver, by type and code.
    pub(crate) errors: Vec<(u16, u16)>,
}

impl Memory {
    pub(crate) fn new(version: u8) -> Memory {
        Memory::with_ports(version, 1)
    }

    pub(crate) fn with_ports(version: u8, ports: u32) -> Memory {
        let tables = if version == header::V13 { 2 } else { 1 };
        let text = |t: &str| t.to_owned();
        let description = Description {
            manufacturer: text("nobody"),
            hardware: text("memory"),
            software: text("1"),
            ..Description::default()
        };
        let mut switch = Switch::new(Config {
            dpid: Dpid(7),
            tables,
            flows: 1000,
            versions: vec![version],
            description,
            buffers: 0,
            ..Config::default()
        });
        let mut said = Said::default();
        for number in 1..=ports {
            let port = Port {
                number,
                name: format!("p{number}"),
                mac: MAC.0,
                up: true,
                speed: Some(1_000_000_000),
                config: 0,
                queues: Vec::new(),
            };
            switch.port(port, Time::ZERO, &mut said);
        }
        let conn = switch.connected(Time::ZERO, &mut said);
        let other = switch.connected(Time::ZERO, &mut said);
        let hello = [version, 0, 0, 8, 0, 0, 0, 1];
        switch.on_message(other, &hello, Time::ZERO, &mut said).expect("a session");
        Memory {
            version,
            switch,
            said,
            conn,
            other,
            refuses: None,
            silent: false,
            flows: Answers::Right,
            counters: Answers::Right,
            barriers: Answers::Right,
            ports: Answers::Right,
            port_mods: Vec::new(),
            refuses_ports: false,
            asked: (0, 0),
            errors: Vec::new(),
        }
    }

    pub(crate) fn pipeline(&self) -> &Pipeline {
        self.switch.pipeline()
    }

    /// A packet comes in by its port.
    pub(crate) fn packet(&mut self, frame: &[u8]) {
        self.switch.on_packet(1, &mut frame.to_vec(), Time::ZERO, &mut self.said);
    }

    /// Executes the driver's messages and returns the replies.
    pub(crate) fn answer(&mut self, bytes: &[u8], now: Time) -> Vec<u8> {
        let mut rest = bytes;
        while let Ok(Some((message, after))) = framing::next(rest) {
            rest = after;
            if !self.silent && !self.fails(message) {
                self.switch.on_message(self.conn, message, now, &mut self.said).expect("a session");
            }
        }
        assert!(rest.is_empty(), "the driver sent half a message");
        let said = std::mem::take(&mut self.said.0).into_iter().filter(|(conn, _)| *conn == self.conn);
        let out: Vec<u8> = said.flat_map(|(_, bytes)| bytes).collect();
        let mut rest = &out[..];
        while let Ok(Some((message, after))) = framing::next(rest) {
            rest = after;
            match AnyMessage::decode(message) {
                Ok((_, AnyMessage::V10(of10::Message::Error(e)))) => self.errors.push((e.kind, e.code)),
                Ok((_, AnyMessage::V13(of13::Message::Error(e)))) => self.errors.push((e.kind, e.code)),
                _ => {}
            }
        }
        out
    }

    /// Whether this message gets a faulty reply or is refused.
    fn fails(&mut self, message: &[u8]) -> bool {
        self.refused(message) || self.not_answered(message)
    }

    fn refused(&mut self, message: &[u8]) -> bool {
        let full = |priority| self.refuses == Some(priority);
        let of_error = match AnyMessage::decode(message) {
            // OFPET_FLOW_MOD_FAILED: OFPFMFC_ALL_TABLES_FULL, OFPFMFC_TABLE_FULL.
            Ok((_, AnyMessage::V10(of10::Message::FlowMod(m)))) if full(m.priority) && m.command == 0 => {
                OfErrorCode { kind: 3, code: 0 }
            }
            Ok((_, AnyMessage::V13(of13::Message::FlowMod(m)))) if full(m.priority) && m.command == 0 => {
                OfErrorCode { kind: 5, code: 1 }
            }
            // OFPET_PORT_MOD_FAILED, OFPPMFC_BAD_HW_ADDR.
            Ok((_, AnyMessage::V10(of10::Message::PortMod(p)))) => {
                self.port_mods.push((p.port_no.into(), p.hw_addr, p.config, p.mask));
                OfErrorCode { kind: 4, code: 1 }
            }
            Ok((_, AnyMessage::V13(of13::Message::PortMod(p)))) => {
                self.port_mods.push((p.port_no, p.hw_addr, p.config, p.mask));
                OfErrorCode { kind: 7, code: 1 }
            }
            _ => return false,
        };
        let refuses = self.refuses_ports || !matches!((of_error.kind, of_error.code), (4 | 7, 1));
        if refuses {
            self.refuse(message, of_error);
        }
        refuses
    }

    /// Type numbers: OF 1.0 section 5.1, OF 1.3.5 section 7.1.1.
    fn not_answered(&mut self, message: &[u8]) -> bool {
        let (question, barrier) = if self.version == header::V13 { (18, 20) } else { (16, 18) };
        let kind = message.get(8..10).map_or(0, |k| u16::from_be_bytes([k[0], k[1]]));
        let answers = match (message[1], kind) {
            (q, 1) if q == question => {
                self.asked.0 += 1;
                self.flows
            }
            (q, 4) if q == question => {
                self.asked.1 += 1;
                self.counters
            }
            (q, 13) if q == question => self.ports,
            (b, _) if b == barrier => self.barriers,
            _ => return false,
        };
        if answers == Answers::WithError {
            self.refuse(message, OfErrorCode::BAD_STAT);
        }
        answers != Answers::Right
    }

    /// Adds an error about a message to the switch's output.
    fn refuse(&mut self, message: &[u8], of_error: OfErrorCode) {
        let data = Bytes(message[..message.len().min(64)].to_vec());
        let (kind, code) = (of_error.kind, of_error.code);
        let error = if self.version == header::V13 {
            AnyMessage::V13(of13::Message::Error(of13::switch::ErrorMsg { kind, code, data }))
        } else {
            AnyMessage::V10(of10::Message::Error(of10::switch::ErrorMsg { kind, code, data }))
        };
        let xid = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
        let mut bytes = Vec::new();
        error.encode(xid, &mut bytes).expect("short");
        self.said.send(self.conn, &bytes);
    }

    /// The other controller sends a message, which must not cause an error.
    fn other_says(&mut self, message: &AnyMessage) {
        let mut bytes = Vec::new();
        message.encode(77, &mut bytes).expect("short");
        let before = self.said.0.len();
        self.switch.on_message(self.other, &bytes, Time::ZERO, &mut self.said).expect("a session");
        let told = self.said.0[before..].iter().filter(|(conn, _)| *conn == self.other);
        assert_eq!(told.map(|(_, bytes)| bytes[1]).find(|kind| *kind == 1), None, "an error");
    }

    /// The other controller adds a flow for all packets, or for IPv4 to 10.0.0.0/24.
    pub(crate) fn plant(&mut self, priority: u16, cookie: u64, ip: bool) {
        let to = std::net::Ipv4Addr::new(10, 0, 0, 0);
        let message = if self.version == header::V13 {
            let mask = Some(std::net::Ipv4Addr::new(255, 255, 255, 0));
            let fields =
                vec![of13::Field::EthType(0x0800), of13::Field::Ipv4Dst(of13::Masked { value: to, mask })];
            AnyMessage::V13(of13::Message::FlowMod(of13::FlowMod {
                cookie,
                cookie_mask: 0,
                table_id: 0,
                command: of13::flow::command::ADD,
                idle_timeout: 0,
                hard_timeout: 0,
                priority,
                buffer_id: of13::flow::NO_BUFFER,
                out_port: of13::port::ANY,
                out_group: of13::group::ANY,
                flags: 0,
                pad: Pad::default(),
                matching: if ip { of13::Match { fields } } else { of13::Match::any() },
                instructions: Vec::new(),
            }))
        } else {
            let mut matching = of10::Match::any();
            if ip {
                use of10::matching::wildcard::{DL_TYPE, NW_DST_SHIFT};
                matching.wildcards =
                    matching.wildcards & !DL_TYPE & !(0x3f << NW_DST_SHIFT) | 8 << NW_DST_SHIFT;
                (matching.dl_type, matching.nw_dst) = (0x0800, to);
            }
            AnyMessage::V10(of10::Message::FlowMod(of10::FlowMod {
                matching,
                cookie,
                command: of10::flow::command::ADD,
                idle_timeout: 0,
                hard_timeout: 0,
                priority,
                buffer_id: of10::flow::NO_BUFFER,
                out_port: of10::port::NONE,
                flags: 0,
                actions: Vec::new(),
            }))
        };
        self.other_says(&message);
    }

    /// The other controller deletes flows.
    pub(crate) fn wipe(&mut self, priority: u16) {
        let flows: Vec<Flow> = self.pipeline().tables.iter().flat_map(|t| t.iter()).cloned().collect();
        for flow in flows.iter().filter(|f| f.priority == priority) {
            let message = match &flow.wording {
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
                WireForm::None => panic!("nobody said {flow:?}"),
            };
            self.other_says(&message);
        }
    }

    /// Priority and cookie of every flow, in the order of the tables.
    pub(crate) fn flows(&self) -> Vec<(u16, u64)> {
        let mut list: Vec<(u16, u64)> =
            self.pipeline().tables.iter().flat_map(|t| t.iter()).map(|f| (f.priority, f.cookie)).collect();
        list.sort_unstable();
        list
    }

    pub(crate) fn priorities(&self) -> Vec<u16> {
        self.flows().into_iter().map(|(p, _)| p).collect()
    }
}

/// A port of an OpenFlow 1.3 switch.
pub(crate) fn port13(port_no: u32) -> of13::Port {
    of13::Port {
        port_no,
        pad: Pad::default(),
        hw_addr: MAC,
        pad2: Pad::default(),
        name: Text::new("p1"),
        config: 0,
        state: 0,
        curr: 0x20,
        advertised: 0,
        supported: 0,
        peer: 0,
        curr_speed: 0,
        max_speed: 0,
    }
}

/// Longer than any pause or time-out of the driver.
pub(crate) const LONG: Duration = Duration::from_secs(600);
