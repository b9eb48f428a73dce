//! `tandem vm`.

use super::args::{GlobalArgs, print_json, seconds, vm_number};
use super::stray::AdoptArgs;
use super::table::table;
use super::vm_request::RequestArgs;
use clap::{Args, Subcommand};
use tandem_api::VmRef;
use tandem_api::endpoints::{DELETE_VM, RESIZE_VM, SHOW_VM, VMS};
use tandem_api::views::VmView;
use tandem_api::vms::{NewVm, VmSize};
use tandem_model::text::escaped_to;
use tandem_model::{BitRate, Bytes, OnPlace, VmState};

/// What can be done with VMs.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// Request a VM, or a group of them; waits until all run and prints their addresses. What is
    /// left out is the site's default.
    Request(Box<RequestArgs>),
    /// List all VMs.
    List {
        /// Those that run without a record of them instead: of a store that was lost, or of another
        /// controller.
        #[arg(long)]
        strays: bool,
    },
    /// Take up a VM that runs without a record of it, as it is. What is not kept with it has to be
    /// said.
    Adopt(AdoptArgs),
    /// Stop a VM that there is no record of, and remove it with its disk.
    StopStray {
        /// Its number: 7 or vm7.
        #[arg(value_parser = vm_number)]
        vm: u64,
        /// The server where it is; only needed where there are several with its number.
        #[arg(long)]
        server: Option<String>,
    },
    /// Show one VM with its path.
    Show {
        /// Its number, such as 7 or vm7, or its name.
        vm: VmRef,
    },
    /// Change what a running VM has, where it is.
    Resize {
        /// Its number, such as 7 or vm7, or its name.
        vm: VmRef,
        /// What it should have; what is left out stays.
        #[command(flatten)]
        size: SizeArgs,
    },
    /// Stop a VM and forget it.
    Delete {
        /// Its number, such as 7 or vm7, or its name.
        vm: VmRef,
    },
}

/// A VM's size.
#[derive(Debug, Clone, Default, Args)]
pub struct SizeArgs {
    /// CPU cores.
    #[arg(long)]
    cpu: Option<u32>,
    /// RAM, such as "1 GiB" or 512M.
    #[arg(long)]
    ram: Option<Bytes>,
    /// Disk, such as "10 GB" or 10G.
    #[arg(long)]
    disk: Option<Bytes>,
    /// Network, each direction, such as "1 Mbit/s", 10mbit or 1M.
    #[arg(long)]
    net: Option<BitRate>,
}

impl SizeArgs {
    pub(super) fn body(&self) -> VmSize {
        VmSize {
            cpu: self.cpu,
            ram: self.ram.map(|b| b.0),
            disk: self.disk.map(|b| b.0),
            net: self.net.map(|r| r.0),
        }
    }
}

/// A VM to be requested.
#[derive(Debug, Clone, Default, Args)]
pub struct NewVmArgs {
    #[command(flatten)]
    size: SizeArgs,
    /// Service class, by its name in the site file.
    #[arg(long)]
    class: Option<String>,
    /// How long it lives once it runs: seconds, or a time such as "85 min".
    #[arg(long, value_parser = seconds)]
    timeout: Option<f64>,
    /// A name, which no other VM has: every verb takes it for the VM's number.
    #[arg(long)]
    name: Option<String>,
    /// What it is made from, by the name that its hypervisor knows; its default if left out.
    #[arg(long)]
    image: Option<String>,
    /// What generates its traffic in a lab: a traffic tool such as udp, tcp, poisson or iperf3
    /// (`tandem-lab traffic-tools`); its class's or the site's if left out.
    #[arg(long, value_name = "TOOL")]
    traffic: Option<String>,
}

impl NewVmArgs {
    /// The name that was given.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn body(self) -> NewVm {
        let VmSize { cpu, ram, disk, net } = self.size.body();
        NewVm {
            cpu,
            ram,
            disk,
            net,
            class: self.class,
            timeout: self.timeout,
            name: self.name,
            image: self.image,
            traffic: self.traffic,
            ..NewVm::default()
        }
    }
}

fn state(state: &VmState) -> String {
    match state {
        VmState::Cut { why } | VmState::Stopping { why } => format!("{state} ({why})"),
        _ => state.to_string(),
    }
}

/// `tandem vm`.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, command: VmCommand) -> anyhow::Result<()> {
    let client = global.client();
    match command {
        VmCommand::Request(args) => return super::vm_request::run(global, *args).await,
        VmCommand::List { strays: true } => return super::stray::list(global).await,
        VmCommand::Adopt(vm) => return super::stray::adopt(global, vm).await,
        VmCommand::StopStray { vm, server } => return super::stray::stop(global, vm, server).await,
        VmCommand::List { strays: false } => {
            let vms = client.send(VMS.request()).await?.body;
            if global.json {
                return print_json(&vms);
            }
            let rows: Vec<Vec<String>> = vms.iter().map(row).collect();
            let header = ["vm", "name", "address", "server", "state", "cpu", "ram", "net", "rate"];
            print!("{}", table(&header, &rows));
        }
        VmCommand::Show { vm } => {
            let view = client.send(SHOW_VM.at(&[&vm.segment()])).await?.body;
            if global.json {
                return print_json(&view);
            }
            show(&view);
        }
        VmCommand::Resize { vm, size } => {
            client.send(RESIZE_VM.at_with(&[&vm.segment()], &size.body())).await?;
            eprintln!("{vm} is resized");
        }
        VmCommand::Delete { vm } => {
            client.send(DELETE_VM.at(&[&vm.segment()])).await?;
            eprintln!("{vm} is gone");
        }
    }
    Ok(())
}

fn show(view: &VmView) {
    let r = &view.record;
    let has = r.request.resources;
    let rows = [
        ("vm", r.id.to_string()),
        ("name", r.request.name.clone().unwrap_or_default()),
        ("state", state(&r.state)),
        ("address", r.address.to_string()),
        ("mac", r.mac.to_string()),
        ("server", view.server_name.clone()),
        ("gateway", view.gateway_name.clone()),
        ("path", view.path.join(" - ")),
        ("resources", format!("{} cores, {} RAM, {} disk, {}", has.cpu, has.ram, has.disk, has.net)),
        ("rate", view.rate.to_string()),
        ("kept", kept(view)),
        ("requester", r.request.requester.clone().unwrap_or_default()),
    ];
    for (name, value) in rows {
        println!("{name:<10} {}", escaped_to(&value, 1000));
    }
}

/// Where it may be, as text; empty for everywhere.
fn kept(view: &VmView) -> String {
    let constraints = &view.record.request.constraints;
    let on = constraints.on.map(|on| match on {
        OnPlace::Server(_) => format!("on {}", view.server_name),
        OnPlace::Edge(_) => {
            let edge = view.path.get(1).map_or("its edge switch", String::as_str);
            format!("on servers of {edge}")
        }
    });
    let apart = constraints.spread.as_ref().map(|s| format!("apart from \"{}\", by {}", s.tag, s.level));
    on.into_iter().chain(apart).collect::<Vec<_>>().join("; ")
}

fn row(v: &VmView) -> Vec<String> {
    let r = &v.record;
    vec![
        r.id.to_string(),
        r.request.name.clone().unwrap_or_default(),
        r.address.to_string(),
        v.server_name.clone(),
        state(&r.state),
        r.request.resources.cpu.to_string(),
        r.request.resources.ram.to_string(),
        r.request.resources.net.to_string(),
        v.rate.to_string(),
    ]
}
