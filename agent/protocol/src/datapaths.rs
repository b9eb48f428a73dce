//! The output of `tandem-agent datapaths --json`: the agent's kinds of datapaths, and what a lab
//! sets up for each. The lab asks the program that it will start, so that it needs no list of its
//! own.

use serde::{Deserialize, Serialize};

/// A kind of datapath.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatapathDescription {
    /// Its name in site files, in agent.toml and behind a lab's `--datapath`.
    pub name: String,
    /// A description of one line.
    pub about: String,
    /// What a lab sets up for it.
    pub lab: LabSetup,
}

/// What a lab sets up for switches of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSetup {
    /// The name of its switches in a lab's figures, such as `soft switch`.
    pub title: String,
    /// Where its switches forward on this machine, as text.
    pub place: String,
    /// True if Open vSwitch has to run along with the agents.
    pub needs_open_vswitch: bool,
    /// Where its switches accept OpenFlow connections besides that to the controller.
    pub management: Management,
    /// Lines of agent.toml for each switch, behind its `[[switch]]` and before its ports. It may
    /// open sections of the switch, such as `[switch.card]`.
    #[serde(default)]
    pub switch: String,
    /// Lines of agent.toml for the first ports of each switch, one text for each port. Further
    /// ports get none.
    #[serde(default)]
    pub ports: Vec<String>,
}

/// The folder of the socket `SWITCH.mgmt`, at which a switch accepts OpenFlow connections besides
/// that to the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Management {
    /// There is no such socket.
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
