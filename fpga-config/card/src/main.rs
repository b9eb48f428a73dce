//! `tandem-fpga`: looks into a NetFPGA card, loads it, tests it, and turns flows into register
//! writes and back.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::args::Cli::parse();
    // Documented commands are held to this parser by tests/tests/documented_commands.rs.
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
