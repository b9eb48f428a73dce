//! `tandem hypervisors`: reads a hypervisors file against its site, and asks the hosts what they
//! can do. Needs no controller.

use super::args::{GlobalArgs, print_json};
use super::store::Which;
use super::table::table;
use crate::server::serve::read_site;
use crate::store;
use clap::Subcommand;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tandem_hypervisor::config::{Hypervisors, LoadError};
use tandem_hypervisor::owner::Owner;
use tandem_hypervisor::registry::DRIVERS;
use tandem_hypervisor::{Capabilities, Driver, Hypervisor};
use tandem_model::{NodeId, ServerId};

/// A host that takes longer to say what is on it is taken for gone.
const PATIENCE: Duration = Duration::from_secs(180);

/// What can be done with hypervisors files.
#[derive(Debug, Subcommand)]
pub enum HypervisorsCommand {
    /// Check a hypervisors file; prints all its faults.
    Check {
        /// The hypervisors file.
        file: PathBuf,
        /// The site file that it belongs to.
        #[arg(long)]
        site: PathBuf,
        /// Also connect to every host, and say what it can do and how many VMs of the site it has.
        /// Nothing on it is changed or written.
        #[arg(long)]
        connect: bool,
    },
    /// Have hosts serve the controller of this store from now on, and not the one that they served
    /// before. Their VMs are left as they are: those that the store does not know are strays
    /// (`tandem vm list --strays`).
    TakeOver {
        /// The hypervisors file.
        file: PathBuf,
        /// The site and its store. Its controller must have run once, and must not run now.
        #[command(flatten)]
        which: Which,
        /// Only the hosts of these servers.
        #[arg(long)]
        server: Vec<String>,
    },
}

/// `tandem hypervisors`; false when the file has faults, or a host does not answer.
///
/// # Errors
/// When a file cannot be read.
pub async fn hypervisors(global: &GlobalArgs, command: HypervisorsCommand) -> anyhow::Result<bool> {
    let (file, site, connect) = match command {
        HypervisorsCommand::Check { file, site, connect } => (file, site, connect),
        HypervisorsCommand::TakeOver { file, which, server } => {
            return take_over(&file, &which, &server).await;
        }
    };
    let site = read_site(&site)?;
    let all = match Hypervisors::load(&file, &site) {
        Ok(all) => all,
        Err(LoadError::Faults(faults)) => {
            if global.json {
                print_json(&json!({ "ok": false, "faults": faults.faults }))?;
            } else {
                eprintln!("{faults}");
            }
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let missing = all.missing(&site);
    if !connect {
        if global.json {
            let mut found = json!({ "ok": true, "images": all.images.len(), "missing": missing });
            for (kind, section) in DRIVERS.iter().zip(&all.sections) {
                found[kind.parts] = section.parts().into();
            }
            print_json(&found)?;
        } else {
            let counted = DRIVERS.iter().zip(&all.sections);
            let counted: Vec<String> = counted.map(|(k, s)| format!("{} {}", s.parts(), k.parts)).collect();
            println!("{}, {} images; no faults", counted.join(", "), all.images.len());
            if !missing.is_empty() {
                println!("on no hypervisor: {}", missing.join(", "));
            }
        }
        return Ok(true);
    }
    let (drivers, services) = called(all.drivers(&site.name)?);
    let mut tasks = Vec::new();
    for driver in &drivers {
        for server in driver.servers() {
            tasks.push((driver.clone(), *server, tokio::spawn(ask(driver.clone(), *server))));
        }
    }
    let name = |id: ServerId| {
        site.topology.servers.get(id.0 as usize).map_or_else(|| id.to_string(), |s| s.name.clone())
    };
    let (mut rows, mut found, mut good) = (Vec::new(), Vec::new(), true);
    for (driver, server, task) in tasks {
        let (vms, why) = match task.await? {
            Ok(vms) => (Some(vms), None),
            Err(why) => (None, Some(why)),
        };
        good &= why.is_none();
        let can = words(driver.capabilities(server));
        found.push(
            json!({ "server": name(server), "driver": driver.name(), "vms": vms, "can": can, "error": why }),
        );
        rows.push(vec![
            name(server),
            driver.name().to_owned(),
            vms.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            why.unwrap_or_else(|| can.join(", ")),
        ]);
    }
    if global.json {
        let services = json!(services);
        print_json(&json!({ "ok": good, "servers": found, "missing": missing, "services": services }))?;
    } else {
        print!("{}", table(&["SERVER", "DRIVER", "VMS", "CAN"], &rows));
        for name in services {
            println!("{name} is not asked: to connect is to attach, which only its controller does");
        }
    }
    Ok(good)
}

/// The drivers that can be called, and the names of those that cannot: services.
fn called(drivers: Vec<Driver>) -> (Vec<Arc<dyn Hypervisor>>, Vec<String>) {
    let (mut called, mut services) = (Vec::new(), Vec::new());
    for driver in drivers {
        match driver {
            Driver::Called(driver) => called.push(driver),
            Driver::Service(service) => services.push(service.name().to_owned()),
        }
    }
    (called, services)
}

/// `tandem hypervisors take-over`; false when a host could not be taken over.
async fn take_over(file: &Path, which: &Which, only: &[String]) -> anyhow::Result<bool> {
    let (site, store) = which.find()?;
    let owner = Owner::of(&store::identity_of(&store, &site)?);
    let all = Hypervisors::load(file, &site)?;
    let name = |id: ServerId| site.topology.name(NodeId::Server(id)).to_owned();
    let (drivers, services) = called(all.drivers(&site.name)?);
    for name in services {
        println!("{name} serves whoever attaches, while nobody else is attached: nothing to take over");
    }
    let there: Vec<(Arc<dyn Hypervisor>, ServerId)> =
        drivers.iter().flat_map(|d| d.servers().iter().map(|s| (d.clone(), *s))).collect();
    if let Some(unknown) = only.iter().find(|wanted| !there.iter().any(|(_, s)| name(*s) == **wanted)) {
        anyhow::bail!("{unknown} is no server of {}", file.display());
    }
    let mut good = true;
    for (driver, server) in there {
        let name = name(server);
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let taken = tokio::time::timeout(PATIENCE, driver.claim(server, &owner, true)).await;
        match taken {
            Ok(Ok(_)) => println!("{name} serves the controller with the store {} from now on", owner.store),
            Ok(Err(why)) => {
                good = false;
                eprintln!("{name} is not taken over: {why}");
            }
            Err(_) => {
                good = false;
                eprintln!("{name} is not taken over: no answer within {PATIENCE:?}");
            }
        }
    }
    Ok(good)
}

/// How many VMs of the site it has, or why nobody knows.
async fn ask(driver: Arc<dyn Hypervisor>, server: ServerId) -> Result<usize, String> {
    match tokio::time::timeout(PATIENCE, driver.list(server)).await {
        Ok(Ok(found)) => Ok(found.len()),
        Ok(Err(why)) => Err(why.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

fn words(c: Capabilities) -> Vec<&'static str> {
    [
        (c.live, "live"),
        (c.cold, "cold"),
        (c.storage, "storage"),
        (c.cancel, "cancel"),
        (c.progress, "progress"),
        (c.rate, "rate"),
        (c.resize, "resize"),
        (c.loads, "loads"),
        (c.addresses, "addresses"),
    ]
    .into_iter()
    .filter_map(|(can, word)| can.then_some(word))
    .collect()
}
