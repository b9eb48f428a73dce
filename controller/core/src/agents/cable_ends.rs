//! Whether the two ends of a cable have negotiated alike, as the agents at its ends say. One end
//! that negotiates and one that does not are hard to find otherwise: the thesis (Teixeira 2013)
//! lost days to this.

use std::collections::BTreeMap;
use tandem_model::{BitRate, LinkId};

/// What an end has negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// `None` for an end that does not know its speed, as one of a veth pair, or one without a
    /// carrier: it says nothing about the cable.
    pub(crate) speed: Option<BitRate>,
    /// True when it cannot send and receive at once.
    pub(crate) half_duplex: bool,
}

/// True when both ends say what they have, and it is not the same.
pub(crate) fn differ(a: Negotiated, b: Negotiated) -> bool {
    a.speed.is_some() && b.speed.is_some() && a != b
}

/// The sentence about two ends that differ, each by the name of its port; the same sentence
/// whichever end comes first.
pub(crate) fn sentence(a: (&str, Negotiated), b: (&str, Negotiated)) -> String {
    let end = |(port, has): (&str, Negotiated)| {
        let duplex = if has.half_duplex { "half" } else { "full" };
        format!("{port} has {} {duplex} duplex", has.speed.unwrap_or_default())
    };
    let mut ends = [end(a), end(b)];
    ends.sort();
    format!(
        "the two ends of a cable differ: {}; let both negotiate (`ethtool -s INTERFACE autoneg on`), or set both alike",
        ends.join(", ")
    )
}

/// The differences that were reported: each is reported again only when it has changed, or when it comes
/// again.
#[derive(Debug, Default)]
pub(crate) struct CableEnds {
    told: BTreeMap<LinkId, String>,
}

impl CableEnds {
    /// Both ends of a link agree, or one of them does not know.
    pub(crate) fn agree(&mut self, link: LinkId) {
        self.told.remove(&link);
    }

    /// Both ends of a link differ; true when that is to be told.
    pub(crate) fn differ(&mut self, link: LinkId, what: &str) -> bool {
        let told = self.told.insert(link, what.to_owned());
        told.as_deref() != Some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(mbit: u64, half_duplex: bool) -> Negotiated {
        Negotiated { speed: (mbit > 0).then_some(BitRate::mbit(mbit)), half_duplex }
    }

    #[test]
    fn ends_differ_by_speed_or_duplex_where_both_know() {
        let full = end(1000, false);
        assert!(!differ(full, full));
        assert!(differ(full, end(100, false)) && differ(full, end(1000, true)));
        assert!(!differ(full, end(0, true)) && !differ(end(0, false), full), "one of them does not know");
    }

    #[test]
    fn a_difference_is_told_once_and_again_when_it_comes_again() {
        let ends = [("edge1.1", end(1000, false)), ("core1.3", end(100, true))];
        let what = sentence(ends[0], ends[1]);
        assert_eq!(what, sentence(ends[1], ends[0]), "whichever end comes first");
        assert!(
            what.contains("core1.3 has 100 Mbit/s half duplex, edge1.1 has 1 Gbit/s full duplex"),
            "{what}"
        );
        let mut cables = CableEnds::default();
        assert!(cables.differ(LinkId(3), &what) && !cables.differ(LinkId(3), &what));
        assert!(cables.differ(LinkId(3), "another difference"));
        cables.agree(LinkId(3));
        assert!(cables.differ(LinkId(3), "another difference"));
    }
}
