//! `tandem migrate` and `tandem migrations`.

use super::args::{GlobalArgs, print_json};
use super::plan::{make, show};
use super::table::table;
use super::watch;
use clap::Subcommand;
use std::collections::BTreeMap;
use tandem_api::endpoints::{CANCEL_MIGRATION, MIGRATE, MIGRATIONS, SERVERS};
use tandem_api::migrations::{Goal, MigrationOptions, NewMigration, NewPlan};
use tandem_api::views::MigrationView;
use tandem_api::{Client, VmRef};
use tandem_model::{MigrationEnd, MigrationMode, MovePriority, ServerId};

/// How VMs are moved.
#[derive(Debug, Clone, clap::Args)]
pub struct ModeArgs {
    /// Let them run while their memory is copied.
    #[arg(long, conflicts_with = "cold")]
    live: bool,
    /// Stop them, copy memory and local disks, and start them there.
    #[arg(long)]
    cold: bool,
    /// Also those that dirty their memory faster than it can be sent.
    #[arg(long)]
    force: bool,
    /// By which weight a transfer shares links with others under way: one of lower priority yields to
    /// it, so that high has two thirds beside a normal one.
    #[arg(long, value_enum, default_value = "normal")]
    priority: Priority,
}

/// How urgent moves are.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Priority {
    /// Yields to all others.
    Low,
    /// Usual.
    Normal,
    /// Others yield to it.
    High,
}

impl From<Priority> for MovePriority {
    fn from(priority: Priority) -> MovePriority {
        match priority {
            Priority::Low => MovePriority::Low,
            Priority::Normal => MovePriority::Normal,
            Priority::High => MovePriority::High,
        }
    }
}

impl ModeArgs {
    /// What is said of it.
    pub(super) fn options(&self) -> MigrationOptions {
        let mode = match (self.live, self.cold) {
            (true, _) => Some(MigrationMode::Live),
            (_, true) => Some(MigrationMode::Cold),
            _ => None,
        };
        MigrationOptions { mode, force: self.force, priority: self.priority.into() }
    }
}

/// `tandem migrate`.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    /// The VM's number, such as 7 or vm7, or its name.
    vm: VmRef,
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
    mode: ModeArgs,
}

/// `tandem migrations`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MigrationsArgs {
    #[command(subcommand)]
    command: Option<MigrationCommand>,
    /// Print again whenever something changed: progress, rate, rounds.
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Subcommand)]
enum MigrationCommand {
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
        let servers = client.send(SERVERS.request()).await?.body;
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
pub async fn migrate(global: &GlobalArgs, args: MigrateArgs) -> anyhow::Result<bool> {
    let client = global.client();
    let options = args.mode.options();
    if args.dry_run {
        let plan = NewPlan { vm: Some(args.vm), to: args.to, ..NewPlan::new(Goal::Move, options) };
        show(global, &client, make(&client, &plan).await?).await?;
        return Ok(true);
    }
    let MigrationOptions { mode, force, priority } = options;
    let migration = NewMigration { vm: args.vm, to: args.to, mode, force, priority };
    let id = client.send(MIGRATE.with(&migration)).await?.body.id;
    if args.no_wait {
        eprintln!("mig{id} is under way; `tandem migrations --watch` follows it");
        return Ok(true);
    }
    let end = watch::migration(&client, id).await?;
    if global.json {
        print_json(&end)?;
    }
    Ok(matches!(end.ended, Some((_, MigrationEnd::Moved { .. }))))
}

/// `tandem migrations`.
///
/// # Errors
/// With what the controller says.
pub async fn migrations(global: &GlobalArgs, args: MigrationsArgs) -> anyhow::Result<()> {
    let client = global.client();
    if let Some(MigrationCommand::Cancel { migration }) = args.command {
        client.send(CANCEL_MIGRATION.at(&[&migration])).await?;
        eprintln!("mig{migration} is cancelled; its VM is where it was");
        return Ok(());
    }
    let names = Names::read(&client).await?;
    watch::again(&client, &MIGRATIONS, args.watch, |migrations| {
        if global.json {
            return print_json(&migrations);
        }
        let rows: Vec<Vec<String>> = migrations.iter().map(|m| row(m, &names)).collect();
        let header = ["migration", "vm", "from", "to", "why", "phase", "round", "sent", "rate", "dirties"];
        print!("{}", table(&header, &rows));
        Ok(())
    })
    .await
}

fn row(m: &MigrationView, names: &Names) -> Vec<String> {
    let r = &m.record;
    let progress = m.progress.unwrap_or_default();
    let phase = match &m.ended {
        Some((_, end)) => watch::end_text(end),
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
