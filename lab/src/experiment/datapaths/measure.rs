//! Latency, loss and installation on a bed.

use super::Options;
use super::rules;
use super::testbench;
use crate::bench::datapath::frames;
use crate::experiment::datapaths::rules::Answer;
use crate::experiment::datapaths::testbench::Testbench;
use crate::node::ping::checksum;
use crate::openflow_client;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};
use tandem_agent_protocol::datapaths::DatapathDescription;
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::packet::Transmitter;
use tandem_openflow::of13::oxm::Masked;
use tandem_openflow::of13::{Action, Field, Match};

/// How many rules are installed at once.
pub(super) const COUNTS: [u32; 4] = [1, 24, 100, 1000];
/// The fixed rate of 3 -> 4, packets a second, and what is offered to the port of 10 Mbit/s: frames
/// of 1400 bytes, 39 Mbit/s.
pub(super) const RATES: [u64; 2] = [1000, 3500];
/// Between what is sent.
const TICK: Duration = Duration::from_millis(2);
/// Between round trips: the switch is idle.
const PAUSE: Duration = Duration::from_millis(1);
/// Cookie of rules that are installed to be timed.
const TIMED: u64 = 2;

/// What one datapath gave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Round trip, median and 99th percentile, microseconds.
    pub(super) latency: [f64; 2],
    /// Packets lost of those sent: alone; on the idle port while another is backlogged; on the
    /// backlogged one.
    pub(super) loss: [(u64, u64); 3],
    /// FLOW_MODs to barrier for each of [`COUNTS`], microseconds a rule.
    pub(super) install: Vec<f64>,
    /// How many of each of [`COUNTS`] were in hardware then; 0 where there is none.
    pub(super) hardware: Vec<usize>,
    /// What became of each rule of the list.
    pub(super) answers: Vec<(String, Answer)>,
}

/// The value below which a share of the values is; sorts them.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Everything, one after the other.
pub(super) fn all(
    datapath: &DatapathDescription,
    folder: &Path,
    options: &Options,
) -> anyhow::Result<Measured> {
    let name = &datapath.lab.title;
    let mut bench = Testbench::make(datapath, folder)?;
    eprintln!("{name}: {} round trips", options.pings);
    let mut trips = bench.at(3, || round_trips(testbench::address(4), options.pings))?;
    let latency = [quantile(&mut trips, 0.5), quantile(&mut trips, 0.99)];
    eprintln!("{name}: loss ({:.0} s)", 2.0 * options.seconds);
    let time = Duration::from_secs_f64(options.seconds);
    let [alone, _] = loss(&bench, time, false)?;
    let [idle, backlogged] = loss(&bench, time, true)?;
    eprintln!("{name}: rules");
    let mut install = Vec::new();
    let mut hardware = Vec::new();
    for count in COUNTS {
        let mut times = Vec::new();
        let mut held = 0;
        // Few rules take so short that other work of the machine shows in a single time.
        for _ in 0..options.installs.max(1) * if count < 100 { 10 } else { 1 } {
            let (time, of) = installation(&mut bench, count)?;
            times.push(time);
            held = of;
        }
        install.push(quantile(&mut times, 0.5));
        hardware.push(held);
    }
    let answers = rules::ask_all(&mut bench)?;
    Ok(Measured { latency, loss: [alone, idle, backlogged], install, hardware, answers })
}

/// Microseconds of each round trip to a kernel's ICMP echo (RFC 792), one at a time.
fn round_trips(to: Ipv4Addr, count: u32) -> anyhow::Result<Vec<f64>> {
    /// Not measured: caches fill.
    const FIRST: u32 = 20;
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let to = SockAddr::from(SocketAddrV4::new(to, 0));
    let mut trips = Vec::new();
    let mut lost = 0;
    for n in 0..count.max(1) + FIRST {
        let number = (n as u16).to_be_bytes();
        let mut packet = vec![8, 0, 0, 0, 0x54, 0x44, number[0], number[1]];
        packet.extend([0x54; 56]);
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
        let start = Instant::now();
        socket.send_to(&packet, &to)?;
        let mut answer = [0u8; 256];
        let took = loop {
            match socket.read(&mut answer) {
                // An IPv4 header of 20 bytes, then type 0 (echo reply) and the number.
                Ok(length) if length >= 28 && answer[20] == 0 && answer[26..28] == number => {
                    break Some(start.elapsed());
                }
                Ok(_) => {}
                Err(_) => break None,
            }
        };
        match took {
            Some(took) if n >= FIRST => trips.push(took.as_secs_f64() * 1e6),
            Some(_) => {}
            None => lost += 1,
        }
        ensure!(lost < 10, "{lost} of {n} round trips had no answer within a second");
        std::thread::sleep(PAUSE);
    }
    Ok(trips)
}

