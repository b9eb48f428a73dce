//! A VM's memory as it is copied: pages with a version each, which contents follow from; and what
//! arrived of it. Pure.
//!
//! A namespace has no memory of its own to copy, so its pages' contents are computed: different for
//! every VM, page and version. What arrives is checked by what came, not by what should have come:
//! a sum of every page's contents, which both ends must have equal.

use crate::precopy::dirty::{Dirtied, PAGE};
use std::collections::BTreeMap;

/// The sending end's view.
#[derive(Debug, Clone)]
pub struct Memory {
    seed: u64,
    /// What is in each page now.
    versions: Vec<u32>,
    /// What was last sent of each page, one more than its version; 0 for nothing.
    sent: Vec<u32>,
    /// Pages of the working set.
    hot: u64,
    dirtied: Dirtied,
    rounds: u64,
}

/// splitmix64's output function (Steele et al., OOPSLA 2014): every input bit moves every output
/// bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Fills a page with the contents that a version of it has.
fn fill(page: &mut [u8], seed: u64, number: u64, version: u32) {
    let mut word = mix(seed ^ mix(number) ^ (u64::from(version) << 40));
    for place in page.as_chunks_mut::<8>().0 {
        *place = word.to_le_bytes();
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
}

/// A page's share in the sum: depends on its number and on every byte, and on where each is.
pub fn digest(number: u64, page: &[u8]) -> u64 {
    let mut sum = mix(number);
    for word in page.as_chunks::<8>().0 {
        sum = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    sum
}

/// The largest memory that is moved: its books take a gigabyte here.
pub const MOST_BYTES: u64 = 256 << 30;

/// A VM with more memory than can be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    bytes: u64,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "an emulated VM of {} bytes (memory, and its disk where that goes along) cannot be moved; \
             at most {MOST_BYTES} can",
            self.bytes
        )
    }
}

impl std::error::Error for TooLarge {}

impl Memory {
    /// Of a VM with so many bytes, of which that part is written to; `seed` makes its contents its
    /// own.
    ///
    /// # Errors
    /// When it has more than [`MOST_BYTES`]: requests may name any size.
    pub fn new(seed: u64, bytes: u64, working_set: f64) -> Result<Memory, TooLarge> {
        if bytes > MOST_BYTES {
            return Err(TooLarge { bytes });
        }
        let pages = bytes.div_ceil(PAGE);
        let hot = (pages as f64 * working_set.clamp(0.0, 1.0)).ceil() as u64;
        let length = usize::try_from(pages).unwrap_or(usize::MAX);
        Ok(Memory {
            seed,
            versions: vec![0; length],
            sent: vec![0; length],
            hot,
            dirtied: Dirtied::new(hot),
            rounds: 0,
        })
    }

    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        self.versions.len() as u64
    }

    /// The VM has written so many bytes.
    pub fn written(&mut self, bytes: f64) {
        self.dirtied.written(bytes);
    }

    /// How many pages have been dirtied since [`Memory::begin_round`].
    pub fn dirty_pages(&self) -> u64 {
        self.dirtied.pages()
    }

    /// What the round that begins now has to send: every page at first, then those that were
    /// dirtied meanwhile.
    pub fn begin_round(&mut self) -> Vec<u64> {
        let dirty = self.dirtied.pages().min(self.hot);
        self.dirtied = Dirtied::new(self.hot);
        self.rounds += 1;
        // Which ones is of no matter to what is sent; they are others each time.
        let start = mix(self.seed ^ self.rounds).checked_rem(self.hot).unwrap_or(0);
        let pages = (0..dirty).map(|n| (start + n) % self.hot);
        let mut changed = Vec::new();
        for number in pages {
            if let Some(version) = self.versions.get_mut(number as usize) {
                *version = version.wrapping_add(1);
                changed.push(number);
            }
        }
        if self.rounds == 1 { (0..self.pages()).collect() } else { changed }
    }

    /// Puts what a page holds into `place`, and notes that it was sent: its digest.
    pub fn take(&mut self, number: u64, place: &mut [u8]) -> u64 {
        let version = self.versions.get(number as usize).copied().unwrap_or(0);
        fill(place, self.seed, number, version);
        if let Some(sent) = self.sent.get_mut(number as usize) {
            *sent = version.wrapping_add(1);
        }
        digest(number, place)
    }

    /// Pages of which the last version was not sent.
    pub fn missing(&self) -> u64 {
        self.versions.iter().zip(&self.sent).filter(|(now, sent)| now.wrapping_add(1) != **sent).count()
            as u64
    }
}

