//! The operator's hand: `tandem port`, `tandem path`, `tandem overrides`.

use super::client::segment;
use super::table::table;
use super::verbs::{Common, print_json, vm_number};
use crate::api::{PinBody, PortBody};
use clap::Subcommand;
use hyper::Method;
use tandem_core::snapshot::OverrideView;

/// What can be done with a port.
#[derive(Debug, Subcommand)]
pub enum PortVerb {
    /// Switch a port off; VMs whose paths go over it get others. It stays off until `tandem port up`, whatever restarts.
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
pub enum PathVerb {
    /// Let a VM's path to its gateway go by these switches. When it breaks, the VM has another until it can go back.
    Pin {
        /// Its number: 7 or vm7.
        #[arg(value_parser = vm_number)]
        vm: u64,
        /// Switches by name, in the path's order from the server on. Between them the shortest way with room is taken; name more
        /// switches where that is not the one you mean.
        #[arg(required = true)]
        switches: Vec<String>,
    },
    /// Let a VM's path go where routing takes it.
    Unpin {
        /// Its number: 7 or vm7.
        #[arg(value_parser = vm_number)]
        vm: u64,
    },
}

/// `tandem port`.
///
/// # Errors
/// With what the controller says.
pub async fn port(common: &Common, verb: PortVerb) -> anyhow::Result<()> {
    let (switch, port, up) = match verb {
        PortVerb::Down { switch, port } => (switch, port, false),
        PortVerb::Up { switch, port } => (switch, port, true),
    };
    let body = serde_json::to_value(PortBody { up })?;
    let path = format!("/api/v1/ports/{}/{port}", segment(&switch));
    common.client().call(Method::PUT, &path, Some(body)).await?;
    eprintln!("{switch}.{port} is switched {}", if up { "on again" } else { "off" });
    Ok(())
}

/// `tandem path`.
///
/// # Errors
/// With what the controller says.
pub async fn path(common: &Common, verb: PathVerb) -> anyhow::Result<()> {
    let client = common.client();
    match verb {
        PathVerb::Pin { vm, switches } => {
            let body = serde_json::to_value(PinBody { switches: switches.clone() })?;
            client.call(Method::PUT, &format!("/api/v1/vms/{vm}/pin"), Some(body)).await?;
            eprintln!("vm{vm}'s path is pinned to {}", switches.join(" - "));
        }
        PathVerb::Unpin { vm } => {
            client.call(Method::DELETE, &format!("/api/v1/vms/{vm}/pin"), None).await?;
            eprintln!("vm{vm}'s path is no longer pinned");
        }
    }
    Ok(())
}

/// `tandem overrides`.
///
/// # Errors
/// With what the controller says.
pub async fn overrides(common: &Common) -> anyhow::Result<()> {
    let client = common.client();
    let (overrides, _): (Vec<OverrideView>, _) = client.get("/api/v1/overrides").await?;
    if common.json {
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
