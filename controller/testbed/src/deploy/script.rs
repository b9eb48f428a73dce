//! The scripts that run on the machines: for `sh` (POSIX, with coreutils, as on every Debian).
//!
//! The change from one version to another runs there independently of the ssh connection: a lost
//! connection does not prevent the rollback.

use super::release::{BASE, LOG, RUN, STATE, UNIT};
use crate::inventory::{Machine, Service};
use crate::ssh::{quote, quote_path};

/// The functions that all scripts share: `pid`, `alive`, `start`, `stop`, `disable`, `agent`,
/// `flip`, `version`.
fn functions(machine: &Machine) -> String {
    let path = |absolute: &str| quote_path(&machine.path(absolute));
    let service = match machine.service {
        Service::Systemd => SYSTEMD,
        Service::Process => PROCESS,
    };
    format!(
        "base={base}; run={run}; state={state}; log={log}; unit={unit}\n{SHARED}{service}",
        base = path(BASE),
        run = path(RUN),
        state = path(STATE),
        log = path(LOG),
        unit = path(UNIT),
    )
}

const SHARED: &str = r#"PATH=$PATH:/usr/sbin:/sbin
base=$(cd "$base" 2>/dev/null && pwd -P || echo "$base")
version() { v=$(readlink "$base/current" 2>/dev/null) && echo "${v#versions/}"; }
agent() { timeout 20 "$base/current/tandem-agent" --config "$base/current/agent.toml" --json "$@" </dev/null; }
flip() { ln -sfn "versions/$1" "$base/current.new" && mv -T "$base/current.new" "$base/current"; }
"#;

const SYSTEMD: &str = r#"alive() { systemctl is-active --quiet tandem-agent; }
stop() { systemctl stop tandem-agent 2>/dev/null; return 0; }
start() {
  cp "$base/current/tandem-agent.service" "$unit" && systemctl daemon-reload &&
  systemctl enable --quiet tandem-agent && systemctl reset-failed tandem-agent 2>/dev/null
  systemctl restart tandem-agent
}
disable() { systemctl disable --quiet tandem-agent 2>/dev/null; return 0; }
words() { journalctl -u tandem-agent -n 1 -o cat 2>/dev/null; }
"#;

/// A process is an agent when its program is one of the versions.
const PROCESS: &str = r#"pid() {
  p=$(cat "$run/agent.pid" 2>/dev/null) || return 1
  case "$(readlink "/proc/$p/exe" 2>/dev/null)" in "$base"/versions/*) echo "$p" ;; *) return 1 ;; esac
}
alive() { pid >/dev/null; }
stop() {
  p=$(pid) || return 0
  kill "$p" 2>/dev/null
  n=0
  while [ "$(pid)" = "$p" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
  [ "$(pid)" = "$p" ] && kill -9 "$p" 2>/dev/null
  rm -f "$run/agent.pid"
}
start() {
  mkdir -p "$run" "$(dirname "$log")"; chmod 700 "$run"
  (cd / && exec setsid "$base/current/tandem-agent" --config "$base/current/agent.toml" >>"$log" 2>&1 </dev/null) &
  started=$!
  echo $started > "$run/agent.pid"
  n=0
  while kill -0 $started 2>/dev/null && ! alive && [ $n -lt 100 ]; do sleep 0.02; n=$((n + 1)); done
}
disable() { :; }
words() { tail -n 1 "$log" 2>/dev/null; }
"#;

/// Prints the state of a machine, a `KEY VALUE` a line; changes nothing.
pub(super) fn look(machine: &Machine, controller: &str) -> String {
    let database = machine.ovs.database.clone().unwrap_or_else(|| "/run/openvswitch/db.sock".into());
    format!(
        "{functions}
echo \"architecture $(uname -m)\"
[ -d /run/systemd/system ] && echo 'systemd yes'
[ -S {database} ] && echo 'ovs yes'
echo \"root $(id -u)\"
v=$(version) && [ -x \"$base/current/tandem-agent\" ] && {{
  echo \"version $v\"
  (cd \"$base/current\" && LC_ALL=C sha256sum * 2>/dev/null | sed 's/^/sum /')
}}
if [ -e \"$unit\" ] && [ -e \"$base/current/tandem-agent.service\" ]; then cmp -s \"$unit\" \"$base/current/tandem-agent.service\" && echo 'unit same'; fi
[ -e \"$state/agent.crt\" ] && echo 'certificate yes'
if [ -n \"$v\" ] && alive; then echo 'alive yes'; agent status 2>/dev/null | tr -d '\\n' | sed 's/^/status /'; echo; fi
# Whose address did ssh come to, and whose is the way to the controller?
set -- $SSH_CONNECTION
[ -n \"${{3:-}}\" ] && ip -o addr show 2>/dev/null | awk -v a=\"$3\" '{{ split($4, x, \"/\"); if (x[1] == a) print \"carries\", $2 }}'
ip -o route get {controller} 2>/dev/null | sed -n 's/.* dev \\([^ ]*\\).*/carries \\1/p'
exit 0",
        functions = functions(machine),
        database = quote_path(&database),
        controller = quote(controller),
    )
}

