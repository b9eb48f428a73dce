//! XAPI.
pub mod config;
pub mod records;
pub mod rpc;
pub mod session;
pub mod task;
mod tunnel;
