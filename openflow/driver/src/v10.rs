//! Translation from and to OpenFlow 1.0: one table, 16-bit port numbers, ports in the features
//! reply.

use crate::codec::{self, ProtocolCodec, Reported, SwitchMessage, Understood, speed};
use crate::wanted::Meaning;
use tandem_model::text::escaped;
use tandem_model::{
    Cookie, ETH_ARP, ETH_IPV4, Mac, PortCounters, PortInfo, PortNo, PortSample, Prefix, Rule, RuleAction,
    RuleKey, RuleMatch, VlanTag, counted,
};
use tandem_openflow::Report;
use tandem_openflow::error::DecodeError;
use tandem_openflow::of10::matching::{VLAN_NONE, wildcard};
use tandem_openflow::of10::stats::{FlowStatsRequest, PortStatsRequest, REPLY_MORE, ReplyBody, RequestBody};
use tandem_openflow::of10::{
    Action, FlowMod, Match, Message, PacketInView, PacketOut, PhyPort, PortMod, StatsRequest, SwitchConfig,
    flow, port, switch,
};
use tandem_openflow::wire::{Bytes, Pad};

/// The codec of OpenFlow 1.0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct V10;

fn send(message: &Message, xid: u32, out: &mut Vec<u8>) {
    // Only a packet can make a message too long, and packets are at most 64 KiB minus headers.
    let _ = message.encode(xid, out);
}

fn ask(body: RequestBody, xid: u32, out: &mut Vec<u8>) {
    send(&Message::StatsRequest(StatsRequest { flags: 0, body }), xid, out);
}

/// Port numbers have 16 bits; a larger one does not exist on such a switch.
fn short(port: PortNo) -> u16 {
    u16::try_from(port.0).unwrap_or(port::NONE)
}

/// Conditions without their prerequisite are left out (OF 1.0 section 3.4): those on IP without an
/// IP type, and ports without a protocol that has ports.
fn to_match(m: &RuleMatch) -> Match {
    let mut out = Match::any();
    let is_ip = m.eth_type == Some(ETH_IPV4);
    let has_ports = is_ip && m.ip_proto.is_some_and(has_ports);
    let mut set = |is: bool, bit: u32| {
        if is {
            out.wildcards &= !bit;
        }
    };
    set(m.in_port.is_some(), wildcard::IN_PORT);
    set(m.eth_src.is_some(), wildcard::DL_SRC);
    set(m.eth_dst.is_some(), wildcard::DL_DST);
    set(m.vlan.is_some(), wildcard::DL_VLAN);
    set(m.eth_type.is_some(), wildcard::DL_TYPE);
    set(is_ip && m.ip_proto.is_some(), wildcard::NW_PROTO);
    set(is_ip && m.ip_dscp.is_some(), wildcard::NW_TOS);
    set(has_ports && m.l4_src.is_some(), wildcard::TP_SRC);
    set(has_ports && m.l4_dst.is_some(), wildcard::TP_DST);
    let (ip_src, ip_dst) = (m.ip_src.filter(|_| is_ip), m.ip_dst.filter(|_| is_ip));
    for (prefix, shift) in [(ip_src, wildcard::NW_SRC_SHIFT), (ip_dst, wildcard::NW_DST_SHIFT)] {
        if let Some(prefix) = prefix.filter(|p| p.len() > 0) {
            out.wildcards &= !(0x3f << shift);
            out.wildcards |= u32::from(32 - prefix.len()) << shift;
        }
    }
    Match {
        in_port: m.in_port.map_or(0, short),
        dl_src: m.eth_src.unwrap_or(out.dl_src),
        dl_dst: m.eth_dst.unwrap_or(out.dl_dst),
        dl_vlan: match m.vlan {
            // OpenFlow 1.0 cannot match both kinds of tag in one flow; the core has a rule for
            // each. This one lets through less, not more.
            Some(VlanTag::Untagged | VlanTag::NoVlan) => VLAN_NONE,
            Some(VlanTag::Priority) | None => 0,
        },
        dl_type: m.eth_type.unwrap_or(0),
        nw_tos: m.ip_dscp.filter(|_| is_ip).unwrap_or(0) << 2,
        nw_proto: m.ip_proto.filter(|_| is_ip).unwrap_or(0),
        nw_src: ip_src.map_or(out.nw_src, Prefix::address),
        nw_dst: ip_dst.map_or(out.nw_dst, Prefix::address),
        tp_src: m.l4_src.filter(|_| has_ports).unwrap_or(0),
        tp_dst: m.l4_dst.filter(|_| has_ports).unwrap_or(0),
        ..out
    }
}

