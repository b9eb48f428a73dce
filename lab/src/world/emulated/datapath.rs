//! What the switches of an emulated data centre are made of.
//!
//! Which kinds there are, and what is set up for each, is asked of the agent's program
//! (`tandem-agent datapaths --json`): the lab treats all kinds alike.

use anyhow::{Context, bail};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tandem_agent_protocol::datapaths::{DatapathDescription, Management};
use tandem_linux::probe::Probe;
use tandem_model::{DatapathKind, Site, Switch, with_datapath_kinds};

/// What is asked for (`--datapath`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first of the registry that this machine has the programs for: Open vSwitch where it is
    /// installed, else the agent's own switch.
    #[default]
    Auto,
    /// This kind.
    Kind(DatapathKind),
}

macro_rules! choices {
    ($($constant:ident: $name:ident,)*) => {
        &[Choice::Auto, $(Choice::Kind(DatapathKind::$constant)),*]
    };
}

impl ValueEnum for Choice {
    fn value_variants<'a>() -> &'a [Choice] {
        with_datapath_kinds!(choices)
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Choice::Auto => PossibleValue::new("auto"),
            // As it was called when a lab had names of its own for them.
            Choice::Kind(DatapathKind::NETFPGA) => PossibleValue::new("netfpga").alias("netfpga-model"),
            Choice::Kind(kind) => PossibleValue::new(kind.name()),
        })
    }
}

/// The kinds that the agent's program has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datapaths(Vec<DatapathDescription>);

impl Datapaths {
    /// Asks the agent's program.
    ///
    /// # Errors
    /// When it cannot be started or answers something else.
    pub fn ask(program: &Path) -> anyhow::Result<Datapaths> {
        let name = program.display();
        let output = Command::new(program)
            .args(["datapaths", "--json"])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {name}"))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{name} does not say which datapaths it has: {}; is it of another version than this program?",
                why.trim()
            );
        }
        let all = serde_json::from_slice(&output.stdout);
        Ok(Datapaths(all.with_context(|| format!("what {name} says of its datapaths cannot be read"))?))
    }

    /// A kind.
    ///
    /// # Errors
    /// When the agent's program does not have it.
    pub fn get(&self, kind: DatapathKind) -> anyhow::Result<&DatapathDescription> {
        self.0.iter().find(|d| d.name == kind.name()).with_context(|| {
            let names: Vec<&str> = self.0.iter().map(|d| d.name.as_str()).collect();
            format!("the agent's program has no datapath {kind}; it has {}", names.join(", "))
        })
    }

    /// What a site's switches are made of on this machine.
    ///
    /// # Errors
    /// With all that is missing, and what to do.
    pub fn decide(&self, choice: Choice, probe: &Probe, site: &Site) -> anyhow::Result<SwitchDatapaths> {
        let has_programs = |d: &&DatapathDescription| probe.ovs || !d.lab.needs_open_vswitch;
        let default = match choice {
            Choice::Auto => {
                self.0.iter().find(has_programs).context("the agent's program has no datapath")?
            }
            Choice::Kind(kind) => self.get(kind)?,
        };
        for switch in &site.topology.switches {
            switch.datapath.map(|kind| self.get(kind)).transpose()?;
        }
        let chosen = SwitchDatapaths { default: default.clone(), known: self.0.clone() };
        let mut missing = probe.missing(chosen.needs_ovs(site));
        if missing.is_empty() {
            return Ok(chosen);
        }
        if default.lab.needs_open_vswitch && probe.missing(false).is_empty() {
            missing.push("or nothing of it with switches of Tandem's own: --datapath soft");
        }
        bail!("the emulated world is not possible here; missing:\n  {}", missing.join("\n  "))
    }
}

/// What the switches of a lab are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchDatapaths {
    /// Those that the site says nothing of.
    default: DatapathDescription,
    known: Vec<DatapathDescription>,
}

impl SwitchDatapaths {
    /// What a switch is made of: what the site says of it, else the default.
    pub fn of(&self, switch: &Switch) -> &DatapathDescription {
        let named = switch.datapath.and_then(|kind| self.known.iter().find(|d| d.name == kind.name()));
        named.unwrap_or(&self.default)
    }

    /// Open vSwitch has to run for a site.
    pub fn needs_ovs(&self, site: &Site) -> bool {
        let mut switches = site.topology.switches.iter().filter(|s| !s.legacy);
        switches.any(|s| self.of(s).lab.needs_open_vswitch)
    }

    /// Where the switches of a site forward, for people.
    pub fn places(&self, site: &Site) -> String {
        let switches = site.topology.switches.iter().filter(|s| !s.legacy);
        let places: BTreeSet<&str> = switches.map(|s| self.of(s).lab.place.as_str()).collect();
        places.into_iter().collect::<Vec<_>>().join(", ")
    }
}

