//! Translates a flow for the card: into rows, or into the reason why it stays in software.
//!
//! Where a card differs from the flow tables in software, and what follows:
//! - A later fragment of an IP packet has no ports in software; the card takes its first bytes as
//!   ports. So by default a flow stays in software if it matches ports, or changes addresses or
//!   ports (whose checksum is at a fixed offset of the first fragment). [`Transport::Card`] allows
//!   such flows on the card, which then matches, and may change, the payload of later fragments.
//! - The card recognises tags of type 0x8100 only. For the card, a frame with a service tag
//!   (0x88a8) is untagged and of type 0x88a8.
//! - The card reads ARP's fields for any hardware type and keeps 8 bits of the opcode; it reads
//!   IPv4's for any version and header length.
//! - A flow that matches any other field that is not in the card's key (IPv6, ARP hardware
//!   addresses, ECN, metadata ...) stays in software.
//! - An 802.3 frame with a length has the type of its SNAP header in software, or 0x05ff (OF 1.0
//!   table 4); for the card, its length is its type. A flow for a type below 0x0600 stays in
//!   software, and such a frame gets no exact entry. A flow for another type is on the card, which
//!   does not match its frames with a SNAP header: [`Rule::except`] says so.
//! - The card updates the checksum of a UDP datagram that has none. A flow that changes addresses
//!   or ports of packets that may be UDP stays in software.

use super::action::Action;
use super::entry::Row;
use super::key::{FIRST_TYPE, Field, Key, Pattern, UNTAGGED};
use super::ports::{At, CARD_PORTS, CardPorts, PortMap, cpu_queue, queue, sources};
use super::reject_reason::RejectReason;
use tandem_openflow::of13::port as reserved;
use tandem_openflow::table::{Criteria, FieldId, Instructions, Op};

/// Where rules are executed that match transport headers, or change fields under a transport
/// checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// In software, which treats later fragments correctly.
    #[default]
    Software,
    /// On the card, which treats later fragments as whole packets.
    Card,
    /// As the registers can express it, even where the card differs from a flow table: also rules
    /// for types below 0x0600, and changes of packets that may be UDP. For flows that are compiled
    /// by hand.
    Literal,
}

/// A flow's actions on the card: one change, and the queues to send to, by the ingress port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    change: Action,
    /// Queues, by ingress port.
    to: [u16; CARD_PORTS as usize],
}

impl Plan {
    /// The action for packets of one port of the card.
    pub fn action(&self, ingress: u8) -> Action {
        match self.to.get(usize::from(ingress)).copied().unwrap_or(0) {
            0 => Action::default(),
            ports => Action { ports, ..self.change },
        }
    }

    /// The same plan, unless it changes fields under a transport checksum that the card would get
    /// wrong.
    fn with_checksums(self, pattern: &Pattern, transport: Transport) -> Result<Plan, RejectReason> {
        let Action { nw_src, nw_dst, tp_src, tp_dst, .. } = self.change;
        let changes = nw_src.or(nw_dst).is_some() || tp_src.or(tp_dst).is_some();
        let may = |field: Field, value: u64| {
            (pattern.key.get(field) ^ value) & !pattern.mask.get(field) & field.full() == 0
        };
        match transport {
            Transport::Literal => Ok(self),
            _ if !changes => Ok(self),
            _ if may(Field::ETH_TYPE, 0x0800) && may(Field::IP_PROTO, 17) => Err(RejectReason::UdpChecksum),
            Transport::Software => Err(RejectReason::FragmentsChanged),
            Transport::Card => Ok(self),
        }
    }
}

/// A flow translated for the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its match without the ingress port. If the card's key lacks some of the fields, it matches
    /// more than the flow.
    pub pattern: Pattern,
    /// The card's ports that its packets may come from; none for a flow that no packet on the card
    /// matches.
    pub ingress: CardPorts,
    /// It is an OpenFlow 1.0 match without wildcards, which has the highest priority and a single
    /// key.
    pub exact: bool,
    /// Its actions, or why the card does not support them.
    pub plan: Result<Plan, RejectReason>,
    /// The part of the flow that the card does not match although it has the rest: frames that a
    /// flow table would match.
    pub except: Option<RejectReason>,
}

