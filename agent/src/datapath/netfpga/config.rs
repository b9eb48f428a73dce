//! `[switch.card]` in agent.toml: the card of a switch, and the checks of its settings.

use super::target;
use crate::config::SwitchConfig;
use serde::Deserialize;
use std::collections::BTreeSet;
use tandem_model::DatapathKind;

/// A NetFPGA card.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardConfig {
    /// Its device: `ioctl:nf2c0`, `mmap:0000:03:00.0`, `cosim:SOCKET`, `model`.
    pub device: String,
    /// Its register map by name, or a file with one (`*.toml`); without, the card is probed.
    #[serde(default)]
    pub profile: Option<String>,
    /// Where flows on transport ports are executed.
    #[serde(default)]
    pub transport: TransportChoice,
    /// The card's watchdog clears its flows when this agent hangs or was killed for 8.6 s.
    #[serde(default = "yes")]
    pub watchdog: bool,
    /// False: no packets pass between the card and this agent, even if its device could carry them;
    /// flows that the card cannot hold are refused.
    #[serde(default = "yes")]
    pub cpu_ports: bool,
    /// A data path that lags or has stopped is reset, and all its tables are written again. False:
    /// it is only reported.
    #[serde(default = "yes")]
    pub recover: bool,
    /// After three stops in a minute, the receiver of the port that seems to cause them is turned
    /// off for the pause, instead of leaving the whole card stopped. Which port that is, is a
    /// guess.
    #[serde(default)]
    pub mute: bool,
    /// The effect of reading a row's counters, if it differs from the profile's.
    #[serde(default)]
    pub row_counters: Option<RowCounters>,
    /// The clock that idle time-outs follow.
    #[serde(default)]
    pub clock: ClockChoice,
}

/// The clock that idle time-outs follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockChoice {
    /// This machine's clock.
    #[default]
    Real,
    /// The card's clock: in a simulation its second can take minutes.
    Card,
}

/// The effect of reading a row's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowCounters {
    /// None: they count on.
    Accumulate,
    /// They are reset to 0, as in a simulation of the public sources.
    ClearOnRead,
}

/// Where flows on transport ports are executed: a card takes the first bytes of later IP fragments
/// as ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportChoice {
    /// In software, which treats fragments correctly.
    #[default]
    Software,
    /// On the card.
    Card,
}

fn yes() -> bool {
    true
}

/// Checks the card of a switch and its ports; only a `netfpga` switch has one.
pub(super) fn check(switch: &SwitchConfig) -> Result<(), String> {
    let name = &switch.name;
    let of_card = switch.ports.iter().filter_map(|p| Some((p, p.card_port?)));
    match (switch.datapath, &switch.card) {
        (DatapathKind::NETFPGA, None) => {
            return Err(format!(
                "switch {name:?} is a netfpga one without a card; write [switch.card] with device = \"ioctl:nf2c0\", \
                     \"mmap:0000:03:00.0\", \"cosim:SOCKET\" or \"model\""
            ));
        }
        (DatapathKind::NETFPGA, Some(card)) => {
            target(card)?;
            if card.mute && !card.recover {
                return Err(format!(
                    "switch {name:?}: mute = true needs recover = true: a receiver is switched off while a card is reset again and again"
                ));
            }
        }
        (_, Some(_)) => {
            return Err(format!("switch {name:?} has a card; write datapath = \"netfpga\" for it"));
        }
        (_, None) if of_card.clone().next().is_some() => {
            return Err(format!("switch {name:?} has a port with card_port, but no card"));
        }
        (_, None) => return Ok(()),
    }
    let mut seen = BTreeSet::new();
    for (port, at) in of_card {
        if at > 3 {
            return Err(format!(
                "port {} of {name:?}: card_port = {at}; a card has ports 0 to 3",
                port.number
            ));
        }
        if !seen.insert(at) {
            return Err(format!("switch {name:?} has two ports that are port {at} of the card"));
        }
    }
    if seen.is_empty() {
        return Err(format!(
            "switch {name:?} uses no port of its card; write card_port = 0 to 3 in its ports"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::datapath::netfpga::{cpu_ports, injects};

    #[test]
    fn a_card_has_its_defaults_and_a_wrong_one_is_named() {
        let file = |card: &str, ports: &str| {
            let head = "name = \"a\"\ncontroller = \"tcp:a:1\"\n[[switch]]\nname = \"core1\"\n";
            Config::parse(&format!("{head}{card}\n{ports}"))
        };
        let port = |n: u32, at: &str| format!("[[switch.port]]\nnumber = {n}\ninterface = \"p{n}\"\n{at}\n");
        let model = "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"";
        let (first, plain) = (port(1, "card_port = 0"), port(2, ""));
        let config = file(model, &format!("{first}{plain}")).expect("a configuration");
        let card = config.switches[0].card.as_ref().expect("a card");
        assert!(card.recover && !card.mute && card.row_counters.is_none() && card.clock == ClockChoice::Real);
        assert!(card.watchdog && card.cpu_ports && card.transport == TransportChoice::Software);
        assert!(cpu_ports(card) && injects(card));
        let bare = CardConfig { cpu_ports: false, ..card.clone() };
        assert!(!cpu_ports(&bare) && injects(&bare));
        let mmap = CardConfig { device: "mmap:0000:03:00.0".into(), ..card.clone() };
        assert!(!cpu_ports(&mmap) && !injects(&mmap));
        let twice = format!("{first}{}", port(2, "card_port = 0"));
        for (card, ports, word) in [
            ("datapath = \"netfpga\"", &first, "without a card; write [switch.card]"),
            (
                "datapath = \"soft\"\n[switch.card]\ndevice = \"model\"",
                &first,
                "write datapath = \"netfpga\"",
            ),
            ("datapath = \"soft\"", &first, "a port with card_port, but no card"),
            (model, &plain, "uses no port of its card"),
            (model, &twice, "two ports that are port 0 of the card"),
            (model, &port(1, "card_port = 4"), "a card has ports 0 to 3"),
            (model, &port(1, "card_port = -1"), "card_port"),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"pci:1\"",
                &first,
                "names no card: ioctl:nf2c0",
            ),
            ("datapath = \"netfpga\"\n[switch.card]\nprofile = \"x\"", &first, "device"),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\ntransport = \"both\"",
                &first,
                "both",
            ),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\ncpu_port = true",
                &first,
                "cpu_port",
            ),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\nrecover = false\nmute = true",
                &first,
                "mute = true needs recover = true",
            ),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\nrow_counters = \"clears\"",
                &first,
                "clear-on-read",
            ),
            ("datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\nclock = \"slow\"", &first, "real"),
        ] {
            let error = file(card, ports).expect_err(word).to_string();
            assert!(error.contains(word), "{word} in {error}");
        }
    }
}
