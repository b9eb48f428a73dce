//! `tandem-fpga replay` and `capture` with a served model of the packet generator, as processes.

mod served;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use served::{Served, error, out, tool};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tandem_fpga_card::Card;
use tandem_fpga_card::cosim::CosimCard;
use tandem_fpga_card::pcap::{self, Writer};
use tandem_fpga_config::generator::Timed;
use tandem_fpga_config::registers::Registers;

const LONG: Duration = Duration::from_secs(60);

/// The control register of replay and capture.
const ENABLE: u32 = 0x200_1400;
const QUEUE_8_CTRL: u32 = 0x200_0800;

fn generator(more: &[&str]) -> Served {
    Served::start(&[&["--profile", "packet-generator"], more].concat())
}

/// Frames of growing lengths, with different bytes.
fn frames(count: usize, gap: Duration) -> Vec<Timed> {
    let frame = |n: usize| Timed {
        at: Duration::from_secs(1_700_000_000) + gap * u32::try_from(n).expect("few"),
        bytes: (0..60 + 7 * n).map(|i| (i + n) as u8).collect(),
    };
    (0..count).map(frame).collect()
}

fn write(served: &Served, name: &str, frames: &[Timed]) -> PathBuf {
    let path = served.socket.with_extension(name);
    let mut writer = Writer::new(File::create(&path).expect("made")).expect("begun");
    for frame in frames {
        writer.frame(frame.at, &frame.bytes).expect("written");
    }
    path
}

