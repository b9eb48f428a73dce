//! OpenFlow 1.3.5 (wire version 0x04). Sections are those of the specification of March 26, 2015.
//!
//! Padding of variable length (after a match, a set-field, a property) is refused when it is not
//! zero, as the specification demands; padding at fixed places is kept as received. So a message
//! that was decoded is encoded to the same bytes again.

pub mod action;
pub mod flow;
pub mod group;
pub mod instruction;
pub mod matching;
mod message;
pub mod meter;
pub mod multipart;
pub mod oxm;
pub mod packet;
pub mod port;
pub mod queue;
pub mod stats;
pub mod switch;
pub mod table_features;

pub use action::Action;
pub use flow::{FlowMod, FlowRemoved};
pub use group::{Bucket, GroupMod};
pub use instruction::Instruction;
pub use matching::Match;
pub use message::Message;
pub use meter::{Band, MeterMod};
pub use multipart::{MultipartReply, MultipartRequest};
pub use oxm::{Field, Masked};
pub use packet::{PacketIn, PacketInView, PacketOut};
pub use port::{Port, PortMod, PortStatus};
pub use switch::{FeaturesReply, SwitchConfig};
