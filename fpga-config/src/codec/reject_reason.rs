//! Why a rule is not in the card.

use tandem_openflow::table::FieldId;

/// Why a rule is not in the card's rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// Packets from there never reach the card.
    #[error("it matches packets from port {0}, which is not a port of the card")]
    FromOutside(u32),
    /// Packets from there are dropped (OFPPC_NO_RECV).
    #[error("it matches packets from port {0}, which takes none")]
    NotReceived(u32),
    /// Packets from a plain NIC to a port of the card.
    #[error("it sends packets from port {from}, which is not a port of the card, into the card")]
    IntoCard {
        /// From where.
        from: u32,
    },
    /// A field that the card does not see.
    #[error("the card cannot match {0:?}")]
    Field(FieldId),
    /// A field that is not what it seems without another.
    #[error("the card can match {field:?} only together with {needs}")]
    Needs {
        /// The field.
        field: FieldId,
        /// The reason, as text.
        needs: &'static str,
    },
    /// Of the rules in the card it is what some do otherwise than a flow table: see
    /// [`Rule::except`](super::Rule::except).
    #[error(
        "frames with LLC/SNAP, whose type the card does not see: to it their length is their type, \
         so this rule does not match them"
    )]
    Snap,
    /// An 802.3 frame without an Ethernet type.
    #[error("it matches frames that have a length for an Ethernet type, which the card takes for types")]
    Length,
    /// See [`Transport`](super::rule::Transport).
    #[error("it matches {0:?}, which the card would see in fragments too; `transport = \"card\"` allows it")]
    Fragments(FieldId),
    /// See [`Transport`](super::rule::Transport).
    #[error(
        "it changes addresses or ports, which the card would get wrong in fragments; `transport = \"card\"` allows it"
    )]
    FragmentsChanged,
    /// A checksum of zero in a UDP datagram says that there is none (RFC 768); the card updates it
    /// all the same.
    #[error(
        "it changes addresses or ports of packets that may be UDP, and the card writes a wrong checksum into \
         datagrams that have none; let it match another nw_proto"
    )]
    UdpChecksum,
    /// IPv6 has a DSCP too.
    #[error(
        "it sets the DSCP of packets that may be IPv6, and the card knows IPv4 only; let it match dl_type"
    )]
    Ipv6Changed,
    /// IPv6 has ports too.
    #[error(
        "it changes TCP or UDP ports of packets that may be IPv6, and the card knows IPv4 only; let it match dl_type"
    )]
    Ipv6PortsChanged,
    /// CONTROLLER, LOCAL, NORMAL, TABLE.
    #[error("it sends to {0}")]
    Reserved(&'static str),
    /// To a plain NIC, or a port that is not there.
    #[error("it sends to port {0}, which is not a port of the card")]
    Outside(u32),
    /// The bitmap has one bit per queue.
    #[error("it sends to port {0} twice")]
    Twice(u32),
    /// The card changes a packet once, before it sends it anywhere.
    #[error("it changes the packet between two outputs")]
    Between,
    /// The stock bitfile has no queues.
    #[error("it selects queue {0}, and the card has no queues")]
    Queue(u32),
    /// One of both, not in this order.
    #[error("it takes a VLAN tag off and sets another")]
    Retag,
    /// The card never adds a second tag.
    #[error("it pushes a VLAN tag on packets that may have one, or of another type than 0x8100")]
    Push,
    /// An action that the card does not have.
    #[error("the card cannot do {0}")]
    Action(String),
    /// Another table follows, or a meter.
    #[error("it goes on to {0}")]
    Beyond(&'static str),
    /// All rows are taken by rules that are used more.
    #[error("it needs {needs} rows or more with those that keep it right, and {free} are free")]
    Rows {
        /// How many it takes.
        needs: usize,
        /// How many are left.
        free: usize,
    },
    /// Without a path to software it would hide or be hidden.
    #[error("there is no path from the card to software (no CPU ports), and {0}")]
    NoSoftware(Box<RejectReason>),
}

impl RejectReason {
    /// As it is where there is no software either; `None` for what needs neither card nor software
    /// between them: packets from plain NICs.
    pub fn without_software(self) -> Option<RejectReason> {
        match self {
            RejectReason::FromOutside(_) | RejectReason::NotReceived(_) => None,
            RejectReason::NoSoftware(_) => Some(self),
            why => Some(RejectReason::NoSoftware(Box::new(why))),
        }
    }
}
