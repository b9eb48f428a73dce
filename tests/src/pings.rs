//! Pings between the nodes of a lab, every 10 ms, whose packets are counted: witnesses of what
//! happens meanwhile.

use crate::DataCentre;
use anyhow::Context;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout};

/// A ping that goes on.
pub struct Ping {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    what: String,
}

impl Ping {
    /// `count` packets from a node to an address, 10 ms apart.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(dc: &DataCentre, node: &str, to: &str, count: u32) -> anyhow::Result<Ping> {
        let count = count.to_string();
        let mut child = dc.exec_in_background(node, &["ping", "-i", "0.01", "-c", &count, "-W", "2", to])?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Ping { child, lines, what: format!("{node} to {to}") })
    }

    /// Waits until so many more packets were answered.
    ///
    /// # Errors
    /// When it ends before that.
    pub fn answered(&mut self, mut count: u32) -> anyhow::Result<()> {
        while count > 0 {
            let line = self.lines.next().with_context(|| format!("the ping {} has ended", self.what))??;
            count -= u32::from(line.contains("bytes from"));
        }
        Ok(())
    }

    /// Waits for its end: how many packets were lost.
    ///
    /// # Errors
    /// When it says nothing about that.
    pub fn lost(mut self) -> anyhow::Result<u32> {
        let text: Vec<String> = self.lines.by_ref().collect::<std::io::Result<_>>()?;
        self.child.wait()?;
        lost(&text.join("\n")).with_context(|| format!("the ping {}", self.what))
    }
}

/// How many of a ping's packets were lost, from its last lines.
///
/// # Errors
/// When they do not say.
pub fn lost(text: &str) -> anyhow::Result<u32> {
    let line = text.lines().find(|l| l.contains("packets transmitted")).context("no summary of ping")?;
    let number = |word: &str| -> anyhow::Result<u32> {
        let before = line.split(word).next().context("no such figure")?;
        Ok(before.rsplit(", ").next().unwrap_or(before).trim().parse()?)
    };
    Ok(number(" packets transmitted")? - number(" received")?)
}

/// Pings from VMs to several addresses at once.
pub struct Witnesses(Vec<Ping>);

impl Witnesses {
    /// Starts one for each node and address, and waits until all are answered.
    ///
    /// # Errors
    /// When one is not.
    pub fn start(dc: &DataCentre, ways: &[(&str, &str)], count: u32) -> anyhow::Result<Witnesses> {
        let mut pings: Vec<Ping> = Vec::new();
        for (node, to) in ways {
            pings.push(Ping::start(dc, node, to, count)?);
        }
        pings.iter_mut().try_for_each(|p| p.answered(20))?;
        Ok(Witnesses(pings))
    }

    /// Waits for their end, and that nothing was lost.
    ///
    /// # Errors
    /// With what was lost on which way.
    pub fn lost_nothing(self, during: &str) -> anyhow::Result<()> {
        for ping in self.0 {
            let what = ping.what.clone();
            let lost = ping.lost()?;
            anyhow::ensure!(lost == 0, "{during}: {lost} packets were lost from {what}");
        }
        Ok(())
    }
}

/// What a process and a log had when it was looked, to be compared later.
#[derive(Debug, Clone, Copy)]
pub struct Use {
    /// Resident memory in KiB.
    pub memory: u64,
    /// Bytes of its log.
    pub log: u64,
}

impl Use {
    /// Of the controller, now.
    ///
    /// # Errors
    /// When it does not run.
    pub fn of_controller(dc: &DataCentre) -> anyhow::Result<Use> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", dc.controller_pid()?))?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).context("no VmRSS")?;
        let memory = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(Use { memory, log: std::fs::metadata(dc.path("tandem.log"))?.len() })
    }

    /// How much more it is than before.
    pub fn more_than(self, before: Use) -> Use {
        Use { memory: self.memory.saturating_sub(before.memory), log: self.log.saturating_sub(before.log) }
    }
}
