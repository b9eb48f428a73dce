//! Meters: OFPT_METER_MOD and its bands (section 7.3.4.4).

use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Bytes, Pad, Reader, Wire, wire_struct, with_length};
use serde::Serialize;

/// The highest number of a meter.
pub const MAX: u32 = 0xffff_0000;
/// OFPM_ALL: all meters, for requests and deletions.
pub const ALL: u32 = 0xffff_ffff;

wire_struct! {
    /// OFPT_METER_MOD.
    pub struct MeterMod {
        /// 0 add, 1 modify, 2 delete.
        command: u16,
        /// OFPMF bits: 1 kbit/s, 2 packets/s, 4 bursts, 8 statistics.
        flags: u16,
        /// Which meter.
        meter_id: u32,
        /// Its bands.
        bands: Vec<Band>,
    }
}

/// ofp_meter_band_header and its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Band {
    /// Rate from which on the band acts, in the unit of the meter's flags.
    pub rate: u32,
    /// Size of bursts.
    pub burst_size: u32,
    /// What it does.
    pub kind: BandKind,
}

/// What a band does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BandKind {
    /// OFPMBT_DROP.
    Drop(Pad<4>),
    /// OFPMBT_DSCP_REMARK: drop precedence to add.
    DscpRemark(u8, Pad<3>),
    /// OFPMBT_EXPERIMENTER.
    Experimenter {
        /// The experimenter's number.
        experimenter: u32,
        /// The body.
        body: Bytes,
    },
}

impl Wire for Band {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.part("meter band", OfErrorCode::BAD_LEN);
        let (kind, length) = (at.peek16(0)?, usize::from(at.peek16(2)?));
        if length < 16 || length > at.left() {
            return Err(at.error(DecodeErrorKind::Length { length }));
        }
        let mut b = r.sub(length)?.part("meter band", OfErrorCode::BAD_LEN);
        b.take(4)?;
        let (rate, burst_size) = (b.get()?, b.get()?);
        let kind = match kind {
            1 => BandKind::Drop(b.get()?),
            2 => BandKind::DscpRemark(b.get()?, b.get()?),
            0xffff => BandKind::Experimenter { experimenter: b.get()?, body: b.get()? },
            _ => {
                return Err(at.blamed(DecodeErrorKind::Unknown { value: kind.into() }, OfErrorCode::BAD_BAND));
            }
        };
        b.end()?;
        Ok(Band { rate, burst_size, kind })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let kind: u16 = match &self.kind {
            BandKind::Drop(_) => 1,
            BandKind::DscpRemark(..) => 2,
            BandKind::Experimenter { .. } => 0xffff,
        };
        with_length(out, 2, |out| {
            kind.write(out);
            0u16.write(out);
            self.rate.write(out);
            self.burst_size.write(out);
            match &self.kind {
                BandKind::Drop(pad) => pad.write(out),
                BandKind::DscpRemark(level, pad) => {
                    level.write(out);
                    pad.write(out);
                }
                BandKind::Experimenter { experimenter, body } => {
                    experimenter.write(out);
                    body.write(out);
                }
            }
        });
    }
}
