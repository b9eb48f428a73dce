//! The processes in a VM's namespace: stopped while it is paused, and how much CPU time they have
//! used.
//!
//! A process belongs to the VM whose network namespace it is in, by /proc/PID/ns/net: the DHCP
//! client, and whatever `tandem-lab exec` has started.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tandem_linux::netns::NetNs;

/// A signal takes effect when the process is next looked at by the kernel; one that waits for a
/// disk may take longer, and cannot send either.
const PATIENCE: Duration = Duration::from_millis(200);

/// A process, as /proc/PID/stat has it (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    /// CPU time, in clock ticks.
    ticks: u64,
    /// When it was started: with its number, no other process.
    start: u64,
}

fn parse(text: &str) -> Option<Stat> {
    // Its name, in parentheses, may have spaces and parentheses in it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok());
    Some(Stat {
        state: fields.first()?.chars().next()?,
        ticks: number(11)? + number(12)?,
        start: number(19)?,
    })
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The number by which /proc names a namespace.
///
/// # Errors
/// When the kernel does not say.
pub fn inode(ns: &NetNs) -> std::io::Result<u64> {
    Ok(nix::sys::stat::fstat(ns.as_fd())?.st_ino)
}

/// All processes, by the network namespace that they are in.
fn by_namespace() -> BTreeMap<u64, Vec<i32>> {
    let mut all: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(link) = std::fs::read_link(entry.path().join("ns/net")) else { continue };
        let inode = link.to_str().and_then(|l| l.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok());
        if let Some(inode) = inode {
            all.entry(inode).or_default().push(pid);
        }
    }
    all
}

/// Processes that were stopped.
#[derive(Debug, Default)]
pub struct Stopped(Vec<i32>);

impl Stopped {
    /// Lets them go on.
    pub fn go_on(self) {
        for pid in self.0 {
            // One that was killed meanwhile needs nothing.
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
    }
}

/// Stops all processes of a namespace that run, also those that they start meanwhile, and waits
/// until they stand.
pub fn stop(inode: u64) -> Stopped {
    let mut stopped = Vec::new();
    let mut seen = BTreeSet::new();
    loop {
        let here = by_namespace().remove(&inode).unwrap_or_default();
        let new: Vec<i32> = here.into_iter().filter(|pid| seen.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        // What somebody else has stopped stays so afterwards.
        let runs = |pid: &i32| stat(*pid).is_some_and(|s| !matches!(s.state, 'T' | 't' | 'Z' | 'X'));
        for pid in new.into_iter().filter(runs) {
            if kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok() {
                stopped.push(pid);
            }
        }
    }
    let begin = Instant::now();
    let stands = |pid: &i32| stat(*pid).is_none_or(|s| matches!(s.state, 'T' | 't' | 'Z' | 'X'));
    while !stopped.iter().all(stands) && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_micros(200));
    }
    Stopped(stopped)
}

/// CPU time of namespaces' processes, as far as it was seen: what a process used after the last
/// look before it ended is missing.
#[derive(Debug, Default)]
pub struct CpuTimes {
    /// By process: its start, its ticks.
    seen: BTreeMap<i32, (u64, u64)>,
    /// By namespace, in ticks.
    totals: BTreeMap<u64, u64>,
}

impl CpuTimes {
    /// Looks at all processes in these namespaces: nanoseconds of each.
    pub fn look(&mut self, inodes: &[u64]) -> BTreeMap<u64, u64> {
        let mut there = by_namespace();
        there.retain(|inode, _| inodes.contains(inode));
        let mut seen = BTreeMap::new();
        for (inode, pids) in there {
            for pid in pids {
                let Some(stat) = stat(pid) else { continue };
                let before = self.seen.get(&pid).filter(|(start, _)| *start == stat.start).map_or(0, |s| s.1);
                *self.totals.entry(inode).or_default() += stat.ticks.saturating_sub(before);
                seen.insert(pid, (stat.start, stat.ticks));
            }
        }
        self.seen = seen;
        self.totals.retain(|inode, _| inodes.contains(inode));
        let tick =
            nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1);
        let ns = 1_000_000_000 / tick.unsigned_abs();
        inodes.iter().map(|inode| (*inode, self.totals.get(inode).map_or(0, |ticks| ticks * ns))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_process_is_called() {
        let line = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 12345 1000 10 18446744073709551615";
        assert_eq!(parse(line), Some(Stat { state: 'S', ticks: 12, start: 12345 }));
        assert_eq!(parse("nothing"), None);
    }

    #[test]
    fn our_own_time_is_counted_and_never_runs_back() {
        let own = std::fs::metadata("/proc/self/ns/net")
            .map(|m| std::os::unix::fs::MetadataExt::ino(&m))
            .expect("ours");
        let mut times = CpuTimes::default();
        let first = times.look(&[own])[&own];
        let begin = Instant::now();
        let mut x = 1u64;
        while begin.elapsed() < Duration::from_millis(60) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let second = times.look(&[own])[&own];
        assert!(second > first, "{first} then {second}");
        assert!(times.look(&[]).is_empty());
    }
}
