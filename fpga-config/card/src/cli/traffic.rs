//! `replay` and `capture`.

use super::args::{Capture, Cli, Replay};
use super::{Opened, print_json};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tandem_fpga_card::Card;
use tandem_fpga_card::interface::{self, Listener};
use tandem_fpga_card::lock::LockError;
use tandem_fpga_card::pcap::{self, Writer};
use tandem_fpga_card::replay;
use tandem_fpga_card::target::Target;
use tandem_fpga_config::generator::{Options, Plan, Status, Timed, capture};
use tandem_fpga_config::profile::{Generator, Profile};
use tandem_model::BitRate;

/// Interval of the requests for captured frames.
const ASK: Duration = Duration::from_millis(20);

/// The most requests for frames that came before the capture: if frames keep coming, there is no
/// end.
const OLD: usize = 64;

/// How long to wait for a lock that another program holds for a moment.
const LOCK: Duration = Duration::from_secs(10);

fn generator(profile: &Profile) -> anyhow::Result<&Generator> {
    profile.generator.as_ref().with_context(|| {
        format!("the bitfile {} neither replays nor captures; packet-generator does", profile.name)
    })
}

/// True from the first Ctrl-C or SIGTERM on; a second one ends the process.
fn interrupted() -> anyhow::Result<Arc<AtomicBool>> {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Before other threads start, which inherit the mask: only this one takes the signals.
    signals.thread_block()?;
    let stopped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stopped);
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let _ = signals.wait();
        told.store(true, Ordering::SeqCst);
        let signal = signals.wait();
        std::process::exit(signal.map_or(1, |s| 128 + s as i32));
    })?;
    Ok(stopped)
}

pub(crate) fn replay(cli: &Cli, ask: &Replay) -> anyhow::Result<()> {
    let frames = ask.file.as_deref().map(read_frames).transpose()?;
    let rate = ask.rate.as_deref().map(str::parse::<BitRate>).transpose()?;
    let stopped = interrupted()?;
    let mut opened = Opened::to_write(cli)?;
    let profile = opened.profile.clone();
    let (generator, limiter) = (generator(&profile)?, profile.rate_limiter.as_ref());
    let card = &mut *opened.card;
    let Some(frames) = frames else {
        replay::stop(card, generator, limiter, ask.port)?;
        writeln!(io::stdout(), "port {}: stopped", ask.port)?;
        return Ok(());
    };
    let options = Options { port: ask.port, iterations: ask.iterations, gaps: ask.gaps, rate };
    let plan = Plan::new(generator, limiter, &frames, options)?;
    let words = u64::try_from(plan.words().len())?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    // The bar goes to standard error, and only to a terminal.
    let bar = ProgressBar::new(words).with_style(style).with_message("words");
    replay::begin(card, generator, limiter, (ask.port, &plan), &mut |written| {
        bar.set_position(u64::try_from(written).unwrap_or(u64::MAX));
        !stopped.load(Ordering::SeqCst)
    })?;
    // Other ports may be used during the replay.
    opened.lock = None;
    bar.set_message("frames");
    let status = replay::wait(card, &plan, &|| stopped.load(Ordering::SeqCst), &mut |status| {
        bar.set_length(status.of);
        bar.set_position(status.sent);
    });
    bar.finish_and_clear();
    opened.lock = lock(cli)?;
    // Stopped also after the card did not answer for a moment.
    replay::stop(card, generator, limiter, ask.port)?;
    let status = status?;
    report_replay(cli, ask, &plan, &status)
}

/// The frames of a capture file.
fn read_frames(path: &Path) -> anyhow::Result<Vec<Timed>> {
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    pcap::read(file).with_context(|| format!("{}", path.display()))
}

