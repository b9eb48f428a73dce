//! A testbed's flows: each is started at the machines of both its ends, and the coordinator merges
//! what both have measured.

use super::{Testbed, side_by_side};
use crate::control::messages::{FlowReport, LabRequest, LabResponse};
use crate::control::service::lock;
use crate::node::traffic::{ENDED, FlowSpec, clock};
use crate::world::testbed::clock_offset;
use crate::world::testbed::node_protocol::NodeRequest;
use anyhow::bail;
use std::collections::{BTreeMap, VecDeque};

/// A flow's ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    from: usize,
    to: usize,
    /// When it was started, nanoseconds on our clock.
    started: i64,
}

/// Where flows are: those that run, and the last [`ENDED`] that do not.
#[derive(Debug, Default)]
pub(super) struct Flows {
    ends: BTreeMap<u64, Ends>,
    /// Those that ended, the first first.
    ended: VecDeque<u64>,
}

impl Flows {
    /// Notes one that begins: where it was before, if it was.
    pub(super) fn begin(&mut self, id: u64, ends: Ends) -> Option<Ends> {
        self.ended.retain(|n| *n != id);
        self.ends.insert(id, ends)
    }

    /// Notes that one ends: where it is. Its figures are kept where it is.
    pub(super) fn end(&mut self, id: u64) -> Option<Ends> {
        let ends = self.ends.get(&id).copied()?;
        self.ended.retain(|n| *n != id);
        self.ended.push_back(id);
        while self.ended.len() > ENDED {
            let Some(oldest) = self.ended.pop_front() else { break };
            self.ends.remove(&oldest);
        }
        Some(ends)
    }
}

impl Testbed {
    pub(super) fn start_flow(&self, spec: &FlowSpec, from: &str, to: &str) -> anyhow::Result<()> {
        let ends = Ends { from: self.node_of(from)?, to: self.node_of(to)?, started: clock().cast_signed() };
        if let Some(before) = lock(&self.flows).begin(spec.id, ends)
            && (before.from, before.to) != (ends.from, ends.to)
        {
            self.stop_ends(spec.id, before)?;
        }
        let order = |from: Option<&str>, to: Option<&str>| NodeRequest::StartFlow {
            spec: spec.clone(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        if ends.from == ends.to {
            return self.ask(ends.from, &order(Some(from), Some(to))).map(drop);
        }
        // The receiver first: the first packet is to find it.
        self.ask(ends.to, &order(None, Some(to)))?;
        self.ask(ends.from, &order(Some(from), None)).map(drop)
    }

    pub(super) fn stop_ends(&self, id: u64, ends: Ends) -> anyhow::Result<()> {
        let order = NodeRequest::Ask { ask: LabRequest::StopFlow { id } };
        self.ask(ends.from, &order)?;
        if ends.from != ends.to {
            self.ask(ends.to, &order)?;
        }
        Ok(())
    }

    pub(super) fn flows(&self) -> anyhow::Result<Vec<FlowReport>> {
        self.all_there()?;
        let asked = side_by_side(&self.nodes, |node| node.ask(&NodeRequest::Ask { ask: LabRequest::Flows }));
        let mut seen: Vec<BTreeMap<u64, FlowReport>> = Vec::new();
        for answer in asked {
            let LabResponse::Flows { flows } = answer? else { bail!("a node answered something else") };
            seen.push(flows.into_iter().map(|f| (f.id, f)).collect());
        }
        let clocks = lock(&self.clocks);
        let of = |node: usize, id: u64| seen.get(node).and_then(|s| s.get(&id));
        Ok(lock(&self.flows)
            .ends
            .iter()
            .filter_map(|(id, ends)| {
                let sender = of(ends.from, *id)?;
                let receiver = of(ends.to, *id)?;
                if ends.from == ends.to {
                    return Some(receiver.clone());
                }
                // A mean delay belongs to the middle of the flow's time.
                let middle = ends.started + (receiver.seconds * 5e8) as i64;
                let offset = |n: usize| {
                    self.nodes.get(n).map_or(0.0, |n| clock_offset::offset_at(&clocks, n.machine(), middle))
                };
                Some(clock_offset::merge(sender, receiver, (offset(ends.from), offset(ends.to))))
            })
            .collect())
    }
}
