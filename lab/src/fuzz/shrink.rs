//! Delta debugging (Zeller and Hildebrandt, 2002): of a schedule that fails, actions are left out in ever smaller pieces as long as what is
//! left fails against the same invariant.

use super::invariants::Violation;
use super::run::{Which, one};
use super::world::Planted;

/// The shortest schedule that was found.
#[derive(Debug, Clone)]
pub struct Shortest {
    /// Places in the seed's schedule.
    pub kept: Vec<usize>,
    /// How it fails.
    pub violation: Violation,
    /// How many runs it took.
    pub runs: u32,
}

/// Shrinks the first `actions` of a seed's schedule, which fail; at most so many runs are made.
pub fn shrink(seed: u64, events: u64, actions: usize, planted: Planted, most: u32) -> Option<Shortest> {
    let fails = |kept: &[usize]| one(seed, events, Which::Only(kept), planted, false).violation;
    let mut kept: Vec<usize> = (0..actions).collect();
    let mut violation = fails(&kept)?;
    let mut runs = 1;
    let mut piece = kept.len().div_ceil(2).max(1);
    while runs < most {
        let mut at = 0;
        let mut is_shorter = false;
        while at < kept.len() && runs < most {
            let mut tried = kept.clone();
            tried.drain(at..(at + piece).min(kept.len()));
            runs += 1;
            match fails(&tried).filter(|v| v.invariant == violation.invariant) {
                Some(same) => {
                    kept = tried;
                    violation = same;
                    is_shorter = true;
                }
                None => at += piece,
            }
        }
        if piece == 1 && !is_shorter {
            break;
        }
        piece = if piece == 1 { 1 } else { piece.div_ceil(2) };
    }
    Some(Shortest { kept, violation, runs })
}
