//! iperf3 (Debian's package iperf3, 3.12): a server for each flow, and a client that runs in
//! sessions, since iperf3 gives its figures at a session's end only.
//!
//! Figures are the server's: it writes a JSON document for each session, also for one that is
//! interrupted.

use super::external::{Program, Run, supervise};
use super::measured::{Session, Shared, with};
use super::options::{OptionFault, Reader};
use super::tcp::SEGMENT;
use super::udp::payload;
use super::{ETHERNET, FlowSpec, Receiver, Sender, TrafficGenerator};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tandem_model::ToolOptions;
use tokio::task::JoinHandle;

/// The tool `iperf3`.
pub(super) struct Iperf3;

/// Its program.
pub(super) const IPERF3: Program = Program { name: "iperf3", package: "iperf3" };
/// Bytes of a session's document; a second of it is some 500 bytes.
const DOCUMENT: usize = 4 << 20;
/// IPv4 and UDP headers, in bytes.
const HEADERS: u64 = 28;

struct Options {
    /// UDP or TCP, where the site does not mix them.
    udp: bool,
    session: Duration,
}

impl Options {
    fn read(options: &ToolOptions) -> Result<Options, OptionFault> {
        let mut o = Reader::new(options);
        let second = Duration::from_secs(1);
        let udp = o.word("transport", &[("tcp", false), ("udp", true)]).unwrap_or(false);
        let session = o.duration("session", second * 5, second, second * 3600);
        o.finish(Options { udp, session })
    }
}

impl TrafficGenerator for Iperf3 {
    fn name(&self) -> &'static str {
        "iperf3"
    }

    fn about(&self) -> &'static str {
        "iperf3: transport (tcp, udp; [traffic] udp_share mixes them), session (time, 5 s)"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn says_delay(&self) -> bool {
        false
    }

    fn program(&self) -> Option<Program> {
        Some(IPERF3)
    }

    fn check(&self, options: &ToolOptions) -> Result<(), OptionFault> {
        Options::read(options).map(drop)
    }

    fn receive(&self, _: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        let mut command = Command::new(IPERF3.find()?);
        command.args(["--server", "--json", "--port", &end.address.port().to_string()]);
        let run = Server {
            command: Some(command),
            port: end.address.port(),
            text: String::new(),
            shared: end.measured.clone(),
        };
        Ok(tokio::spawn(supervise(run, "iperf3 --server", end.place.duplicate()?, end.stop, end.measured)))
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        let o = Options::read(&flow.options)?;
        IPERF3.find()?;
        let udp = flow.udp.unwrap_or(o.udp);
        let run = Client {
            there: end.there,
            udp,
            rate: application_rate(flow, udp),
            payload: payload(flow),
            session: o.session,
            text: String::new(),
        };
        Ok(tokio::spawn(supervise(run, "iperf3", end.place.duplicate()?, end.stop, end.measured)))
    }
}

/// What iperf3 is to be told, which counts payload: the flow's rate is that of frames.
fn application_rate(flow: &FlowSpec, udp: bool) -> u64 {
    let part = if udp {
        let payload = payload(flow) as f64;
        payload / (payload + (HEADERS + ETHERNET) as f64)
    } else {
        SEGMENT.0 / SEGMENT.1
    };
    ((flow.rate as f64 * part) as u64).max(1)
}

struct Server {
    command: Option<Command>,
    port: u16,
    /// Of the document that is being written.
    text: String,
    shared: Shared,
}

impl Run for Server {
    fn command(&mut self) -> anyhow::Result<Command> {
        self.text.clear();
        if let Some(command) = self.command.take() {
            return Ok(command);
        }
        let mut command = Command::new(IPERF3.find()?);
        command.args(["--server", "--json", "--port", &self.port.to_string()]);
        Ok(command)
    }

