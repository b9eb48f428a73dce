//! Matches and instructions are compared by meaning: a switch may report a rule in any form with
//! the same meaning, without causing a repair. And no rule sends a packet out of its input port,
//! except by OFPP_IN_PORT.

mod cases;
mod forms;
#[path = "../memory/mod.rs"]
mod memory;

use forms::in_another_form;
use memory::{Memory, cfg, messages};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use tandem_model::{
    Cookie, Dpid, ETH_ARP, ETH_IPV4, ETH_LLDP, Effect, Event, Leave, Mac, Metadata, Owner, PortNo, Prefix,
    Rule, RuleAction, RuleKey, RuleMatch, Time, TxnId, VlanTag,
};
use tandem_openflow::of13::{Field, Instruction};
use tandem_openflow::{header, of10, of13};
use tandem_switch_driver::{Driver, Output};

const VERSIONS: [u8; 2] = [header::V10, header::V13];

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
