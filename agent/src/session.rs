//! The session with the controller: it sends the host's capabilities, applies desired states, and
//! sends reports. When the connection ends it connects again, after a growing, randomised pause.
//! The applied state stays.

use crate::config::{Address, Config};
use crate::control::{Shared, note, note_applied};
use crate::datapath::netfpga::{CardState, DataPath};
use crate::datapath::{Adopt, PortReport, QueueSelection, SwitchCapabilities, SwitchReport};
use crate::desired::{Desired, Fault};
use crate::peer_lines::PeerLines;
use crate::worker::{Ended, Reported, Worker};
use rand::RngExt;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;
use tandem_agent_protocol::agent as wire;
use tandem_agent_protocol::agent::agents_client::AgentsClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// The pause after the first failure; it doubles up to `LONGEST`.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(15);
/// How long the controller may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Reports that may wait for a controller that does not read; newer ones are dropped then.
const WAITING: usize = 4;
/// A controller that is silent and does not answer a ping counts as gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Runs until the worker has ended, with or without a controller.
pub async fn run(config: &Config, worker: &Worker, status: &Shared) -> Ended {
    tokio::select! {
        ended = worker.ended() => ended,
        never = attach(config, worker, status) => match never {},
    }
}

async fn attach(config: &Config, worker: &Worker, status: &Shared) -> Infallible {
    let mut pause = FIRST;
    let mut lines = PeerLines::default();
    let mut said = String::new();
    loop {
        let start = tokio::time::Instant::now();
        let why = match session(config, worker, status, &mut lines).await {
            Ok(()) => "the controller has closed the connection".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        note(status, |s| {
            s.connected = false;
            s.trouble.clone_from(&why);
        });
        if why != said {
            lines.warn(|| format!("{}: {why}; what was applied stays, trying again", config.controller));
            said = why;
        }
        if start.elapsed() > LONGEST {
            pause = FIRST;
        }
        // Half of the pause is random, so that a hundred agents do not connect at the same moment.
        tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.5..1.0))).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn connect(config: &Config) -> anyhow::Result<Channel> {
    match &config.controller {
        Address::Unix(path) => {
            let (path, whose) = (path.clone(), config.clone());
            // The URI is not used: the connector has the address.
            let endpoint = Endpoint::from_static("http://controller")
                .connect_timeout(CONNECT)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .keep_alive_while_idle(true);
            let connector = tower::service_fn(move |_: Uri| {
                let (path, whose) = (path.clone(), whose.clone());
                async move {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    // The controller's orders are executed as root, so that it has to run as root
                    // or as this agent's user.
                    crate::local_socket::check_listener(&whose, &stream)?;
                    Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
                }
            });
            endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|e| crate::enrollment::explained(config, &e))
        }
        Address::Tcp(address) => crate::enrollment::channel(config, address, CONNECT, KEEP_ALIVE).await,
    }
}