/// Prints what was sent.
fn report_replay(cli: &Cli, ask: &Replay, plan: &Plan<'_>, status: &Status) -> anyhow::Result<()> {
    let (port, frames, padded) = (ask.port, plan.frames(), plan.padded());
    if cli.json {
        return print_json(&json!({
            "port": port, "frames": frames, "padded": padded, "sent": status.sent, "of": status.of,
            "iterations": status.iteration, "done": status.done, "limit_bit_per_second": plan.rate().map(|r| r.0),
        }));
    }
    let mut line = format!("port {port}: {} of {} frames sent", status.sent, status.of);
    if ask.iterations > 1 {
        line.push_str(&format!(", {} of {} times {frames}", status.iteration, ask.iterations));
    }
    if let Some(rate) = plan.rate() {
        line.push_str(&format!(", at most {rate}"));
    }
    if padded > 0 {
        line.push_str(&format!(", {padded} of {frames} padded to 60 bytes"));
    }
    if !status.done {
        line.push_str("; stopped");
    }
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

/// Takes the card's lock; waits while another program holds it for a moment.
fn lock(cli: &Cli) -> anyhow::Result<Option<tandem_fpga_card::lock::Lock>> {
    let began = Instant::now();
    loop {
        match cli.card.lock("tandem-fpga") {
            Err(LockError::Held { .. }) if began.elapsed() < LOCK => std::thread::sleep(ASK),
            other => return Ok(other?),
        }
    }
}

/// The source of captured frames.
enum Source {
    /// Replies of the card, from this queue.
    Card(u8),
    /// An interface of its driver.
    Interface(Listener),
}

impl Source {
    fn of(target: &Target, port: u8) -> anyhow::Result<Source> {
        match target {
            Target::Cosim(_) | Target::Model => Ok(Source::Card(port.saturating_mul(2).saturating_add(1))),
            Target::Mmap(_) => bail!(
                "a card without its driver hands no frames to the CPU: capture needs --card ioctl:nf2c0 or \
                 cosim:SOCKET"
            ),
            Target::Ioctl(device) => {
                let interface = interface::of_port(device, port).with_context(|| {
                    format!("{device} port {port}: frames come by nf2c0 to nf2c3 and so on")
                })?;
                let listener = Listener::open(&interface)
                    .with_context(|| format!("listening at {interface} (root, or CAP_NET_RAW, is needed)"))?;
                Ok(Source::Interface(listener))
            }
        }
    }

    /// Frames that came since the last call.
    fn frames(&mut self, card: &mut dyn Card) -> anyhow::Result<Vec<Vec<u8>>> {
        match self {
            Source::Card(queue) => {
                let sent = card.burst(&[])?.into_iter().filter(|(from, _)| from == queue);
                Ok(sent.map(|(_, frame)| frame).collect())
            }
            Source::Interface(listener) => listener.frames().context("listening at the card's interface"),
        }
    }
}

/// Copies captured frames to the file until there are enough, or until the capture is stopped;
/// returns how many were written, and how many others came.
fn copy_frames(
    card: &mut dyn Card,
    source: &mut Source,
    ask: &Capture,
    stopped: &AtomicBool,
    writer: &mut Writer<BufWriter<File>>,
) -> anyhow::Result<(u64, u64)> {
    let began = Instant::now();
    let (mut written, mut others) = (0u64, 0u64);
    let enough = |written: u64| ask.count.is_some_and(|count| written >= count);
    while !enough(written) {
        let over = stopped.load(Ordering::SeqCst) || ask.seconds.is_some_and(|s| began.elapsed() >= s);
        // One more request for the frames up to the end.
        let frames = source.frames(card)?;
        let none = frames.is_empty();
        for frame in frames {
            match capture::split(&frame) {
                Some((at, bytes)) if !enough(written) => {
                    writer.frame(at, bytes)?;
                    written += 1;
                }
                _ => others += 1,
            }
        }
        if over {
            break;
        }
        if none {
            card.wait(ASK);
        }
    }
    Ok((written, others))
}

pub(crate) fn capture(cli: &Cli, ask: &Capture) -> anyhow::Result<()> {
    let mut source = Source::of(&cli.card, ask.port)?;
    let stopped = interrupted()?;
    let mut opened = Opened::to_write(cli)?;
    let profile = opened.profile.clone();
    let generator = generator(&profile)?;
    generator.port(ask.port)?;
    // The file comes first: if it cannot be created, the card is not accessed.
    let file = File::create(&ask.out).with_context(|| format!("writing {}", ask.out.display()))?;
    let mut writer = Writer::new(BufWriter::new(file))?;
    let card = &mut *opened.card;
    // Frames from before do not belong to this capture.
    for _ in 0..OLD {
        if source.frames(card)?.is_empty() {
            break;
        }
    }
    generator.capture(card, ask.port)?;
    opened.lock = None;
    if !cli.json {
        writeln!(io::stderr(), "capturing at port {} until {}", ask.port, ask.until())?;
    }
    let (written, others) = copy_frames(card, &mut source, ask, &stopped, &mut writer)?;
    let counted = generator.captured(card, ask.port)?;
    opened.lock = lock(cli)?;
    generator.end_capture(card, ask.port)?;
    writer.into_inner().flush().with_context(|| format!("writing {}", ask.out.display()))?;
    let Some(counted) = counted else { return Ok(()) };
    if cli.json {
        return print_json(
            &json!({ "port": ask.port, "written": written, "others": others, "card": counted }),
        );
    }
    writeln!(
        io::stdout(),
        "port {}: {written} frames in {}; the card counted {} with {} bytes",
        ask.port,
        ask.out.display(),
        counted.packets,
        counted.bytes
    )?;
    Ok(())
}
