//! The queues in SRAM and the registers by which a packet generator bitfile replays and captures.

use super::check::{Fault, Parts};
use serde::Deserialize;

/// The fewest words of SRAM for a port's replay queue: a length, a delay, and the shortest frame.
const FEWEST: u32 = 16;

/// Replay and capture in a profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorFile {
    /// Name of the block of output queues.
    pub queue: String,
    /// The queue that port 0 replays from; the next is port 1's.
    pub first_queue: u8,
    /// Name of the register with a bit per port for replay and capture, and 8 bits higher one that
    /// keeps captured frames from the CPU.
    pub control: String,
    /// Name of the block with a port's capture counters.
    pub capture: String,
    /// Name of the register that releases delayed frames.
    pub delay_reset: String,
    /// Address of the SRAM's first word.
    pub sram: u32,
    /// Words of the SRAM.
    pub sram_words: u32,
    /// Words of each port's queue for other frames.
    pub port_words: u32,
    /// Words of each CPU port's queue.
    pub cpu_words: u32,
    /// The longest frame in bytes, without FCS.
    pub longest: u16,
}

/// Bytes from one word of SRAM to the next: 16, of which the last twelve are used.
pub const WORD_STRIDE: u32 = 16;

/// A queue in SRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct SramQueue {
    /// Its number, and that of its bit in a frame's destination.
    pub number: u8,
    /// Address of CTRL: bit 0 enables sending, bit 1 initialises (resets the counters, and reads
    /// from the start).
    pub control: u32,
    /// Address of the register with its first word.
    pub low: u32,
    /// Address of the register with its last word.
    pub high: u32,
    /// Its first word in this project's layout of the SRAM.
    pub first: u32,
    /// Number of its words.
    pub words: u32,
}

/// The registers by which a port replays and captures. All but the numbers of bits and limiters are
/// addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct GeneratorPort {
    /// The queue that it replays.
    pub queue: SramQueue,
    /// Frames that left the queue.
    pub packets_removed: u32,
    /// Their bytes without FCS.
    pub bytes_removed: u32,
    /// Number of iterations done.
    pub iteration: u32,
    /// Number of iterations requested.
    pub iterations: u32,
    /// Captured frames.
    pub captured: u32,
    /// Their bytes with FCS, upper half; the lower half follows, then the times of the first and
    /// the last.
    pub captured_bytes: u32,
}

/// Replay and capture of a bitfile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Generator {
    /// Address of the register with a bit per port; see [`GeneratorFile::control`].
    pub control: u32,
    /// Address of the register that releases delayed frames.
    pub delay_reset: u32,
    /// Address of the SRAM's first word.
    pub sram: u32,
    /// Words of the SRAM.
    pub sram_words: u32,
    /// The longest frame in bytes, without FCS.
    pub longest: u16,
    /// The registers of each port.
    pub ports: Vec<GeneratorPort>,
    /// The queues of all other frames, which must not overlap the replay queues.
    pub others: Vec<SramQueue>,
}

impl Generator {
    /// The address of a word's control bits; those of its data follow, upper half first. `None`
    /// outside the SRAM.
    pub fn word(&self, word: u32) -> Option<u32> {
        let at = word.checked_mul(WORD_STRIDE)?.checked_add(4)?;
        if word < self.sram_words { self.sram.checked_add(at) } else { None }
    }

    /// The word, and its part (0 control, 1 upper, 2 lower half), at an address.
    pub fn part(&self, address: u32) -> Option<(u32, usize)> {
        let from = address.checked_sub(self.sram)?;
        let (word, at) = (from / WORD_STRIDE, from % WORD_STRIDE / 4);
        let part = usize::try_from(at.checked_sub(1)?).ok()?;
        if word < self.sram_words { Some((word, part)) } else { None }
    }
}

impl Parts<'_> {
    /// Lays the SRAM out in the order of ports: the queue to the MAC, that to the CPU, and an equal
    /// part of the rest for replay, so that no port's replay moves another's.
    pub(super) fn generator(&mut self, g: &GeneratorFile, ports: u8) -> Generator {
        let part = "generator";
        let each = g.sram_words.checked_div(ports.into()).unwrap_or_default();
        let replay = each.saturating_sub(g.port_words.saturating_add(g.cpu_words));
        let end = u64::from(g.sram) + u64::from(g.sram_words) * u64::from(WORD_STRIDE);
        let mut wrong = |why: String| self.faults.push(Fault::Part { part, why });
        if replay < FEWEST || g.port_words == 0 || g.cpu_words == 0 {
            let why = "words for replay, of each port and of each CPU port: one of them has none";
            wrong(format!("sram_words = {} leaves too few {why}", g.sram_words));
        }
        if end > u64::from(crate::registers::BAR_BYTES) || !g.sram.is_multiple_of(WORD_STRIDE) {
            wrong(format!(
                "sram = 0x{:x}: a multiple of 16 whose words end within the card is needed",
                g.sram
            ));
        }
        if !(60..=2032).contains(&g.longest) {
            wrong(format!("longest = {}: 60 to 2032 bytes are what there is code for", g.longest));
        }
        let mut others = Vec::new();
        let mut all = Vec::new();
        for port in 0..ports {
            let start = u32::from(port).saturating_mul(each);
            let cpu = start.saturating_add(g.port_words);
            others.push(self.sram_queue(g, port.saturating_mul(2), start, g.port_words));
            others.push(self.sram_queue(g, port.saturating_mul(2).saturating_add(1), cpu, g.cpu_words));
            let queue = g.first_queue.saturating_add(port);
            let first = cpu.saturating_add(g.cpu_words);
            let block = g.queue.replace("{}", &queue.to_string());
            let capture = g.capture.replace("{}", &port.to_string());
            let captured_bytes = self.find(part, format!("{capture}_BYTE_COUNT_HI"));
            for (i, name) in
                (1..).zip(["BYTE_COUNT_LO", "TIME_FIRST_HI", "TIME_FIRST_LO", "TIME_LAST_HI", "TIME_LAST_LO"])
            {
                let address = self.find(part, format!("{capture}_{name}"));
                if address != captured_bytes.saturating_add(4 * i) && address != 0 && captured_bytes != 0 {
                    let why = format!("the registers of {capture} do not follow each other");
                    self.faults.push(Fault::Part { part, why });
                }
            }
            all.push(GeneratorPort {
                queue: self.sram_queue(g, queue, first, replay),
                packets_removed: self.find(part, format!("{block}_NUM_PKTS_REMOVED")),
                bytes_removed: self.find(part, format!("{block}_NUM_PKT_BYTES_REMOVED")),
                iteration: self.find(part, format!("{block}_CURR_ITER")),
                iterations: self.find(part, format!("{block}_MAX_ITER")),
                captured: self.find(part, format!("{capture}_PKT_COUNT")),
                captured_bytes,
            });
        }
        Generator {
            control: self.find(part, g.control.clone()),
            delay_reset: self.find(part, g.delay_reset.clone()),
            sram: g.sram,
            sram_words: g.sram_words,
            longest: g.longest,
            ports: all,
            others,
        }
    }

    fn sram_queue(&mut self, g: &GeneratorFile, queue: u8, first: u32, words: u32) -> SramQueue {
        let part = "generator";
        let block = g.queue.replace("{}", &queue.to_string());
        SramQueue {
            number: queue,
            control: self.find(part, format!("{block}_CTRL")),
            low: self.find(part, format!("{block}_ADDR_LO")),
            high: self.find(part, format!("{block}_ADDR_HI")),
            first,
            words,
        }
    }
}
