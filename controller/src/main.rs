//! `tandem`: the controller (`serve`) and the operator's command line (everything else).

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tandem_controller::cli::command::{Cli, run};
use tandem_controller::log;

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

#[tokio::main]
async fn main() -> ExitCode {
    end_quietly_without_reader();
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .fmt_fields(log::fields())
        .init();
    let cli = Cli::parse();
    // Documented commands are held to this parser by tests/tests/documented_commands.rs.
    if cfg!(debug_assertions) && std::env::var_os("TANDEM_PARSE_ONLY").is_some() {
        return ExitCode::SUCCESS;
    }
    match run(cli).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            ExitCode::FAILURE
        }
    }
}