/// Pages whose digests are kept together.
const TOGETHER: usize = 64;

/// A sum over the pages that are there, each counted as it came last. It takes room only for what
/// came.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// How many pages there can be.
    most: u64,
    /// By page, some together; 0 for one that did not come.
    digests: BTreeMap<u64, [u64; TOGETHER]>,
    pages: u64,
    total: u64,
}

impl Sum {
    /// For pages of numbers below `most`.
    pub fn new(most: u64) -> Sum {
        Sum { most, ..Sum::default() }
    }

    /// A page came, or came anew; false when there can be none of that number.
    pub fn put(&mut self, number: u64, digest: u64) -> bool {
        if number >= self.most {
            return false;
        }
        let some = self.digests.entry(number / TOGETHER as u64).or_insert([0; TOGETHER]);
        let Some(place) = some.get_mut((number % TOGETHER as u64) as usize) else { return false };
        let before = std::mem::replace(place, digest.max(1));
        self.pages += u64::from(before == 0);
        self.total = self.total.wrapping_sub(before).wrapping_add(digest.max(1));
        true
    }

    /// How many different pages, and their sum.
    pub fn total(&self) -> (u64, u64) {
        (self.pages, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(memory: &mut Memory, sum: &mut Sum) -> u64 {
        let mut page = [0u8; PAGE as usize];
        let round = memory.begin_round();
        for number in &round {
            let digest = memory.take(*number, &mut page);
            assert!(sum.put(*number, digest));
        }
        round.len() as u64
    }

    #[test]
    fn the_first_round_has_all_and_the_next_what_was_dirtied() {
        let mut memory = Memory::new(1, 1 << 20, 0.25).expect("small");
        let mut sum = Sum::new(256);
        assert_eq!(send(&mut memory, &mut sum), 256);
        assert_eq!((memory.missing(), sum.total().0), (0, 256));
        memory.written(1e9);
        assert_eq!(memory.dirty_pages(), 64);
        let before = sum.total();
        assert_eq!(send(&mut memory, &mut sum), 64);
        assert_eq!((memory.missing(), sum.total().0), (0, 256));
        assert_ne!(before.1, sum.total().1, "the pages hold something else now");
        assert_eq!(send(&mut memory, &mut sum), 0);
    }

    #[test]
    fn what_was_dirtied_and_not_sent_is_missing() {
        let mut memory = Memory::new(1, 1 << 20, 1.0).expect("small");
        let mut sum = Sum::new(256);
        send(&mut memory, &mut sum);
        memory.written(40.0 * PAGE as f64);
        let round = memory.begin_round();
        assert_eq!(memory.missing(), round.len() as u64);
    }

    #[test]
    fn a_changed_byte_a_swapped_page_and_a_lost_page_change_the_sum() {
        let (mut a, mut b) = ([0u8; PAGE as usize], [0u8; PAGE as usize]);
        fill(&mut a, 1, 0, 0);
        fill(&mut b, 1, 1, 0);
        assert_ne!(a, b);
        let sum = |list: &[(u64, &[u8])]| {
            let mut sum = Sum::new(2);
            list.iter().for_each(|(n, page)| assert!(sum.put(*n, digest(*n, page))));
            sum.total()
        };
        let whole = sum(&[(0, &a), (1, &b)]);
        assert_eq!(whole, sum(&[(1, &b), (0, &a)]), "in any order");
        assert_eq!(whole, sum(&[(0, &b), (1, &b), (0, &a)]), "the last one counts");
        assert_ne!(whole, sum(&[(0, &b), (1, &a)]));
        assert_ne!(whole, sum(&[(0, &a)]));
        assert!(!Sum::new(2).put(2, 7), "there is no such page");
        let mut wrong = a;
        wrong[77] ^= 1;
        assert_ne!(whole, sum(&[(0, &wrong), (1, &b)]));
    }

    /// A request may name any size, and a sender any number of pages.
    #[test]
    fn sizes_that_nobody_has_take_no_room() {
        assert!(Memory::new(1, u64::MAX, 1.0).is_err());
        assert!(Memory::new(1, MOST_BYTES + 1, 1.0).is_err());
        let mut sum = Sum::new(u64::MAX);
        assert!(sum.put(u64::MAX - 1, 7) && sum.put(0, 7));
        assert_eq!((sum.digests.len(), sum.total().0), (2, 2));
    }
}
