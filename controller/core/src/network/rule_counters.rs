//! What switches have counted of each of our rules: kept from one reading to the next, so that it
//! is known how long a rule has matched nothing.
//!
//! A switch is asked for its flows with every poll anyway, since they are compared with what is
//! wanted. A reading replaces the one before, so that counters live as long as their rules, and
//! costs one pass over both in the order of the rules.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{RuleCounters, RuleKey, RuleSample, SwitchId, Time};

/// What was counted of one rule, as of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// Which rule.
    pub key: RuleKey,
    /// What its switch has counted.
    pub counters: RuleCounters,
    /// How long its packets have stood still, to within a polling period. `None` where packets are
    /// not counted, or where it has not been watched long enough to know.
    pub idle: Option<Duration>,
}

/// The counters of all of our rules that a switch has, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RuleReading {
    /// When they were read, by the wall clock; `None` before the first reading.
    pub at: Option<Time>,
    /// In the order of the rules' keys.
    pub rules: Vec<RuleCount>,
}

impl RuleReading {
    /// What was counted of a rule.
    pub fn of(&self, key: &RuleKey) -> Option<&RuleCount> {
        self.rules.binary_search_by(|r| r.key.cmp(key)).ok().map(|n| &self.rules[n])
    }
}

/// The last reading of each switch.
#[derive(Debug, Clone)]
pub(crate) struct RuleReadings {
    switches: Vec<(Time, Arc<RuleReading>)>,
}

impl RuleReadings {
    pub(crate) fn new(switches: usize) -> RuleReadings {
        RuleReadings { switches: vec![(Time::ZERO, Arc::default()); switches] }
    }

    /// Takes in a reading of a switch at `now`, which the wall clock shows as `wall`.
    pub(crate) fn take(&mut self, switch: SwitchId, mut samples: Vec<RuleSample>, now: Time, wall: Time) {
        let Some((at, reading)) = self.switches.get_mut(switch.0 as usize) else { return };
        // They come in the order in which the switch has them.
        samples.sort_unstable_by_key(|s| s.key);
        let passed = now.since(*at);
        let mut before = reading.rules.iter().peekable();
        let mut rules = Vec::with_capacity(samples.len());
        for RuleSample { key, counters } in samples {
            while before.next_if(|old| old.key.cmp(&key) == Ordering::Less).is_some() {}
            let old = before.next_if(|old| old.key == key);
            rules.push(RuleCount { key, counters, idle: idle(old, counters, passed) });
        }
        *at = now;
        *reading = Arc::new(RuleReading { at: Some(wall), rules });
    }

    /// Forgets what a switch has counted: it starts anew.
    pub(crate) fn forget_switch(&mut self, switch: SwitchId) {
        if let Some(slot) = self.switches.get_mut(switch.0 as usize) {
            *slot = (Time::ZERO, Arc::default());
        }
    }

    /// The last reading of a switch.
    pub(crate) fn of(&self, switch: SwitchId) -> Arc<RuleReading> {
        self.switches.get(switch.0 as usize).map(|(_, reading)| reading.clone()).unwrap_or_default()
    }
}

/// How long a rule's packets have stood still, `passed` after the reading that has `old`.
fn idle(old: Option<&RuleCount>, new: RuleCounters, passed: Duration) -> Option<Duration> {
    let packets = new.packets?;
    // One that has never matched has stood still since it came.
    if packets == 0 {
        return new.age;
    }
    let old = old?;
    let is_same = match (old.counters.age, new.age) {
        (Some(before), Some(age)) => age >= before,
        _ => true,
    };
    if is_same && old.counters.packets == Some(packets) {
        return old.idle.map(|idle| idle.saturating_add(passed));
    }
    Some(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::RuleMatch;

    const SWITCH: SwitchId = SwitchId(0);

    fn key(priority: u16) -> RuleKey {
        RuleKey { table: 0, priority, matching: RuleMatch::default() }
    }

    fn sample(priority: u16, packets: Option<u64>, age: Option<u64>) -> RuleSample {
        let age = age.map(Duration::from_secs);
        RuleSample { key: key(priority), counters: RuleCounters { packets, bytes: packets, age } }
    }

    /// Readings at these seconds, and what is known of rule 1's silence after each.
    fn silences(samples: &[(u64, Option<u64>, Option<u64>)]) -> Vec<Option<u64>> {
        let mut readings = RuleReadings::new(1);
        let take = |(at, packets, age): &(u64, Option<u64>, Option<u64>)| {
            let now = Time::from_secs(*at);
            readings.take(SWITCH, vec![sample(1, *packets, *age)], now, now);
            readings.of(SWITCH).of(&key(1)).expect("the rule").idle.map(|d| d.as_secs())
        };
        samples.iter().map(take).collect()
    }

    #[test]
    fn a_rule_is_idle_while_its_packets_stand_still() {
        let readings = [
            (100, Some(0), Some(7)),
            (105, Some(0), Some(12)),
            (110, Some(3), Some(17)),
            (115, Some(3), Some(22)),
            (120, Some(3), Some(27)),
            (125, Some(4), Some(32)),
        ];
        let expected = [Some(7), Some(12), Some(0), Some(5), Some(10), Some(0)];
        assert_eq!(silences(&readings), expected);
    }

    #[test]
    fn what_is_not_known_is_absent() {
        assert_eq!(silences(&[(100, None, Some(7)), (105, None, Some(12))]), [None, None], "not counted");
        let met = [(100, Some(5), Some(900)), (105, Some(5), Some(905)), (110, Some(6), Some(910))];
        assert_eq!(silences(&met), [None, None, Some(0)], "it may have matched long ago, or just now");
        assert_eq!(silences(&[(100, Some(0), None)]), [None], "no age, no time since it came");
    }

    /// The same rule written again counts from the beginning: five packets are others then.
    #[test]
    fn a_rule_that_was_written_anew_has_not_stood_still() {
        let again = [(100, Some(4), Some(50)), (105, Some(5), Some(55)), (110, Some(5), Some(2))];
        assert_eq!(silences(&again), [None, Some(0), Some(0)]);
    }

    #[test]
    fn counters_live_as_long_as_their_rules() {
        let mut readings = RuleReadings::new(1);
        let all: Vec<RuleSample> = (0..1000).rev().map(|n| sample(n, Some(1), Some(1))).collect();
        readings.take(SWITCH, all, Time::from_secs(1), Time::from_secs(1));
        assert_eq!(readings.of(SWITCH).rules.len(), 1000);
        assert!(readings.of(SWITCH).of(&key(999)).is_some() && readings.of(SWITCH).of(&key(0)).is_some());
        readings.take(SWITCH, vec![sample(7, Some(2), Some(2))], Time::from_secs(2), Time::from_secs(2));
        assert_eq!(readings.of(SWITCH).rules.len(), 1);
        readings.forget_switch(SWITCH);
        assert_eq!(*readings.of(SWITCH), RuleReading::default());
        readings.take(SwitchId(9), Vec::new(), Time::ZERO, Time::ZERO);
    }
}
