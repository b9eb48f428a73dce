//! `manifest.json`: what was run, with what, and how to run it again.

use crate::control::messages::{Machine, Status};
use crate::world::emulated::engine::EngineKind;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::{Command, Stdio};

/// What was run, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the experiment.
    pub experiment: String,
    /// `simulated`, `emulated` or `testbed`.
    pub world: String,
    /// Version of Tandem.
    pub version: String,
    /// Commit it was built from, with `-dirty` if it had changes; `None` outside a checkout.
    pub commit: Option<String>,
    /// Seed of everything random; 0 where nothing is.
    pub seed: u64,
    /// The site file's text.
    pub site: String,
    /// The kernel's release.
    pub kernel: String,
    /// Open vSwitch's version, where it is used on this machine.
    pub ovs: Option<String>,
    /// Where packets were forwarded.
    pub datapath: Option<String>,
    /// What made hosts, switches and links, in the emulated world.
    pub engine: Option<EngineKind>,
    /// A testbed's machines with their kernels and versions of Open vSwitch.
    pub machines: Vec<Machine>,
    /// The command line.
    pub command: Vec<String>,
    /// What to give `tandem-lab` to run it again, besides `--out` and, where `site_given`, `--site`
    /// with a file that has `site` in it.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// True where the site was not the experiment's own.
    #[serde(default)]
    pub site_given: bool,
    /// How often it was run.
    #[serde(default = "once")]
    pub repeat: u32,
}

fn once() -> u32 {
    1
}

impl Manifest {
    /// Its file in the run folder.
    pub const FILE: &str = "manifest.json";

    /// What is known of this run and this machine.
    pub fn new(experiment: &str, world: &str, seed: u64, site: &str) -> Manifest {
        let kernel =
            std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let command: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
        let own = command.get(1..).unwrap_or_default();
        let (arguments, _) = without(own, "--out");
        let (arguments, site_given) = without(&arguments, "--site");
        Manifest {
            experiment: experiment.to_owned(),
            world: world.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: first_line("git", &["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]),
            seed,
            site: site.to_owned(),
            kernel,
            ovs: (world == "emulated").then(|| first_line("ovs-vswitchd", &["--version"])).flatten(),
            datapath: None,
            engine: None,
            machines: Vec::new(),
            arguments,
            site_given,
            command,
            repeat: 1,
        }
    }

    /// Adds what a world said of itself.
    pub fn of_world(&mut self, status: &Status) {
        self.datapath = Some(status.datapath.clone());
        self.engine = status.engine;
        self.machines.clone_from(&status.machines);
    }

    /// In which world and on what, as a figure says it.
    pub fn place(&self) -> String {
        match &self.datapath {
            Some(datapath) => {
                let engine = self.engine.as_ref().map_or(String::new(), |e| format!(" by {e}"));
                format!("{} world{engine}, switches in {datapath}", self.world)
            }
            None => format!("{} world", self.world),
        }
    }

    /// This is one of several repetitions: run alone again, it has its own seed.
    pub fn one_of_many(&mut self) {
        let (arguments, _) = without(&self.arguments, "--repeat");
        let (mut arguments, _) = without(&arguments, "--seed");
        if self.seed != 0 {
            arguments.extend(["--seed".to_owned(), self.seed.to_string()]);
        }
        self.arguments = arguments;
    }

    /// Writes `manifest.json` into the run folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(Manifest::FILE);
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Arguments without an option that has a value; whether it was among them.
fn without(arguments: &[String], option: &str) -> (Vec<String>, bool) {
    let with_value = format!("{option}=");
    let mut left = Vec::new();
    let mut rest = arguments.iter();
    let mut found = false;
    while let Some(argument) = rest.next() {
        if argument == option {
            rest.next();
        } else if !argument.starts_with(&with_value) {
            left.push(argument.clone());
            continue;
        }
        found = true;
    }
    (left, found)
}

fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stderr(Stdio::null()).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn where_results_go_is_not_part_of_how_to_run_it_again() {
        for text in ["experiment fill --out a/b --policy x", "experiment fill --policy x --out=a/b"] {
            assert_eq!(without(&words(text), "--out"), (words("experiment fill --policy x"), true));
        }
        assert_eq!(without(&words("a --outer b"), "--out"), (words("a --outer b"), false));
        assert_eq!(without(&words("a --out"), "--out"), (words("a"), true));
    }

    #[test]
    fn a_repetition_is_run_again_alone_and_with_its_own_seed() {
        let mut manifest = Manifest::new("keep-policy", "simulated", 5, "");
        manifest.arguments = words("experiment keep-policy --repeat 3 --seed=3 --vms 10");
        manifest.one_of_many();
        assert_eq!(manifest.arguments, words("experiment keep-policy --vms 10 --seed 5"));
    }

    #[test]
    fn a_manifest_of_before_is_read() {
        let mut value = serde_json::to_value(Manifest::new("x", "simulated", 0, "")).expect("JSON");
        for new in ["arguments", "site_given", "repeat"] {
            value.as_object_mut().expect("an object").remove(new);
        }
        let heard: Manifest = serde_json::from_value(value).expect("a manifest");
        assert_eq!((heard.repeat, heard.arguments.len()), (1, 0));
    }
}
