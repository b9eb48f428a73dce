//! Matches and instructions are compared by meaning: a switch may report a rule in any form with
//! the same meaning, without causing a repair. And no rule sends a packet out of its input port,
//! except by OFPP_IN_PORT.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests read files")]

mod memory;

use memory::{Memory, cfg};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use tandem_model::{
    Cookie, Dpid, ETH_ARP, ETH_IPV4, ETH_LLDP, Effect, Event, Leave, Mac, Metadata, Owner, PortNo, Prefix,
    Rule, RuleAction, RuleKey, RuleMatch, Time, TxnId, VlanTag,
};
use tandem_openflow::of13::multipart::ReplyBody as Reply13;
use tandem_openflow::of13::oxm::BASIC;
use tandem_openflow::of13::{Field, Instruction, Masked};
use tandem_openflow::wire::{Bytes, Pad, Wire};
use tandem_openflow::{framing, header, of10, of13};
use tandem_switch_driver::{Driver, Output};

const VERSIONS: [u8; 2] = [header::V10, header::V13];

fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut list) = (bytes, Vec::new());
    while let Ok(Some((message, after))) = framing::next(rest) {
        rest = after;
        list.push(message.to_vec());
    }
    list
}

fn case(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/data/cases/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let text = text.trim();
    let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("hexadecimal");
    (0..text.len() / 2).map(byte).collect()
}

