//! Following what takes a while: the latest state again whenever it has changed.

use super::client::Client;
use super::moves::{Names, counted};
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tandem_core::compute::moves::MigrationView;
use tandem_core::migration::views::{MoveState, PlanView};
use tandem_model::MigrationEnd;

/// No more often than this is something printed again.
const PAUSE: Duration = Duration::from_millis(250);

/// How a migration ended, in words.
pub(super) fn in_words(end: &MigrationEnd) -> String {
    match end {
        MigrationEnd::Moved { downtime: Some(silent) } => format!("moved, silent {} ms", silent.as_millis()),
        MigrationEnd::Moved { downtime: None } => "moved".into(),
        MigrationEnd::Undone { why } => format!("undone: {why}"),
        MigrationEnd::Lost { why } => format!("lost: {why}"),
    }
}

/// Reads a part of the snapshot and prints it; with `watch` again whenever something changed, until interrupted.
///
/// # Errors
/// With what the controller says.
pub(super) async fn again<T: serde::de::DeserializeOwned>(
    client: &Client,
    part: &str,
    watch: bool,
    print: impl Fn(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut path = part.to_owned();
    loop {
        let (value, version) = client.get(&path).await?;
        if watch && std::io::stdout().is_terminal() {
            print!("\x1b[H\x1b[2J");
        }
        print(value)?;
        std::io::stdout().flush()?;
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
        path = format!("{part}?after={}", version.unwrap_or(0));
    }
}

/// One line that is written over on a terminal, and otherwise written only when it says something else than before.
#[derive(Default)]
struct Line {
    last: String,
}

impl Line {
    fn say(&mut self, steady: &str, moving: &str) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[2K{steady}{moving}");
        } else if self.last != steady {
            eprintln!("{steady}");
        }
        steady.clone_into(&mut self.last);
    }

    fn end(&self) {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}

/// Follows a migration to its end.
pub(super) async fn migration(client: &Client, id: u64) -> anyhow::Result<MigrationView> {
    let names = Names::read(client).await?;
    let mut line = Line::default();
    loop {
        let (view, _): (MigrationView, _) = client.get(&format!("/api/v1/migrations/{id}")).await?;
        let r = &view.record;
        let way = format!("{} {}: {} to {}", r.id, r.vm, names.of(r.from.server), names.of(r.to.server));
        if let Some((_, end)) = &view.ended {
            line.say(&format!("{way}: {}", in_words(end)), "");
            line.end();
            return Ok(view);
        }
        let moving = view.progress.map_or_else(String::new, |p| {
            format!(", round {}, {} sent, {} left of it, {}", p.round, p.sent, p.remaining, p.rate)
        });
        line.say(&format!("{way}: {}", r.phase), &moving);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Follows a plan to its end; true when all of its steps ended well.
pub(super) async fn plan(client: &Client, id: u64) -> anyhow::Result<bool> {
    let mut line = Line::default();
    loop {
        let (view, _): (PlanView, _) = client.get(&format!("/api/v1/plans/{id}")).await?;
        let ((ended, done), all) = (counted(&view), view.steps.len());
        let under_way = view.steps.iter().filter(|s| matches!(s, MoveState::UnderWay { .. })).count();
        line.say(
            &format!("{}: {ended} of {all} moves have ended", view.plan.id),
            &format!(", {under_way} under way"),
        );
        if view.ended.is_some() {
            line.end();
            for (step, state) in view.plan.moves.iter().zip(&view.steps) {
                if let MoveState::Failed { why } = state {
                    eprintln!("{} was not moved: {why}", step.vm);
                }
            }
            return Ok(done == all);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
