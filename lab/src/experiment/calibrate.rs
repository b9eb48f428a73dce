//! `tandem-lab calibrate`: what each link does beside what the site file declares.
//!
//! 1. Between every server and the gateways, and from server to server, a thin flow shows which way
//!    packets take (by the switches' own counters), how long they take and whether any is lost.
//! 2. Each of these ways is then filled: what arrives is the rate of its narrowest link.
//! 3. A link inside that one server cannot fill is filled by several.
//!
//! What is measured is a way, not a link. So a delay is at most that of the fastest way over the
//! link; and a rate below the declared one is a link's own only where no other link of its ways
//! could have been the narrow one, else it is a lower bound. Senders hold themselves to the
//! declared rate of their first link, as they do in every experiment: more than that is not looked
//! for.

use crate::control::messages::{FlowReport, LabRequest, LabResponse};
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tandem_model::{BitRate, Endpoint, Hop, LinkId, Site};

/// Above this UDP at a rate is not sure to be generated; TCP finds the rate by itself.
const UDP_LIMIT: u64 = 200_000_000;
/// Of an IP packet of 1400 bytes (UDP) and 1500 bytes (TCP with timestamps): bytes of the frame for
/// a byte of payload.
const FRAME: [f64; 2] = [1414.0 / 1372.0, 1514.0 / 1448.0];
/// The thin flow's part of the narrowest declared rate.
const THIN: f64 = 0.2;
/// Flow ids from here on.
const FLOWS: u64 = 7_000;
/// How long counters may take to show what has passed.
const COUNTERS: Duration = Duration::from_secs(10);

/// How it is done.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// Percent by which a link may differ from what is declared.
    #[arg(long, default_value_t = 10.0, value_parser = crate::cli::numbers::amount)]
    pub tolerance: f64,
    /// Seconds of each flow.
    #[arg(long, default_value_t = 1.5, value_parser = crate::cli::numbers::seconds)]
    pub seconds: f64,
}

/// The world to be measured: a running lab and its controller.
pub struct Lab<'a> {
    /// The site, as both have it.
    pub site: &'a Site,
    /// Asks the lab.
    pub ask: &'a dyn Fn(&LabRequest) -> anyhow::Result<LabResponse>,
    /// `tandem --json stats --now`.
    pub statistics: &'a dyn Fn() -> anyhow::Result<Value>,
}

type End = (String, Ipv4Addr);

/// A way through the network, as it was found.
#[derive(Debug, Clone)]
struct Way {
    from: End,
    to: End,
    hops: BTreeSet<Hop>,
    /// One way, milliseconds.
    delay_ms: f64,
    /// Percent.
    loss: f64,
    /// Declared, the narrowest of its links.
    narrowest: u64,
}

/// What became of a direction of a link.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// `edge1.1 -> agg1.2`.
    pub direction: String,
    /// Declared, bit/s.
    pub declared: u64,
    /// Seen, bit/s; `None` where no way leads over it.
    pub rate: Option<f64>,
    /// True when the rate is the link's own, else it has that much at least.
    pub own: bool,
    /// Declared, milliseconds.
    pub declared_delay_ms: f64,
    /// The delay is at most this, milliseconds.
    pub delay_ms: Option<f64>,
    /// Percent lost at most.
    pub loss: Option<f64>,
    /// Percent declared.
    pub declared_loss: f64,
}

impl Finding {
    /// What is to be said of it.
    pub fn verdict(&self, tolerance: f64) -> &'static str {
        let part = tolerance / 100.0;
        let Some(rate) = self.rate else { return "not reached" };
        let (declared, low) = (self.declared as f64, self.declared as f64 * (1.0 - part));
        if rate < low && self.own || rate > declared * (1.0 + part) {
            return "DIFFERS in rate";
        }
        // What the packet's own length and the hosts take is not the link's: a millisecond is
        // allowed.
        if self.delay_ms.is_some_and(|d| d < self.declared_delay_ms * (1.0 - part) - 1.0) {
            return "DIFFERS in delay";
        }
        if self.loss.is_some_and(|l| l + 1.0 < self.declared_loss) {
            return "DIFFERS in loss";
        }
        if rate < low { "at least so much" } else { "as declared" }
    }
}

