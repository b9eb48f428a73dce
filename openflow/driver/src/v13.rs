//! Translation from and to OpenFlow 1.3: several tables, 32-bit port numbers, ports by a multipart
//! request.

use crate::codec::{self, ProtocolCodec, Reported, SwitchMessage, Understood, speed};
use crate::wanted::Meaning;
use tandem_model::text::escaped;
use tandem_model::{
    Cookie, ETH_IPV4, Mac, Metadata, PortCounters, PortInfo, PortNo, PortSample, Prefix, Rule, RuleAction,
    RuleKey, RuleMatch, VlanTag, counted,
};
use tandem_openflow::Report;
use tandem_openflow::error::DecodeError;
use tandem_openflow::of13::multipart::{REPLY_MORE, ReplyBody, RequestBody};
use tandem_openflow::of13::stats::{FlowStats, FlowStatsRequest, PortStats, PortStatsRequest};
use tandem_openflow::of13::switch::AsyncConfig;
use tandem_openflow::of13::{
    Action, Field, FlowMod, Instruction, Masked, Match, Message, MultipartRequest, PacketInView, PacketOut,
    Port, PortMod, SwitchConfig, flow, group, port, switch,
};
use tandem_openflow::wire::{Bytes, Pad};

/// The codec of OpenFlow 1.3.
#[derive(Debug, Clone, Copy)]
pub(crate) struct V13;

/// IP protocol numbers of TCP and UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;

fn send(message: &Message, xid: u32, out: &mut Vec<u8>) {
    // Only a packet can make a message too long, and packets are at most 64 KiB minus headers.
    let _ = message.encode(xid, out);
}

fn ask(body: RequestBody, xid: u32, out: &mut Vec<u8>) {
    send(&Message::MultipartRequest(MultipartRequest::new(body)), xid, out);
}

fn masked(prefix: Prefix) -> Masked<std::net::Ipv4Addr> {
    Masked { value: prefix.address(), mask: (prefix.len() < 32).then(|| prefix.mask()) }
}

/// OFPVID_PRESENT (OF 1.3.5 section 7.2.3.7): the packet has a tag.
const TAG: u16 = 0x1000;
/// The bits of a VID.
const VID: u16 = 0x0fff;

/// "No VLAN" means that no bit of the VID is set, with or without a tag.
fn to_vlan(tag: VlanTag) -> Masked<u16> {
    match tag {
        VlanTag::NoVlan => Masked { value: 0, mask: Some(VID) },
        VlanTag::Untagged => Masked { value: 0, mask: None },
        VlanTag::Priority => Masked { value: TAG, mask: None },
    }
}

fn from_vlan(m: &Masked<u16>) -> Option<VlanTag> {
    match (m.value, m.mask) {
        (0, Some(VID)) => Some(VlanTag::NoVlan),
        (0, None) => Some(VlanTag::Untagged),
        (TAG, None) => Some(VlanTag::Priority),
        _ => None,
    }
}

fn to_metadata(m: Metadata) -> Masked<u64> {
    Masked { value: m.value & m.mask, mask: (m.mask != u64::MAX).then_some(m.mask) }
}

fn from_metadata(m: &Masked<u64>) -> Metadata {
    Metadata::new(m.value, m.mask.unwrap_or(u64::MAX))
}

