//! Capabilities of tables: ofp_table_features and its properties (section 7.3.5.5).

use super::oxm::Id;
use super::stats::measured_struct;
use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Bytes, Pad, Reader, Text, Wire, pad_to_eight, to_eight, with_length};
use serde::Serialize;

measured_struct! {
    /// ofp_table_features.
    pub struct TableFeatures {
        => length at 0, at least 64,
        /// Which table.
        table_id: u8,
        /// Reserved.
        pad: Pad<5>,
        /// Its name.
        name: Text<32>,
        /// Bits of metadata that it can match.
        metadata_match: u64,
        /// Bits of metadata that it can write.
        metadata_write: u64,
        /// OFPTC bits.
        config: u32,
        /// Flows it can hold.
        max_entries: u32,
        /// All other capabilities.
        properties: Vec<Property>,
    }
}

/// ofp_table_feature_prop_header and its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Property {
    /// OFPTFPT number: even numbers are for flows, odd ones for the table-miss flow.
    pub kind: u16,
    /// The capabilities.
    pub list: List,
}

/// The list in a property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// Instructions (kinds 0, 1).
    Instructions(Vec<Capability>),
    /// Tables that can be next (2, 3).
    NextTables(Bytes),
    /// Actions, to write (4, 5) or to apply (6, 7).
    Actions(Vec<Capability>),
    /// Fields to match (8), that need no value (10), to set with written (12, 13) and applied (14,
    /// 15) actions.
    Fields(Vec<Id>),
    /// An experimenter's (0xfffe, 0xffff): its number, its type, its data.
    Experimenter(u32, u32, Bytes),
}

/// An instruction or action that is possible: only its type, and the experimenter's number where
/// that is 0xffff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// OFPIT or OFPAT number.
    pub kind: u16,
    /// The experimenter's number and data; nothing for others. Some switches write 4 bytes of
    /// padding here, which are kept.
    pub body: Bytes,
}

impl Wire for Capability {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, length) = (r.peek16(0)?, usize::from(r.peek16(2)?));
        if length < 4 || (kind == 0xffff && length < 8) {
            return Err(r.error(DecodeErrorKind::Length { length }));
        }
        let mut c = r.sub(length)?;
        c.take(4)?;
        Ok(Capability { kind, body: c.get()? })
    }
    fn write(&self, out: &mut Vec<u8>) {
        with_length(out, 2, |out| {
            self.kind.write(out);
            0u16.write(out);
            self.body.write(out);
        });
    }
}

impl Wire for Property {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.part("table feature", OfErrorCode::BAD_TABLE_FEATURE_LEN);
        let (kind, length) = (at.peek16(0)?, usize::from(at.peek16(2)?));
        if length < 4 || length > at.left() {
            return Err(at.error(DecodeErrorKind::Length { length }));
        }
        let mut p = r.sub(length)?.part("table feature", OfErrorCode::BAD_TABLE_FEATURE_LEN);
        r.part("table feature", OfErrorCode::BAD_TABLE_FEATURE_LEN).skip_padding(length)?;
        r.take(to_eight(length).min(r.left()))?;
        p.take(4)?;
        let list = match kind {
            0 | 1 => List::Instructions(p.all()?),
            2 | 3 => List::NextTables(p.get()?),
            4..=7 => List::Actions(p.all()?),
            8 | 10 | 12..=15 => List::Fields(p.all()?),
            0xfffe | 0xffff => List::Experimenter(p.get()?, p.get()?, p.get()?),
            _ => {
                return Err(at.blamed(
                    DecodeErrorKind::Unknown { value: kind.into() },
                    OfErrorCode::BAD_TABLE_FEATURE_TYPE,
                ));
            }
        };
        Ok(Property { kind, list })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        with_length(out, 2, |out| {
            self.kind.write(out);
            0u16.write(out);
            match &self.list {
                List::Instructions(list) | List::Actions(list) => list.write(out),
                List::NextTables(list) => list.write(out),
                List::Fields(list) => list.write(out),
                List::Experimenter(experimenter, exp_type, data) => {
                    experimenter.write(out);
                    exp_type.write(out);
                    data.write(out);
                }
            }
        });
        pad_to_eight(out, start);
    }
}
