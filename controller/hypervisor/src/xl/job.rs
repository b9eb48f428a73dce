//! A migration's processes on its hosts: they do not end with our connection, and are found again
//! by their folder.
//!
//! `/run/tandem-xl/migN` on either host has `pid` (leader of the job's own session, whose working
//! directory is the folder: so its number cannot be another's), `log`, and `rc` when it has ended;
//! on the source also `rate` and `sent` of the relay.

use super::host::HostState;
use super::parse::complaint;
use crate::VmmError;
use std::time::Duration;
use tandem_model::{BitRate, MigrationId};

/// Defines `alive DIR FILE`: the process in DIR/FILE is still ours.
const ALIVE: &str = r#"alive() { p=$(cat "$1/$2" 2>/dev/null) && [ -n "$p" ] && [ "$(readlink "/proc/$p/cwd")" = "$1" ]; }
"#;

/// A log of an exbibyte is none: the shell there computes with 63 bits.
const LONGEST_LOG: u64 = 1 << 60;

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Look {
    /// There is such a folder.
    pub(crate) known: bool,
    /// It is under way.
    pub(crate) alive: bool,
    /// How it ended.
    pub(crate) rc: Option<i32>,
    /// Bytes that its relay has sent.
    pub(crate) sent: Option<u64>,
    /// Where its log was read up to.
    pub(crate) offset: u64,
    /// What was added to its log.
    pub(crate) log: String,
}

pub(crate) fn folder(host: &HostState, migration: MigrationId) -> String {
    format!("{}/mig{}", host.host.run, migration.0)
}

/// Starts `command` as a job, once: one that is there already goes on.
pub(crate) async fn start(
    host: &HostState,
    migration: MigrationId,
    command: &[&str],
) -> Result<(), VmmError> {
    // It is known by its process from the moment this returns.
    let script = format!(
        r#"{ALIVE}alive "$1" pid && exit 0
d=$1; shift; mkdir -p "$d" && cd "$d" || exit 1
rm -f pid rc log sent relay.pid port
setsid sh -c 'echo $$ > pid; "$@" > log 2>&1 < /dev/null; echo $? > rc.new; mv rc.new rc' tandem "$@" </dev/null >/dev/null 2>&1 &
n=0; until [ -s pid ]; do n=$((n + 1)); [ $n -gt 100 ] && exit 1; sleep 0.1; done"#
    );
    let dir = folder(host, migration);
    let mut arguments = vec![dir.as_str()];
    arguments.extend(command);
    host.ask("starting the migration's process", &script, &arguments).await.map(drop)
}

/// Looks at a job, and sets its rate.
pub(crate) async fn look(
    host: &HostState,
    migration: MigrationId,
    offset: u64,
    rate: Option<BitRate>,
) -> Result<Look, VmmError> {
    let script = format!(
        r#"{ALIVE}[ -d "$1" ] || exit 0
echo known
[ -n "$3" ] && echo "$3" > "$1/rate.set" && mv "$1/rate.set" "$1/rate"
alive "$1" pid && echo alive
[ -e "$1/rc" ] && echo "rc $(cat "$1/rc")"
[ -e "$1/sent" ] && echo "sent $(cat "$1/sent")"
size=$(stat -c %s "$1/log" 2>/dev/null || echo 0)
[ "$size" -gt $(($2 + 262144)) ] && size=$(($2 + 262144))
echo "size $size"; echo '== log'
[ "$size" -gt "$2" ] && tail -c "+$(($2 + 1))" "$1/log" | head -c "$((size - $2))"; :"#
    );
    let rate = rate.map_or_else(String::new, |r| r.0.to_string());
    let (dir, from) = (folder(host, migration), offset.to_string());
    let text = host.ask("looking at the migration", &script, &[&dir, &from, &rate]).await?;
    Ok(read(&text, offset))
}

/// What the script has found; `offset` is where the log was read up to before.
pub(crate) fn read(text: &str, offset: u64) -> Look {
    let (head, log) = text.split_once("== log\n").unwrap_or((text, ""));
    let field = |name: &str| {
        head.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.trim().parse::<u64>().ok())
    };
    Look {
        known: head.lines().any(|l| l == "known"),
        alive: head.lines().any(|l| l == "alive"),
        rc: field("rc ").and_then(|n| i32::try_from(n).ok()),
        sent: field("sent "),
        // Nobody's log is so long that its place cannot be computed with.
        offset: field("size ").unwrap_or(offset).clamp(offset, LONGEST_LOG.max(offset)),
        log: log.to_owned(),
    }
}

/// Ends a job's transport, so that `xl` fails and takes the guest back, and waits until it has;
/// after `grace` all of it is killed.
pub(crate) async fn stop(host: &HostState, migration: MigrationId, grace: Duration) -> Result<(), VmmError> {
    let script = format!(
        r#"{ALIVE}alive "$1" pid || exit 0
alive "$1" relay.pid && kill "$(cat "$1/relay.pid")"
n=0
while alive "$1" pid; do
  n=$((n + 1))
  [ $n -eq $(($2 * 2)) ] && kill -s KILL -- "-$(cat "$1/pid")"
  [ $n -gt $(($2 * 2 + 10)) ] && {{ echo 'it does not end' >&2; exit 1; }}
  sleep 0.5
done"#
    );
    let limit = grace + Duration::from_secs(20);
    let (dir, seconds) = (folder(host, migration), grace.as_secs().to_string());
    let what = "ending the migration's process";
    let output = host.run(what, &script, &[&dir, &seconds], &[], limit).await?;
    host.good(what, output).map(drop)
}

/// Ends only a job's transport; `xl` itself is left to take the guest back.
pub(crate) async fn cut(host: &HostState, migration: MigrationId) -> Result<(), VmmError> {
    let script = format!("{ALIVE}alive \"$1\" relay.pid && kill \"$(cat \"$1/relay.pid\")\"; :");
    host.ask("ending the migration's transport", &script, &[&folder(host, migration)]).await.map(drop)
}

/// Why a job failed, by its log.
pub(crate) async fn why(host: &HostState, migration: MigrationId) -> String {
    let script = r#"[ -e "$1/log" ] && tail -c 16384 "$1/log"; :"#;
    let text = host.ask("reading the migration's log", script, &[&folder(host, migration)]).await;
    text.map(|t| complaint(&t)).unwrap_or_default()
}

/// Forgets a job that has ended.
pub(crate) async fn forget(host: &HostState, migration: MigrationId) -> Result<(), VmmError> {
    let script = format!("{ALIVE}alive \"$1\" pid || rm -rf \"$1\"");
    host.ask("forgetting the migration", &script, &[&folder(host, migration)]).await.map(drop)
}
