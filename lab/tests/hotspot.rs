//! The experiment hotspot, with a shorter tail: every run is checked by the experiment itself
//! (relieved, in time, nothing back and forth).

use std::time::Duration;
use tandem_lab::experiment::hotspot::{self, report, scenario::What};

#[test]
fn what_is_hot_is_relieved_and_what_is_expected_never_gets_hot() {
    let outcomes = hotspot::all(Duration::from_secs(60), Duration::from_secs(1800)).expect("all six runs");
    assert_eq!(outcomes.len(), 6);
    for o in &outcomes {
        let of = format!("{} {} {:?}", o.scenario.what.name(), o.scenario.rise(), o.scenario.horizon);
        assert!(o.moves >= 1 && o.periods() < 2.0, "{of}");
        // Without looking ahead it gets hot first, and is cool within a transfer and the samples
        // that show it.
        if o.scenario.horizon.is_zero() {
            assert!(o.over > 0 && o.over < 120, "{of}: {} s over the threshold", o.over);
        } else {
            assert_eq!((o.over, o.cool), (0, None), "{of}");
        }
        let last = o.rows.last().expect("rows");
        assert!(last.ratio <= o.threshold * 0.9, "{of}: {} in the end", last.ratio);
    }
    let server = outcomes.iter().filter(|o| o.scenario.what == What::Server).count();
    assert_eq!(server, 3);

    let summary = report::summary(&outcomes);
    let header = "hotspot;rise;horizon_s;noticed_s;begun_s;periods_to_begun;over_threshold_s;cool_s;moves\n";
    assert!(summary.starts_with(&format!("{header}server;sudden;0;")), "{summary}");
    let series = report::series(&outcomes);
    assert!(series.starts_with("hotspot;rise;horizon_s;second;ratio;under_way;moves\nserver;sudden;0;0;"));
    assert_eq!(series.lines().count(), 1 + 6 * 1800);
}
