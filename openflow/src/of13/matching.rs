//! ofp_match of type OFPMT_OXM (section 7.2.3): a list of fields, padded to 8 bytes.

use super::oxm::{BASIC, Field, VLAN_NONE};
use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Reader, Wire, pad_to_eight, with_length};
use serde::Serialize;

/// A flow's match: a packet has to fulfil all fields. A match without fields takes every packet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Match {
    /// The fields, each behind its prerequisites.
    pub fields: Vec<Field>,
}

/// Why a list of fields is not a valid match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// Two fields are the same.
    #[error("field {0} is there twice")]
    Duplicate(u8),
    /// A field's prerequisite is not before it, or has another value.
    #[error("field {0} needs another before it")]
    Prerequisite(u8),
}

impl Match {
    /// Matches every packet.
    pub fn any() -> Match {
        Match::default()
    }

    /// Checks that every field occurs once, behind its prerequisites (section 7.2.3.6).
    ///
    /// # Errors
    /// Names the first field that is not.
    pub fn check(&self) -> Result<(), MatchError> {
        let mut seen = 0u128;
        for (at, field) in self.fields.iter().enumerate() {
            let (class, number, _) = field.id();
            if class != BASIC {
                continue;
            }
            if seen & (1 << number) != 0 {
                return Err(MatchError::Duplicate(number));
            }
            seen |= 1 << number;
            if !needs_met(number, &self.fields[..at]) {
                return Err(MatchError::Prerequisite(number));
            }
        }
        Ok(())
    }
}

/// Whether the prerequisite of field `number` is among the fields before it (section 7.2.3.7, table
/// 11).
pub(crate) fn needs_met(number: u8, before: &[Field]) -> bool {
    let has = |wanted: u8, values: &[u128]| {
        before.iter().any(|f| {
            let (class, number, _) = f.id();
            class == BASIC && number == wanted && f.exact().is_some_and(|v| values.contains(&v))
        })
    };
    let (eth, proto, icmpv6) = (
        |types: &[u128]| has(5, types),
        |protocol: u128| has(10, &[protocol]),
        |types: &[u128]| has(29, types),
    );
    match number {
        1 => before.iter().any(|f| matches!(f, Field::InPort(_))),
        7 => before.iter().any(|f| matches!(f, Field::VlanVid(v) if v.value != VLAN_NONE)),
        8..=10 => eth(&[0x0800, 0x86dd]),
        11 | 12 => eth(&[0x0800]),
        13 | 14 => proto(6),
        15 | 16 => proto(17),
        17 | 18 => proto(132),
        19 | 20 => eth(&[0x0800]) && proto(1),
        21..=25 => eth(&[0x0806]),
        26..=28 | 39 => eth(&[0x86dd]),
        29 | 30 => eth(&[0x86dd]) && proto(58),
        31 => icmpv6(&[135, 136]),
        32 => icmpv6(&[135]),
        33 => icmpv6(&[136]),
        34..=36 => eth(&[0x8847, 0x8848]),
        37 => eth(&[0x88e7]),
        _ => true,
    }
}

impl Wire for Match {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.part("match", OfErrorCode::BAD_MATCH_LEN);
        let (kind, length) = (at.peek16(0)?, usize::from(at.peek16(2)?));
        if kind != 1 {
            return Err(
                at.blamed(DecodeErrorKind::Unknown { value: kind.into() }, OfErrorCode::BAD_MATCH_TYPE)
            );
        }
        if length < 4 || length > at.left() {
            return Err(at.error(DecodeErrorKind::Length { length }));
        }
        let mut m = r.sub(length)?.part("match", OfErrorCode::BAD_MATCH_LEN);
        r.part("match", OfErrorCode::BAD_MATCH_LEN).skip_padding(length)?;
        r.take(crate::wire::to_eight(length).min(r.left()))?;
        m.take(4)?;
        let found = Match { fields: m.all()? };
        // A switch may report fields in any order, and a field that is unknown here may be the
        // prerequisite of another.
        if r.is_tolerant() {
            return Ok(found);
        }
        match found.check() {
            Ok(()) => Ok(found),
            Err(MatchError::Duplicate(number)) => {
                Err(at
                    .blamed(DecodeErrorKind::Repeated { value: number.into() }, OfErrorCode::DUPLICATE_FIELD))
            }
            Err(MatchError::Prerequisite(number)) => Err(at.blamed(
                DecodeErrorKind::Prerequisite { value: number.into() },
                OfErrorCode::BAD_PREREQUISITE,
            )),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        with_length(out, 2, |out| {
            1u16.write(out);
            0u16.write(out);
            self.fields.write(out);
        });
        pad_to_eight(out, start);
    }
}
