//! Actions (section 7.2.5). Every action starts with its type and its length, a multiple of 8
//! bytes.

use super::Field;
use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Bytes, Pad, Reader, Wire, pad_to_eight, with_length};
use serde::Serialize;

/// OFPCML_NO_BUFFER: max_len that sends the whole packet to the controller.
pub const NO_BUFFER: u16 = 0xffff;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// OFPAT_OUTPUT.
    Output {
        /// Port.
        port: u32,
        /// Bytes to send, where the port is the controller.
        max_len: u16,
        /// Reserved.
        pad: Pad<6>,
    },
    /// OFPAT_COPY_TTL_OUT.
    CopyTtlOut(Pad<4>),
    /// OFPAT_COPY_TTL_IN.
    CopyTtlIn(Pad<4>),
    /// OFPAT_SET_MPLS_TTL.
    SetMplsTtl(u8, Pad<3>),
    /// OFPAT_DEC_MPLS_TTL.
    DecMplsTtl(Pad<4>),
    /// OFPAT_PUSH_VLAN: Ethernet type of the tag.
    PushVlan(u16, Pad<2>),
    /// OFPAT_POP_VLAN.
    PopVlan(Pad<4>),
    /// OFPAT_PUSH_MPLS: Ethernet type of the header.
    PushMpls(u16, Pad<2>),
    /// OFPAT_POP_MPLS: Ethernet type of what is under it.
    PopMpls(u16, Pad<2>),
    /// OFPAT_SET_QUEUE.
    SetQueue(u32),
    /// OFPAT_GROUP.
    Group(u32),
    /// OFPAT_SET_NW_TTL.
    SetNwTtl(u8, Pad<3>),
    /// OFPAT_DEC_NW_TTL.
    DecNwTtl(Pad<4>),
    /// OFPAT_SET_FIELD; without a mask.
    SetField(Field),
    /// OFPAT_PUSH_PBB: Ethernet type of the tag.
    PushPbb(u16, Pad<2>),
    /// OFPAT_POP_PBB.
    PopPbb(Pad<4>),
    /// OFPAT_EXPERIMENTER; everything after the experimenter's number, as bytes.
    Experimenter {
        /// The experimenter's number.
        experimenter: u32,
        /// The body.
        body: Bytes,
    },
    /// An action that this codec does not know; only in a message that a switch reports.
    Other {
        /// OFPAT number.
        kind: u16,
        /// Everything after its length.
        body: Bytes,
    },
}

impl Action {
    /// Sends to a port; to the controller, the whole packet.
    pub fn output(port: u32) -> Action {
        Action::Output { port, max_len: NO_BUFFER, pad: Pad::default() }
    }

    /// OFPAT number.
    pub fn kind(&self) -> u16 {
        match self {
            Action::Output { .. } => 0,
            Action::CopyTtlOut(_) => 11,
            Action::CopyTtlIn(_) => 12,
            Action::SetMplsTtl(..) => 15,
            Action::DecMplsTtl(_) => 16,
            Action::PushVlan(..) => 17,
            Action::PopVlan(_) => 18,
            Action::PushMpls(..) => 19,
            Action::PopMpls(..) => 20,
            Action::SetQueue(_) => 21,
            Action::Group(_) => 22,
            Action::SetNwTtl(..) => 23,
            Action::DecNwTtl(_) => 24,
            Action::SetField(_) => 25,
            Action::PushPbb(..) => 26,
            Action::PopPbb(_) => 27,
            Action::Experimenter { .. } => 0xffff,
            Action::Other { kind, .. } => *kind,
        }
    }
}

/// Turns the error code that a match has for a bad field into the one that an action has (section
/// 7.5.4.3).
fn as_set_field(mut error: DecodeError) -> DecodeError {
    error.of_error = match error.of_error {
        OfErrorCode::BAD_FIELD | OfErrorCode::BAD_MATCH_MASK | OfErrorCode::BAD_WILDCARDS => {
            OfErrorCode::BAD_SET_TYPE
        }
        OfErrorCode::BAD_MATCH_VALUE => OfErrorCode::BAD_SET_ARGUMENT,
        of_error => of_error,
    };
    error
}

