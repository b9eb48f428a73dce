//! The agent: runs on every switch host, sets up its switches and ports as the controller (or a
//! file) wants them, and reports their state.
//!
//! [`config`] describes the host, [`desired`] the wanted state; a [`datapath`] sets it up. One
//! thread, the [`worker`], owns the datapaths; the [`session`] with the controller and the
//! [`control`] socket of the command line send it requests. The applied state stays when the
//! controller, or the agent, is gone.

pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod desired;
pub mod doctor;
pub mod enrollment;
pub mod local_socket;
pub mod nic;
mod peer_lines;
pub mod queues;
mod service_manager;
pub mod session;
pub mod worker;
