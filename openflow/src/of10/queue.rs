//! Queues (section 5.2.2) and OFPT_QUEUE_GET_CONFIG (5.3.4).

use crate::error::{DecodeError, DecodeErrorKind};
use crate::wire::{Bytes, Pad, Reader, Wire, wire_struct, with_length};
use serde::Serialize;

wire_struct! {
    /// OFPT_QUEUE_GET_CONFIG_REQUEST.
    pub struct QueueGetConfigRequest {
        /// Which port.
        port: u16,
        /// Reserved.
        pad: Pad<2>,
    }
}

wire_struct! {
    /// OFPT_QUEUE_GET_CONFIG_REPLY.
    pub struct QueueGetConfigReply {
        /// Which port.
        port: u16,
        /// Reserved.
        pad: Pad<6>,
        /// Its queues.
        queues: Vec<PacketQueue>,
    }
}

/// ofp_packet_queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PacketQueue {
    /// Number.
    pub queue_id: u32,
    /// Reserved.
    pub pad: Pad<2>,
    /// Its guarantees.
    pub properties: Vec<Property>,
}

impl Wire for PacketQueue {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(r.peek16(4)?);
        if length < 8 {
            return Err(r.error(DecodeErrorKind::Length { length }));
        }
        let mut q = r.sub(length)?;
        let queue_id = q.get()?;
        q.take(2)?;
        Ok(PacketQueue { queue_id, pad: q.get()?, properties: q.all()? })
    }
    fn write(&self, out: &mut Vec<u8>) {
        with_length(out, 4, |out| {
            self.queue_id.write(out);
            0u16.write(out);
            self.pad.write(out);
            self.properties.write(out);
        });
    }
}

/// A queue's property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// OFPQT_MIN_RATE: tenths of a percent guaranteed; above 1000 is none.
    MinRate {
        /// Reserved.
        pad: Pad<4>,
        /// Tenths of a percent.
        rate: u16,
        /// Reserved.
        pad2: Pad<6>,
    },
    /// A property of another type, kept as bytes.
    Other {
        /// Its type.
        property: u16,
        /// Its body.
        body: Bytes,
    },
}

impl Wire for Property {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (property, length) = (r.peek16(0)?, usize::from(r.peek16(2)?));
        if length < 8 {
            return Err(r.error(DecodeErrorKind::Length { length }));
        }
        let mut p = r.sub(length)?;
        p.take(4)?;
        if property != 1 {
            return Ok(Property::Other { property, body: p.get()? });
        }
        let value = Property::MinRate { pad: p.get()?, rate: p.get()?, pad2: p.get()? };
        p.end()?;
        Ok(value)
    }
    fn write(&self, out: &mut Vec<u8>) {
        with_length(out, 2, |out| match self {
            Property::MinRate { pad, rate, pad2 } => {
                1u16.write(out);
                0u16.write(out);
                pad.write(out);
                rate.write(out);
                pad2.write(out);
            }
            Property::Other { property, body } => {
                property.write(out);
                0u16.write(out);
                body.write(out);
            }
        });
    }
}
