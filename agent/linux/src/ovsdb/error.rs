//! What can go wrong with the database, as text for whoever has to act.

use std::time::Duration;

/// Why the database, or vswitchd behind it, did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody answers there.
    #[error(
        "connecting to the OVS database at {remote}: {cause}; is ovsdb-server running, and may this user reach it?"
    )]
    Connect {
        /// Where.
        remote: String,
        /// The kernel's answer. It is in the message, and no `source` besides, so that nobody
        /// prints it twice.
        cause: std::io::Error,
    },
    /// An address that is none.
    #[error("{remote} is no address of an OVS database; write unix:PATH or tcp:HOST:PORT")]
    Address {
        /// What was given.
        remote: String,
    },
    /// The stream failed. The connection is of no more use.
    #[error("{what} the OVS database: {cause}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer. It is in the message, and no `source` besides, so that nobody
        /// prints it twice.
        cause: std::io::Error,
    },
    /// The server has closed the connection, or it was given up after an earlier error. Connect
    /// again.
    #[error("the OVS database has closed the connection; ovsdb-server has ended or was restarted")]
    Closed,
    /// No answer in time.
    #[error("the OVS database has not answered {what} for {limit:?}")]
    Silent {
        /// What was asked.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// What came is no OVSDB. The connection is of no more use.
    #[error("the OVS database sent something else than RFC 7047 has: {why}")]
    Garbled {
        /// The reason, as text.
        why: String,
    },
    /// The database refused an operation; nothing of its transaction has happened.
    #[error("the OVS database refused {operation}: {error}{}", if .details.is_empty() { String::new() } else { format!(" ({details})") })]
    Refused {
        /// Which operation, on which table.
        operation: String,
        /// The database's word, e.g. `constraint violation`.
        error: String,
        /// The database's explanation.
        details: String,
    },
    /// Somebody else keeps changing the same bridges; nothing was done.
    #[error("somebody else changed the bridges at the same time, {tries} times in a row; try again")]
    Changed {
        /// How often it was tried.
        tries: u32,
    },
    /// vswitchd has not carried the configuration out. The database holds it: it will be carried
    /// out when vswitchd can.
    #[error(
        "ovs-vswitchd has not taken configuration {wanted} for {limit:?} (it is at {reached}); is it running?"
    )]
    VswitchdSilent {
        /// The configuration waited for.
        wanted: i64,
        /// The last one it has carried out.
        reached: i64,
        /// How long was waited.
        limit: Duration,
    },
    /// What is wanted contradicts itself.
    #[error("these bridges cannot be: {why}")]
    Invalid {
        /// The reason, as text.
        why: String,
    },
    /// A bridge of that name is there, and taking it over would stop its forwarding for a moment.
    #[error(
        "bridge {bridge} is there already, and taking it over would stop its forwarding for a moment: {gap}; \
         allow it with Adopt::EvenWithGap"
    )]
    WouldInterrupt {
        /// Its name.
        bridge: String,
        /// Why.
        gap: Gap,
    },
    /// A bridge of that name is there and nothing says that it may be taken over.
    #[error(
        "bridge {bridge} is there already and is somebody else's; allow to take it over with Adopt::WithoutGap"
    )]
    NotOurs {
        /// Its name.
        bridge: String,
    },
    /// What was written down of something that was taken over cannot be read.
    #[error(
        "what {what} was like before it was taken over cannot be read from its external_ids ({key}): {why}; nothing was \
         changed. Correct it, or make {what} by hand what it was and remove the key (ovs-vsctl remove {table} {what} \
         external_ids {key})"
    )]
    DamagedRecord {
        /// `Bridge`, `Port` or `Interface`.
        table: &'static str,
        /// Its name.
        what: String,
        /// Where it was written down.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A bridge of that name belongs to another owner.
    #[error("bridge {bridge} belongs to {owner}; it has to release the bridge first")]
    OwnedByOther {
        /// Its name.
        bridge: String,
        /// Whose mark it carries.
        owner: String,
    },
    /// A wanted port is in another bridge that stays.
    #[error(
        "port {port} is in bridge {bridge}; take it out there first (ovs-vsctl del-port {bridge} {port})"
    )]
    PortElsewhere {
        /// Its name.
        port: String,
        /// Where it is.
        bridge: String,
    },
    /// A wanted port is part of a bond.
    #[error(
        "interface {port} is part of the bond {bond} in bridge {bridge} and cannot be a port of its own; name an interface \
         that is free, or take this one out of the bond first (ovs-vsctl del-bond-iface {bond} {port})"
    )]
    PortInBond {
        /// The interface's name.
        port: String,
        /// The bond's name.
        bond: String,
        /// The bridge's name.
        bridge: String,
    },
    /// vswitchd could not attach ports.
    #[error("Open vSwitch could not attach {ports}")]
    Ports {
        /// Which, and why.
        ports: String,
    },
}

/// Why taking over a bridge stops its forwarding for a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gap {
    /// vswitchd forgets all flows when a bridge gets its first controller.
    #[error("it has no controller, and its flows are forgotten when it gets its first one")]
    FirstController,
    /// vswitchd forgets all flows when a bridge loses its last controller.
    #[error("it loses its last controller, and its flows are forgotten then")]
    LastController,
    /// The bridge would be made anew.
    #[error("its datapath type is {from:?} and {to:?} is wanted")]
    DatapathType {
        /// As it is.
        from: String,
        /// As wanted.
        to: String,
    },
    /// vswitchd takes a port out and in again to give it another number.
    #[error("its port {port} has number {from} and {to} is wanted")]
    PortNumber {
        /// The port's name.
        port: String,
        /// As it is.
        from: u32,
        /// As wanted.
        to: u32,
    },
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> crate::Error {
        crate::Error::Ovs(error.to_string())
    }
}