impl Rule {
    /// Translates a flow.
    pub fn new(
        criteria: &Criteria,
        instructions: &Instructions,
        ports: &PortMap,
        transport: Transport,
    ) -> Rule {
        let mut matched = Matched {
            rule: Rule {
                pattern: Pattern::ANY,
                ingress: ports.ingress(),
                exact: criteria.is_exact(),
                plan: Err(RejectReason::Beyond("nothing")),
                except: None,
            },
            why: None,
            tag: Tag::Unknown,
        };
        matched.read(criteria, ports, transport);
        let Matched { mut rule, why, tag } = matched;
        rule.plan = match why {
            Some(RejectReason::FromOutside(from)) if !ports.cpu_ports && into_card(instructions, ports) => {
                Err(RejectReason::NoSoftware(Box::new(RejectReason::IntoCard { from })))
            }
            Some(why) => Err(why),
            None => {
                let kind = (rule.pattern.mask.get(Field::ETH_TYPE) == 0)
                    .then(|| rule.pattern.key.get(Field::ETH_TYPE));
                plan(instructions, rule.ingress, (tag, kind), ports)
                    .and_then(|plan| plan.with_checksums(&rule.pattern, transport))
            }
        };
        let typed = rule.pattern.mask.get(Field::ETH_TYPE) != Field::ETH_TYPE.full();
        rule.except = (typed && rule.plan.is_ok()).then_some(RejectReason::Snap);
        rule
    }

    /// The rows of the flow, whose order has to be kept.
    ///
    /// With the reason why the card does not support it.
    pub fn rows(&self) -> Result<Vec<Row>, RejectReason> {
        let plan = self.plan.as_ref().map_err(Clone::clone)?;
        // Ports with the same action share rows. A later group may cover the ports of an earlier
        // one, whose rows match first.
        let mut groups: Vec<(CardPorts, Action)> = Vec::with_capacity(CARD_PORTS.into());
        for n in self.ingress.iter() {
            let action = plan.action(n);
            match groups.iter_mut().find(|(_, a)| *a == action) {
                Some((ports, _)) => ports.0 |= 1 << n,
                None => groups.push((CardPorts::one(n), action)),
            }
        }
        groups.sort_by_key(|(ports, _)| ports.len());
        let mut before = CardPorts(0);
        let mut rows = Vec::with_capacity(groups.len());
        for (ports, action) in groups {
            before.0 |= ports.0;
            rows.extend(sources(ports, before).map(|source| self.row(source, action)));
        }
        Ok(rows)
    }

    /// Rows that send its packets to software, each by the CPU queue of its ingress port.
    pub fn punts(&self) -> impl Iterator<Item = Row> {
        self.ingress.iter().map(|n| self.row((queue(n).into(), 0xff), Action::to(1 << cpu_queue(n))))
    }

    /// The single key of an OpenFlow 1.0 match without wildcards, and the card's port.
    pub fn key(&self) -> Option<(Key, u8)> {
        let ingress = self.ingress.iter().next().filter(|_| self.exact && self.ingress.len() == 1)?;
        let mut key = self.pattern.key;
        key.set(Field::SOURCE, queue(ingress).into());
        Some((key, ingress))
    }

    /// Whether some packet on the card may match both, by the fields in the key.
    pub fn overlaps(&self, other: &Rule) -> bool {
        self.ingress.0 & other.ingress.0 != 0 && self.pattern.overlaps(&other.pattern)
    }

    fn row(&self, (value, look): (u64, u64), action: Action) -> Row {
        Row { pattern: self.pattern.with(Field::SOURCE, value, look), action }
    }
}

/// What the match says about a packet's VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Unknown,
    Without,
    With,
}

struct Matched {
    rule: Rule,
    why: Option<RejectReason>,
    tag: Tag,
}

impl Matched {
    /// Records the first reason against rows; a condition that the pattern lacks makes it match
    /// more.
    fn blame(&mut self, why: RejectReason) {
        self.why.get_or_insert(why);
    }

