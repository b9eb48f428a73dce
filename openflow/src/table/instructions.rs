//! What a flow does, in one form for both versions: actions and instructions as they are carried
//! out (OF 1.0 section 3.3, OF 1.3.5 sections 5.9 to 5.12), made from either version's.

use super::ops::{Op, Unsupported, no_table, ops10, ops13};
use crate::error::OfErrorCode;
use crate::of13::port as port13;
use crate::{of10, of13};

/// Puts an action into an action set: the later replaces the earlier of its kind (section 5.10).
pub(super) fn into_set(set: &mut Vec<Op>, op: Op) {
    let same = |old: &Op| {
        std::mem::discriminant(old) == std::mem::discriminant(&op)
            || (old.place() == Op::LAST && op.place() == Op::LAST)
    };
    set.retain(|old| !same(old));
    set.push(op);
}

/// Puts an action set into the order in which it is carried out; a group takes the place of an
/// output (section 5.10).
pub(super) fn in_order(set: &mut Vec<Op>) {
    if set.iter().any(|op| matches!(op, Op::Group(_))) {
        set.retain(|op| op.place() != Op::LAST);
    }
    set.sort_by_key(|op| op.place());
}

/// What a flow does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instructions {
    /// A meter to pass first.
    pub meter: Option<u32>,
    /// At once, in order.
    pub apply: Vec<Op>,
    /// Empties the action set first.
    pub clear: bool,
    /// Into the action set, done when the packet leaves the pipeline.
    pub write: Vec<Op>,
    /// Metadata: value and mask.
    pub metadata: Option<(u64, u64)>,
    /// On to a later table.
    pub goto: Option<u8>,
}

impl Instructions {
    /// Actions at once, nothing else.
    pub fn applying(apply: Vec<Op>) -> Instructions {
        Instructions { apply, ..Instructions::default() }
    }

    /// True when it sends to a port.
    pub fn sends_to(&self, port: u32) -> bool {
        let sends = |op: &Op| match *op {
            Op::Output(to) => to == port,
            Op::Controller(_) => port == port13::CONTROLLER,
            _ => false,
        };
        self.apply.iter().chain(&self.write).any(sends)
    }

    /// True when it sends through a group.
    pub fn sends_to_group(&self, group: u32) -> bool {
        self.groups().any(|g| g == group)
    }

    /// The groups that it sends through.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.apply.iter().chain(&self.write).filter_map(|op| match op {
            Op::Group(group) => Some(*group),
            _ => None,
        })
    }

    /// From OpenFlow 1.0 actions.
    ///
    /// # Errors
    /// For vendors' actions and ports that cannot be.
    pub fn from_of10(actions: &[of10::Action]) -> Result<Instructions, Unsupported> {
        Ok(Instructions::applying(no_table(ops10(actions)?)?))
    }

    /// From OpenFlow 1.3 instructions.
    ///
    /// # Errors
    /// For experimenters, ports that cannot be, what cannot be set, and an instruction that is
    /// there twice.
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
