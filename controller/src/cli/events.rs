//! `tandem events`.

use super::args::GlobalArgs;
use std::io::Write;
use tandem_api::events::EventView;
use tokio::signal::unix::{SignalKind, signal};

/// Which events are printed.
#[derive(Debug, Clone, clap::Args)]
pub struct EventsArgs {
    /// Go on with those to come, until interrupted.
    #[arg(long)]
    pub follow: bool,
    /// Only those after the one with this number; by default all that the controller still has.
    #[arg(long, default_value_t = 0)]
    pub after: u64,
}

/// `tandem events`: an event a line, with `--json` as an object. Ctrl-C ends it well.
///
/// # Errors
/// With what the controller says, or when the connection is cut.
pub async fn run(global: &GlobalArgs, args: EventsArgs) -> anyhow::Result<()> {
    // Before anything is awaited: until then the signal would end the program as a failure.
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        ended = print_all(global, &args) => ended?,
        _ = interrupt.recv() => return Ok(()),
    }
    if args.follow {
        anyhow::bail!("the controller has ended the stream; follow it again when it is back");
    }
    Ok(())
}

async fn print_all(global: &GlobalArgs, args: &EventsArgs) -> anyhow::Result<()> {
    let mut stream = global.client().events(Some(args.after), args.follow).await?;
    while let Some(event) = stream.next().await? {
        let mut out = std::io::stdout().lock();
        if global.json {
            writeln!(out, "{}", serde_json::to_string(&event)?)?;
        } else {
            let EventView { id, at, change } = &event;
            writeln!(out, "{:.3} {id} {}: {change}", at.as_secs_f64(), change.kind())?;
        }
        out.flush()?;
    }
    Ok(())
}