    fn read(&mut self, criteria: &Criteria, ports: &PortMap, transport: Transport) {
        use FieldId as F;
        let exactly = |wanted: F, width: u32| {
            let full = (1u128 << width) - 1;
            let found = criteria.fields().find(|(f, ..)| *f == wanted);
            found.filter(|(.., mask)| mask & full == full).map(|(_, value, _)| value)
        };
        let kind = exactly(F::EthType, 16);
        let protocol = exactly(F::IpProto, 8).filter(|_| kind == Some(0x0800));
        for (field, value, mask) in criteria.fields() {
            let needs = |needs| RejectReason::Needs { field, needs };
            let (v, m) = (value as u64, mask as u64);
            match field {
                F::InPort => self.in_port(v, m, ports),
                // The card has no logical ports, so that both fields are equal.
                F::InPhyPort => self.in_port(v, m, ports),
                F::EthDst => self.rule.pattern.put(Field::ETH_DST, v, m),
                F::EthSrc => self.rule.pattern.put(Field::ETH_SRC, v, m),
                // The card takes the length as a type. A condition that its key lacks is left out
                // of the pattern, which then matches more.
                F::EthType if v < u64::from(FIRST_TYPE) && transport != Transport::Literal => {
                    self.blame(RejectReason::Length);
                }
                F::EthType => self.rule.pattern.put(Field::ETH_TYPE, v, m),
                F::VlanVid => self.vlan_id(v, m),
                F::VlanPcp => self.vlan_priority(v, m),
                F::IpDscp | F::IpProto | F::Ipv4Src | F::Ipv4Dst if kind != Some(0x0800) => {
                    self.blame(needs("eth_type 0x0800"));
                }
                F::IpDscp => self.rule.pattern.put(Field::IP_TOS, v << 2, (m & 0x3f) << 2),
                F::IpProto => self.rule.pattern.put(Field::IP_PROTO, v, m),
                F::Ipv4Src => self.rule.pattern.put(Field::IP_SRC, v, m),
                F::Ipv4Dst => self.rule.pattern.put(Field::IP_DST, v, m),
                F::ArpOp | F::ArpSpa | F::ArpTpa if kind != Some(0x0806) => {
                    self.blame(needs("eth_type 0x0806"));
                }
                F::ArpOp => {
                    self.rule.pattern.put(Field::IP_PROTO, v, m);
                    if m & 0xff00 != 0 && v & 0xff00 != 0 {
                        self.blame(RejectReason::Field(field));
                    }
                }
                F::ArpSpa => self.rule.pattern.put(Field::IP_SRC, v, m),
                F::ArpTpa => self.rule.pattern.put(Field::IP_DST, v, m),
                F::L4Src | F::L4Dst | F::IcmpType | F::IcmpCode => {
                    self.transport_field(field, (v, m), protocol, transport);
                }
                // Both are 0 in every received packet.
                F::Metadata | F::TunnelId if value & mask == 0 => {}
                F::Metadata | F::TunnelId => self.rule.ingress = CardPorts(0),
                _ => self.blame(RejectReason::Field(field)),
            }
        }
        self.complete_exact_key();
    }

    /// Completes the key of a rule that is still exact.
    fn complete_exact_key(&mut self) {
        // Whatever the reason against rows, an exact rule needs its complete key.
        self.rule.exact &= matches!(self.why, None | Some(RejectReason::Fragments(_)));
        if self.rule.exact {
            // Fields without a condition in an exact match are not in its packets: they are zero in
            // the key.
            for (_, field) in Field::ALL.iter().filter(|(_, f)| *f != Field::SOURCE) {
                let look = self.rule.pattern.mask.get(*field);
                self.rule.pattern.put(*field, 0, look);
            }
            if self.tag == Tag::Without {
                self.rule.pattern.put(Field::VLAN, UNTAGGED.into(), 0xffff);
            }
        }
    }

    /// Translates a port of TCP or UDP, or the type or code of ICMP: the card's key has the latter
    /// in the ports' places.
    fn transport_field(
        &mut self,
        field: FieldId,
        (value, mask): (u64, u64),
        protocol: Option<u128>,
        transport: Transport,
    ) {
        let (right, width, at) = match field {
            FieldId::L4Src => (matches!(protocol, Some(6 | 17)), 0xffff, Field::TP_SRC),
            FieldId::L4Dst => (matches!(protocol, Some(6 | 17)), 0xffff, Field::TP_DST),
            FieldId::IcmpType => (protocol == Some(1), 0xff, Field::TP_SRC),
            _ => (protocol == Some(1), 0xff, Field::TP_DST),
        };
        if !right {
            return self.blame(RejectReason::Needs { field, needs: "the ip_proto of TCP, UDP or ICMP" });
        }
        self.rule.pattern.put(at, value, mask & width);
        if transport == Transport::Software {
            self.blame(RejectReason::Fragments(field));
        }
    }

