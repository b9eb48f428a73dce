//! The target of an ssh connection: the configuration file that ssh is started with.

use super::CONNECT;
use crate::inventory::{HostKeys, Machine, SshConfig};
use openssh::KnownHosts;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Seconds of silence after which ssh probes a connection; after three unanswered probes it is
/// dead.
const ALIVE: u32 = 5;
/// Defaults of ssh that do not suit here.
const OURS: [&str; 5] = [
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "LogLevel=ERROR",
];
/// Seconds after which an unused connection is closed; one with a running remote program is used.
/// It is for connections of a killed process.
const IDLE: usize = 10;

/// A machine that ssh reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in errors.
    pub name: String,
    /// Name or address.
    pub address: String,
    /// User, port, keys, options.
    pub ssh: SshConfig,
    /// Time-out of connecting; the login has as much again.
    pub connect: Duration,
    /// Seconds after which an unused connection is closed.
    pub idle: NonZeroUsize,
    /// Whether the user's and the system's ssh configuration applies where nothing is set here.
    pub reads_user_configuration: bool,
}

impl From<&Machine> for Target {
    fn from(machine: &Machine) -> Target {
        Target {
            name: machine.name.clone(),
            address: machine.address.clone(),
            ssh: machine.ssh.clone(),
            connect: CONNECT,
            idle: NonZeroUsize::new(IDLE).unwrap_or(NonZeroUsize::MIN),
            reads_user_configuration: true,
        }
    }
}

impl Target {
    /// Its ssh_config(5). ssh uses the first value of each option: those of the inventory come
    /// before the defaults here, and these before the user's own configuration.
    pub(super) fn configuration(&self) -> String {
        let ssh = &self.ssh;
        let mut lines: Vec<String> = ssh.options.clone();
        lines.push(format!("User={}", ssh.user));
        lines.push(format!("Port={}", ssh.port));
        lines.push(format!("ConnectTimeout={}", self.connect.as_secs().max(1)));
        lines.push(format!("ServerAliveInterval={ALIVE}"));
        lines.push("ServerAliveCountMax=3".to_owned());
        if let Some(file) = &ssh.known_hosts {
            lines.push(format!("UserKnownHostsFile=\"{}\"", file.display()));
        }
        if let Some(key) = &ssh.key {
            lines.push(format!("IdentityFile=\"{}\"", key.display()));
            lines.push("IdentitiesOnly=yes".to_owned());
        }
        lines.extend(OURS.map(str::to_owned));
        if self.reads_user_configuration {
            lines.push("Include ~/.ssh/config".to_owned());
            lines.push("Include /etc/ssh/ssh_config".to_owned());
        }
        let mut text = String::from("Host *\n");
        for line in lines {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }

    /// The policy for unknown host keys. openssh passes it on ssh's command line, which precedes
    /// any file: so an option in the inventory is evaluated here.
    pub(super) fn host_keys(&self) -> KnownHosts {
        let mut options = self.ssh.options.iter().filter_map(|o| o.split_once('='));
        let said = options.find(|(key, _)| key.trim().eq_ignore_ascii_case("StrictHostKeyChecking"));
        match (said.map(|(_, value)| value.trim()), self.ssh.host_keys) {
            (Some("no" | "off"), _) => KnownHosts::Accept,
            (Some("accept-new"), _) | (None, HostKeys::AcceptNew) => KnownHosts::Add,
            (Some(_), _) | (None, HostKeys::Strict) => KnownHosts::Strict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(options: &[&str], host_keys: HostKeys) -> Target {
        Target {
            name: "m1".into(),
            address: "10.0.0.1".into(),
            ssh: SshConfig {
                user: "root".into(),
                port: 2222,
                key: Some("/k e y".into()),
                known_hosts: None,
                host_keys,
                options: options.iter().map(|o| (*o).to_owned()).collect(),
            },
            connect: CONNECT,
            idle: NonZeroUsize::MIN,
            reads_user_configuration: true,
        }
    }

    #[test]
    fn the_inventorys_options_come_first_and_the_users_own_last() {
        let text = target(&["Port=22"], HostKeys::Strict).configuration();
        let at = |line: &str| text.find(line).unwrap_or_else(|| panic!("{line} in {text}"));
        assert!(at("Port=22\n") < at("Port=2222\n"));
        assert!(at("IdentityFile=\"/k e y\"\n") < at("Include ~/.ssh/config\n"));
        let alone = Target { reads_user_configuration: false, ..target(&[], HostKeys::Strict) };
        assert!(!alone.configuration().contains("Include"));
    }

    #[test]
    fn an_option_about_host_keys_wins_over_the_inventorys_word() {
        for (options, word, wanted) in [
            (&[][..], HostKeys::Strict, "Strict"),
            (&[][..], HostKeys::AcceptNew, "Add"),
            (&["stricthostkeychecking=no"][..], HostKeys::Strict, "Accept"),
            (&["StrictHostKeyChecking=yes"][..], HostKeys::AcceptNew, "Strict"),
        ] {
            let found = target(options, word).host_keys();
            assert_eq!(format!("{found:?}"), wanted, "{options:?} {word:?}");
        }
    }
}
