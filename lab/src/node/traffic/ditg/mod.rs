//! D-ITG (Debian's package d-itg, 2.8.1): Poisson packets at the flow's rate, and the profiles of
//! VoIP, Telnet, DNS and games, which have rates of their own.
//!
//! A receiver (ITGRecv) for each flow; a sender (ITGSend) that runs in sessions, since a log is
//! whole when its session has ended. The sender names the log, on the receiver's machine: delay and
//! jitter are in the receiver's alone. When ITGRecv says that a flow is finished, ITGDec decodes
//! its log, which is then removed.
//!
//! D-ITG measures delay by the wall clocks of both ends.

mod decode;

use super::external::{Program, Run, supervise};
use super::measured::{Session, Shared, with};
use super::options::{OptionFault, Reader};
use super::udp::payload;
use super::{FlowSpec, Receiver, Sender, TrafficGenerator};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tandem_model::ToolOptions;
use tokio::task::JoinHandle;

pub(super) const SEND: Program = Program { name: "ITGSend", package: "d-itg" };
const RECEIVE: Program = Program { name: "ITGRecv", package: "d-itg" };
const DECODE: Program = Program { name: "ITGDec", package: "d-itg" };

/// What D-ITG emulates.
pub(super) struct Ditg {
    name: &'static str,
    about: &'static str,
    profile: Profile,
}

enum Profile {
    /// Packets of the flow's size, at its rate.
    Poisson,
    /// An application: the words that stand for it at the end of the command.
    Application(&'static [&'static str]),
}

pub(super) const POISSON: Ditg = Ditg {
    name: "ditg-poisson",
    about: "D-ITG: UDP packets as a Poisson process: session (time, 5 s)",
    profile: Profile::Poisson,
};
pub(super) const VOIP: Ditg = Ditg {
    name: "ditg-voip",
    about: "D-ITG: a telephone call (G.711, RTP), at its own rate: session",
    profile: Profile::Application(&["VoIP", "-x", "G.711.2", "-h", "RTP", "-VAD"]),
};
pub(super) const TELNET: Ditg = Ditg {
    name: "ditg-telnet",
    about: "D-ITG: a Telnet session over TCP, at its own rate: session",
    profile: Profile::Application(&["Telnet"]),
};
pub(super) const DNS: Ditg = Ditg {
    name: "ditg-dns",
    about: "D-ITG: DNS, at its own rate: session",
    profile: Profile::Application(&["DNS"]),
};
pub(super) const CSA: Ditg = Ditg {
    name: "ditg-csa",
    about: "D-ITG: a Counter-Strike player, at its own rate: session",
    profile: Profile::Application(&["CSa"]),
};
pub(super) const QUAKE3: Ditg = Ditg {
    name: "ditg-quake3",
    about: "D-ITG: a Quake 3 player, at its own rate: session",
    profile: Profile::Application(&["Quake3"]),
};

fn session(options: &ToolOptions) -> Result<Duration, OptionFault> {
    let mut o = Reader::new(options);
    let second = Duration::from_secs(1);
    let session = o.duration("session", second * 5, second, second * 3600);
    o.finish(session)
}

impl TrafficGenerator for Ditg {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn program(&self) -> Option<Program> {
        Some(SEND)
    }

    fn check(&self, options: &ToolOptions) -> Result<(), OptionFault> {
        session(options).map(drop)
    }

    fn receive(&self, flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        RECEIVE.find()?;
        DECODE.find()?;
        with(&end.measured, |m| m.own_clock = true);
        let run = Recv {
            signals: signals(end.address.port()),
            logs: Logs { folder: end.folder.to_owned(), prefix: prefix(flow) },
            shared: end.measured.clone(),
            counted: Counted::new(),
            decoding: None,
        };
        Ok(tokio::spawn(supervise(run, "ITGRecv", end.place.duplicate()?, end.stop, end.measured)))
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        SEND.find()?;
        let session = session(&flow.options)?;
        let run = Send {
            there: end.there,
            words: self.words(flow),
            session,
            logs: Logs { folder: end.folder.to_owned(), prefix: prefix(flow) },
            next: 0,
            seed: flow.seed.wrapping_add(flow.id),
        };
        Ok(tokio::spawn(supervise(run, "ITGSend", end.place.duplicate()?, end.stop, end.measured)))
    }
}

/// The port by which sender and receiver speak of flows: each flow has a receiver of its own, in a
/// range that no flow's own port is in.
fn signals(port: u16) -> u16 {
    // Flows have 40,000 ports from 20,000 on; those left are fewer, and two receivers of one node
    // that collide are flows 5,000 apart.
    60_000 + port % 5_000
}

fn prefix(flow: &FlowSpec) -> String {
    format!("ditg-{}-{}-", flow.id, flow.addresses.1)
}

