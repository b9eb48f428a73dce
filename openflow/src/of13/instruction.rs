//! Instructions (section 7.2.4). Every instruction starts with its type and its length, a multiple
//! of 8 bytes.

use super::Action;
use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Bytes, Pad, Reader, Wire, with_length};
use serde::Serialize;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Instruction {
    /// OFPIT_GOTO_TABLE.
    GotoTable(u8, Pad<3>),
    /// OFPIT_WRITE_METADATA.
    WriteMetadata {
        /// Reserved.
        pad: Pad<4>,
        /// What to write.
        metadata: u64,
        /// Which bits of it.
        mask: u64,
    },
    /// OFPIT_WRITE_ACTIONS: for the end of the pipeline.
    WriteActions(Pad<4>, Vec<Action>),
    /// OFPIT_APPLY_ACTIONS: at once.
    ApplyActions(Pad<4>, Vec<Action>),
    /// OFPIT_CLEAR_ACTIONS.
    ClearActions(Pad<4>),
    /// OFPIT_METER.
    Meter(u32),
    /// OFPIT_EXPERIMENTER; everything after the experimenter's number, as bytes.
    Experimenter {
        /// The experimenter's number.
        experimenter: u32,
        /// The body.
        body: Bytes,
    },
    /// An instruction that this codec does not know; only in a message that a switch reports.
    Other {
        /// OFPIT number.
        kind: u16,
        /// Everything after its length.
        body: Bytes,
    },
}

impl Instruction {
    /// Reads an instruction whose type and length are known to be a whole part; `at` is the
    /// instruction's start, for errors.
    fn known(kind: u16, mut i: Reader<'_>, at: &Reader<'_>) -> Result<Instruction, DecodeError> {
        if i.left() < 8 || !i.left().is_multiple_of(8) {
            return Err(at.error(DecodeErrorKind::Length { length: i.left() }));
        }
        i.take(4)?;
        let instruction = match kind {
            1 => Instruction::GotoTable(i.get()?, i.get()?),
            2 => Instruction::WriteMetadata { pad: i.get()?, metadata: i.get()?, mask: i.get()? },
            3 => Instruction::WriteActions(i.get()?, i.all()?),
            4 => Instruction::ApplyActions(i.get()?, i.all()?),
            5 => Instruction::ClearActions(i.get()?),
            6 => Instruction::Meter(i.get()?),
            0xffff => Instruction::Experimenter { experimenter: i.get()?, body: i.get()? },
            _ => {
                return Err(at.blamed(
                    DecodeErrorKind::Unknown { value: kind.into() },
                    OfErrorCode::UNKNOWN_INSTRUCTION,
                ));
            }
        };
        i.end()?;
        Ok(instruction)
    }
}

impl Wire for Instruction {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut part = r.part("instruction", OfErrorCode::BAD_INSTRUCTION_LEN);
        let at = part;
        let (kind, length) = (at.peek16(0)?, usize::from(at.peek16(2)?));
        if length < 4 || (!r.is_tolerant() && (length < 8 || length % 8 != 0)) {
            return Err(at.error(DecodeErrorKind::Length { length }));
        }
        let whole = part.sub(length)?;
        r.take(length)?;
        match Instruction::known(kind, whole, &at) {
            Err(_) if r.is_tolerant() => {
                let mut body = whole;
                body.take(4)?;
                Ok(Instruction::Other { kind, body: body.get()? })
            }
            known => known,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let kind: u16 = match self {
            Instruction::GotoTable(..) => 1,
            Instruction::WriteMetadata { .. } => 2,
            Instruction::WriteActions(..) => 3,
            Instruction::ApplyActions(..) => 4,
            Instruction::ClearActions(_) => 5,
            Instruction::Meter(_) => 6,
            Instruction::Experimenter { .. } => 0xffff,
            Instruction::Other { kind, .. } => *kind,
        };
        with_length(out, 2, |out| {
            kind.write(out);
            0u16.write(out);
            match self {
                Instruction::GotoTable(table, pad) => {
                    table.write(out);
                    pad.write(out);
                }
                Instruction::WriteMetadata { pad, metadata, mask } => {
                    pad.write(out);
                    metadata.write(out);
                    mask.write(out);
                }
                Instruction::WriteActions(pad, actions) | Instruction::ApplyActions(pad, actions) => {
                    pad.write(out);
                    actions.write(out);
                }
                Instruction::ClearActions(pad) => pad.write(out),
                Instruction::Meter(meter) => meter.write(out),
                Instruction::Experimenter { experimenter, body } => {
                    experimenter.write(out);
                    body.write(out);
                }
                Instruction::Other { body, .. } => body.write(out),
            }
        });
    }
}