/// A version's `activate`: puts that version into use, waits until its agent is connected and has
/// applied the controller's desired state, and rolls back to the previous one if it does not come
/// up. Its result is in `$base/activation`: `ok`, `connected WHY`, `alone WHY`, `back WHY` or
/// `failed WHY`.
pub(super) fn activate(machine: &Machine) -> String {
    format!(
        "#!/bin/sh
# activate VERSION SECONDS
{functions}{ACTIVATE}",
        functions = functions(machine)
    )
}

const ACTIVATE: &str = r#"new=$1 seconds=$2
say() { printf '%s\n' "$*" | tr -d '"' > "$base/activation.new"; mv -f "$base/activation.new" "$base/activation"; }
old=$(version)
was=no
[ -n "$old" ] && alive && case "$(agent status 2>/dev/null)" in *'"connected": true'*) was=yes ;; esac
stop
flip "$new" && start
tenths=$((seconds * 10)); answered=no; connected=no; n=0; why=''
while [ $n -lt $tenths ]; do
  if ! alive; then why="its process ended: $(words)"; answered=no; connected=no; break; fi
  s=$(agent status 2>/dev/null)
  case "$s" in *'"connected"'*) answered=yes ;; esac
  case "$s" in *'"connected": true'*) connected=yes ;; *) connected=no ;; esac
  case "$s" in *'"applied": true'*) [ $connected = yes ] && { say ok; exit 0; } ;; esac
  sleep 0.1
  n=$((n + 1))
done
if [ $connected = yes ]; then say "connected the controller has sent no desired state within $seconds s; does its site file have this switch?"; exit 0; fi
if [ $answered = yes ]; then
  why=$(printf '%s' "$s" | sed -n 's/.*"trouble": "\(.*\)",*$/\1/p')
  why="not connected within $seconds s: $why"
  if [ $was = no ]; then say "alone $why"; exit 0; fi
fi
[ -n "$why" ] || why="it did not answer within $seconds s"
stop
if [ -n "$old" ] && [ "$old" != "$new" ]; then
  flip "$old" && start
  n=0
  while [ $n -lt 100 ] && ! agent status >/dev/null 2>&1; do sleep 0.1; n=$((n + 1)); done
  say "back $why"
else
  disable
  rm -f "$base/current"
  say "failed $why"
fi
"#;

/// Starts a version's `activate` independently of this connection.
pub(super) fn start_activation(machine: &Machine, version: &str, seconds: u64) -> String {
    format!(
        "{functions}rm -f \"$base/activation\"; setsid sh \"$base/versions/{version}/activate\" {version} {seconds} >/dev/null 2>&1 </dev/null &",
        functions = functions(machine)
    )
}

/// Stops the agent and restores everything to its former state; installed files stay.
pub(super) fn release(machine: &Machine) -> String {
    format!(
        "{functions}[ -n \"$(version)\" ] || {{ echo absent; exit 0; }}
stop; disable
timeout 120 \"$base/current/tandem-agent\" --config \"$base/current/agent.toml\" release </dev/null >/dev/null",
        functions = functions(machine)
    )
}

/// Deletes all installed files; the agent must have released before.
pub(super) fn delete(machine: &Machine) -> String {
    format!(
        "{functions}stop; disable
rm -rf \"$base\" \"$state\" \"$run\" \"$log\"
if [ -e \"$unit\" ]; then rm -f \"$unit\"; systemctl daemon-reload; fi
true",
        functions = functions(machine)
    )
}

/// Deletes all other versions.
pub(super) fn prune(machine: &Machine, keep: &[&str]) -> String {
    let pattern = keep.iter().map(|k| quote(k)).collect::<Vec<_>>().join("|");
    format!(
        "{functions}cd \"$base/versions\" 2>/dev/null || exit 0
for v in *; do case \"$v\" in {pattern}) ;; *) rm -rf \"./$v\" ;; esac; done; rm -f \"$base/activation\"",
        functions = functions(machine)
    )
}
