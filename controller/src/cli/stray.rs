//! `tandem vm list --strays`, `adopt`, `stop-stray`: VMs that run without a record of them.

use super::args::{GlobalArgs, print_json, seconds, vm_number};
use super::table::table;
use super::vm::SizeArgs;
use anyhow::bail;
use clap::Args;
use std::net::Ipv4Addr;
use tandem_api::endpoints::{ADOPT_VM, STOP_STRAY, STRAYS};
use tandem_api::views::StrayView;
use tandem_api::vms::{AdoptVm, VmSize};

/// A VM to be adopted, and what is not kept with it.
#[derive(Debug, Clone, Args)]
pub struct AdoptArgs {
    /// Its number: 7 or vm7.
    #[arg(value_parser = vm_number, required_unless_present = "all", conflicts_with = "all")]
    vm: Option<u64>,
    /// Adopt all that run and lack nothing.
    #[arg(long, conflicts_with_all = ["server", "cpu", "ram", "disk", "net", "address", "name", "image"])]
    all: bool,
    /// The server where it is; only needed where there are several with its number.
    #[arg(long)]
    server: Option<String>,
    #[command(flatten)]
    size: SizeArgs,
    /// Its address.
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// Service class, by its name in the site file.
    #[arg(long)]
    class: Option<String>,
    /// How long it lives from now on: seconds, or a time such as "85 min".
    #[arg(long, value_parser = seconds)]
    timeout: Option<f64>,
    /// A name for people.
    #[arg(long)]
    name: Option<String>,
    /// What it was made from.
    #[arg(long)]
    image: Option<String>,
}

/// `tandem vm list --strays`.
///
/// # Errors
/// With what the controller says.
pub async fn list(global: &GlobalArgs) -> anyhow::Result<()> {
    let strays = global.client().send(STRAYS.request()).await?.body;
    if global.json {
        return print_json(&strays);
    }
    let rows: Vec<Vec<String>> = strays.iter().map(row).collect();
    print!(
        "{}",
        table(&["vm", "name", "address", "mac", "server", "state", "network", "to adopt it"], &rows)
    );
    Ok(())
}

fn row(s: &StrayView) -> Vec<String> {
    let todo = if let Some(server) = &s.recorded_on {
        format!("tandem vm adopt {} (its record says {server})", s.id)
    } else if s.id_is_taken {
        "there is a record of another one".to_owned()
    } else if !s.runs {
        "it must run".to_owned()
    } else if s.lacks.is_empty() {
        format!("tandem vm adopt {}", s.id)
    } else {
        let options: Vec<String> = s.lacks.iter().map(|name| format!("--{name}")).collect();
        format!("say {}", options.join(" "))
    };
    vec![
        s.id.to_string(),
        s.name.clone().unwrap_or_default(),
        s.address.map_or_else(|| "-".to_owned(), |a| a.to_string()),
        s.mac.to_string(),
        s.server_name.clone(),
        if s.runs { "runs" } else { "halted" }.to_owned(),
        s.unserved.clone().unwrap_or_else(|| "as it was".to_owned()),
        todo,
    ]
}

/// `tandem vm adopt`.
///
/// # Errors
/// With what the controller says.
pub async fn adopt(global: &GlobalArgs, vm: AdoptArgs) -> anyhow::Result<()> {
    let client = global.client();
    let VmSize { cpu, ram, disk, net } = vm.size.body();
    let known = AdoptVm {
        server: vm.server,
        cpu,
        ram,
        disk,
        net,
        address: vm.address,
        class: vm.class,
        timeout: vm.timeout,
        name: vm.name,
        image: vm.image,
    };
    let ids = match vm.vm {
        Some(id) => vec![id],
        None => {
            let strays = client.send(STRAYS.request()).await?.body;
            let ready = |s: &&StrayView| s.runs && s.lacks.is_empty() && !s.id_is_taken;
            strays.iter().filter(ready).map(|s| s.id.0).collect()
        }
    };
    let mut adopted = Vec::new();
    let mut failed = 0;
    for id in &ids {
        match client.send(ADOPT_VM.at_with(&[id], &known)).await {
            Ok(reply) => {
                if !global.json {
                    println!("{}", reply.body.address);
                    eprintln!("vm{id} is adopted");
                }
                adopted.push(reply.body);
            }
            Err(why) if vm.all => {
                eprintln!("vm{id} is not adopted: {:#}", anyhow::Error::from(why));
                failed += 1;
            }
            Err(why) => return Err(why.into()),
        }
    }
    if global.json {
        print_json(&adopted)?;
    }
    if failed > 0 {
        bail!("{failed} of {} were not adopted", ids.len());
    }
    Ok(())
}

/// `tandem vm stop-stray`.
///
/// # Errors
/// With what the controller says.
pub async fn stop(global: &GlobalArgs, vm: u64, server: Option<String>) -> anyhow::Result<()> {
    let mut request = STOP_STRAY.at(&[&vm]);
    if let Some(server) = server {
        request = request.query("server", server);
    }
    global.client().send(request).await?;
    eprintln!("vm{vm}, which there was no record of, is gone");
    Ok(())
}
