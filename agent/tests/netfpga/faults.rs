//! A card with the faults of its bitfile, under traffic, and frames of a host that trigger them:
//! the agent detects the fault, resets the card and writes its tables again.
//!
//! The card is `tandem-fpga model --faults` behind its socket. Durations are printed; the tests
//! only assert that the outage ends.

use crate::host::{Agent, Host};
use crate::support::{LIMIT, Talk, is_root, wait};
use crate::talk::{across, flow};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tandem_fpga_card::Card as _;
use tandem_fpga_card::cosim::CosimCard;
use tandem_fpga_config::registers::Registers;
use tandem_linux::packet::{Batch, Receiver, Transmitter};
use tandem_model::Mac;
use tandem_openflow::of13::{Field, FlowMod, Masked};

/// The card, a process of its own.
struct Card {
    socket: PathBuf,
    process: Child,
}

impl Card {
    fn start(socket: &Path) -> Card {
        let tool = Path::new(env!("CARGO_BIN_EXE_tandem-agent")).with_file_name("tandem-fpga");
        assert!(tool.exists(), "tandem-fpga is not built; run `cargo test --workspace --no-run` first");
        let process = Command::new(tool)
            .args(["model", "--faults", "--listen"])
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        let card = Card { socket: socket.to_owned(), process };
        wait("the card listens", || std::os::unix::net::UnixStream::connect(&card.socket).ok());
        card
    }

    /// Kills it; the next one is a freshly loaded card.
    fn kill_and_start(&mut self) {
        self.kill();
        *self = Card::start(&self.socket);
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Packets of these flows need exact entries: there are more flows than rows.
const MANY: u8 = 34;

fn to(n: u8) -> Mac {
    Mac([2, 0, 0, 9, 9, n])
}

/// From port 2 to port 1, by destination.
fn many() -> impl Iterator<Item = FlowMod> {
    (0..MANY).map(|n| {
        let fields = vec![Field::InPort(2), Field::EthDst(Masked { value: to(n), mask: None })];
        flow(1000 + u64::from(n), 200, fields, 1)
    })
}

/// An experimental frame (IEEE 802 local experimental type 1) with a number in it.
fn numbered(to: Mac, number: u64) -> Vec<u8> {
    let mut frame = [&to.0[..], &[2, 0, 0, 0, 0, 0xee, 0x88, 0xb5]].concat();
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    frame
}

/// A UDP packet over IPv4 in 60 bytes whose header claims this many words.
fn long_header(words: u8) -> Vec<u8> {
    let mut frame =
        vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x40 | words, 0, 0, 0x2e, 0, 1, 0, 0, 64, 17];
    frame.extend([0, 0, 10, 1, 0, 1, 10, 1, 0, 2, 3, 0xe8, 7, 0xd0, 0, 26, 0, 0]);
    frame.resize(60, 0x78);
    frame
}

/// A tagged frame of 128 bytes, and the shortest one.
fn tagged_then_short() -> [Vec<u8>; 2] {
    let mut tagged = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 0, 0x88, 0xb5];
    tagged.resize(128, 0x5a);
    [tagged, numbered(Mac([2, 0, 0, 0, 0, 2]), u64::MAX)]
}

/// Sends numbered frames from the end of a port to that of another, about one every millisecond.
struct Stream {
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Vec<(u64, Instant)>>,
}

