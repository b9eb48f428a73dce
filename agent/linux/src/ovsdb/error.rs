//! Errors of the database, as texts for the operator.

use std::time::Duration;

/// Why the database, or vswitchd behind it, did not execute a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server listens there.
    #[error(
        "connecting to the OVS database at {remote}: {cause}; is ovsdb-server running, and may this user reach it?"
    )]
    Connect {
        /// The address.
        remote: String,
        /// The kernel's error. It is part of the message, and not a `source` too, so that logs do
        /// not print it twice.
        cause: std::io::Error,
    },
    /// A malformed address.
    #[error("{remote} is no address of an OVS database; write unix:PATH or tcp:HOST:PORT")]
    Address {
        /// What was given.
        remote: String,
    },
    /// The stream failed. The connection cannot be used any more.
    #[error("{what} the OVS database: {cause}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's error. It is part of the message, and not a `source` too, so that logs do
        /// not print it twice.
        cause: std::io::Error,
    },
    /// The server has closed the connection, or it was given up after an earlier error. The caller
    /// has to connect again.
    #[error("the OVS database has closed the connection; ovsdb-server has ended or was restarted")]
    Closed,
    /// There was no reply in time.
    #[error("the OVS database has not answered {what} for {limit:?}")]
    Silent {
        /// The request.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The reply is not OVSDB. The connection cannot be used any more.
    #[error("the OVS database sent something else than RFC 7047 has: {why}")]
    Garbled {
        /// The reason, as text.
        why: String,
    },
    /// The database refused an operation; nothing of its transaction was executed.
    #[error("the OVS database refused {operation}: {error}{}", if .details.is_empty() { String::new() } else { format!(" ({details})") })]
    Refused {
        /// Which operation, on which table.
        operation: String,
        /// The database's error, e.g. `constraint violation`.
        error: String,
        /// The database's explanation.
        details: String,
    },
    /// Somebody else keeps changing the same bridges; nothing was changed.
    #[error("somebody else changed the bridges at the same time, {tries} times in a row; try again")]
    Changed {
        /// How often it was tried.
        tries: u32,
    },
    /// vswitchd has not executed the configuration. The database has it: vswitchd will execute it
    /// when it can.
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
    /// The wanted state contradicts itself.
    #[error("these bridges cannot be: {why}")]
    Invalid {
        /// The reason, as text.
        why: String,
    },
    /// The bridge exists, and adopting it would interrupt its forwarding.
    #[error(
        "bridge {bridge} is there already, and taking it over would stop its forwarding for a moment: {gap}; \
         allow it with Adopt::EvenWithGap"
    )]
    WouldInterrupt {
        /// Its name.
        bridge: String,
        /// Why its forwarding would stop.
        gap: Gap,
    },
    /// The bridge exists, and the caller has not allowed its adoption.
    #[error(
        "bridge {bridge} is there already and is somebody else's; allow to take it over with Adopt::WithoutGap"
    )]
    NotOurs {
        /// Its name.
        bridge: String,
    },
    /// The record of something that was adopted cannot be read.
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
        /// The key of the record.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The bridge belongs to another owner.
    #[error("bridge {bridge} belongs to {owner}; it has to release the bridge first")]
    OwnedByOther {
        /// Its name.
        bridge: String,
        /// The owner in its mark.
        owner: String,
    },
    /// A wanted port is in another bridge that stays.
    #[error(
        "port {port} is in bridge {bridge}; take it out there first (ovs-vsctl del-port {bridge} {port})"
    )]
    PortElsewhere {
        /// Its name.
        port: String,
        /// The bridge that it is in.
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
        /// The ports, and why.
        ports: String,
    },
}

/// Why adopting a bridge interrupts its forwarding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gap {
    /// vswitchd deletes all flows when a bridge gets its first controller.
    #[error("it has no controller, and its flows are forgotten when it gets its first one")]
    FirstController,
    /// vswitchd deletes all flows when a bridge loses its last controller.
    #[error("it loses its last controller, and its flows are forgotten then")]
    LastController,
    /// The bridge would be created anew.
    #[error("its datapath type is {from:?} and {to:?} is wanted")]
    DatapathType {
        /// Its type now.
        from: String,
        /// The wanted type.
        to: String,
    },
    /// vswitchd detaches and attaches a port to give it another number.
    #[error("its port {port} has number {from} and {to} is wanted")]
    PortNumber {
        /// The port's name.
        port: String,
        /// Its number now.
        from: u32,
        /// The wanted number.
        to: u32,
    },
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> crate::Error {
        crate::Error::Ovs(error.to_string())
    }
}
