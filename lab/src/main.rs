//! `tandem-lab`: data centres without hardware.

mod cli;

use std::process::ExitCode;
use tandem_lab::emulated::{inside, outside};
use tandem_lab::testbed::{node, up};
use tandem_lab::xen::holder;

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
        Some("__outer") => outside::outer().map(|()| ExitCode::SUCCESS),
        Some("__init") => outside::init(),
        Some("__testbed") => up::run().map(|()| ExitCode::SUCCESS),
        Some("__xen") => holder::run().map(|()| ExitCode::SUCCESS),
        Some("__node") => lifeline().and_then(node::run).map(|()| ExitCode::SUCCESS),
        Some("__inside") => inside::run().map(|()| ExitCode::SUCCESS),
        _ => cli::run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tandem-lab: {error:#}");
        ExitCode::FAILURE
    })
}
