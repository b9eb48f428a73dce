//! Executes the steps of a decision one by one on a packet's bytes. The tables (`pipeline`) and the
//! flow cache (`cache`) both execute steps here, so that a step has the same effect in either.

use super::flows::FlowTable;
use super::groups::Groups;
use super::meters::{Meters, Verdict};
use super::ops::Op;
use super::ports::Ports;
use super::rewrite;
use crate::of13::{action::NO_BUFFER, port as port13};
use tandem_model::Time;

/// The queue of a packet for which no flow has set one: the port chooses (queue 0 is a queue like
/// any other).
pub const NO_QUEUE: u32 = u32::MAX;

/// Why a packet leaves the pipeline: the OFPR reason, if a controller gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The table-miss flow sent it (section 5.4).
    NoMatch,
    /// An action sent it.
    Action,
    /// Its TTL is invalid.
    InvalidTtl,
}

/// How a packet leaves the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPacket {
    /// Output port: a port's number, `LOCAL` or `CONTROLLER`. FLOOD, ALL and IN_PORT are replaced
    /// by real ports before.
    pub port: u32,
    /// Queue; [`NO_QUEUE`] if none was set.
    pub queue: u32,
    /// How many bytes a controller gets; [`NO_BUFFER`] for all.
    pub max_len: u16,
    /// Why it leaves.
    pub reason: Reason,
    /// The table of the flow that sent it.
    pub table: u8,
    /// Cookie of that flow.
    pub cookie: u64,
    /// The metadata that tables wrote.
    pub metadata: u64,
    /// TUNNEL_ID, the metadata of a logical port.
    pub tunnel: u64,
}

/// Receives the packets that leave the pipeline.
pub trait Egress {
    /// A packet leaves. The bytes are borrowed for the call only.
    fn leave(&mut self, how: &EgressPacket, frame: &[u8]);
}

/// One step of a decision. Places in tables hold only in the generation of the pipeline that made
/// the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A table has no flow for the packet.
    Miss(u8),
    /// The packet matches the flow at this place of a table.
    Flow(u8, u32),
    /// The packet passes the meter at this place.
    Meter(u32),
    /// Any action except a group.
    Op(Op),
    /// The metadata written so far, in network order; only in decisions that send to a controller.
    Metadata([u8; 8]),
    /// TUNNEL_ID so far, in network order; only in decisions that send to a controller.
    Tunnel([u8; 8]),
    /// A copy of the packet enters a bucket of the group at this place.
    Enter {
        /// The group's place.
        group: u32,
        /// Index of the bucket.
        bucket: u16,
        /// It is the packet's first bucket of this group.
        first: bool,
        /// The bucket changes the packet, so that its bytes have to be saved.
        keep: bool,
    },
    /// The bucket ends; the packet is again as it was before.
    Leave {
        /// See `Enter`.
        keep: bool,
    },
}

/// Memory that is reused for every packet.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    /// The packet, once an action has changed its length.
    frame: Vec<u8>,
    /// The packet as it was before each bucket that is being executed.
    kept: Vec<Kept>,
}

/// A packet as it was before a bucket.
#[derive(Debug, Clone, Default)]
struct Kept {
    queue: u32,
    /// Where its bytes are in the saved memory.
    bytes: Vec<u8>,
}

/// The parts of a pipeline that steps read and change.
pub(super) struct On<'a> {
    pub(super) tables: &'a mut [FlowTable],
    pub(super) groups: &'a mut Groups,
    pub(super) meters: &'a mut Meters,
    pub(super) ports: &'a Ports,
    pub(super) scratch: &'a mut Scratch,
}

/// The execution of one packet: its bytes, its action set, and the receiver of its output.
pub(super) struct Executor<'a, E: Egress> {
    pub(super) on: On<'a>,
    /// The packet as received, changed in place while it keeps its length.
    came: &'a mut [u8],
    /// The packet is in the scratch memory, as its length has changed.
    moved: bool,
    in_port: u32,
    queue: u32,
    /// Pipeline fields that a controller gets with the packet (OF 1.3.5 section 7.4.1).
    metadata: u64,
    tunnel: u64,
    depth: usize,
    now: Time,
    egress: &'a mut E,
    /// Table and cookie of the flow whose actions are executed.
    table: u8,
    cookie: u64,
    reason: Reason,
}

