//! The handshake after the HELLO: features, ports (1.3), description. If the switch refuses one of
//! them, the handshake ends with its error; only the description is optional.

use crate::codec::SwitchMessage;
use crate::error::DriverError;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{Dpid, PortInfo, PortNo, Time};
use tandem_openflow::session::multipart::Assembly;

/// The most ports of a switch, far above that of any real one.
pub(crate) const MOST_PORTS: usize = 65_536;

/// What the driver requests next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: a reply is awaited.
    Wait,
    /// Configuration, ports and description.
    Rest,
    /// Nothing: the handshake is complete.
    Done,
}

/// The state of a handshake, from the HELLO until it is complete.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) since: Time,
    pub(crate) features_xid: u32,
    pub(crate) description_xid: u32,
    pub(crate) dpid: Option<Dpid>,
    pub(crate) tables: u8,
    pub(crate) ports: Option<Vec<PortInfo>>,
    /// Ports that have changed since the switch was asked for its list: the last state of each, and
    /// true if it was removed.
    pub(crate) changed: BTreeMap<PortNo, (PortInfo, bool)>,
    pub(crate) parts: Assembly<PortInfo>,
    pub(crate) description: Option<String>,
}

impl Handshake {
    pub(crate) fn new(since: Time) -> Handshake {
        Handshake {
            since,
            features_xid: 0,
            description_xid: 0,
            dpid: None,
            tables: 0,
            ports: None,
            changed: BTreeMap::new(),
            parts: Assembly::new(MOST_PORTS),
            description: None,
        }
    }

    /// Handles a message of the switch.
    ///
    /// When the switch refuses a request, or lists too many ports.
    pub(crate) fn handle(&mut self, xid: u32, message: SwitchMessage<'_>) -> Result<Next, DriverError> {
        match message {
            SwitchMessage::Features { dpid, tables, ports } if self.dpid.is_none() => {
                (self.dpid, self.tables, self.ports) = (Some(dpid), tables, ports);
                return Ok(Next::Rest);
            }
            SwitchMessage::Ports { ports, more } => {
                if let Some(ports) = self.parts.add(xid, ports, more)? {
                    self.ports = Some(ports);
                }
            }
            // The port list may be older than this change: it may be on its way, or have come while
            // the description is awaited.
            SwitchMessage::Port(port, removed) if self.changed.len() < MOST_PORTS => {
                self.changed.insert(port.port, (port, removed));
            }
            SwitchMessage::Description(text) => self.description = Some(text),
            SwitchMessage::Error(text) if xid == self.features_xid => {
                return Err(DriverError::HandshakeRefused("its features", text));
            }
            SwitchMessage::Error(text) if self.parts.xid() == Some(xid) => {
                return Err(DriverError::HandshakeRefused("its ports", text));
            }
            // The description is optional.
            SwitchMessage::Error(_) if xid == self.description_xid => {
                self.description.get_or_insert_default();
            }
            _ => {}
        }
        let all = self.dpid.is_some() && self.ports.is_some() && self.description.is_some();
        Ok(if all { Next::Done } else { Next::Wait })
    }

    /// The ports at the end of the handshake.
    pub(crate) fn ports_now(&mut self) -> BTreeMap<PortNo, PortInfo> {
        let listed = self.ports.take().unwrap_or_default();
        let mut ports: BTreeMap<PortNo, PortInfo> = listed.into_iter().map(|p| (p.port, p)).collect();
        for (number, (port, removed)) in std::mem::take(&mut self.changed) {
            if removed {
                ports.remove(&number);
            } else if ports.len() < MOST_PORTS || ports.contains_key(&number) {
                ports.insert(number, port);
            }
        }
        ports
    }

    /// Whether only the description is missing.
    pub(crate) fn lacks_description_only(&self) -> bool {
        self.dpid.is_some() && self.ports.is_some() && self.description.is_none()
    }

    /// The error for a handshake that takes longer than `limit`.
    pub(crate) fn overdue(&self, limit: Duration) -> DriverError {
        let missing = match (self.dpid, &self.ports) {
            (None, _) => "its features",
            (_, None) => "its ports",
            _ => "its description",
        };
        DriverError::Handshake(missing, limit)
    }
}
