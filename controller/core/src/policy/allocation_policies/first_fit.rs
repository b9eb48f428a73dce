//! The first server with room.

use crate::policy::allocation::{AllocationPolicy, Rank};
use crate::policy::view::ServerView;

/// The first server, by id, with room.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstFit;

impl AllocationPolicy for FirstFit {
    fn name(&self) -> &str {
        "first-fit"
    }
    fn rank(&self, _: &ServerView) -> Rank {
        Rank(0)
    }
}
