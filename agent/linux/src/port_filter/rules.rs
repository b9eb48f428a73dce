//! The rules in nftables' bridge family: one table per namespace, with the same rules for every
//! port, and sets that hold the guests' addresses.
//!
//! ```text
//! from_port (prerouting, drop)   uplink: accept
//!                                port . source address known -> known
//!   known    8021Q -> tagged     IPv4 -> ipv4     ARP -> arp
//!   tagged   VID 0 -> inner, by the type behind the tag
//!   ipv4     version 4 and port . source known -> own;  DHCP client without an address: accept
//!   own      later fragment: accept;  not UDP: accept;  UDP from another port than 67: accept
//!   arp      Ethernet and IPv4, port . sender known -> sender;  sender: port . address known, or a probe: accept
//! to_host   (input, drop)        uplink: accept
//! to_port   (postrouting, drop)  uplink: accept;  port . destination known: accept;  broadcast: accept
//! ```
//!
//! Each rule accepts some packets, and all others are dropped: packets too short for a rule to
//! read, unexpected Ethernet types, ports that were not announced. Rules compare interface numbers,
//! so that a port can be announced before it exists.

use super::wire::{Attributes, Batch, Message};
use super::{Error, Port};

/// The table's name. Other tables filter independently of it.
const TABLE: &str = "tandem";
const UPLINKS: &str = "uplinks";
const MACS: &str = "macs";
const ADDRESSES: &str = "addresses";

// linux/netfilter_bridge.h: hooks, and the priority of filters.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const POSTROUTING: u32 = 4;
const FILTER: i32 = -200;

// linux/netfilter.h: verdicts; linux/netfilter/nf_tables.h: NFT_GOTO.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const GOTO: u32 = -4i32 as u32;

// Registers of four bytes (NFT_REG32_00 and the next one), and that of verdicts.
const FIRST: u32 = 8;
const SECOND: u32 = 9;
const VERDICT: u32 = 0;

/// What a payload's offset is relative to (NFT_PAYLOAD_LL_HEADER and the following).
#[derive(Debug, Clone, Copy)]
enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// The input or output interface of a packet (NFT_META_IIF, NFT_META_OIF).
#[derive(Debug, Clone, Copy)]
enum Way {
    In = 4,
    Out = 5,
}

/// NFT_META_PROTOCOL: the type behind a tag that the kernel has removed.
const PROTOCOL: u32 = 1;

#[derive(Debug, Clone, Copy)]
enum Then<'a> {
    Accept,
    Goto(&'a str),
}

/// A rule under construction: its conditions, in order.
#[derive(Debug, Clone, Default)]
struct Rule(Attributes);

fn data(kind: u16, value: &[u8]) -> Attributes {
    Attributes::default().nest(kind, Attributes::default().bytes(1, value))
}

impl Rule {
    fn expression(self, name: &str, inner: Attributes) -> Rule {
        Rule(self.0.nest(1, Attributes::default().text(1, name).nest(2, inner)))
    }

    fn meta(self, key: u32) -> Rule {
        self.expression("meta", Attributes::default().number(1, FIRST).number(2, key))
    }

    fn load(self, header: Header, offset: u32, length: u32, register: u32) -> Rule {
        let what = Attributes::default().number(1, register).number(2, header as u32);
        self.expression("payload", what.number(3, offset).number(4, length))
    }

    fn compare(self, is_equal: bool, value: &[u8]) -> Rule {
        let what = Attributes::default().number(1, FIRST).number(2, u32::from(!is_equal));
        self.expression("cmp", what.nest(3, Attributes::default().bytes(1, value)))
    }

    /// Requires that these bytes of the packet have this value.
    fn is(self, header: Header, offset: u32, value: &[u8]) -> Rule {
        self.load(header, offset, length(value), FIRST).compare(true, value)
    }

    /// Requires that they differ from it.
    fn differs(self, header: Header, offset: u32, value: &[u8]) -> Rule {
        self.load(header, offset, length(value), FIRST).compare(false, value)
    }

