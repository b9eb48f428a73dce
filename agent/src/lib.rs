//! The agent: runs on every switch host, makes its switches and ports what the controller (or a
//! file) wants, and reports what is there.
//!
//! [`config`] says what the host has, [`desired`] what is wanted; a [`datapath`] makes the one into
//! the other. One thread, the [`worker`], owns the datapaths; the [`session`] with the controller
//! and the [`control`] socket of the command line ask it. What was applied stays when the
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
