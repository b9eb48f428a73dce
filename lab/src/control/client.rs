//! The hypervisor service's other side, for experiments and tests that need no controller: sends
//! orders and hears reports, as the controller does.

use super::labs;
use anyhow::{Context, bail};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use tandem_agent_protocol::hypervisor::hypervisor_client::HypervisorClient;
use tandem_agent_protocol::hypervisor::{self as wire, order::Order as Kind, report::Report as What};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Uri};

/// Orders on their way; whoever orders more waits.
const ORDERS: usize = 256;
/// Reports that nobody has asked for yet; with more, the lab is given up.
const REPORTS: usize = 65_536;

/// Attached to a lab; it ends when it is dropped.
pub struct Client {
    /// Its tasks end with it.
    _runtime: Runtime,
    orders: tokio::sync::mpsc::Sender<wire::Order>,
    reports: mpsc::Receiver<What>,
    /// What the service said first.
    pub hello: wire::Hello,
}

impl Client {
    /// Attaches to a lab of that name.
    ///
    /// # Errors
    /// When there is none, or it does not say hello.
    pub fn attach(lab: &str) -> anyhow::Result<Client> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let lab = lab.to_owned();
        let (orders, queue) = tokio::sync::mpsc::channel(ORDERS);
        let (sender, reports) = mpsc::sync_channel(REPORTS);
        runtime.block_on(async {
            let channel = Endpoint::from_static("http://hypervisor")
                .connect_with_connector(tower::service_fn(move |_: Uri| {
                    let lab = lab.clone();
                    async move {
                        let stream = labs::connect(&lab, true).map_err(std::io::Error::other)?;
                        stream.set_nonblocking(true)?;
                        tokio::net::UnixStream::from_std(stream).map(hyper_util::rt::TokioIo::new)
                    }
                }))
                .await?;
            let stream = ReceiverStream::new(queue);
            let mut inbox = HypervisorClient::new(channel).attach(stream).await?.into_inner();
            tokio::spawn(async move {
                while let Ok(Some(report)) = inbox.message().await {
                    if report.report.is_some_and(|what| sender.try_send(what).is_err()) {
                        return;
                    }
                }
            });
            anyhow::Ok(())
        })?;
        let first = reports.recv_timeout(Duration::from_secs(20)).context("the lab does not say hello")?;
        let What::Hello(hello) = first else { bail!("the lab says {first:?} before hello") };
        Ok(Client { _runtime: runtime, orders, reports, hello })
    }

    /// Sends an order.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn order(&self, order: Kind) -> anyhow::Result<()> {
        self.orders.blocking_send(wire::Order { order: Some(order) }).context("the lab is gone")
    }

    /// Hears reports until `wanted` gives something for one.
    ///
    /// # Errors
    /// When it does not within `limit`, with what was heard last; or when the lab is gone.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&What) -> Option<T>,
    ) -> anyhow::Result<T> {
        let begin = Instant::now();
        let mut last = None;
        loop {
            match self.reports.recv_timeout(limit.saturating_sub(begin.elapsed())) {
                Ok(report) => match wanted(&report) {
                    Some(found) => return Ok(found),
                    None => last = Some(report),
                },
                Err(RecvTimeoutError::Timeout) => bail!("{what}: not within {limit:?}; heard last: {last:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("{what}: the lab is gone"),
            }
        }
    }

    /// Starts a VM and waits until it runs.
    ///
    /// # Errors
    /// With why it does not.
    pub fn allocate(&self, order: wire::Allocate) -> anyhow::Result<()> {
        let vm = order.vm;
        self.order(Kind::Allocate(order))?;
        let ended = self.until("the VM's start", Duration::from_secs(60), |report| match report {
            What::Started(s) if s.vm == vm => Some(Ok(())),
            What::Failed(f) if f.vm == vm => Some(Err(f.why.clone())),
            _ => None,
        })?;
        ended.map_err(|why| anyhow::anyhow!("vm{vm}: {why}"))
    }

    /// Moves a VM and waits for its end: how long it was silent, if it was moved.
    ///
    /// # Errors
    /// With why it is where it was.
    pub fn migrate(&self, order: wire::Migrate, limit: Duration) -> anyhow::Result<Option<Duration>> {
        self.order(Kind::Migrate(order))?;
        self.moved(order.migration, limit)
    }

    /// Waits for a migration's end.
    ///
    /// # Errors
    /// With why the VM is where it was.
    pub fn moved(&self, migration: u64, limit: Duration) -> anyhow::Result<Option<Duration>> {
        let ended = self.until("the migration's end", limit, |report| match report {
            What::Moved(m) if m.migration == migration => Some(Ok(m.downtime_ns.map(Duration::from_nanos))),
            What::MigrationFailed(f) if f.migration == migration => Some(Err((f.at, f.why.clone()))),
            _ => None,
        })?;
        ended.map_err(|(at, why)| anyhow::anyhow!("it runs at {at:?}: {why}"))
    }
}
