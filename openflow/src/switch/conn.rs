//! A switch's connections to controllers: their roles, and which asynchronous messages each gets
//! (OF 1.3.5 sections 6.3.4 to 6.3.6).

use super::settings::ConnId;
use crate::error::OfErrorCode;
use crate::header;
use crate::of13::switch::{AsyncConfig, Role, role};
use crate::session::switch::SwitchSession;
use crate::wire::Pad;

/// OFPET_ROLE_REQUEST_FAILED, OFPRRFC_STALE.
const STALE: OfErrorCode = OfErrorCode { kind: 11, code: 0 };
/// OFPET_ROLE_REQUEST_FAILED, OFPRRFC_BAD_ROLE.
const BAD_ROLE: OfErrorCode = OfErrorCode { kind: 11, code: 2 };
/// The asynchronous messages that a connection gets by default: as master or equal all but packets
/// with an invalid TTL, as slave only PORT_STATUS (OF 1.3.5 section 6.3.6).
const USUAL: AsyncConfig = AsyncConfig {
    packet_in_master: 0b011,
    packet_in_slave: 0,
    port_status_master: 0b111,
    port_status_slave: 0b111,
    flow_removed_master: 0b1111,
    flow_removed_slave: 0,
};
/// Bytes of a packet that a controller gets until it sets another length
/// (OFP_DEFAULT_MISS_SEND_LEN).
const MISS_SEND_LEN: u16 = 128;

/// An asynchronous message (OF 1.3.5 section 6.1.2), with the number of its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AsyncMessage {
    PacketIn(u8),
    PortStatus(u8),
    FlowRemoved(u8),
}

#[derive(Debug, Clone)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) session: SwitchSession,
    /// OFPCR number.
    pub(super) role: u32,
    pub(super) wants: AsyncConfig,
    pub(super) miss_send_len: u16,
}

impl Conn {
    pub(super) fn new(id: ConnId, session: SwitchSession) -> Conn {
        Conn { id, session, role: role::EQUAL, wants: USUAL, miss_send_len: MISS_SEND_LEN }
    }

    pub(super) fn slave(&self) -> bool {
        self.role == role::SLAVE
    }

    /// Whether it gets this asynchronous message.
    pub(super) fn hears(&self, what: AsyncMessage) -> bool {
        let Some(version) = self.session.version() else { return false };
        let w = &self.wants;
        let (master, slave, reason) = match what {
            AsyncMessage::PacketIn(reason) => (w.packet_in_master, w.packet_in_slave, reason),
            AsyncMessage::PortStatus(reason) => (w.port_status_master, w.port_status_slave, reason),
            AsyncMessage::FlowRemoved(reason) => (w.flow_removed_master, w.flow_removed_slave, reason),
        };
        // OpenFlow 1.0 has no reason for flows that go with their group, and none for an invalid
        // TTL.
        let known = version != header::V10
            || match what {
                AsyncMessage::PacketIn(reason) => reason < 2,
                AsyncMessage::PortStatus(_) => true,
                AsyncMessage::FlowRemoved(reason) => reason < 3,
            };
        known
            && (if self.slave() { slave } else { master }) & 1u32.checked_shl(reason.into()).unwrap_or(0) != 0
    }
}

/// All connections, and the generation id of the last master election.
#[derive(Debug, Clone, Default)]
pub(super) struct Conns {
    pub(super) list: Vec<Conn>,
    generation: Option<u64>,
}

impl Conns {
    pub(super) fn place(&self, id: ConnId) -> Option<usize> {
        self.list.iter().position(|c| c.id == id)
    }

    /// Gives a connection the role that it requests (section 6.3.5), and returns the reply.
    ///
    /// # Errors
    /// When there is no such role, or the request is from an election that is over.
    pub(super) fn change_role(&mut self, at: usize, asked: &Role) -> Result<Role, OfErrorCode> {
        if asked.role > role::SLAVE {
            return Err(BAD_ROLE);
        }
        if matches!(asked.role, role::MASTER | role::SLAVE) {
            // Generation ids wrap around: one is newer if it is less than half of the number range
            // ahead (section 6.3.5).
            let stale = self.generation.is_some_and(|now| (asked.generation_id.wrapping_sub(now) as i64) < 0);
            if stale {
                return Err(STALE);
            }
            self.generation = Some(asked.generation_id);
        }
        if asked.role == role::MASTER {
            self.list.iter_mut().filter(|c| c.role == role::MASTER).for_each(|c| c.role = role::SLAVE);
        }
        let Some(conn) = self.list.get_mut(at) else { return Err(BAD_ROLE) };
        if asked.role != role::NOCHANGE {
            conn.role = asked.role;
        }
        Ok(Role { role: conn.role, pad: Pad::default(), generation_id: self.generation.unwrap_or(u64::MAX) })
    }
}
