//! Computes when the frames of a replay leave: the cost does not depend on the time that passes.

use super::words;
use crate::generator::words::Stored;
use crate::limiter::Setting;
use tandem_model::Time;

/// Nanoseconds of a byte on the wire.
pub(super) const BYTE: u64 = 8;
/// FCS of a frame, in bytes.
pub(super) const FCS: u64 = 4;
/// Preamble and inter-frame gap, in bytes.
const BETWEEN: u64 = 20;

/// A running replay.
#[derive(Debug, Clone)]
pub(super) struct Run {
    frames: Vec<Stored>,
    /// For each frame: nanoseconds from an iteration's start, and bytes and words before it.
    starts: Vec<(u64, u64, u64)>,
    /// Nanoseconds, bytes and words of an iteration.
    whole: (u64, u64, u64),
    /// When frame `base` left.
    since: Time,
    base: u64,
}

/// Frames that leave by the same port together; those that are not in `frames` are only counted.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) words: u64,
    /// When the first began.
    pub(super) first: u64,
    /// When the last ended.
    pub(super) end: u64,
    pub(super) frames: Vec<(u64, Vec<u8>)>,
}

impl Run {
    pub(super) fn new(frames: Vec<Stored>, limit: Setting, since: Time, base: u64) -> Option<Run> {
        let (mut at, mut bytes, mut all_words) = (0u64, 0u64, 0u64);
        let mut starts = Vec::with_capacity(frames.len());
        for (i, frame) in frames.iter().enumerate() {
            starts.push((at, bytes, all_words));
            let length = frame.bytes.len() as u64;
            let next = frames.get(i + 1).or(frames.first())?;
            let wire = (length + FCS + BETWEEN) * BYTE;
            let limited = match limit {
                Setting::Tokens { interval, increment } if increment > 0 => {
                    (length + FCS).div_ceil(increment.into()) * u64::from(interval) * BYTE
                }
                _ => 0,
            };
            let gap = next.gap.as_nanos() as u64;
            at += wire.max(limited).max(gap);
            bytes += length;
            all_words += u64::from(words(frame.bytes.len()));
        }
        Some(Run { frames, starts, whole: (at, bytes, all_words), since, base }).filter(|r| r.whole.0 > 0)
    }

    pub(super) fn count(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Nanoseconds, bytes and words before frame `index`, counted over all iterations.
    pub(super) fn before(&self, index: u64) -> (u64, u64, u64) {
        let (whole, rest) = (index / self.count(), (index % self.count()) as usize);
        let (at, bytes, words) = self.starts.get(rest).copied().unwrap_or_default();
        let times = |n: u64, more: u64| n.saturating_mul(whole).saturating_add(more);
        (times(self.whole.0, at), times(self.whole.1, bytes), times(self.whole.2, words))
    }

    /// When frame `index` begins, in nanoseconds of the model's clock.
    pub(super) fn starts_at(&self, index: u64) -> u64 {
        self.since.0.saturating_add(self.before(index).0.saturating_sub(self.before(self.base).0))
    }

    /// Number of frames that have begun.
    pub(super) fn due(&self, now: Time) -> u64 {
        let passed = now.since(self.since).as_nanos() as u64;
        let passed = passed.saturating_add(self.before(self.base).0);
        let (whole, rest) = (passed / self.whole.0.max(1), passed % self.whole.0.max(1));
        let begun = self.starts.partition_point(|(at, _, _)| *at <= rest) as u64;
        whole.saturating_mul(self.count()).saturating_add(begun)
    }

    pub(super) fn frame(&self, index: u64) -> Option<&Stored> {
        self.frames.get((index % self.count()) as usize)
    }

    /// Frames `from` to `to`, the first `room` of them with their bytes.
    pub(super) fn batch(&self, from: u64, to: u64, room: usize) -> Batch {
        let (before, after) = (self.before(from), self.before(to));
        let last = to.saturating_sub(1);
        let length = self.frame(last).map_or(0, |f| f.bytes.len() as u64);
        let with_bytes = (from..to).take(room);
        Batch {
            packets: to - from,
            bytes: after.1.saturating_sub(before.1),
            words: after.2.saturating_sub(before.2),
            first: self.starts_at(from),
            end: self.starts_at(last).saturating_add((length + FCS) * BYTE),
            frames: with_bytes
                .filter_map(|i| Some((self.starts_at(i), self.frame(i)?.bytes.clone())))
                .collect(),
        }
    }
}
