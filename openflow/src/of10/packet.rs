//! OFPT_PACKET_IN (section 5.4.1) and OFPT_PACKET_OUT (5.3.6).

use super::Action;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::header;
use crate::wire::{Bytes, Pad, Reader, Wire, wire_struct};

wire_struct! {
    /// OFPT_PACKET_IN.
    pub struct PacketIn {
        /// Where the switch keeps the whole packet, or 0xffffffff.
        buffer_id: u32,
        /// Length of the whole packet.
        total_len: u16,
        /// Port it came in by.
        in_port: u16,
        /// 0 no match, 1 an action.
        reason: u8,
        /// Reserved.
        pad: Pad<1>,
        /// The packet, or its beginning.
        data: Bytes,
    }
}

/// OFPT_PACKET_IN without a copy of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketInView<'a> {
    /// Transaction id.
    pub xid: u32,
    /// Where the switch keeps the whole packet, or 0xffffffff.
    pub buffer_id: u32,
    /// Length of the whole packet.
    pub total_len: u16,
    /// Port it came in by.
    pub in_port: u16,
    /// 0 no match, 1 an action.
    pub reason: u8,
    /// The packet, or its beginning.
    pub data: &'a [u8],
}

impl<'a> PacketInView<'a> {
    /// The type number of OFPT_PACKET_IN.
    pub const KIND: u8 = 10;

    /// Views one whole message.
    ///
    /// # Errors
    /// When it is not an OFPT_PACKET_IN of version 1.0.
    #[inline]
    pub fn new(message: &'a [u8]) -> Result<PacketInView<'a>, DecodeError> {
        let short =
            || Reader::new(message, "PACKET_IN").error(DecodeErrorKind::Length { length: message.len() });
        let (head, data) = message.split_first_chunk::<18>().ok_or_else(short)?;
        let [version, kind, l0, l1, x0, x1, x2, x3, b0, b1, b2, b3, t0, t1, p0, p1, reason, _] = *head;
        if version != header::V10
            || kind != Self::KIND
            || usize::from(u16::from_be_bytes([l0, l1])) != message.len()
        {
            return Err(short());
        }
        Ok(PacketInView {
            xid: u32::from_be_bytes([x0, x1, x2, x3]),
            buffer_id: u32::from_be_bytes([b0, b1, b2, b3]),
            total_len: u16::from_be_bytes([t0, t1]),
            in_port: u16::from_be_bytes([p0, p1]),
            reason,
            data,
        })
    }
}

/// OFPT_PACKET_OUT.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PacketOut {
    /// Packet that the switch keeps, or 0xffffffff.
    pub buffer_id: u32,
    /// Port it came in by, or OFPP_NONE.
    pub in_port: u16,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The packet, where there is no buffer.
    pub data: Bytes,
}

impl Wire for PacketOut {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (buffer_id, in_port) = (r.get()?, r.get()?);
        let length: u16 = r.get()?;
        let actions = r.sub(length.into())?.all()?;
        Ok(PacketOut { buffer_id, in_port, actions, data: r.get()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.buffer_id.write(out);
        self.in_port.write(out);
        let at = out.len();
        0u16.write(out);
        self.actions.write(out);
        let length = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
        out[at..at + 2].copy_from_slice(&length.to_be_bytes());
        self.data.write(out);
    }
}
