//! One host: its connection, the files that are installed there, and the commands that all else is
//! built on.

use super::guest::VIF_SCRIPT;
use super::parse::{self, Domain, Info};
use super::section::Host;
use super::ssh::{Connection, Output, Remote};
use super::tag::{INCOMING, Tag};
use crate::{FoundState, VmmError};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::VmId;
use tokio::sync::Mutex;

const RELAY: &str = include_str!("scripts/tandem-relay");
const VIF: &str = include_str!("scripts/vif-tandem");

/// Writes standard input to `$1` completely or not at all, with mode `$2`.
const PUT: &str = r#"mkdir -p "${1%/*}" && cat > "$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1""#;

/// The tools found on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tools {
    /// Python 3 is installed: migrations can be counted and limited to a rate.
    pub(crate) relay: bool,
    /// Xen's version.
    pub(crate) xen: String,
    /// The packet filter that locks guests to their addresses.
    pub(crate) filter: &'static str,
}

/// A VM of ours on a host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ours {
    pub(crate) vm: VmId,
    pub(crate) domain: Domain,
}

impl Ours {
    pub(crate) fn state(&self) -> FoundState {
        let d = &self.domain;
        if d.state.dying || d.state.crashed || d.name == "(null)" {
            FoundState::Dying
        } else if d.name.ends_with(INCOMING) {
            FoundState::Incoming
        } else if d.state.paused || d.state.shutdown {
            FoundState::Paused
        } else {
            FoundState::Running
        }
    }
}

/// A host: its connection, and its tools.
pub(crate) struct HostState {
    pub(crate) host: Host,
    pub(crate) tag: Tag,
    remote: Remote,
    /// The connection for which the host was checked, its tools, and whether our files were
    /// installed.
    prepared: Mutex<Option<(u64, Tools, bool)>>,
    tools: std::sync::Mutex<Option<Tools>>,
    /// CPU time of all domains since the start, also of those that are gone.
    pub(crate) cpu: std::sync::Mutex<CpuTime>,
}

/// CPU time of a host as the sum over its domains, also over those that are gone.
#[derive(Debug, Default)]
pub(crate) struct CpuTime {
    total_ns: u64,
    last: BTreeMap<(u32, String), u64>,
}

impl CpuTime {
    /// Adds the CPU time since the last call.
    pub(crate) fn add(&mut self, domains: &[Domain]) -> u64 {
        let now: BTreeMap<(u32, String), u64> =
            domains.iter().map(|d| ((d.id, d.uuid.clone()), d.cpu_ns)).collect();
        for (key, cpu) in &now {
            let before = self.last.get(key).copied().unwrap_or(0);
            self.total_ns = self.total_ns.saturating_add(cpu.saturating_sub(before));
        }
        self.last = now;
        self.total_ns
    }
}

/// The domains with a site's tag.
pub(crate) fn sift(tag: Tag, domains: Vec<Domain>) -> Vec<Ours> {
    let ours = |domain: Domain| Some(Ours { vm: tag.vm(&domain.uuid)?, domain });
    domains.into_iter().filter_map(ours).collect()
}

impl HostState {
    pub(crate) fn new(host: Host, tag: Tag) -> std::io::Result<HostState> {
        let remote = Remote::new(&host);
        Ok(HostState {
            host,
            tag,
            remote,
            prepared: Mutex::new(None),
            tools: std::sync::Mutex::new(None),
            cpu: std::sync::Mutex::default(),
        })
    }

    /// The path of our relay.
    pub(crate) fn relay(&self) -> String {
        format!("{}/tandem-relay", self.host.run)
    }

    /// The tools found when it was last reached.
    pub(crate) fn tools(&self) -> Option<Tools> {
        self.tools.lock().ok().and_then(|t| t.clone())
    }