/// Fields in the order of their prerequisites (OF 1.3.5 section 7.2.3.6). Conditions without their
/// prerequisite, and those that every packet fulfils, are left out: conditions on IP without an IP
/// type, ports without TCP or UDP, prefixes and metadata of no bits.
fn to_match(m: &RuleMatch) -> Match {
    let mut fields = Vec::new();
    fields.extend(m.in_port.map(|p| Field::InPort(p.0)));
    fields.extend(m.metadata.filter(|m| m.mask != 0).map(|m| Field::Metadata(to_metadata(m))));
    fields.extend(m.eth_dst.map(|a| Field::EthDst(Masked::exact(a))));
    fields.extend(m.eth_src.map(|a| Field::EthSrc(Masked::exact(a))));
    fields.extend(m.eth_type.map(Field::EthType));
    fields.extend(m.vlan.map(|v| Field::VlanVid(to_vlan(v))));
    if m.eth_type == Some(ETH_IPV4) {
        fields.extend(m.ip_dscp.map(Field::IpDscp));
        fields.extend(m.ip_proto.map(Field::IpProto));
        fields.extend(m.ip_src.filter(|p| p.len() > 0).map(|p| Field::Ipv4Src(masked(p))));
        fields.extend(m.ip_dst.filter(|p| p.len() > 0).map(|p| Field::Ipv4Dst(masked(p))));
        match m.ip_proto {
            Some(TCP) => {
                fields.extend(m.l4_src.map(Field::TcpSrc));
                fields.extend(m.l4_dst.map(Field::TcpDst));
            }
            Some(UDP) => {
                fields.extend(m.l4_src.map(Field::UdpSrc));
                fields.extend(m.l4_dst.map(Field::UdpDst));
            }
            _ => {}
        }
    }
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

/// Sets a field once; a field that a switch reports twice must have the same value.
fn once<T: PartialEq>(slot: &mut Option<T>, value: T) -> Option<()> {
    if slot.as_ref().is_some_and(|before| *before != value) {
        return None;
    }
    *slot = Some(value);
    Some(())
}

/// The rule match of a reported match; `None` for one that no rule of Tandem has. Fields may come
/// in any order, with or without masks of all ones.
fn from_match(m: &Match) -> Option<RuleMatch> {
    let mut out = RuleMatch::default();
    let mut transport = None;
    for field in m.fields.iter().filter_map(Field::normal) {
        match field {
            Field::InPort(p) => once(&mut out.in_port, PortNo(p))?,
            Field::Metadata(m) => once(&mut out.metadata, from_metadata(&m))?,
            Field::EthDst(a) => once(&mut out.eth_dst, exact(&a)?)?,
            Field::EthSrc(a) => once(&mut out.eth_src, exact(&a)?)?,
            Field::EthType(t) => once(&mut out.eth_type, t)?,
            Field::VlanVid(v) => once(&mut out.vlan, from_vlan(&v)?)?,
            Field::IpDscp(d) => once(&mut out.ip_dscp, d)?,
            Field::IpProto(p) => once(&mut out.ip_proto, p)?,
            Field::Ipv4Src(a) => once(&mut out.ip_src, prefix(&a)?)?,
            Field::Ipv4Dst(a) => once(&mut out.ip_dst, prefix(&a)?)?,
            Field::TcpSrc(p) => {
                once(&mut transport, TCP)?;
                once(&mut out.l4_src, p)?;
            }
            Field::TcpDst(p) => {
                once(&mut transport, TCP)?;
                once(&mut out.l4_dst, p)?;
            }
            Field::UdpSrc(p) => {
                once(&mut transport, UDP)?;
                once(&mut out.l4_src, p)?;
            }
            Field::UdpDst(p) => {
                once(&mut transport, UDP)?;
                once(&mut out.l4_dst, p)?;
            }
            _ => return None,
        }
    }
    (transport.is_none() || transport == out.ip_proto).then_some(out)
}

fn output(port: u32, max_len: u16) -> Action {
    Action::Output { port, max_len, pad: Pad::default() }
}

fn to_instructions(rule: &Rule) -> Vec<Instruction> {
    let mut apply = Vec::new();
    let (mut metadata, mut goto) = (None, None);
    for action in codec::actions(rule) {
        match action {
            RuleAction::Output(p) => apply.push(output(p.0, 0)),
            RuleAction::Hairpin => apply.push(output(port::IN_PORT, 0)),
            // OFPCML_NO_BUFFER: the whole packet.
            RuleAction::Controller => apply.push(output(port::CONTROLLER, 0xffff)),
            RuleAction::Enqueue { port, queue } => apply.extend([Action::SetQueue(queue), output(port.0, 0)]),
            RuleAction::SetQueue(queue) => apply.push(Action::SetQueue(queue)),
            RuleAction::SetDscp(dscp) => apply.push(Action::SetField(Field::IpDscp(dscp))),
            RuleAction::SetEthDst(mac) => apply.push(Action::SetField(Field::EthDst(Masked::exact(mac)))),
            RuleAction::WriteMetadata(m) if m.mask == 0 => {}
            RuleAction::WriteMetadata(Metadata { value, mask }) => {
                let pad = Pad::default();
                metadata = Some(Instruction::WriteMetadata { pad, metadata: value & mask, mask });
            }
            RuleAction::Goto(table) => goto = Some(Instruction::GotoTable(table, Pad::default())),
        }
    }
    let apply = (!apply.is_empty()).then(|| Instruction::ApplyActions(Pad::default(), apply));
    apply.into_iter().chain(metadata).chain(goto).collect()
}

/// The actions of reported instructions; `None` for any that no rule of Tandem has. Instructions
/// are a set, executed in the specification's order whatever order they are reported in (OF 1.3.5
/// section 5.9): actions first, then metadata, the next table last.
fn from_instructions(instructions: &[Instruction]) -> Option<Vec<RuleAction>> {
    let mut out = Vec::new();
    let (mut metadata, mut goto) = (None, None);
    for instruction in instructions {
        match instruction {
            Instruction::GotoTable(table, _) => once(&mut goto, *table)?,
            Instruction::ApplyActions(_, actions) if out.is_empty() => out = from_actions(actions)?,
            // An empty list of actions and metadata without mask bits have no effect.
            Instruction::ApplyActions(_, actions) | Instruction::WriteActions(_, actions)
                if actions.is_empty() => {}
            Instruction::WriteMetadata { mask: 0, .. } => {}
            Instruction::WriteMetadata { metadata: value, mask, .. } => {
                once(&mut metadata, Metadata::new(*value, *mask))?;
            }
            _ => return None,
        }
    }
    out.extend(metadata.map(RuleAction::WriteMetadata));
    out.extend(goto.map(RuleAction::Goto));
    Some(out)
}

fn from_actions(actions: &[Action]) -> Option<Vec<RuleAction>> {
    let mut out = Vec::new();
    // The queue of the outputs that follow.
    let mut queue = None;
    for action in actions {
        let action = match action {
            Action::SetQueue(q) => {
                out.extend(queue.replace(*q).map(RuleAction::SetQueue));
                continue;
            }
            // max_len has a meaning only for output to the controller (OF 1.3.5 section 7.2.5).
            Action::Output { port, .. } if *port < port::MAX => match queue.take() {
                Some(queue) => RuleAction::Enqueue { port: PortNo(*port), queue },
                None => RuleAction::Output(PortNo(*port)),
            },
            Action::Output { port: port::IN_PORT, .. } => RuleAction::Hairpin,
            Action::Output { port: port::CONTROLLER, .. } => RuleAction::Controller,
            Action::SetField(field) => match field.normal()? {
                Field::IpDscp(d) => RuleAction::SetDscp(d),
                Field::EthDst(m) => RuleAction::SetEthDst(exact(&m)?),
                _ => return None,
            },
            _ => return None,
        };
        out.extend(queue.take().map(RuleAction::SetQueue));
        out.push(action);
    }
    // A queue without an output behind it is for the outputs of a later table.
    out.extend(queue.map(RuleAction::SetQueue));
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
        name: escaped(&p.name.text()).to_string(),
        mac: p.hw_addr,
        up: p.config & port::CONFIG_DOWN == 0 && p.state & port::STATE_LINK_DOWN == 0,
        speed: speed(p.curr),
    }
}

