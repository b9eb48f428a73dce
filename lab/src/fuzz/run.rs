//! One run of one seed.

use super::action::{Step, schedule};
use super::invariants::Violation;
use super::sites::place;
use super::world::{Planted, START, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Which of a schedule's actions are done.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// All, until the core has handled so many events.
    Until(u64),
    /// These, by their place in the schedule.
    Only(&'a [usize]),
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The hash of all that the core has decided.
    pub hash: u64,
    /// Events that it has handled.
    pub events: u64,
    /// Actions that were done.
    pub actions: usize,
    /// Rules that two open transactions of a switch were about.
    pub overlaps: u64,
    /// What should not have been.
    pub violation: Option<Violation>,
}

impl Report {
    fn failed(invariant: &'static str, what: String) -> Report {
        let violation = Some(Violation { invariant, what, at: Duration::ZERO });
        Report { hash: 0, events: 0, actions: 0, overlaps: 0, violation }
    }
}

/// The actions of a seed's schedule: enough for so many events.
pub fn actions(seed: u64, events: u64) -> Vec<Step> {
    schedule(seed, usize::try_from(events).unwrap_or(usize::MAX).min(100_000))
}

/// Runs a seed's schedule, or some of it, then mends everything and checks all. A panic is a violation.
pub fn one(seed: u64, events: u64, which: Which<'_>, planted: Planted, trace: bool) -> Report {
    let run = AssertUnwindSafe(|| checked(seed, events, which, planted, trace));
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Report::failed("nothing panics", text.to_owned())
    })
}

fn checked(seed: u64, events: u64, which: Which<'_>, planted: Planted, trace: bool) -> Report {
    let steps = actions(seed, events);
    let mut world = match World::new(&place(seed), seed, planted) {
        Ok(world) => world,
        Err(what) => return Report::failed("a site can be read", what),
    };
    world.trace = trace;
    world.stops = matches!(which, Which::Only(_));
    let mut done = 0;
    let chosen: Vec<&Step> = match which {
        Which::Until(_) => steps.iter().collect(),
        Which::Only(kept) => kept.iter().filter_map(|n| steps.get(*n)).collect(),
    };
    for step in chosen {
        if let Which::Until(most) = which
            && world.events() >= most
        {
            break;
        }
        world.run_until(START + Duration::from_millis(step.at.into()));
        if world.is_over() {
            break;
        }
        world.act(step.action);
        done += 1;
    }
    // What is decided while everything is mended is checked and not hashed, so that the checks may change.
    let hash = world.hash();
    world.stops = true;
    if world.violation.is_none() {
        world.calm();
    }
    Report {
        hash,
        events: world.events(),
        actions: done,
        overlaps: world.books.overlaps,
        violation: world.violation,
    }
}