    /// The connection, after a check of its tools; with `put`, also after our files were installed.
    async fn ready(&self, put: bool) -> Result<Connection, VmmError> {
        let connection = self.remote.connection().await?;
        let mut prepared = self.prepared.lock().await;
        let known = prepared.as_ref().filter(|(number, ..)| *number == connection.1);
        let (tools, done) = match known {
            Some((_, tools, done)) => (tools.clone(), *done),
            None => (self.tools_of(&connection).await?, false),
        };
        if put && !done {
            self.put_tools(&connection).await?;
        }
        *prepared = Some((connection.1, tools, put || done));
        Ok(connection)
    }

    async fn tools_of(&self, connection: &Connection) -> Result<Tools, VmmError> {
        let limit = self.host.times.command;
        let what = "looking at its tools";
        let script = "command -v xl >/dev/null || { echo 'there is no xl here; install the Xen utilities' >&2; exit 1; }\n\
             xl info || exit 1\ncommand -v python3 >/dev/null && echo 'tandem_python : yes'; \
             nft 'add table netdev tandem_probe; delete table netdev tandem_probe' 2>/dev/null && echo 'tandem_nft : yes'; :";
        let output = self.remote.run(connection, what, script, &[], &[], limit).await?;
        let text = self.remote.good(what, output)?;
        let info = parse::info(&text).map_err(|e| self.nonsense(what, &e))?;
        let filter = if self.host.vif_script.is_some() {
            "its own vif script, by `ip`"
        } else if text.contains("tandem_nft : yes") {
            "nftables"
        } else {
            "tc's flower (nftables is not installed, or the kernel has it not for devices)"
        };
        let tools = Tools { relay: text.contains("tandem_python : yes"), xen: info.version, filter };
        tracing::info!(
            "{}: Xen {}; guests are held to their addresses by {}",
            self.host.name,
            tools.xen,
            tools.filter
        );
        if let Ok(mut slot) = self.tools.lock() {
            *slot = Some(tools.clone());
        }
        Ok(tools)
    }

    async fn put_tools(&self, connection: &Connection) -> Result<(), VmmError> {
        let limit = self.host.times.command;
        let mut files = vec![(self.relay(), RELAY, "0700")];
        if self.host.vif_script.is_none() {
            files.push((VIF_SCRIPT.to_owned(), VIF, "0755"));
        }
        for (path, text, mode) in files {
            let what = format!("putting {path} there");
            let output =
                self.remote.run(connection, &what, PUT, &[&path, mode], text.as_bytes(), limit).await?;
            self.remote.good(&what, output)?;
        }
        Ok(())
    }

    /// Runs a small command that has to succeed, without installing our files before.
    pub(crate) async fn look(
        &self,
        what: &str,
        script: &str,
        arguments: &[&str],
    ) -> Result<String, VmmError> {
        let connection = self.ready(false).await?;
        let limit = self.host.times.command;
        let output = self.remote.run(&connection, what, script, arguments, &[], limit).await?;
        self.remote.good(what, output)
    }

    pub(crate) fn nonsense(&self, what: &str, why: &dyn std::fmt::Display) -> VmmError {
        VmmError::BadAnswer { host: self.host.name.clone(), what: what.to_owned(), why: why.to_string() }
    }

    /// Runs a command for at most `limit`; returns its output.
    pub(crate) async fn run(
        &self,
        what: &str,
        script: &str,
        arguments: &[&str],
        input: &[u8],
        limit: Duration,
    ) -> Result<Output, VmmError> {
        let connection = self.ready(true).await?;
        self.remote.run(&connection, what, script, arguments, input, limit).await
    }

    /// Runs a small command that has to succeed.
    pub(crate) async fn ask(&self, what: &str, script: &str, arguments: &[&str]) -> Result<String, VmmError> {
        let output = self.run(what, script, arguments, &[], self.host.times.command).await?;
        self.remote.good(what, output)
    }

    pub(crate) fn good(&self, what: &str, output: Output) -> Result<String, VmmError> {
        self.remote.good(what, output)
    }