    fn in_port(&mut self, value: u64, mask: u64, ports: &PortMap) {
        let wanted = |number: u32| u64::from(number) & mask == value;
        let taken = (0..CARD_PORTS).filter(|n| ports.number(*n).is_some_and(wanted));
        let taken = taken.fold(0, |set, n| set | 1 << n);
        self.rule.ingress.0 &= taken;
        if self.rule.ingress.is_empty() {
            let number = value as u32;
            let known = ports.get(number).is_some_and(|p| matches!(p.at, At::Card(_)));
            self.blame(if known {
                RejectReason::NotReceived(number)
            } else {
                RejectReason::FromOutside(number)
            });
        }
    }

    /// Translates VLAN_PCP. Only a tagged packet has a priority; bit 12 is the tag's presence.
    fn vlan_priority(&mut self, value: u64, mask: u64) {
        self.rule.pattern.put(Field::VLAN, value << 13, (mask & 7) << 13 | 0x1000);
        if self.tag == Tag::Without {
            self.rule.ingress = CardPorts(0);
        }
        self.tag = Tag::With;
    }

    /// Translates VLAN_VID: 0 without a tag, 0x1000 and the id with one. In the card's key bit 12
    /// is inverted, and an untagged packet has all ones.
    fn vlan_id(&mut self, value: u64, mask: u64) {
        let id = mask & 0xfff;
        match (mask & 0x1000 != 0, value & 0x1000 != 0) {
            (true, true) => {
                self.rule.pattern.put(Field::VLAN, value & id, id | 0x1000);
                self.tag = Tag::With;
            }
            (true, false) if value & id == 0 => {
                self.rule.pattern.put(Field::VLAN, UNTAGGED.into(), 0xffff);
                self.tag = Tag::Without;
            }
            // An id without a tag matches no packet.
            (true, false) => self.rule.ingress = CardPorts(0),
            // The condition is only that the field exists.
            (false, _) if id == 0 => {}
            (false, _) if value & id != 0 => {
                self.rule.pattern.put(Field::VLAN, value & id, id | 0x1000);
                self.tag = Tag::With;
            }
            // Untagged packets, and tagged ones with these bits zero.
            (false, _) => self.blame(RejectReason::Field(FieldId::VlanVid)),
        }
    }
}

/// The actions, by the ingress port of a packet.
fn plan(
    instructions: &Instructions,
    ingress: CardPorts,
    (mut tag, kind): (Tag, Option<u64>),
    ports: &PortMap,
) -> Result<Plan, RejectReason> {
    if instructions.goto.is_some() {
        return Err(RejectReason::Beyond("another table"));
    }
    if instructions.meter.is_some() {
        return Err(RejectReason::Beyond("a meter"));
    }
    let mut plan = Plan { change: Action::default(), to: [0; CARD_PORTS as usize] };
    let mut set = instructions.write.clone();
    set.sort_by_key(|op| match op {
        Op::PopVlan => 0,
        Op::PushVlan(_) => 1,
        Op::DecTtl => 2,
        Op::SetQueue(_) => 4,
        Op::Output(_) | Op::Controller(_) | Op::Group(_) => 6,
        _ => 3,
    });
    let ops = instructions.apply.iter().chain(&set).copied();
    // Changes behind the last output have no effect.
    let last = ops.clone().enumerate().filter(|(_, op)| sends(*op)).map(|(at, _)| at).last();
    let mut sent = false;
    for op in ops.take(last.map_or(0, |at| at + 1)) {
        if let Op::Output(port) = op {
            output(&mut plan, port, ingress, ports)?;
            sent = true;
            continue;
        }
        if let Op::SetQueue(queue) = op {
            if queue != 0 {
                return Err(RejectReason::Queue(queue));
            }
            continue;
        }
        if sent {
            return Err(RejectReason::Between);
        }
        modify(&mut plan.change, op, &mut tag, kind)?;
    }
    Ok(plan)
}

