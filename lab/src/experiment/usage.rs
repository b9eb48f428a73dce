//! What processes use: time of a core, and memory. Of a lab these are all processes of its PID
//! namespace.

use anyhow::Context;
use nix::unistd::{SysconfVar, sysconf};
use std::path::Path;

/// What some processes have used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Seconds of a core since they began, those of children that have ended included.
    pub cpu: f64,
    /// Bytes of memory now; a page that several processes share counts once (PSS, proc(5)).
    pub memory: u64,
}

/// All processes in the PID namespace of one, as seen from here.
///
/// # Errors
/// When it is gone, or another user's.
pub fn namespace_of(pid: u32) -> anyhow::Result<Vec<u32>> {
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    let wanted = namespace(pid).with_context(|| format!("process {pid} cannot be looked at"))?;
    let entries = std::fs::read_dir("/proc").context("reading /proc")?;
    let numbers = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    Ok(numbers.filter(|pid| namespace(*pid).is_ok_and(|n| n == wanted)).collect())
}

/// What these processes have used; one that has ended meanwhile counts nothing.
pub fn of(pids: &[u32]) -> Usage {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().filter(|t| *t > 0).unwrap_or(100) as f64;
    let mut usage = Usage::default();
    for pid in pids {
        let folder = Path::new("/proc").join(pid.to_string());
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        usage.cpu += cpu_ticks(&read("stat")).unwrap_or(0) as f64 / ticks;
        usage.memory += kilobytes(&read("smaps_rollup"), "Pss:").unwrap_or(0) * 1024;
    }
    usage
}

/// Memory that this machine has left for new processes, bytes.
///
/// # Errors
/// When the kernel does not say.
pub fn machine_available() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    Ok(kilobytes(&text, "MemAvailable:").context("/proc/meminfo has no MemAvailable")? * 1024)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// utime, stime, cutime and cstime: fields 14 to 17 of proc(5)'s stat. The second field is a name in
/// parentheses that may have spaces and parentheses itself.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    let fields = after_name.split_whitespace().skip(11).take(4);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    (ticks.len() == 4).then(|| ticks.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_a_process_calls_itself() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 3 1 20 0 1 0 100 1000 50";
        assert_eq!(cpu_ticks(stat), Some(16));
        assert_eq!((cpu_ticks("42 (a) S 1"), cpu_ticks("")), (None, None));
        assert_eq!(kilobytes("Rss: 9 kB\nPss:    120 kB\n", "Pss:"), Some(120));
    }

    #[test]
    fn this_process_is_in_its_own_namespace_and_uses_memory() {
        let own = std::process::id();
        assert!(namespace_of(own).expect("our own").contains(&own));
        assert!(of(&[own]).memory > 100_000);
        assert_eq!(of(&[]), Usage::default());
        assert!(machine_available().expect("Linux") > 0);
    }
}
