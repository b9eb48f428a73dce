//! A fixed list of rules, each sent to the switch for real: is it carried out, where, or refused
//! with which error.

use crate::experiment::datapaths::testbench::Testbench;
use crate::openflow_client::{self, Refusal, apply};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};
use tandem_model::Mac;
use tandem_openflow::of13::group::Bucket;
use tandem_openflow::of13::meter::{Band, BandKind};
use tandem_openflow::of13::oxm::{Masked, VLAN_PRESENT};
use tandem_openflow::of13::{Action, Field, GroupMod, Instruction, Match, Message, MeterMod, port};
use tandem_openflow::wire::Pad;

/// Cookie of the first rule; each has its own.
const COOKIE: u64 = 1000;
/// Number of the group and of the meter.
const OWN: u32 = 7;
/// OFPP_ANY, OFPG_ANY.
const ANY: u32 = u32::MAX;
/// Commands of GROUP_MOD and METER_MOD.
const ADD: u16 = 0;
const DELETE: u16 = 2;

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// Accepted. Where it lives and why, if the agent knows: it does not look into Open vSwitch.
    Accepted(Option<String>),
    /// Refused with an OpenFlow error.
    Refused(String),
}

impl Answer {
    /// A word for a table, without the reason.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Answer::Refused(_) => "refused",
            Answer::Accepted(None) => "accepted",
            Answer::Accepted(Some(place)) if place.starts_with("software") => "software",
            Answer::Accepted(Some(_)) => "hardware",
        }
    }

    /// The rest of it.
    pub(super) fn reason(&self) -> &str {
        match self {
            Answer::Refused(why) => why,
            Answer::Accepted(place) => place.as_deref().unwrap_or_default(),
        }
    }
}

/// A rule of the list: what must be there before it, what it matches and does.
struct Rule {
    name: &'static str,
    before: Vec<Message>,
    fields: Vec<Field>,
    instructions: Vec<Instruction>,
    after: Vec<Message>,
}

fn rule(name: &'static str, fields: Vec<Field>, instructions: Vec<Instruction>) -> Rule {
    Rule { name, before: Vec::new(), fields, instructions, after: Vec::new() }
}

fn group(command: u16, buckets: Vec<Bucket>) -> Message {
    Message::GroupMod(GroupMod { command, kind: 1, pad: Pad::default(), group_id: OWN, buckets })
}

fn meter(command: u16, bands: Vec<Band>) -> Message {
    Message::MeterMod(MeterMod { command, flags: 1, meter_id: OWN, bands })
}

fn list() -> Vec<Rule> {
    let ip = || vec![Field::EthType(0x0800)];
    let to = |address: [u8; 4]| Field::Ipv4Dst(Masked::exact(Ipv4Addr::from(address)));
    let out = || Action::output(2);
    let with = |action: Action| apply(vec![action, out()]);
    let and = |mut fields: Vec<Field>, more: Vec<Field>| {
        fields.extend(more);
        fields
    };
    let bucket = |to| Bucket {
        weight: 1,
        watch_port: ANY,
        watch_group: ANY,
        pad: Pad::default(),
        actions: vec![Action::output(to)],
    };
    let dst = Mac([2, 9, 0, 0, 0, 9]);
    let mask = Masked { value: Ipv4Addr::new(10, 0, 0, 1), mask: Some(Ipv4Addr::new(255, 0, 0, 255)) };
    let six: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    vec![
        rule("IPv4 destination to a port", and(ip(), vec![to([10, 1, 0, 1])]), apply(vec![out()])),
        rule("IPv4 destination, bits of it", and(ip(), vec![Field::Ipv4Dst(mask)]), apply(vec![out()])),
        rule("Ethernet destination to a port", vec![Field::EthDst(Masked::exact(dst))], apply(vec![out()])),
        rule(
            "TCP destination port",
            and(ip(), vec![Field::IpProto(6), Field::TcpDst(80)]),
            apply(vec![out()]),
        ),
        rule(
            "IPv6 destination",
            vec![Field::EthType(0x86dd), Field::Ipv6Dst(Masked::exact(six))],
            apply(vec![out()]),
        ),
        rule(
            "ARP target address",
            vec![Field::EthType(0x0806), Field::ArpTpa(Masked::exact(Ipv4Addr::new(10, 1, 0, 2)))],
            apply(vec![out()]),
        ),
        rule(
            "to all ports (FLOOD)",
            and(ip(), vec![to([10, 1, 0, 3])]),
            apply(vec![Action::output(port::FLOOD)]),
        ),
        rule(
            "to the controller",
            and(ip(), vec![to([10, 1, 0, 4])]),
            apply(vec![Action::output(port::CONTROLLER)]),
        ),
        rule("a drop", and(ip(), vec![to([10, 1, 0, 5])]), Vec::new()),
        rule(
            "set the Ethernet destination",
            and(ip(), vec![to([10, 1, 0, 6])]),
            with(Action::SetField(Field::EthDst(Masked::exact(dst)))),
        ),
        rule(
            "set the IPv4 destination",
            and(ip(), vec![to([10, 1, 0, 7])]),
            with(Action::SetField(to([10, 2, 0, 7]))),
        ),
        rule("set the DSCP", and(ip(), vec![to([10, 1, 0, 8])]), with(Action::SetField(Field::IpDscp(46)))),
        rule("decrement the TTL", and(ip(), vec![to([10, 1, 0, 9])]), with(Action::DecNwTtl(Pad::default()))),
        rule(
            "push a VLAN tag",
            and(ip(), vec![to([10, 1, 0, 10])]),
            apply(vec![
                Action::PushVlan(0x8100, Pad::default()),
                Action::SetField(Field::VlanVid(Masked::exact(VLAN_PRESENT | 5))),
                out(),
            ]),
        ),
        rule(
            "push an MPLS label",
            and(ip(), vec![to([10, 1, 0, 11])]),
            with(Action::PushMpls(0x8847, Pad::default())),
        ),
        rule(
            "push a PBB tag",
            and(ip(), vec![to([10, 1, 0, 12])]),
            with(Action::PushPbb(0x88e7, Pad::default())),
        ),
        rule("a queue", and(ip(), vec![to([10, 1, 0, 13])]), with(Action::SetQueue(1))),
        rule(
            "a second table",
            and(ip(), vec![to([10, 1, 0, 14])]),
            vec![Instruction::GotoTable(1, Pad::default())],
        ),
        Rule {
            before: vec![group(ADD, vec![bucket(2), bucket(4)])],
            after: vec![group(DELETE, Vec::new())],
            ..rule("a select group", and(ip(), vec![to([10, 1, 0, 15])]), apply(vec![Action::Group(OWN)]))
        },
        Rule {
            before: vec![meter(
                ADD,
                vec![Band { rate: 1000, burst_size: 0, kind: BandKind::Drop(Pad::default()) }],
            )],
            after: vec![meter(DELETE, Vec::new())],
            ..rule(
                "a meter",
                and(ip(), vec![to([10, 1, 0, 16])]),
                [vec![Instruction::Meter(OWN)], apply(vec![out()])].concat(),
            )
        },
    ]
}

