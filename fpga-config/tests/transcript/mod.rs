//! Transcripts of a card: its accesses and its replies. `tests/data/netfpga-transcripts/README.md`
//! describes their format.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::time::Duration;
use tandem_fpga_config::model::Model;
use tandem_fpga_config::registers::Registers;
use tandem_model::Time;

/// Frames with their queues.
pub type Frames = Vec<(u8, Vec<u8>)>;

/// A line, with the reply to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Section(String),
    Reset,
    Write(u32, Vec<u32>),
    Read(u32, Vec<u32>),
    /// Frames of a burst, and the frames that left.
    Frames(Frames, Frames),
    /// The rows from this one on belong to this flow.
    Flow(u32, String),
}

fn number(text: &str) -> u32 {
    u32::from_str_radix(text, 16).expect("a hexadecimal number")
}

pub fn bytes(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|p| u8::from_str_radix(std::str::from_utf8(p).expect("text"), 16).expect("hex")).collect()
}

/// The lines of a file, with their numbers.
pub fn lines(text: &str) -> Vec<(usize, Line)> {
    let mut lines: Vec<(usize, Line)> = Vec::new();
    let mut together: Frames = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        let frame = |words: &[&str]| (number(words[1]) as u8, bytes(words[2]));
        let words: Vec<&str> = line.split(' ').collect();
        let values = || words[2..].iter().map(|w| number(w)).collect();
        lines.push((
            at,
            match words[0] {
                "#" => Line::Section(words[1..].join(" ")),
                "reset" => Line::Reset,
                "w" => Line::Write(number(words[1]), values()),
                "r" => Line::Read(number(words[1]), values()),
                "f" => Line::Flow(words[1].parse().expect("a row"), words[2..].join(" ")),
                "p" => Line::Frames(vec![frame(&words)], Vec::new()),
                "q" => {
                    together.push(frame(&words));
                    continue;
                }
                "g" => Line::Frames(std::mem::take(&mut together), Vec::new()),
                ">" => {
                    let Some((_, Line::Frames(_, left))) = lines.last_mut() else {
                        panic!("line {at}: of what?")
                    };
                    let same = left.last().map(|(_, frame)| frame.clone());
                    let frame = if words[2] == "=" { same.expect("one before") } else { bytes(words[2]) };
                    left.push((number(words[1]) as u8, frame));
                    continue;
                }
                _ => panic!("line {at}: {line}"),
            },
        ));
    }
    lines
}

/// The differences, and the number of replies compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub differences: Vec<String>,
    pub answers: usize,
}

/// Executes a transcript on a model.
pub fn replay(text: &str, mut card: Model) -> Outcome {
    let mut outcome = Outcome::default();
    let mut section = String::new();
    let mut now = Time::from_secs(1_000);
    card.set_time(now);
    for (at, line) in lines(text) {
        match line {
            Line::Section(name) => section = name,
            Line::Flow(..) => {}
            Line::Reset => {
                card.write32(0x008, 0x1_0100).expect("a register");
                now = now + Duration::from_millis(5);
                card.set_time(now);
            }
            Line::Write(first, values) => {
                for (address, value) in (first..).step_by(4).zip(values) {
                    card.write32(address, value).expect("a register");
                }
            }
            Line::Read(first, wanted) => {
                let addresses = (first..).step_by(4).take(wanted.len());
                let got: Vec<u32> = addresses.map(|a| card.read32(a).expect("a register")).collect();
                outcome.answers += 1;
                if got != wanted {
                    outcome
                        .differences
                        .push(format!("{at} [{section}] r {first:07x}: wanted {wanted:x?}, got {got:x?}"));
                }
            }
            Line::Frames(frames, wanted) => {
                let frames: Vec<(u8, &[u8])> = frames.iter().map(|(q, f)| (*q, &f[..])).collect();
                let got = card.burst(&frames, now);
                outcome.answers += 1;
                if got != wanted {
                    outcome
                        .differences
                        .push(format!("{at} [{section}]: wanted {wanted:02x?}, got {got:02x?}"));
                }
            }
        }
    }
    outcome
}