    /// Requires that they equal this value under a mask, or that they do not.
    fn masked(self, header: Header, offset: u32, mask: &[u8], is_equal: bool, value: &[u8]) -> Rule {
        let what = Attributes::default().number(1, FIRST).number(2, FIRST).number(3, length(mask));
        let zeros = vec![0; mask.len()];
        let what = what.nest(4, Attributes::default().bytes(1, mask));
        let what = what.nest(5, Attributes::default().bytes(1, &zeros));
        self.load(header, offset, length(mask), FIRST).expression("bitwise", what).compare(is_equal, value)
    }

    /// Requires this protocol type in the packet's metadata.
    fn protocol(self, value: u16) -> Rule {
        self.meta(PROTOCOL).compare(true, &value.to_be_bytes())
    }

    /// Requires that the interface is in a set.
    fn port_in(self, way: Way, set: &str) -> Rule {
        self.meta(way as u32).lookup(set)
    }

    /// Requires that the interface with these bytes of the packet is in a set.
    fn known(self, way: Way, header: Header, offset: u32, length: u32, set: &str) -> Rule {
        self.meta(way as u32).load(header, offset, length, SECOND).lookup(set)
    }

    fn lookup(self, set: &str) -> Rule {
        self.expression("lookup", Attributes::default().text(1, set).number(2, FIRST))
    }

    fn then(self, then: Then<'_>) -> Attributes {
        let verdict = match then {
            Then::Accept => Attributes::default().number(1, ACCEPT),
            Then::Goto(chain) => Attributes::default().number(1, GOTO).text(2, chain),
        };
        let what = Attributes::default().number(1, VERDICT);
        self.expression("immediate", what.nest(2, Attributes::default().nest(2, verdict))).0
    }
}

fn length(value: &[u8]) -> u32 {
    u32::try_from(value.len()).unwrap_or_default()
}

fn of_table() -> Attributes {
    Attributes::default().text(1, TABLE)
}

fn set(batch: &mut Batch, name: &str, key_length: u32, number: u32) {
    let what = of_table().text(2, name).number(3, 0).number(4, 0).number(5, key_length).number(10, number);
    batch.add(Message::NewSet, format!("nftables' set {name}"), &what);
}

fn chain(batch: &mut Batch, name: &str, hook: Option<u32>) {
    let what = of_table().text(3, name);
    let what = match hook {
        Some(hook) => {
            let place = Attributes::default().number(1, hook).number(2, FILTER.cast_unsigned());
            what.nest(4, place).number(5, DROP).text(7, "filter")
        }
        None => what,
    };
    batch.add(Message::NewChain, format!("nftables' chain {name}"), &what);
}

fn rule(batch: &mut Batch, chain: &str, rule: Rule, then: Then<'_>) {
    let what = of_table().text(2, chain).nest(4, rule.then(then));
    batch.add(Message::NewRule, format!("a rule of nftables' chain {chain}"), &what);
}