impl<'a, E: Egress> Executor<'a, E> {
    pub(super) fn new(on: On<'a>, frame: &'a mut [u8], in_port: u32, now: Time, egress: &'a mut E) -> Self {
        Executor {
            on,
            came: frame,
            moved: false,
            in_port,
            queue: NO_QUEUE,
            metadata: 0,
            tunnel: 0,
            depth: 0,
            now,
            egress,
            table: 0,
            cookie: u64::MAX,
            reason: Reason::Action,
        }
    }

    /// The packet as changed so far.
    #[inline]
    pub(super) fn frame(&self) -> &[u8] {
        if self.moved { &self.on.scratch.frame } else { self.came }
    }

    fn frame_mut(&mut self) -> &mut [u8] {
        if self.moved { &mut self.on.scratch.frame } else { self.came }
    }

    /// The packet in memory that can grow.
    fn growing(&mut self) -> &mut Vec<u8> {
        if !self.moved {
            self.moved = true;
            self.on.scratch.frame.clear();
            self.on.scratch.frame.extend_from_slice(self.came);
        }
        &mut self.on.scratch.frame
    }

    /// Executes a step; false when the packet ends here (in a bucket, its copy).
    #[inline]
    pub(super) fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Flow(table, at) => self.flow(table, at as usize),
            Step::Op(op) => self.op(op),
            Step::Miss(table) => {
                if let Some(t) = self.on.tables.get_mut(usize::from(table)) {
                    t.missed();
                }
                true
            }
            Step::Meter(at) => self.meter(at as usize),
            Step::Metadata(value) => {
                self.metadata = u64::from_be_bytes(value);
                true
            }
            Step::Tunnel(value) => {
                self.tunnel = u64::from_be_bytes(value);
                true
            }
            Step::Enter { group, bucket, first, keep } => {
                self.enter(group as usize, bucket.into(), first, keep);
                true
            }
            Step::Leave { keep } => {
                self.leave(keep);
                true
            }
        }
    }

    /// Executes the steps of a decision.
    #[inline]
    pub(super) fn replay(&mut self, steps: &[Step]) {
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            at += 1;
            if !self.step(*step) {
                if self.depth == 0 {
                    return;
                }
                // Goes on behind the bucket that the copy was in.
                let mut nested = 0usize;
                while let Some(step) = steps.get(at) {
                    match step {
                        Step::Enter { .. } => nested += 1,
                        Step::Leave { .. } if nested == 0 => break,
                        Step::Leave { .. } => nested -= 1,
                        _ => {}
                    }
                    at += 1;
                }
            }
        }
    }

    #[inline]
    fn flow(&mut self, table: u8, at: usize) -> bool {
        let (length, now) = (self.frame().len(), self.now);
        let Some(flow) = self.on.tables.get_mut(usize::from(table)).and_then(|t| t.hit(at, length, now))
        else {
            return false;
        };
        self.table = table;
        self.cookie = flow.cookie;
        self.reason = if flow.is_miss() { Reason::NoMatch } else { Reason::Action };
        true
    }

    fn meter(&mut self, at: usize) -> bool {
        let (length, now) = (self.frame().len(), self.now);
        match self.on.meters.at(at).map_or(Verdict::Pass, |m| m.pass(length, now)) {
            Verdict::Pass => true,
            Verdict::Drop => false,
            Verdict::Remark(level) => {
                rewrite::drop_precedence(self.frame_mut(), level);
                true
            }
        }
    }

    fn enter(&mut self, group: usize, bucket: usize, first: bool, keep: bool) {
        let length = self.frame().len();
        self.on.groups.count(group, bucket, first, length);
        if self.on.scratch.kept.len() <= self.depth {
            self.on.scratch.kept.push(Kept::default());
        }
        let mut place = std::mem::take(&mut self.on.scratch.kept[self.depth]);
        place.queue = self.queue;
        place.bytes.clear();
        if keep {
            place.bytes.extend_from_slice(self.frame());
        }
        self.on.scratch.kept[self.depth] = place;
        self.depth += 1;
    }

    fn leave(&mut self, keep: bool) {
        self.depth = self.depth.saturating_sub(1);
        let Scratch { frame, kept } = &mut *self.on.scratch;
        let Some(Kept { queue, bytes }) = kept.get(self.depth) else { return };
        self.queue = *queue;
        if keep {
            self.moved = bytes.len() != self.came.len();
            if self.moved {
                frame.clone_from(bytes);
            } else {
                self.came.copy_from_slice(bytes);
            }
        }
    }

    #[inline]
    fn op(&mut self, op: Op) -> bool {
        match op {
            Op::Output(port) => self.output(port),
            Op::SetQueue(queue) => self.queue = queue,
            Op::Controller(max_len) => self.controller(max_len, self.reason),
            Op::SetEthDst(mac) => rewrite::mac(self.frame_mut(), 0, mac),
            Op::SetEthSrc(mac) => rewrite::mac(self.frame_mut(), 6, mac),
            Op::SetVlanVid(vid) => self.vlan(vid, 0x0fff),
            Op::SetVlanPcp(pcp) => self.vlan(u16::from(pcp) << 13, 0xe000),
            Op::PushVlan(_) | Op::PopVlan => self.tag(op),
            Op::SetIpv4Src(a) => rewrite::ipv4_address(self.frame_mut(), 12, a),
            Op::SetIpv4Dst(a) => rewrite::ipv4_address(self.frame_mut(), 16, a),
            Op::SetDscp(d) => rewrite::traffic_class(self.frame_mut(), d << 2, 0xfc),
            Op::SetL4Src(p) => rewrite::port(self.frame_mut(), 0, p),
            Op::SetL4Dst(p) => rewrite::port(self.frame_mut(), 2, p),
            Op::DecTtl => return self.lowered(rewrite::dec_ttl),
            other => return self.rare(other),
        }
        true
    }

    /// Rare actions, in a function of their own so that the frequent ones stay compact.
    #[cold]
    #[inline(never)]
    fn rare(&mut self, op: Op) -> bool {
        match op {
            // A decision has the group's buckets as steps, and TUNNEL_ID where a controller gets
            // it.
            Op::Group(_) | Op::SetTunnelId(_) => {}
            Op::DecMplsTtl => return self.lowered(rewrite::dec_mpls_ttl),
            Op::SetSctpSrc(p) => return rewrite::sctp_port(self.frame_mut(), 0, p),
            Op::SetSctpDst(p) => return rewrite::sctp_port(self.frame_mut(), 2, p),
            Op::PushMpls(_) | Op::PopMpls(_) | Op::PushPbb(_) | Op::PopPbb => self.tag(op),
            other => set_field(self.frame_mut(), other),
        }
        true
    }

    /// Pushes a tag, or pops one if there is one.
    fn tag(&mut self, op: Op) {
        match op {
            Op::PopVlan if !rewrite::tagged(self.frame()) => {}
            Op::PopVlan => rewrite::pop_vlan(self.growing()),
            Op::PushVlan(kind) => rewrite::push_vlan(self.growing(), kind),
            Op::PushMpls(kind) => rewrite::push_mpls(self.growing(), kind),
            Op::PopMpls(kind) => rewrite::pop_mpls(self.growing(), kind),
            Op::PushPbb(kind) => rewrite::push_pbb(self.growing(), kind),
            Op::PopPbb => rewrite::pop_pbb(self.growing()),
            _ => {}
        }
    }

    /// Decrements a TTL. A packet whose TTL becomes invalid is dropped, and a controller gets it.
    fn lowered(&mut self, lower: fn(&mut [u8]) -> bool) -> bool {
        let goes_on = lower(self.frame_mut());
        if !goes_on {
            self.controller(NO_BUFFER, Reason::InvalidTtl);
        }
        goes_on
    }

    fn vlan(&mut self, value: u16, mask: u16) {
        if !rewrite::tagged(self.frame()) {
            rewrite::push_vlan(self.growing(), 0x8100);
        }
        rewrite::vlan(self.frame_mut(), value, mask);
    }

    fn controller(&mut self, max_len: u16, reason: Reason) {
        let how = EgressPacket {
            port: port13::CONTROLLER,
            queue: self.queue,
            max_len,
            reason,
            table: self.table,
            cookie: self.cookie,
            metadata: self.metadata,
            tunnel: self.tunnel,
        };
        let frame: &[u8] = if self.moved { &self.on.scratch.frame } else { self.came };
        self.egress.leave(&how, frame);
    }

    #[inline]
    fn output(&mut self, port: u32) {
        let how = |port| EgressPacket {
            port,
            queue: self.queue,
            max_len: NO_BUFFER,
            reason: self.reason,
            table: self.table,
            cookie: self.cookie,
            metadata: self.metadata,
            tunnel: self.tunnel,
        };
        let frame: &[u8] = if self.moved { &self.on.scratch.frame } else { self.came };
        match port {
            port13::FLOOD | port13::ALL => {
                self.on.ports.flooded(port, self.in_port).for_each(|p| self.egress.leave(&how(p), frame));
            }
            port13::IN_PORT => self.egress.leave(&how(self.in_port), frame),
            // A packet is not sent out of its input port, except to IN_PORT (OF 1.3.5 section 5.1).
            p if p == self.in_port => {}
            p => self.egress.leave(&how(p), frame),
        }
    }
}

