//! The XAPI driver with a double of a pool: every known failure, and the state after it. The
//! official Python client checks the double itself (`official.rs`).

mod double;
mod failures;
mod life;
mod moves;
mod official;
mod ready;
mod strays;
