//! Whom hypervisors report to: the controller's event loop, of which nothing else is known here.

use tandem_model::{Effect, Event};
use tokio::sync::mpsc;
use tonic::async_trait;

/// Orders that may wait for the hypervisors: when they attach, several for each VM of a large data
/// centre come at once (5,000 servers with three or four VMs each). More wait only when nobody
/// takes any: then whoever is attached is let go, and is told everything anew when it attaches
/// again.
pub const ORDERS: usize = 128 * 1024;

/// What hypervisors report.
#[derive(Debug)]
pub enum HypervisorReport {
    /// Something has happened.
    Event(Event),
    /// Hypervisors take orders, here. The queue is closed by the event loop when it is full: then
    /// they are to attach again.
    Attached(mpsc::Sender<Effect>),
    /// None of them takes orders any more, and why.
    Detached(String),
}

/// The event loop has ended: nobody hears reports any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller's event loop has ended")]
pub struct Gone;

/// The controller's event loop, as hypervisors see it.
#[async_trait]
pub trait EventLoop: Send + Sync + 'static {
    /// Hands a report over; waits while the event loop's queue is full.
    ///
    /// # Errors
    /// When the event loop has ended.
    async fn report(&self, report: HypervisorReport) -> Result<(), Gone>;

    /// True when the event loop has ended.
    fn is_gone(&self) -> bool;
}

#[async_trait]
impl EventLoop for mpsc::Sender<HypervisorReport> {
    async fn report(&self, report: HypervisorReport) -> Result<(), Gone> {
        self.send(report).await.map_err(|_| Gone)
    }

    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}
