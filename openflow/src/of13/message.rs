//! All messages of OpenFlow 1.3 (section 7.1.1: ofp_type).

use super::queue::{QueueGetConfigReply, QueueGetConfigRequest};
use super::switch::{AsyncConfig, ErrorMsg, Experimenter, Hello, Role, TableMod};
use super::{
    FeaturesReply, FlowMod, FlowRemoved, GroupMod, MeterMod, MultipartReply, MultipartRequest, PacketIn,
    PacketOut, PortMod, PortStatus, SwitchConfig,
};
use crate::message_enum::messages;
use crate::wire::Bytes;

messages! {
    /// A message of OpenFlow 1.3.
    version crate::header::V13;
    /// OFPT_HELLO.
    Hello = 0 (Hello),
    /// OFPT_ERROR.
    Error = 1 (ErrorMsg),
    /// OFPT_ECHO_REQUEST.
    EchoRequest = 2 (Bytes),
    /// OFPT_ECHO_REPLY: the request's body.
    EchoReply = 3 (Bytes),
    /// OFPT_EXPERIMENTER.
    Experimenter = 4 (Experimenter),
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
    /// OFPT_GROUP_MOD.
    GroupMod = 15 (GroupMod),
    /// OFPT_PORT_MOD.
    PortMod = 16 (PortMod),
    /// OFPT_TABLE_MOD.
    TableMod = 17 (TableMod),
    /// OFPT_MULTIPART_REQUEST.
    MultipartRequest = 18 (MultipartRequest),
    /// OFPT_MULTIPART_REPLY.
    MultipartReply = 19 (MultipartReply),
    /// OFPT_BARRIER_REQUEST.
    BarrierRequest = 20,
    /// OFPT_BARRIER_REPLY.
    BarrierReply = 21,
    /// OFPT_QUEUE_GET_CONFIG_REQUEST.
    QueueGetConfigRequest = 22 (QueueGetConfigRequest),
    /// OFPT_QUEUE_GET_CONFIG_REPLY.
    QueueGetConfigReply = 23 (QueueGetConfigReply),
    /// OFPT_ROLE_REQUEST.
    RoleRequest = 24 (Role),
    /// OFPT_ROLE_REPLY.
    RoleReply = 25 (Role),
    /// OFPT_GET_ASYNC_REQUEST.
    GetAsyncRequest = 26,
    /// OFPT_GET_ASYNC_REPLY.
    GetAsyncReply = 27 (AsyncConfig),
    /// OFPT_SET_ASYNC.
    SetAsync = 28 (AsyncConfig),
    /// OFPT_METER_MOD.
    MeterMod = 29 (MeterMod),
}
