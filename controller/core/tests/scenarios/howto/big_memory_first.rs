//! The servers with the most memory first.

use tandem_core::policy::allocation::{AllocationPolicy, Rank};
use tandem_core::policy::view::ServerView;

/// Takes the server with the most memory that has room, however much of it is in use.
#[derive(Debug, Clone, Copy, Default)]
pub struct BigMemoryFirst;

impl AllocationPolicy for BigMemoryFirst {
    fn name(&self) -> &str {
        "big-memory-first"
    }

    fn rank(&self, server: &ServerView) -> Rank {
        Rank(u64::MAX - server.capacity.ram.0)
    }
}
