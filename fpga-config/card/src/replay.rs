//! A replay on an open card: stops the rest of an earlier one, loads and starts frames, and
//! releases the port at the end.

use crate::Card;
use std::time::Duration;
use tandem_fpga_config::generator::{Plan, ReplayError, Status};
use tandem_fpga_config::profile::{Generator, RateLimiter};

/// More than the frames behind the SRAM take to leave: a queue of the card at 1 Gbit/s.
const LEAVE: Duration = Duration::from_millis(10);

/// Interval of progress checks.
const LOOK: Duration = Duration::from_millis(20);

/// Stops a port's replay, whichever process started it, and releases the port. On a stopped port it
/// only clears what a killed program may have left.
///
/// When the card does not answer.
pub fn stop(
    card: &mut dyn Card,
    generator: &Generator,
    limiter: Option<&RateLimiter>,
    port: u8,
) -> Result<(), ReplayError> {
    generator.port(port)?;
    let was_on = generator.is_on(card, port)?;
    generator.hold(card, limiter, port)?;
    if was_on {
        card.wait(LEAVE);
        generator.flush(card)?;
        card.wait(LEAVE);
    }
    generator.release(card, port)?;
    Ok(())
}

/// Loads and starts. A capture at the port goes on.
///
/// When the card does not answer, or a written value reads back differently.
pub fn begin(
    card: &mut dyn Card,
    generator: &Generator,
    limiter: Option<&RateLimiter>,
    (port, plan): (u8, &Plan<'_>),
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<(), ReplayError> {
    let capturing = generator.is_capturing(card, port)?;
    stop(card, generator, limiter, port)?;
    plan.load(card, progress)?;
    plan.start(card, capturing)
}

/// Waits until all frames are sent, or until `stopped` returns true. The port is still in replay
/// mode: see [`stop`].
///
/// When the card does not answer.
pub fn wait(
    card: &mut dyn Card,
    plan: &Plan<'_>,
    stopped: &dyn Fn() -> bool,
    look: &mut dyn FnMut(&Status),
) -> Result<Status, ReplayError> {
    loop {
        let status = plan.status(card)?;
        look(&status);
        if stopped() {
            return Ok(status);
        }
        if status.done {
            // The last frame may be delayed in the card.
            let mut left = plan.tail();
            while !left.is_zero() && !stopped() {
                let now = left.min(LOOK);
                card.wait(now);
                left -= now;
            }
            return Ok(status);
        }
        card.wait(LOOK);
    }
}
