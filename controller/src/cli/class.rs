//! `tandem class`.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use clap::Subcommand;
use tandem_api::classes::ClassShare;
use tandem_api::endpoints::{CLASSES, SET_SHARES, SWITCHES};
use tandem_api::limits;
use tandem_api::views::{ClassView, SwitchView};
use tandem_model::BitRate;

/// What can be done with classes.
#[derive(Debug, Subcommand)]
pub enum ClassCommand {
    /// List the classes with what each has sent.
    List,
    /// Give classes other shares, such as `gold=60 silver=40` (percent). Switches follow without
    /// dropping a packet.
    Set {
        /// NAME=SHARE, or NAME=SHARE:CEILING.
        #[arg(required = true, value_parser = share)]
        shares: Vec<ClassShare>,
    },
}

fn share(text: &str) -> Result<ClassShare, String> {
    let wrong = || format!("{text:?} is no share; write gold=60, or gold=60:80 with a ceiling (percent)");
    let (name, numbers) = text.split_once('=').ok_or_else(wrong)?;
    let (share, ceiling) = match numbers.split_once(':') {
        Some((share, ceiling)) => (share, Some(ceiling.parse().map_err(|_| wrong())?)),
        None => (numbers, None),
    };
    let body = ClassShare { name: name.to_owned(), share: share.parse().map_err(|_| wrong())?, ceiling };
    // JSON has no NaN: it would arrive as nothing at all.
    limits::percent("a share", body.share)?;
    body.ceiling.map_or(Ok(()), |c| limits::percent("a ceiling", c))?;
    Ok(body)
}

/// `tandem class`.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, command: ClassCommand) -> anyhow::Result<()> {
    let client = global.client();
    match command {
        ClassCommand::Set { shares } => {
            client.send(SET_SHARES.with(&shares)).await?;
        }
        ClassCommand::List => {
            let classes = client.send(CLASSES.request()).await?.body;
            if global.json {
                return print_json(&classes);
            }
            let switches = client.send(SWITCHES.request()).await?.body;
            let rows: Vec<Vec<String>> =
                classes.iter().enumerate().map(|(n, c)| row(n, c, &switches)).collect();
            let header = [
                "class",
                "share",
                "ceiling",
                "dscp",
                "default",
                "rate, all ports",
                "bytes",
                "drops",
                "waiting",
            ];
            println!("{}", table(&header, &rows));
        }
    }
    Ok(())
}

/// A class, with what all ports together have sent of it.
fn row(n: usize, class: &ClassView, switches: &[SwitchView]) -> Vec<String> {
    let ports = switches.iter().flat_map(|s| &s.ports).filter_map(|p| p.classes.get(n));
    let [mut rate, mut bytes, mut drops] = [0; 3];
    let mut queued = 0;
    for counters in ports {
        rate += counters.rate.0;
        bytes += counters.sample.bytes;
        drops += counters.sample.drops;
        queued += counters.sample.queued;
    }
    vec![
        class.name.clone(),
        format!("{}%", class.share.share),
        format!("{}%", class.share.ceiling),
        class.dscp.to_string(),
        if class.default { "yes" } else { "" }.into(),
        BitRate(rate).to_string(),
        bytes.to_string(),
        drops.to_string(),
        queued.to_string(),
    ]
}
