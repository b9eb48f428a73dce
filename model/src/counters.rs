//! What ports and rules have counted. Of a port it is every counter of both OpenFlow versions (OF
//! 1.0 section 5.3.5, OF 1.3.5 section 7.3.5.6), once for whoever counts: a switch, an agent, a
//! simulation.

use crate::RuleKey;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// What a counter says on the wire, and in recordings of earlier releases, that is not supported:
/// all ones.
pub const NOT_COUNTED: u64 = u64::MAX;

/// A counter's value; `None` where it is not supported.
pub fn counted(counter: u64) -> Option<u64> {
    (counter != NOT_COUNTED).then_some(counter)
}

/// The sum of counters; `None` as soon as one of them is.
pub fn sum(counters: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    counters.into_iter().try_fold(0u64, |sum, counter| Some(sum.saturating_add(counter?)))
}

/// Reads a counter; all ones, as earlier releases wrote it, is `None`.
pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.and_then(counted))
}

macro_rules! port_counters {
    ($($(#[$doc:meta])+ $field:ident,)+) => {
        /// The counters of a port since it came, each `None` where it is not counted. They are 64
        /// bits wide, or 32 on old hardware, and start again when the port comes anew.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        pub struct PortCounters {
            $(
                $(#[$doc])+
                #[serde(default, deserialize_with = "read", skip_serializing_if = "Option::is_none")]
                pub $field: Option<u64>,
            )+
        }

        impl PortCounters {
            /// The names of the counters, as they are written.
            pub const NAMES: &[&str] = &[$(stringify!($field)),+];

            /// All counters with their names, in the order of [`PortCounters::NAMES`].
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
                [$((stringify!($field), self.$field)),+].into_iter()
            }
        }
    };
}

port_counters! {
    /// Packets in.
    rx_packets,
    /// Packets out.
    tx_packets,
    /// Bytes in.
    rx_bytes,
    /// Bytes out.
    tx_bytes,
    /// Packets in that were dropped.
    rx_dropped,
    /// Packets out that were dropped.
    tx_dropped,
    /// Errors in, of every kind.
    rx_errors,
    /// Errors out, of every kind.
    tx_errors,
    /// Frame alignment errors in.
    rx_frame_errors,
    /// Overruns in: packets that came faster than they were taken.
    rx_overrun_errors,
    /// Check sequence (CRC) errors in.
    rx_crc_errors,
    /// Collisions.
    collisions,
    /// How long the port has been there, nanoseconds (OF 1.3 only).
    duration_ns,
}

/// What a switch has counted of one rule since it has it, each `None` where it is not counted (OF
/// 1.0 section 5.3.5, OF 1.3.5 section 7.3.5.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounters {
    /// Packets that it was applied to.
    pub packets: Option<u64>,
    /// Bytes of them.
    pub bytes: Option<u64>,
    /// How long the switch has had it.
    pub age: Option<Duration>,
}

/// The counters of one of our rules, as its switch reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSample {
    /// Which rule, as it was sent to the switch.
    pub key: RuleKey,
    /// What was counted.
    pub counters: RuleCounters,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PortNo, PortSample};

    #[test]
    fn samples_of_earlier_releases_are_read_and_all_ones_is_no_counter() {
        let old = r#"{"port":3,"rx_packets":1,"tx_packets":2,"rx_bytes":3,"tx_bytes":4,
            "rx_dropped":18446744073709551615,"tx_dropped":6,"rx_errors":7,"tx_errors":8}"#;
        let sample: PortSample = serde_json::from_str(old).expect("what an earlier release recorded");
        let counters = PortCounters {
            rx_packets: Some(1),
            tx_packets: Some(2),
            rx_bytes: Some(3),
            tx_bytes: Some(4),
            rx_dropped: None,
            tx_dropped: Some(6),
            rx_errors: Some(7),
            tx_errors: Some(8),
            ..PortCounters::default()
        };
        assert_eq!(sample, PortSample { port: PortNo(3), counters });
        let written = serde_json::to_value(sample).expect("JSON");
        assert_eq!(written["rx_bytes"], 3, "beside the port, as before");
        assert!(written.get("rx_dropped").is_none(), "what is not counted is left out");
        assert_eq!(serde_json::from_value::<PortSample>(written).expect("what was written"), sample);
    }

    #[test]
    fn flows_of_earlier_releases_are_read_and_all_ones_is_no_counter() {
        let old = r#"{"cookie":5,"flows":2,"packets":18446744073709551615,"bytes":7}"#;
        let sample: crate::FlowSample = serde_json::from_str(old).expect("what an earlier release recorded");
        assert_eq!((sample.packets, sample.bytes), (None, Some(7)));
        let written = serde_json::to_string(&sample).expect("JSON");
        assert_eq!(written, r#"{"cookie":5,"flows":2,"bytes":7}"#);
        assert_eq!(serde_json::from_str::<crate::FlowSample>(&written).expect("it"), sample);
    }

    #[test]
    fn a_sum_is_known_only_where_all_of_it_is() {
        assert_eq!(sum([Some(1), Some(2)]), Some(3));
        assert_eq!(sum([Some(1), None]), None);
        assert_eq!(sum([Some(u64::MAX), Some(2)]), Some(u64::MAX));
        assert_eq!(PortCounters::NAMES.len(), PortCounters::default().iter().count());
    }
}
