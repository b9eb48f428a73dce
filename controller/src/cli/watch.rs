//! Watching what takes a while: the latest state again whenever it has changed.

use super::migrate::Names;
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::DeserializeOwned;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tandem_api::Client;
use tandem_api::endpoints::{Endpoint, SHOW_MIGRATION, SHOW_PLAN};
use tandem_api::views::{MigrationView, MoveState, PlanView};
use tandem_model::MigrationEnd;
use tandem_model::text::escaped_to;

/// No more often than this is something printed again.
const PAUSE: Duration = Duration::from_millis(250);

/// Characters of a line that are shown: a reason of several servers or links fits.
const SHOWN: usize = 1000;

/// How a migration ended, as a phrase.
pub(super) fn end_text(end: &MigrationEnd) -> String {
    match end {
        MigrationEnd::Moved { downtime: Some(silent) } => format!("moved, silent {} ms", silent.as_millis()),
        MigrationEnd::Moved { downtime: None } => "moved".into(),
        MigrationEnd::Undone { why } => format!("undone: {why}"),
        MigrationEnd::Lost { why } => format!("lost: {why}"),
    }
}

/// Reads a part of the snapshot and prints it; with `watch` again whenever something changed, until
/// interrupted.
///
/// # Errors
/// With what the controller says.
pub(super) async fn again<T: DeserializeOwned>(
    client: &Client,
    part: &Endpoint<(), T>,
    watch: bool,
    print: impl Fn(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut request = part.request();
    loop {
        let reply = client.send(request).await?;
        if watch && std::io::stdout().is_terminal() {
            print!("\x1b[H\x1b[2J");
        }
        print(reply.body)?;
        std::io::stdout().flush()?;
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
        request = part.request().after(reply.version.unwrap_or(0));
    }
}

/// Progress on standard error: a line that is written over on a terminal, and otherwise one that is
/// written only when its steady part says something else than before.
struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    last: String,
}

impl Progress {
    /// Of something whose length is not known.
    fn spinner() -> Progress {
        Progress::new(ProgressBar::new_spinner(), "{spinner} {wide_msg}")
    }

    /// Of so many steps.
    fn steps(count: usize) -> Progress {
        Progress::new(ProgressBar::new(count as u64), "[{bar:30}] {wide_msg}")
    }

    fn new(bar: ProgressBar, template: &str) -> Progress {
        // The template is one of the two above; the usual style would do as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress { bar, is_terminal: std::io::stderr().is_terminal(), last: String::new() }
    }

    fn say(&mut self, done: usize, steady: &str, moving: &str) {
        let steady = escaped_to(steady, SHOWN).to_string();
        if self.is_terminal {
            self.bar.set_position(done as u64);
            self.bar.set_message(format!("{steady}{moving}"));
            self.bar.tick();
        } else if self.last != steady {
            eprintln!("{steady}");
        }
        self.last = steady;
    }

    /// What was said last stays.
    fn end(&self) {
        if self.is_terminal {
            self.bar.finish_and_clear();
            eprintln!("{}", self.last);
        }
    }
}

/// Follows a migration to its end.
pub(super) async fn migration(client: &Client, id: u64) -> anyhow::Result<MigrationView> {
    let names = Names::read(client).await?;
    let mut progress = Progress::spinner();
    loop {
        let view = client.send(SHOW_MIGRATION.at(&[&id])).await?.body;
        let r = &view.record;
        let way = format!("{} {}: {} to {}", r.id, r.vm, names.of(r.from.server), names.of(r.to.server));
        if let Some((_, end)) = &view.ended {
            progress.say(0, &format!("{way}: {}", end_text(end)), "");
            progress.end();
            return Ok(view);
        }
        let moving = view.progress.map_or_else(String::new, |p| {
            format!(", round {}, {} sent, {} left of it, {}", p.round, p.sent, p.remaining, p.rate)
        });
        progress.say(0, &format!("{way}: {}", r.phase), &moving);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Follows a plan to its end; true when all of its steps ended well.
pub(super) async fn plan(client: &Client, id: u64) -> anyhow::Result<bool> {
    let mut progress: Option<Progress> = None;
    loop {
        let view = client.send(SHOW_PLAN.at(&[&id])).await?.body;
        let all = view.steps.len();
        let progress = progress.get_or_insert_with(|| Progress::steps(all));
        let Steps { done, failed, under_way } = Steps::of(&view);
        progress.say(
            done + failed,
            &format!("{}: {} of {all} moves have ended", view.plan.id, done + failed),
            &format!(", {under_way} under way"),
        );
        if view.ended.is_some() {
            progress.end();
            for (step, state) in view.plan.moves.iter().zip(&view.steps) {
                if let MoveState::Failed { why } = state {
                    eprintln!("{} was not moved: {}", step.vm, escaped_to(why, SHOWN));
                }
            }
            return Ok(done == all);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How far a plan's steps are.
struct Steps {
    done: usize,
    failed: usize,
    under_way: usize,
}

impl Steps {
    fn of(plan: &PlanView) -> Steps {
        let mut steps = Steps { done: 0, failed: 0, under_way: 0 };
        for state in &plan.steps {
            match state {
                MoveState::Done { .. } => steps.done += 1,
                MoveState::Failed { .. } => steps.failed += 1,
                MoveState::UnderWay { .. } => steps.under_way += 1,
                _ => {}
            }
        }
        steps
    }
}
