//! XAPI.
pub mod rpc;
