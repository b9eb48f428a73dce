//! OpenFlow 1.3: several tables, 32-bit ports, ports by multipart.

use crate::speaker::{self, Heard, Reported, Speaker, Understood, speed};
use tandem_model::{Cookie, Mac, PortInfo, PortNo, PortSample, Prefix, Rule, RuleAction, RuleKey, RuleMatch};
use tandem_openflow::Report;
use tandem_openflow::error::DecodeError;
use tandem_openflow::of13::multipart::{REPLY_MORE, ReplyBody, RequestBody};
use tandem_openflow::of13::stats::{FlowStats, FlowStatsRequest, PortStats, PortStatsRequest};
use tandem_openflow::of13::{
    Action, Field, FlowMod, Instruction, Masked, Match, Message, MultipartRequest, PacketInView, PacketOut,
    Port, PortMod, SwitchConfig, flow, group, port, switch,
};
use tandem_openflow::wire::{Bytes, Pad};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct V13;

/// IP protocol numbers of TCP and UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;

fn say(message: &Message, xid: u32, out: &mut Vec<u8>) {
    // Only a packet can make a message too long, and packets are at most 64 KiB less headers.
    let _ = message.encode(xid, out);
}

fn ask(body: RequestBody, xid: u32, out: &mut Vec<u8>) {
    say(&Message::MultipartRequest(MultipartRequest::new(body)), xid, out);
}

fn masked(prefix: Prefix) -> Masked<std::net::Ipv4Addr> {
    Masked { value: prefix.address(), mask: (prefix.len() < 32).then(|| prefix.mask()) }
}

/// Fields in the order of their prerequisites (OF 1.3.5 section 7.2.3.6).
fn to_match(m: &RuleMatch) -> Match {
    let mut fields = Vec::new();
    fields.extend(m.in_port.map(|p| Field::InPort(p.0)));
    fields.extend(m.eth_dst.map(|a| Field::EthDst(Masked::exact(a))));
    fields.extend(m.eth_src.map(|a| Field::EthSrc(Masked::exact(a))));
    fields.extend(m.eth_type.map(Field::EthType));
    fields.extend(m.ip_dscp.map(Field::IpDscp));
    fields.extend(m.ip_proto.map(Field::IpProto));
    // A prefix of no bits matches everything and is left out.
    fields.extend(m.ip_src.filter(|p| p.len() > 0).map(|p| Field::Ipv4Src(masked(p))));
    fields.extend(m.ip_dst.filter(|p| p.len() > 0).map(|p| Field::Ipv4Dst(masked(p))));
    let tcp = m.ip_proto == Some(TCP);
    fields.extend(m.l4_src.map(|p| if tcp { Field::TcpSrc(p) } else { Field::UdpSrc(p) }));
    fields.extend(m.l4_dst.map(|p| if tcp { Field::TcpDst(p) } else { Field::UdpDst(p) }));
    Match { fields }
}

fn prefix(m: &Masked<std::net::Ipv4Addr>) -> Option<Prefix> {
    let bits = m.mask.map_or(u32::MAX, std::net::Ipv4Addr::to_bits);
    (bits.leading_ones() + bits.trailing_zeros() == 32 || bits == u32::MAX)
        .then(|| Prefix::new(m.value, bits.leading_ones() as u8))
        .flatten()
}

fn exact<T: Copy>(m: &Masked<T>) -> Option<T> {
    m.mask.is_none().then_some(m.value)
}

