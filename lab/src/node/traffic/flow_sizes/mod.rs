//! Flows with sizes as they were measured in data centres (`lab/data/flow-sizes`): each is sent
//! over TCP as fast as it goes, and they arrive as a Poisson process whose load is the rate.
//!
//! What is reported as delay is how long a flow took to complete, as the receiver sees it. Flows go
//! over connections that stay open (RFC 9293), as those of the measured applications do; one that
//! finds all connections busy opens another.

mod sizes;

use super::measured::{Shared, with};
use super::options::{OptionFault, Reader};
use super::schedule::random;
use super::tcp::{SEGMENT, connect};
use super::{FlowSpec, Receiver, Sender, TrafficGenerator, clock, runs};
use crate::node::vm_relocation::Gate;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};
use sizes::Sizes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tandem_linux::netns::NetNs;
use tandem_model::ToolOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// A flow's head: its number, when it began, how many bytes it has, this head included.
const HEAD: usize = 24;
/// Bytes that are written or read at once.
const CHUNK: usize = 16 * 1024;
/// Flows that are under way at once: a link that is slower than the load would collect them. The
/// next one waits.
const AT_ONCE: usize = 128;

/// A tool whose flows have sizes of a measured distribution.
pub(super) struct FlowSizes {
    name: &'static str,
    about: &'static str,
    /// The distribution's points; `None`: the option `file` says where they are.
    points: Option<&'static str>,
}

/// The distributions that this lab has, and `flows` for others.
pub(super) const WEB_SEARCH: FlowSizes = FlowSizes {
    name: "flows-websearch",
    about: "TCP flows of a web search (DCTCP, SIGCOMM 2010)",
    points: Some(include_str!("../../../../data/flow-sizes/web-search.txt")),
};
pub(super) const WEB_SEARCH_HPCC: FlowSizes = FlowSizes {
    name: "flows-websearch2",
    about: "TCP flows of a web search, as HPCC used them (SIGCOMM 2019)",
    points: Some(include_str!("../../../../data/flow-sizes/web-search-hpcc.txt")),
};
pub(super) const DATA_MINING: FlowSizes = FlowSizes {
    name: "flows-datamining",
    about: "TCP flows of data mining (VL2, SIGCOMM 2009)",
    points: Some(include_str!("../../../../data/flow-sizes/data-mining.txt")),
};
pub(super) const KEY_VALUE: FlowSizes = FlowSizes {
    name: "flows-keyvalue",
    about: "TCP flows of a key-value cache (Facebook, SIGMETRICS 2012)",
    points: Some(include_str!("../../../../data/flow-sizes/key-value.txt")),
};
pub(super) const HADOOP: FlowSizes = FlowSizes {
    name: "flows-hadoop",
    about: "TCP flows of Hadoop (Facebook, SIGCOMM 2015)",
    points: Some(include_str!("../../../../data/flow-sizes/hadoop.txt")),
};
pub(super) const STORAGE: FlowSizes = FlowSizes {
    name: "flows-storage",
    about: "TCP flows of storage (Alibaba, SIGCOMM 2019)",
    points: Some(include_str!("../../../../data/flow-sizes/storage.txt")),
};
pub(super) const FILE: FlowSizes = FlowSizes {
    name: "flows",
    about: "TCP flows of the sizes in a file: file (lines of bytes and cumulative share)",
    points: None,
};

/// The longest file of sizes.
const FILE_BYTES: u64 = 1 << 20;

