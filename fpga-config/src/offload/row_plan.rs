//! Plans which rows are written, in which order, to change the card's rows into the wanted ones
//! without a wrong match in between.
//!
//! Rows have an order, the lowest that matches wins, and a commit replaces one row at once. The
//! plan keeps the order of the written and of the wanted rows, rows that are in both stay in place,
//! and at every moment a packet matches its old row, its new row, or one that sends it to software
//! (which decides rightly):
//! 1. A wanted row is written when all wanted rows above it are there, so that a packet that
//!    matches it matches none above.
//! 2. A row that is no longer wanted is removed when, below it, its packets match their wanted row,
//!    or none at all.
//! 3. If there is no room at the right place, the rows up to the nearest free one move by one, the
//!    farthest first: each is on the card twice for a moment, and never absent.
//! 4. If there is no room at all, the lowest row is removed first: its packets go to software until
//!    it is written again.

use crate::codec::Row;
use crate::codec::ports::CARD_PORTS;

/// The owner of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A flow: the row has the flow's action.
    Flow(u64),
    /// A flow in software: the row sends its packets there.
    Punt(u64),
    /// From a CPU queue to its port, or from a port to its CPU queue.
    Base,
    /// The first row, which drops the key that a fault of the bitfile makes of frames from any
    /// port. It never moves.
    Guard,
    /// Found in the card.
    Found,
}

/// A row and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its owner.
    pub owner: Owner,
    /// Its contents.
    pub row: Row,
}

impl Slot {
    /// Whether it sends packets to software, or those of software to a port.
    fn defers(&self) -> bool {
        const CPU: u16 = 0xaaaa & ((1 << (2 * CARD_PORTS)) - 1);
        matches!(self.owner, Owner::Punt(_) | Owner::Base)
            || self.row.action.ports != 0 && self.row.action.ports & !CPU == 0
    }
}

/// One step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The row.
    pub at: usize,
    /// Its new contents; `None` deletes it.
    pub slot: Option<Slot>,
    /// False when the card has the contents already, and only the owner changes.
    pub write: bool,
}

/// The steps to the wanted rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowPlan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Rows that were removed for a moment to make room (4).
    pub gaps: usize,
}

#[derive(Clone, Copy)]
enum Held {
    Wanted(usize),
    Old(Slot),
    /// A second copy below the first: it matches nothing, and its row counts as free.
    Copy(Slot),
}

struct Planner<'a> {
    wanted: &'a [Slot],
    at: Vec<Option<Held>>,
    place: Vec<Option<usize>>,
    plan: RowPlan,
}

/// Plans the steps from the card's rows to the wanted ones, of which there must not be more than
/// rows.
pub fn plan(card: &[Option<Slot>], wanted: &[Slot]) -> RowPlan {
    let wanted = &wanted[..wanted.len().min(card.len())];
    let mut p = Planner {
        wanted,
        at: card.iter().map(|slot| slot.map(Held::Old)).collect(),
        place: vec![None; wanted.len()],
        plan: RowPlan::default(),
    };
    p.keep(card);
    let mut tries = 0;
    while let Some(next) = p.next() {
        tries += 1;
        if tries > 4 * card.len() {
            // Rows that need each other's place: all are removed from the bottom up, and written
            // from the top down.
            for at in (0..p.at.len()).rev() {
                if p.at[at].is_some() && !p.is_base(at) {
                    p.evict(at);
                }
            }
            tries = 0;
        }
        p.put(next);
    }
    for at in (0..p.at.len()).rev() {
        if matches!(p.at[at], Some(Held::Old(_) | Held::Copy(_))) {
            p.set(at, None);
        }
    }
    p.plan
}

