//! `tandem-lab`: data centres without hardware.

mod cli;

use std::process::ExitCode;
use tandem_lab::emulated::{inside, outside};

fn main() -> ExitCode {
    // The sandbox's own steps come before anything that starts a thread.
    let result = match std::env::args().nth(1).as_deref() {
        Some("__outer") => outside::outer().map(|()| ExitCode::SUCCESS),
        Some("__init") => outside::init(),
        Some("__inside") => inside::run().map(|()| ExitCode::SUCCESS),
        _ => cli::run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tandem-lab: {error:#}");
        ExitCode::FAILURE
    })
}