impl FlowSizes {
    fn sizes(&self, options: &ToolOptions) -> Result<Sizes, OptionFault> {
        let mut o = Reader::new(options);
        let text = match self.points {
            Some(points) => points.to_owned(),
            None => match o.text("file") {
                Some(path) => match super::read_file(path, FILE_BYTES) {
                    Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                    Err(why) => {
                        o.fault(
                            "file",
                            format!("{path} cannot be read: {why}"),
                            "write the path of a readable file",
                        );
                        String::new()
                    }
                },
                None => {
                    let problem = "missing";
                    o.fault(
                        "file",
                        problem,
                        "write file = \"PATH\", of a file of sizes and cumulative shares",
                    );
                    String::new()
                }
            },
        };
        o.finish(())?;
        Sizes::parse(&text).map_err(|error| OptionFault {
            key: "file".into(),
            problem: error.to_string(),
            instead: "see lab/data/flow-sizes for the form".into(),
        })
    }
}

impl TrafficGenerator for FlowSizes {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn is_reliable(&self) -> bool {
        true
    }

    fn check(&self, options: &ToolOptions) -> Result<(), OptionFault> {
        self.sizes(options).map(drop)
    }

    fn receive(&self, _: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        let listener = end.place.run(|| std::net::TcpListener::bind(end.address))??;
        listener.set_nonblocking(true)?;
        Ok(tokio::spawn(receiver(TcpListener::from_std(listener)?, end.measured)))
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        let sizes = self.sizes(&flow.options)?;
        let arrivals = Arrivals::new(sizes, flow);
        let line = Arc::new(Line {
            place: end.place.duplicate()?,
            there: end.there,
            gate: end.gate,
            shared: end.measured,
            idle: Mutex::default(),
        });
        Ok(tokio::spawn(sender(arrivals, line)))
    }
}

/// When flows begin and how large they are, by the seed alone.
struct Arrivals {
    sizes: Sizes,
    random: ChaCha8Rng,
    /// Seconds between two flows on average.
    mean: f64,
    at: f64,
}

impl Arrivals {
    fn new(sizes: Sizes, flow: &FlowSpec) -> Arrivals {
        let on_the_wire = sizes.mean().max(HEAD as f64) * 8.0 * SEGMENT.1 / SEGMENT.0;
        let mean = on_the_wire / flow.rate.max(1) as f64;
        Arrivals { sizes, random: random(flow.seed, flow.id), mean, at: 0.0 }
    }
}

impl Iterator for Arrivals {
    /// Seconds from the start, bytes.
    type Item = (f64, u64);

    fn next(&mut self) -> Option<(f64, u64)> {
        let gap: f64 = Exp1.sample(&mut self.random);
        self.at += gap * self.mean;
        Some((self.at, self.sizes.sample(&mut self.random).max(HEAD as u64)))
    }
}

/// The connections of a sender.
struct Line {
    place: NetNs,
    there: SocketAddr,
    gate: Gate,
    shared: Shared,
    idle: Mutex<Vec<TcpStream>>,
}

async fn sender(arrivals: Arrivals, line: Arc<Line>) {
    let mut start = tokio::time::Instant::now();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    // Ends all that is under way when it is dropped with this task.
    let mut under_way = JoinSet::new();
    for (number, (at, size)) in (1u64..).zip(arrivals) {
        tokio::time::sleep_until(start + Duration::from_secs_f64(at.min(1e9))).await;
        drop(runs(&line.gate, &mut start).await);
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        while under_way.try_join_next().is_some() {}
        with(&line.shared, |m| m.sent = number);
        let line = line.clone();
        under_way.spawn(async move {
            if let Err(error) = line.flow(number, size).await {
                with(&line.shared, |m| m.failed = Some(format!("a flow of {size} bytes: {error}")));
            }
            drop(permit);
        });
    }
}