impl Lab<'_> {
    fn declared(&self, hop: Hop) -> u64 {
        self.site.topology.link(hop.link).map_or(0, |l| l.cfg.rate.0)
    }

    /// Bytes that have gone each way over each link, as its switch counts them.
    fn counted(&self) -> anyhow::Result<BTreeMap<Hop, u64>> {
        let statistics = (self.statistics)()?;
        let mut ports: BTreeMap<(String, u64), (u64, u64)> = BTreeMap::new();
        for switch in statistics.as_array().context("the controller lists no switches")? {
            for port in switch["ports"].as_array().into_iter().flatten() {
                let name = switch["name"].as_str().unwrap_or_default().to_owned();
                let count = |key: &str| port[key].as_u64().unwrap_or(0);
                ports.insert((name, count("port")), (count("rx_bytes"), count("tx_bytes")));
            }
        }
        let t = &self.site.topology;
        let of = |end: Endpoint| ports.get(&(t.name(end.node).to_owned(), u64::from(end.port.0)));
        let mut counted = BTreeMap::new();
        for (n, link) in (0u32..).zip(&t.links) {
            for (down, from, to) in [(true, link.a, link.b), (false, link.b, link.a)] {
                let sent = of(from).map(|c| c.1).or(of(to).map(|c| c.0));
                counted.insert(Hop { link: LinkId(n), down }, sent.unwrap_or(0));
            }
        }
        Ok(counted)
    }

    /// Sends along all `ways` at once, at `rates`, for a while; what arrived.
    fn send(&self, pairs: &[(&End, &End)], rates: &[u64], seconds: f64) -> anyhow::Result<Vec<FlowReport>> {
        for (id, ((from, to), rate)) in (FLOWS..).zip(pairs.iter().zip(rates)) {
            let from = (*from).clone();
            let to = (*to).clone();
            let tcp = *rate > UDP_LIMIT;
            (self.ask)(&LabRequest::StartFlow { id, from, to, rate: *rate, tcp, tool: None })?;
        }
        std::thread::sleep(Duration::from_secs_f64(seconds));
        for (id, _) in (FLOWS..).zip(pairs) {
            (self.ask)(&LabRequest::StopFlow { id })?;
        }
        let LabResponse::Flows { flows } = (self.ask)(&LabRequest::Flows)? else {
            bail!("the lab answered something else")
        };
        (FLOWS..)
            .zip(pairs)
            .map(|(id, _)| {
                flows
                    .iter()
                    .find(|f| f.id == id)
                    .cloned()
                    .context("a flow of the calibration is not reported")
            })
            .collect()
    }

    /// Step 1 for one pair; `None` when nothing arrives.
    fn find(&self, from: &End, to: &End, seconds: f64) -> anyhow::Result<Option<Way>> {
        let rate = |name: &str| -> u64 {
            let node = self.site.topology.by_name(name);
            let links = node.map(|n| self.site.topology.ports(n)).unwrap_or_default();
            links.iter().filter_map(|(_, l)| Some(self.site.topology.link(*l)?.cfg.rate.0)).min().unwrap_or(1)
        };
        let thin = ((rate(&from.0).min(rate(&to.0)) as f64 * THIN) as u64).clamp(1, UDP_LIMIT / 4);
        let before = self.counted()?;
        let flow = self.send(&[(from, to)], &[thin], seconds)?.pop().context("no flow")?;
        if flow.received == 0 {
            return Ok(None);
        }
        // The frames that arrived have passed every port on the way; nothing else sends so much.
        let enough = (flow.bytes as f64 * FRAME[0] * 0.8) as u64;
        let start = Instant::now();
        let hops = loop {
            let now = self.counted()?;
            let grown = |h: &Hop| {
                now.get(h).copied().unwrap_or(0).saturating_sub(before.get(h).copied().unwrap_or(0))
            };
            let hops: BTreeSet<Hop> = now.keys().copied().filter(|h| grown(h) >= enough).collect();
            let reaches = |name: &str| {
                let node = self.site.topology.by_name(name);
                hops.iter().any(|h| {
                    let link = self.site.topology.link(h.link);
                    node.is_some_and(|n| link.and_then(|l| l.end_at(n)).is_some())
                })
            };
            if reaches(&from.0) && reaches(&to.0) {
                break hops;
            }
            if start.elapsed() > COUNTERS {
                bail!("{} -> {}: the switches' counters do not show the packets that arrived", from.0, to.0);
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let narrowest = hops.iter().map(|h| self.declared(*h)).min().unwrap_or(thin);
        // What was sent in the last moment may still be on its way.
        let lost = flow.sent.saturating_sub(flow.received).saturating_sub(2);
        let loss = 100.0 * lost as f64 / flow.sent.max(1) as f64;
        let from = from.clone();
        let to = to.clone();
        Ok(Some(Way { from, to, hops, delay_ms: flow.delay_ms, loss, narrowest }))
    }

    /// Fills several ways at once; layer-2 bit/s that arrived on each.
    fn fill(&self, ways: &[&Way], seconds: f64) -> anyhow::Result<Vec<f64>> {
        let pairs: Vec<(&End, &End)> = ways.iter().map(|w| (&w.from, &w.to)).collect();
        // A tenth more than there should be; TCP is held back by its own congestion control, so
        // twice as much.
        let offer = |w: &&Way| if w.narrowest > UDP_LIMIT { w.narrowest * 2 } else { w.narrowest / 10 * 11 };
        let rates: Vec<u64> = ways.iter().map(offer).collect();
        let flows = self.send(&pairs, &rates, seconds)?;
        Ok(flows.iter().map(|f| f.goodput * FRAME[usize::from(f.transport == "tcp")]).collect())
    }
}

/// True when nothing but `hop` can hold these ways back: every other link of theirs has room for
/// what they send over it.
fn own(lab: &Lab<'_>, hop: Hop, ways: &[&Way]) -> bool {
    let others: BTreeSet<Hop> =
        ways.iter().flat_map(|w| w.hops.iter().copied()).filter(|h| *h != hop).collect();
    others.iter().all(|other| {
        let crossing = ways.iter().filter(|w| w.hops.contains(other)).count() as u64;
        // Behind the narrow link no more than its rate is left, before it what the senders' own
        // links let pass.
        lab.declared(*other) > lab.declared(hop)
            || crossing < ways.len() as u64
                && lab.declared(*other) * ways.len() as u64 > lab.declared(hop) * crossing
    })
}

/// Measures all; a finding per direction of each link, in the links' order.
///
/// # Errors
/// With what the lab or the controller says.
pub fn run(lab: &Lab<'_>, options: &Options, mut say: impl FnMut(&str)) -> anyhow::Result<Vec<Finding>> {
    let t = &lab.site.topology;
    let servers: Vec<End> = t.servers.iter().map(|s| (s.name.clone(), s.address)).collect();
    let gateways: Vec<End> = t.gateways.iter().map(|g| (g.name.clone(), g.address)).collect();
    // 1. The ways.
    let mut ways = Vec::new();
    for (n, server) in servers.iter().enumerate() {
        let next = servers.get((n + 1) % servers.len()).filter(|o| *o != server);
        let there = gateways.iter().chain(next).map(|other| (server, other));
        for (from, to) in there.chain(gateways.iter().map(|g| (g, server))) {
            match lab.find(from, to, options.seconds.min(1.0))? {
                Some(way) => {
                    say(&format!("{} -> {}: {} links, {:.2} ms", from.0, to.0, way.hops.len(), way.delay_ms));
                    ways.push(way);
                }
                None => say(&format!("{} -> {}: nothing arrives", from.0, to.0)),
            }
        }
    }
    // 2. Each is filled alone.
    let mut rates: BTreeMap<Hop, (f64, bool)> = BTreeMap::new();
    for way in &ways {
        let rate = lab.fill(&[way], options.seconds)?.first().copied().unwrap_or(0.0);
        say(&format!("{} -> {}: {}", way.from.0, way.to.0, BitRate(rate as u64)));
        way.hops.iter().for_each(|hop| note(&mut rates, *hop, rate, own(lab, *hop, &[way])));
    }
    // 3. What one sender cannot fill.
    let all: Vec<Hop> = (0..t.links.len() as u32)
        .flat_map(|n| [true, false].map(|down| Hop { link: LinkId(n), down }))
        .collect();
    for hop in &all {
        let enough = lab.declared(*hop) as f64 * (1.0 - options.tolerance / 100.0);
        if rates.get(hop).is_none_or(|(rate, _)| *rate >= enough) {
            continue;
        }
        let (mut together, mut sum, mut used): (Vec<&Way>, u64, BTreeSet<&str>) = Default::default();
        for way in ways.iter().filter(|w| w.hops.contains(hop)) {
            let server = if gateways.contains(&way.from) { &way.to.0 } else { &way.from.0 };
            if sum < lab.declared(*hop) && used.insert(server) {
                together.push(way);
                sum += way.narrowest;
            }
        }
        if together.len() > 1 {
            let rate: f64 = lab.fill(&together, options.seconds)?.iter().sum();
            say(&format!(
                "{}: {} by {} senders",
                direction(lab.site, *hop),
                BitRate(rate as u64),
                together.len()
            ));
            let filled = sum >= lab.declared(*hop) && own(lab, *hop, &together);
            note(&mut rates, *hop, rate, filled);
        }
    }
    Ok(all.into_iter().map(|hop| finding(lab, hop, &ways, rates.get(&hop).copied())).collect())
}

/// Of what was seen of a link, the most counts.
fn note(rates: &mut BTreeMap<Hop, (f64, bool)>, hop: Hop, rate: f64, own: bool) {
    let best = rates.entry(hop).or_insert((rate, own));
    if rate > best.0 {
        *best = (rate, own);
    }
}

fn direction(site: &Site, hop: Hop) -> String {
    let Some(link) = site.topology.link(hop.link) else { return "?".into() };
    let end = |e: Endpoint| format!("{}.{}", site.topology.name(e.node), e.port);
    let (from, to) = if hop.down { (link.a, link.b) } else { (link.b, link.a) };
    format!("{} -> {}", end(from), end(to))
}

fn finding(lab: &Lab<'_>, hop: Hop, ways: &[Way], rate: Option<(f64, bool)>) -> Finding {
    let cfg = lab.site.topology.link(hop.link).map(|l| l.cfg);
    let least =
        |of: fn(&Way) -> f64| ways.iter().filter(|w| w.hops.contains(&hop)).map(of).min_by(f64::total_cmp);
    Finding {
        direction: direction(lab.site, hop),
        declared: lab.declared(hop),
        rate: rate.map(|(rate, _)| rate),
        own: rate.is_some_and(|(_, own)| own),
        declared_delay_ms: cfg.map_or(0.0, |c| c.delay.as_secs_f64() * 1e3),
        delay_ms: least(|w| w.delay_ms),
        loss: least(|w| w.loss),
        declared_loss: cfg.map_or(0.0, |c| f64::from(c.loss_ppm) / 1e4),
    }
}

/// For people.
pub fn table(findings: &[Finding], tolerance: f64) -> String {
    let mut out = format!(
        "{:<28} {:>12} {:>12} {:>10} {:>12} {:>8} {:>10}  verdict\n",
        "link", "declared", "rate", "delay", "at most", "loss", "at most"
    );
    let or = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    for f in findings {
        let rate = f.rate.map(|r| format!("{:.2} Mbit/s", r / 1e6));
        let _ = writeln!(
            out,
            "{:<28} {:>12} {:>12} {:>7.2} ms {:>12} {:>7.2}% {:>10}  {}",
            f.direction,
            BitRate(f.declared).to_string(),
            or(rate),
            f.declared_delay_ms,
            or(f.delay_ms.map(|d| format!("{d:.2} ms"))),
            f.declared_loss,
            or(f.loss.map(|l| format!("{l:.2}%"))),
            f.verdict(tolerance)
        );
    }
    let differ = findings.iter().filter(|f| f.verdict(tolerance).starts_with("DIFFERS")).count();
    let unreached = findings.iter().filter(|f| f.rate.is_none()).count();
    let _ = writeln!(
        out,
        "{differ} of {} directions differ from what is declared by more than {tolerance}%; {unreached} were not reached",
        findings.len()
    );
    out
}

/// `calibration.csv`.
pub fn csv(findings: &[Finding], tolerance: f64) -> String {
    let mut out = String::from(
        "direction;declared_mbit;rate_mbit;rate_is_own;declared_delay_ms;delay_at_most_ms;declared_loss_percent;loss_at_most_percent;verdict\n",
    );
    let or = |value: Option<f64>| value.map(|v| format!("{v:.4}")).unwrap_or_default();
    for f in findings {
        let _ = writeln!(
            out,
            "{};{};{};{};{:.4};{};{:.4};{};{}",
            f.direction,
            f.declared as f64 / 1e6,
            or(f.rate.map(|r| r / 1e6)),
            f.own,
            f.declared_delay_ms,
            or(f.delay_ms),
            f.declared_loss,
            or(f.loss),
            f.verdict(tolerance)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rate: Option<f64>, own: bool) -> Finding {
        Finding {
            direction: "a -> b".into(),
            declared: 10_000_000,
            rate,
            own,
            declared_delay_ms: 0.0,
            delay_ms: Some(0.3),
            loss: Some(0.0),
            declared_loss: 0.0,
        }
    }

    #[test]
    fn only_what_must_be_the_links_own_fault_is_called_so() {
        for (rate, own, expected) in [
            (Some(9.7e6), true, "as declared"),
            (Some(9.7e6), false, "as declared"),
            (Some(5.0e6), true, "DIFFERS in rate"),
            (Some(5.0e6), false, "at least so much"),
            (Some(12.0e6), false, "DIFFERS in rate"),
            (None, false, "not reached"),
        ] {
            assert_eq!(finding(rate, own).verdict(10.0), expected, "{rate:?} {own}");
        }
        let slow = Finding { declared_delay_ms: 20.0, ..finding(Some(1e7), true) };
        assert_eq!(slow.verdict(10.0), "DIFFERS in delay", "no link of 20 ms is on a way of 0.3 ms");
        let lossy = Finding { declared_loss: 5.0, ..finding(Some(1e7), true) };
        assert_eq!(lossy.verdict(10.0), "DIFFERS in loss");
    }
}