/// The field of a set-field and the zeros after it (section 7.2.5: OFPAT_SET_FIELD).
fn set_field(a: &mut Reader<'_>) -> Result<Action, DecodeError> {
    let before = a.left();
    let at = a.part("set-field", OfErrorCode::BAD_SET_LEN);
    let field: Field = {
        let mut f = at;
        let field = f.get().map_err(as_set_field)?;
        a.take(before - f.left())?;
        field
    };
    if field.id().2 && !a.is_tolerant() {
        return Err(at.blamed(DecodeErrorKind::Mask, OfErrorCode::BAD_SET_TYPE));
    }
    let length = 4 + before - a.left();
    a.part("set-field", OfErrorCode::BAD_SET_LEN).skip_padding(length)?;
    a.take(crate::wire::to_eight(length).min(a.left()))?;
    Ok(Action::SetField(field))
}

impl Action {
    /// Reads an action whose type and length are known to be a whole part; `at` is the action's
    /// start, for errors.
    fn known(kind: u16, mut a: Reader<'_>, at: &Reader<'_>) -> Result<Action, DecodeError> {
        if a.left() < 8 || !a.left().is_multiple_of(8) {
            return Err(at.error(DecodeErrorKind::Length { length: a.left() }));
        }
        a.take(4)?;
        let action = match kind {
            0 => Action::Output { port: a.get()?, max_len: a.get()?, pad: a.get()? },
            11 => Action::CopyTtlOut(a.get()?),
            12 => Action::CopyTtlIn(a.get()?),
            15 => Action::SetMplsTtl(a.get()?, a.get()?),
            16 => Action::DecMplsTtl(a.get()?),
            17 => Action::PushVlan(a.get()?, a.get()?),
            18 => Action::PopVlan(a.get()?),
            19 => Action::PushMpls(a.get()?, a.get()?),
            20 => Action::PopMpls(a.get()?, a.get()?),
            21 => Action::SetQueue(a.get()?),
            22 => Action::Group(a.get()?),
            23 => Action::SetNwTtl(a.get()?, a.get()?),
            24 => Action::DecNwTtl(a.get()?),
            25 => set_field(&mut a)?,
            26 => Action::PushPbb(a.get()?, a.get()?),
            27 => Action::PopPbb(a.get()?),
            0xffff => Action::Experimenter { experimenter: a.get()?, body: a.get()? },
            _ => {
                return Err(
                    at.blamed(DecodeErrorKind::Unknown { value: kind.into() }, OfErrorCode::BAD_ACTION_TYPE)
                );
            }
        };
        a.end()?;
        Ok(action)
    }
}

impl Wire for Action {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut part = r.part("action", OfErrorCode::BAD_ACTION_LEN);
        let at = part;
        let (kind, length) = (at.peek16(0)?, usize::from(at.peek16(2)?));
        if length < 4 || (!r.is_tolerant() && (length < 8 || length % 8 != 0)) {
            return Err(at.error(DecodeErrorKind::Length { length }));
        }
        let whole = part.sub(length)?;
        r.take(length)?;
        match Action::known(kind, whole, &at) {
            Err(_) if r.is_tolerant() => {
                let mut body = whole;
                body.take(4)?;
                Ok(Action::Other { kind, body: body.get()? })
            }
            known => known,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        with_length(out, 2, |out| {
            let start = out.len();
            self.kind().write(out);
            0u16.write(out);
            match self {
                Action::Output { port, max_len, pad } => {
                    port.write(out);
                    max_len.write(out);
                    pad.write(out);
                }
                Action::CopyTtlOut(pad)
                | Action::CopyTtlIn(pad)
                | Action::DecMplsTtl(pad)
                | Action::PopVlan(pad)
                | Action::DecNwTtl(pad)
                | Action::PopPbb(pad) => pad.write(out),
                Action::SetMplsTtl(v, pad) | Action::SetNwTtl(v, pad) => {
                    v.write(out);
                    pad.write(out);
                }
                Action::PushVlan(v, pad)
                | Action::PushMpls(v, pad)
                | Action::PopMpls(v, pad)
                | Action::PushPbb(v, pad) => {
                    v.write(out);
                    pad.write(out);
                }
                Action::SetQueue(v) | Action::Group(v) => v.write(out),
                Action::SetField(field) => {
                    field.write(out);
                    pad_to_eight(out, start);
                }
                Action::Experimenter { experimenter, body } => {
                    experimenter.write(out);
                    body.write(out);
                }
                Action::Other { body, .. } => body.write(out),
            }
        });
    }
}