/// Whether tp_src and tp_dst are matched: for TCP, UDP, and ICMP (type and code).
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 1 | 6 | 17)
}

/// The rule match of a reported match; `None` for one that no rule of Tandem has (VLANs and their
/// priorities). Fields without their prerequisite are ignored whatever their value (OF 1.0 section
/// 3.4): those of IP without IP or ARP, ports without a protocol that has them, a priority without
/// a VLAN.
fn from_match(m: &Match) -> Option<RuleMatch> {
    let has = |bit: u32| m.wildcards & bit == 0;
    let vlan = match (has(wildcard::DL_VLAN), m.dl_vlan) {
        (false, _) => None,
        (true, VLAN_NONE) => Some(VlanTag::Untagged),
        (true, 0) if !has(wildcard::DL_VLAN_PCP) => Some(VlanTag::Priority),
        (true, _) => return None,
    };
    let eth_type = has(wildcard::DL_TYPE).then_some(m.dl_type);
    let is_ip = eth_type == Some(ETH_IPV4);
    let has_network = is_ip || eth_type == Some(ETH_ARP);
    let prefix = |address: std::net::Ipv4Addr, bits: u8| {
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        Prefix::new((address.to_bits() & mask).into(), bits).filter(|_| bits > 0 && has_network)
    };
    let ip_proto = (has_network && has(wildcard::NW_PROTO)).then_some(m.nw_proto);
    let has_ports = is_ip && ip_proto.is_some_and(has_ports);
    Some(RuleMatch {
        in_port: has(wildcard::IN_PORT).then_some(PortNo(m.in_port.into())),
        metadata: None,
        eth_src: has(wildcard::DL_SRC).then_some(m.dl_src),
        eth_dst: has(wildcard::DL_DST).then_some(m.dl_dst),
        eth_type,
        vlan,
        ip_src: prefix(m.nw_src, m.nw_src_bits()),
        ip_dst: prefix(m.nw_dst, m.nw_dst_bits()),
        ip_dscp: (is_ip && has(wildcard::NW_TOS)).then_some(m.nw_tos >> 2),
        ip_proto,
        l4_src: (has_ports && has(wildcard::TP_SRC)).then_some(m.tp_src),
        l4_dst: (has_ports && has(wildcard::TP_DST)).then_some(m.tp_dst),
    })
}

fn to_action(action: &RuleAction) -> Option<Action> {
    Some(match *action {
        RuleAction::Output(p) => Action::Output { port: short(p), max_len: 0 },
        RuleAction::Hairpin => Action::Output { port: port::IN_PORT, max_len: 0 },
        RuleAction::Controller => Action::Output { port: port::CONTROLLER, max_len: 0xffff },
        RuleAction::Enqueue { port, queue } => {
            Action::Enqueue { port: short(port), pad: Pad::default(), queue_id: queue }
        }
        RuleAction::SetDscp(dscp) => Action::SetNwTos(dscp << 2, Pad::default()),
        RuleAction::SetEthDst(mac) => Action::SetDlDst(mac, Pad::default()),
        // The core compiles rules for one table, without these actions.
        RuleAction::Goto(_) | RuleAction::SetQueue(_) | RuleAction::WriteMetadata(_) => return None,
    })
}

fn from_action(action: &Action) -> Option<RuleAction> {
    Some(match action {
        Action::Output { port: port::IN_PORT, .. } => RuleAction::Hairpin,
        Action::Output { port: port::CONTROLLER, .. } => RuleAction::Controller,
        Action::Output { port, .. } if *port < port::MAX => RuleAction::Output(PortNo((*port).into())),
        Action::Enqueue { port, queue_id, .. } => {
            RuleAction::Enqueue { port: PortNo((*port).into()), queue: *queue_id }
        }
        Action::SetNwTos(tos, _) => RuleAction::SetDscp(tos >> 2),
        Action::SetDlDst(mac, _) => RuleAction::SetEthDst(*mac),
        _ => return None,
    })
}

