//! Command lines that scripts and documents have: they must go on being understood.

use super::*;

/// A line for each form of each command, as they were before the files of the command line were
/// named after its nouns.
const LINES: &[&str] = &[
    "serve --site s.toml",
    "serve --site s.toml --openflow tcp:127.0.0.1:6653 --openflow unix:/run/o --agents unix:/run/a --authority /a --also-listen \
     tcp:127.0.0.1:8080 --api-host tandem.example.org --api-group ops --text-socket /t --store /s --world @w --csv /c --record /r --until-stdin-closes",
    "serve --site s.toml --hypervisors h.toml",
    "vm request",
    "vm request --cpu 2 --ram 2GiB --disk 10GB --net 5Mbit/s --class gold --timeout 60 --name web --image debian --traffic poisson",
    "vm request --count 4 --group web --rate 1Mbit/s --spread edge --on edge1 --dry-run",
    "vm request --spread server --tag db --on srv2",
    "vm list",
    "vm list --strays",
    "vm adopt 7",
    "vm adopt vm7 --server srv1 --cpu 1 --ram 1GiB --disk 1GB --net 1Mbit/s --address 10.0.0.7 --class gold --timeout 5 --name a --image b",
    "vm adopt --all",
    "vm stop-stray 7 --server srv1",
    "vm show vm7",
    "vm resize 7 --ram 2GiB",
    "vm delete 7",
    "group create 10.0.0.1 10.0.0.2",
    "group list",
    "group delete 1",
    "agent token edge1 --minutes 10 --address h:6655 --switch edge1 --switch edge2",
    "agent allow edge1 --switch edge1",
    "agent list",
    "agent show edge1",
    "agent revoke edge1",
    "token create ci --read-only --expires 90d",
    "token list",
    "token revoke ci",
    "class list",
    "class set gold=60 silver=40:80",
    "topology",
    "links --watch",
    "rules",
    "rules edge1",
    "rules edge1 --counters",
    "stats --now",
    "stats --hardware",
    "port down edge1 3",
    "port up edge1 3",
    "path pin 7 edge1 agg1",
    "path unpin 7",
    "migrate 7",
    "migrate vm7 --to srv2 --dry-run --live --force",
    "migrate 7 --cold --no-wait",
    "migrations --watch",
    "migrations cancel mig7",
    "plan --relieve --apply --no-wait",
    "plan --evacuate srv1",
    "plan --id 3 --apply",
    "plan --id 3 --stop",
    "evacuate srv1 --dry-run",
    "evacuate srv1 --back",
    "evacuate srv1 --no-wait --cold",
    "hotspots --watch",
    "overrides",
    "notices",
    "events",
    "events --follow --after 7 --json",
    "check s.toml",
    "serve",
    "init",
    "init s.toml --yes",
    "site import conf.ini controller.ini",
    "site import net.py --topo linear,4 --time-limit 5 --gateway h1 --gateway h2 --out s.toml",
    "site import g.xml --format graphml --servers-per-switch 2",
    "site export --mininet s.toml --out net.py",
    "site export --clab s.toml",
    "site export --dot s.toml",
    "replay r.jsonl",
    "--api tcp:127.0.0.1:8080 --token secret --json topology",
    "topology --json --api unix:/run/t/api.sock",
];

#[test]
fn every_command_line_of_before_is_understood() {
    for line in LINES {
        let words = std::iter::once("tandem").chain(line.split_whitespace());
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("tandem {line}: {error}");
        }
    }
}

#[test]
fn every_command_has_a_line_in_the_list() {
    let command = <Cli as clap::CommandFactory>::command();
    let elsewhere = ["testbed", "hypervisors", "site", "store", "help"];
    for sub in command.get_subcommands().map(clap::Command::get_name).filter(|n| !elsewhere.contains(n)) {
        assert!(LINES.iter().any(|l| l.split_whitespace().any(|w| w == sub)), "{sub}");
    }
}
