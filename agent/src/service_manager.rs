//! Notifies systemd (sd_notify(3)) that this process is ready, and that it is alive.
//! Without `NOTIFY_SOCKET` in the environment nobody is notified.

use crate::worker::Worker;
use sd_notify::NotifyState;
use std::time::Duration;

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be notified: {error}");
    }
}

/// The agent is ready: its control socket answers, and what was applied last is there again.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
}

/// Shows the watchdog that the worker answers, twice in each of its periods, for as long as it
/// does. Without a watchdog (`WatchdogSec=` of the unit) this waits for ever.
pub(crate) async fn keep_alive(worker: &Worker) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    // A worker that is stuck answers late or never, and systemd starts the agent again.
    let mut ticks = tokio::time::interval((period / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        if worker.ping().await.is_ok() {
            tell(NotifyState::Watchdog);
        }
    }
}
