//! OpenFlow 1.0.0 (wire version 0x01). Sections are those of the specification of December 31,
//! 2009.

pub mod action;
pub mod flow;
pub mod matching;
mod message;
pub mod packet;
pub mod port;
pub mod queue;
pub mod stats;
pub mod switch;

pub use action::Action;
pub use flow::{FlowMod, FlowRemoved};
pub use matching::Match;
pub use message::Message;
pub use packet::{PacketIn, PacketInView, PacketOut};
pub use port::{PhyPort, PortMod, PortStatus};
pub use stats::{StatsReply, StatsRequest};
pub use switch::{FeaturesReply, SwitchConfig};
