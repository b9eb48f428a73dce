//! A switch in memory, of either version, that does what the specification says: the session's switch role and the flow tables of
//! `tandem-openflow`, with faults that a test turns on.

use std::time::Duration;
use tandem_model::{Dpid, Mac, Time};
use tandem_openflow::error::Blame;
use tandem_openflow::session::{self, switch::Asked, switch::Identity, switch::SwitchSession};
use tandem_openflow::table::Pipeline;
use tandem_openflow::table::control::{Removed, removed10, removed13};
use tandem_openflow::wire::{Pad, Text};
use tandem_openflow::{AnyMessage, framing, header, of10, of13};

/// Its port's address.
pub(crate) const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// As the specification says.
    Right,
    /// With an error.
    WithError,
    /// Not at all.
    Never,
}

/// See the module.
pub(crate) struct Memory {
    pub(crate) version: u8,
    session: SwitchSession,
    pub(crate) pipeline: Pipeline,
    pending: Vec<u8>,
    /// Refuses additions of this priority, as a full table does.
    pub(crate) refuses: Option<u16>,
    pub(crate) silent: bool,
    pub(crate) flows: Answers,
    pub(crate) counters: Answers,
    pub(crate) barriers: Answers,
    pub(crate) ports: Answers,
    /// What it was told of its ports: number, address, configuration and mask; and whether it takes it.
    pub(crate) port_mods: Vec<(u32, Mac, u32, u32)>,
    pub(crate) refuses_ports: bool,
    /// How often it was asked for flows and counters.
    pub(crate) asked: (u32, u32),
    /// Errors that it sent, by type and code.
    pub(crate) errors: Vec<(u16, u16)>,
}

impl Memory {
    pub(crate) fn new(version: u8) -> Memory {
        let identity = Identity {
            dpid: Dpid(7),
            buffers: 0,
            tables: if version == header::V13 { 2 } else { 1 },
            capabilities10: 0,
            capabilities13: 0,
            actions10: 0xfff,
        };
        let mut pending = Vec::new();
        let tables = identity.tables;
        let session =
            SwitchSession::new(&[version], identity, session::Cfg::default(), Time::ZERO, &mut pending);
        Memory {
            version,
            session,
            pipeline: Pipeline::new(tables, 1000, vec![1]),
            pending,
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

    /// Takes what the driver sent and answers it.
    pub(crate) fn answer(&mut self, bytes: &[u8], now: Time) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.pending);
        let mut rest = bytes;
        while let Ok(Some((message, after))) = framing::next(rest) {
            rest = after;
            if self.silent || self.fails(message, &mut out) {
                continue;
            }
            let asked =
                self.session.on_message(message, || vec![port10()], now, &mut out).expect("a session");
            if let Asked::Message(xid, asked) = asked {
                match asked {
                    AnyMessage::V10(m) => self.one10(xid, &m, message, now, &mut out),
                    AnyMessage::V13(m) => self.one13(xid, &m, message, now, &mut out),
                }
            }
        }
        assert!(rest.is_empty(), "the driver sent half a message");
        out
    }

