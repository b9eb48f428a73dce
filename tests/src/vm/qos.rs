//! The experiment qos-classes in a machine whose Open vSwitch forwards in the kernel: there rules
//! put packets into queues, and no filter is asked. Says so from what the kernel counts, and fails
//! when a share is off.

use super::machine::{Machine, Spec};
use super::run::Run;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How far a share may be from what is guaranteed, in points.
const TOLERANCE: f64 = 2.0;
/// Percent of the link's rate that must arrive as goodput for the shares to say anything. At best
/// it is 97 for UDP (1372 bytes of payload in a frame of 1414), 95.6 for TCP (1448 in 1514).
const FILLED: f64 = 94.5;
/// Where the machine keeps the run folder.
const OUT: &str = "/root/qos";
/// Prints, of the lab that runs: its datapath's flows, then classes and filters of the edge
/// switch's ports.
const LOOK: &str = r#"lab=$(sed -n 's#.*@tandem-lab/\(qos-[^/ ]*\)$#\1#p' /proc/net/unix | head -n 1)
[ -n "$lab" ] || exit 0
exec tandem-lab exec --name "$lab" edge1 -- sh -c '
ovs-appctl -t /mnt/vswitchd.ctl dpctl/dump-flows
for port in $(ip -o link | sed -n "s/^[0-9]*: \(edge1-[0-9]*\)@.*/\1/p"); do
    echo "port $port"; tc -s class show dev $port; tc -s filter show dev $port
done'"#;

/// How it is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run's folder; the run folder of the experiment is `out` in it.
    #[arg(long, default_value = "target/vm/qos")]
    folder: PathBuf,
    /// Where tandem, tandem-lab and tandem-agent are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Virtual CPUs of the machine.
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// MiB of the machine.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// For the experiment: `-- --link 10 --repeat 3`. An emulated machine fills 10 Mbit/s where it
    /// gets 1.3 cores; 50 need more.
    #[arg(last = true, default_values = ["--link", "10"])]
    experiment: Vec<String>,
}

/// Runs the experiment in a virtual machine, and checks what its kernel has counted.
///
/// # Errors
/// When the machine or the experiment fails, when classes were not chosen by queue, or a share is
/// off.
pub fn run(image: &Path, options: &Options) -> anyhow::Result<()> {
    let run = Run::begin(&options.folder, image)?;
    let begin = Instant::now();
    let spec = Spec {
        name: "m1".into(),
        index: 0,
        memory: options.memory,
        cpus: options.cpus,
        reaches_host: false,
        cards: Vec::new(),
    };
    let mut machine = Machine::start(&run, spec)?;
    machine.wait_ready()?;
    eprintln!("booted in {:.0} s: Linux {}", begin.elapsed().as_secs_f64(), machine.run("uname -r")?);
    let copying = Instant::now();
    for program in ["tandem", "tandem-lab", "tandem-agent"] {
        machine.install(&options.programs.join(program))?;
    }
    eprintln!("programs copied in {:.0} s", copying.elapsed().as_secs_f64());
    let command = format!("tandem-lab experiment qos-classes --out {OUT} {}", options.experiment.join(" "));
    let mut experiment = machine.ssh(&command).stdout(Stdio::inherit()).spawn()?;
    let out = run.folder.join("out");
    std::fs::create_dir_all(&out)?;
    let seen = look(&mut machine, &mut experiment, &out.join("kernel.txt"));
    let ended = experiment.wait()?;
    if !ended.success() {
        bail!("the experiment has failed ({ended})");
    }
    machine.fetch(OUT, &out)?;
    println!("\n{}", seen?);
    eprintln!(
        "resident memory of the machine: {} MiB; all of it took {:.0} s; run folder: {}",
        machine.resident().unwrap_or(0),
        begin.elapsed().as_secs_f64(),
        out.display()
    );
    let read =
        |name: &str| std::fs::read_to_string(out.join(name)).with_context(|| format!("reading {name}"));
    judge(&read("shares.csv")?, &read("link-used.csv")?)
}

/// What the kernel counted at the switch's ports.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    /// Flows of the datapath that set a queue.
    queueing_flows: usize,
    /// Bytes through the first and the second class, of the port that has most of both.
    classes: [u64; 2],
    /// Packets that a filter has put into a class by their mark.
    filtered: u64,
}

fn count(text: &str) -> Counted {
    let mut counted = Counted::default();
    let mut port = [0; 2];
    let mut class = None;
    for line in text.lines().chain(["port"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["port", ..] => {
                if port.iter().min() > counted.classes.iter().min() {
                    counted.classes = port;
                }
                port = [0; 2];
            }
            ["class", "htb", "1:1", ..] => class = Some(0),
            ["class", "htb", "1:2", ..] => class = Some(1),
            ["class", ..] => class = None,
            ["Sent", bytes, ..] => {
                if let Some(n) = class.take() {
                    port[n] = bytes.parse().unwrap_or(0);
                }
            }
            _ if line.contains("set(skb_priority(0x1000") => counted.queueing_flows += 1,
            // Those that read the mark; the last one, for all protocols, has what no rule gave a
            // class: LLDP and ARP.
            ["filter", ..] if line.contains(" protocol ip ") => {
                // u32 counts who asked it and whom it took: (rule hit 12 success 3).
                let taken = line.split("success ").nth(1).and_then(|t| t.split(')').next());
                counted.filtered += taken.and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0);
            }
            _ => {}
        }
    }
    counted
}

