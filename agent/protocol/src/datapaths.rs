//! What `tandem-agent datapaths --json` prints: the agent's kinds of datapaths, and what a lab sets
//! up for each. The lab asks the program that it is going to start, so that it needs no list of its
//! own.

use serde::{Deserialize, Serialize};

/// A kind of datapath.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatapathDescription {
    /// Its name in site files, in agent.toml and behind a lab's `--datapath`.
    pub name: String,
    /// What it is, in one line for people.
    pub about: String,
    /// What a lab sets up for it.
    pub lab: LabSetup,
}

/// What a lab sets up for switches of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSetup {
    /// What a switch of it is called in a lab's figures, such as `soft switch`.
    pub title: String,
    /// Where its switches forward on this machine, for people.
    pub place: String,
    /// True if Open vSwitch has to run beside the agents.
    pub needs_open_vswitch: bool,
    /// Where its switches can be spoken to beside their controller.
    pub management: Management,
    /// Lines of agent.toml for each switch, behind its `[[switch]]` and before its ports. It may
    /// open sections of the switch, such as `[switch.card]`.
    #[serde(default)]
    pub switch: String,
    /// Lines of agent.toml for the first ports of each switch, one text a port. Ports beyond them
    /// get none.
    #[serde(default)]
    pub ports: Vec<String>,
}

/// In which folder the socket `SWITCH.mgmt` is, at which a switch takes OpenFlow beside its
/// controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Management {
    /// It has none.
    None,
    /// Open vSwitch's folder of sockets.
    OpenVswitch,
    /// This folder below the agent's state folder.
    State(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_agent_leaves_out_has_a_meaning() {
        let text = r#"{"name":"tap","about":"a test's","lab":{"title":"tap","place":"nowhere",
            "needs_open_vswitch":false,"management":"none","later":1}}"#;
        let read: DatapathDescription = serde_json::from_str(text).expect("is read");
        assert_eq!((read.lab.management, read.lab.ports), (Management::None, Vec::new()));
        let state = serde_json::to_string(&Management::State("soft".into())).expect("is text");
        assert_eq!(state, r#"{"state":"soft"}"#);
    }
}