    fn line(&mut self, line: &str) {
        if self.text.len() < DOCUMENT {
            self.text.push_str(line);
        }
        // Documents are indented: this is the end of one, and nothing else is.
        if line == "}" {
            let document = std::mem::take(&mut self.text);
            if let Some(session) = session(&document) {
                with(&self.shared, |m| m.add(&session));
            }
        }
    }
}

/// What a server's document says of a session; `None` for one in which nothing came.
fn session(document: &str) -> Option<Session> {
    let document: Value = serde_json::from_str(document).ok()?;
    let end = document.get("end")?;
    let received = end.get("sum_received")?;
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64).unwrap_or(0.0).max(0.0);
    let bytes = number(received, "bytes");
    let packets = number(received, "packets");
    let lost = number(received, "lost_packets").min(packets);
    let streams = end.get("streams").and_then(Value::as_array);
    let reordered =
        streams.into_iter().flatten().filter_map(|s| s.get("udp")).map(|udp| number(udp, "out_of_order"));
    (bytes > 0.0 || packets > 0.0).then(|| Session {
        sent: packets as u64,
        received: (packets - lost) as u64,
        bytes: bytes as u64,
        reordered: reordered.sum::<f64>() as u64,
        delay: 0.0,
        jitter: number(received, "jitter_ms") / 1e3,
        seconds: number(received, "seconds"),
    })
}

struct Client {
    there: SocketAddr,
    udp: bool,
    rate: u64,
    payload: usize,
    session: Duration,
    text: String,
}

impl Run for Client {
    fn command(&mut self) -> anyhow::Result<Command> {
        self.text.clear();
        let mut command = Command::new(IPERF3.find()?);
        command.args(["--client", &self.there.ip().to_string(), "--port", &self.there.port().to_string()]);
        command.args(["--json", "--interval", "0", "--connect-timeout", "3000"]);
        command.args(["--bitrate", &self.rate.to_string(), "--time", &self.session.as_secs().to_string()]);
        if self.udp {
            command.args(["--udp", "--length", &self.payload.to_string()]);
        }
        Ok(command)
    }

    fn line(&mut self, line: &str) {
        if self.text.len() < DOCUMENT {
            self.text.push_str(line);
        }
    }

    /// What is wrong stands in its document, not on standard error.
    fn ended(&mut self, status: std::process::ExitStatus, said: &str) -> Result<(), String> {
        let document: Option<Value> = serde_json::from_str(&self.text).ok();
        let error = document.as_ref().and_then(|d| d.get("error")).and_then(Value::as_str);
        match error {
            None if status.success() => Ok(()),
            error => Err(super::external::last_words(status, error.unwrap_or(said))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As iperf3 3.12 writes it, shortened to what is read.
    #[test]
    fn a_servers_document_is_read_for_udp_and_for_tcp() {
        let udp = r#"{"end": {"streams": [{"udp": {"packets": 911, "lost_packets": 11, "out_of_order": 2}}],
            "sum": {"bytes": 0}, "sum_received": {"seconds": 2.000277, "bytes": 1234800,
            "jitter_ms": 0.022868852159437143, "lost_packets": 11, "packets": 911, "sender": false}}}"#;
        let session_ = session(udp).expect("a session");
        assert_eq!(
            (session_.sent, session_.received, session_.bytes, session_.reordered),
            (911, 900, 1_234_800, 2)
        );
        assert!((session_.jitter - 2.286_885e-5).abs() < 1e-9);
        let tcp = r#"{"end": {"streams": [{"receiver": {"bytes": 4194304}}],
            "sum_received": {"start": 0, "end": 6.669686, "seconds": 6.669686, "bytes": 4194304}},
            "error": "interrupt - the server has terminated"}"#;
        let session_ = session(tcp).expect("a session");
        assert_eq!((session_.sent, session_.bytes, session_.seconds), (0, 4_194_304, 6.669_686));
        for other in ["", "{}", "[1]", r#"{"end": {}}"#, r#"{"end": {"sum_received": {"bytes": 0}}}"#] {
            assert_eq!(session(other), None, "{other}");
        }
    }
}