/// Packets that an end has received.
struct Counter(Netlink, u32);

impl Counter {
    fn at(bench: &Testbench, end: u8) -> anyhow::Result<Counter> {
        Ok(Counter(bench.at(end, || Ok(Netlink::open()?))?, testbench::index(end)))
    }

    fn read(&mut self) -> anyhow::Result<u64> {
        Ok(link::one(&mut self.0, self.1)?.stats.context("no counters")?.rx_packets)
    }

    /// What has come since, once that many have or none comes any more.
    fn settle(&mut self, before: u64, sent: u64) -> anyhow::Result<u64> {
        let mut last = (self.read()?, Instant::now());
        while last.0 - before < sent && last.1.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(TICK);
            let now = self.read()?;
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        Ok(last.0 - before)
    }
}

/// The same as [`loss_once`], again where this machine was too busy to send at the rate; what the
/// third time gives is taken.
fn loss(bench: &Testbench, time: Duration, backlog: bool) -> anyhow::Result<[(u64, u64); 2]> {
    let due = time.as_secs_f64() * RATES[0] as f64;
    for _ in 0..2 {
        let result = loss_once(bench, time, backlog)?;
        if result[0].1 as f64 > due * 0.95 {
            return Ok(result);
        }
        eprintln!("only {} of {due:.0} packets could be sent in time; once more", result[0].1);
    }
    loss_once(bench, time, backlog)
}

/// Lost of sent, 3 -> 4 and 1 -> 2. The second is offered four times its port's rate, or nothing.
fn loss_once(bench: &Testbench, time: Duration, backlog: bool) -> anyhow::Result<[(u64, u64); 2]> {
    let (data, places) = frames(1400);
    let mut ways = Vec::new();
    for (n, (from, to)) in [(3, 4), (1, 2)].into_iter().enumerate() {
        let mut counter = Counter::at(bench, to)?;
        let before = counter.read()?;
        let sender = bench.at(from, || Ok(Transmitter::open(testbench::index(from), 0)?))?;
        ways.push((sender, counter, before, if n == 0 || backlog { RATES[n] } else { 0 }, 0u64));
    }
    let start = Instant::now();
    while start.elapsed() < time {
        for (sender, _, _, rate, sent) in &mut ways {
            let due = (start.elapsed().as_secs_f64() * *rate as f64) as u64;
            let now = due.saturating_sub(*sent).min(places.len() as u64) as usize;
            sender.send(&data, &places[..now])?;
            *sent += now as u64;
        }
        std::thread::sleep(TICK);
    }
    let mut result = [(0, 0); 2];
    for (slot, (_, counter, before, _, sent)) in result.iter_mut().zip(&mut ways) {
        *slot = (sent.saturating_sub(counter.settle(*before, *sent)?), *sent);
    }
    Ok(result)
}

/// Microseconds a rule, from the first FLOW_MOD to the barrier's reply, and how many are in
/// hardware then. The rules are gone again after it.
fn installation(bench: &mut Testbench, count: u32) -> anyhow::Result<(f64, usize)> {
    let rules: Vec<_> = (0..count)
        .map(|n| {
            let to = Ipv4Addr::from_bits(0x0a14_0000 + n);
            let fields = vec![Field::InPort(1), Field::EthType(0x0800), Field::Ipv4Dst(Masked::exact(to))];
            openflow_client::add(
                TIMED,
                200,
                Match { fields },
                openflow_client::apply(vec![Action::output(2)]),
            )
        })
        .collect();
    let start = Instant::now();
    bench.client.must(&rules)?;
    let took = start.elapsed();
    let places = bench.places(TIMED)?.unwrap_or_default();
    let hardware = places.iter().filter(|p| p.starts_with("hardware")).count();
    bench.client.must(&[openflow_client::delete(TIMED)])?;
    Ok((took.as_secs_f64() * 1e6 / f64::from(count), hardware))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let mut hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&mut hundred, 0.5), quantile(&mut hundred, 0.99)), (50.0, 99.0));
        assert_eq!(quantile(&mut [7.0], 0.99), 7.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
