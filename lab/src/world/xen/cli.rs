//! The verbs of `tandem-lab xen`.

use super::check;
use super::control;
use super::supervisor;
use crate::world::xen::control::{Status, XenRequest};
use crate::world::xen::supervisor::Plan;
use crate::world::xen::watch::Watch;
use anyhow::Context;
use clap::Subcommand;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What `tandem-lab xen` can be told.
#[derive(Debug, Subcommand)]
pub enum XenCommand {
    /// Boot the hosts; they run on until `down`. Minutes, and 1.2 GB of memory for each.
    Up {
        /// How many hosts.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
        hosts: u8,
        /// The lab's name.
        #[arg(long, default_value = "xen")]
        name: String,
        /// MiB of each host, of which 512 are its own.
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(768..=16384))]
        memory: u32,
        /// The image, as tests/xen/image makes it.
        #[arg(long, default_value = "target/xen/image")]
        image: PathBuf,
        /// Where its files go: keys, site.toml, inventory.toml, hypervisors.toml, consoles. Emptied
        /// first.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// End the hosts; their logs stay in the folder.
    Down(Name),
    /// Show the lab.
    Status {
        /// Which lab.
        #[command(flatten)]
        name: Name,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Run a command in a host's domain 0, or log in there.
    Ssh {
        /// Which lab.
        #[command(flatten)]
        name: Name,
        /// xen1, or what it holds: srv1, edge1, gw1.
        host: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// End a host as a power cut would.
    Kill {
        /// Which lab.
        #[command(flatten)]
        name: Name,
        /// The host's name.
        host: String,
    },
    /// Boot a host again that was ended, with the disk that it had; returns when it is up.
    Start {
        /// Which lab.
        #[command(flatten)]
        name: Name,
        /// The host's name.
        host: String,
    },
    /// Look at everything that hosts, controller and driver are to do, and at what failures leave:
    /// what `scripts/test --xen` runs.
    Check {
        /// Only these.
        only: Vec<String>,
        /// A static tandem-agent, as scripts/deploy builds it.
        #[arg(long)]
        agent: PathBuf,
        /// The image, as tests/xen/image makes it.
        #[arg(long, default_value = "target/xen/image")]
        image: PathBuf,
        /// Where the lab's files go, and beside them `check.out` with figures and raw files of
        /// pings.
        #[arg(long, default_value = "target/xen/check")]
        folder: PathBuf,
    },
    /// Ping a guest from the gateway until standard input closes; then print, as JSON, what was
    /// lost, by the guest's silence or by the network.
    Watch {
        /// Which lab.
        #[command(flatten)]
        name: Name,
        /// The guest's address.
        guest: Ipv4Addr,
        /// Milliseconds between pings.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=10_000))]
        interval: u64,
        /// Where the raw files go.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// Which lab.
#[derive(Debug, Clone, clap::Args)]
pub struct Name {
    /// The lab's name.
    #[arg(long, default_value = "xen")]
    name: String,
}

/// Carries a verb out.
///
/// # Errors
/// With what failed.
pub fn run(verb: XenCommand) -> anyhow::Result<ExitCode> {
    match verb {
        XenCommand::Up { hosts, name, memory, image, folder } => {
            let folder = folder.unwrap_or_else(|| PathBuf::from("target/xen").join(&name));
            let absolute = |path: PathBuf| std::path::absolute(&path);
            let plan = Plan {
                name,
                hosts: usize::from(hosts),
                memory,
                image: absolute(image)?,
                folder: absolute(folder)?,
            };
            let status = supervisor::up(&plan, |line| println!("{line}"))?;
            print!("{}", how_to_go_on(&status));
        }
        XenCommand::Down(name) => {
            supervisor::down(&name.name)?;
            println!("Xen lab {} is gone", name.name);
        }
        XenCommand::Status { name, json } => {
            let status = control::status(&name.name)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                print_status(&status);
            }
        }
        XenCommand::Ssh { name, host, command } => {
            let status = control::status(&name.name)?;
            let mut ssh = status.host(&host)?.access.login();
            if command.is_empty() {
                return Err(ssh.exec()).context("starting ssh (package openssh-client)");
            }
            // As ssh does: the words are joined, and the host's shell takes them apart again.
            let ended =
                ssh.arg(command.join(" ")).status().context("starting ssh (package openssh-client)")?;
            let code = ended.code().or_else(|| ended.signal().map(|s| 128 + s)).unwrap_or(1);
            return Ok(ExitCode::from(code as u8));
        }
        XenCommand::Kill { name, host } => {
            let host = control::status(&name.name)?.host(&host)?.access.name.clone();
            control::ask(&name.name, &XenRequest::Kill { host }).map(drop)?;
        }
        XenCommand::Start { name, host } => {
            let host = control::status(&name.name)?.host(&host)?.access.name.clone();
            control::ask(&name.name, &XenRequest::Start { host: host.clone() })?;
            super::wait(&format!("{host} to be up"), super::BOOT, || {
                let status = control::status(&name.name)?;
                Ok(status.host(&host)?.ready.then_some(()))
            })?;
        }
        XenCommand::Check { only, agent, image, folder } => {
            let absolute = |path: PathBuf| std::path::absolute(&path);
            let (folder, out) = (absolute(folder.clone())?, absolute(folder.with_extension("out"))?);
            let name = format!("check-{}", std::process::id());
            let plan = Plan { name, hosts: 2, memory: 1024, image: absolute(image)?, folder };
            check::run(&plan, &absolute(agent)?, &only, &out)?;
        }
        XenCommand::Watch { name, guest, interval, out } => {
            let status = control::status(&name.name)?;
            let watch =
                Watch::start(&status, guest, Duration::from_millis(interval), Duration::from_secs(300))?;
            eprintln!("{guest} answers; end standard input to stop");
            std::io::stdin().read_to_end(&mut Vec::new())?;
            let out = out.unwrap_or_else(|| status.folder.join("watch"));
            println!("{}", serde_json::to_string(&watch.stop(&out)?)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_status(status: &Status) {
    println!("Xen lab {}, process {}, files in {}", status.name, status.pid, status.folder.display());
    for host in &status.hosts {
        let state = match (&host.trouble, host.ready) {
            (Some(trouble), _) => trouble.clone(),
            (None, true) => format!("up for {} s", host.seconds),
            (None, false) => format!("booting for {} s", host.seconds),
        };
        println!(
            "{}: {state}; {}; ssh at 127.0.0.1:{}{}",
            host.access.name,
            host.nodes.join(", "),
            host.access.port,
            host.pid.map(|p| format!("; QEMU is process {p}")).unwrap_or_default()
        );
    }
}

fn how_to_go_on(status: &Status) -> String {
    let folder = status.folder.display();
    let openflow = status.ports.openflow;
    let agents = status.ports.agents;
    format!(
        "Xen lab {name} is up; its files are in {folder}. The controller, then the agents:\n\
         \x20 tandem serve --site {folder}/site.toml --openflow tcp:127.0.0.1:{openflow} --agents tcp:127.0.0.1:{agents} \\\n\
         \x20     --hypervisors {folder}/hypervisors.toml --store {folder}/tandem.sqlite &\n\
         \x20 scripts/deploy {folder}/inventory.toml\n\
         Then: tandem vm request --image idle; tandem-lab xen ssh --name {name} xen1 xl list; tandem-lab xen down --name {name}\n",
        name = status.name
    )
}
