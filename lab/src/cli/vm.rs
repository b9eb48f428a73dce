//! `tandem-lab vm`: what a person can do to a lab's VMs without the controller.

use crate::control::labs;
use crate::control::messages::{self, LabRequest, LabResponse};
use crate::node::guest::Change;
use crate::node::loads::ServerLoad;
use anyhow::{Context, bail};
use clap::Subcommand;
use tandem_model::BitRate;

/// What `tandem-lab vm` can be told.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// Let a VM do something else from now on than its image does.
    Load {
        /// The lab's name; not needed while only one is up.
        #[arg(long)]
        name: Option<String>,
        /// Another user's lab, by that user's name or number: for root.
        #[arg(long)]
        user: Option<String>,
        /// The VM: vm1.
        vm: String,
        /// CPU time that it uses, as a part of all its cores, 0 to 1; besides what its processes
        /// really use.
        #[arg(long, value_parser = crate::cli::numbers::part)]
        cpu: Option<f64>,
        /// How fast it writes to its memory: "40 Mbit/s".
        #[arg(long)]
        dirty: Option<BitRate>,
        /// Which part of its memory that goes to, 0 to 1.
        #[arg(long, value_parser = crate::cli::numbers::part)]
        working_set: Option<f64>,
        /// Real traffic that it sends to a gateway, layer 2: "5 Mbit/s"; 0 ends it.
        #[arg(long)]
        net: Option<BitRate>,
        /// To which gateway.
        #[arg(long, default_value = "gw1")]
        gateway: String,
    },
    /// Move a VM to another server without the controller knowing: its rules stay where they are.
    Move {
        /// The lab's name; not needed while only one is up.
        #[arg(long)]
        name: Option<String>,
        /// Another user's lab, by that user's name or number: for root.
        #[arg(long)]
        user: Option<String>,
        /// The VM: vm1.
        vm: String,
        /// The server: srv2.
        #[arg(long)]
        to: String,
        /// By which of its ports.
        #[arg(long, default_value_t = 1)]
        port: u32,
        /// Rate of the transfer, layer 2.
        #[arg(long, default_value = "1 Gbit/s")]
        rate: BitRate,
        /// The last of its memory is sent when that takes no longer, in milliseconds.
        #[arg(long, default_value_t = 300)]
        downtime: u64,
        /// Rounds of pre-copy at most.
        #[arg(long, default_value_t = 30)]
        rounds: u32,
    },
    /// Show what servers and VMs have used since their start.
    Loads {
        /// The lab's name; not needed while only one is up.
        #[arg(long)]
        name: Option<String>,
        /// Another user's lab, by that user's name or number: for root.
        #[arg(long)]
        user: Option<String>,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

/// Ids of the flows that `vm load --net` makes start here; the controller counts from 1.
const FLOWS: u64 = 1 << 40;

fn id(vm: &str) -> anyhow::Result<u64> {
    let number = vm.strip_prefix("vm").unwrap_or(vm).parse();
    number.with_context(|| format!("{vm:?} is no VM; write vm1"))
}

/// What a lab says of its servers and VMs.
///
/// # Errors
/// When there is no such lab, or it does not answer.
pub fn loads(lab: &str) -> anyhow::Result<Vec<ServerLoad>> {
    match messages::ask(lab, &LabRequest::Loads)? {
        LabResponse::Loads { servers } => Ok(servers),
        _ => bail!("the lab answered something else"),
    }
}

/// Moves a VM without the controller knowing: how long it was silent, nanoseconds.
///
/// # Errors
/// With why it is where it was.
pub fn move_vm(
    lab: &str,
    vm: u64,
    to: &str,
    port: u32,
    rate: BitRate,
    downtime_ns: u64,
    rounds: u32,
) -> anyhow::Result<u64> {
    let servers = loads(lab)?;
    let to =
        servers.iter().position(|s| s.name == to).with_context(|| format!("there is no server {to:?}"))?;
    let ask = LabRequest::MoveVm { vm, to: u32::try_from(to)?, port, rate: rate.0, downtime_ns, rounds };
    match messages::ask(lab, &ask)? {
        LabResponse::Moved { downtime_ns } => Ok(downtime_ns),
        _ => bail!("the lab answered something else"),
    }
}

/// Carries a verb out.
///
/// # Errors
/// With what the lab says.
pub fn run(command: VmCommand) -> anyhow::Result<()> {
    match command {
        VmCommand::Load { name, user, vm, cpu, dirty, working_set, net, gateway } => {
            let lab = labs::pick(name, user.as_deref())?;
            let vm = id(&vm)?;
            let change = Change { cpu, dirty: dirty.map(|d| d.0), working_set };
            messages::ask(&lab, &LabRequest::LoadVm { vm, change })?;
            if let Some(net) = net {
                messages::ask(&lab, &LabRequest::SendFrom { id: FLOWS + vm, vm, gateway, rate: net.0 })?;
            }
        }
        VmCommand::Move { name, user, vm, to, port, rate, downtime, rounds } => {
            let lab = labs::pick(name, user.as_deref())?;
            let silent = move_vm(&lab, id(&vm)?, &to, port, rate, downtime * 1_000_000, rounds)?;
            println!("{vm} is on {to}; it was silent for {:.1} ms", silent as f64 / 1e6);
        }
        VmCommand::Loads { name, user, json } => {
            let servers = loads(&labs::pick(name, user.as_deref())?)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&servers)?);
                return Ok(());
            }
            println!(
                "{:<12} {:>10} {:>10} {:>12} {:>12} {:>12}",
                "", "CPU s", "RAM MiB", "received MB", "sent MB", "dirtied MB"
            );
            for server in servers {
                let vms = server.vms.iter().map(|(vm, used)| (format!("  vm{vm}"), used));
                for (name, used) in std::iter::once((server.name.clone(), &server.used)).chain(vms) {
                    println!(
                        "{name:<12} {:>10.2} {:>10} {:>12.2} {:>12.2} {:>12.2}",
                        used.cpu_ns as f64 / 1e9,
                        used.ram >> 20,
                        used.rx as f64 / 1e6,
                        used.tx as f64 / 1e6,
                        used.dirtied as f64 / 1e6
                    );
                }
            }
        }
    }
    Ok(())
}
