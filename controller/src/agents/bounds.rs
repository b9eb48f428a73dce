//! Limits on agents' messages. An agent is a program on another machine, maybe not ours; its data
//! is stored, shown and published, so its size is checked first, and its text is escaped here,
//! once.

use tandem_agent_protocol::agent as wire;
use tandem_model::text::{escaped, escaped_to};

/// The longest message, in bytes: twice a report of 10,000 ports.
pub(super) const MESSAGE: usize = 4 << 20;
/// The longest message to the enrolment service: a certificate request has less than 1 KiB.
pub(super) const ENROLMENT: usize = 32 << 10;
/// The longest certificate request, in bytes.
pub(super) const REQUEST: usize = 16 << 10;
/// The longest secret of a token.
const SECRET: usize = 128;
/// The most switches of an agent: a lab's agent has all of its data centre.
const SWITCHES: usize = 16_384;
/// The most ports of a switch.
const PORTS: usize = 4096;
/// The most classes of a port: DSCP has as many values.
const CLASSES: usize = 64;
/// The most counters of a card that are not zero; some drivers have about two thousand.
const COUNTERS: usize = 4096;
/// The most faults in one message.
const FAULTS: usize = 1024;
/// Characters of a name (an interface's, a counter's, a datapath's) that are kept.
const NAME: usize = 64;
/// Characters of a fault that are kept.
const WHY: usize = 1000;

/// Why a message of an agent is refused; its connection ends with this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadMessage {
    /// A list is too long.
    #[error("{what}: {found} of them; {most} are taken")]
    TooMany {
        /// What the list has.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The most allowed.
        most: usize,
    },
    /// A name is not valid.
    #[error("{0:?} cannot be an agent's name; write up to 64 letters, digits, '-', '_' or '.'")]
    Name(String),
    /// A secret is longer than that of any token.
    #[error("the token has {0} characters; this controller made no such token")]
    Secret(usize),
    /// A certificate request is too long.
    #[error("the certificate request has {0} bytes; {REQUEST} are taken")]
    Request(usize),
}

/// Whether it is a valid name of an agent, which is also in its certificate.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), BadMessage> {
    if found > most { Err(BadMessage::TooMany { what, found, most }) } else { Ok(()) }
}

fn check_name(name: &str) -> Result<(), BadMessage> {
    if is_name(name) { Ok(()) } else { Err(BadMessage::Name(escaped_to(name, NAME).to_string())) }
}

/// Checks an enrolment request, before any of it is used or logged.
pub(super) fn check_enrolment(ask: &wire::EnrolRequest) -> Result<(), BadMessage> {
    check_name(&ask.name)?;
    if ask.secret.len() > SECRET {
        return Err(BadMessage::Secret(ask.secret.len()));
    }
    check_request(&ask.request)
}

/// Checks a certificate request.
pub(super) fn check_request(request: &[u8]) -> Result<(), BadMessage> {
    if request.len() > REQUEST { Err(BadMessage::Request(request.len())) } else { Ok(()) }
}

/// Checks an agent's hello, and escapes its text.
pub(super) fn hello(mut hello: wire::Hello) -> Result<wire::Hello, BadMessage> {
    check_name(&hello.name)?;
    at_most("switches", hello.switches.len(), SWITCHES)?;
    shown(&mut hello.version, NAME);
    shown(&mut hello.machine, NAME);
    for switch in &mut hello.switches {
        at_most("ports of a switch", switch.ports.len(), PORTS)?;
        shown(&mut switch.name, NAME);
        shown(&mut switch.datapath, NAME);
        switch.ports.iter_mut().for_each(|p| shown(&mut p.interface, NAME));
    }
    Ok(hello)
}

/// Checks a report, and escapes its text.
pub(super) fn report(mut report: wire::Report) -> Result<wire::Report, BadMessage> {
    at_most("switches", report.switches.len(), SWITCHES)?;
    faults(&mut report.faults)?;
    for switch in &mut report.switches {
        at_most("ports of a switch", switch.ports.len(), PORTS)?;
        shown(&mut switch.name, NAME);
        if let Some(card) = &mut switch.card
            && (!card.outage_ms.is_finite() || card.outage_ms < 0.0)
        {
            card.outage_ms = 0.0;
        }
        for port in &mut switch.ports {
            at_most("classes of a port", port.classes.len(), CLASSES)?;
            at_most("hardware counters of a port", port.hardware.len(), COUNTERS)?;
            port.hardware.iter_mut().for_each(|c| shown(&mut c.name, NAME));
        }
    }
    Ok(report)
}

