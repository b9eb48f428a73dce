//! The processes of a migration on its hosts: they outlive the controller's connection, and are
//! found again by their folder.
//!
//! `/run/tandem-xl/migN` on either host has `pid` (the leader of the job's session, whose working
//! directory is the folder, so that a reused number is recognised), `log`, and `rc` when it has
//! ended; on the source also `rate` and `sent` of the relay.

use super::host::HostState;
use super::parse::complaint;
use crate::VmmError;
use std::time::Duration;
use tandem_model::{BitRate, MigrationId};

/// Defines `alive DIR FILE`: whether the process in DIR/FILE is still that of the job.
const ALIVE: &str = r#"alive() { p=$(cat "$1/$2" 2>/dev/null) && [ -n "$p" ] && [ "$(readlink "/proc/$p/cwd")" = "$1" ]; }
"#;

/// The longest plausible log: the shell there computes with 63 bits.
const LONGEST_LOG: u64 = 1 << 60;

/// The state of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Look {
    /// Its folder exists.
    pub(crate) known: bool,
    /// It is under way.
    pub(crate) alive: bool,
    /// Its exit status.
    pub(crate) rc: Option<i32>,
    /// Bytes that its relay has sent.
    pub(crate) sent: Option<u64>,
    /// Offset up to which its log was read.
    pub(crate) offset: u64,
    /// The new part of its log.
    pub(crate) log: String,
}

pub(crate) fn folder(host: &HostState, migration: MigrationId) -> String {
    format!("{}/mig{}", host.host.run, migration.0)
}

/// Starts `command` as a job, unless it exists already.
pub(crate) async fn start(
    host: &HostState,
    migration: MigrationId,
    command: &[&str],
) -> Result<(), VmmError> {
    // Its process is recorded before this returns.
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

/// Reads the state of a job, and sets its rate.
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

/// Parses the script's output; `offset` is where the log was read up to before.
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
        // Offsets beyond any real log are clamped, so that computing with them does not overflow.
        offset: field("size ").unwrap_or(offset).clamp(offset, LONGEST_LOG.max(offset)),
        log: log.to_owned(),
    }
}

/// Ends a job's transport, so that `xl` fails and resumes the guest, and waits for that; after
/// `grace` the whole job is killed.
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

/// Ends only a job's transport; `xl` itself resumes the guest.
pub(crate) async fn cut(host: &HostState, migration: MigrationId) -> Result<(), VmmError> {
    let script = format!("{ALIVE}alive \"$1\" relay.pid && kill \"$(cat \"$1/relay.pid\")\"; :");
    host.ask("ending the migration's transport", &script, &[&folder(host, migration)]).await.map(drop)
}

/// The reason of a job's failure, from its log.
pub(crate) async fn why(host: &HostState, migration: MigrationId) -> String {
    let script = r#"[ -e "$1/log" ] && tail -c 16384 "$1/log"; :"#;
    let text = host.ask("reading the migration's log", script, &[&folder(host, migration)]).await;
    text.map(|t| complaint(&t)).unwrap_or_default()
}

/// Removes a job that has ended.
pub(crate) async fn forget(host: &HostState, migration: MigrationId) -> Result<(), VmmError> {
    let script = format!("{ALIVE}alive \"$1\" pid || rm -rf \"$1\"");
    host.ask("forgetting the migration", &script, &[&folder(host, migration)]).await.map(drop)
}
