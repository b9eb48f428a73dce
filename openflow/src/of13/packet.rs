//! OFPT_PACKET_IN (section 7.4.1) and OFPT_PACKET_OUT (7.3.7).

use super::{Action, Match};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::header;
use crate::wire::{Bytes, Pad, Reader, Wire, to_eight, wire_struct};

wire_struct! {
    /// OFPT_PACKET_IN.
    pub struct PacketIn {
        /// Where the switch keeps the whole packet, or 0xffffffff.
        buffer_id: u32,
        /// Length of the whole packet.
        total_len: u16,
        /// 0 no match, 1 an action, 2 invalid TTL.
        reason: u8,
        /// Table whose flow sent it.
        table_id: u8,
        /// Cookie of that flow.
        cookie: u64,
        /// Pipeline fields of the packet: at least the port it came in by.
        matching: Match,
        /// Reserved.
        pad: Pad<2>,
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
    /// 0 no match, 1 an action, 2 invalid TTL.
    pub reason: u8,
    /// Table whose flow sent it.
    pub table_id: u8,
    /// Cookie of that flow.
    pub cookie: u64,
    /// Port it came in by.
    pub in_port: u32,
    /// The match's fields, as they stand in the message.
    pub fields: &'a [u8],
    /// The packet, or its beginning.
    pub data: &'a [u8],
}

/// The header of OXM field IN_PORT: class 0x8000, number 0, no mask, 4 bytes.
const IN_PORT: [u8; 4] = [0x80, 0, 0, 4];
/// The same with a mask; a mask of all ones is no mask (OF 1.3.5 section 7.2.3.5).
const IN_PORT_MASKED: [u8; 4] = [0x80, 0, 1, 8];

/// The value of IN_PORT among OXM fields.
#[inline]
fn in_port(mut fields: &[u8]) -> Option<u32> {
    while let Some((head, rest)) = fields.split_first_chunk::<4>() {
        if *head == IN_PORT {
            return rest.first_chunk::<4>().map(|v| u32::from_be_bytes(*v));
        }
        if *head == IN_PORT_MASKED && rest.get(4..8) == Some(&[0xff; 4]) {
            return rest.first_chunk::<4>().map(|v| u32::from_be_bytes(*v));
        }
        fields = rest.get(usize::from(head[3])..)?;
    }
    None
}

impl<'a> PacketInView<'a> {
    /// The type number of OFPT_PACKET_IN.
    pub const KIND: u8 = 10;

    /// Views one whole message. Of the fields only IN_PORT is looked at.
    ///
    /// # Errors
    /// When it is not an OFPT_PACKET_IN of version 1.3, or does not say the port.
    #[inline]
    pub fn new(message: &'a [u8]) -> Result<PacketInView<'a>, DecodeError> {
        let bad =
            || Reader::new(message, "PACKET_IN").error(DecodeErrorKind::Length { length: message.len() });
        let (head, rest) = message.split_first_chunk::<28>().ok_or_else(bad)?;
        let [
            version,
            kind,
            l0,
            l1,
            x0,
            x1,
            x2,
            x3,
            b0,
            b1,
            b2,
            b3,
            t0,
            t1,
            reason,
            table_id,
            c0,
            c1,
            c2,
            c3,
            c4,
            c5,
            c6,
            c7,
            k0,
            k1,
            m0,
            m1,
        ] = *head;
        let length = usize::from(u16::from_be_bytes([m0, m1]));
        if version != header::V13
            || kind != Self::KIND
            || usize::from(u16::from_be_bytes([l0, l1])) != message.len()
            || [k0, k1] != [0, 1]
            || length < 4
        {
            return Err(bad());
        }
        let (fields, rest) = rest.split_at_checked(length - 4).ok_or_else(bad)?;
        let data = rest.get(to_eight(length) + 2..).ok_or_else(bad)?;
        Ok(PacketInView {
            xid: u32::from_be_bytes([x0, x1, x2, x3]),
            buffer_id: u32::from_be_bytes([b0, b1, b2, b3]),
            total_len: u16::from_be_bytes([t0, t1]),
            reason,
            table_id,
            cookie: u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            in_port: in_port(fields).ok_or_else(bad)?,
            fields,
            data,
        })
    }
}

/// OFPT_PACKET_OUT.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PacketOut {
    /// Packet that the switch keeps, or 0xffffffff.
    pub buffer_id: u32,
    /// Port it came in by, or OFPP_CONTROLLER.
    pub in_port: u32,
    /// Reserved.
    pub pad: Pad<6>,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The packet, where there is no buffer.
    pub data: Bytes,
}

impl Wire for PacketOut {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (buffer_id, in_port) = (r.get()?, r.get()?);
        let length: u16 = r.get()?;
        let pad = r.get()?;
        let actions = r.sub(length.into())?.all()?;
        Ok(PacketOut { buffer_id, in_port, pad, actions, data: r.get()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.buffer_id.write(out);
        self.in_port.write(out);
        let at = out.len();
        0u16.write(out);
        self.pad.write(out);
        let start = out.len();
        self.actions.write(out);
        let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
        out[at..at + 2].copy_from_slice(&length.to_be_bytes());
        self.data.write(out);
    }
}