impl Planner<'_> {
    /// Finds the most rows that can stay: the longest common subsequence of both orders.
    fn keep(&mut self, card: &[Option<Slot>]) {
        let rows: Vec<(usize, Slot)> =
            card.iter().enumerate().filter_map(|(at, s)| s.map(|s| (at, s))).collect();
        let (n, m) = (rows.len(), self.wanted.len());
        let mut best = vec![0u32; (n + 1) * (m + 1)];
        // A row that keeps its owner is worth slightly more than one that changes it.
        let worth = |i: usize, j: usize| -> u32 {
            let (have, want) = (&rows[i].1, &self.wanted[j]);
            if have.row == want.row { 64 + u32::from(have.owner == want.owner) } else { 0 }
        };
        for i in (0..n).rev() {
            for j in (0..m).rev() {
                let mut most = best[(i + 1) * (m + 1) + j].max(best[i * (m + 1) + j + 1]);
                if let worth @ 1.. = worth(i, j) {
                    most = most.max(worth + best[(i + 1) * (m + 1) + j + 1]);
                }
                best[i * (m + 1) + j] = most;
            }
        }
        let (mut i, mut j) = (0, 0);
        let mut kept = Vec::new();
        while i < n && j < m {
            let here = best[i * (m + 1) + j];
            let worth = worth(i, j);
            if worth > 0 && here == worth + best[(i + 1) * (m + 1) + j + 1] {
                kept.push((rows[i].0, j));
                (i, j) = (i + 1, j + 1);
            } else if here == best[(i + 1) * (m + 1) + j] {
                i += 1;
            } else {
                j += 1;
            }
        }
        for (at, w) in kept {
            if let Some(Held::Old(old)) = self.at[at]
                && old.owner != self.wanted[w].owner
            {
                self.plan.steps.push(Step { at, slot: Some(self.wanted[w]), write: false });
            }
            self.at[at] = Some(Held::Wanted(w));
            self.place[w] = Some(at);
        }
    }

    /// The next wanted row to write: those that send to software may be written at any time, so
    /// they come first.
    fn next(&self) -> Option<usize> {
        let pending = || (0..self.wanted.len()).filter(|w| self.place[*w].is_none());
        pending().find(|w| self.wanted[*w].defers()).or_else(|| pending().next())
    }

    fn slot(&self, held: Held) -> Slot {
        match held {
            Held::Wanted(w) => self.wanted[w],
            Held::Old(slot) | Held::Copy(slot) => slot,
        }
    }

    fn is_base(&self, at: usize) -> bool {
        self.at[at].is_some_and(|held| self.slot(held).owner == Owner::Base)
    }

    fn set(&mut self, at: usize, held: Option<Held>) {
        self.at[at] = held;
        if let Some(Held::Wanted(w)) = held {
            self.place[w] = Some(at);
        }
        let slot = held.map(|h| self.slot(h));
        self.plan.steps.push(Step { at, slot, write: true });
    }

    /// Removes a row, for a moment or, if it is not wanted, for good.
    fn evict(&mut self, at: usize) {
        if let Some(Held::Wanted(w)) = self.at[at] {
            self.place[w] = None;
            self.plan.gaps += 1;
        }
        self.set(at, None);
    }

    /// Whether an old row may be removed now, when `coming` is written at once.
    fn may_go(&self, at: usize, coming: Option<usize>) -> bool {
        let Some(Held::Old(old)) = self.at[at] else { return false };
        let pattern = &old.row.pattern;
        // A row that is covered by one above matches nothing.
        if self.at[..at].iter().flatten().any(|above| self.slot(*above).row.pattern.covers(pattern)) {
            return true;
        }
        for held in self.at[at + 1..].iter().flatten() {
            let below = self.slot(*held);
            if matches!(held, Held::Copy(_)) || below.defers() || !below.row.pattern.overlaps(pattern) {
                continue;
            }
            let below_at = match *held {
                // Another row has the same action for all of its packets.
                Held::Old(other) if other.row == old.row => return true,
                Held::Wanted(w) => w,
                _ => return false,
            };
            let missing = |w: usize| {
                let above = &self.wanted[w].row.pattern;
                self.place[w].is_none()
                    && Some(w) != coming
                    && above.overlaps(pattern)
                    && above.overlaps(&below.row.pattern)
            };
            if (0..below_at).any(missing) {
                return false;
            }
        }
        true
    }

    fn put(&mut self, w: usize) {
        let low = (0..w).rev().find_map(|above| self.place[above]).map_or(0, |at| at + 1);
        let high = (w + 1..self.wanted.len()).find_map(|below| self.place[below]).unwrap_or(self.at.len());
        // In place of its own former row.
        let pattern = self.wanted[w].row.pattern;
        let mine = |at: &usize| matches!(self.at[*at], Some(Held::Old(old)) if old.row.pattern == pattern);
        let goes = |at: &usize| self.may_go(*at, Some(w));
        if let Some(at) = (low..high).filter(mine).find(goes) {
            return self.set(at, Some(Held::Wanted(w)));
        }
        // In place of a row that is removed, or in a free one, chosen so that all rows that are
        // still to come between the neighbours find room, evenly spread.
        let before = (0..w).rev().take_while(|w| self.place[*w].is_none()).count();
        let after = (w + 1..self.wanted.len()).take_while(|w| self.place[*w].is_none()).count();
        let all = before + 1 + after;
        let mut room: Vec<usize> = (low..high).filter(goes).collect();
        if room.len() < all {
            room = (low..high).filter(|at| self.is_free(*at) || room.contains(at)).collect();
        }
        if let Some(last) = room.last() {
            let at = if self.wanted[w].owner == Owner::Base {
                // No row ever comes below them.
                room.len().saturating_sub(1 + after)
            } else {
                before + (before + 1) * room.len().saturating_sub(all) / (all + 1)
            };
            let at = room.get(at).copied().unwrap_or(*last);
            return self.set(at, Some(Held::Wanted(w)));
        }
        self.put_by_moving(w, low, high, after);
    }

    /// Makes room between `low` and `high` by moving the neighbours, for all rows that are still to
    /// come here at once: this one and `after` others. Without enough room, the lowest row goes.
    fn put_by_moving(&mut self, w: usize, low: usize, high: usize, after: usize) {
        let open = |at: &usize| self.is_free(*at) || self.may_go(*at, None);
        let down: Vec<usize> = (high..self.at.len()).filter(open).take(1 + after).collect();
        let up: Vec<usize> = (0..low).rev().filter(open).take(1 + after).collect();
        // Towards the side with more of the needed room, then the one with fewer rows to move.
        let by_down = (down.len(), std::cmp::Reverse(down.last().map_or(0, |at| at - high)));
        let by_up = (up.len(), std::cmp::Reverse(up.last().map_or(0, |at| low - at)));
        match (down.last(), up.last()) {
            (Some(last), _) if by_down >= by_up => {
                let mut to = *last;
                for at in (high..*last).rev().filter(|at| !down.contains(at)) {
                    self.set(to, self.at[at]);
                    to -= 1;
                }
                // The rows above are first copies, in order: they are removed from the bottom up.
                for at in (high + 1..=to).rev().filter(|at| self.at[*at].is_some()).collect::<Vec<_>>() {
                    self.set(at, None);
                }
                self.set(high, Some(Held::Wanted(w)));
            }
            (_, Some(last)) => {
                let mut to = *last;
                for at in (last + 1..low).filter(|at| !up.contains(at)) {
                    self.set(to, self.at[at]);
                    self.at[at] = self.at[at].map(|held| Held::Copy(self.slot(held)));
                    to += 1;
                }
                self.set(to, Some(Held::Wanted(w)));
            }
            _ => {
                let rows =
                    || (0..self.at.len()).rev().filter(|at| self.at[*at].is_some() && !self.is_base(*at));
                let lowest = rows().find(|at| !self.at[*at].is_some_and(|h| self.slot(h).defers()));
                if let Some(at) = lowest.or_else(|| rows().next()) {
                    self.evict(at);
                }
            }
        }
    }

    fn is_free(&self, at: usize) -> bool {
        matches!(self.at[at], None | Some(Held::Copy(_)))
    }
}
