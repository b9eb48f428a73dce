//! Policies: what is decided by whoever runs a data centre, and not by the core.

pub mod allocation;
pub mod allocation_policies;
pub mod levels;
pub mod registry;
pub mod routing;
pub mod routing_policies;
pub(crate) mod table;
pub mod view;

pub use allocation::{AllocationPolicy, Rank};
pub use allocation_policies::best_fit::BestFit;
pub use allocation_policies::first_fit::FirstFit;
pub use allocation_policies::worst_fit::WorstFit;
pub use view::ServerView;
