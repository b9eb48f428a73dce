//! Manual overrides: `tandem port`, `tandem path`, `tandem overrides`.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use clap::Subcommand;
use tandem_api::VmRef;
use tandem_api::endpoints::{OVERRIDES, PIN_PATH, SET_PORT, UNPIN_PATH};
use tandem_api::overrides::{PathPin, PortState};
use tandem_api::views::OverrideView;

/// What can be done with a port.
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Switch a port off; VMs whose paths go over it get others. It stays off until `tandem port
    /// up`, whatever restarts.
    Down {
        /// The switch's name or datapath id.
        switch: String,
        /// The port's OpenFlow number.
        port: u32,
    },
    /// Switch a port on again that was switched off.
    Up {
        /// The switch's name or datapath id.
        switch: String,
        /// The port's OpenFlow number.
        port: u32,
    },
}

/// What can be done with a VM's path.
#[derive(Debug, Subcommand)]
pub enum PathCommand {
    /// Let a VM's path to its gateway go by these switches. When it breaks, the VM has another
    /// until it can go back.
    Pin {
        /// Its number, such as 7 or vm7, or its name.
        vm: VmRef,
        /// Switches by name, in the path's order from the server on. Between them the shortest way
        /// with room is taken; name more switches where that is not the one you mean.
        #[arg(required = true)]
        switches: Vec<String>,
    },
    /// Let a VM's path go where routing takes it.
    Unpin {
        /// Its number, such as 7 or vm7, or its name.
        vm: VmRef,
    },
}

/// `tandem port`.
///
/// # Errors
/// With what the controller says.
pub async fn port(global: &GlobalArgs, command: PortCommand) -> anyhow::Result<()> {
    let (switch, port, up) = match command {
        PortCommand::Down { switch, port } => (switch, port, false),
        PortCommand::Up { switch, port } => (switch, port, true),
    };
    global.client().send(SET_PORT.at_with(&[&switch, &port], &PortState { up })).await?;
    eprintln!("{switch}.{port} is switched {}", if up { "on again" } else { "off" });
    Ok(())
}

/// `tandem path`.
///
/// # Errors
/// With what the controller says.
pub async fn path(global: &GlobalArgs, command: PathCommand) -> anyhow::Result<()> {
    let client = global.client();
    match command {
        PathCommand::Pin { vm, switches } => {
            let way = switches.join(" - ");
            client.send(PIN_PATH.at_with(&[&vm.segment()], &PathPin { switches })).await?;
            eprintln!("{vm}'s path is pinned to {way}");
        }
        PathCommand::Unpin { vm } => {
            client.send(UNPIN_PATH.at(&[&vm.segment()])).await?;
            eprintln!("{vm}'s path is no longer pinned");
        }
    }
    Ok(())
}

/// `tandem overrides`.
///
/// # Errors
/// With what the controller says.
pub async fn overrides(global: &GlobalArgs) -> anyhow::Result<()> {
    let overrides = global.client().send(OVERRIDES.request()).await?.body;
    if global.json {
        return print_json(&overrides);
    }
    let rows: Vec<Vec<String>> = overrides.iter().map(row).collect();
    print!("{}", table(&["override", "state", "taken back by"], &rows));
    Ok(())
}

fn row(o: &OverrideView) -> Vec<String> {
    match o {
        OverrideView::PortOff { switch, port, lifted, .. } => vec![
            format!("port {switch}.{port} off"),
            if *lifted { "on again as soon as its switch is back" } else { "off" }.into(),
            if *lifted { String::new() } else { format!("tandem port up {switch} {port}") },
        ],
        OverrideView::PathPinned { vm, switches, kept } => vec![
            format!("path of {vm} by {}", switches.join(" - ")),
            if *kept { "kept" } else { "broken: it has another path, and goes back when it can" }.into(),
            format!("tandem path unpin {vm}"),
        ],
    }
}
