//! Our rules in a switch, and what the switch has counted of them.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use tandem_core::network::rule_counters::RuleReading;
use tandem_model::{Rule, Time};
use utoipa::ToSchema;

/// The answer of `GET /api/v1/rules/{switch}/counters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CountedRules {
    /// When the switch was read, by the wall clock: nanoseconds since 1970. Absent before the first
    /// reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Time>,
    /// Our rules, as in `GET /api/v1/rules/{switch}`, with what was counted then.
    pub rules: Vec<CountedRule>,
}

/// A rule with its counters. What the switch does not count, or what is not known yet, is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CountedRule {
    /// The rule.
    pub rule: Rule,
    /// Packets that it was applied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Bytes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How long the switch has had it, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    /// How long its packets have stood still, in seconds, to within a polling period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<f64>,
}

impl CountedRules {
    /// These rules with what a reading has of them.
    pub fn of(rules: &[Rule], reading: &RuleReading) -> CountedRules {
        let seconds = |time: Option<Duration>| time.map(|t| t.as_secs_f64());
        let counted = |rule: &Rule| {
            let count = reading.of(&rule.key);
            let counters = count.map(|c| c.counters).unwrap_or_default();
            CountedRule {
                rule: rule.clone(),
                packets: counters.packets,
                bytes: counters.bytes,
                age: seconds(counters.age),
                idle: seconds(count.and_then(|c| c.idle)),
            }
        };
        CountedRules { read_at: reading.at, rules: rules.iter().map(counted).collect() }
    }
}