/// The socket at which a switch takes OpenFlow beside its controller. `sockets` is the folder that
/// Open vSwitch has its sockets in, `state` the state folder of the switch's agent.
///
/// # Errors
/// When switches of this kind have none.
pub fn management(
    datapath: &DatapathDescription,
    sockets: &Path,
    state: &Path,
    switch: &str,
) -> anyhow::Result<PathBuf> {
    let folder = match &datapath.lab.management {
        Management::OpenVswitch => sockets.to_owned(),
        Management::State(folder) => state.join(folder),
        Management::None => bail!(
            "switch {switch} takes OpenFlow from its controller only, since it is made of {}; choose another --datapath",
            datapath.name
        ),
    };
    Ok(folder.join(format!("{switch}.mgmt")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_agent_protocol::datapaths::LabSetup;
    use tandem_linux::ovs;

    fn description(kind: DatapathKind, needs_open_vswitch: bool) -> DatapathDescription {
        let state = Management::State(kind.name().into());
        let lab = LabSetup {
            title: String::new(),
            place: format!("in {kind}"),
            needs_open_vswitch,
            management: if needs_open_vswitch { Management::OpenVswitch } else { state },
            switch: String::new(),
            ports: Vec::new(),
        };
        DatapathDescription { name: kind.name().into(), about: String::new(), lab }
    }

    fn known() -> Datapaths {
        Datapaths(vec![description(DatapathKind::OVS, true), description(DatapathKind::SOFT, false)])
    }

    const ALL: Probe =
        Probe { namespaces: true, tun: true, ovs: true, udhcpc: true, datapath: ovs::Datapath::Userspace };

    fn decide(choice: Choice, probe: &Probe, more: &str) -> Result<SwitchDatapaths, String> {
        let site = format!("[topology]\nshape = \"linear\"\n{more}");
        let site = tandem_model::site::read(&site, "test").expect("a site");
        known().decide(choice, probe, &site).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_installed_is_not_chosen_by_itself_and_named_when_asked_for() {
        let without = Probe { ovs: false, tun: false, ..ALL };
        let default = |choice, probe| decide(choice, probe, "").map(|d| d.default.name);
        assert_eq!(default(Choice::Auto, &ALL), Ok("ovs".into()));
        assert_eq!(default(Choice::Kind(DatapathKind::SOFT), &ALL), Ok("soft".into()));
        assert_eq!(default(Choice::Auto, &without), Ok("soft".into()));
        let why = default(Choice::Kind(DatapathKind::OVS), &without).expect_err("it is not installed");
        for word in ["openvswitch-switch", "/dev/net/tun", "--datapath soft"] {
            assert!(why.contains(word), "{word} in {why}");
        }
        let bare = Probe { udhcpc: false, ..without };
        assert!(default(Choice::Auto, &bare).expect_err("no DHCP client").contains("udhcpc"));
    }

    #[test]
    fn a_switch_is_what_the_site_says_of_it_and_the_agent_has_to_know_that() {
        let chosen = decide(
            Choice::Kind(DatapathKind::SOFT),
            &ALL,
            "[[switch]]\nname = \"edge1\"\ndatapath = \"ovs\"\n",
        );
        let site = "[topology]\nshape = \"linear\"\n[[switch]]\nname = \"edge1\"\ndatapath = \"ovs\"\n";
        let site = tandem_model::site::read(site, "test").expect("a site");
        let chosen = chosen.expect("both are here");
        assert!(chosen.needs_ovs(&site));
        assert_eq!(chosen.places(&site), "in ovs, in soft");
        let why = decide(Choice::Auto, &ALL, "[[switch]]\nname = \"edge1\"\ndatapath = \"netfpga\"\n");
        let why = why.expect_err("this agent has none");
        assert_eq!(why, "the agent's program has no datapath netfpga; it has ovs, soft");
    }

    #[test]
    fn names_of_before_are_still_understood() {
        let read = |name: &str| Choice::from_str(name, false);
        assert_eq!(read("auto"), Ok(Choice::Auto));
        assert_eq!(read("netfpga"), Ok(Choice::Kind(DatapathKind::NETFPGA)));
        assert_eq!(read("netfpga-model"), read("netfpga"));
        assert_eq!(Choice::value_variants().len(), DatapathKind::ALL.len() + 1);
    }

    #[test]
    fn each_kind_of_switch_is_spoken_to_where_its_socket_is() {
        let at = |d: &DatapathDescription| management(d, Path::new("/lab"), Path::new("/lab/agent"), "sw");
        let [ovs, soft] = &known().0[..] else { panic!("two kinds") };
        assert_eq!(at(ovs).expect("a socket"), Path::new("/lab/sw.mgmt"));
        assert_eq!(at(soft).expect("a socket"), Path::new("/lab/agent/soft/sw.mgmt"));
        let mut none = soft.clone();
        none.lab.management = Management::None;
        assert!(at(&none).expect_err("no socket").to_string().contains("choose another --datapath"));
    }
}
