//! tcpreplay (Debian's package tcpreplay) with a file that is made for the flow: the packets of
//! [`super::pcap`] between the Ethernet addresses of both ends.
//!
//! It sends by its own timer (`--mbps`), over and over, and is counted where it arrives as packets
//! of `pcap` are. It says each second what it has sent, which is where losses come from; its
//! packets carry neither time nor number of their own.

use super::external::{Program, Run, supervise};
use super::measured::{Shared, with};
use super::options::OptionFault;
use super::pcap::{self, Packet};
use super::{FlowSpec, Receiver, Sender, TrafficGenerator};
use anyhow::{Context, bail};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_model::ToolOptions;
use tokio::task::JoinHandle;

/// The tool `tcpreplay`.
pub(super) struct TcpReplay;

/// Its program.
pub(super) const TCPREPLAY: Program = Program { name: "tcpreplay", package: "tcpreplay" };
/// How long the receiver may take to answer for its Ethernet address.
const ANSWER: Duration = Duration::from_secs(2);
/// The discard port (RFC 863).
const DISCARD: u16 = 9;

impl TrafficGenerator for TcpReplay {
    fn name(&self) -> &'static str {
        "tcpreplay"
    }

    fn about(&self) -> &'static str {
        "tcpreplay of a capture: file (pcap or pcapng, Ethernet; full UDP packets if left out)"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn says_delay(&self) -> bool {
        false
    }

    fn program(&self) -> Option<Program> {
        Some(TCPREPLAY)
    }

    fn check(&self, options: &ToolOptions) -> Result<(), OptionFault> {
        pcap::file_of(options, (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST), 1).map(drop)
    }

    fn receive(&self, flow: &FlowSpec, end: Receiver<'_>) -> anyhow::Result<JoinHandle<()>> {
        pcap::count(flow, end, false)
    }

    fn send(&self, flow: &FlowSpec, end: Sender<'_>) -> anyhow::Result<JoinHandle<()>> {
        let all = pcap::file_of(&flow.options, flow.addresses, pcap::mark(flow.id))?;
        let program = TCPREPLAY.find()?;
        let hop = end.place.run(|| first_hop(end.there))??;
        let file = File(end.folder.join(format!("tcpreplay-{}-{}.pcap", std::process::id(), flow.id)));
        write(&file.0, &all.packets, &hop).with_context(|| format!("writing {}", file.0.display()))?;
        if !all.left_out.is_empty() {
            with(&end.measured, |m| m.failed = Some(format!("left out of the file: {}", all.left_out)));
        }
        let run = Replay {
            program,
            interface: hop.interface,
            mbps: flow.rate.max(1000) as f64 / 1e6,
            file,
            before: 0,
            now: 0,
            shared: end.measured.clone(),
        };
        Ok(tokio::spawn(supervise(run, "tcpreplay", end.place.duplicate()?, end.stop, end.measured)))
    }
}

/// By which interface a node sends to another, and between which Ethernet addresses.
#[derive(Debug)]
struct Hop {
    interface: String,
    from: [u8; 6],
    to: [u8; 6],
}

/// Called inside the sender's namespace. The kernel is made to ask for the receiver's address.
fn first_hop(there: SocketAddr) -> anyhow::Result<Hop> {
    let begin = Instant::now();
    loop {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // One that has no way there yet, having no address of its own, may soon have.
        let _ = socket.send_to(&[0], (there.ip(), DISCARD));
        // Not /proc/net, which is that of the process' first thread.
        let table = std::fs::read_to_string("/proc/thread-self/net/arp")?;
        if let Some((to, interface)) = neighbour(&table, &there.ip().to_string()) {
            let all = link::list(&mut Netlink::open()?)?;
            let from = all.into_iter().find(|i| i.name == interface).map(|i| i.mac);
            let from = from.with_context(|| format!("there is no interface {interface}"))?;
            return Ok(Hop { interface, from, to });
        }
        if begin.elapsed() > ANSWER {
            bail!("nobody answers for the Ethernet address of {}: is it on the same network?", there.ip());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An address' Ethernet address and interface, from the kernel's table (proc(5), /proc/net/arp).
fn neighbour(table: &str, address: &str) -> Option<([u8; 6], String)> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [ip, _, _, mac, _, interface] = words[..] else { return None };
        let mac = mac.parse::<tandem_model::Mac>().ok()?.0;
        (ip == address && mac != [0; 6]).then(|| (mac, interface.to_owned()))
    })
}

/// Writes packets with an Ethernet header each, and identifications as [`super::pcap`] has them.
fn write(path: &Path, packets: &[Packet], hop: &Hop) -> anyhow::Result<()> {
    let file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut file = PcapWriter::with_header(file, PcapHeader::default())?;
    for (packet, identification) in packets.iter().zip((1..=u16::MAX).cycle()) {
        let mut frame = [&hop.to[..], &hop.from, &[0x08, 0x00], &packet.bytes].concat();
        pcap::number(&mut frame[14..], identification);
        file.write_packet(&PcapPacket::new(packet.at, frame.len() as u32, &frame))?;
    }
    std::io::Write::flush(&mut file.into_writer())?;
    Ok(())
}

/// A file that goes with its flow.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Replay {
    program: PathBuf,
    interface: String,
    mbps: f64,
    file: File,
    /// Packets of runs before this one.
    before: u64,
    /// Of this one.
    now: u64,
    shared: Shared,
}

impl Run for Replay {
    fn command(&mut self) -> anyhow::Result<Command> {
        self.before += std::mem::take(&mut self.now);
        let mut command = Command::new(&self.program);
        command.args(["--intf1", &self.interface, &format!("--mbps={:.6}", self.mbps)]);
        command.args(["--loop=0", "--preload-pcap", "--stats=1", "--no-flow-stats"]).arg(&self.file.0);
        Ok(command)
    }

    fn line(&mut self, line: &str) {
        let Some(sent) = line.strip_prefix("Actual: ").and_then(|l| l.split(' ').next()?.parse().ok()) else {
            return;
        };
        self.now = sent;
        with(&self.shared, |m| m.sent = self.before + sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_says_whom_a_frame_is_for() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
            10.9.0.3         0x1         0x0         00:00:00:00:00:00     *        eth0\n\
            10.9.0.2         0x1         0x2         e6:96:c8:ff:cb:e0     *        eth0\n";
        let mac = [0xe6, 0x96, 0xc8, 0xff, 0xcb, 0xe0];
        assert_eq!(neighbour(table, "10.9.0.2"), Some((mac, "eth0".to_owned())));
        assert_eq!(neighbour(table, "10.9.0.3"), None, "it has not answered");
        assert_eq!(neighbour(table, "10.9.0.4"), None);
    }
}