/// Looks into the kernel until both classes have sent, while the experiment runs, and says what it
/// saw.
fn look(machine: &mut Machine, experiment: &mut Child, file: &Path) -> anyhow::Result<String> {
    let mut last = Counted::default();
    while experiment.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_secs(2));
        // Between two cells there is no lab to look into.
        let Ok(text) = machine.run(LOOK) else { continue };
        last = count(&text);
        if last.queueing_flows > 0 && last.classes.iter().all(|c| *c > 1_000_000) {
            std::fs::write(file, text)?;
            if last.filtered > 0 {
                bail!(
                    "filters have chosen the class of {} packets; {} has the rest",
                    last.filtered,
                    file.display()
                );
            }
            return Ok(format!(
                "the kernel's counters: {} flows of the datapath set a queue, the first class has sent {} bytes and the second {} at \
                 the same port, filters have chosen the class of no packet",
                last.queueing_flows, last.classes[0], last.classes[1]
            ));
        }
    }
    bail!("the kernel was never seen to choose classes by queue; seen last: {last:?}")
}

/// Fails when a share is off, and says where the machine was too slow to fill the link: there
/// shares say nothing.
fn judge(shares: &str, used: &str) -> anyhow::Result<()> {
    let rows = |text: &str| -> Vec<(String, f64, f64)> {
        let row = |line: &str| {
            let fields: Vec<&str> = line.split(';').collect();
            let [.., a, b] = fields[..] else { return None };
            Some((line.to_owned(), a.parse().ok()?, b.parse().ok()?))
        };
        text.lines().filter_map(row).collect()
    };
    let idle: Vec<String> = rows(used).into_iter().filter(|r| r.1 < FILLED).map(|r| r.0).collect();
    if !idle.is_empty() {
        bail!(
            "both senders together did not fill the link: the machine is too slow for its rate, or others use this computer. Cells \
             (transport, order, Mbit/s, percent used, percent borrowed):\n{}",
            idle.join("\n")
        );
    }
    let shares = rows(shares);
    let off = |r: &&(String, f64, f64)| (r.1 - r.2).abs() > TOLERANCE;
    let wrong: Vec<&str> = shares.iter().filter(off).map(|r| r.0.as_str()).collect();
    if shares.is_empty() || !wrong.is_empty() {
        bail!(
            "of {} shares, these are more than {TOLERANCE} points off:\n{}",
            shares.len(),
            wrong.join("\n")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.1, iproute2 6.1 and Open vSwitch 3.1 print it, shortened.
    const SEEN: &str = "\
recirc_id(0),in_port(3),eth_type(0x0800),ipv4(tos=0/0xfc,frag=no), packets:91, bytes:9, used:0.0s, actions:set(skb_priority(0x10001)),2
recirc_id(0),in_port(2),eth_type(0x0806), packets:1, bytes:42, used:0.1s, actions:3
port edge1-1
class htb 1:1 parent 1:fffe leaf 1: prio 0 rate 7Mbit ceil 10Mbit burst 1600b cburst 1600b
 Sent 7000 bytes 5 pkt (dropped 1, overlimits 2 requeues 0)
 backlog 0b 0p requeues 0
class htb 1:fffe root rate 10Mbit ceil 10Mbit burst 1600b cburst 1600b
 Sent 10000 bytes 8 pkt (dropped 0, overlimits 2 requeues 0)
class htb 1:2 parent 1:fffe leaf 2: prio 0 rate 3Mbit ceil 10Mbit burst 1599b cburst 1599b
 Sent 3000 bytes 3 pkt (dropped 0, overlimits 2 requeues 0)
filter parent 1: protocol ip pref 10 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 flowid 1:1  (rule hit 12 success 3)
  match 00b80000/00fc0000 at 0 (success 3 )
filter parent 1: protocol all pref 65535 u32 chain 0 fh 802::800 order 2048 key ht 802 bkt 0 flowid 1:2  (rule hit 4 success 4)
port edge1-2
class htb 1:1 parent 1:fffe leaf 1: prio 0 rate 7Mbit ceil 10Mbit burst 1600b cburst 1600b
 Sent 90000 bytes 5 pkt (dropped 1, overlimits 2 requeues 0)
class htb 1:2 parent 1:fffe leaf 2: prio 0 rate 3Mbit ceil 10Mbit burst 1599b cburst 1599b
 Sent 0 bytes 0 pkt (dropped 0, overlimits 0 requeues 0)";

    #[test]
    fn flows_classes_and_filters_are_told_apart() {
        let counted = count(SEEN);
        assert_eq!(counted, Counted { queueing_flows: 1, classes: [7000, 3000], filtered: 3 });
    }

    #[test]
    fn a_share_that_is_off_a_link_that_is_not_filled_and_an_empty_table_fail() {
        const HEAD: &str = "transport;order;link_mbit;class;guaranteed;share\n";
        let shares = |share: &str| format!("{HEAD}udp;gold-first;10;gold;70;{share}\n");
        let used =
            |used: &str| format!("transport;order;link_mbit;used;borrowed\nudp;gold-first;10;{used};96.0\n");
        assert!(judge(&shares("71.90"), &used("96.4")).is_ok());
        assert!(judge(&shares("50.00"), &used("96.4")).is_err());
        assert!(judge(HEAD, &used("96.4")).is_err());
        let slow = judge(&shares("61.00"), &used("81.0")).expect_err("not filled").to_string();
        assert!(slow.contains("too slow"), "{slow}");
    }
}
