//! Worst fit: the emptiest server.

use crate::policy::allocation::{AllocationPolicy, Rank};
use crate::policy::view::ServerView;

/// The emptiest server.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorstFit;

impl AllocationPolicy for WorstFit {
    fn name(&self) -> &str {
        "worst-fit"
    }
    fn rank(&self, server: &ServerView) -> Rank {
        Rank(server.share())
    }
}