    /// Questions whose answer is at fault. Type numbers: OF 1.0 section 5.1, OF 1.3.5 section 7.1.1.
    fn fails(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
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
            self.refuse(message, Blame::BAD_STAT, out);
        }
        answers != Answers::Right
    }

    fn refuse(&mut self, message: &[u8], blame: Blame, out: &mut Vec<u8>) {
        self.errors.push((blame.kind, blame.code));
        self.session.refuse(message, blame, out);
    }

    fn one10(&mut self, xid: u32, m: &of10::Message, message: &[u8], now: Time, out: &mut Vec<u8>) {
        use of10::stats::{DescStats, ReplyBody, RequestBody, StatsReply};
        let reply = |body| vec![StatsReply { flags: 0, body }];
        let replies = match m {
            of10::Message::FlowMod(flow) => {
                let full = self.refuses == Some(flow.priority) && flow.command == of10::flow::command::ADD;
                // OFPET_FLOW_MOD_FAILED, OFPFMFC_ALL_TABLES_FULL.
                let done = if full { Err(Blame { kind: 3, code: 0 }) } else { Ok(()) };
                let done = done.and_then(|()| self.pipeline.flow_mod10(flow, now).map_err(|r| r.blame));
                return self.went(done, message, now, out);
            }
            of10::Message::PortMod(p) => {
                self.port_mods.push((p.port_no.into(), p.hw_addr, p.config, p.mask));
                // OFPET_PORT_MOD_FAILED, OFPPMFC_BAD_HW_ADDR.
                let done = if self.refuses_ports { Err(Blame { kind: 4, code: 1 }) } else { Ok(Vec::new()) };
                return self.went(done, message, now, out);
            }
            of10::Message::StatsRequest(q) => match &q.body {
                RequestBody::Desc => reply(ReplyBody::Desc(Box::new(DescStats {
                    mfr_desc: Text::new("nobody"),
                    hw_desc: Text::new("memory"),
                    sw_desc: Text::new("1"),
                    serial_num: Text::default(),
                    dp_desc: Text::default(),
                }))),
                RequestBody::Port(_) => reply(ReplyBody::Port(Vec::new())),
                other => self.pipeline.stats10(other, now).unwrap_or_default(),
            },
            _ => Vec::new(),
        };
        for body in replies {
            of10::Message::StatsReply(body).encode(xid, out).expect("cut to fit");
        }
    }

    fn one13(&mut self, xid: u32, m: &of13::Message, message: &[u8], now: Time, out: &mut Vec<u8>) {
        use of13::multipart::{MultipartReply, ReplyBody, RequestBody};
        let replies = match m {
            of13::Message::FlowMod(flow) => {
                let full = self.refuses == Some(flow.priority) && flow.command == of13::flow::command::ADD;
                // OFPET_FLOW_MOD_FAILED, OFPFMFC_TABLE_FULL.
                let done = if full { Err(Blame { kind: 5, code: 1 }) } else { Ok(()) };
                let done = done.and_then(|()| self.pipeline.flow_mod13(flow, now).map_err(|r| r.blame));
                return self.went(done, message, now, out);
            }
            of13::Message::PortMod(p) => {
                self.port_mods.push((p.port_no, p.hw_addr, p.config, p.mask));
                // OFPET_PORT_MOD_FAILED, OFPPMFC_BAD_HW_ADDR.
                let done = if self.refuses_ports { Err(Blame { kind: 7, code: 1 }) } else { Ok(Vec::new()) };
                return self.went(done, message, now, out);
            }
            of13::Message::MultipartRequest(q) => match &q.body {
                RequestBody::Desc => {
                    vec![MultipartReply::new(ReplyBody::Desc(Box::new(of13::stats::Desc {
                        mfr_desc: Text::new("nobody"),
                        hw_desc: Text::new("memory"),
                        sw_desc: Text::new("1"),
                        serial_num: Text::default(),
                        dp_desc: Text::default(),
                    })))]
                }
                RequestBody::PortDesc => vec![MultipartReply::new(ReplyBody::PortDesc(vec![port13(1)]))],
                RequestBody::PortStats(_) => vec![MultipartReply::new(ReplyBody::PortStats(Vec::new()))],
                other => match self.pipeline.stats13(other, now) {
                    Ok(replies) => replies.unwrap_or_default(),
                    Err(refusal) => return self.refuse(message, refusal.blame, out),
                },
            },
            _ => Vec::new(),
        };
        for body in replies {
            of13::Message::MultipartReply(body).encode(xid, out).expect("cut to fit");
        }
    }

    fn went(&mut self, done: Result<Vec<Removed>, Blame>, message: &[u8], now: Time, out: &mut Vec<u8>) {
        match done {
            Err(blame) => self.refuse(message, blame, out),
            Ok(removed) => removed.iter().for_each(|r| {
                if let Some(m) = removed10(r, now) {
                    of10::Message::FlowRemoved(m).encode(0, out).expect("short");
                }
                if let Some(m) = removed13(r, now) {
                    of13::Message::FlowRemoved(m).encode(0, out).expect("short");
                }
            }),
        }
    }

    /// Somebody else adds a flow for all packets, or for IPv4 to 10.0.0.0/24.
    pub(crate) fn plant(&mut self, priority: u16, cookie: u64, ip: bool) {
        let to = std::net::Ipv4Addr::new(10, 0, 0, 0);
        let done = if self.version == header::V13 {
            let mask = Some(std::net::Ipv4Addr::new(255, 255, 255, 0));
            let fields =
                vec![of13::Field::EthType(0x0800), of13::Field::Ipv4Dst(of13::Masked { value: to, mask })];
            self.pipeline.flow_mod13(
                &of13::FlowMod {
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
                },
                Time::ZERO,
            )
        } else {
            let mut matching = of10::Match::any();
            if ip {
                use of10::matching::wildcard::{DL_TYPE, NW_DST_SHIFT};
                matching.wildcards =
                    matching.wildcards & !DL_TYPE & !(0x3f << NW_DST_SHIFT) | 8 << NW_DST_SHIFT;
                (matching.dl_type, matching.nw_dst) = (0x0800, to);
            }
            self.pipeline.flow_mod10(
                &of10::FlowMod {
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
                },
                Time::ZERO,
            )
        };
        assert_eq!(done, Ok(Vec::new()));
    }

    /// Deletes flows behind everybody's back.
    pub(crate) fn wipe(&mut self, priority: u16) {
        for table in &mut self.pipeline.tables {
            let criteria: Vec<_> =
                table.iter().filter(|f| f.priority == priority).map(|f| f.criteria.clone()).collect();
            for c in criteria {
                table.delete(&tandem_openflow::table::flows::Filter::strictly(c, priority));
            }
        }
    }

    /// Priority and cookie of every flow, in the order of the tables.
    pub(crate) fn flows(&self) -> Vec<(u16, u64)> {
        let mut list: Vec<(u16, u64)> =
            self.pipeline.tables.iter().flat_map(|t| t.iter()).map(|f| (f.priority, f.cookie)).collect();
        list.sort_unstable();
        list
    }

    pub(crate) fn priorities(&self) -> Vec<u16> {
        self.flows().into_iter().map(|(p, _)| p).collect()
    }
}

fn port10() -> of10::PhyPort {
    of10::PhyPort {
        port_no: 1,
        hw_addr: MAC,
        name: Text::new("p1"),
        config: 0,
        state: 0,
        curr: 0x20,
        advertised: 0,
        supported: 0,
        peer: 0,
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