/// Creates the table without any port: nothing passes the namespace's bridges until ports are
/// announced.
pub(super) fn begin() -> Result<(), Error> {
    let mut batch = Batch::new();
    // An existing table is emptied: it is added first so that deleting it does not fail.
    batch.add(Message::NewTable, "nftables' table", &of_table());
    batch.add(Message::DelTable, "deleting nftables' table", &of_table());
    batch.add(Message::NewTable, "nftables' table", &of_table());
    set(&mut batch, UPLINKS, 4, 1);
    set(&mut batch, MACS, 12, 2);
    set(&mut batch, ADDRESSES, 8, 3);
    for name in ["known", "tagged", "inner", "ipv4", "own", "arp", "sender"] {
        chain(&mut batch, name, None);
    }
    let rules: [(&str, Rule, Then<'_>); 16] = {
        use Header::{Link, Network, Transport};
        use Then::{Accept, Goto};
        use Way::In;
        let all = Rule::default;
        [
            // The link header is read with the tag that the kernel removed: the type of a tagged
            // packet is that of its tag.
            ("known", all().is(Link, 12, &[0x81, 0x00]), Goto("tagged")),
            ("known", all().is(Link, 12, &[0x08, 0x00]), Goto("ipv4")),
            ("known", all().is(Link, 12, &[0x08, 0x06]), Goto("arp")),
            // VID 0 is a priority, no VLAN (IEEE 802.1Q table 9-2).
            ("tagged", all().masked(Link, 14, &[0x0f, 0xff], true, &[0, 0]), Goto("inner")),
            ("inner", all().protocol(0x0800), Goto("ipv4")),
            ("inner", all().protocol(0x0806), Goto("arp")),
            (
                "ipv4",
                all().masked(Network, 0, &[0xf0], true, &[0x40]).known(In, Network, 12, 4, ADDRESSES),
                Goto("own"),
            ),
            // A client without an address: UDP, not fragmented, from 0.0.0.0 port 68 to
            // 255.255.255.255 port 67 (RFC 2131 4.1).
            (
                "ipv4",
                all()
                    .is(Network, 12, &[0, 0, 0, 0, 255, 255, 255, 255])
                    .is(Network, 9, &[17])
                    .masked(Network, 6, &[0x3f, 0xff], true, &[0, 0])
                    .is(Transport, 0, &[0, 68, 0, 67]),
                Accept,
            ),
            // Only the first fragment has ports.
            ("own", all().masked(Network, 6, &[0x1f, 0xff], false, &[0, 0]), Accept),
            ("own", all().differs(Network, 9, &[17]), Accept),
            // No guest is a DHCP server.
            ("own", all().differs(Transport, 0, &[0, 67]), Accept),
            // Hardware type 1, protocol IPv4, lengths 6 and 4 (RFC 826); then the sender's Ethernet
            // address.
            ("arp", all().is(Network, 0, &[0, 1, 8, 0, 6, 4]).known(In, Network, 8, 6, MACS), Goto("sender")),
            ("sender", all().known(In, Network, 14, 4, ADDRESSES), Accept),
            // A probe: a request of a host without an address (RFC 5227 2.1.1).
            ("sender", all().is(Network, 6, &[0, 1]).is(Network, 14, &[0; 4]), Accept),
            // The base chains come last, so that no packet meets an incomplete table.
            ("from_port", all().port_in(In, UPLINKS), Accept),
            ("from_port", all().known(In, Link, 6, 6, MACS), Goto("known")),
        ]
    };
    chain(&mut batch, "from_port", Some(PREROUTING));
    for (name, what, then) in rules {
        rule(&mut batch, name, what, then);
    }
    chain(&mut batch, "to_host", Some(INPUT));
    rule(&mut batch, "to_host", Rule::default().port_in(Way::In, UPLINKS), Then::Accept);
    chain(&mut batch, "to_port", Some(POSTROUTING));
    rule(&mut batch, "to_port", Rule::default().port_in(Way::Out, UPLINKS), Then::Accept);
    let own = Rule::default().known(Way::Out, Header::Link, 0, 6, MACS);
    rule(&mut batch, "to_port", own, Then::Accept);
    rule(&mut batch, "to_port", Rule::default().is(Header::Link, 0, &[0xff; 6]), Then::Accept);
    batch.send()
}

fn elements(batch: &mut Batch, message: Message, set: &str, key: &[u8]) {
    let element = Attributes::default().nest(1, data(1, key));
    let what = of_table().text(2, set).nest(3, element);
    batch.add(message, format!("an element of nftables' set {set}"), &what);
}

/// Announces the uplink to the network, a port without a filter.
pub(super) fn uplink(index: u32) -> Result<(), Error> {
    let mut batch = Batch::new();
    elements(&mut batch, Message::NewElements, UPLINKS, &index.to_ne_bytes());
    batch.send()
}

/// Interface and Ethernet address in sequence, each padded to whole registers.
fn with_mac(port: &Port) -> Vec<u8> {
    [&port.index.to_ne_bytes()[..], &port.mac, &[0; 2]].concat()
}

fn with_address(port: &Port) -> Vec<u8> {
    [port.index.to_ne_bytes(), port.address.octets()].concat()
}

pub(super) fn admit(port: &Port) -> Result<(), Error> {
    let mut batch = Batch::new();
    elements(&mut batch, Message::NewElements, MACS, &with_mac(port));
    elements(&mut batch, Message::NewElements, ADDRESSES, &with_address(port));
    batch.send()
}

/// The kernel refuses (ENOENT) if it was not announced.
pub(super) fn dismiss(port: &Port) -> Result<(), Error> {
    let mut batch = Batch::new();
    elements(&mut batch, Message::DelElements, MACS, &with_mac(port));
    elements(&mut batch, Message::DelElements, ADDRESSES, &with_address(port));
    batch.send()
}
