//! Encodes frames as words of the SRAM, and decodes them.
//!
//! A frame consists of a length word (control 0xff), a delay word (0xfe) if it has a gap, and its
//! bytes, eight in each word, with control 0 except in the last word, where one bit marks the
//! frame's last byte. Source: `remove_pkt.v`, `delay.v` and the verification scripts of the packet
//! generator's project.

use std::time::Duration;

/// The shortest frame without FCS (IEEE 802.3 clause 4.2.3.3).
pub const SHORTEST: usize = 60;

/// Gaps are below this: the card compares 40 bits of nanoseconds, and takes the upper half as the
/// past.
pub const GAP: Duration = Duration::from_nanos(1 << 39);

/// Control bits of a length word.
const LENGTH: u8 = 0xff;
/// Control bits of a delay word.
const DELAY: u8 = 0xfe;

/// A word: 8 control bits and 64 of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    /// 0 inside a frame.
    pub control: u8,
    /// Bytes in network order, or a value as the control bits define it.
    pub data: u64,
}

impl Word {
    /// The three parts that are written: control, upper and lower half.
    pub const fn parts(self) -> [u32; 3] {
        [self.control as u32, (self.data >> 32) as u32, self.data as u32]
    }

    /// From those parts.
    pub const fn of(parts: [u32; 3]) -> Word {
        let [control, upper, lower] = parts;
        Word { control: control as u8, data: (upper as u64) << 32 | lower as u64 }
    }
}

/// A frame in the SRAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The least time from the start of the frame before to its own start; 0 for none.
    pub gap: Duration,
    /// Its bytes, without FCS.
    pub bytes: Vec<u8>,
}

/// A word of a queue that does not belong to a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("word {word} of the queue is {found:?}: {wanted} is needed there")]
pub struct WordError {
    /// Its number, from 0.
    pub word: usize,
    /// The word; `None` behind the queue's end.
    pub found: Option<Word>,
    /// What was expected.
    pub wanted: &'static str,
}

/// Number of words for a frame of this length.
pub const fn needed(bytes: usize, gap: Duration) -> usize {
    let bytes = if bytes < SHORTEST { SHORTEST } else { bytes };
    1 + !gap.is_zero() as usize + bytes.div_ceil(8)
}

/// Appends a frame that is replayed by the output queue `queue`. A shorter one than Ethernet has is
/// padded with zeros. The length has to fit 16 bits, and the gap has to be below [`GAP`], or the
/// card truncates them.
pub fn encode(frame: &[u8], gap: Duration, queue: u8, words: &mut Vec<Word>) {
    let length = frame.len().max(SHORTEST);
    let count = length.div_ceil(8);
    let to = 1u64.checked_shl(u32::from(queue) + 48).unwrap_or_default();
    let (count_bits, length_bits) = (count as u64 & 0xffff, length as u64 & 0xffff);
    words.push(Word { control: LENGTH, data: to | count_bits << 32 | length_bits });
    if !gap.is_zero() {
        words.push(Word { control: DELAY, data: gap.as_nanos() as u64 });
    }
    for at in 0..count {
        let byte = |i: usize| u64::from(frame.get(8 * at + i).copied().unwrap_or_default());
        let data = (0..8).fold(0, |data, i| data << 8 | byte(i));
        let control = if at + 1 == count { last(length) } else { 0 };
        words.push(Word { control, data });
    }
}

/// The control bits of a last word: bit 7 for its first byte, bit 0 for its eighth.
const fn last(length: usize) -> u8 {
    match length % 8 {
        0 => 1,
        n => 1 << (8 - n),
    }
}

/// The frames in a queue.
///
/// With the frames before the first word that does not belong to one.
pub fn decode(words: &[Word]) -> Result<Vec<Stored>, (Vec<Stored>, WordError)> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match frame(words, at) {
            Ok((stored, next)) => {
                frames.push(stored);
                at = next;
            }
            Err(error) => return Err((frames, error)),
        }
    }
    Ok(frames)
}

/// The frame that begins at a word, and the index of the next word.
fn frame(words: &[Word], start: usize) -> Result<(Stored, usize), WordError> {
    let wrong = |word: usize, wanted| WordError { word, found: words.get(word).copied(), wanted };
    let head = words.get(start).filter(|w| w.control == LENGTH);
    let head = head.ok_or_else(|| wrong(start, "a length (control 0xff)"))?;
    let (count, length) = ((head.data >> 32 & 0xffff) as usize, (head.data & 0xffff) as usize);
    if count == 0 || length.div_ceil(8) != count {
        return Err(wrong(start, "a length in bytes that takes as many words as it says"));
    }
    let mut at = start + 1;
    let mut gap = Duration::ZERO;
    if let Some(delay) = words.get(at).filter(|w| w.control == DELAY) {
        gap = Duration::from_nanos(delay.data & ((1 << 40) - 1));
        at += 1;
    }
    let mut bytes = Vec::with_capacity(8 * count);
    for i in 0..count {
        let wanted = if i + 1 == count { last(length) } else { 0 };
        let word = words.get(at + i).filter(|w| w.control == wanted);
        let word = word.ok_or_else(|| wrong(at + i, "a word of the frame, marked where it ends"))?;
        bytes.extend(word.data.to_be_bytes());
    }
    bytes.truncate(length);
    Ok((Stored { gap, bytes }, at + count))
}