/// A driver and its switch, after a sync. The switch's messages pass through `distort`.
struct Pair {
    driver: Driver,
    switch: Memory,
    now: Time,
    /// Every message that the driver has sent since the sync.
    sent: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl Pair {
    fn new(version: u8, rules: Vec<Rule>) -> Pair {
        let mut out = Output::default();
        let driver = Driver::new(cfg(), "test", Time::ZERO, &mut out);
        let switch = Memory::new(version);
        let mut pair = Pair { driver, switch, now: Time::ZERO, sent: Vec::new(), events: Vec::new() };
        pair.talk(out, &|m| m);
        let mut out = Output::default();
        let sync = Effect::SyncRules { switch: Dpid(7), txn: TxnId(1), rules, leave: Leave::Nothing };
        pair.driver.execute(sync, pair.now, &mut out);
        pair.talk(out, &|m| m);
        assert_eq!(pair.switch.errors, [], "the switch takes every rule");
        pair.sent.clear();
        pair.events.clear();
        pair
    }

    fn talk(&mut self, mut out: Output, distort: &dyn Fn(Vec<u8>) -> Vec<u8>) {
        loop {
            self.events.append(&mut out.events);
            let sent = std::mem::take(&mut out.bytes);
            if sent.is_empty() {
                return;
            }
            self.sent.extend(messages(&sent));
            for message in messages(&self.switch.answer(&sent, self.now)) {
                self.driver.on_message(&distort(message), self.now, &mut out).expect("all is well");
            }
        }
    }

    fn apply(&mut self, txn: u64, add: Vec<Rule>, remove: Vec<RuleKey>) {
        let mut out = Output::default();
        let apply = Effect::ApplyRules { switch: Dpid(7), txn: TxnId(txn), add, remove };
        self.driver.execute(apply, self.now, &mut out);
        self.talk(out, &|m| m);
    }

    /// Advances the time to the driver's next deadline.
    fn wait(&mut self, distort: &dyn Fn(Vec<u8>) -> Vec<u8>) {
        self.now = self.driver.next_deadline();
        let mut out = Output::default();
        self.driver.on_deadline(self.now, &mut out).expect("all is well");
        self.talk(out, distort);
    }

    /// Number of messages that change flows.
    fn mods(&self) -> usize {
        self.sent.iter().filter(|m| m[1] == 14).count()
    }
}

fn rule(priority: u16, matching: RuleMatch, actions: &[RuleAction]) -> Rule {
    let key = RuleKey { table: 0, priority, matching };
    Rule { key, actions: actions.to_vec(), cookie: Cookie::new(Owner::Vm(priority.into()), 3) }
}

fn prefix(address: u32, bits: u8) -> Prefix {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    Prefix::new(Ipv4Addr::from(address & mask), bits).expect("a prefix")
}

/// Matches of every kind, also with conditions without their prerequisite.
fn matching() -> impl Strategy<Value = RuleMatch> {
    use prop::option::of;
    let mac = || any::<[u8; 6]>().prop_map(Mac);
    let net = || (any::<u32>(), 0u8..=32).prop_map(|(a, b)| prefix(a, b));
    let kind = prop::sample::select(vec![ETH_IPV4, ETH_IPV4, ETH_IPV4, ETH_ARP, ETH_LLDP, 0x86dd]);
    let vlan = prop::sample::select(vec![VlanTag::NoVlan, VlanTag::Untagged, VlanTag::Priority]);
    let layer2 = (of((1u32..9).prop_map(PortNo)), of(mac()), of(mac()), of(kind), of(vlan));
    let proto = prop::sample::select(vec![1u8, 6, 17, 47]);
    let layer3 = (of(net()), of(net()), of(0u8..64), of(proto), of(any::<u16>()), of(any::<u16>()));
    (layer2, layer3).prop_map(|((in_port, eth_src, eth_dst, eth_type, vlan), layer3)| {
        let (ip_src, ip_dst, ip_dscp, ip_proto, l4_src, l4_dst) = layer3;
        let layer2 = RuleMatch { in_port, eth_src, eth_dst, eth_type, vlan, ..RuleMatch::default() };
        RuleMatch { ip_src, ip_dst, ip_dscp, ip_proto, l4_src, l4_dst, ..layer2 }
    })
}

/// Bits of metadata: few of them or all, perhaps none.
fn metadata() -> impl Strategy<Value = Metadata> {
    let mask = prop::sample::select(vec![0, 0xff, 0xffff_ff00_0000, u64::MAX]);
    (any::<u64>(), mask).prop_map(|(value, mask)| Metadata::new(value, mask))
}

fn actions() -> impl Strategy<Value = Vec<RuleAction>> {
    let port = || (1u32..9).prop_map(PortNo);
    let action = prop_oneof![
        port().prop_map(RuleAction::Output),
        Just(RuleAction::Hairpin),
        Just(RuleAction::Controller),
        (port(), 0u32..4).prop_map(|(port, queue)| RuleAction::Enqueue { port, queue }),
        (0u8..64).prop_map(RuleAction::SetDscp),
        any::<[u8; 6]>().prop_map(|m| RuleAction::SetEthDst(Mac(m))),
    ];
    prop::collection::vec(action, 0..4)
}

/// Rules for a switch with several tables: metadata, matched and written, and the next table.
fn with_tables(rules: Vec<Rule>, more: Vec<(Option<Metadata>, Option<Metadata>, bool)>) -> Vec<Rule> {
    let add =
        |(mut rule, (matched, written, goes_on)): (Rule, (Option<Metadata>, Option<Metadata>, bool))| {
            rule.key.matching.metadata = matched;
            rule.actions.extend(written.map(RuleAction::WriteMetadata));
            rule.actions.extend(goes_on.then_some(RuleAction::Goto(1)));
            rule
        };
    rules.into_iter().zip(more.into_iter().cycle()).map(add).collect()
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec((matching(), actions()), 1..12).prop_map(|list| {
        let rules = (1u16..).zip(list).map(|(n, (m, a))| {
            // A strict switch requires IP for a match on the type of service.
            let is_ip = m.eth_type == Some(ETH_IPV4);
            let actions: Vec<_> =
                a.into_iter().filter(|a| is_ip || !matches!(a, RuleAction::SetDscp(_))).collect();
            rule(n, m, &actions)
        });
        rules.collect()
    })
}

/// A stream of bits from a seed that decides how the switch rewords each flow.
struct Liberties(u64);

impl Liberties {
    fn next(&mut self) -> u64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn take(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// Changes a 1.0 flow into another form with the same meaning (OF 1.0 section 3.4).
fn other_form10(flow: &mut of10::stats::FlowStats, take: &mut Liberties) {
    use of10::matching::wildcard as w;
    let m = &mut flow.matching;
    let has = |bit: u32| m.wildcards & bit == 0;
    let is_ip = has(w::DL_TYPE) && m.dl_type == ETH_IPV4;
    let is_arp = has(w::DL_TYPE) && m.dl_type == ETH_ARP;
    let has_ports = is_ip && has(w::NW_PROTO) && matches!(m.nw_proto, 1 | 6 | 17);
    let m_vlan = has(w::DL_VLAN).then_some(m.dl_vlan);
    let noise = take.next();
    let mut fill = |is_free: bool, bit: u32| {
        // Writes a value that does not count, and clears a wildcard bit of a field without its
        // prerequisite.
        if is_free && take.take() {
            m.wildcards &= !bit;
        }
        is_free
    };
    let any_of_ip = !is_ip && !is_arp;
    if fill(!is_ip, w::NW_TOS) {
        m.nw_tos = noise as u8;
    } else {
        m.nw_tos |= noise as u8 & 3;
    }
    if fill(any_of_ip, w::NW_PROTO) {
        m.nw_proto = (noise >> 8) as u8;
    }
    if fill(!has_ports, w::TP_SRC) {
        m.tp_src = (noise >> 16) as u16;
    }
    if fill(!has_ports, w::TP_DST) {
        m.tp_dst = (noise >> 32) as u16;
    }
    // A priority without a VLAN, in a match on untagged packets.
    if fill(m_vlan.is_none_or(|v| v == of10::matching::VLAN_NONE), w::DL_VLAN_PCP) {
        m.dl_vlan_pcp = noise as u8 & 7;
    }
    for (shift, is_src) in [(w::NW_SRC_SHIFT, true), (w::NW_DST_SHIFT, false)] {
        let wild = (m.wildcards >> shift & 0x3f).min(32);
        let host = if wild == 32 { u32::MAX } else { (1 << wild) - 1 };
        let address = if is_src { &mut m.nw_src } else { &mut m.nw_dst };
        *address = (address.to_bits() | (noise as u32 & host)).into();
        let bits = match wild {
            _ if any_of_ip => (noise >> 40) as u32 & 0x3f,
            32 => 32 + ((noise >> 48) as u32 & 31),
            bits => bits,
        };
        m.wildcards = m.wildcards & !(0x3f << shift) | bits << shift;
    }
    if m.wildcards & w::IN_PORT != 0 {
        m.in_port = noise as u16;
    }
    if m.wildcards & w::DL_SRC != 0 {
        m.dl_src = Mac([noise as u8; 6]);
    }
    if m.wildcards & w::DL_TYPE != 0 {
        m.dl_type = [ETH_IPV4, ETH_ARP, 0][noise as usize % 3];
    }
    if m_vlan.is_none() {
        m.dl_vlan = noise as u16;
    }
    m.pad1 = Pad([noise as u8]);
    flow.pad2 = Pad([noise as u8; 6]);
    flow.duration_sec = noise as u32;
    for action in &mut flow.actions {
        if let of10::Action::Output { max_len, .. } = action {
            *max_len = noise as u16;
        }
    }
}

/// A field with a mask of all ones, or the field itself if it cannot have a mask.
fn masked(field: &Field) -> Field {
    let mut bytes = Vec::new();
    field.write(&mut bytes);
    let (_, number, has_mask) = field.id();
    let value = &bytes[4..];
    if has_mask {
        return field.clone();
    }
    let body = Bytes([value, &vec![0xff; value.len()]].concat());
    Field::Other { class: BASIC, number, has_mask: true, body }
}

/// Changes a 1.3 flow into another form with the same meaning (OF 1.3.5 sections 5.9, 7.2.3.5,
/// 7.2.3.6).
fn other_form13(flow: &mut of13::stats::FlowStats, take: &mut Liberties) {
    let fields = &mut flow.matching.fields;
    for field in fields.iter_mut() {
        if take.take() {
            *field = masked(field);
        }
        // Sets bits of a value outside of its mask.
        if let Field::Metadata(Masked { value, mask: Some(mask) }) = field.clone() {
            let body = [(value | take.next() & !mask).to_be_bytes(), mask.to_be_bytes()].concat();
            *field = Field::Other { class: BASIC, number: 2, has_mask: true, body: Bytes(body) };
        }
        if let Field::Ipv4Dst(Masked { value, mask: Some(mask) })
        | Field::Ipv4Src(Masked { value, mask: Some(mask) }) = field.clone()
        {
            let (_, number, _) = field.id();
            let value = value.to_bits() | (take.next() as u32 & !mask.to_bits());
            let body = Bytes([value.to_be_bytes(), mask.octets()].concat());
            *field = Field::Other { class: BASIC, number, has_mask: true, body };
        }
    }
    if take.take() {
        fields.push(Field::Metadata(Masked { value: 0, mask: Some(0) }));
    }
    if take.take() && !fields.iter().any(|f| f.id().1 == 4) {
        let body = Bytes([[take.next() as u8; 6], [0; 6]].concat());
        fields.push(Field::Other { class: BASIC, number: 4, has_mask: true, body });
    }
    if take.take() {
        fields.reverse();
    }
    if take.take() && !fields.is_empty() {
        fields.push(fields[0].clone());
    }
    for instruction in &mut flow.instructions {
        if let Instruction::WriteMetadata { pad, metadata, mask } = instruction {
            *pad = Pad([take.next() as u8; 4]);
            *metadata |= take.next() & !*mask;
        }
        let Instruction::ApplyActions(pad, actions) = instruction else { continue };
        *pad = Pad([take.next() as u8; 4]);
        for action in actions {
            match action {
                of13::Action::Output { max_len, pad, .. } => {
                    *max_len = take.next() as u16;
                    *pad = Pad([take.next() as u8; 6]);
                }
                of13::Action::SetField(field) if take.take() => *field = masked(field),
                _ => {}
            }
        }
    }
    if flow.instructions.is_empty() && take.take() {
        flow.instructions.push(Instruction::ApplyActions(Pad::default(), Vec::new()));
    }
    if take.take() {
        flow.instructions.push(Instruction::WriteActions(Pad::default(), Vec::new()));
    }
    if take.take() {
        flow.instructions.push(Instruction::WriteMetadata { pad: Pad([7; 4]), metadata: 9, mask: 0 });
    }
    if take.take() {
        flow.instructions.reverse();
    }
    flow.pad2 = Pad([take.next() as u8; 4]);
}

/// The message with its flows in another form, chosen by `seed`.
fn in_another_form(message: Vec<u8>, seed: u64) -> Vec<u8> {
    let mut take = Liberties(seed | 1);
    let mut out = Vec::new();
    if message[0] == header::V10 {
        let Ok((xid, of10::Message::StatsReply(mut reply))) = of10::Message::decode(&message) else {
            return message;
        };
        let of10::stats::ReplyBody::Flow(flows) = &mut reply.body else { return message };
        flows.iter_mut().for_each(|f| other_form10(f, &mut take));
        of10::Message::StatsReply(reply).encode(xid, &mut out).expect("short");
    } else {
        let Ok((xid, of13::Message::MultipartReply(mut reply))) = of13::Message::decode(&message) else {
            return message;
        };
        let Reply13::Flow(flows) = &mut reply.body else { return message };
        flows.iter_mut().for_each(|f| other_form13(f, &mut take));
        of13::Message::MultipartReply(reply).encode(xid, &mut out).expect("short");
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// No form of the rules with the same meaning causes a repair.
    #[test]
    fn another_form_of_the_same_is_no_fault(
        rules in rules(),
        tables in prop::collection::vec((prop::option::of(metadata()), prop::option::of(metadata()), any::<bool>()), 1..4),
        is_13 in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let rules = if is_13 { with_tables(rules, tables) } else { rules };
        let mut pair = Pair::new(if is_13 { header::V13 } else { header::V10 }, rules);
        for round in 0..3u64 {
            pair.wait(&|m| in_another_form(m, seed.wrapping_add(round)));
        }
        let is_read = |e: &Event| matches!(e, Event::Samples { flows, .. } if !flows.is_empty());
        prop_assert!(pair.events.iter().any(is_read));
        prop_assert_eq!(pair.mods(), 0, "{:?}", pair.events);
        // The same in a sync, as after a reconnection.
        pair.wait(&|m| m);
        prop_assert_eq!(pair.mods(), 0);
    }

    /// OF 1.0 section 5.3.3, OF 1.3.5 section 7.2.5: whatever rules there are, no flow sends to the
    /// number of its own input port.
    #[test]
    fn no_flow_sends_out_of_the_port_it_matches(rules in rules(), is_13 in any::<bool>()) {
        let version = if is_13 { header::V13 } else { header::V10 };
        let mut pair = Pair::new(version, Vec::new());
        pair.apply(2, rules, Vec::new());
        for message in pair.sent.iter().filter(|m| m[1] == 14) {
            if is_13 {
                let Ok((_, of13::Message::FlowMod(m))) = of13::Message::decode(message) else { panic!() };
                let port = m.matching.fields.iter().find_map(|f| match f {
                    Field::InPort(p) => Some(*p),
                    _ => None,
                });
                for instruction in &m.instructions {
                    let Instruction::ApplyActions(_, actions) = instruction else { continue };
                    for action in actions {
                        if let of13::Action::Output { port: to, .. } = action {
                            prop_assert_ne!(Some(*to), port);
                        }
                    }
                }
            } else {
                let Ok((_, of10::Message::FlowMod(m))) = of10::Message::decode(message) else { panic!() };
                if m.matching.wildcards & of10::matching::wildcard::IN_PORT != 0 {
                    continue;
                }
                for action in &m.actions {
                    if let of10::Action::Output { port, .. } | of10::Action::Enqueue { port, .. } = action {
                        prop_assert_ne!(*port, m.matching.in_port);
                    }
                }
            }
        }
    }
}

/// `of10-flow-mod-output-to-in-port`: a message that the driver once sent. Now the rule becomes a
/// drop.
#[test]
fn a_rule_that_sends_back_is_a_drop_and_a_hairpin_says_in_port() {
    let flow_mod = |name| match of10::Message::decode(&case(name)) {
        Ok((_, of10::Message::FlowMod(m))) => m,
        other => panic!("{name}: {other:?}"),
    };
    let once = flow_mod("of10-flow-mod-output-to-in-port");
    assert_eq!(once.actions, [of10::Action::Output { port: once.matching.in_port, max_len: 0 }]);
    let queued = flow_mod("of10-flow-mod-enqueue-to-in-port");
    let in_port = queued.matching.in_port;
    assert!(matches!(queued.actions[..], [of10::Action::Enqueue { port, .. }] if port == in_port));
    let Ok((_, of13::Message::FlowMod(m))) = of13::Message::decode(&case("of13-flow-mod-output-to-in-port"))
    else {
        panic!("no FLOW_MOD")
    };
    assert_eq!(m.matching.fields[0], Field::InPort(3));
    let m = RuleMatch {
        in_port: Some(PortNo(3)),
        eth_type: Some(ETH_IPV4),
        ip_dst: Some(prefix(0x0a00_0001, 32)),
        ..RuleMatch::default()
    };
    for version in VERSIONS {
        for (actions, wanted) in [
            (vec![RuleAction::Output(PortNo(3))], 0),
            (vec![RuleAction::SetDscp(46), RuleAction::Output(PortNo(3))], 0),
            (vec![RuleAction::Enqueue { port: PortNo(3), queue: 1 }], 0),
            (vec![RuleAction::Output(PortNo(3)), RuleAction::Output(PortNo(1))], 1),
            (vec![RuleAction::Hairpin], 1),
        ] {
            let mut pair = Pair::new(version, Vec::new());
            pair.apply(2, vec![rule(5, m, &actions)], Vec::new());
            let sent = pair.sent.iter().find(|m| m[1] == 14).expect("a FLOW_MOD");
            for name in [
                "of10-flow-mod-output-to-in-port",
                "of10-flow-mod-enqueue-to-in-port",
                "of13-flow-mod-output-to-in-port",
            ] {
                assert_ne!(sent[8..], case(name)[8..], "{name} is never sent");
            }
            let count = if version == header::V10 {
                let Ok((_, of10::Message::FlowMod(m))) = of10::Message::decode(sent) else { panic!() };
                m.actions.len()
            } else {
                let Ok((_, of13::Message::FlowMod(m))) = of13::Message::decode(sent) else { panic!() };
                m.instructions.len()
            };
            assert_eq!(count, wanted, "{actions:?}");
        }
    }
}

/// `of10-flow-removed-*-normalised` are about wanted rules that another controller has deleted; the
/// flows are read again at once.
#[test]
fn a_removed_flow_is_known_in_another_form() {
    let of = |eth_type| RuleMatch { eth_type: Some(eth_type), ..RuleMatch::default() };
    let to = Some(prefix(0x0a00_0001, 32));
    let cases = [
        ("of10-flow-removed-lldp-normalised", 0x1800, of(ETH_LLDP)),
        ("of10-flow-removed-arp-normalised", 0x1801, of(ETH_ARP)),
        (
            "of10-flow-removed-gre-normalised",
            0x1802,
            RuleMatch { ip_proto: Some(47), ip_dst: to, ..of(ETH_IPV4) },
        ),
        (
            "of10-flow-removed-any-type-normalised",
            0x1803,
            RuleMatch { in_port: Some(PortNo(3)), ..RuleMatch::default() },
        ),
    ];
    for (name, priority, matching) in cases {
        let mut pair = Pair::new(header::V10, vec![rule(priority, matching, &[RuleAction::Controller])]);
        let mut out = Output::default();
        pair.driver.on_message(&case(name), pair.now, &mut out).expect("understood");
        let asked = messages(&out.bytes);
        assert!(matches!(&asked[..], [q] if q[1] == 16 && q[8..10] == [0, 1]), "{name}: {asked:x?}");
    }
}

/// `oxm-*` in flow statistics: forms of a wanted rule's match, which cause no repair.
#[test]
fn a_mask_of_all_ones_is_no_mask() {
    let ip = RuleMatch { eth_type: Some(ETH_IPV4), ..RuleMatch::default() };
    let to = |address, bits| RuleMatch { ip_dst: Some(prefix(address, bits)), ..ip };
    let any = RuleMatch::default();
    let cases = [
        ("oxm-eth-dst-mask-all-ones", RuleMatch { eth_dst: Some(Mac([2, 0, 0, 0, 0, 1])), ..any }),
        ("oxm-ipv4-dst-mask-all-ones", to(0x0a00_0001, 32)),
        ("oxm-vlan-vid-mask-all-ones", RuleMatch { vlan: Some(VlanTag::Priority), ..any }),
        ("oxm-in-port-mask-all-ones", RuleMatch { in_port: Some(PortNo(3)), ..any }),
        ("oxm-eth-dst-mask-zero", ip),
        ("oxm-ipv4-dst-bits-beside-mask", to(0x0a00_0000, 24)),
        ("oxm-order-reversed", to(0x0a00_0001, 32)),
        ("oxm-order-ports-first", RuleMatch { ip_proto: Some(6), l4_dst: Some(80), ..to(0x0a00_0001, 32) }),
        ("oxm-field-twice", ip),
    ];
    for (name, m) in cases {
        let mut pair = Pair::new(header::V13, vec![rule(5, m, &[RuleAction::Output(PortNo(1))])]);
        let reported = case(name);
        let distort = |message: Vec<u8>| {
            if message[1] != 19 || message[8..10] != [0, 1] || message.len() < 68 {
                return message;
            }
            // Two headers and 48 bytes are before the match. The match of the case replaces the
            // driver's.
            let ours = usize::from(u16::from_be_bytes([message[66], message[67]])).next_multiple_of(8);
            let mut other = [&message[..64], &reported[..], &message[64 + ours..]].concat();
            let (whole, flow) = (other.len() as u16, (other.len() - 16) as u16);
            other[2..4].copy_from_slice(&whole.to_be_bytes());
            other[16..18].copy_from_slice(&flow.to_be_bytes());
            other
        };
        for _ in 0..3 {
            pair.wait(&distort);
        }
        let is_read = |e: &Event| matches!(e, Event::Samples { flows, .. } if flows.len() == 1);
        assert!(pair.events.iter().any(is_read), "{name}");
        assert_eq!(pair.mods(), 0, "{name}: {:?}", pair.events);
    }
}

/// OF 1.0 section 3.4: a flow without wildcards is above all others, whatever its priority, and may
/// be reported with the highest; Open vSwitch reports the priority of no VLAN as not wildcarded.
#[test]
fn a_flow_without_wildcards_is_known_whatever_its_priority() {
    let exact = RuleMatch {
        in_port: Some(PortNo(2)),
        eth_src: Some(Mac([2, 0, 0, 0, 0, 1])),
        eth_dst: Some(Mac([2, 0, 0, 0, 0, 2])),
        eth_type: Some(ETH_IPV4),
        vlan: Some(VlanTag::Untagged),
        ip_src: Some(prefix(0x0a00_0001, 32)),
        ip_dst: Some(prefix(0x0a00_0002, 32)),
        ip_dscp: Some(10),
        ip_proto: Some(6),
        l4_src: Some(1000),
        l4_dst: Some(80),
        ..RuleMatch::default()
    };
    for (is_pcp_clear, priority) in [(false, None), (true, None), (true, Some(0xffff))] {
        let mut pair = Pair::new(header::V10, vec![rule(5, exact, &[RuleAction::Output(PortNo(1))])]);
        let distort = |message: Vec<u8>| {
            let Ok((xid, of10::Message::StatsReply(mut reply))) = of10::Message::decode(&message) else {
                return message;
            };
            let of10::stats::ReplyBody::Flow(flows) = &mut reply.body else { return message };
            for flow in flows {
                if is_pcp_clear {
                    flow.matching.wildcards &= !of10::matching::wildcard::DL_VLAN_PCP;
                }
                flow.priority = priority.unwrap_or(flow.priority);
            }
            let mut out = Vec::new();
            of10::Message::StatsReply(reply).encode(xid, &mut out).expect("short");
            out
        };
        for _ in 0..3 {
            pair.wait(&distort);
        }
        let is_read = |e: &Event| matches!(e, Event::Samples { flows, .. } if flows.len() == 1);
        assert!(pair.events.iter().any(is_read));
        assert_eq!(pair.mods(), 0, "{is_pcp_clear} {priority:?}: {:?}", pair.events);
    }
}

/// Two rules with different keys may mean the same to a switch: removing one leaves the other.
#[test]
fn a_removal_leaves_another_rule_of_the_same_meaning() {
    let plain = RuleMatch { eth_type: Some(ETH_IPV4), ..RuleMatch::default() };
    let all = RuleMatch { ip_dst: Some(prefix(0, 0)), l4_dst: Some(80), ..plain };
    for version in VERSIONS {
        let output = [RuleAction::Output(PortNo(1))];
        let mut pair = Pair::new(version, vec![rule(9, plain, &output)]);
        pair.apply(2, vec![rule(9, all, &output)], vec![rule(9, plain, &output).key]);
        assert_eq!(pair.switch.priorities(), [9], "the new one is still there");
        pair.wait(&|m| m);
        assert!(!pair.events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })));
        pair.apply(3, Vec::new(), vec![rule(9, all, &output).key]);
        assert_eq!(pair.switch.flows(), [], "and goes when it is taken away");
    }
}

/// A switch that reports each rule with another priority, which changes the meaning. Repairs have
/// no effect, so they are paused and reported once; when the switch reports correctly again, the
/// fault is over.
#[test]
fn a_repair_in_vain_is_put_off_and_said_once() {
    let m = RuleMatch { eth_type: Some(ETH_IPV4), ..RuleMatch::default() };
    for version in VERSIONS {
        let output = [RuleAction::Output(PortNo(1))];
        let mut pair = Pair::new(version, (1..=5).map(|n| rule(n * 10, m, &output)).collect());
        let odd = |message: Vec<u8>| {
            let mut out = Vec::new();
            if let Ok((xid, of10::Message::StatsReply(mut reply))) = of10::Message::decode(&message) {
                if let of10::stats::ReplyBody::Flow(flows) = &mut reply.body {
                    flows.iter_mut().for_each(|f| f.priority += 1);
                }
                of10::Message::StatsReply(reply).encode(xid, &mut out).expect("short");
            } else if let Ok((xid, of13::Message::MultipartReply(mut reply))) =
                of13::Message::decode(&message)
            {
                if let Reply13::Flow(flows) = &mut reply.body {
                    flows.iter_mut().for_each(|f| f.priority += 1);
                }
                of13::Message::MultipartReply(reply).encode(xid, &mut out).expect("short");
            }
            if out.is_empty() { message } else { out }
        };
        while pair.now < Time::from_secs(300) {
            pair.wait(&odd);
            assert_eq!(
                pair.switch.priorities(),
                [10, 20, 30, 40, 50],
                "nothing is deleted that was just added"
            );
        }
        let count = |pair: &Pair, f: fn(&Event) -> bool| pair.events.iter().filter(|e| f(e)).count();
        let repaired = count(&pair, |e| matches!(e, Event::RulesRepaired { .. }));
        assert!((2..=10).contains(&repaired), "{repaired} repairs in five minutes of polls every second");
        assert_eq!(count(&pair, |e| matches!(e, Event::RulesUnlike { rules: 10, .. })), 1);
        pair.events.clear();
        // Meanwhile a real fault is repaired at once.
        pair.switch.wipe(30);
        for _ in 0..200 {
            pair.wait(&|m| m);
        }
        assert_eq!(pair.switch.priorities(), [10, 20, 30, 40, 50]);
    }
}

/// Labels as groups have them: written under one mask and matched under another. Labels that differ
/// are told apart.
#[test]
fn labels_go_out_as_they_are_and_others_are_repaired() {
    let label = Metadata::new(7 << 24 | 1 << 48, (1 << 49) - 1);
    let matched = Metadata::new(7 << 24, 0xff_ffff << 24);
    let enters = RuleMatch { in_port: Some(PortNo(1)), eth_type: Some(ETH_IPV4), ..RuleMatch::default() };
    let leaves = RuleMatch { metadata: Some(matched), ..RuleMatch::default() };
    // A rule of the same priority with the label of another group.
    let like = Metadata::new(8 << 24, 0xff_ffff << 24);
    let leaves_too = RuleMatch { metadata: Some(like), ..RuleMatch::default() };
    let rules = vec![
        rule(5, enters, &[RuleAction::SetDscp(46), RuleAction::WriteMetadata(label), RuleAction::Goto(1)]),
        rule(6, leaves, &[RuleAction::Output(PortNo(2))]),
        rule(6, leaves_too, &[RuleAction::Output(PortNo(3))]),
    ];
    let mut pair = Pair::new(header::V13, Vec::new());
    pair.apply(2, rules, Vec::new());
    let sent: Vec<of13::FlowMod> = pair
        .sent
        .iter()
        .filter(|m| m[1] == 14)
        .map(|m| match of13::Message::decode(m) {
            Ok((_, of13::Message::FlowMod(m))) => m,
            other => panic!("{other:?}"),
        })
        .collect();
    // OF 1.3.5 section 5.9: metadata is written before the next table; section 7.2.4 defines both
    // as instructions.
    let (pad, metadata, mask) = (Pad::default(), 0x1_0000_0700_0000, 0x1_ffff_ffff_ffff);
    let wanted =
        [Instruction::WriteMetadata { pad, metadata, mask }, Instruction::GotoTable(1, Pad::default())];
    assert_eq!(sent[0].instructions[1..], wanted);
    let field = Field::Metadata(Masked { value: 0x700_0000, mask: Some(0xffff_ff00_0000) });
    assert_eq!(sent[1].matching.fields, [field]);
    for _ in 0..3 {
        pair.wait(&|m| m);
    }
    let is_read = |e: &Event| matches!(e, Event::Samples { flows, .. } if !flows.is_empty());
    assert!(pair.events.iter().any(is_read));
    assert!(!pair.events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })));
    // One of two similar rules is removed, and the right one.
    pair.apply(3, Vec::new(), vec![rule(6, leaves, &[]).key]);
    assert_eq!(pair.switch.priorities(), [5, 6]);
    // A label with one other bit is another label.
    let other = |message: Vec<u8>| {
        let Ok((xid, of13::Message::MultipartReply(mut reply))) = of13::Message::decode(&message) else {
            return message;
        };
        let Reply13::Flow(flows) = &mut reply.body else { return message };
        for flow in flows.iter_mut() {
            for instruction in &mut flow.instructions {
                if let Instruction::WriteMetadata { metadata, .. } = instruction {
                    *metadata ^= 1;
                }
            }
        }
        let mut out = Vec::new();
        of13::Message::MultipartReply(reply).encode(xid, &mut out).expect("short");
        out
    };
    pair.wait(&other);
    pair.wait(&|m| m);
    assert!(pair.events.iter().any(|e| matches!(e, Event::RulesRepaired { .. })), "{:?}", pair.events);
}