/// `None` for a match that no rule of ours has.
fn from_match(m: &Match) -> Option<RuleMatch> {
    let mut out = RuleMatch::default();
    for field in &m.fields {
        match field {
            Field::InPort(p) => out.in_port = Some(PortNo(*p)),
            Field::EthDst(a) => out.eth_dst = Some(exact(a)?),
            Field::EthSrc(a) => out.eth_src = Some(exact(a)?),
            Field::EthType(t) => out.eth_type = Some(*t),
            Field::IpDscp(d) => out.ip_dscp = Some(*d),
            Field::IpProto(p) => out.ip_proto = Some(*p),
            Field::Ipv4Src(a) => out.ip_src = Some(prefix(a)?),
            Field::Ipv4Dst(a) => out.ip_dst = Some(prefix(a)?),
            Field::TcpSrc(p) | Field::UdpSrc(p) => out.l4_src = Some(*p),
            Field::TcpDst(p) | Field::UdpDst(p) => out.l4_dst = Some(*p),
            _ => return None,
        }
    }
    (out.l4_src.is_none() && out.l4_dst.is_none() || matches!(out.ip_proto, Some(TCP | UDP))).then_some(out)
}

fn output(port: u32, max_len: u16) -> Action {
    Action::Output { port, max_len, pad: Pad::default() }
}

fn to_instructions(actions: &[RuleAction]) -> Vec<Instruction> {
    let mut apply = Vec::new();
    let mut goto = None;
    for action in actions {
        match *action {
            RuleAction::Output(p) => apply.push(output(p.0, 0)),
            RuleAction::Hairpin => apply.push(output(port::IN_PORT, 0)),
            // OFPCML_NO_BUFFER: the whole packet.
            RuleAction::Controller => apply.push(output(port::CONTROLLER, 0xffff)),
            RuleAction::Enqueue { port, queue } => apply.extend([Action::SetQueue(queue), output(port.0, 0)]),
            RuleAction::SetQueue(queue) => apply.push(Action::SetQueue(queue)),
            RuleAction::SetDscp(dscp) => apply.push(Action::SetField(Field::IpDscp(dscp))),
            RuleAction::SetEthDst(mac) => apply.push(Action::SetField(Field::EthDst(Masked::exact(mac)))),
            RuleAction::Goto(table) => goto = Some(Instruction::GotoTable(table, Pad::default())),
        }
    }
    let apply = (!apply.is_empty()).then(|| Instruction::ApplyActions(Pad::default(), apply));
    apply.into_iter().chain(goto).collect()
}

fn from_instructions(instructions: &[Instruction]) -> Option<Vec<RuleAction>> {
    let mut out = Vec::new();
    for instruction in instructions {
        match instruction {
            Instruction::GotoTable(table, _) => out.push(RuleAction::Goto(*table)),
            Instruction::ApplyActions(_, actions) => {
                let mut queue = None;
                for action in actions {
                    match (action, queue.take()) {
                        (Action::SetQueue(q), _) => queue = Some(*q),
                        (Action::Output { port, .. }, Some(queue)) if *port < port::MAX => {
                            out.push(RuleAction::Enqueue { port: PortNo(*port), queue });
                        }
                        (Action::Output { port: port::IN_PORT, .. }, None) => out.push(RuleAction::Hairpin),
                        (Action::Output { port: port::CONTROLLER, .. }, None) => {
                            out.push(RuleAction::Controller)
                        }
                        (Action::Output { port, .. }, None) if *port < port::MAX => {
                            out.push(RuleAction::Output(PortNo(*port)));
                        }
                        (Action::SetField(Field::IpDscp(d)), None) => out.push(RuleAction::SetDscp(*d)),
                        (Action::SetField(Field::EthDst(m)), None) => {
                            out.push(RuleAction::SetEthDst(exact(m)?))
                        }
                        _ => return None,
                    }
                }
                // A queue that no output follows is for those of a later table.
                out.extend(queue.map(RuleAction::SetQueue));
            }
            _ => return None,
        }
    }
    Some(out)
}

fn flow_mod(
    command: u8,
    table: u8,
    matching: Match,
    priority: u16,
    (cookie, cookie_mask): (u64, u64),
    instructions: Vec<Instruction>,
) -> Message {
    Message::FlowMod(FlowMod {
        cookie,
        cookie_mask,
        table_id: table,
        command,
        idle_timeout: 0,
        hard_timeout: 0,
        priority,
        buffer_id: flow::NO_BUFFER,
        out_port: port::ANY,
        out_group: group::ANY,
        flags: if command == flow::command::ADD { flow::flag::SEND_FLOW_REM } else { 0 },
        pad: Pad::default(),
        matching,
        instructions,
    })
}

