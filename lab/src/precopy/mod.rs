//! Migration in the worlds that a lab makes: which ones are under way, how those that ended have
//! ended, and what is answered to an order that comes again.
//!
//! What is copied and how fast is pure ([`dirty`], [`memory`], [`token_bucket`]); [`transfer`]
//! moves the bytes; a world pauses its VM, moves its interface and lets it run again.

pub mod dirty;
pub mod memory;
pub mod token_bucket;
pub mod transfer;

use crate::control::service::{Reports, lock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use tandem_agent_protocol::hypervisor::{self as wire, report::Report as What};
use transfer::Control;

/// Ended migrations that are remembered: a controller that comes back asks for those that were
/// under way when it went.
const REMEMBERED: usize = 1000;

/// Names a migration: a controller with a new store counts from 1 again.
type Key = (u64, u64, u32, u32);

fn key(m: &wire::Migrate) -> Key {
    (m.migration, m.vm, m.from, m.to)
}

/// One that is under way.
#[derive(Debug)]
struct Running {
    key: Key,
    control: Arc<Control>,
    /// What was last said of it.
    said: Option<What>,
}

#[derive(Debug, Default)]
struct Inner {
    running: BTreeMap<u64, Running>,
    ended: VecDeque<(Key, What)>,
}

/// The migrations of a lab: those under way, and how those ended that may be asked about.
#[derive(Debug, Default)]
pub struct Migrations(Mutex<Inner>);

/// What became of an order to move a VM.
#[derive(Debug)]
pub enum Begun {
    /// It is to be carried out, and is controlled by this.
    New(Arc<Control>),
    /// It is under way already; what was last said of it.
    UnderWay(Option<What>),
}

/// Where a migration's VM could not be brought, and where it is.
#[derive(Debug)]
pub struct Failed {
    /// The server that it runs on; `None` when it is lost.
    pub at: Option<u32>,
    /// Why, as text.
    pub why: String,
}

impl Migrations {
    /// Notes that one is ordered.
    pub fn begin(&self, order: &wire::Migrate) -> Begun {
        let mut inner = lock(&self.0);
        if let Some(running) = inner.running.get(&order.migration) {
            return Begun::UnderWay(running.said.clone());
        }
        let control = Arc::new(Control::new(order.rate_bit_per_s));
        let running = Running { key: key(order), control: control.clone(), said: None };
        inner.running.insert(order.migration, running);
        Begun::New(control)
    }

    /// Says something of one that is under way.
    pub fn say(&self, migration: u64, what: What, reports: &Reports) {
        if let Some(running) = lock(&self.0).running.get_mut(&migration) {
            running.said = Some(what.clone());
        }
        reports.send(what);
    }

    /// Notes how one has ended.
    pub fn end(&self, order: &wire::Migrate, how: &What) {
        let mut inner = lock(&self.0);
        inner.running.remove(&order.migration);
        inner.ended.retain(|(k, _)| *k != key(order));
        inner.ended.push_back((key(order), how.clone()));
        if inner.ended.len() > REMEMBERED {
            inner.ended.pop_front();
        }
    }

    /// How one has ended that is ordered again.
    pub fn ended(&self, order: &wire::Migrate) -> Option<What> {
        lock(&self.0).ended.iter().find(|(k, _)| *k == key(order)).map(|(_, how)| how.clone())
    }

    /// Gives one up; false when it is not under way.
    pub fn cancel(&self, migration: u64) -> bool {
        lock(&self.0).running.get(&migration).is_some_and(|running| {
            running.control.cancel();
            true
        })
    }

    /// Gives up those of a VM: it is to be stopped. What ended of it is forgotten: another VM may
    /// get its number.
    pub fn cancel_vm(&self, vm: u64) {
        let mut inner = lock(&self.0);
        inner.running.values().filter(|r| r.key.1 == vm).for_each(|r| r.control.cancel());
        inner.ended.retain(|(k, _)| k.1 != vm);
    }

    /// Another rate from now on, for one that is under way.
    pub fn set_rate(&self, migration: u64, rate_bit_per_s: u64) {
        if let Some(running) = lock(&self.0).running.get(&migration) {
            running.control.set_rate(rate_bit_per_s);
        }
    }
}

/// What is to be done for an order to move a VM that runs on `at` now.
#[derive(Debug, PartialEq)]
pub enum Todo {
    /// Move it.
    Start,
    /// Nothing: this is the answer.
    Answer(What),
}

/// What an order means that is not under way: a VM that is at its destination has moved, one that
/// has ended is answered as it ended, one of which nothing is known starts.
pub fn todo(order: &wire::Migrate, at: Option<u32>, ended: Option<What>) -> Todo {
    let failed = |at, why: String| {
        Todo::Answer(What::MigrationFailed(wire::MigrationFailed { migration: order.migration, at, why }))
    };
    match (at, ended) {
        (Some(at), Some(ended @ What::Moved(_))) if at == order.to => Todo::Answer(ended),
        (Some(at), _) if at == order.to => {
            Todo::Answer(What::Moved(wire::Moved { migration: order.migration, downtime_ns: None }))
        }
        (_, Some(ended @ What::MigrationFailed(_))) => Todo::Answer(ended),
        (Some(at), _) if at == order.from => Todo::Start,
        (Some(at), _) => {
            failed(Some(at), format!("vm{} runs on server {at}, which is neither of the two", order.vm))
        }
        (None, _) => failed(None, format!("vm{} does not run", order.vm)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(migration: u64) -> wire::Migrate {
        wire::Migrate { migration, vm: 7, from: 1, to: 2, rate_bit_per_s: 1000, ..wire::Migrate::default() }
    }

    fn moved(downtime_ns: Option<u64>) -> What {
        What::Moved(wire::Moved { migration: 5, downtime_ns })
    }

    #[test]
    fn every_row_of_an_order_that_comes_again() {
        let failed =
            |at| What::MigrationFailed(wire::MigrationFailed { migration: 5, at, why: "cut".into() });
        let rows = [
            (Some(1), None, "start"),
            (Some(2), None, "moved"),
            (Some(2), Some(moved(Some(9))), "moved in 9"),
            // It was moved by somebody else after it had failed.
            (Some(2), Some(failed(Some(1))), "moved"),
            (Some(1), Some(failed(Some(1))), "failed at Some(1): cut"),
            // Moved there, and back by another migration: it is to be moved again.
            (Some(1), Some(moved(Some(9))), "start"),
            (Some(3), None, "failed at Some(3): vm7 runs on server 3, which is neither of the two"),
            (None, None, "failed at None: vm7 does not run"),
            (None, Some(moved(None)), "failed at None: vm7 does not run"),
        ];
        for (at, ended, expected) in rows {
            let shown = match todo(&order(5), at, ended.clone()) {
                Todo::Start => "start".to_owned(),
                Todo::Answer(What::Moved(m)) => {
                    m.downtime_ns.map_or("moved".into(), |n| format!("moved in {n}"))
                }
                Todo::Answer(What::MigrationFailed(f)) => format!("failed at {:?}: {}", f.at, f.why),
                Todo::Answer(other) => format!("{other:?}"),
            };
            assert_eq!(shown, expected, "at {at:?}, ended {ended:?}");
        }
    }

    #[test]
    fn one_that_is_under_way_is_not_begun_again_and_says_what_it_said_last() {
        let all = Migrations::default();
        let reports = Reports::default();
        assert!(matches!(all.begin(&order(5)), Begun::New(_)));
        assert!(matches!(all.begin(&order(5)), Begun::UnderWay(None)));
        let said = What::Suspended(wire::Suspended { migration: 5 });
        all.say(5, said.clone(), &reports);
        assert!(matches!(all.begin(&order(5)), Begun::UnderWay(Some(s)) if s == said));
        assert!(all.cancel(5) && !all.cancel(6));
        all.end(&order(5), &moved(None));
        assert!(!all.cancel(5));
        assert_eq!(all.ended(&order(5)), Some(moved(None)));
        // The same number, but another VM's.
        assert_eq!(all.ended(&wire::Migrate { vm: 8, ..order(5) }), None);
        all.cancel_vm(7);
        assert_eq!(all.ended(&order(5)), None);
    }
}
