//! ARP and DHCP as the core speaks them: a switch sees them at its ports, and sends what is
//! answered.

use crate::Mac;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;

/// ARP operation (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArpOp {
    /// Who has it?
    Request,
    /// I have it.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arp {
    /// Request or reply.
    pub op: ArpOp,
    /// Ethernet destination of the frame.
    pub eth_dst: Mac,
    /// Sender's Ethernet address (also the frame's source when we send).
    pub sender_mac: Mac,
    /// Sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Target's Ethernet address (zero in a request).
    pub target_mac: Mac,
    /// Target's address.
    pub target_ip: Ipv4Addr,
}

/// Kind of a DHCP client's message (RFC 2131 table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpRequestKind {
    /// Looking for servers.
    Discover,
    /// Wants an offered address, or to renew one.
    Request,
    /// The address is in use by somebody else.
    Decline,
    /// Gives the address back.
    Release,
    /// Has an address, wants parameters.
    Inform,
}

/// A DHCP client's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpRequest {
    /// Kind.
    pub kind: DhcpRequestKind,
    /// Transaction id.
    pub xid: u32,
    /// Client's Ethernet address (`chaddr`; also checked against the frame's source by the driver's
    /// caller).
    pub mac: Mac,
    /// The frame's Ethernet source.
    pub eth_src: Mac,
    /// `ciaddr`: the address the client has already; 0.0.0.0 if none.
    pub client: Ipv4Addr,
    /// Option 50, the address it wants.
    pub requested: Option<Ipv4Addr>,
    /// Option 54, the server it chose.
    pub server: Option<Ipv4Addr>,
    /// True when it can only take a broadcast answer.
    pub broadcast: bool,
}

/// Kind of a DHCP server's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpReplyKind {
    /// An address for the asking.
    Offer,
    /// The address is yours for the lease's time.
    Ack,
    /// The address is not for you: start again.
    Nak,
}

/// A DHCP server's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpReply {
    /// Kind.
    pub kind: DhcpReplyKind,
    /// The client's transaction id.
    pub xid: u32,
    /// The client's Ethernet address.
    pub mac: Mac,
    /// The client's `ciaddr`, copied.
    pub client: Ipv4Addr,
    /// `yiaddr`: the address; 0.0.0.0 in a NAK.
    pub address: Ipv4Addr,
    /// The server's address (option 54 and the packet's source).
    pub server: Ipv4Addr,
    /// The server's Ethernet address.
    pub server_mac: Mac,
    /// Prefix length of the client's network (option 1).
    pub prefix_len: u8,
    /// Default router (option 3).
    pub router: Option<Ipv4Addr>,
    /// DNS servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// Lease time (option 51).
    pub lease: Duration,
    /// True to answer by broadcast.
    pub broadcast: bool,
}