/// Sends each rule, sees what became of it, and takes it away again.
pub(super) fn ask_all(bench: &mut Testbench) -> anyhow::Result<Vec<(String, Answer)>> {
    let mut answers = Vec::new();
    for (cookie, rule) in (COOKIE..).zip(list()) {
        let mut messages = rule.before;
        messages.push(openflow_client::add(cookie, 300, Match { fields: rule.fields }, rule.instructions));
        let refused = bench.client.execute(&messages)?;
        let answer = match refused.first() {
            Some(refusal) => Answer::Refused(error(*refusal)),
            None => Answer::Accepted(bench.places(cookie)?.map(|places| places.join("; "))),
        };
        answers.push((rule.name.to_owned(), answer));
        bench.client.execute(&[vec![openflow_client::delete(cookie)], rule.after].concat())?;
    }
    Ok(answers)
}

/// The names of the specification (OF 1.3.5 section 7.4.4) for what such rules are refused with.
fn error(refusal: Refusal) -> String {
    let kind = match refusal.kind {
        1 => "BAD_REQUEST",
        2 => "BAD_ACTION",
        3 => "BAD_INSTRUCTION",
        4 => "BAD_MATCH",
        5 => "FLOW_MOD_FAILED",
        6 => "GROUP_MOD_FAILED",
        12 => "METER_MOD_FAILED",
        other => return format!("error type {other}, code {}", refusal.code),
    };
    let code = match (refusal.kind, refusal.code) {
        (1, 1) => "BAD_TYPE",
        (2, 0) | (4, 0) => "BAD_TYPE",
        (2, 4) => "BAD_OUT_PORT",
        (2, 5) => "BAD_ARGUMENT",
        (2, 8) => "BAD_QUEUE",
        (2, 9) => "BAD_OUT_GROUP",
        (2, 10) => "MATCH_INCONSISTENT",
        (2, 13) => "BAD_SET_TYPE",
        (3, 0) => "UNKNOWN_INST",
        (3, 1) => "UNSUP_INST",
        (3, 2) => "BAD_TABLE_ID",
        (4, 5) => "BAD_WILDCARDS",
        (4, 6) => "BAD_FIELD",
        (4, 8) => "BAD_MASK",
        (4, 9) => "BAD_PREREQ",
        (5, 1) => "TABLE_FULL",
        (5, 2) => "BAD_TABLE_ID",
        (12, 1) => "METER_EXISTS",
        (12, 11) => "OUT_OF_METERS",
        _ => return format!("{kind}, code {}", refusal.code),
    };
    format!("{kind}/{code}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_is_sound_has_a_name_of_its_own_and_survives_the_wire() {
        let mut names = BTreeSet::new();
        for rule in list() {
            let matching = Match { fields: rule.fields.clone() };
            assert_eq!(matching.check(), Ok(()), "{}", rule.name);
            let sent = openflow_client::add(1, 300, matching, rule.instructions);
            for message in rule.before.into_iter().chain(rule.after).chain([sent]) {
                let mut bytes = Vec::new();
                message.encode(1, &mut bytes).expect(rule.name);
                assert_eq!(Message::decode(&bytes).expect(rule.name), (1, message));
            }
            assert!(names.insert(rule.name), "{} is there twice", rule.name);
        }
    }

    #[test]
    fn an_answer_is_told_by_where_the_rule_lives() {
        let at = |place: &str| Answer::Accepted(Some(place.into())).word();
        assert_eq!(at("hardware row 3"), "hardware");
        assert_eq!(at("software: the card cannot do that"), "software");
        assert_eq!(Answer::Accepted(None).word(), "accepted");
        let refused = Answer::Refused(error(Refusal { kind: 2, code: 0 }));
        assert_eq!((refused.word(), refused.reason()), ("refused", "BAD_ACTION/BAD_TYPE"));
        assert_eq!(error(Refusal { kind: 12, code: 77 }), "METER_MOD_FAILED, code 77");
        assert_eq!(error(Refusal { kind: 99, code: 1 }), "error type 99, code 1");
    }
}
