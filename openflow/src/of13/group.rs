//! Groups: OFPT_GROUP_MOD and its buckets (section 7.3.4.2).

use super::Action;
use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Pad, Reader, Wire, wire_struct, with_length};
use serde::Serialize;

/// The highest number of a group.
pub const MAX: u32 = 0xffff_ff00;
/// OFPG_ALL: all groups, for deletions.
pub const ALL: u32 = 0xffff_fffc;
/// OFPG_ANY: no group in particular, and watch_group of none.
pub const ANY: u32 = 0xffff_ffff;

wire_struct! {
    /// OFPT_GROUP_MOD.
    pub struct GroupMod {
        /// 0 add, 1 modify, 2 delete.
        command: u16,
        /// 0 all, 1 select, 2 indirect, 3 fast failover.
        kind: u8,
        /// Reserved.
        pad: Pad<1>,
        /// Which group.
        group_id: u32,
        /// Its buckets.
        buckets: Vec<Bucket>,
    }
}

/// ofp_bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Its weight among the buckets of a select group.
    pub weight: u16,
    /// It is alive while this port is; OFPP_ANY for none.
    pub watch_port: u32,
    /// It is alive while this group is; [`ANY`] for none.
    pub watch_group: u32,
    /// Reserved.
    pub pad: Pad<4>,
    /// What it does.
    pub actions: Vec<Action>,
}

impl Wire for Bucket {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.part("bucket", OfErrorCode::BAD_BUCKET);
        let length = usize::from(at.peek16(0)?);
        if length < 16 || length % 8 != 0 || length > at.left() {
            return Err(at.error(DecodeErrorKind::Length { length }));
        }
        let mut b = r.sub(length)?.part("bucket", OfErrorCode::BAD_BUCKET);
        b.take(2)?;
        Ok(Bucket {
            weight: b.get()?,
            watch_port: b.get()?,
            watch_group: b.get()?,
            pad: b.get()?,
            actions: b.all()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        with_length(out, 0, |out| {
            0u16.write(out);
            self.weight.write(out);
            self.watch_port.write(out);
            self.watch_group.write(out);
            self.pad.write(out);
            self.actions.write(out);
        });
    }
}
