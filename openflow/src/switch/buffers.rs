//! Packets that a switch buffers: a controller gets the beginning, and may name the packet later by
//! its buffer id (OF 1.0 section 5.4.1, OF 1.3.5 section 7.4.1).

use crate::error::OfErrorCode;

/// OFPET_BAD_REQUEST, OFPBRC_BUFFER_EMPTY: the packet was used already, or newer ones have replaced
/// it.
const EMPTY: OfErrorCode = OfErrorCode { kind: 1, code: 7 };
/// OFPET_BAD_REQUEST, OFPBRC_BUFFER_UNKNOWN: this id was never given out.
const UNKNOWN: OfErrorCode = OfErrorCode { kind: 1, code: 8 };
/// The buffer id that means no buffer.
pub(super) const NO_BUFFER: u32 = u32::MAX;

#[derive(Debug, Clone, Default)]
struct Kept {
    id: Option<u32>,
    in_port: u32,
    frame: Vec<u8>,
}

/// A ring of packets: a new one replaces the oldest.
#[derive(Debug, Clone)]
pub(super) struct Buffers {
    ring: Vec<Kept>,
    next: u32,
}

impl Buffers {
    pub(super) fn new(count: u32) -> Buffers {
        Buffers { ring: vec![Kept::default(); count as usize], next: 0 }
    }

    /// Buffers a packet and returns its id; `None` if the ring has no places.
    pub(super) fn keep(&mut self, in_port: u32, frame: &[u8]) -> Option<u32> {
        let id = self.next;
        let at = self.place(id)?;
        let kept = self.ring.get_mut(at)?;
        (kept.id, kept.in_port) = (Some(id), in_port);
        kept.frame.clear();
        kept.frame.extend_from_slice(frame);
        self.next = if id + 1 == NO_BUFFER { 0 } else { id + 1 };
        Some(id)
    }

    /// Takes a packet out: the port it came in by, and its bytes.
    ///
    /// # Errors
    /// When it is not there any more, or never was: with what to answer.
    pub(super) fn take(&mut self, id: u32) -> Result<(u32, Vec<u8>), OfErrorCode> {
        let kept = self.place(id).and_then(|at| self.ring.get_mut(at)).ok_or(UNKNOWN)?;
        if kept.id != Some(id) {
            return Err(if id < self.next { EMPTY } else { UNKNOWN });
        }
        kept.id = None;
        Ok((kept.in_port, std::mem::take(&mut kept.frame)))
    }

    fn place(&self, id: u32) -> Option<usize> {
        (id as usize).checked_rem(self.ring.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_handed_out_once_and_the_oldest_makes_room() {
        let mut buffers = Buffers::new(2);
        assert_eq!(buffers.take(0), Err(UNKNOWN));
        let ids: Vec<_> = (1..=3).map(|p| buffers.keep(p, &[p as u8])).collect();
        assert_eq!(ids, [Some(0), Some(1), Some(2)]);
        assert_eq!(buffers.take(0), Err(EMPTY), "the third packet took its room");
        assert_eq!(buffers.take(2), Ok((3, vec![3])));
        assert_eq!(buffers.take(2), Err(EMPTY), "only once");
        assert_eq!(buffers.take(9), Err(UNKNOWN));
        assert_eq!(Buffers::new(0).keep(1, &[]), None);
        assert_eq!(Buffers::new(0).take(0), Err(UNKNOWN));
    }
}