fn key(table: u8, matching: &Match, priority: u16) -> Option<RuleKey> {
    from_match(matching).map(|matching| RuleKey { table, priority, matching })
}

fn meaning(of: &RuleKey) -> RuleKey {
    key(of.table, &to_match(&of.matching), of.priority).unwrap_or(*of)
}

impl ProtocolCodec for V13 {
    fn version(&self) -> &'static str {
        "1.3"
    }

    fn meaning(&self) -> Meaning {
        meaning
    }

    fn actions_as_reported(&self, rule: &Rule) -> Option<Vec<RuleAction>> {
        from_instructions(&to_instructions(rule))
    }

    fn ask_features(&self, xid: u32, out: &mut Vec<u8>) {
        send(&Message::FeaturesRequest, xid, out);
    }

    fn ask_description(&self, xid: u32, out: &mut Vec<u8>) {
        ask(RequestBody::Desc, xid, out);
    }

    fn ask_ports(&self, xid: u32, out: &mut Vec<u8>) -> bool {
        ask(RequestBody::PortDesc, xid, out);
        true
    }

    fn configure(&self, xid: u32, out: &mut Vec<u8>) {
        send(&Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0xffff }), xid, out);
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
        let instructions = to_instructions(rule);
        // cookie_mask is ignored in an addition (OF 1.3.5 section 6.4), which replaces any flow
        // with this match and priority.
        let cookie = (rule.cookie.0, 0);
        send(
            &flow_mod(flow::command::ADD, *table, to_match(matching), *priority, cookie, instructions),
            xid,
            out,
        );
    }

    fn remove(&self, xid: u32, key: &RuleKey, out: &mut Vec<u8>) {
        let matching = to_match(&key.matching);
        let ours = (Cookie::MAGIC, Cookie::MAGIC_MASK);
        send(
            &flow_mod(flow::command::DELETE_STRICT, key.table, matching, key.priority, ours, Vec::new()),
            xid,
            out,
        );
    }

    fn packet_out(&self, xid: u32, port: PortNo, frame: &[u8], out: &mut Vec<u8>) {
        let message = Message::PacketOut(PacketOut {
            buffer_id: flow::NO_BUFFER,
            in_port: port::CONTROLLER,
            pad: Pad::default(),
            actions: vec![output(port.0, 0)],
            data: Bytes(frame.to_vec()),
        });
        send(&message, xid, out);
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
        send(&message, xid, out);
    }

    fn barrier(&self, xid: u32, out: &mut Vec<u8>) {
        send(&Message::BarrierRequest, xid, out);
    }

    fn set_async(&self, xid: u32, all: bool, out: &mut Vec<u8>) {
        // A bit per reason (OF 1.3.5 section 7.3.10). `all` are the reasons that a connection
        // starts with (section 6.3.2): packets by a miss and by an action, every change of a port,
        // every removed flow.
        let [packet_in, flow_removed] = if all { [0b11, 0b1111] } else { [0, 0] };
        let message = Message::SetAsync(AsyncConfig {
            packet_in_master: packet_in,
            packet_in_slave: 0,
            port_status_master: 0b111,
            port_status_slave: 0b111,
            flow_removed_master: flow_removed,
            flow_removed_slave: 0,
        });
        send(&message, xid, out);
    }

    fn decode<'a>(&self, message: &'a [u8]) -> Result<Understood<'a>, DecodeError> {
        // Type numbers (OF 1.3.5 section 7.1.1) and multipart types (section 7.3.5).
        match message.get(1).copied().unwrap_or_default() {
            1 => return Ok(codec::error(message, switch::error_name)),
            PacketInView::KIND => {
                let view = PacketInView::new(message)?;
                let message = SwitchMessage::Packet { port: PortNo(view.in_port), data: view.data };
                return Ok(Understood::whole(view.xid, message));
            }
            // FEATURES_REPLY, FLOW_REMOVED, PORT_STATUS, BARRIER_REPLY, ROLE_REPLY.
            6 | 11 | 12 | 21 | 25 => {}
            // Multipart: DESC, FLOW, PORT_STATS, PORT_DESC.
            19 if matches!(message.get(8..10), Some([0, 0 | 1 | 4 | 13])) => {}
            // EXPERIMENTER, GET_CONFIG_REPLY, other multipart types, QUEUE_GET_CONFIG_REPLY,
            // GET_ASYNC_REPLY.
            4 | 8 | 19 | 23 | 27 => return Ok(Understood::nothing(message)),
            kind => return Err(codec::unknown_type(kind)),
        }
        let Report { xid, message, lost } = Message::decode_report(message)?;
        let message = match message {
            Message::FeaturesReply(f) => {
                SwitchMessage::Features { dpid: f.datapath_id, tables: f.n_tables, ports: None }
            }
            Message::PortStatus(s) if s.desc.port_no < port::MAX => {
                SwitchMessage::Port(port_info(&s.desc), s.reason == port::reason::DELETE)
            }
            Message::FlowRemoved(f) => {
                let key = key(f.table_id, &f.matching, f.priority);
                SwitchMessage::Removed { cookie: Cookie(f.cookie), key, deleted: f.reason == 2 }
            }
            Message::MultipartReply(reply) => {
                let more = reply.flags & REPLY_MORE != 0;
                match reply.body {
                    ReplyBody::Desc(d) => {
                        let texts = [d.mfr_desc.text(), d.hw_desc.text(), d.sw_desc.text()];
                        SwitchMessage::Description(escaped(texts.join(" ").trim()).to_string())
                    }
                    ReplyBody::PortDesc(ports) => SwitchMessage::Ports {
                        ports: ports.iter().filter(|p| p.port_no < port::MAX).map(port_info).collect(),
                        more,
                    },
                    ReplyBody::Flow(flows) => {
                        SwitchMessage::Flows { flows: flows.iter().map(reported).collect(), more }
                    }
                    ReplyBody::PortStats(ports) => SwitchMessage::Counters {
                        ports: ports.iter().filter(|p| p.port_no < port::MAX).map(sample).collect(),
                        more,
                    },
                    _ => SwitchMessage::Nothing,
                }
            }
            Message::BarrierReply => SwitchMessage::Barrier,
            _ => SwitchMessage::Nothing,
        };
        Ok(Understood { xid, message, lost })
    }
}

