//! `tandem-fpga`: looks into a NetFPGA card, loads it, tests it, and turns flows into register
//! writes and back.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(&cli::args::Cli::parse()) {
        Ok(code) => code,
        Err(error) if cli::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem-fpga: {error:#}");
            ExitCode::FAILURE
        }
    }
}
