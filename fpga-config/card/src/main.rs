//! `tandem-fpga`: shows, loads and tests NetFPGA cards, and translates flows into register writes
//! and back.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::args::Cli::parse();
    // tests/tests/documented_commands.rs checks documented commands with this parser.
    if cfg!(debug_assertions) && std::env::var_os("TANDEM_PARSE_ONLY").is_some() {
        return ExitCode::SUCCESS;
    }
    match cli::run(&cli) {
        Ok(code) => code,
        Err(error) if cli::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem-fpga: {error:#}");
            ExitCode::FAILURE
        }
    }
}
