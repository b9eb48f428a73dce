//! Figure 4.2 of the thesis (Teixeira 2013) in virtual time: exactly the published numbers, and the
//! same run from its recording.

use std::io::BufReader;
use std::path::Path;
use tandem_core::record_replay;
use tandem_lab::experiment::fill::{self, Series};
use tandem_lab::experiment::manifest::Manifest;
use tandem_lab::experiment::records::Records;
use tandem_lab::world::{Start, simulated::Simulated};

fn simulated(policy: &str, record: Option<&Path>) -> Series {
    let text = fill::with_policy(fill::SITE, policy).expect("the experiment's site");
    let start = Start { name: "run", experiment: "figure", text: &text, csv: None, record };
    let mut manifest = Manifest::new("figure", "simulated", 0, &text);
    fill::series(&Simulated, start, &mut manifest, &mut Records::default()).expect("a run")
}

#[test]
fn the_simulated_series_is_exactly_the_published_one() {
    for policy in ["best-fit", "worst-fit"] {
        let series = simulated(policy, None);
        assert_eq!(series.ratio.len(), 49);
        for (second, ratio) in (0u64..).zip(&series.ratio) {
            assert!(
                fill::published(policy, second).is_some_and(|p| (ratio.floor() - p).abs() < 1e-9),
                "{policy:?}, second {second}: {ratio}%"
            );
        }
        let last = series.occupation.last().expect("seconds");
        assert!(last.iter().all(|n| *n == 3), "48 VMs fill 16 servers: {last:?}");
        // Best fit fills a server before it goes to the next; worst fit goes round.
        let third = &series.occupation[3];
        let spread = third.iter().filter(|n| **n > 0).count();
        assert_eq!(spread, if policy == "best-fit" { 1 } else { 3 });
    }
}

#[test]
fn a_recorded_run_replays_to_the_same_decisions_and_a_changed_one_does_not() {
    let path = std::env::temp_dir().join(format!("tandem-figure-{}.jsonl", std::process::id()));
    simulated("best-fit", Some(&path));
    let text = std::fs::read_to_string(&path).expect("the recording");
    std::fs::remove_file(&path).expect("our own file");
    let events = record_replay::replay(BufReader::new(text.as_bytes())).expect("the same decisions");
    assert!(events > 1000, "{events}");

    let other = text.replacen("\"allocation\":\"best-fit\"", "\"allocation\":\"worst-fit\"", 1);
    assert_ne!(other, text);
    let error = record_replay::replay(BufReader::new(other.as_bytes()))
        .expect_err("another policy decides otherwise");
    assert!(matches!(error, record_replay::ReplayError::Diverged(_)), "{error}");
}