fn flow_mod(command: u16, matching: Match, priority: u16, cookie: u64, actions: Vec<Action>) -> Message {
    Message::FlowMod(FlowMod {
        matching,
        cookie,
        command,
        idle_timeout: 0,
        hard_timeout: 0,
        priority,
        buffer_id: flow::NO_BUFFER,
        out_port: port::NONE,
        flags: if command == flow::command::ADD { flow::flag::SEND_FLOW_REM } else { 0 },
        actions,
    })
}

fn port_info(p: &PhyPort) -> PortInfo {
    PortInfo {
        port: PortNo(p.port_no.into()),
        name: escaped(&p.name.text()).to_string(),
        mac: p.hw_addr,
        up: p.config & port::CONFIG_DOWN == 0 && p.state & port::STATE_LINK_DOWN == 0,
        speed: speed(p.curr),
    }
}

/// A flow without wildcards has the highest priority whatever its number (OF 1.0 section 3.4), and
/// may be reported with any number. For untagged packets the priority bits are undefined: a switch
/// may report them as wildcarded or not.
fn key(matching: &Match, priority: u16) -> Option<RuleKey> {
    let idle = if matching.dl_vlan == VLAN_NONE { wildcard::DL_VLAN_PCP } else { 0 };
    let priority = if matching.wildcards & wildcard::ALL & !idle == 0 { u16::MAX } else { priority };
    from_match(matching).map(|matching| RuleKey { table: 0, priority, matching })
}

fn meaning(of: &RuleKey) -> RuleKey {
    key(&to_match(&of.matching), of.priority).unwrap_or(*of)
}

fn to_actions(rule: &Rule) -> Vec<Action> {
    codec::actions(rule).iter().filter_map(to_action).collect()
}

fn from_actions(actions: &[Action]) -> Option<Vec<RuleAction>> {
    actions.iter().map(from_action).collect()
}

