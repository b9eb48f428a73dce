//! Queues (section 7.2.2) and OFPT_QUEUE_GET_CONFIG (7.3.6).

use crate::error::{DecodeError, DecodeErrorKind};
use crate::wire::{Bytes, Pad, Reader, Wire, wire_struct, with_length};
use serde::Serialize;

wire_struct! {
    /// OFPT_QUEUE_GET_CONFIG_REQUEST.
    pub struct QueueGetConfigRequest {
        /// Which port; OFPP_ANY for all.
        port: u32,
        /// Reserved.
        pad: Pad<4>,
    }
}

wire_struct! {
    /// OFPT_QUEUE_GET_CONFIG_REPLY.
    pub struct QueueGetConfigReply {
        /// Which port was asked for.
        port: u32,
        /// Reserved.
        pad: Pad<4>,
        /// Queues.
        queues: Vec<PacketQueue>,
    }
}

/// ofp_packet_queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PacketQueue {
    /// Number.
    pub queue_id: u32,
    /// Its port.
    pub port: u32,
    /// Reserved.
    pub pad: Pad<6>,
    /// Its guarantees and limits.
    pub properties: Vec<Property>,
}

impl Wire for PacketQueue {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(r.peek16(8)?);
        if length < 16 {
            return Err(r.error(DecodeErrorKind::Length { length }));
        }
        let mut q = r.sub(length)?;
        let (queue_id, port) = (q.get()?, q.get()?);
        q.take(2)?;
        Ok(PacketQueue { queue_id, port, pad: q.get()?, properties: q.all()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        with_length(out, 8, |out| {
            self.queue_id.write(out);
            self.port.write(out);
            0u16.write(out);
            self.pad.write(out);
            self.properties.write(out);
        });
    }
}

/// ofp_queue_prop_header and its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Property {
    /// Reserved.
    pub pad: Pad<4>,
    /// The property itself.
    pub kind: PropertyKind,
}

/// A property of a queue, by type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PropertyKind {
    /// OFPQT_MIN_RATE: tenths of a percent guaranteed; above 1000 is none.
    MinRate(u16, Pad<6>),
    /// OFPQT_MAX_RATE: tenths of a percent allowed; above 1000 is no limit.
    MaxRate(u16, Pad<6>),
    /// OFPQT_EXPERIMENTER.
    Experimenter {
        /// The experimenter's number.
        experimenter: u32,
        /// Reserved.
        pad: Pad<4>,
        /// The body.
        body: Bytes,
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
        let pad = p.get()?;
        let kind = match property {
            1 => PropertyKind::MinRate(p.get()?, p.get()?),
            2 => PropertyKind::MaxRate(p.get()?, p.get()?),
            0xffff => PropertyKind::Experimenter { experimenter: p.get()?, pad: p.get()?, body: p.get()? },
            _ => PropertyKind::Other { property, body: p.get()? },
        };
        p.end()?;
        Ok(Property { pad, kind })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let property: u16 = match &self.kind {
            PropertyKind::MinRate(..) => 1,
            PropertyKind::MaxRate(..) => 2,
            PropertyKind::Experimenter { .. } => 0xffff,
            PropertyKind::Other { property, .. } => *property,
        };
        with_length(out, 2, |out| {
            property.write(out);
            0u16.write(out);
            self.pad.write(out);
            match &self.kind {
                PropertyKind::MinRate(rate, pad) | PropertyKind::MaxRate(rate, pad) => {
                    rate.write(out);
                    pad.write(out);
                }
                PropertyKind::Experimenter { experimenter, pad, body } => {
                    experimenter.write(out);
                    pad.write(out);
                    body.write(out);
                }
                PropertyKind::Other { body, .. } => body.write(out),
            }
        });
    }
}
