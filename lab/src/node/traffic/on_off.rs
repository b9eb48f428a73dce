//! UDP packets in periods of sending and of silence, exponential or Pareto, at the flow's rate on
//! average.

use super::options::{OptionFault, Reader};
use super::schedule::{OnOff as Gaps, Periods, random};
use super::udp::{packet_time, receive, send};
use super::{FlowSpec, Receiver, Sender, TrafficGenerator};
use std::time::Duration;
use tandem_model::ToolOptions;
use tokio::task::JoinHandle;

/// The tool `on-off`.
pub(super) struct OnOff;

struct Options {
    on: Duration,
    off: Duration,
    periods: Periods,
    shape: f64,
}

impl Options {
    fn read(options: &ToolOptions) -> Result<Options, OptionFault> {
        let mut o = Reader::new(options);
        let half = Duration::from_millis(500);
        let bounds = (Duration::from_millis(1), Duration::from_secs(3600));
        let options = Options {
            on: o.duration("on", half, bounds.0, bounds.1),
            off: o.duration("off", half, bounds.0, bounds.1),
            periods: o
                .word("periods", &[("exponential", Periods::Exponential), ("pareto", Periods::Pareto)])
                .unwrap_or(Periods::Exponential),
            // At 1 and below a Pareto distribution has no mean.
            shape: o.number("shape", 1.5, 1.05, 10.0),
        };
        o.finish(options)
    }
}

impl TrafficGenerator for OnOff {
    fn name(&self) -> &'static str {
        "on-off"
    }

    fn about(&self) -> &'static str {
        "UDP in periods of sending and silence: on, off (times), periods (exponential, pareto), shape"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn check(&self, options: &ToolOptions) -> Result<(), OptionFault> {
        Options::read(options).map(drop)
    }

    fn receive(&self, flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        receive(flow, end)
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        let o = Options::read(&flow.options)?;
        let random = random(flow.seed, flow.id);
        send(flow, end, Gaps::new(random, o.periods, o.shape, o.on, o.off, packet_time(flow)))
    }
}
