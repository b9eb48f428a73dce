//! Notifies systemd (sd_notify(3)) that this process is ready and alive. Without `NOTIFY_SOCKET` in
//! the environment it does nothing.

use crate::worker::Worker;
use sd_notify::NotifyState;
use std::time::Duration;

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be notified: {error}");
    }
}

/// The agent is ready: its control socket works, and the last desired state is applied again.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
}

/// Triggers the watchdog twice in each of its periods while the worker answers. Without a watchdog
/// (`WatchdogSec=` of the unit) this never returns.
pub(crate) async fn keep_alive(worker: &Worker) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    // A worker that hangs answers late or never; then systemd restarts the agent.
    let mut ticks = tokio::time::interval((period / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        if worker.ping().await.is_ok() {
            tell(NotifyState::Watchdog);
        }
    }
}
