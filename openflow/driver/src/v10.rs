//! OpenFlow 1.0: one table, 16-bit ports, ports in the features.

use crate::speaker::{self, Heard, Reported, Speaker, Understood, speed};
use tandem_model::{
    Cookie, ETH_IPV4, Mac, PortInfo, PortNo, PortSample, Prefix, Rule, RuleAction, RuleKey, RuleMatch,
};
use tandem_openflow::Report;
use tandem_openflow::error::DecodeError;
use tandem_openflow::of10::matching::wildcard;
use tandem_openflow::of10::stats::{FlowStatsRequest, PortStatsRequest, REPLY_MORE, ReplyBody, RequestBody};
use tandem_openflow::of10::{
    Action, FlowMod, Match, Message, PacketInView, PacketOut, PhyPort, PortMod, StatsRequest, SwitchConfig,
    flow, port, switch,
};
use tandem_openflow::wire::{Bytes, Pad};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct V10;

fn say(message: &Message, xid: u32, out: &mut Vec<u8>) {
    // Only a packet can make a message too long, and packets are at most 64 KiB less headers.
    let _ = message.encode(xid, out);
}

fn ask(body: RequestBody, xid: u32, out: &mut Vec<u8>) {
    say(&Message::StatsRequest(StatsRequest { flags: 0, body }), xid, out);
}

/// Port numbers are 16 bits; a larger one cannot be on this switch.
fn short(port: PortNo) -> u16 {
    u16::try_from(port.0).unwrap_or(port::NONE)
}

fn to_match(m: &RuleMatch) -> Match {
    let mut out = Match::any();
    let mut set = |bit: u32| out.wildcards &= !bit;
    if m.in_port.is_some() {
        set(wildcard::IN_PORT);
    }
    if m.eth_src.is_some() {
        set(wildcard::DL_SRC);
    }
    if m.eth_dst.is_some() {
        set(wildcard::DL_DST);
    }
    if m.eth_type.is_some() {
        set(wildcard::DL_TYPE);
    }
    if m.ip_proto.is_some() {
        set(wildcard::NW_PROTO);
    }
    if m.ip_dscp.is_some() {
        set(wildcard::NW_TOS);
    }
    if m.l4_src.is_some() {
        set(wildcard::TP_SRC);
    }
    if m.l4_dst.is_some() {
        set(wildcard::TP_DST);
    }
    for (prefix, shift) in [(m.ip_src, wildcard::NW_SRC_SHIFT), (m.ip_dst, wildcard::NW_DST_SHIFT)] {
        if let Some(prefix) = prefix {
            out.wildcards &= !(0x3f << shift);
            out.wildcards |= u32::from(32 - prefix.len()) << shift;
        }
    }
    Match {
        in_port: m.in_port.map_or(0, short),
        dl_src: m.eth_src.unwrap_or(out.dl_src),
        dl_dst: m.eth_dst.unwrap_or(out.dl_dst),
        dl_type: m.eth_type.unwrap_or(0),
        nw_tos: m.ip_dscp.unwrap_or(0) << 2,
        nw_proto: m.ip_proto.unwrap_or(0),
        nw_src: m.ip_src.map_or(out.nw_src, Prefix::address),
        nw_dst: m.ip_dst.map_or(out.nw_dst, Prefix::address),
        tp_src: m.l4_src.unwrap_or(0),
        tp_dst: m.l4_dst.unwrap_or(0),
        ..out
    }
}