impl Line {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a flow over a connection that is idle, or another one.
    async fn flow(&self, number: u64, size: u64) -> std::io::Result<()> {
        let began = clock();
        let waiting = self.idle().pop();
        let mut stream = match waiting {
            Some(stream) => stream,
            None => connect(&self.place, self.there).await?,
        };
        let mut head = [0u8; HEAD];
        for (part, value) in head.chunks_exact_mut(8).zip([number, began, size]) {
            part.copy_from_slice(&value.to_be_bytes());
        }
        stream.write_all(&head).await?;
        let zeros = vec![0u8; CHUNK.min(size as usize)];
        let mut left = size.saturating_sub(HEAD as u64) as usize;
        let mut moved = tokio::time::Instant::now();
        while left > 0 {
            drop(runs(&self.gate, &mut moved).await);
            let part = left.min(zeros.len());
            stream.write_all(&zeros[..part]).await?;
            left -= part;
        }
        // The receiver says that it has all of it.
        stream.read_u8().await?;
        self.idle().push(stream);
        Ok(())
    }
}

async fn receiver(listener: TcpListener, shared: Shared) {
    let room = Arc::new(Semaphore::new(2 * AT_ONCE));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let shared = shared.clone();
        connections.spawn(async move {
            // A connection that ends has no more flows, for whatever reason.
            let _ = flows_of(stream, &shared).await;
            drop(permit);
        });
    }
}

async fn flows_of(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = vec![0u8; CHUNK];
    loop {
        stream.read_u64().await?;
        let began = stream.read_u64().await?;
        let size = stream.read_u64().await?;
        with(shared, |m| m.count(HEAD as u64));
        let mut left = size.saturating_sub(HEAD as u64);
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let length = stream.read(&mut buffer[..part]).await?;
            if length == 0 {
                return Ok(());
            }
            left -= length as u64;
            with(shared, |m| m.count(length as u64));
        }
        let took = clock().wrapping_sub(began).cast_signed() as f64 / 1e9;
        with(shared, |m| m.complete(took));
        stream.write_u8(1).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tandem_model::ToolOption;

    fn spec(tool: &FlowSizes, rate: u64, seed: u64) -> FlowSpec {
        let end = |name: &str| (name.to_owned(), Ipv4Addr::LOCALHOST);
        let tool = tool.name.parse().expect("a name");
        FlowSpec { seed, ..FlowSpec::of(7, &end("a"), &end("b"), rate, tool) }
    }

    /// The load is the rate: bytes of the flows that begin in a long time, over that time.
    #[test]
    fn each_measured_distribution_has_flows_whose_load_is_the_rate() {
        for tool in [WEB_SEARCH, WEB_SEARCH_HPCC, DATA_MINING, KEY_VALUE, HADOOP, STORAGE] {
            let sizes = tool.sizes(&ToolOptions::new()).expect("sizes");
            let arrivals = Arrivals::new(sizes.clone(), &spec(&tool, 10_000_000, 1));
            let all: Vec<(f64, u64)> = arrivals.take(300_000).collect();
            let bits: f64 = all.iter().map(|(_, size)| *size as f64 * 8.0 * SEGMENT.1 / SEGMENT.0).sum();
            let rate = bits / all.last().expect("the last").0;
            assert!((rate / 1e7 - 1.0).abs() < 0.15, "{}: {rate} bit/s", tool.name);
            let again: Vec<(f64, u64)> =
                Arrivals::new(sizes.clone(), &spec(&tool, 10_000_000, 1)).take(1000).collect();
            assert_eq!(again, all[..1000], "the same seed, the same flows");
            let other: Vec<(f64, u64)> =
                Arrivals::new(sizes, &spec(&tool, 10_000_000, 2)).take(1000).collect();
            assert_ne!(again, other);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_said_with_its_key() {
        let with = |path: &str| ToolOptions::from([("file".to_owned(), ToolOption::Text(path.into()))]);
        let missing = FILE.check(&with("/nowhere/sizes.txt")).expect_err("no such file");
        assert_eq!(missing.key, "file");
        assert!(missing.problem.contains("/nowhere/sizes.txt"), "{missing}");
        assert_eq!(FILE.check(&ToolOptions::new()).expect_err("no file").problem, "missing");
        assert!(HADOOP.check(&with("/nowhere")).is_err(), "it has its sizes");
    }
}
