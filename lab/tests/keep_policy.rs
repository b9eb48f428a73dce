//! The experiment keep-policy: the published table exactly, and a small data centre's morning with
//! the policy kept and without.

use std::path::PathBuf;
use tandem_lab::experiment::keep_policy::{self, day, report, table};
use tandem_lab::experiment::plot::Drawing;
use tandem_lab::experiment::run_folder::RunFolder;
use tandem_lab::experiment::table::CsvStyle;
use tandem_model::Allocation;

#[test]
fn the_table_is_the_seeds_by_the_real_core() {
    let mut runs = Vec::new();
    let mut pictures = Vec::new();
    for policy in [Allocation::BestFit, Allocation::WorstFit] {
        let steps = table::run(policy).expect("the published table");
        runs.push((policy, table::rows(&steps)));
        pictures.push((policy, steps));
    }
    let expected = "policy;iteration;server_1;server_2;server_3\n\
        best-fit;0;0;3;3\nbest-fit;1;0;2;4\nbest-fit;2;0;1;5\nbest-fit;3;0;0;6\n\
        best-fit;4;0;0;6\nbest-fit;5;0;0;6\nbest-fit;6;0;0;6\n\
        worst-fit;0;0;3;3\nworst-fit;1;1;2;3\nworst-fit;2;2;1;3\nworst-fit;3;2;1;3\n\
        worst-fit;4;2;2;2\nworst-fit;5;2;2;2\nworst-fit;6;2;2;2\n";
    assert_eq!(table::csv(&runs), expected);
    // A picture for each step and one for the end; an arrow for each VM that changes its server.
    let Drawing::Strip(strip) = report::strip(&pictures, "") else { panic!("no strip") };
    let moves = |n: usize| strip.rows[n].1.iter().filter(|s| s.moved.is_some()).count();
    assert_eq!([strip.rows[0].1.len(), strip.rows[1].1.len(), moves(0), moves(1)], [7, 7, 3, 3]);
    assert_eq!(strip.rows[0].1[6].servers.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 6]);
    let svg = Drawing::Strip(strip).svg().expect("drawn");
    for said in ["best-fit", "worst-fit", "at the end", "vm1 moves", "vm6 stays", "srv3"] {
        assert!(svg.contains(said), "{said} in {svg}");
    }
}

/// From 0-3-3 the algorithm of the thesis makes three moves under either policy; under worst fit two
/// are enough, one from each full server, to the same packing.
#[test]
fn the_fewest_moves_lead_to_the_same_packing() {
    for (policy, one_by_one, fewest, end) in
        [(Allocation::BestFit, 3, 3, [0, 0, 6]), (Allocation::WorstFit, 3, 2, [2, 2, 2])]
    {
        let members = table::members(policy).expect("the example by each way");
        let moves: Vec<usize> = members.iter().map(|m| m.moves).collect();
        assert_eq!((moves[0], moves[3]), (one_by_one, fewest), "{members:?}");
        assert!(moves.iter().all(|n| *n >= fewest), "{members:?}");
        assert_eq!((members[0].end, members[3].end), (end, end), "{members:?}");
        let csv = table::moves_csv(&members);
        assert!(csv.starts_with("policy;planner;order;moves;") && csv.lines().count() == 5, "{csv}");
    }
}

fn small() -> day::Options {
    // From the middle of the night on: the data centre empties and fills again.
    day::Options { servers: 40, vms: 400, hours: 8.0, lifetime_hours: 2.0, ..day::Options::default() }
}

#[test]
fn keeping_best_fit_frees_servers_and_saves_energy() {
    let runs = keep_policy::both(&small()).expect("both runs");
    let [without, with] = [0, 1].map(|n| report::totals(&runs[n]));
    assert_eq!(runs[0].requests, runs[1].requests, "the same day");
    assert_eq!((without.last.moves, runs[0].failed), (0, 0));
    // Those whose VM reached the end of its time on the way.
    assert!(runs[1].failed * 20 <= with.last.moves, "{} transfers failed", runs[1].failed);
    assert!(with.last.moves > 10 && with.last.bytes > 1 << 30, "{:?}", with.last);
    assert!(with.active < without.active - 1.0, "{} servers with, {} without", with.active, without.active);
    assert!(with.last.kwh < without.last.kwh, "{} kWh with, {} without", with.last.kwh, without.last.kwh);
    for (a, b) in runs[0].rows.iter().zip(&runs[1].rows) {
        assert_eq!(a.second, b.second);
        let served = |r: &day::Row| u64::from(r.vms) + r.rejected;
        assert!(served(a).abs_diff(served(b)) <= 5, "as many VMs at {} s: {a:?}, {b:?}", a.second);
    }
    assert_eq!(day::run(&small(), true).expect("a run"), runs[1], "the same seed gives the same day");

    let out = std::env::temp_dir().join(format!("tandem-keep-policy-{}", std::process::id()));
    std::fs::create_dir_all(&out).expect("a folder");
    let removed = Removed(out.clone());
    let mut folder = RunFolder::make(&out, CsvStyle::Thesis).expect("a run folder");
    report::write(&mut folder, &small(), &runs, "simulated world").expect("files");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect("a file");
    let series = read("csv/series.csv");
    let summary = read("csv/summary.csv");
    assert!(
        series.starts_with("keep_policy;second;vms;active_servers;moves;moved_gib;rejected;watts;kwh\nno;0;"),
        "{series}"
    );
    assert_eq!(series.lines().count(), 1 + 2 * (8 * 12 + 1));
    let header = "allocation;keep_policy;servers;requests;rejected;mean_vms;mean_active_servers;least_active_servers;moves;\
                  failed_moves;moved_gib;kwh";
    let columns = |line: &str| line.split(';').count();
    let lines: Vec<&str> = summary.lines().collect();
    assert_eq!(lines[0], header);
    assert!(lines[1].starts_with("best-fit;no;40;") && lines[2].starts_with("best-fit;yes;40;"), "{summary}");
    assert!(summary.lines().all(|l| columns(l) == columns(header)));
    assert!(read("figures/day.svg").contains("policy kept"));
    drop(removed);
}

#[test]
fn an_option_out_of_bounds_is_named() {
    let said = |options: day::Options| format!("{:#}", day::run(&options, false).expect_err("out of bounds"));
    assert!(said(day::Options { servers: 30, ..small() }).contains("--servers 30"));
    assert!(said(day::Options { lifetime_hours: 0.0, ..small() }).contains("--lifetime-hours"));
}

/// A folder that goes with the test, however that ends.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