fn read(path: &Path) -> Vec<Timed> {
    pcap::read(File::open(path).expect("there")).expect("a pcap file")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn connect(served: &Served) -> CosimCard {
    CosimCard::connect(&served.socket, LONG).expect("connected")
}

fn bytes(frames: &[Timed]) -> Vec<Vec<u8>> {
    frames.iter().map(|f| f.bytes.clone()).collect()
}

/// The tool in the background; dropping it ends the process.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-fpga"));
        command.env_remove("TANDEM_FPGA_CARD").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        Running(command.spawn().expect("it runs"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).expect("an id")), signal).expect("sent");
    }

    /// Its output, once it has ended by itself.
    fn printed(mut self) -> String {
        let deadline = Instant::now() + LONG;
        while self.0.try_wait().expect("asked").is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::io::read_to_string(self.0.stdout.take().expect("piped")).expect("text")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a register has a wanted value.
fn until(card: &mut CosimCard, address: u32, wanted: impl Fn(u32) -> bool) {
    let deadline = Instant::now() + LONG;
    while !wanted(card.read32(address).expect("read")) {
        assert!(Instant::now() < deadline, "0x{address:07x} does not become so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_file_goes_in_and_the_same_frames_come_out_by_the_port() {
    let served = generator(&[]);
    let (card, wanted) = (served.card(), frames(20, Duration::from_micros(50)));
    let file = write(&served, "pcap", &wanted);
    let said = out(&["--card", &card, "replay", text(&file), "--port", "1", "--iterations", "3"]);
    assert_eq!(said, "port 1: 60 of 60 frames sent, 3 of 3 times 20\n");
    let mut other = connect(&served);
    let sent = other.burst(&[]).expect("asked");
    let expected: Vec<_> = (0..3).flat_map(|_| bytes(&wanted)).map(|f| (2, f)).collect();
    assert_eq!(sent, expected);
    let total: usize = wanted.iter().map(|f| f.bytes.len()).sum();
    let counters = out(&["--card", &card, "counters", "OQ_QUEUE_9"]);
    assert!(counters.contains(&format!("{:<44} {:>20}\n", "OQ_QUEUE_9_NUM_PKTS_REMOVED", 60)), "{counters}");
    let counters = out(&["--card", &card, "counters", "MAC_GRP_1_TX_QUEUE_NUM_BYTES_PUSHED"]);
    assert!(counters.contains(&(3 * total).to_string()), "{counters}");
    assert_eq!(other.read32(ENABLE).expect("read"), 0, "the port is given back");
    assert_eq!(other.inject(3, &[7; 60]).expect("injected"), [(2, vec![7; 60])], "and sends other frames");
    let limited = ["--json", "--card", &card, "replay", text(&file), "--port", "1", "--rate", "20 Mbit/s"];
    let said: Value = serde_json::from_str(&out(&limited)).expect("JSON");
    assert_eq!(
        (&said["sent"], &said["done"], &said["limit_bit_per_second"]),
        (&Value::from(20), &Value::from(true), &Value::from(20_000_000))
    );
    assert_eq!(out(&["--card", &card, "limit", "1"]), "port 1: not limited\n", "as it was");
}

#[test]
fn what_one_port_replays_another_captures_with_its_times() {
    let served = generator(&["--cable", "0:1"]);
    let (card, gap) = (served.card(), Duration::from_micros(300));
    let wanted = frames(30, gap);
    let file = write(&served, "pcap", &wanted);
    let seen = served.socket.with_extension("seen");
    let capture =
        Running::start(&["--card", &card, "capture", "--port", "1", "--out", text(&seen), "--count", "30"]);
    until(&mut connect(&served), ENABLE, |enable| enable == 2);
    let said = out(&["--card", &card, "replay", text(&file), "--port", "0", "--gaps"]);
    assert_eq!(said, "port 0: 30 of 30 frames sent\n");
    let printed = capture.printed();
    let total: usize = wanted.iter().map(|f| f.bytes.len() + 4).sum();
    assert!(printed.ends_with(&format!("the card counted 30 with {total} bytes\n")), "{printed}");
    let seen = read(&seen);
    assert_eq!(bytes(&seen), bytes(&wanted));
    let gaps: Vec<_> = seen.windows(2).map(|two| two[1].at - two[0].at).collect();
    assert_eq!(gaps, vec![gap; 29], "to the nanosecond");
    assert_eq!(connect(&served).read32(ENABLE).expect("read"), 0, "both have ended");
}

#[test]
fn a_capture_ends_by_its_time_and_a_stopped_replay_says_how_far_it_was() {
    let served = generator(&["--cable", "2:3"]);
    let card = served.card();
    let file = write(&served, "pcap", &frames(10, Duration::from_millis(20)));
    let seen = served.socket.with_extension("seen");
    let more = ["--port", "2", "--gaps", "--iterations", "100000"];
    let replay = Running::start(&[&["--card", &card, "replay", text(&file)], &more[..]].concat());
    let mut other = connect(&served);
    until(&mut other, 0x200_0a1c, |sent| sent > 3);
    let capture = ["--card", &card, "capture", "--port", "3", "--out", text(&seen), "--seconds", "0.3"];
    let said = out(&capture);
    assert!(said.starts_with("port 3: "), "{said}");
    assert!(!read(&seen).is_empty(), "{said}");
    replay.signal(Signal::SIGINT);
    let said = replay.printed();
    assert!(said.contains(" of 1000000 frames sent") && said.ends_with("; stopped\n"), "{said}");
    let before = other.read32(0x200_0a1c).expect("read");
    other.burst(&[]).expect("asked");
    assert_eq!(other.read32(0x200_0a1c).expect("read"), before, "nothing more leaves");
    assert_eq!(other.read32(ENABLE).expect("read"), 0);
}

#[test]
fn a_killed_replay_goes_on_until_it_is_stopped_and_the_next_starts_cleanly() {
    let served = generator(&[]);
    let card = served.card();
    let old = write(&served, "old", &frames(12, Duration::from_millis(5)));
    let new = frames(3, Duration::from_millis(1));
    let file = write(&served, "new", &new);
    let mut other = connect(&served);
    for stop in [true, false] {
        let more = ["--port", "0", "--gaps", "--iterations", "100000", "--rate", "10 Mbit/s"];
        let replay = Running::start(&[&["--card", &card, "replay", text(&old)], &more[..]].concat());
        until(&mut other, ENABLE, |enable| enable & 1 == 1);
        until(&mut other, 0x200_081c, |sent| sent > 0);
        replay.signal(Signal::SIGKILL);
        drop(replay);
        assert_eq!(other.read32(QUEUE_8_CTRL).expect("read"), 1, "the card goes on");
        if stop {
            assert_eq!(out(&["--card", &card, "replay", "--port", "0"]), "port 0: stopped\n");
            assert_eq!(other.read32(ENABLE).expect("read"), 0);
            other.burst(&[]).expect("what left before");
            assert_eq!(other.burst(&[]).expect("asked"), [], "nothing more leaves");
            continue;
        }
        // Killed while loading, too: the SRAM has parts of two files then.
        other.burst(&[]).expect("asked");
        let said = out(&["--card", &card, "replay", text(&file), "--port", "0", "--iterations", "2"]);
        assert_eq!(said, "port 0: 6 of 6 frames sent, 2 of 2 times 3\n");
        let sent = other.burst(&[]).expect("asked");
        let last: Vec<_> = sent.iter().rev().take(6).rev().map(|(_, f)| f.clone()).collect();
        assert_eq!(last, [bytes(&new), bytes(&new)].concat());
        assert!(bytes(&frames(12, Duration::ZERO)).contains(&sent[0].1), "before them what was under way");
    }
}

/// A full memory takes seconds to load through a socket.
#[test]
fn a_replay_that_is_stopped_while_it_loads_sends_nothing() {
    let served = generator(&[]);
    let card = served.card();
    let many: Vec<Timed> = (0..10_000).map(|_| Timed { at: Duration::ZERO, bytes: vec![7; 60] }).collect();
    let full = write(&served, "full", &many);
    let mut other = connect(&served);
    let mut replay = Running::start(&["--card", &card, "replay", text(&full), "--port", "0"]);
    // The first word of the port's memory.
    until(&mut other, 0x100_0004 + 16 * 36_864, |control| control == 0xff);
    replay.signal(Signal::SIGINT);
    let deadline = Instant::now() + LONG;
    let status = loop {
        if let Some(status) = replay.0.try_wait().expect("asked") {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(!status.success(), "it says that it did not do what it was asked");
    assert_eq!(other.read32(0x100_0004 + 16 * 126_855).expect("read"), 0, "it did not load to the end");
    assert_eq!(other.read32(ENABLE).expect("read"), 0);
    assert_eq!(other.burst(&[]).expect("asked"), []);
    let short = write(&served, "short", &frames(2, Duration::ZERO));
    let said = out(&["--card", &card, "replay", text(&short), "--port", "0"]);
    assert_eq!(said, "port 0: 2 of 2 frames sent\n");
}

#[test]
fn what_cannot_be_replayed_is_refused_and_nothing_is_written() {
    let served = generator(&[]);
    let card = served.card();
    let mut other = connect(&served);
    let before = |other: &mut CosimCard| {
        let at = [ENABLE, QUEUE_8_CTRL, 0x200_0820, 0x200_0824, 0x200_0020, 0x100_0004 + 16 * 36_864];
        at.map(|address| other.read32(address).expect("read"))
    };
    let was = before(&mut other);
    let many: Vec<Timed> = (0..11_000).map(|_| Timed { at: Duration::ZERO, bytes: vec![7; 60] }).collect();
    let large = write(&served, "large", &many);
    let said = error(&["--card", &card, "replay", text(&large), "--port", "0"]);
    assert!(said.contains("11000 frames do not fit") && said.contains("the first 10467;"), "{said}");
    let cut = served.socket.with_extension("cut");
    let whole = std::fs::read(write(&served, "pcap", &frames(2, Duration::ZERO))).expect("read");
    std::fs::write(&cut, &whole[..whole.len() - 1]).expect("written");
    let said = error(&["--card", &card, "replay", text(&cut), "--port", "0"]);
    assert!(said.contains("frame 2 cannot be read"), "{said}");
    let none = served.socket.with_extension("none");
    std::fs::write(&none, "no pcap file at all, but long enough").expect("written");
    assert!(error(&["--card", &card, "replay", text(&none), "--port", "0"]).contains("no pcap file"));
    let pcap = served.socket.with_extension("pcap");
    assert!(error(&["--card", &card, "replay", text(&pcap), "--port", "4"]).contains("ports 0 to 3"));
    assert!(error(&["--card", &card, "replay", "--port", "9"]).contains("ports 0 to 3"));
    let said = error(&["--card", &card, "capture", "--port", "4", "--out", text(&none)]);
    assert!(said.contains("ports 0 to 3"), "{said}");
    assert_eq!(before(&mut other), was, "the card is as it was");

    // Other bitfiles, and other kinds of devices.
    let switch = Served::start(&[]);
    let said = error(&["--card", &switch.card(), "replay", text(&pcap), "--port", "0"]);
    assert!(said.contains("openflow-switch neither replays nor captures"), "{said}");
    for (way, why) in
        [("mmap:0000:03:00.0", "hands no frames to the CPU"), ("ioctl:nf2c0", "listening at nf2c1")]
    {
        let said = error(&["--card", way, "capture", "--port", "1", "--out", text(&none)]);
        assert!(said.contains(why), "{said}");
    }
    let output = tool(&["model", "--listen", text(&none), "--cable", "0:1"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--profile packet-generator"));
}
