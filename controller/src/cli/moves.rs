//! Moving VMs: `tandem migrate`, `tandem migrations`, `tandem plan`, `tandem evacuate`, `tandem hotspots`.

use super::client::{Client, segment};
use super::follow;
use super::table::table;
use super::verbs::{Common, print_json, vm_number};
use crate::moves::{AimWord, How, MigrationBody, PlanBody};
use clap::Subcommand;
use hyper::Method;
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_core::compute::moves::MigrationView;
use tandem_core::migration::views::{HotspotView, MoveState, PlanView};
use tandem_core::snapshot::ServerView;
use tandem_model::{MigrationEnd, MigrationMode, Plan, Prediction, Resource, ServerId};

/// How VMs are moved.
#[derive(Debug, Clone, clap::Args)]
pub struct Manners {
    /// Let them run while their memory is copied.
    #[arg(long, conflicts_with = "cold")]
    live: bool,
    /// Stop them, copy memory and local disks, and start them there.
    #[arg(long)]
    cold: bool,
    /// Also those that dirty their memory faster than it can be sent.
    #[arg(long)]
    force: bool,
}

impl Manners {
    fn manner(&self) -> Option<MigrationMode> {
        match (self.live, self.cold) {
            (true, _) => Some(MigrationMode::Live),
            (_, true) => Some(MigrationMode::Cold),
            _ => None,
        }
    }

    fn how(&self) -> How {
        How { manner: self.manner(), force: self.force }
    }
}

/// `tandem migrate`.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// The VM's number: 7 or vm7.
    #[arg(value_parser = vm_number)]
    vm: u64,
    /// The server that it goes to, by its name; where the allocation policy wants it, if left out.
    #[arg(long)]
    to: Option<String>,
    /// Show what would be done, and move nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    manners: Manners,
}

/// `tandem plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Relieve servers and links that are hot, instead of bringing VMs to where the allocation policy wants them.
    #[arg(long, conflicts_with = "evacuate")]
    relieve: bool,
    /// Empty this server, without taking it out of service.
    #[arg(long, value_name = "SERVER")]
    evacuate: Option<String>,
    /// Carry it out: the plan that is made now, or with --id one that was shown.
    #[arg(long)]
    apply: bool,
    /// A plan that was shown, by its number.
    #[arg(long, conflicts_with_all = ["relieve", "evacuate"])]
    id: Option<u64>,
    /// Begin no more moves of the plan --id.
    #[arg(long, requires = "id", conflicts_with = "apply")]
    stop: bool,
    /// Do not wait for the end.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    manners: Manners,
}

/// `tandem evacuate`.
#[derive(Debug, clap::Args)]
pub struct Evacuate {
    /// The server, by its name.
    server: String,
    /// Show what would be moved, and change nothing.
    #[arg(long, conflicts_with = "back")]
    dry_run: bool,
    /// Let it have VMs again.
    #[arg(long)]
    back: bool,
    /// Do not wait for the end.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    manners: Manners,
}

/// `tandem migrations`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Migrations {
    #[command(subcommand)]
    verb: Option<MigrationVerb>,
    /// Print again whenever something changed: progress, rate, rounds.
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Subcommand)]
enum MigrationVerb {
    /// Leave the VM where it is. Possible until it is switched over.
    Cancel {
        /// The migration's number: 7 or mig7.
        #[arg(value_parser = migration_number)]
        migration: u64,
    },
}

fn migration_number(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("mig").unwrap_or(text).parse();
    number.map_err(|_| "write a migration's number, such as 7 or mig7".to_owned())
}

/// Servers' names, by their ids.
pub(super) struct Names(BTreeMap<ServerId, String>);

impl Names {
    pub(super) async fn read(client: &Client) -> anyhow::Result<Names> {
        let (servers, _): (Vec<ServerView>, _) = client.get("/api/v1/servers").await?;
        Ok(Names(servers.into_iter().map(|s| (s.id, s.name)).collect()))
    }

