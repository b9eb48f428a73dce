//! `tandem vm request`: one VM, or several and their connectivity; or what would come of it.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use super::vm::NewVmArgs;
use clap::{Args, ValueEnum};
use tandem_api::endpoints::{DRY_RUN_VMS, REQUEST_VM, REQUEST_VM_GROUP};
use tandem_api::vm_groups::NewVmGroup;
use tandem_api::vms::NewVm;
use tandem_model::text::escaped_to;
use tandem_model::{BitRate, Candidate, Explanation, SpreadLevel};

/// How far apart VMs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpreadArg {
    /// On different servers.
    Server,
    /// Behind different edge switches.
    Edge,
}

impl From<SpreadArg> for SpreadLevel {
    fn from(arg: SpreadArg) -> SpreadLevel {
        match arg {
            SpreadArg::Server => SpreadLevel::Server,
            SpreadArg::Edge => SpreadLevel::Edge,
        }
    }
}

/// What is requested, and where it may be.
#[derive(Debug, Clone, Args)]
pub struct RequestArgs {
    #[command(flatten)]
    vm: NewVmArgs,
    /// Request a group of VMs that may talk to each other, under this name: all of them run and are
    /// connected when it is answered, or none is there. The same request again is answered with the
    /// group that there is.
    #[arg(long, value_name = "NAME", requires = "count")]
    group: Option<String>,
    /// How many VMs the group has.
    #[arg(long, requires = "group", value_parser = clap::value_parser!(u16).range(2..=256))]
    count: Option<u16>,
    /// What each VM of the group may send to each other one, reserved on the links between them,
    /// such as "1 Mbit/s".
    #[arg(long, requires = "group")]
    rate: Option<BitRate>,
    /// Keep VMs apart: those of the group, or those that have the same --tag.
    #[arg(long, value_enum)]
    spread: Option<SpreadArg>,
    /// From whom a VM is kept apart: all that were requested with this tag.
    #[arg(long, requires = "spread", conflicts_with = "group")]
    tag: Option<String>,
    /// Only on this server, or on the servers of this edge switch.
    #[arg(long, value_name = "SERVER|EDGE")]
    on: Option<String>,
    /// Change nothing; say where each VM would go, or what each server lacks and the smallest change
    /// that would let it in.
    #[arg(long)]
    dry_run: bool,
}

impl RequestArgs {
    /// One VM of what is asked for.
    fn one(&self) -> NewVm {
        let vm = NewVm { on: self.on.clone(), ..self.vm.clone().body() };
        match self.group {
            Some(_) => NewVm { name: None, ..vm },
            None => NewVm { spread: self.spread.map(Into::into), tag: self.tag.clone(), ..vm },
        }
    }

    fn all(&self) -> NewVmGroup {
        let name = self.vm.name().map(str::to_owned);
        let mut members = vec![self.one(); self.count.map_or(1, usize::from)];
        // A name of their own is that of the first part.
        if let (Some(name), Some(_)) = (name, &self.group) {
            for (n, member) in (1..).zip(&mut members) {
                member.name = Some(format!("{name}-{n}"));
            }
        }
        NewVmGroup {
            name: self.group.clone(),
            members,
            rate: self.rate.map(|rate| rate.0),
            spread: self.group.as_ref().and(self.spread).map(Into::into),
        }
    }
}

/// `tandem vm request`.
///
/// # Errors
/// With what the controller says; with the reason of the rejection in a dry run too.
pub async fn run(global: &GlobalArgs, args: RequestArgs) -> anyhow::Result<()> {
    let client = global.client();
    if args.group.is_none() && args.spread.is_some() && args.tag.is_none() {
        anyhow::bail!("--spread keeps the VMs of a --group apart, or those of a --tag: say which");
    }
    if args.dry_run {
        let said = client.send(DRY_RUN_VMS.with(&args.all())).await?.body;
        if global.json {
            return print_json(&said);
        }
        print!("{}", shown(&said));
        return Ok(());
    }
    if args.group.is_some() {
        let group = client.send(REQUEST_VM_GROUP.with(&args.all())).await?.body;
        if global.json {
            return print_json(&group);
        }
        for vm in &group.vms {
            println!("{}", vm.address);
        }
        let ids: Vec<String> = group.vms.iter().map(|vm| vm.id.to_string()).collect();
        eprintln!("group {} of {} runs", group.group, ids.join(", "));
        return Ok(());
    }
    let vm = client.send(REQUEST_VM.with(&args.one())).await?.body;
    if global.json {
        return print_json(&vm);
    }
    println!("{}", vm.address);
    eprintln!("{} runs", vm.id);
    Ok(())
}

/// An explanation for people.
fn shown(said: &Explanation) -> String {
    let mut text = String::new();
    for place in &said.places {
        let vm = place.vm.as_deref().unwrap_or("it");
        let path = place.path.join(" - ");
        text += &format!("{vm} would go to {} ({}), by {path}\n", place.server, said.policy);
    }
    if let Some(rejection) = &said.rejection {
        text += &format!("it would be refused: {}\n", rejection.summary);
    }
    for (n, change) in said.changes.iter().enumerate() {
        text += &format!("{} {change}\n", if n == 0 { "it would be let in" } else { "                or" });
    }
    let rows: Vec<Vec<String>> = said.candidates.iter().map(row).collect();
    text += &table(&["server", "fits", "why not"], &rows);
    if said.left_out > 0 {
        text += &format!("and {} more servers\n", said.left_out);
    }
    escaped_lines(&text)
}

fn row(candidate: &Candidate) -> Vec<String> {
    let short = candidate.short.iter().map(|miss| {
        let text = miss.to_string();
        // Of the server itself: its name is in the first column.
        text.strip_prefix(&format!("{}: ", candidate.server)).map_or(text.clone(), str::to_owned)
    });
    let why = candidate.barred.clone().into_iter().chain(short).collect::<Vec<_>>().join("; ");
    vec![candidate.server.clone(), if candidate.fits { "yes" } else { "no" }.to_owned(), why]
}

/// Names in it are others' words.
fn escaped_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", escaped_to(line, 2000))).collect()
}
