//! How a VM dirties its memory: what images do, and how many different pages are dirtied in a time.
//! Pure.
//!
//! Writes fall uniformly at random on the pages of a working set. Of `W` pages, `n` writes leave
//! each one clean with probability `(1 - 1/W)^n`, so `W * (1 - (1 - 1/W)^n)` different pages are
//! expected to be dirty: in a short time nearly every write hits a new page, in a long one the
//! whole working set is dirty and more writes change nothing (the writable working set of Clark et
//! al., NSDI 2005).

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// What a VM does with what it has.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Behaviour {
    /// Memory that is written to, bit/s.
    pub dirty: u64,
    /// Which part of the memory that goes to, 0 to 1.
    pub working_set: f64,
    /// CPU time, as a part of all its cores, 0 to 1: besides what its processes really use.
    pub cpu: f64,
    /// Bytes of its disk that it has written: what a cold migration copies of it.
    pub disk_written: u64,
}

/// What a VM can be made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Image {
    /// Its name.
    pub name: &'static str,
    /// What a VM of it does.
    pub behaviour: Behaviour,
}

const MIB: u64 = 1 << 20;

/// All images. The first is what a VM is made from when nothing is said.
///
/// - `idle` writes nothing.
/// - `web` keeps writing to a tenth of its memory at 40 Mbit/s (5 MB/s): small against a link, as a
///   web server is.
/// - `adversarial` writes to all of it at 40 Gbit/s (5 GB/s), faster than it can be sent: its
///   rounds do not get smaller.
pub const IMAGES: [Image; 3] = [
    Image {
        name: "idle",
        behaviour: Behaviour { dirty: 0, working_set: 0.0, cpu: 0.0, disk_written: 16 * MIB },
    },
    Image {
        name: "web",
        behaviour: Behaviour { dirty: 40_000_000, working_set: 0.1, cpu: 0.2, disk_written: 64 * MIB },
    },
    Image {
        name: "adversarial",
        behaviour: Behaviour { dirty: 40_000_000_000, working_set: 1.0, cpu: 1.0, disk_written: 16 * MIB },
    },
];

/// The image of a name; an empty one means the first.
///
/// # Errors
/// When there is none, with those there are.
pub fn image(name: &str) -> anyhow::Result<Image> {
    let [first, ..] = IMAGES;
    if name.is_empty() {
        return Ok(first);
    }
    IMAGES.into_iter().find(|i| i.name == name).ok_or_else(|| {
        let names: Vec<&str> = IMAGES.iter().map(|i| i.name).collect();
        anyhow::anyhow!("there is no image {name:?}; this world has {}", names.join(", "))
    })
}

/// The pages that were dirtied since the last round began.
#[derive(Debug, Clone, PartialEq)]
pub struct Dirtied {
    /// Of the working set, in pages.
    pages: u64,
    /// The part of it that is still clean.
    clean: f64,
}

impl Dirtied {
    /// Nothing is dirty yet of a working set of so many pages.
    pub fn new(pages: u64) -> Dirtied {
        Dirtied { pages, clean: 1.0 }
    }

    /// So many bytes were written. The order and number of calls do not matter.
    pub fn written(&mut self, bytes: f64) {
        let writes = bytes / PAGE as f64;
        if self.pages > 0 && writes > 0.0 {
            // (1 - 1/W)^n; with one page, the first write dirties it.
            self.clean *= (writes * (-1.0 / self.pages as f64).ln_1p()).exp();
        }
    }

    /// How many different pages are dirty.
    pub fn pages(&self) -> u64 {
        (self.pages as f64 * (1.0 - self.clean)).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    #[test]
    fn as_many_pages_are_dirty_as_random_writes_dirty() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for (pages, writes) in [(1000u64, 100u64), (1000, 1000), (1000, 3000), (50, 1000), (20_000, 5000)] {
            let mut hit = vec![false; pages as usize];
            for _ in 0..writes {
                hit[(random.next_u64() % pages) as usize] = true;
            }
            let drawn = hit.iter().filter(|h| **h).count() as f64;
            let mut model = Dirtied::new(pages);
            model.written((writes * PAGE) as f64);
            // Three standard deviations of the occupancy, and rounding.
            let tolerance = 3.0 * (pages as f64).sqrt() * 0.5 + 1.0;
            let expected = model.pages() as f64;
            assert!(
                (drawn - expected).abs() <= tolerance,
                "{writes} writes to {pages}: {drawn}, not {expected}"
            );
        }
    }

    #[test]
    fn writing_in_parts_is_writing_at_once_and_the_working_set_is_the_most() {
        let mut at_once = Dirtied::new(400);
        at_once.written(1_000_000.0);
        let mut in_parts = Dirtied::new(400);
        (0..100).for_each(|_| in_parts.written(10_000.0));
        assert_eq!(at_once.pages(), in_parts.pages());
        at_once.written(1e15);
        assert_eq!(at_once.pages(), 400);
        let mut nothing = Dirtied::new(0);
        nothing.written(1e9);
        assert_eq!(nothing.pages(), 0);
        let mut one = Dirtied::new(1);
        one.written(0.0);
        assert_eq!(one.pages(), 0, "no write, nothing dirty");
        one.written(4096.0);
        assert_eq!(one.pages(), 1);
    }

    #[test]
    fn an_unknown_image_is_refused_with_those_there_are() {
        assert_eq!(image("").map(|i| i.name).ok(), Some("idle"));
        assert_eq!(image("web").map(|i| i.behaviour.dirty).ok(), Some(40_000_000));
        let why = image("windows").expect_err("no such image").to_string();
        assert!(why.contains("idle, web, adversarial"), "{why}");
    }
}