impl Stream {
    fn start(host: &Host, from: u32, by: u32) -> Stream {
        let ends = Arc::new(AtomicBool::new(false));
        let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut transmitter =
            host.end(from).run(|| Transmitter::open(10, 0)).expect("inside").expect("a socket");
        let mut socket = host.end(by).run(|| Receiver::open("eth0", 10)).expect("inside").expect("a socket");
        let to = Mac([2, 0, 0, 0, 0, by as u8]);
        let (over, count) = (ends.clone(), sent.clone());
        let sender = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let frame = numbered(to, count.load(Ordering::Relaxed));
                if transmitter.send(&frame, &[(0, frame.len() as u32)]).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let (over, count) = (ends.clone(), received.clone());
        let receiver = std::thread::spawn(move || {
            let (mut all, mut batch) = (Vec::new(), Batch::new(1500));
            while !over.load(Ordering::Relaxed) {
                batch.clear();
                let _ = socket.receive(&mut batch, 0);
                let now = Instant::now();
                for (_, frame) in batch.frames() {
                    let number = frame.get(14..22).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
                    if frame[12..14] == [0x88, 0xb5] && frame[..6] == to.0 {
                        all.extend(number.filter(|n| *n != u64::MAX).map(|n| (n, now)));
                    }
                }
                count.store(all.len() as u64, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
            all
        });
        Stream { ends, sent, received, sender, receiver }
    }

    /// Waits until this many more have come.
    fn flows(&self, more: u64) {
        let before = self.received.load(Ordering::Relaxed);
        wait("the stream flows", || (self.received.load(Ordering::Relaxed) >= before + more).then_some(()));
    }

    /// The numbers of frames sent and lost, and the longest gap.
    fn end(self) -> (u64, u64, Duration) {
        self.ends.store(true, Ordering::Relaxed);
        self.sender.join().expect("it ends");
        let received = self.receiver.join().expect("it ends");
        let sent = self.sent.load(Ordering::Relaxed);
        let silence = received.windows(2).map(|w| w[1].1 - w[0].1).max().unwrap_or_default();
        // Frames in flight at the end do not count as lost.
        let last = received.last().map_or(0, |(n, _)| n + 1);
        (sent, last.saturating_sub(received.len() as u64), silence)
    }
}

/// A host, its card with faults, its agent, rows in both directions between ports 1 and 2, and some
/// exact entries.
fn up(options: &str, flows: impl IntoIterator<Item = FlowMod>) -> (Host, Card, Agent, Talk) {
    let host = Host::new();
    let card = Card::start(&host.path("card.sock"));
    host.configure("a", &format!("device = \"cosim:{}\"\n{options}", card.socket.display()));
    let agent = host.start("a");
    assert_eq!(host.applied("a"), serde_json::json!([]));
    let mut talk = host.talk("a");
    talk.install(flows.into_iter().chain([across(1, 2), across(2, 1)]));
    host.reach(1, 2);
    (host, card, agent, talk)
}

/// Sends frames of all the many flows, until each without a row has its exact entry.
fn entries(host: &Host) {
    wait("exact entries", || {
        (0..MANY).for_each(|n| host.send(2, &numbered(to(n), u64::MAX)));
        let line = host.view("a").about.into_iter().next()?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|w| *w == "exact")?;
        words.get(at.checked_sub(1)?)?.parse::<u64>().ok().filter(|n| *n > 5)
    });
}

fn good() -> Vec<u8> {
    numbered(Mac([2, 0, 0, 0, 0, 2]), u64::MAX)
}

/// Sends two frames that stop the data path, each followed by another.
fn stop(host: &Host) {
    host.send_all(1, &[long_header(15), good(), long_header(15), good()]);
}

/// Waits for a line about the card, while frames keep coming.
fn shown(host: &Host, what: &str, is_it: impl Fn(&[String], &String) -> bool) -> String {
    wait(what, || {
        host.send(1, &good());
        let about = host.view("a").about;
        about.iter().find(|line| is_it(&about, line)).cloned()
    })
}

/// Waits until the outage with this number has ended; returns the line about it.
fn recovered(host: &Host, times: u32) -> String {
    let words = format!("lagged or stopped {times} times");
    shown(host, &words, |all, line| {
        !all.iter().any(|l| l.contains("NOT FORWARDING")) && line.contains(&words)
    })
}

/// Waits until the log has this so many times.
fn logged(host: &Host, words: &str, times: usize) {
    wait(words, || {
        host.send(1, &good());
        (host.log("a").matches(words).count() >= times).then_some(())
    });
}

/// Sends frames into a card until its data path has stopped.
fn stand(socket: &Path) {
    let mut card = CosimCard::connect(socket, LIMIT).expect("it listens");
    for frame in [long_header(15), good(), long_header(15), good(), good()] {
        card.inject(0, &frame).expect("it takes them");
    }
    assert_eq!(card.inject(0, &good()).expect("it takes them"), []);
}

const RESET: &str = "the card is reset";

#[test]
fn a_stopped_card_is_noticed_reset_and_written_anew_and_no_count_goes_back() {
    if !is_root() {
        return;
    }
    let (host, _card, _agent, mut talk) = up("", many());
    let stream = Stream::start(&host, 1, 2);
    // The most used flow gets a row first, so that no later change of places is mistaken for a
    // loss.
    wait("its rule in a row", || host.places("a")[&12].starts_with("hardware row ").then_some(()));
    entries(&host);
    let there = |host: &Host| {
        let hardware = |p: &String| p.starts_with("hardware row ") || p.starts_with("exact table");
        host.places("a").into_iter().filter(|(_, p)| hardware(p)).map(|(flow, _)| flow).collect::<Vec<_>>()
    };
    let all = there(&host);
    assert_eq!(all.len(), usize::from(MANY) + 2);
    stream.flows(200);
    let before = (talk.packets(12), talk.port(1).rx_packets);
    stop(&host);
    let begun = Instant::now();
    // Checks every count at every moment.
    let mut last = before;
    let told = wait("the outage is over", || {
        let now = (talk.packets(12), talk.port(1).rx_packets);
        assert!(now.0 >= last.0 && now.1 >= last.1, "{now:?} after {last:?}");
        last = now;
        let log = host.log("a");
        log.lines().find(|l| l.contains("the card forwards again")).map(str::to_owned)
    });
    let over = begun.elapsed();
    stream.flows(500);
    let (sent, lost, silence) = stream.end();
    let line = recovered(&host, 1);
    println!(
        "stopped by 2 frames: noticed and healed after {:.0} ms; {lost} of {sent} frames lost, longest silence {:.0} ms; {line}; {told}",
        over.as_secs_f64() * 1e3,
        silence.as_secs_f64() * 1e3,
    );
    assert!(lost > 0 && silence > Duration::from_millis(5), "it had not stopped");
    let log = host.log("a");
    assert!(log.contains("its data path has stopped: frames wait and none is forwarded"), "{log}");
    assert!(!log.contains("has lost its rows"), "its own reset is no surprise: {log}");
    assert_eq!(host.say("a", &["status"]).1.matches("was reset: ").count(), 1);
    // Rows and exact entries are in their places, and count on.
    assert_eq!(there(&host), all, "without a packet that would have caused an entry");
    let row = (talk.packets(12), talk.port(1).rx_packets);
    assert!(
        row.0 >= last.0 && row.1 >= last.1 && row.0 + lost >= sent,
        "{row:?} after {last:?}, {sent} sent"
    );
    // No count has jumped, as that of a counter does that was reset and is taken as wrapped.
    let most = sent + 1000;
    assert!(row.0 <= most && row.1 <= most, "{row:?}, {sent} sent");
    host.reach(1, 2);
    // The controller's view.
    let told: serde_json::Value =
        serde_json::from_str(&host.say("a", &["--json", "counters"]).1).expect("JSON");
    let card = &told[0]["card"];
    assert!(card["path"] == "working" && card["outages"] == 1, "{told}");
    assert!(card["outage_ms"].as_f64().is_some_and(|ms| ms > 5.0), "{card}");
}

#[test]
fn a_card_that_lags_by_one_frame_is_healed_too() {
    if !is_root() {
        return;
    }
    let (host, _card, _agent, _talk) = up("", []);
    let good = numbered(Mac([2, 0, 0, 0, 0, 2]), 1);
    host.hears(2, &good, || host.send(1, &good));
    host.send(1, &long_header(14));
    let begun = Instant::now();
    // The card's decision for this frame makes it leave wrongly; from then on each frame uses the
    // decision for the next.
    host.hears(2, &long_header(14), || host.send(1, &good));
    let line = wait("it is told", || {
        host.log("a").lines().find(|l| l.contains("the card forwards again")).map(str::to_owned)
    });
    println!(
        "lags by one frame: noticed and healed after {:.0} ms; {line}",
        begun.elapsed().as_secs_f64() * 1e3
    );
    host.hears(2, &good, || host.send(1, &good));
    assert!(host.log("a").contains("its look-up is a frame behind"), "{}", host.log("a"));
    recovered(&host, 1);
}

#[test]
fn a_tagged_frame_with_a_short_one_close_behind_it_stops_the_card_for_a_moment_only() {
    if !is_root() {
        return;
    }
    let (host, _card, _agent, _talk) = up("", []);
    let [tagged, short] = tagged_then_short();
    // Both frames have to arrive in one batch to follow each other closely.
    let mut tries = 0;
    wait("it stops", || {
        tries += 1;
        host.send_all(1, &[tagged.clone(), short.clone()]);
        host.log("a").contains(RESET).then_some(())
    });
    let line = shown(&host, "it forwards", |all, line| {
        !all.iter().any(|l| l.contains("NOT FORWARDING")) && line.contains("lagged or stopped")
    });
    println!("a tagged frame and a short one: {tries} pairs until it was reset; {line}");
    host.reach(1, 2);
}

#[test]
fn three_times_in_a_minute_are_healed_at_once_then_the_pause_grows_and_others_hold_it_up_no_longer() {
    if !is_root() {
        return;
    }
    let (host, mut card, _agent, mut talk) = up("", []);
    for times in 1..=3 {
        stop(&host);
        recovered(&host, times);
        host.reach(1, 2);
    }
    stop(&host);
    let line = shown(&host, "three times within a minute, so it is left so for 5 s", |_, l| {
        l.contains("three times within a minute, so it is left so for 5 s")
    });
    println!("{line}");
    assert!(line.starts_with("NOT FORWARDING: its data path has stopped"), "{line}");
    let places = host.places("a");
    assert!(places[&12].starts_with("nowhere: its data path has stopped"), "{places:?}");
    // Packets between plain NICs do not pass the card.
    talk.install([across(3, 4), across(4, 3)]);
    host.reach(3, 4);
    host.shows("a", "it is reset in");
    recovered(&host, 4);
    host.reach(1, 2);
    stop(&host);
    shown(&host, "so it is left so for 10 s", |_, l| l.contains("so it is left so for 10 s"));

    // The card is killed during the outage, and comes back empty: it is treated like one that was
    // gone.
    card.kill_and_start();
    host.reach(1, 2);
    recovered(&host, 5);
    assert!(host.places("a")[&12].starts_with("hardware row "));

    // The same for a card that dies at the moment of its reset.
    let told = host.log("a").matches(RESET).count();
    stop(&host);
    logged(&host, RESET, told + 1);
    card.kill_and_start();
    host.reach(1, 2);
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_it_leaves_the_rest_to_the_next() {
    if !is_root() {
        return;
    }
    let (host, card, agent, talk) = up("", []);
    let kept = || std::fs::metadata(host.path("a.state/netfpga/core1.flows")).is_ok_and(|m| m.len() > 100);
    wait("its flows are kept", || kept().then_some(()));
    // The agent is killed at the moment of the reset: the next one finds an empty card, and writes
    // it.
    stop(&host);
    logged(&host, RESET, 1);
    drop((agent, talk));
    let agent = host.start("a");
    host.reach(1, 2);
    wait("its flows in the card", || {
        host.places("a").get(&12).is_some_and(|p| p.starts_with("hardware row ")).then_some(())
    });
    // The agent starts with a stopped card: frames wait.
    drop(agent);
    stand(&card.socket);
    let _agent = host.start("a");
    logged(&host, RESET, 2);
    host.reach(1, 2);
    recovered(&host, 1);
}

#[test]
fn where_it_is_configured_the_receiver_of_the_only_port_that_was_heard_is_switched_off() {
    if !is_root() {
        return;
    }
    let (host, _card, _agent, _talk) = up("mute = true\n", []);
    let ahead = numbered(Mac([2, 0, 0, 0, 0, 1]), 7);
    for times in 1..=3 {
        stop(&host);
        recovered(&host, times);
    }
    stop(&host);
    let line = shown(&host, "the receiver of port 1 is off for", |_, l| {
        l.contains("the receiver of port 1 is off for")
    });
    println!("{line}");
    // Frames from port 2 are forwarded, while those of port 1 are not accepted.
    recovered(&host, 4);
    host.hears(1, &ahead, || host.send(2, &ahead));
    host.shows("a", "the receiver of port 1 is off for");
    wait("it is on again", || host.log("a").contains("the receiver of port 1 is on again").then_some(()));
    host.reach(1, 2);
}

#[test]
fn where_it_is_not_wanted_a_stop_is_told_and_left_to_the_operator() {
    if !is_root() {
        return;
    }
    let (host, card, _agent, mut talk) = up("recover = false\n", []);
    stop(&host);
    let line = shown(&host, "it is told", |_, l| l.contains("NOT FORWARDING"));
    assert!(line.contains("recover = false"), "{line}");
    assert_eq!(host.ping(1, 2, 2), 0);
    // Another process does it meanwhile.
    let other = CosimCard::connect(&card.socket, LIMIT)
        .and_then(|mut c| c.write32(0x008, 0x0001_0100).map_err(std::io::Error::other));
    other.expect("it is told");
    host.reach(1, 2);
    recovered(&host, 1);
    let port = talk.port(1);
    assert!((1..10_000).contains(&port.rx_packets), "it began anew, and did not wrap: {port:?}");
}
