//! Actions (section 5.2.4). Every action starts with its type and its length, a multiple of 8
//! bytes.

use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use crate::wire::{Bytes, Pad, Reader, Wire, with_length};
use serde::Serialize;
use std::net::Ipv4Addr;
use tandem_model::Mac;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// OFPAT_OUTPUT.
    Output {
        /// Port.
        port: u16,
        /// Bytes to send, where the port is the controller.
        max_len: u16,
    },
    /// OFPAT_SET_VLAN_VID.
    SetVlanVid(u16, Pad<2>),
    /// OFPAT_SET_VLAN_PCP.
    SetVlanPcp(u8, Pad<3>),
    /// OFPAT_STRIP_VLAN.
    StripVlan(Pad<4>),
    /// OFPAT_SET_DL_SRC.
    SetDlSrc(Mac, Pad<6>),
    /// OFPAT_SET_DL_DST.
    SetDlDst(Mac, Pad<6>),
    /// OFPAT_SET_NW_SRC.
    SetNwSrc(Ipv4Addr),
    /// OFPAT_SET_NW_DST.
    SetNwDst(Ipv4Addr),
    /// OFPAT_SET_NW_TOS: DSCP in the upper 6 bits.
    SetNwTos(u8, Pad<3>),
    /// OFPAT_SET_TP_SRC.
    SetTpSrc(u16, Pad<2>),
    /// OFPAT_SET_TP_DST.
    SetTpDst(u16, Pad<2>),
    /// OFPAT_ENQUEUE.
    Enqueue {
        /// Port.
        port: u16,
        /// Reserved.
        pad: Pad<6>,
        /// Queue.
        queue_id: u32,
    },
    /// OFPAT_VENDOR; everything after the vendor's number, as bytes.
    Vendor {
        /// The vendor's number.
        vendor: u32,
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
    /// Reads an action whose type and length are known to be a whole part; `at` is the action's
    /// start, for errors.
    fn known(kind: u16, mut a: Reader<'_>, at: &Reader<'_>) -> Result<Action, DecodeError> {
        if a.left() < 8 || !a.left().is_multiple_of(8) {
            return Err(at.error(DecodeErrorKind::Length { length: a.left() }));
        }
        a.take(4)?;
        let action = match kind {
            0 => Action::Output { port: a.get()?, max_len: a.get()? },
            1 => Action::SetVlanVid(a.get()?, a.get()?),
            2 => Action::SetVlanPcp(a.get()?, a.get()?),
            3 => Action::StripVlan(a.get()?),
            4 => Action::SetDlSrc(a.get()?, a.get()?),
            5 => Action::SetDlDst(a.get()?, a.get()?),
            6 => Action::SetNwSrc(a.get()?),
            7 => Action::SetNwDst(a.get()?),
            8 => Action::SetNwTos(a.get()?, a.get()?),
            9 => Action::SetTpSrc(a.get()?, a.get()?),
            10 => Action::SetTpDst(a.get()?, a.get()?),
            11 => Action::Enqueue { port: a.get()?, pad: a.get()?, queue_id: a.get()? },
            0xffff => Action::Vendor { vendor: a.get()?, body: a.get()? },
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
        let kind: u16 = match self {
            Action::Output { .. } => 0,
            Action::SetVlanVid(..) => 1,
            Action::SetVlanPcp(..) => 2,
            Action::StripVlan(_) => 3,
            Action::SetDlSrc(..) => 4,
            Action::SetDlDst(..) => 5,
            Action::SetNwSrc(_) => 6,
            Action::SetNwDst(_) => 7,
            Action::SetNwTos(..) => 8,
            Action::SetTpSrc(..) => 9,
            Action::SetTpDst(..) => 10,
            Action::Enqueue { .. } => 11,
            Action::Vendor { .. } => 0xffff,
            Action::Other { kind, .. } => *kind,
        };
        with_length(out, 2, |out| {
            kind.write(out);
            0u16.write(out);
            match self {
                Action::Output { port, max_len } => {
                    port.write(out);
                    max_len.write(out);
                }
                Action::SetVlanVid(v, pad) | Action::SetTpSrc(v, pad) | Action::SetTpDst(v, pad) => {
                    v.write(out);
                    pad.write(out);
                }
                Action::SetVlanPcp(v, pad) | Action::SetNwTos(v, pad) => {
                    v.write(out);
                    pad.write(out);
                }
                Action::StripVlan(pad) => pad.write(out),
                Action::SetDlSrc(mac, pad) | Action::SetDlDst(mac, pad) => {
                    mac.write(out);
                    pad.write(out);
                }
                Action::SetNwSrc(ip) | Action::SetNwDst(ip) => ip.write(out),
                Action::Enqueue { port, pad, queue_id } => {
                    port.write(out);
                    pad.write(out);
                    queue_id.write(out);
                }
                Action::Vendor { vendor, body } => {
                    vendor.write(out);
                    body.write(out);
                }
                Action::Other { body, .. } => body.write(out),
            }
        });
    }
}
