//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;
use tandem_fpga_card::target::Target;

/// A NetFPGA card: what it is, what it counts, what its flows are; load it, test it.
///
/// Without a card: `tandem-fpga model --listen /tmp/card` in one terminal,
/// `tandem-fpga --card cosim:/tmp/card selftest` in another. With one: `tandem-fpga list`, then
/// `tandem-fpga --card mmap:PCI info`. What it prints is for people; --json is for programs.
#[derive(Debug, Parser)]
#[command(name = "tandem-fpga", version)]
pub(crate) struct Cli {
    /// Which card: ioctl:nf2c0 (through the nf2 driver), mmap:0000:03:00.0 (its PCI device, on any
    /// kernel), cosim:SOCKET (a simulation or `tandem-fpga model --listen`), or model (in memory,
    /// gone with this command).
    #[arg(long, global = true, env = "TANDEM_FPGA_CARD", default_value = "model", value_name = "CARD")]
    pub(crate) card: Target,
    /// Which bitfile is loaded: a name (openflow-switch, reference-router ...;
    /// `tandem-fpga profiles` lists them) or a TOML file of the same form. Left out, the card is
    /// asked.
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub(crate) profile: Option<String>,
    /// How long a co-simulation may take for one answer, in seconds.
    #[arg(long, global = true, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) timeout: Duration,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no time in seconds, such as 10 or 0.5");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero()).ok_or_else(wrong)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The cards of this machine, by PCI id, and how each can be reached.
    List,
    /// The profiles that come along: which bitfile has what.
    Profiles,
    /// What a card is: board, bus FPGA, loaded bitfile with its known faults, links, and what can
    /// be done with it on this kernel.
    ///
    /// The OpenFlow switch has three known faults: an IPv4 header that is said to be longer than
    /// its frame makes the look-up lag or stop (header-beyond-frame); a frame of at most 64 bytes
    /// close behind a tagged one of 121 to 128 bytes stops the data path (tagged-then-short); an
    /// IPv4 header length below 5 gives a key of zeros, as if the frame came in at port 0
    /// (short-header).
    Info,
    /// Load a bitfile (.bit or .bin) into the card. Part, length and bus FPGA are checked first;
    /// afterwards the card must say what it is.
    Load {
        /// The bitfile.
        file: PathBuf,
    },
    /// Read, write or watch one register, by name (`MAC_GRP_0_CONTROL`, any case, with or without
    /// `_REG`) or address (0x600000).
    #[command(subcommand)]
    Reg(Reg),
    /// All counters of MACs, queues, CPU queues and look-up by name, as 64-bit counts since the
    /// card's reset; what is 0 is left out.
    Counters {
        /// Only counters with this in their name.
        #[arg(default_value = "")]
        part: String,
        /// Again every second, with what was counted in it.
        #[arg(long)]
        watch: bool,
        /// Those that are 0 too.
        #[arg(long)]
        all: bool,
        /// Those that reading clears too, summed: what is counted here, nobody else sees. Nobody
        /// else may have the card meanwhile.
        #[arg(long)]
        clearing: bool,
    },
    /// The wildcard rows with their counters, and the exact entries. (The exact entries' counters
    /// are cleared by reading, so they are not read.)
    Flows,
    /// Limit what a port may send: a rate such as "100 Mbit/s", or "off"; without one, what is set.
    /// Only some bitfiles have rate limiters.
    Limit {
        /// The port, from 0.
        port: u8,
        /// A ceiling; the nearest setting that is not above it is taken.
        rate: Option<String>,
    },
    /// Send the frames of a pcap file by a port, from the card's memory. Only the packet generator
    /// does.
    ///
    /// What fits is said before anything is written; Ctrl-C stops. Without FILE it stops what a
    /// program that was killed has left on. Try it without a card:
    ///
    /// tandem-fpga model --listen /tmp/card --profile packet-generator --cable 0:1
    ///
    /// tandem-fpga --card cosim:/tmp/card capture --port 1 --out seen.pcap --count 20
    ///
    /// tandem-fpga --card cosim:/tmp/card replay traffic.pcap --port 0 --iterations 2 --gaps
    Replay(Replay),
    /// Write what comes in at a port into a pcap file, with the card's times. Only the packet
    /// generator does.
    ///
    /// tandem-fpga --card cosim:/tmp/card capture --port 1 --out seen.pcap --seconds 10
    Capture(Capture),
    /// Harmless register checks, a verdict each. Packets go on, and no flow changes. Fails when a
    /// check does.
    Selftest,
    /// A flow in ovs-ofctl's words as register writes, `w ADDR VALUE` in hexadecimal, one per line.
    /// No card is needed.
    ///
    /// tandem-fpga compile
    /// 'priority=100,in_port=1,ip,nw_dst=10.0.0.0/8,actions=mod_nw_tos:184,output:2'
    Compile {
        /// The flow. Ports 1 to 4 are the card's.
        flow: String,
        /// As an exact entry: the writes for both rows that it may be in, and which is taken.
        #[arg(long)]
        exact: bool,
        /// The first wildcard row.
        #[arg(long, default_value_t = 0)]
        row: u32,
    },
    /// Register writes (`w ADDR VALUE` per line, as from `compile`) as flows.
    Decode {
        /// A file; - for standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Put a frame into a queue of a simulated or modelled card, and print what leaves it, a line
    /// per frame: queue and bytes.
    Packet {
        /// 0, 2, 4, 6: as if it came in at port 0 to 3; 1, 3, 5, 7: from the CPU.
        queue: u8,
        /// The frame in hexadecimal, without FCS.
        frame: String,
    },
    /// Serve a card in memory to others, over the co-simulation protocol (docs/netfpga.md), until
    /// it is stopped.
    Model {
        /// Where it listens: a path for a Unix socket.
        #[arg(long, value_name = "SOCKET")]
        listen: PathBuf,
        /// Before any bitfile was loaded, for trying `load`.
        #[arg(long)]
        unloaded: bool,
        /// With the faults that the bitfile is known to have (`tandem-fpga info` names them):
        /// certain frames make the look-up lag or stop, until the user FPGA is reset. Without this,
        /// such frames disturb no others.
        #[arg(long)]
        faults: bool,
        /// Of the packet generator: a cable between two of the card's own ports, such as 0:1.
        #[arg(long, value_parser = cable, value_name = "PORT:PORT")]
        cable: Vec<(u8, u8)>,
    },
}

/// Two ports of the card.
fn cable(text: &str) -> Result<(u8, u8), String> {
    let port = |text: &str| text.parse::<u8>().ok().filter(|port| *port < 4);
    text.split_once(':')
        .and_then(|(one, other)| port(one).zip(port(other)))
        .filter(|(one, other)| one != other)
        .ok_or_else(|| format!("\"{text}\" is no pair of ports from 0 to 3, such as 0:1"))
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The frames, a pcap file of Ethernet; left out, the port is stopped.
    pub(crate) file: Option<PathBuf>,
    /// By which port, from 0.
    #[arg(long)]
    pub(crate) port: u8,
    /// How often all of them are sent.
    #[arg(long, default_value_t = 1, requires = "file")]
    pub(crate) iterations: u32,
    /// A ceiling such as "100 Mbit/s", FCS included; the nearest below it is taken.
    #[arg(long, requires = "file")]
    pub(crate) rate: Option<String>,
    /// With the gaps between the frames' times. Without, as fast as the port or --rate lets them.
    #[arg(long, requires = "file")]
    pub(crate) gaps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Capture {
    /// At which port, from 0.
    #[arg(long)]
    pub(crate) port: u8,
    /// The pcap file that is written: times are nanoseconds since the card's reset.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// End after so many frames.
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
}

impl Capture {
    /// When it ends, as text.
    pub(crate) fn until(&self) -> String {
        let count = self.count.map(|count| format!("{count} frames came"));
        let seconds = self.seconds.map(|s| format!("{} s are over", s.as_secs_f64()));
        [count, seconds, Some("Ctrl-C".to_owned())].into_iter().flatten().collect::<Vec<_>>().join(", or ")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Reg {
    /// Read it once.
    Read {
        /// Name or address.
        register: String,
    },
    /// Write it, and read it back.
    Write {
        /// Name or address.
        register: String,
        /// Decimal, or hexadecimal with 0x.
        value: String,
    },
    /// Carry out register writes, one `w ADDR VALUE` per line, as `compile` prints them.
    Apply {
        /// A file; - for standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Print it whenever it changes.
    Watch {
        /// Name or address.
        register: String,
        /// Read it again after so many milliseconds.
        #[arg(long, default_value_t = 200)]
        every: u64,
    },
}
