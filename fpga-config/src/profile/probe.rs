//! Determines a card's bitfile.
//!
//! 1. The device id block names the directory of the bitfile's sources, if a bitfile has that
//!    block.
//! 2. Of the profiles with that directory (two for the OpenFlow switch; all of them without the
//!    block), those whose registers answer: the first mask word of a flow table stores a written
//!    value, and is restored; an unmapped register answers 0xdeadbeef.

use super::Profile;
use crate::device_id::DeviceId;
use crate::registers::{AccessError, Registers, is_no_answer};

/// The value that is written and read back. No card returns it by itself.
const PATTERN: u32 = 0x5a3c_96e1;

/// The result of probing a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The profiles that fit, as indices in the given list, in its order. With several, the
    /// operator has to choose.
    pub fits: Vec<usize>,
    /// The card's device id block; `None` if it has none.
    pub device_id: Option<DeviceId>,
}

/// Determines which of `profiles` fit a card. The staging registers of a flow table are changed and
/// restored, so no other process may write to the card meanwhile.
///
/// When the card does not answer.
pub fn probe(regs: &mut dyn Registers, profiles: &[Profile]) -> Result<Probed, AccessError> {
    let device_id = DeviceId::read(regs)?;
    let named = |p: &Profile| match (&device_id, &p.directory) {
        (Some(id), Some(directory)) => id.directory.eq_ignore_ascii_case(directory),
        (Some(_), None) => false,
        (None, _) => true,
    };
    let mut fits = Vec::new();
    for (i, profile) in profiles.iter().enumerate() {
        if named(profile) && answers(regs, profile, device_id.is_some())? {
            fits.push(i);
        }
    }
    Ok(Probed { fits, device_id })
}

/// Whether the registers that distinguish a profile answer. Without a device id block only a flow
/// table is proof.
fn answers(regs: &mut dyn Registers, profile: &Profile, named: bool) -> Result<bool, AccessError> {
    let Some(map) = profile.flow_table else {
        return Ok(named);
    };
    let before = regs.read32(map.mask)?;
    if is_no_answer(before) {
        return Ok(false);
    }
    regs.write32(map.mask, PATTERN)?;
    let kept = regs.read32(map.mask)? == PATTERN;
    regs.write32(map.mask, before)?;
    Ok(kept)
}
