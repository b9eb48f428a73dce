//! Best fit: the fullest server with room.

use crate::policy::allocation::{AllocationPolicy, Rank};
use crate::policy::view::ServerView;

/// The fullest server with room.
#[derive(Debug, Clone, Copy, Default)]
pub struct BestFit;

impl AllocationPolicy for BestFit {
    fn name(&self) -> &str {
        "best-fit"
    }
    fn rank(&self, server: &ServerView) -> Rank {
        Rank(u64::MAX - server.share())
    }
}
