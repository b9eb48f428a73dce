//! Notifies systemd (sd_notify(3)) that the controller is ready, and that it is alive.
//! Without `NOTIFY_SOCKET` in the environment nobody is notified.

use crate::event_loop::Input;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be notified: {error}");
    }
}

/// The controller is ready once its event loop takes inputs. From then on the watchdog is shown
/// that the event loop answers, twice in each of its periods, for as long as it does.
pub(crate) async fn attend(event_loop: mpsc::Sender<Input>) {
    if answers(&event_loop).await {
        tell(NotifyState::Ready);
    }
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    // A event loop that is stuck answers late or never, and systemd starts the controller again.
    let mut ticks = tokio::time::interval((period / 2).max(Duration::from_millis(1)));
    while answers(&event_loop).await {
        tell(NotifyState::Watchdog);
        ticks.tick().await;
    }
}

async fn answers(event_loop: &mpsc::Sender<Input>) -> bool {
    let (sender, receiver) = oneshot::channel();
    event_loop.send(Input::Ping(sender)).await.is_ok() && receiver.await.is_ok()
}
