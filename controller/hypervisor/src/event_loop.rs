//! The controller's event loop, to which hypervisors report, as an interface.

use tandem_model::{Effect, Event};
use tokio::sync::mpsc;
use tonic::async_trait;

/// The most orders that wait for the hypervisors: when they attach, there are several for each VM
/// of a large data centre at once (5,000 servers with three or four VMs each). The queue fills only
/// when nobody takes orders: then the hypervisors are detached, and get all orders again when they
/// attach again.
pub const ORDERS: usize = 128 * 1024;

/// A report of the hypervisors.
#[derive(Debug)]
pub enum HypervisorReport {
    /// An event.
    Event(Event),
    /// Hypervisors take orders from this queue. The event loop closes it when it is full: then they
    /// have to attach again.
    Attached(mpsc::Sender<Effect>),
    /// Hypervisors no longer take orders, with the reason.
    Detached(String),
}

/// The event loop has ended, and takes no more reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller's event loop has ended")]
pub struct Gone;

/// The interface of the event loop for hypervisors.
#[async_trait]
pub trait EventLoop: Send + Sync + 'static {
    /// Sends a report; waits while the event loop's queue is full.
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