impl Ditg {
    /// The end of the sender's command: what is sent.
    fn words(&self, flow: &FlowSpec) -> Vec<String> {
        match self.profile {
            Profile::Application(words) => words.iter().map(|w| (*w).to_owned()).collect(),
            Profile::Poisson => {
                let size = payload(flow);
                let packet = super::udp::packet_time(flow).as_secs_f64().max(1e-6);
                // Packets a second: it takes whole ones and fractions.
                vec!["-O".into(), format!("{:.3}", 1.0 / packet), "-c".into(), size.to_string()]
            }
        }
    }
}

/// The logs of a flow, on the receiver's machine.
#[derive(Clone)]
struct Logs {
    folder: PathBuf,
    prefix: String,
}

impl Logs {
    fn nth(&self, n: u64) -> PathBuf {
        self.folder.join(format!("{}{n}.log", self.prefix))
    }

    /// By their numbers.
    fn all(&self) -> BTreeMap<u64, PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let number = |path: &Path| -> Option<u64> {
            path.file_name()?.to_str()?.strip_prefix(&self.prefix)?.strip_suffix(".log")?.parse().ok()
        };
        entries.map(|e| e.path()).filter_map(|path| Some((number(&path)?, path))).collect()
    }
}

struct Send {
    there: SocketAddr,
    words: Vec<String>,
    session: Duration,
    logs: Logs,
    next: u64,
    seed: u64,
}

impl Run for Send {
    fn command(&mut self) -> anyhow::Result<Command> {
        self.next += 1;
        let mut command = Command::new(SEND.find()?);
        command.args(["-a", &self.there.ip().to_string(), "-rp", &self.there.port().to_string()]);
        command.args(["-Sdp", &signals(self.there.port()).to_string()]);
        command.args(["-t", &self.session.as_millis().to_string()]);
        // A number from 0 to 1, another one for each session.
        let seed = self.seed.wrapping_add(self.next).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
        command.args(["-s", &format!("{:.9}", (seed as f64 / (1u64 << 53) as f64).clamp(1e-9, 1.0 - 1e-9))]);
        command.arg("-x").arg(self.logs.nth(self.next)).args(&self.words);
        Ok(command)
    }

    fn line(&mut self, _: &str) {}
}

struct Recv {
    signals: u16,
    logs: Logs,
    shared: Shared,
    counted: Counted,
    decoding: Option<std::thread::JoinHandle<Counted>>,
}

impl Run for Recv {
    fn command(&mut self) -> anyhow::Result<Command> {
        let mut command = Command::new(RECEIVE.find()?);
        command.args(["-Sp", &self.signals.to_string()]);
        Ok(command)
    }

    fn line(&mut self, line: &str) {
        if line.starts_with("Finish on") {
            self.decode_soon();
        }
    }

    fn ended(&mut self, status: std::process::ExitStatus, said: &str) -> Result<(), String> {
        // What is left of a session that was cut short.
        self.decode_soon();
        self.wait();
        // It serves until it is ended: its end is always bad.
        Err(super::external::last_words(status, said))
    }
}

/// What was counted of each log that may still grow, by its number.
type Counted = BTreeMap<u64, Session>;

impl Recv {
    /// Decodes beside the reading of lines, which must not wait for it.
    fn decode_soon(&mut self) {
        self.wait();
        let (logs, shared) = (self.logs.clone(), self.shared.clone());
        let mut counted = std::mem::take(&mut self.counted);
        self.decoding = Some(std::thread::spawn(move || {
            decode_all(&logs, &shared, &mut counted);
            counted
        }));
    }

    fn wait(&mut self) {
        if let Some(Ok(counted)) = self.decoding.take().map(std::thread::JoinHandle::join) {
            self.counted = counted;
        }
    }
}

/// Adds what the logs say beyond what was counted. The last one may be that of a session that has
/// just begun: it is decoded again the next time; those before it are removed.
fn decode_all(logs: &Logs, shared: &Shared, counted: &mut Counted) {
    let all = logs.all();
    let last = all.last_key_value().map(|(n, _)| *n);
    for (n, log) in all {
        let Ok(program) = DECODE.find() else { return };
        let decoded = Command::new(program).arg(&log).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let output = decoded.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let before = counted.get(&n).copied().unwrap_or_default();
        // A log without packets has no totals.
        if let Some(total) = decode::totals(&output).filter(|total| total.received > before.received) {
            with(shared, |m| m.add(&total.since(&before)));
            counted.insert(n, total);
        }
        if Some(n) != last {
            let _ = std::fs::remove_file(&log);
            counted.remove(&n);
        }
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        self.wait();
        for log in self.logs.all().values() {
            let _ = std::fs::remove_file(log);
        }
    }
}