/// Sets the fields that flows seldom set.
fn set_field(frame: &mut [u8], op: Op) {
    match op {
        Op::SetEthType(kind) => rewrite::set_ether_type(frame, kind),
        Op::SetIpProto(protocol) => rewrite::ip_protocol(frame, protocol),
        Op::SetIpv6SrcHigh(half) => rewrite::ipv6_address(frame, 8, half),
        Op::SetIpv6SrcLow(half) => rewrite::ipv6_address(frame, 16, half),
        Op::SetIpv6DstHigh(half) => rewrite::ipv6_address(frame, 24, half),
        Op::SetIpv6DstLow(half) => rewrite::ipv6_address(frame, 32, half),
        Op::SetEcn(e) => rewrite::traffic_class(frame, e, 0x03),
        Op::SetTtl(ttl) => rewrite::set_ttl(frame, ttl),
        Op::SetMplsTtl(ttl) => rewrite::set_mpls_ttl(frame, ttl),
        Op::CopyTtlOut => rewrite::copy_ttl_out(frame),
        Op::CopyTtlIn => rewrite::copy_ttl_in(frame),
        Op::SetIpv6Flabel(label) => rewrite::flow_label(frame, label),
        Op::SetIcmpType(kind) => rewrite::icmp(frame, false, u16::from(kind) << 8, 0xff00),
        Op::SetIcmpCode(code) => rewrite::icmp(frame, false, code.into(), 0x00ff),
        Op::SetIcmpv6Type(kind) => rewrite::icmp(frame, true, u16::from(kind) << 8, 0xff00),
        Op::SetIcmpv6Code(code) => rewrite::icmp(frame, true, code.into(), 0x00ff),
        Op::SetNdTargetHigh(half) => rewrite::nd_target(frame, 8, half),
        Op::SetNdTargetLow(half) => rewrite::nd_target(frame, 16, half),
        Op::SetNdSll(mac) => rewrite::nd_option(frame, 1, mac),
        Op::SetNdTll(mac) => rewrite::nd_option(frame, 2, mac),
        Op::SetArpOp(opcode) => rewrite::arp(frame, 6, &opcode.to_be_bytes()),
        Op::SetArpSha(mac) => rewrite::arp(frame, 8, &mac),
        Op::SetArpSpa(address) => rewrite::arp(frame, 14, &address.to_be_bytes()),
        Op::SetArpTha(mac) => rewrite::arp(frame, 18, &mac),
        Op::SetArpTpa(address) => rewrite::arp(frame, 24, &address.to_be_bytes()),
        Op::SetMplsLabel(label) => rewrite::mpls_bits(frame, label << 12, 0xffff_f000),
        Op::SetMplsTc(class) => rewrite::mpls_bits(frame, u32::from(class) << 9, 0x0e00),
        Op::SetMplsBos(bottom) => rewrite::mpls_bits(frame, u32::from(bottom) << 8, 0x0100),
        Op::SetPbbIsid(service) => rewrite::pbb_isid(frame, service),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembered decisions are read for every packet, so that a step has to stay small.
    #[test]
    fn a_step_is_small() {
        assert_eq!((size_of::<Op>(), size_of::<Step>()), (12, 12));
    }
}
