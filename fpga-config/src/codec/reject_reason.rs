//! Why a rule is not on the card.

use tandem_openflow::table::FieldId;

/// Why a rule has no rows on the card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// Its packets never reach the card.
    #[error("it matches packets from port {0}, which is not a port of the card")]
    FromOutside(u32),
    /// Its packets are dropped (OFPPC_NO_RECV).
    #[error("it matches packets from port {0}, which takes none")]
    NotReceived(u32),
    /// It sends packets from a plain NIC to a port of the card.
    #[error("it sends packets from port {from}, which is not a port of the card, into the card")]
    IntoCard {
        /// The input port.
        from: u32,
    },
    /// It matches a field that the card does not have in its key.
    #[error("the card cannot match {0:?}")]
    Field(FieldId),
    /// It matches a field without another that the card needs to interpret it.
    #[error("the card can match {field:?} only together with {needs}")]
    Needs {
        /// The field.
        field: FieldId,
        /// The reason, as text.
        needs: &'static str,
    },
    /// Frames of a rule on the card that the card does not match, unlike a flow table: see
    /// [`Rule::except`](super::Rule::except).
    #[error(
        "frames with LLC/SNAP, whose type the card does not see: to it their length is their type, \
         so this rule does not match them"
    )]
    Snap,
    /// It matches 802.3 frames without an Ethernet type.
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
    /// A UDP checksum of zero means that there is none (RFC 768); the card updates it nevertheless.
    #[error(
        "it changes addresses or ports of packets that may be UDP, and the card writes a wrong checksum into \
         datagrams that have none; let it match another nw_proto"
    )]
    UdpChecksum,
    /// It would set the DSCP of IPv6 too.
    #[error(
        "it sets the DSCP of packets that may be IPv6, and the card knows IPv4 only; let it match dl_type"
    )]
    Ipv6Changed,
    /// It would set the ports of IPv6 too.
    #[error(
        "it changes TCP or UDP ports of packets that may be IPv6, and the card knows IPv4 only; let it match dl_type"
    )]
    Ipv6PortsChanged,
    /// It sends to CONTROLLER, LOCAL, NORMAL or TABLE.
    #[error("it sends to {0}")]
    Reserved(&'static str),
    /// It sends to a plain NIC, or to a port that does not exist.
    #[error("it sends to port {0}, which is not a port of the card")]
    Outside(u32),
    /// It sends to a port twice: the bitmap has one bit per queue.
    #[error("it sends to port {0} twice")]
    Twice(u32),
    /// It changes the packet between outputs: the card changes it once, before all outputs.
    #[error("it changes the packet between two outputs")]
    Between,
    /// It sets a queue: the stock bitfile has none.
    #[error("it selects queue {0}, and the card has no queues")]
    Queue(u32),
    /// It pushes and pops a tag in an order that the card does not support.
    #[error("it takes a VLAN tag off and sets another")]
    Retag,
    /// It pushes a second tag, which the card never does.
    #[error("it pushes a VLAN tag on packets that may have one, or of another type than 0x8100")]
    Push,
    /// It has an action that the card does not support.
    #[error("the card cannot do {0}")]
    Action(String),
    /// It goes to another table, or through a meter.
    #[error("it goes on to {0}")]
    Beyond(&'static str),
    /// All rows are taken by rules that are used more.
    #[error("it needs {needs} rows or more with those that keep it right, and {free} are free")]
    Rows {
        /// Rows that it needs.
        needs: usize,
        /// Rows that are left.
        free: usize,
    },
    /// Without a software path it would hide another rule, or be hidden.
    #[error("there is no path from the card to software (no CPU ports), and {0}")]
    NoSoftware(Box<RejectReason>),
}

impl RejectReason {
    /// The reason on a host without a software path; `None` for a rule that needs neither card nor
    /// software: one for packets from plain NICs.
    pub fn without_software(self) -> Option<RejectReason> {
        match self {
            RejectReason::FromOutside(_) | RejectReason::NotReceived(_) => None,
            RejectReason::NoSoftware(_) => Some(self),
            why => Some(RejectReason::NoSoftware(Box::new(why))),
        }
    }
}