    /// Writes a file.
    pub(crate) async fn put(&self, path: &str, text: &str, mode: &str) -> Result<(), VmmError> {
        let what = format!("writing {path}");
        let limit = self.host.times.command;
        let output = self.run(&what, PUT, &[path, mode], text.as_bytes(), limit).await?;
        self.remote.good(&what, output).map(drop)
    }

    /// All domains, dom0 first.
    pub(crate) async fn domains(&self) -> Result<Vec<Domain>, VmmError> {
        let what = "listing its domains";
        let text = self.ask(what, "exec xl list -v", &[]).await?;
        parse::domains(&text).map_err(|e| self.nonsense(what, &e))
    }

    /// The domains with our tag.
    pub(crate) async fn ours(&self) -> Result<Vec<Ours>, VmmError> {
        Ok(self.sift(self.domains().await?))
    }

    pub(crate) fn sift(&self, domains: Vec<Domain>) -> Vec<Ours> {
        sift(self.tag, domains)
    }

    /// The domains with our tag, after incoming domains without a migration were destroyed. They
    /// are left when the host was disconnected during a migration: the source has gone on without
    /// it, and does not tell it.
    pub(crate) async fn repaired(&self) -> Result<Vec<Ours>, VmmError> {
        // Checked before the domains are listed: a migration that starts afterwards has not renamed
        // its domain yet.
        let script = "ps ax -o args 2>/dev/null | grep -q '[x]l migrate-receive' && echo yes; :";
        let carried = self.ask("looking for migrations", script, &[]).await?.contains("yes");
        let (left, ours): (Vec<Ours>, Vec<Ours>) =
            self.ours().await?.into_iter().partition(|o| !carried && o.state() == FoundState::Incoming);
        for left in left {
            tracing::warn!(
                "{} on {} waits for a migration that has ended; it is destroyed",
                left.domain.name,
                self.host.name
            );
            self.destroy_domain(&left.domain).await?;
        }
        Ok(ours)
    }

    /// The domains of one VM: more than one while a migration ends.
    pub(crate) async fn of(&self, vm: VmId) -> Result<Vec<Ours>, VmmError> {
        Ok(self.ours().await?.into_iter().filter(|o| o.vm == vm).collect())
    }

    /// The running one.
    pub(crate) async fn running(&self, vm: VmId) -> Result<Domain, VmmError> {
        let all = self.of(vm).await?;
        let running = all.into_iter().find(|o| o.state() == FoundState::Running);
        let gone = || VmmError::GoneBehindOurBack { host: self.host.name.clone(), vm };
        running.map(|o| o.domain).ok_or_else(gone)
    }

    pub(crate) async fn info(&self) -> Result<Info, VmmError> {
        let what = "asking for its memory";
        let text = self.ask(what, "exec xl info", &[]).await?;
        parse::info(&text).map_err(|e| self.nonsense(what, &e))
    }

    /// Destroys a domain and waits until it is gone.
    pub(crate) async fn destroy_domain(&self, domain: &Domain) -> Result<(), VmmError> {
        // A domain that is dying already is only waited for. Another domain may have its number by
        // now, so the UUID has to be the same.
        let script = r#"n=0
same() { xl list -v | awk -v id="$1" -v uuid="$2" '$0 ~ uuid { for (i = 2; i <= NF; i++) if ($i ~ /^[r-][b-][p-][s-][c-][d-]$/) { if ($(i-3) == id) print "yes"; break } }'; }
[ "$(same "$1" "$2")" = yes ] || exit 0
xl destroy "$1" 2>/tmp/tandem-destroy.$$ ; why=$(cat /tmp/tandem-destroy.$$); rm -f /tmp/tandem-destroy.$$
while [ "$(same "$1" "$2")" = yes ]; do
  n=$((n + 1)); [ $n -gt 40 ] && { echo "${why:-it is dying and does not end}" >&2; exit 1; }
  sleep 0.5
done"#;
        let (id, what) = (domain.id.to_string(), format!("destroying {}", domain.name));
        self.ask(&what, script, &[&id, &domain.uuid]).await.map(drop)
    }
}
