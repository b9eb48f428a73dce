//! The XAPI driver against a double of a pool: every failure that the field knows, and what is left
//! after it. The double itself is checked by the official Python client (`official.rs`).

mod double;
mod failures;
mod life;
mod moves;
mod official;
mod ready;
mod strays;
