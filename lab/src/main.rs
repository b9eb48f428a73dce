//! `tandem-lab`: data centres without hardware.

use std::process::ExitCode;
use tandem_lab::cli;
use tandem_lab::world::emulated::{lab_control, lab_process};
use tandem_lab::world::testbed::{node, up};
use tandem_lab::world::xen::supervisor;

/// A reader that went away (`tandem ... | head`) ends the program without a word.
fn end_quietly_without_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some_and(|text| text.starts_with("failed printing to stdout")) {
            std::process::exit(0);
        }
        usual(info);
    }));
}

/// The descriptor by which a node knows that its guard lives.
fn lifeline() -> anyhow::Result<i32> {
    use anyhow::Context;
    std::env::args().nth(2).and_then(|n| n.parse().ok()).context("a node is started by its guard only")
}

fn main() -> ExitCode {
    end_quietly_without_reader();
    // The sandbox's own steps come before anything that starts a thread.
    let result = match std::env::args().nth(1).as_deref() {
        Some("__outer") => lab_control::outer().map(|()| ExitCode::SUCCESS),
        Some("__init") => lab_control::init(),
        Some("__testbed") => up::run().map(|()| ExitCode::SUCCESS),
        Some("__xen") => supervisor::run().map(|()| ExitCode::SUCCESS),
        Some("__node") => lifeline().and_then(node::run).map(|()| ExitCode::SUCCESS),
        Some("__inside") => lab_process::run().map(|()| ExitCode::SUCCESS),
        _ => cli::run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tandem-lab: {error:#}");
        ExitCode::FAILURE
    })
}