fn port_info(p: &Port) -> PortInfo {
    PortInfo {
        port: PortNo(p.port_no),
        name: p.name.text().into_owned(),
        mac: p.hw_addr,
        up: p.config & port::CONFIG_DOWN == 0 && p.state & port::STATE_LINK_DOWN == 0,
        speed: speed(p.curr),
    }
}

fn key(table: u8, matching: &Match, priority: u16) -> Option<RuleKey> {
    from_match(matching).map(|matching| RuleKey { table, priority, matching })
}

impl Speaker for V13 {
    fn version(&self) -> &'static str {
        "1.3"
    }

    fn ask_features(&self, xid: u32, out: &mut Vec<u8>) {
        say(&Message::FeaturesRequest, xid, out);
    }

    fn ask_description(&self, xid: u32, out: &mut Vec<u8>) {
        ask(RequestBody::Desc, xid, out);
    }

    fn ask_ports(&self, xid: u32, out: &mut Vec<u8>) -> bool {
        ask(RequestBody::PortDesc, xid, out);
        true
    }

    fn configure(&self, xid: u32, out: &mut Vec<u8>) {
        say(&Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0xffff }), xid, out);
    }

    fn ask_flows(&self, xid: u32, out: &mut Vec<u8>) {
        let ours = FlowStatsRequest {
            table_id: flow::ALL_TABLES,
            pad: Pad::default(),
            out_port: port::ANY,
            out_group: group::ANY,
            pad2: Pad::default(),
            cookie: Cookie::MAGIC,
            cookie_mask: Cookie::MAGIC_MASK,
            matching: Match::any(),
        };
        ask(RequestBody::Flow(ours), xid, out);
    }

    fn ask_counters(&self, xid: u32, out: &mut Vec<u8>) {
        ask(RequestBody::PortStats(PortStatsRequest { port_no: port::ANY, pad: Pad::default() }), xid, out);
    }

    fn add(&self, xid: u32, rule: &Rule, out: &mut Vec<u8>) {
        let RuleKey { table, priority, matching } = &rule.key;
        let instructions = to_instructions(&rule.actions);
        // An addition has no mask (OF 1.3.5 section 6.4): it replaces whatever has this match and priority.
        let cookie = (rule.cookie.0, 0);
        say(
            &flow_mod(flow::command::ADD, *table, to_match(matching), *priority, cookie, instructions),
            xid,
            out,
        );
    }

    fn remove(&self, xid: u32, key: &RuleKey, out: &mut Vec<u8>) {
        let matching = to_match(&key.matching);
        let ours = (Cookie::MAGIC, Cookie::MAGIC_MASK);
        say(
            &flow_mod(flow::command::DELETE_STRICT, key.table, matching, key.priority, ours, Vec::new()),
            xid,
            out,
        );
    }

    fn send(&self, xid: u32, port: PortNo, frame: &[u8], out: &mut Vec<u8>) {
        let message = Message::PacketOut(PacketOut {
            buffer_id: flow::NO_BUFFER,
            in_port: port::CONTROLLER,
            pad: Pad::default(),
            actions: vec![output(port.0, 0)],
            data: Bytes(frame.to_vec()),
        });
        say(&message, xid, out);
    }

    fn set_port(&self, xid: u32, number: PortNo, mac: Mac, up: bool, out: &mut Vec<u8>) {
        let message = Message::PortMod(PortMod {
            port_no: number.0,
            pad: Pad::default(),
            hw_addr: mac,
            pad2: Pad::default(),
            config: if up { 0 } else { port::CONFIG_DOWN },
            mask: port::CONFIG_DOWN,
            advertise: 0,
            pad3: Pad::default(),
        });
        say(&message, xid, out);
    }

    fn barrier(&self, xid: u32, out: &mut Vec<u8>) {
        say(&Message::BarrierRequest, xid, out);
    }

    fn hear<'a>(&self, message: &'a [u8]) -> Result<Understood<'a>, DecodeError> {
        // Type numbers (OF 1.3.5 section 7.1.1), and of multipart messages (section 7.3.5).
        match message.get(1).copied().unwrap_or_default() {
            1 => return Ok(speaker::error(message, switch::error_name)),
            PacketInView::KIND => {
                let view = PacketInView::new(message)?;
                let heard = Heard::Packet { port: PortNo(view.in_port), data: view.data };
                return Ok(Understood::whole(view.xid, heard));
            }
            // Features, a flow that is gone, a port, a barrier, a role.
            6 | 11 | 12 | 21 | 25 => {}
            // A description, flows, ports' counters, ports.
            19 if matches!(message.get(8..10), Some([0, 0 | 1 | 4 | 13])) => {}
            // An experimenter's message, a configuration, other multipart messages, queues, asynchronous messages.
            4 | 8 | 19 | 23 | 27 => return Ok(Understood::nothing(message)),
            kind => return Err(speaker::unknown_type(kind)),
        }
        let Report { xid, message, lost } = Message::decode_report(message)?;
        let heard = match message {
            Message::FeaturesReply(f) => {
                Heard::Features { dpid: f.datapath_id, tables: f.n_tables, ports: None }
            }
            Message::PortStatus(s) if s.desc.port_no < port::MAX => {
                Heard::Port(port_info(&s.desc), s.reason == port::reason::DELETE)
            }
            Message::FlowRemoved(f) => {
                let key = key(f.table_id, &f.matching, f.priority);
                Heard::Removed { cookie: Cookie(f.cookie), key, deleted: f.reason == 2 }
            }
            Message::MultipartReply(reply) => {
                let more = reply.flags & REPLY_MORE != 0;
                match reply.body {
                    ReplyBody::Desc(d) => {
                        let texts = [d.mfr_desc.text(), d.hw_desc.text(), d.sw_desc.text()];
                        Heard::Description(texts.join(" ").trim().to_owned())
                    }
                    ReplyBody::PortDesc(ports) => Heard::Ports {
                        ports: ports.iter().filter(|p| p.port_no < port::MAX).map(port_info).collect(),
                        more,
                    },
                    ReplyBody::Flow(flows) => {
                        Heard::Flows { flows: flows.iter().map(reported).collect(), more }
                    }
                    ReplyBody::PortStats(ports) => Heard::Counters {
                        ports: ports.iter().filter(|p| p.port_no < port::MAX).map(sample).collect(),
                        more,
                    },
                    _ => Heard::Nothing,
                }
            }
            Message::BarrierReply => Heard::Barrier,
            _ => Heard::Nothing,
        };
        Ok(Understood { xid, heard, lost })
    }
}

fn reported(f: &FlowStats) -> Reported {
    let mut erase = Vec::new();
    // This very flow: what has taken its place since is not meant.
    let cookie = (f.cookie, u64::MAX);
    let command = flow::command::DELETE_STRICT;
    say(&flow_mod(command, f.table_id, f.matching.clone(), f.priority, cookie, Vec::new()), 0, &mut erase);
    Reported {
        cookie: Cookie(f.cookie),
        key: key(f.table_id, &f.matching, f.priority),
        actions: from_instructions(&f.instructions),
        packets: f.packet_count,
        bytes: f.byte_count,
        erase,
    }
}

fn sample(p: &PortStats) -> PortSample {
    PortSample {
        port: PortNo(p.port_no),
        rx_packets: p.rx_packets,
        tx_packets: p.tx_packets,
        rx_bytes: p.rx_bytes,
        tx_bytes: p.tx_bytes,
        rx_dropped: p.rx_dropped,
        tx_dropped: p.tx_dropped,
        rx_errors: p.rx_errors,
        tx_errors: p.tx_errors,
    }
}
