//! All messages of OpenFlow 1.0 (section 5.1: ofp_type).

use super::queue::{QueueGetConfigReply, QueueGetConfigRequest};
use super::switch::{ErrorMsg, Vendor};
use super::{
    FeaturesReply, FlowMod, FlowRemoved, PacketIn, PacketOut, PortMod, PortStatus, StatsReply, StatsRequest,
    SwitchConfig,
};
use crate::message_enum::messages;
use crate::wire::Bytes;

messages! {
    /// A message of OpenFlow 1.0.
    version crate::header::V10;
    /// OFPT_HELLO; its body is to be ignored, and kept.
    Hello = 0 (Bytes),
    /// OFPT_ERROR.
    Error = 1 (ErrorMsg),
    /// OFPT_ECHO_REQUEST.
    EchoRequest = 2 (Bytes),
    /// OFPT_ECHO_REPLY: the request's body.
    EchoReply = 3 (Bytes),
    /// OFPT_VENDOR.
    Vendor = 4 (Vendor),
    /// OFPT_FEATURES_REQUEST.
    FeaturesRequest = 5,
    /// OFPT_FEATURES_REPLY.
    FeaturesReply = 6 (FeaturesReply),
    /// OFPT_GET_CONFIG_REQUEST.
    GetConfigRequest = 7,
    /// OFPT_GET_CONFIG_REPLY.
    GetConfigReply = 8 (SwitchConfig),
    /// OFPT_SET_CONFIG.
    SetConfig = 9 (SwitchConfig),
    /// OFPT_PACKET_IN.
    PacketIn = 10 (PacketIn),
    /// OFPT_FLOW_REMOVED.
    FlowRemoved = 11 (FlowRemoved),
    /// OFPT_PORT_STATUS.
    PortStatus = 12 (PortStatus),
    /// OFPT_PACKET_OUT.
    PacketOut = 13 (PacketOut),
    /// OFPT_FLOW_MOD.
    FlowMod = 14 (FlowMod),
    /// OFPT_PORT_MOD.
    PortMod = 15 (PortMod),
    /// OFPT_STATS_REQUEST.
    StatsRequest = 16 (StatsRequest),
    /// OFPT_STATS_REPLY.
    StatsReply = 17 (StatsReply),
    /// OFPT_BARRIER_REQUEST.
    BarrierRequest = 18,
    /// OFPT_BARRIER_REPLY.
    BarrierReply = 19,
    /// OFPT_QUEUE_GET_CONFIG_REQUEST.
    QueueGetConfigRequest = 20 (QueueGetConfigRequest),
    /// OFPT_QUEUE_GET_CONFIG_REPLY.
    QueueGetConfigReply = 21 (QueueGetConfigReply),
}
