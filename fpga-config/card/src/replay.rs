//! A replay on an opened card: what is left of an earlier one is stopped, frames are loaded and
//! started, and the port is given back at the end.

use crate::Card;
use std::time::Duration;
use tandem_fpga_config::generator::{Plan, ReplayError, Status};
use tandem_fpga_config::profile::{Generator, RateLimiter};

/// More than the frames behind the SRAM take to leave: a queue of the card at 1 Gbit/s.
const LEAVE: Duration = Duration::from_millis(10);

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(20);

/// Stops a port's replay, whoever began it, and gives the port back. Nothing for a port that is
/// stopped, but what a program that was killed may have left behind.
///
/// # Errors
/// When the card cannot be asked.
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

/// Loads and starts. A port that captured goes on with that.
///
/// # Errors
/// When the card cannot be asked, or does not keep what is written.
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

/// Waits until all frames are sent, or `stopped` says so. The port still replays: see [`stop`].
///
/// # Errors
/// When the card cannot be asked.
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
            // The last frame may wait for its time in the card.
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
