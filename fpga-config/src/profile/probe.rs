//! Which bitfile a card answers to.
//!
//! 1. The device id block names the directory of the bitfile's sources, where a bitfile has that
//!    block.
//! 2. Of the profiles with that directory (two for the OpenFlow switch; all of them without the
//!    block), those whose registers answer: the first mask word of a flow table keeps what is
//!    written to it, and is put back; an unmapped register answers 0xdeadbeef.

use super::Profile;
use crate::device_id::DeviceId;
use crate::registers::{AccessError, Registers, is_no_answer};

/// What is written and read back. No value that a card gives by itself.
const PATTERN: u32 = 0x5a3c_96e1;

/// What was found out about a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The profiles that fit, as indices into those that were given; in their order. One is an
    /// answer, several are a question for the operator.
    pub fits: Vec<usize>,
    /// What the card says about itself; `None` when it has no device id block.
    pub device_id: Option<DeviceId>,
}

/// Finds out which of `profiles` a card answers to. The staging registers of a flow table are
/// changed for a moment and put back, so nobody else may write to the card meanwhile.
///
/// # Errors
/// When the card cannot be asked.
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

/// Whether the registers that tell a profile from others answer. Without a device id block only a
/// flow table is proof.
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
