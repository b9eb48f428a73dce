//! `tandem plan` and `tandem evacuate`: several moves, thought through as a whole.

use super::args::{GlobalArgs, print_json};
use super::migrate::{ModeArgs, Names};
use super::table::table;
use super::watch;
use std::time::Duration;
use tandem_api::Client;
use tandem_api::endpoints::{APPLY_PLAN, EVACUATE, MAKE_PLAN, RETURN_SERVER, SHOW_PLAN, STOP_PLAN};
use tandem_api::migrations::{Goal, NewPlan};
use tandem_model::text::escaped;
use tandem_model::{Plan, Prediction, Reroute};

/// `tandem plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Relieve servers and links that are hot, instead of bringing VMs to where the allocation
    /// policy wants them.
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
    mode: ModeArgs,
}

/// `tandem evacuate`.
#[derive(Debug, clap::Args)]
pub struct EvacuateArgs {
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
    mode: ModeArgs,
}

/// Has a plan made.
pub(super) async fn make(client: &Client, plan: &NewPlan) -> anyhow::Result<Plan> {
    Ok(client.send(MAKE_PLAN.with(plan)).await?.body)
}

/// `tandem plan`; false when a step failed.
///
/// # Errors
/// With what the controller says.
pub async fn plan(global: &GlobalArgs, args: PlanArgs) -> anyhow::Result<bool> {
    let client = global.client();
    let id = match args.id {
        Some(id) if args.stop => {
            client.send(STOP_PLAN.at(&[&id])).await?;
            eprintln!("plan{id} begins no more moves");
            return Ok(true);
        }
        Some(id) => {
            let view = client.send(SHOW_PLAN.at(&[&id])).await?.body;
            show(global, &client, view.plan).await?;
            id
        }
        None => {
            let plan = make(&client, &wanted(&args)).await?;
            let id = plan.id.0;
            let is_empty = plan.moves.is_empty() && plan.reroutes.is_empty();
            show(global, &client, plan).await?;
            if is_empty {
                return Ok(true);
            }
            id
        }
    };
    if !args.apply {
        if !global.json {
            eprintln!("nothing has moved; `tandem plan --id {id} --apply` carries it out");
        }
        return Ok(true);
    }
    client.send(APPLY_PLAN.at(&[&id])).await?;
    if args.no_wait { Ok(true) } else { watch::plan(&client, id).await }
}

/// The plan that these arguments ask for.
fn wanted(args: &PlanArgs) -> NewPlan {
    let goal = match (args.relieve, &args.evacuate) {
        (true, _) => Goal::Relieve,
        (_, Some(_)) => Goal::Evacuate,
        _ => Goal::KeepPolicy,
    };
    NewPlan { server: args.evacuate.clone(), ..NewPlan::new(goal, args.mode.options()) }
}

/// `tandem evacuate`; false when a VM could not be moved.
///
/// # Errors
/// With what the controller says.
pub async fn evacuate(global: &GlobalArgs, args: EvacuateArgs) -> anyhow::Result<bool> {
    let client = global.client();
    let options = args.mode.options();
    if args.back {
        client.send(RETURN_SERVER.at(&[&args.server])).await?;
        eprintln!("{} gets VMs again", args.server);
        return Ok(true);
    }
    if args.dry_run {
        let plan = NewPlan { server: Some(args.server), ..NewPlan::new(Goal::Evacuate, options) };
        show(global, &client, make(&client, &plan).await?).await?;
        return Ok(true);
    }
    let plan = client.send(EVACUATE.at_with(&[&args.server], &options)).await?.body;
    let id = plan.id.0;
    let nothing = plan.moves.is_empty();
    let left = plan.left.len();
    show(global, &client, plan).await?;
    eprintln!("{} gets no more VMs; `tandem evacuate {} --back` ends that", args.server, args.server);
    if nothing || args.no_wait {
        return Ok(left == 0);
    }
    Ok(watch::plan(&client, id).await? && left == 0)
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

/// Prints a plan.
pub(super) async fn show(global: &GlobalArgs, client: &Client, plan: Plan) -> anyhow::Result<()> {
    if global.json {
        return print_json(&plan);
    }
    let names = Names::read(client).await?;
    if !plan.reroutes.is_empty() {
        let row = |r: &Reroute| vec![r.vm.to_string(), r.why.clone()];
        let rows: Vec<Vec<String>> = plan.reroutes.iter().map(row).collect();
        print!("{}", table(&["another path for", "why"], &rows));
        println!("{}: {} VMs get another path, none of them moves", plan.id, rows.len());
    }
    if plan.moves.is_empty() && plan.reroutes.is_empty() {
        println!("{}: nothing to move", plan.id);
    } else if plan.moves.is_empty() {
        println!("{}: no moves", plan.id);
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
        println!("{vm} stays: {}", escaped(why));
    }
    Ok(())
}
