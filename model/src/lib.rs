//! The words that every part of Tandem shares, without I/O and without a clock.

pub mod ids;
pub mod units;

pub use ids::*;
pub use units::*;