impl ProtocolCodec for V10 {
    fn version(&self) -> &'static str {
        "1.0"
    }

    fn meaning(&self) -> Meaning {
        meaning
    }

    fn actions_as_reported(&self, rule: &Rule) -> Option<Vec<RuleAction>> {
        from_actions(&to_actions(rule))
    }

    fn ask_features(&self, xid: u32, out: &mut Vec<u8>) {
        send(&Message::FeaturesRequest, xid, out);
    }

    fn ask_description(&self, xid: u32, out: &mut Vec<u8>) {
        ask(RequestBody::Desc, xid, out);
    }

    fn ask_ports(&self, _: u32, _: &mut Vec<u8>) -> bool {
        false
    }

    fn configure(&self, xid: u32, out: &mut Vec<u8>) {
        send(&Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0xffff }), xid, out);
    }

    fn ask_flows(&self, xid: u32, out: &mut Vec<u8>) {
        let all = FlowStatsRequest {
            matching: Match::any(),
            table_id: 0xff,
            pad: Pad::default(),
            out_port: port::NONE,
        };
        ask(RequestBody::Flow(all), xid, out);
    }

    fn ask_counters(&self, xid: u32, out: &mut Vec<u8>) {
        ask(RequestBody::Port(PortStatsRequest { port_no: port::NONE, pad: Pad::default() }), xid, out);
    }

    fn add(&self, xid: u32, rule: &Rule, out: &mut Vec<u8>) {
        let actions = to_actions(rule);
        let matching = to_match(&rule.key.matching);
        send(&flow_mod(flow::command::ADD, matching, rule.key.priority, rule.cookie.0, actions), xid, out);
    }

    fn remove(&self, xid: u32, key: &RuleKey, out: &mut Vec<u8>) {
        let matching = to_match(&key.matching);
        send(&flow_mod(flow::command::DELETE_STRICT, matching, key.priority, 0, Vec::new()), xid, out);
    }

    fn packet_out(&self, xid: u32, port: PortNo, frame: &[u8], out: &mut Vec<u8>) {
        let message = Message::PacketOut(PacketOut {
            buffer_id: flow::NO_BUFFER,
            in_port: port::NONE,
            actions: vec![Action::Output { port: short(port), max_len: 0 }],
            data: Bytes(frame.to_vec()),
        });
        send(&message, xid, out);
    }

    fn set_port(&self, xid: u32, number: PortNo, mac: Mac, up: bool, out: &mut Vec<u8>) {
        let message = Message::PortMod(PortMod {
            port_no: short(number),
            hw_addr: mac,
            config: if up { 0 } else { port::CONFIG_DOWN },
            mask: port::CONFIG_DOWN,
            advertise: 0,
            pad: Pad::default(),
        });
        send(&message, xid, out);
    }

    fn barrier(&self, xid: u32, out: &mut Vec<u8>) {
        send(&Message::BarrierRequest, xid, out);
    }

    fn set_async(&self, _: u32, _: bool, _: &mut Vec<u8>) {}

    fn decode<'a>(&self, message: &'a [u8]) -> Result<Understood<'a>, DecodeError> {
        // Type numbers (OF 1.0 section 5.1) and statistics types (section 5.3.5).
        match message.get(1).copied().unwrap_or_default() {
            1 => return Ok(codec::error(message, switch::error_name)),
            PacketInView::KIND => {
                let view = PacketInView::new(message)?;
                let message = SwitchMessage::Packet { port: PortNo(view.in_port.into()), data: view.data };
                return Ok(Understood::whole(view.xid, message));
            }
            // FEATURES_REPLY, FLOW_REMOVED, PORT_STATUS, BARRIER_REPLY.
            6 | 11 | 12 | 19 => {}
            // Statistics: DESC, FLOW, PORT.
            17 if matches!(message.get(8..10), Some([0, 0 | 1 | 4])) => {}
            // VENDOR, GET_CONFIG_REPLY, other statistics, QUEUE_GET_CONFIG_REPLY.
            4 | 8 | 17 | 21 => return Ok(Understood::nothing(message)),
            kind => return Err(codec::unknown_type(kind)),
        }
        let Report { xid, message, lost } = Message::decode_report(message)?;
        let message = match message {
            Message::FeaturesReply(f) => SwitchMessage::Features {
                dpid: f.datapath_id,
                tables: 1,
                ports: Some(f.ports.iter().filter(|p| p.port_no < port::MAX).map(port_info).collect()),
            },
            Message::PortStatus(s) if s.desc.port_no < port::MAX => {
                SwitchMessage::Port(port_info(&s.desc), s.reason == port::reason::DELETE)
            }
            Message::FlowRemoved(f) => {
                let key = key(&f.matching, f.priority);
                SwitchMessage::Removed { cookie: Cookie(f.cookie), key, deleted: f.reason == 2 }
            }
            Message::StatsReply(reply) => {
                let more = reply.flags & REPLY_MORE != 0;
                match reply.body {
                    ReplyBody::Desc(d) => {
                        let texts = [d.mfr_desc.text(), d.hw_desc.text(), d.sw_desc.text()];
                        SwitchMessage::Description(escaped(texts.join(" ").trim()).to_string())
                    }
                    ReplyBody::Flow(flows) => {
                        SwitchMessage::Flows { flows: flows.iter().map(reported).collect(), more }
                    }
                    ReplyBody::Port(ports) => SwitchMessage::Counters {
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

fn reported(f: &tandem_openflow::of10::stats::FlowStats) -> Reported {
    let mut erase = Vec::new();
    send(
        &flow_mod(flow::command::DELETE_STRICT, f.matching.clone(), f.priority, 0, Vec::new()),
        0,
        &mut erase,
    );
    Reported {
        cookie: Cookie(f.cookie),
        key: key(&f.matching, f.priority),
        actions: from_actions(&f.actions),
        counters: codec::flow_counters(f.packet_count, f.byte_count, (f.duration_sec, f.duration_nsec)),
        erase,
    }
}

fn sample(p: &tandem_openflow::of10::stats::PortStats) -> PortSample {
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
        ..PortCounters::default()
    };
    PortSample { port: PortNo(p.port_no.into()), counters }
}
