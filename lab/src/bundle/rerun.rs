//! Runs an experiment again from its bundle, in the same world with the same options, and says
//! whether it came out the same.
//!
//! The options come from somebody else's file. So they have to be an experiment's, and those that
//! name files or hardware of a machine are not taken from there: whoever runs it gives them.

use super::compare::{self, Comparison};
use super::unpack::unpack;
use super::{BundleError, List};
use crate::experiment::manifest::Manifest;
use crate::temp_dir::TempDir;
use anyhow::Context;
use std::any::TypeId;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Options that name hardware of a machine, though not by a path.
const HARDWARE: [&str; 2] = ["card", "wires"];

/// What came out.
#[derive(Debug)]
pub struct Rerun {
    /// As it was.
    pub before: Manifest,
    /// As it is now.
    pub again: Manifest,
    /// File by file.
    pub comparison: Comparison,
}

impl Rerun {
    /// True where everything has to be the same to the byte: time is virtual there.
    pub fn exact(&self) -> bool {
        self.before.world == "simulated"
    }

    /// True when it came out the same: exactly in virtual time, else within so many percent.
    pub fn same(&self, percent: f64) -> bool {
        let whole = self.comparison.missing.is_empty();
        if self.exact() { self.comparison.identical() } else { whole && self.comparison.within(percent) }
    }

    /// For people.
    pub fn text(&self, percent: f64) -> String {
        let mut text = String::new();
        let (a, b) = (&self.before, &self.again);
        for (what, old, new) in [
            ("version", Some(&a.version), Some(&b.version)),
            ("commit", a.commit.as_ref(), b.commit.as_ref()),
            ("kernel", Some(&a.kernel), Some(&b.kernel)),
            ("Open vSwitch", a.ovs.as_ref(), b.ovs.as_ref()),
        ] {
            if old != new {
                let word = |v: Option<&String>| v.map_or("none", String::as_str).to_owned();
                text += &format!("{what}: {} before, {} now\n", word(old), word(new));
            }
        }
        text += &self.comparison.text(percent);
        text += match (self.same(percent), self.exact()) {
            (true, true) => "verdict: the same to the byte\n",
            (false, true) => "verdict: DIFFERS, and in virtual time it must not\n",
            (true, false) => "verdict: the same within the tolerance\n",
            (false, false) => "verdict: DIFFERS by more than the tolerance\n",
        };
        text
    }
}

/// Runs it again into `out`; `experiments` is this program's command for experiments, by which the
/// bundle's options are checked, and `more` are further arguments.
///
/// # Errors
/// When the bundle is not sound, cannot be run again, or running it fails.
pub fn rerun(
    bundle: &Path,
    out: &Path,
    experiments: &clap::Command,
    more: &[String],
) -> anyhow::Result<Rerun> {
    let temp = TempDir::new("bundle")?;
    let old = temp.path().join("run");
    std::fs::create_dir(&old)?;
    let list: List = unpack(bundle, &old)?;
    let before = manifest(&old)?;
    let Taken { arguments, left_out } = arguments(&before, experiments)?;
    eprintln!("{} files, checked; running again: tandem-lab {}", list.files.len(), arguments.join(" "));
    if !left_out.is_empty() {
        eprintln!("not taken from the bundle: {}; give yours after --", left_out.join(", "));
    }
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(&arguments).arg("--out").arg(out).args(more).stdin(Stdio::null());
    if before.site_given {
        let site = temp.path().join("site.toml");
        std::fs::write(&site, &before.site)?;
        command.arg("--site").arg(site);
    }
    let status = command.status().context("starting the experiment")?;
    if !status.success() {
        return Err(BundleError::Failed(status).into());
    }
    let again = manifest(out)?;
    let comparison = compare::folders(&old, out)?;
    Ok(Rerun { before, again, comparison })
}

fn manifest(folder: &Path) -> Result<Manifest, BundleError> {
    let path = folder.join(Manifest::FILE);
    let text = std::fs::read(&path).map_err(|_| BundleError::NoRun(folder.to_owned()))?;
    serde_json::from_slice(&text)
        .map_err(|e| BundleError::NotAgain(format!("its manifest is not understood: {e}")))
}

/// What of a manifest's arguments is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The arguments of the experiment.
    pub arguments: Vec<String>,
    /// Options that name a file or hardware of another machine, which are not taken.
    pub left_out: Vec<String>,
}

/// The arguments that a manifest gives, if all of them are an experiment's.
///
/// # Errors
/// With the first that is not.
pub fn arguments(manifest: &Manifest, experiments: &clap::Command) -> Result<Taken, BundleError> {
    let refuse = |why: String| Err(BundleError::NotAgain(why));
    let [first, name, options @ ..] = manifest.arguments.as_slice() else {
        return refuse("its manifest has no arguments; it was written by an older version".into());
    };
    if first != experiments.get_name() {
        return refuse(format!("{first:?} is no experiment"));
    }
    let Some(experiment) = experiments.find_subcommand(name) else {
        return refuse(format!("there is no experiment {name:?} in this version"));
    };
    let mut taken = Taken { arguments: vec![first.clone(), name.clone()], left_out: Vec::new() };
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let Some(long) = option.strip_prefix("--") else {
            return refuse(format!("{option:?} is no option"));
        };
        let (long, value) = long.split_once('=').map_or((long, None), |(l, v)| (l, Some(v)));
        let known = experiment.get_arguments().find(|a| a.get_long() == Some(long));
        let Some(known) = known.filter(|_| !long.is_empty()) else {
            return refuse(format!("the experiment {name} has no option {option:?} in this version"));
        };
        let mut words = vec![option.clone()];
        if known.get_action().takes_values() && value.is_none() {
            words.extend(rest.next().cloned());
        }
        let is_path = known.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        if is_path || HARDWARE.contains(&long) {
            taken.left_out.push(format!("--{long}"));
        } else {
            taken.arguments.extend(words);
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn taken(text: &str) -> Result<Taken, BundleError> {
        let mut manifest = Manifest::new("fill", "simulated", 0, "");
        manifest.arguments = text.split_whitespace().map(str::to_owned).collect();
        let program = crate::cli::Cli::command();
        arguments(&manifest, program.find_subcommand("experiment").expect("experiments"))
    }

    #[test]
    fn an_experiments_options_are_taken_and_files_and_hardware_are_not() {
        let text = "experiment fill --policy best-fit,weighted --record --repeat=3";
        assert_eq!(taken(text).expect("an experiment").arguments.join(" "), text);
        let of = taken("experiment fill --world testbed --inventory /etc/shadow --node-program=/bin/sh");
        let of = of.expect("an experiment");
        assert_eq!(of.arguments.join(" "), "experiment fill --world testbed");
        assert_eq!(of.left_out, ["--inventory", "--node-program"]);
        let of = taken("experiment hardware-qos --card mmap:0000:01 --wires a,b,c --inside /x --out /y");
        assert_eq!(of.expect("an experiment").arguments.join(" "), "experiment hardware-qos");
    }

    #[test]
    fn what_is_no_experiment_is_not_run() {
        for odd in [
            "",
            "experiment",
            "up --site x",
            "exec vm1 -- rm",
            "experiment rm --rf",
            "experiment fill extra",
            "experiment fill -x",
            "experiment fill --",
            "experiment fill --no-such",
        ] {
            assert!(matches!(taken(odd), Err(BundleError::NotAgain(_))), "{odd:?}: {:?}", taken(odd));
        }
    }
}
