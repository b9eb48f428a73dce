//! Selects the rules that get rows: the most-used first, while rows last. A rule in a row needs
//! those above it for correctness: a rule of a higher priority that may match the same packets and
//! stays in software needs rows that send its packets there (punt rows).

use super::row_plan::{Owner, Slot};
use crate::codec::ports::{At, PortMap, cpu_queue, queue};
use crate::codec::{Action, Field, Pattern, RejectReason, Row, Rule};

/// The selection for a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Rows.
    Rows,
    /// Rows that send its packets to software, for this reason.
    Punt(RejectReason),
    /// No rows, for this reason.
    None(RejectReason),
    /// It is in the exact table, above all rows.
    Exact,
}

/// A flow in the selection, in the order of the table.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The flow's id.
    pub id: u64,
    /// The flow translated for the card.
    pub rule: Rule,
    /// Its rows, or why it has none.
    pub rows: Result<Vec<Row>, RejectReason>,
    /// Its use, in any unit.
    pub used: u64,
    /// It had rows before.
    pub had: bool,
    /// It is in the exact table.
    pub exact: bool,
}

/// How many times more a rule must be used to replace one with rows.
const STICKY: u64 = 2;
/// After this many rules that do not fit, no further ones are tried.
const PATIENCE: usize = 64;

/// Selects rules for `room` rows.
pub fn choose(rules: &[Candidate], room: usize, cpu_ports: bool) -> Vec<Choice> {
    let mut c = Chooser { rules, choice: vec![None; rules.len()], taken: 0, room };
    let mut order: Vec<usize> = (0..rules.len())
        .filter(|i| !rules[*i].exact && rules[*i].rows.is_ok() && !rules[*i].rule.ingress.is_empty())
        .collect();
    order.sort_by_key(|i| {
        let r = &rules[*i];
        let used = if r.had { r.used.saturating_mul(STICKY).saturating_add(1) } else { r.used };
        // Without software a rule with rows is never replaced by another.
        let used = if cpu_ports { used } else { u64::from(r.had) };
        (std::cmp::Reverse(used), *i)
    });
    let mut refused = vec![None; rules.len()];
    let mut misses = 0;
    for i in order {
        if c.choice[i] == Some(Got::Rows) {
            continue;
        }
        match c.add(i, cpu_ports) {
            Ok(()) => misses = 0,
            Err(needs) => {
                refused[i] = Some(needs);
                misses += 1;
                if misses >= PATIENCE || (c.taken >= room && !c.choice.contains(&Some(Got::Punt))) {
                    break;
                }
            }
        }
    }
    let free = room - c.taken;
    let reason = |i: usize| match &rules[i].rows {
        Err(reason) => reason.clone(),
        Ok(rows) => RejectReason::Rows { needs: refused[i].unwrap_or(rows.len()), free },
    };
    let wrapped = |reason: RejectReason| match cpu_ports {
        true => reason,
        false => reason.clone().without_software().unwrap_or(reason),
    };
    (0..rules.len())
        .map(|i| match c.choice[i] {
            _ if rules[i].exact => Choice::Exact,
            Some(Got::Rows) => Choice::Rows,
            Some(Got::Punt) => Choice::Punt(reason(i)),
            None if rules[i].rule.ingress.is_empty() && rules[i].rows.is_ok() => Choice::Rows,
            None => Choice::None(wrapped(reason(i))),
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Got {
    Rows,
    Punt,
}

struct Chooser<'a> {
    rules: &'a [Candidate],
    choice: Vec<Option<Got>>,
    taken: usize,
    room: usize,
}

impl Chooser<'_> {
    fn cost(&self, i: usize, got: Option<Got>) -> usize {
        let r = &self.rules[i];
        match got {
            None => 0,
            Some(Got::Punt) => r.rule.ingress.len(),
            Some(Got::Rows) => r.rows.as_ref().map_or(0, Vec::len),
        }
    }

    /// Gives rows to a rule and to those it needs; otherwise returns a lower bound of their number.
    fn add(&mut self, i: usize, cpu_ports: bool) -> Result<(), usize> {
        let mut least = usize::MAX;
        // Rules above get rows of their own if these are not more than their punt rows; if that
        // takes too many, punt rows.
        for all_punts in [false, true] {
            let mut got: Vec<(usize, Got)> = vec![(i, Got::Rows)];
            // The rule's present rows count as free; from there the number only grows.
            let free = self.room - self.taken + self.cost(i, self.choice[i]);
            let mut new = self.cost(i, Some(Got::Rows));
            let mut at = 0;
            while at < got.len() && cpu_ports && new <= free {
                let (r, as_) = got[at];
                at += 1;
                if as_ == Got::Punt {
                    continue;
                }
                for above in 0..r {
                    if self.rules[above].exact
                        || self.choice[above].is_some()
                        || got.iter().any(|(o, _)| *o == above)
                        || !self.rules[above].rule.overlaps(&self.rules[r].rule)
                    {
                        continue;
                    }
                    let own = self.rules[above]
                        .rows
                        .as_ref()
                        .is_ok_and(|rows| rows.len() <= self.cost(above, Some(Got::Punt)));
                    let as_ = if own && !all_punts { Got::Rows } else { Got::Punt };
                    new += self.cost(above, Some(as_));
                    got.push((above, as_));
                    if new > free {
                        break;
                    }
                }
            }
            if new <= free {
                for (r, as_) in got {
                    self.choice[r] = Some(as_);
                }
                self.taken = self.room - (free - new);
                return Ok(());
            }
            least = least.min(new);
        }
        Err(least)
    }
}

/// Rows that are always written if the host has interfaces at the CPU queues: from these to their
/// ports, and from ports to them for packets that nothing else matches.
pub fn base(ports: &PortMap) -> Vec<Slot> {
    let from = |from: u8, to: u8| Slot {
        owner: Owner::Base,
        row: Row {
            pattern: Pattern::ANY.with(Field::SOURCE, from.into(), 0xff),
            action: Action::to(1 << to),
        },
    };
    if !ports.cpu_ports {
        return Vec::new();
    }
    let card = || ports.iter().filter_map(|p| if let At::Card(n) = p.at { Some((p, n)) } else { None });
    let out = card().filter(|(p, _)| p.forward).map(|(_, n)| from(cpu_queue(n), queue(n)));
    let up = card().filter(|(p, _)| p.receive).map(|(_, n)| from(queue(n), cpu_queue(n)));
    out.chain(up).collect()
}

/// The rows of all selections, in the order in which they have to match.
pub fn wanted(rules: &[Candidate], choices: &[Choice], ports: &PortMap) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (r, choice) in rules.iter().zip(choices) {
        match choice {
            Choice::Rows => {
                let rows = r.rows.as_deref().unwrap_or_default();
                slots.extend(rows.iter().map(|row| Slot { owner: Owner::Flow(r.id), row: *row }));
            }
            Choice::Punt(_) => {
                slots.extend(r.rule.punts().map(|row| Slot { owner: Owner::Punt(r.id), row }));
            }
            Choice::None(_) | Choice::Exact => {}
        }
    }
    slots.extend(base(ports));
    slots
}