/// Adds a modification of packets of an Ethernet type to the action.
fn modify(change: &mut Action, op: Op, tag: &mut Tag, kind: Option<u64>) -> Result<(), RejectReason> {
    match op {
        Op::SetEthDst(mac) => change.dl_dst = Some(mac),
        Op::SetEthSrc(mac) => change.dl_src = Some(mac),
        Op::SetVlanVid(_) | Op::SetVlanPcp(_) if change.strip => return Err(RejectReason::Retag),
        Op::SetVlanVid(id) => {
            change.vid = Some(id & 0xfff);
            *tag = Tag::With;
        }
        Op::SetVlanPcp(pcp) => {
            change.pcp = Some(pcp & 7);
            *tag = Tag::With;
        }
        Op::PushVlan(0x8100) if *tag == Tag::Without && !change.strip => {
            change.vid = Some(0);
            *tag = Tag::With;
        }
        Op::PushVlan(_) => return Err(RejectReason::Push),
        Op::Controller(_) => return Err(RejectReason::Reserved("the controller")),
        // A second pop would remove an inner tag.
        Op::PopVlan if change.strip => return Err(RejectReason::Retag),
        Op::PopVlan => (change.strip, change.vid, change.pcp) = (true, None, None),
        Op::SetIpv4Src(address) => change.nw_src = Some(address),
        Op::SetIpv4Dst(address) => change.nw_dst = Some(address),
        Op::SetDscp(_) if matches!(kind, None | Some(0x86dd)) => return Err(RejectReason::Ipv6Changed),
        Op::SetDscp(dscp) => change.tos = Some((dscp & 0x3f) << 2),
        // Software would change the ports of IPv6 too.
        Op::SetL4Src(_) | Op::SetL4Dst(_) if matches!(kind, None | Some(0x86dd)) => {
            return Err(RejectReason::Ipv6PortsChanged);
        }
        Op::SetL4Src(port) => change.tp_src = Some(port),
        Op::SetL4Dst(port) => change.tp_dst = Some(port),
        other => return Err(RejectReason::Action(format!("{other:?}"))),
    }
    Ok(())
}

/// Whether it is an output.
fn sends(op: Op) -> bool {
    matches!(op, Op::Output(_) | Op::Controller(_) | Op::Group(_))
}

/// Whether some packet may be sent to a port of the card.
fn into_card(instructions: &Instructions, ports: &PortMap) -> bool {
    let ops = instructions.apply.iter().chain(&instructions.write);
    let card = |number: u32| ports.get(number).is_some_and(|p| matches!(p.at, At::Card(_)));
    ops.into_iter().any(|op| match *op {
        Op::Output(reserved::FLOOD | reserved::ALL) | Op::Group(_) => true,
        Op::Output(number) => card(number),
        _ => false,
    })
}

/// Adds an output port to the queues of each ingress port. A packet is not sent to its ingress
/// port, except by OFPP_IN_PORT (OF 1.0 section 5.2.1).
fn output(plan: &mut Plan, port: u32, ingress: CardPorts, ports: &PortMap) -> Result<(), RejectReason> {
    let mut add = |from: u8, number: u32, to: u8| {
        let bit = 1 << queue(to);
        let queues = &mut plan.to[usize::from(from)];
        if *queues & bit != 0 {
            return Err(RejectReason::Twice(number));
        }
        *queues |= bit;
        Ok(())
    };
    match port {
        reserved::IN_PORT => {
            for from in ingress.iter() {
                let number = ports.number(from).unwrap_or_default();
                if ports.get(number).is_some_and(|p| p.forward) {
                    add(from, number, from)?;
                }
            }
        }
        reserved::FLOOD | reserved::ALL => {
            for to in ports.iter().filter(|p| p.forward && (p.flood || port == reserved::ALL)) {
                let At::Card(n) = to.at else { return Err(RejectReason::Outside(to.number)) };
                for from in ingress.iter().filter(|from| *from != n) {
                    add(from, to.number, n)?;
                }
            }
        }
        reserved::CONTROLLER => return Err(RejectReason::Reserved("the controller")),
        reserved::LOCAL => return Err(RejectReason::Reserved("the switch itself (LOCAL)")),
        reserved::NORMAL => return Err(RejectReason::Reserved("NORMAL")),
        reserved::TABLE => return Err(RejectReason::Reserved("TABLE")),
        number => {
            let to = ports.get(number).ok_or(RejectReason::Outside(number))?;
            let At::Card(n) = to.at else { return Err(RejectReason::Outside(number)) };
            if to.forward {
                for from in ingress.iter().filter(|from| *from != n) {
                    add(from, number, n)?;
                }
            }
        }
    }
    Ok(())
}