/// A switch that refuses metadata is reported as one without it, but only if the refused rules used
/// metadata.
#[test]
fn a_switch_that_refuses_metadata_is_told_of() {
    let error = |kind, code, about: &[u8]| {
        let data = Bytes(about[..about.len().min(64)].to_vec());
        let xid = u32::from_be_bytes([about[4], about[5], about[6], about[7]]);
        let mut bytes = Vec::new();
        let message = of13::Message::Error(of13::switch::ErrorMsg { kind, code, data });
        message.encode(xid, &mut bytes).expect("short");
        bytes
    };
    let port = RuleMatch { in_port: Some(PortNo(1)), ..RuleMatch::default() };
    let writes = [RuleAction::WriteMetadata(Metadata::new(1, 1)), RuleAction::Goto(1)];
    let matched = RuleMatch { metadata: Some(Metadata::new(1, 1)), ..RuleMatch::default() };
    // OF 1.3.5 sections 7.4.3 (BAD_INSTRUCTION), 7.4.4 (BAD_MATCH), 7.4.5
    // (FLOW_MOD_FAILED/TABLE_FULL).
    for (asked, kind, code, is_told) in [
        (rule(5, port, &writes), 3, 3, true),
        (rule(5, port, &writes), 3, 1, true),
        (rule(5, matched, &[RuleAction::Hairpin]), 4, 6, true),
        (rule(5, port, &[RuleAction::Hairpin]), 4, 6, false),
        (rule(5, port, &writes), 5, 1, false),
    ] {
        let mut pair = Pair::new(header::V13, Vec::new());
        let mut out = Output::default();
        let apply =
            Effect::ApplyRules { switch: Dpid(7), txn: TxnId(2), add: vec![asked], remove: Vec::new() };
        pair.driver.execute(apply, pair.now, &mut out);
        let sent = messages(&out.bytes);
        let about = sent.iter().find(|m| m[1] == 14).expect("a FLOW_MOD");
        pair.driver.on_message(&error(kind, code, about), pair.now, &mut out).expect("understood");
        pair.talk(out, &|m| m);
        let told: Vec<&Event> = pair
            .events
            .iter()
            .filter(|e| matches!(e, Event::MetadataRefused { .. } | Event::RulesRefused { .. }))
            .collect();
        match (&told[..], is_told) {
            ([Event::MetadataRefused { txn: TxnId(2), .. }], true)
            | ([Event::RulesRefused { txn: TxnId(2), .. }], false) => {}
            other => panic!("{kind} {code}: {other:?}"),
        }
    }
}
