//! The core as a whole, driven through its one door by events, as a world does it: small data
//! centres, told as stories.
//!
//! [`world`] stands in for switches, hypervisors and the store; [`packets`] walks a packet through
//! the rules that the switches were given, so that behaviour is tested and not the text of rules.

mod addressing;
mod agents;
mod carrying;
mod cases;
mod chaos;
mod classes;
mod constraints;
mod edge;
mod explanations;
mod fabric;
mod failures;
mod floods;
mod graphs;
mod group_labels;
mod groups;
mod hostile;
mod hot_links;
mod hotspots;
mod howto;
mod interrupted;
mod joint;
mod life;
mod loads;
mod managed;
mod migration_policies;
mod moves;
mod moves_chaos;
mod moves_order;
mod moves_priority;
mod moves_rules;
mod moves_stopped;
mod operator;
mod packets;
mod placement;
mod plans;
mod policies;
mod policy_events;
mod restart;
mod site_events;
mod statistics;
mod strays;
mod strays_network;
mod topology;
mod traffic;
mod vm_groups;
mod vm_names;
mod wall_clock;
mod weighted;
mod world;
