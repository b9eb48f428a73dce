//! UDP packets as a Poisson process: exponential gaps with the flow's rate on average.

use super::schedule::{Poisson as Gaps, random};
use super::udp::{receive, send};
use super::{FlowSpec, Receiver, Sender, TrafficGenerator};
use tokio::task::JoinHandle;

/// The tool `poisson`.
pub(super) struct Poisson;

impl TrafficGenerator for Poisson {
    fn name(&self) -> &'static str {
        "poisson"
    }

    fn about(&self) -> &'static str {
        "UDP packets with exponential gaps, at the flow's rate on average"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn receive(&self, flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        receive(flow, end)
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        send(flow, end, Gaps(random(flow.seed, flow.id)))
    }
}
