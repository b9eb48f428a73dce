//! Places for connections: their number is limited, and connections without a switch take none from
//! switches.
//!
//! A connection that has not introduced a switch is waiting, and waiting ones take at most
//! [`WAITING`] of the places. When these are full, the peer with the most waiting connections loses
//! its oldest; so a peer that opens connections and sends nothing only harms itself.

use super::switchboard::{ConnectionId, Peer};
use std::collections::{BTreeMap, VecDeque};

/// The most connections whose handshake has not ended: all switches of a data centre come back at
/// once after a restart.
const WAITING: usize = 4096;

/// Switches have taken all places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The places of all connections.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    all: BTreeMap<ConnectionId, Peer>,
    waiting: BTreeMap<Peer, VecDeque<ConnectionId>>,
    waits: usize,
}

impl Places {
    /// With `most` places.
    pub(super) fn new(most: usize) -> Places {
        Places { most, all: BTreeMap::new(), waiting: BTreeMap::new(), waits: 0 }
    }

    /// Takes a place for a new connection; returns another one that has to give up its own for it,
    /// if any.
    ///
    /// When there is none.
    pub(super) fn enter(&mut self, id: ConnectionId, peer: Peer) -> Result<Option<ConnectionId>, Full> {
        let is_full = self.all.len() >= self.most || self.waits >= WAITING;
        let evicted = if is_full { Some(self.evict().ok_or(Full)?) } else { None };
        self.all.insert(id, peer);
        self.waiting.entry(peer).or_default().push_back(id);
        self.waits += 1;
        Ok(evicted)
    }

    fn evict(&mut self) -> Option<ConnectionId> {
        let id = *self.waiting.values().max_by_key(|ids| ids.len())?.front()?;
        self.leave(id);
        Some(id)
    }

    /// A connection has introduced its switch.
    pub(super) fn settled(&mut self, id: ConnectionId) {
        let Some(peer) = self.all.get(&id) else { return };
        let Some(ids) = self.waiting.get_mut(peer) else { return };
        let before = ids.len();
        ids.retain(|other| *other != id);
        self.waits -= before - ids.len();
        if ids.is_empty() {
            self.waiting.remove(peer);
        }
    }

    /// A connection has ended.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        self.settled(id);
        self.all.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_dials_takes_places_from_itself() {
        let peer = |n: u8| Peer::Address([10, 0, 0, n].into());
        let mut places = Places::new(10);
        for id in 0..5 {
            assert_eq!(places.enter(id, peer(1)), Ok(None));
            places.settled(id);
        }
        for id in 100..105 {
            assert_eq!(places.enter(id, peer(2)), Ok(None));
        }
        assert_eq!(places.enter(105, peer(2)), Ok(Some(100)));
        assert_eq!(places.enter(6, peer(3)), Ok(Some(101)), "another gets one of its places");
        assert_eq!(places.enter(106, peer(2)), Ok(Some(102)), "and keeps it");
        places.settled(6);
        for id in 103..107 {
            places.leave(id);
        }
        for id in 7..11 {
            assert_eq!(places.enter(id, peer(1)), Ok(None));
            places.settled(id);
        }
        assert_eq!(places.enter(200, peer(4)), Err(Full), "no switch is closed for an unknown peer");
        assert_eq!((places.waits, places.waiting.len()), (0, 0));
    }
}