/// Checks the result of a desired state, and escapes its text.
pub(super) fn applied(mut applied: wire::Applied) -> Result<wire::Applied, BadMessage> {
    faults(&mut applied.faults)?;
    if !applied.took_ms.is_finite() || applied.took_ms < 0.0 {
        applied.took_ms = 0.0;
    }
    Ok(applied)
}

fn faults(list: &mut [wire::Fault]) -> Result<(), BadMessage> {
    at_most("faults", list.len(), FAULTS)?;
    for fault in list {
        shown(&mut fault.switch_name, NAME);
        shown(&mut fault.why, WHY);
    }
    Ok(())
}

fn shown(text: &mut String, most: usize) {
    let is_plain = text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if !is_plain {
        *text = escaped_to(text, most).to_string();
    }
}

/// Foreign text in a log line.
pub(super) fn line(text: &str) -> String {
    escaped(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str) -> bool {
        text.chars().all(|c| !c.is_control() && c != '\u{202e}')
    }

    #[test]
    fn what_is_too_much_is_refused_by_name() {
        let port = || wire::PortReport { number: 1, ..Default::default() };
        let of = |ports: Vec<wire::PortReport>| wire::Report {
            switches: vec![wire::SwitchReport { name: "edge1".into(), ports, card: None }],
            faults: Vec::new(),
        };
        let many = |n: usize| vec![port(); n];
        assert!(report(of(many(PORTS))).is_ok());
        let cases = [
            (report(of(many(PORTS + 1))).map(drop), "ports of a switch"),
            (
                report(of(vec![wire::PortReport { classes: vec![Default::default(); 65], ..port() }]))
                    .map(drop),
                "classes",
            ),
            (
                report(of(vec![wire::PortReport {
                    hardware: vec![Default::default(); COUNTERS + 1],
                    ..port()
                }]))
                .map(drop),
                "hardware counters",
            ),
            (
                applied(wire::Applied { faults: vec![Default::default(); FAULTS + 1], ..Default::default() })
                    .map(drop),
                "faults",
            ),
            (hello(wire::Hello { name: "a b".into(), ..Default::default() }).map(drop), "agent's name"),
            (
                check_enrolment(&wire::EnrolRequest { name: "n".repeat(65), ..Default::default() }),
                "agent's name",
            ),
            (
                check_enrolment(&wire::EnrolRequest {
                    name: "mini1".into(),
                    secret: "s".repeat(200),
                    ..Default::default()
                }),
                "200 characters",
            ),
            (
                check_enrolment(&wire::EnrolRequest {
                    name: "mini1".into(),
                    request: vec![0; REQUEST + 1],
                    ..Default::default()
                }),
                "certificate request",
            ),
        ];
        for (case, word) in cases {
            let said = case.expect_err(word).to_string();
            assert!(said.contains(word) && said.len() < 300, "{said}");
        }
    }

    proptest! {
        #[test]
        fn whatever_an_agent_says_is_shown_plainly(name in ".{0,80}", text in ".{0,200}", number in any::<f64>()) {
            let said = hello(wire::Hello {
                name: "mini1".into(), version: text.clone(), machine: text.clone(),
                switches: vec![wire::Presented { name, datapath: text.clone(), ports: Vec::new() }],
                generation: 0,
            }).expect("not too much");
            prop_assert!(plain(&said.version) && plain(&said.machine) && plain(&said.switches[0].name));
            let fault = wire::Fault { switch_name: text.clone(), port: 0, why: text };
            let said = applied(wire::Applied { faults: vec![fault], took_ms: number, ..Default::default() }).expect("one");
            prop_assert!(plain(&said.faults[0].why) && plain(&said.faults[0].switch_name) && said.took_ms >= 0.0);
        }

        #[test]
        fn only_what_can_be_written_down_is_a_name(name in ".{0,70}") {
            prop_assert!(!is_name(&name) || name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
        }
    }
}