async fn session(
    config: &Config,
    worker: &Worker,
    status: &Shared,
    lines: &mut PeerLines,
) -> anyhow::Result<()> {
    let channel = connect(config).await?;
    let mut client = AgentsClient::new(channel.clone());
    let (out, queue) = mpsc::channel(WAITING);
    let presented = worker.capabilities().await?;
    let generation = status.lock().map_or(0, |s| s.generation);
    out.send(from_agent(wire::from_agent::Message::Hello(hello(config, &presented, generation)))).await?;
    let mut orders = client
        .attach(ReceiverStream::new(queue))
        .await
        .map_err(|s| crate::enrollment::refused(config, &s))?
        .into_inner();
    note(status, |s| {
        s.connected = true;
        s.trouble.clear();
    });
    lines.info(|| format!("connected to the controller at {}", config.controller));
    let mut reporter =
        Reporter { period: Duration::from_secs(1), told: BTreeSet::new(), wanted: Desired::default() };
    let mut tick = tokio::time::interval(reporter.period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut renewal = tokio::time::interval(crate::enrollment::RENEWAL_CHECK);
    loop {
        tokio::select! {
            order = orders.message() => {
                let Some(order) = order.map_err(|s| crate::enrollment::refused(config, &s))? else { return Ok(()) };
                let Some(wire::to_agent::Message::Desired(desired)) = order.message else { continue };
                let period = Duration::from_millis(desired.report_period_ms.clamp(100, 3_600_000).into());
                let applied = apply(&desired, config, worker, status, &mut reporter, lines).await?;
                out.send(from_agent(wire::from_agent::Message::Applied(applied))).await?;
                if period != reporter.period {
                    reporter.period = period;
                    tick = tokio::time::interval(period);
                    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                }
            }
            _ = tick.tick() => {
                // The controller does not read: a report can be dropped, as counters are totals.
                // Notices wait in the worker.
                let place = match out.try_reserve() {
                    Ok(place) => place,
                    Err(mpsc::error::TrySendError::Full(())) => continue,
                    Err(mpsc::error::TrySendError::Closed(())) => return Ok(()),
                };
                let report = reporter.report(&worker.report().await?);
                place.send(from_agent(wire::from_agent::Message::Report(report)));
            }
            _ = renewal.tick() => crate::enrollment::renew_if_due(config, &channel).await,
        }
    }
}

async fn apply(
    desired: &wire::Desired,
    config: &Config,
    worker: &Worker,
    status: &Shared,
    reporter: &mut Reporter,
    lines: &mut PeerLines,
) -> anyhow::Result<wire::Applied> {
    let (wanted, mut faults) = Desired::from_wire(desired, config);
    reporter.wanted = wanted.clone();
    let (outcome, took) = worker.apply(wanted, Adopt::No).await?;
    faults.extend(outcome.faults);
    for fault in &faults {
        lines.warn(|| fault.to_string());
    }
    let took_ms = took.as_secs_f64() * 1e3;
    let (changes, count) = (outcome.changes, faults.len());
    lines.info(|| {
        format!("generation {}: {changes} changes in {took_ms:.0} ms, {count} faults", desired.generation)
    });
    note_applied(status, desired.generation, &faults, took_ms, outcome.changes);
    Ok(wire::Applied {
        generation: desired.generation,
        faults: faults.into_iter().map(Into::into).collect(),
        took_ms,
        changes: u32::try_from(outcome.changes).unwrap_or(u32::MAX),
    })
}

fn from_agent(message: wire::from_agent::Message) -> wire::FromAgent {
    wire::FromAgent { message: Some(message) }
}

fn hello(config: &Config, presented: &[SwitchCapabilities], generation: u64) -> wire::Hello {
    let selection = |s: QueueSelection| match s {
        QueueSelection::Queue => wire::QueueSelection::Queue,
        QueueSelection::Dscp => wire::QueueSelection::Dscp,
        QueueSelection::RateLimiter => wire::QueueSelection::RateLimiter,
        QueueSelection::Mark => wire::QueueSelection::Mark,
        QueueSelection::None => wire::QueueSelection::None,
    };
    wire::Hello {
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default(),
        generation,
        switches: presented
            .iter()
            .map(|s| wire::Presented {
                name: s.name.clone(),
                datapath: s.datapath.clone(),
                ports: s
                    .ports
                    .iter()
                    .map(|p| wire::PresentedPort {
                        number: p.number,
                        interface: p.interface.clone(),
                        selection: selection(p.selection).into(),
                        speed_bit_per_s: p.speed.unwrap_or(0),
                    })
                    .collect(),
            })
            .collect(),
    }
}

/// Makes reports for the controller, and logs each new fault once.
struct Reporter {
    period: Duration,
    wanted: Desired,
    told: BTreeSet<String>,
}

impl Reporter {
    fn report(&mut self, reported: &Reported) -> wire::Report {
        let switches = &reported.switches[..];
        let seen = self.trouble(switches);
        let texts: BTreeSet<String> = seen.iter().map(ToString::to_string).collect();
        let new: Vec<Fault> = seen.into_iter().filter(|f| !self.told.contains(&f.to_string())).collect();
        new.iter().for_each(|f| tracing::warn!("{f}"));
        // The worker has logged its notices already.
        let faults = reported.notices.iter().cloned().chain(new).map(Into::into).collect();
        self.told = texts;
        wire::Report {
            switches: switches
                .iter()
                .map(|s| wire::SwitchReport {
                    name: s.name.clone(),
                    ports: s.ports.iter().map(port).collect(),
                    card: s.card.map(card),
                })
                .collect(),
            faults,
        }
    }

    /// Ports whose speed is not the configured one: a port that negotiated a lower speed is hard to
    /// find if it is not reported.
    fn trouble(&self, switches: &[SwitchReport]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (switch, wanted) in
            switches.iter().filter_map(|s| Some((s, self.wanted.switches.iter().find(|w| w.name == s.name)?)))
        {
            for port in &switch.ports {
                let at = Some(port.number);
                let declared = wanted.ports.iter().find(|p| p.number == port.number).and_then(|p| p.rate);
                if let (Some(speed), Some(rate)) = (port.speed, declared)
                    && speed < rate.0
                {
                    let why = format!(
                        "{} has negotiated {} Mbit/s, the site file says {rate}; look at the cable, the other end's settings, or `ethtool {}`",
                        port.interface,
                        speed / 1_000_000,
                        port.interface
                    );
                    faults.push(Fault::new(&switch.name, at, why));
                }
                if port.half_duplex {
                    let cause = if port.by_hand {
                        "was set by hand"
                    } else {
                        "is what the other end offers, or does not negotiate"
                    };
                    let why = format!(
                        "{} is half duplex, which {cause}: it cannot send and receive at once. Let both ends negotiate (`ethtool -s {} autoneg on`), or set both alike",
                        port.interface, port.interface
                    );
                    faults.push(Fault::new(&switch.name, at, why));
                }
            }
        }
        faults
    }
}

fn card(state: CardState) -> wire::CardReport {
    use wire::card_report::Path;
    let path = match state.path {
        DataPath::Working => Path::Forwards,
        DataPath::Stopped => Path::Stopped,
        DataPath::Recovering => Path::Recovering,
        DataPath::Unreachable => Path::Unreachable,
    };
    wire::CardReport {
        path: path.into(),
        outages: state.outages,
        outage_ms: state.outage.as_secs_f64() * 1e3,
    }
}

fn port(p: &PortReport) -> wire::PortReport {
    wire::PortReport {
        number: p.number,
        up: p.up,
        speed_bit_per_s: p.speed.unwrap_or(0),
        half_duplex: p.half_duplex,
        classes: p
            .classes
            .iter()
            .map(|c| wire::ClassReport {
                bytes: c.bytes,
                packets: c.packets,
                drops: c.drops,
                queued: c.queued,
            })
            .collect(),
        rx_bytes: on_the_wire(p.counters.rx_bytes),
        tx_bytes: on_the_wire(p.counters.tx_bytes),
        rx_packets: on_the_wire(p.counters.rx_packets),
        tx_packets: on_the_wire(p.counters.tx_packets),
        rx_dropped: on_the_wire(p.counters.rx_dropped),
        tx_dropped: on_the_wire(p.counters.tx_dropped),
        rx_errors: on_the_wire(p.counters.rx_errors),
        tx_errors: on_the_wire(p.counters.tx_errors),
        hardware: p
            .hardware
            .iter()
            .map(|(name, value)| wire::Counter { name: name.clone(), value: *value })
            .collect(),
        rx_frame_errors: p.counters.rx_frame_errors,
        rx_overrun_errors: p.counters.rx_overrun_errors,
        rx_crc_errors: p.counters.rx_crc_errors,
        collisions: p.counters.collisions,
    }
}

/// Fields of the first release have no absent value; all ones mean absent.
fn on_the_wire(counter: Option<u64>) -> u64 {
    counter.unwrap_or(tandem_model::NOT_COUNTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::{idle, panic};

    #[tokio::test]
    async fn an_agent_whose_worker_has_panicked_ends_though_no_controller_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, worker) = idle(folder.path());
        let status = Shared::default();
        let running = run(&config, &worker, &status);
        tokio::pin!(running);
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut running).await.is_err(), "it runs");
        panic(&worker);
        let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
        assert!(matches!(ended, Ok(Ended::Over)));
    }
}