fn reported(f: &FlowStats) -> Reported {
    let mut erase = Vec::new();
    // The cookie selects this very flow, and not one that has replaced it since.
    let cookie = (f.cookie, u64::MAX);
    let command = flow::command::DELETE_STRICT;
    send(&flow_mod(command, f.table_id, f.matching.clone(), f.priority, cookie, Vec::new()), 0, &mut erase);
    Reported {
        cookie: Cookie(f.cookie),
        key: key(f.table_id, &f.matching, f.priority),
        actions: from_instructions(&f.instructions),
        counters: codec::flow_counters(f.packet_count, f.byte_count, (f.duration_sec, f.duration_nsec)),
        erase,
    }
}

fn sample(p: &PortStats) -> PortSample {
    let counters = PortCounters {
        rx_packets: counted(p.rx_packets),
        tx_packets: counted(p.tx_packets),
        rx_bytes: counted(p.rx_bytes),
        tx_bytes: counted(p.tx_bytes),
        rx_dropped: counted(p.rx_dropped),
        tx_dropped: counted(p.tx_dropped),
        rx_errors: counted(p.rx_errors),
        tx_errors: counted(p.tx_errors),
        rx_frame_errors: counted(p.rx_frame_err),
        rx_overrun_errors: counted(p.rx_over_err),
        rx_crc_errors: counted(p.rx_crc_err),
        collisions: counted(p.collisions),
        ..codec::port_age(p.duration_sec, p.duration_nsec)
    };
    PortSample { port: PortNo(p.port_no), counters }
}