    pub(super) fn of(&self, id: ServerId) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// `tandem migrate`; false when the VM is where it was.
///
/// # Errors
/// With what the controller says.
pub async fn migrate(common: &Common, args: Migrate) -> anyhow::Result<bool> {
    let client = common.client();
    let (manner, force) = (args.manners.manner(), args.manners.force);
    if args.dry_run {
        let body =
            PlanBody { aim: AimWord::Move, server: None, vm: Some(args.vm), to: args.to, manner, force };
        return show(common, &client, make(&client, &body).await?).await.map(|()| true);
    }
    let body = MigrationBody { vm: args.vm, to: args.to, manner, force };
    let reply = client.call(Method::POST, "/api/v1/migrations", Some(serde_json::to_value(body)?)).await?;
    let id = reply.body["id"].as_u64().unwrap_or_default();
    if args.no_wait {
        eprintln!("mig{id} is under way; `tandem migrations --watch` follows it");
        return Ok(true);
    }
    let end = follow::migration(&client, id).await?;
    if common.json {
        print_json(&end)?;
    }
    Ok(matches!(end.ended, Some((_, MigrationEnd::Moved { .. }))))
}

async fn make(client: &Client, body: &PlanBody) -> anyhow::Result<Plan> {
    let reply = client.call(Method::POST, "/api/v1/plans", Some(serde_json::to_value(body)?)).await?;
    Ok(serde_json::from_value(reply.body)?)
}

/// `tandem plan`; false when a step failed.
///
/// # Errors
/// With what the controller says.
pub async fn plan(common: &Common, args: PlanArgs) -> anyhow::Result<bool> {
    let client = common.client();
    let id = match args.id {
        Some(id) if args.stop => {
            client.call(Method::POST, &format!("/api/v1/plans/{id}/stop"), None).await?;
            eprintln!("plan{id} begins no more moves");
            return Ok(true);
        }
        Some(id) => {
            let (view, _): (PlanView, _) = client.get(&format!("/api/v1/plans/{id}")).await?;
            show(common, &client, view.plan).await?;
            id
        }
        None => {
            let aim = match (args.relieve, &args.evacuate) {
                (true, _) => AimWord::Relieve,
                (_, Some(_)) => AimWord::Evacuate,
                _ => AimWord::KeepPolicy,
            };
            let (manner, force) = (args.manners.manner(), args.manners.force);
            let body = PlanBody { aim, server: args.evacuate, vm: None, to: None, manner, force };
            let plan = make(&client, &body).await?;
            let (id, empty) = (plan.id.0, plan.moves.is_empty());
            show(common, &client, plan).await?;
            if empty {
                return Ok(true);
            }
            id
        }
    };
    if !args.apply {
        if !common.json {
            eprintln!("nothing has moved; `tandem plan --id {id} --apply` carries it out");
        }
        return Ok(true);
    }
    client.call(Method::POST, &format!("/api/v1/plans/{id}/apply"), None).await?;
    if args.no_wait { Ok(true) } else { follow::plan(&client, id).await }
}

/// `tandem evacuate`; false when a VM could not be moved.
///
/// # Errors
/// With what the controller says.
pub async fn evacuate(common: &Common, args: Evacuate) -> anyhow::Result<bool> {
    let client = common.client();
    let path = format!("/api/v1/servers/{}/evacuation", segment(&args.server));
    if args.back {
        client.call(Method::DELETE, &path, None).await?;
        eprintln!("{} gets VMs again", args.server);
        return Ok(true);
    }
    if args.dry_run {
        let (manner, force) = (args.manners.manner(), args.manners.force);
        let server = Some(args.server);
        let body = PlanBody { aim: AimWord::Evacuate, server, vm: None, to: None, manner, force };
        return show(common, &client, make(&client, &body).await?).await.map(|()| true);
    }
    let how = serde_json::to_value(args.manners.how())?;
    let reply = client.call(Method::PUT, &path, Some(how)).await?;
    let plan: Plan = serde_json::from_value(reply.body)?;
    let (id, nothing, left) = (plan.id.0, plan.moves.is_empty(), plan.left.len());
    show(common, &client, plan).await?;
    eprintln!("{} gets no more VMs; `tandem evacuate {} --back` ends that", args.server, args.server);
    if nothing || args.no_wait {
        return Ok(left == 0);
    }
    Ok(follow::plan(&client, id).await? && left == 0)
}

/// `tandem migrations`.
///
/// # Errors
/// With what the controller says.
pub async fn migrations(common: &Common, args: Migrations) -> anyhow::Result<()> {
    let client = common.client();
    if let Some(MigrationVerb::Cancel { migration }) = args.verb {
        client.call(Method::DELETE, &format!("/api/v1/migrations/{migration}"), None).await?;
        eprintln!("mig{migration} is cancelled; its VM is where it was");
        return Ok(());
    }
    let names = Names::read(&client).await?;
    follow::again(&client, "/api/v1/migrations", args.watch, |migrations: Vec<MigrationView>| {
        if common.json {
            return print_json(&migrations);
        }
        let rows: Vec<Vec<String>> = migrations.iter().map(|m| migration_row(m, &names)).collect();
        let header = ["migration", "vm", "from", "to", "why", "phase", "round", "sent", "rate", "dirties"];
        print!("{}", table(&header, &rows));
        Ok(())
    })
    .await
}

fn migration_row(m: &MigrationView, names: &Names) -> Vec<String> {
    let r = &m.record;
    let progress = m.progress.unwrap_or_default();
    let phase = match &m.ended {
        Some((_, end)) => follow::in_words(end),
        None => r.phase.to_string(),
    };
    vec![
        r.id.to_string(),
        r.vm.to_string(),
        names.of(r.from.server),
        names.of(r.to.server),
        format!("{}, {}", r.cause, r.manner),
        phase,
        progress.round.to_string(),
        progress.sent.to_string(),
        progress.rate.to_string(),
        progress.dirty.to_string(),
    ]
}

/// `tandem hotspots`.
///
/// # Errors
/// With what the controller says.
pub async fn hotspots(common: &Common, watch: bool) -> anyhow::Result<()> {
    let client = common.client();
    follow::again(&client, "/api/v1/hotspots", watch, |hotspots: Vec<HotspotView>| {
        if common.json {
            return print_json(&hotspots);
        }
        let rows: Vec<Vec<String>> = hotspots
            .iter()
            .map(|h| {
                let what = if h.resource == Resource::Link { "link" } else { "server" };
                let state = if h.expected { "expected" } else { "hot" };
                let ratio = format!("{:.0}%", h.ratio * 100.0);
                vec![h.place.clone(), what.into(), h.resource.to_string(), ratio, state.into()]
            })
            .collect();
        print!("{}", table(&["place", "kind", "resource", "in use", "state"], &rows));
        Ok(())
    })
    .await
}

fn time(d: Duration) -> String {
    match d.as_secs() {
        0 => format!("{} ms", d.as_millis()),
        1..=119 => format!("{:.1} s", d.as_secs_f64()),
        s => format!("{} min", s / 60),
    }
}

fn expected(p: &Prediction) -> String {
    let silent = if p.converges { String::new() } else { "; does not converge".into() };
    format!("{} in {}, silent {}{silent}", p.bytes, time(p.duration), time(p.downtime))
}

async fn show(common: &Common, client: &Client, plan: Plan) -> anyhow::Result<()> {
    if common.json {
        return print_json(&plan);
    }
    let names = Names::read(client).await?;
    if plan.moves.is_empty() {
        println!("{}: nothing to move", plan.id);
    } else {
        let rows: Vec<Vec<String>> = (1..)
            .zip(&plan.moves)
            .map(|(n, m): (u32, _)| {
                let after: Vec<String> = m.after.iter().map(|a| (a + 1).to_string()).collect();
                vec![
                    n.to_string(),
                    m.vm.to_string(),
                    names.of(m.from),
                    names.of(m.to),
                    m.manner.to_string(),
                    after.join(" "),
                    expected(&m.predicted),
                    m.why.clone(),
                ]
            })
            .collect();
        print!("{}", table(&["step", "vm", "from", "to", "how", "after", "expected", "why"], &rows));
        println!(
            "{}: {} moves, {} to send, about {}; servers with VMs: {} now, {} then",
            plan.id,
            plan.moves.len(),
            plan.bytes,
            time(plan.duration),
            plan.active_before,
            plan.active_after
        );
    }
    for (vm, why) in &plan.left {
        println!("{vm} stays: {}", tandem_model::text::escaped(why));
    }
    Ok(())
}

/// How many steps of a plan have ended, and how many of them well.
pub(super) fn counted(plan: &PlanView) -> (usize, usize) {
    let done = plan.steps.iter().filter(|s| matches!(s, MoveState::Done { .. })).count();
    let failed = plan.steps.iter().filter(|s| matches!(s, MoveState::Failed { .. })).count();
    (done + failed, done)
}