/// `None` for a match that no rule of ours has: VLANs.
fn from_match(m: &Match) -> Option<RuleMatch> {
    let ours = wildcard::DL_VLAN | wildcard::DL_VLAN_PCP;
    if m.wildcards & ours != ours {
        return None;
    }
    let has = |bit: u32| m.wildcards & bit == 0;
    let prefix = |address, bits: u8| if bits == 0 { None } else { Prefix::new(address, bits) };
    Some(RuleMatch {
        in_port: has(wildcard::IN_PORT).then_some(PortNo(m.in_port.into())),
        eth_src: has(wildcard::DL_SRC).then_some(m.dl_src),
        eth_dst: has(wildcard::DL_DST).then_some(m.dl_dst),
        eth_type: has(wildcard::DL_TYPE).then_some(m.dl_type),
        ip_src: prefix(m.nw_src, m.nw_src_bits()).filter(|_| m.dl_type == ETH_IPV4),
        ip_dst: prefix(m.nw_dst, m.nw_dst_bits()).filter(|_| m.dl_type == ETH_IPV4),
        ip_dscp: has(wildcard::NW_TOS).then_some(m.nw_tos >> 2),
        ip_proto: has(wildcard::NW_PROTO).then_some(m.nw_proto),
        l4_src: has(wildcard::TP_SRC).then_some(m.tp_src),
        l4_dst: has(wildcard::TP_DST).then_some(m.tp_dst),
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
        // The core flattens rules for switches with one table.
        RuleAction::Goto(_) | RuleAction::SetQueue(_) => return None,
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
        name: p.name.text().into_owned(),
        mac: p.hw_addr,
        up: p.config & port::CONFIG_DOWN == 0 && p.state & port::STATE_LINK_DOWN == 0,
        speed: speed(p.curr),
    }
}

fn key(matching: &Match, priority: u16) -> Option<RuleKey> {
    from_match(matching).map(|matching| RuleKey { table: 0, priority, matching })
}

impl Speaker for V10 {
    fn version(&self) -> &'static str {
        "1.0"
    }

    fn ask_features(&self, xid: u32, out: &mut Vec<u8>) {
        say(&Message::FeaturesRequest, xid, out);
    }

    fn ask_description(&self, xid: u32, out: &mut Vec<u8>) {
        ask(RequestBody::Desc, xid, out);
    }

    fn ask_ports(&self, _: u32, _: &mut Vec<u8>) -> bool {
        false
    }

    fn configure(&self, xid: u32, out: &mut Vec<u8>) {
        say(&Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0xffff }), xid, out);
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
        let actions = rule.actions.iter().filter_map(to_action).collect();
        let matching = to_match(&rule.key.matching);
        say(&flow_mod(flow::command::ADD, matching, rule.key.priority, rule.cookie.0, actions), xid, out);
    }

    fn remove(&self, xid: u32, key: &RuleKey, out: &mut Vec<u8>) {
        let matching = to_match(&key.matching);
        say(&flow_mod(flow::command::DELETE_STRICT, matching, key.priority, 0, Vec::new()), xid, out);
    }

    fn send(&self, xid: u32, port: PortNo, frame: &[u8], out: &mut Vec<u8>) {
        let message = Message::PacketOut(PacketOut {
            buffer_id: flow::NO_BUFFER,
            in_port: port::NONE,
            actions: vec![Action::Output { port: short(port), max_len: 0 }],
            data: Bytes(frame.to_vec()),
        });
        say(&message, xid, out);
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
        say(&message, xid, out);
    }

    fn barrier(&self, xid: u32, out: &mut Vec<u8>) {
        say(&Message::BarrierRequest, xid, out);
    }

    fn hear<'a>(&self, message: &'a [u8]) -> Result<Understood<'a>, DecodeError> {
        // Type numbers (OF 1.0 section 5.1), and of statistics (section 5.3.5).
        match message.get(1).copied().unwrap_or_default() {
            1 => return Ok(speaker::error(message, switch::error_name)),
            PacketInView::KIND => {
                let view = PacketInView::new(message)?;
                let heard = Heard::Packet { port: PortNo(view.in_port.into()), data: view.data };
                return Ok(Understood::whole(view.xid, heard));
            }
            // Features, a flow that is gone, a port, a barrier.
            6 | 11 | 12 | 19 => {}
            // A description, flows, ports' counters.
            17 if matches!(message.get(8..10), Some([0, 0 | 1 | 4])) => {}
            // A vendor's message, a configuration, other statistics, queues.
            4 | 8 | 17 | 21 => return Ok(Understood::nothing(message)),
            kind => return Err(speaker::unknown_type(kind)),
        }
        let Report { xid, message, lost } = Message::decode_report(message)?;
        let heard = match message {
            Message::FeaturesReply(f) => Heard::Features {
                dpid: f.datapath_id,
                tables: 1,
                ports: Some(f.ports.iter().filter(|p| p.port_no < port::MAX).map(port_info).collect()),
            },
            Message::PortStatus(s) if s.desc.port_no < port::MAX => {
                Heard::Port(port_info(&s.desc), s.reason == port::reason::DELETE)
            }
            Message::FlowRemoved(f) => {
                let key = key(&f.matching, f.priority);
                Heard::Removed { cookie: Cookie(f.cookie), key, deleted: f.reason == 2 }
            }
            Message::StatsReply(reply) => {
                let more = reply.flags & REPLY_MORE != 0;
                match reply.body {
                    ReplyBody::Desc(d) => {
                        let texts = [d.mfr_desc.text(), d.hw_desc.text(), d.sw_desc.text()];
                        Heard::Description(texts.join(" ").trim().to_owned())
                    }
                    ReplyBody::Flow(flows) => {
                        Heard::Flows { flows: flows.iter().map(reported).collect(), more }
                    }
                    ReplyBody::Port(ports) => Heard::Counters {
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

fn reported(f: &tandem_openflow::of10::stats::FlowStats) -> Reported {
    let actions: Option<Vec<RuleAction>> = f.actions.iter().map(from_action).collect();
    let mut erase = Vec::new();
    say(
        &flow_mod(flow::command::DELETE_STRICT, f.matching.clone(), f.priority, 0, Vec::new()),
        0,
        &mut erase,
    );
    Reported {
        cookie: Cookie(f.cookie),
        key: key(&f.matching, f.priority),
        actions,
        packets: f.packet_count,
        bytes: f.byte_count,
        erase,
    }
}

fn sample(p: &tandem_openflow::of10::stats::PortStats) -> PortSample {
    PortSample {
        port: PortNo(p.port_no.into()),
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
