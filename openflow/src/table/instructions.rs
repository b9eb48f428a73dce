//! A flow's instructions in one form for both versions, ready for execution (OF 1.0 section 3.3, OF
//! 1.3.5 sections 5.9 to 5.12).

use super::ops::{Op, Unsupported, no_table, ops10, ops13};
use crate::error::OfErrorCode;
use crate::of13::port as port13;
use crate::{of10, of13};

/// Puts an action into an action set: it replaces an earlier one of its kind (section 5.10).
pub(super) fn into_set(set: &mut Vec<Op>, op: Op) {
    let same = |old: &Op| {
        std::mem::discriminant(old) == std::mem::discriminant(&op)
            || (old.place() == Op::LAST && op.place() == Op::LAST)
    };
    set.retain(|old| !same(old));
    set.push(op);
}

/// Sorts an action set into the order of its execution; a group replaces an output (section 5.10).
pub(super) fn in_order(set: &mut Vec<Op>) {
    if set.iter().any(|op| matches!(op, Op::Group(_))) {
        set.retain(|op| op.place() != Op::LAST);
    }
    set.sort_by_key(|op| op.place());
}

/// The instructions of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instructions {
    /// The meter that packets pass first.
    pub meter: Option<u32>,
    /// Actions that are applied at once, in order.
    pub apply: Vec<Op>,
    /// Clears the action set first.
    pub clear: bool,
    /// Actions for the action set, which is executed when the packet leaves the pipeline.
    pub write: Vec<Op>,
    /// Metadata: value and mask.
    pub metadata: Option<(u64, u64)>,
    /// The next table.
    pub goto: Option<u8>,
}

impl Instructions {
    /// Instructions that only apply actions.
    pub fn applying(apply: Vec<Op>) -> Instructions {
        Instructions { apply, ..Instructions::default() }
    }

    /// Whether an action sends to this port.
    pub fn sends_to(&self, port: u32) -> bool {
        let sends = |op: &Op| match *op {
            Op::Output(to) => to == port,
            Op::Controller(_) => port == port13::CONTROLLER,
            _ => false,
        };
        self.apply.iter().chain(&self.write).any(sends)
    }

    /// Whether an action sends to this group.
    pub fn sends_to_group(&self, group: u32) -> bool {
        self.groups().any(|g| g == group)
    }

    /// The groups that its actions name.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.apply.iter().chain(&self.write).filter_map(|op| match op {
            Op::Group(group) => Some(*group),
            _ => None,
        })
    }

    /// From OpenFlow 1.0 actions.
    ///
    /// # Errors For vendors' actions and for ports that OpenFlow 1.0 does not allow.
    pub fn from_of10(actions: &[of10::Action]) -> Result<Instructions, Unsupported> {
        Ok(Instructions::applying(no_table(ops10(actions)?)?))
    }

    /// From OpenFlow 1.3 instructions.
    ///
    /// # Errors For experimenters' actions, ports that OpenFlow 1.3 does not allow, fields that
    /// cannot be set, and an instruction that occurs twice.
    pub fn from_of13(instructions: &[of13::Instruction]) -> Result<Instructions, Unsupported> {
        use of13::Instruction;
        let mut out = Instructions::default();
        for (at, instruction) in instructions.iter().enumerate() {
            let same =
                |other: &Instruction| std::mem::discriminant(other) == std::mem::discriminant(instruction);
            if instructions[..at].iter().any(same) {
                return Err(Unsupported::new(
                    "the same instruction twice",
                    OfErrorCode::UNSUPPORTED_INSTRUCTION,
                ));
            }
            match instruction {
                Instruction::GotoTable(table, _) => out.goto = Some(*table),
                Instruction::WriteMetadata { metadata, mask, .. } => out.metadata = Some((*metadata, *mask)),
                Instruction::WriteActions(_, actions) => out.write = no_table(ops13(actions)?)?,
                Instruction::ApplyActions(_, actions) => out.apply = no_table(ops13(actions)?)?,
                Instruction::ClearActions(_) => out.clear = true,
                Instruction::Experimenter { .. } => {
                    let what = format!("{instruction:?}");
                    return Err(Unsupported::new(what, OfErrorCode::BAD_INSTRUCTION_EXPERIMENTER));
                }
                Instruction::Other { kind, .. } => {
                    let what = format!("an instruction of type {kind}");
                    return Err(Unsupported::new(what, OfErrorCode::UNKNOWN_INSTRUCTION));
                }
                Instruction::Meter(meter) => out.meter = Some(*meter),
            }
        }
        Ok(out)
    }
}
