//! Experiments: each runs a world, writes a run folder and prints a short table beside the
//! published numbers.
//!
//! A run folder ([`run_folder`]) holds tables as CSV, figures as SVG, PDF and PNG, the controller's
//! statistics, recordings, and `manifest.json`, which says what was run and how to run it again
//! ([`manifest`]); where packets are real also the raw counters, and on a testbed how far the
//! machines' clocks were apart. Every experiment can be repeated ([`repeat`]).

pub mod calibrate;
pub mod datapaths;
pub mod fill;
pub mod hardware_qos;
pub mod hotspot;
pub mod interval;
pub mod joint_placement;
pub mod keep_policy;
pub mod live;
pub mod manifest;
pub mod plot;
pub mod qos;
pub mod records;
pub mod repeat;
pub mod run_folder;
pub mod table;
pub mod thesis_evaluation;
pub mod traffic_tools;
pub mod usage;
