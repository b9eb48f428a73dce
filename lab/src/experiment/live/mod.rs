//! A live migration, and what a VM's peers notice of it: with the rules of the new place made
//! first, made afterwards, and with no rules at all to be made.
//!
//! - `first`: `tandem migrate`. The controller makes the new place's rules, and only then the VM
//!   moves.
//! - `after`: what a network does that hears of a move when it is done. The hypervisor moves the VM
//!   by itself (`tandem-lab vm move`); the controller is told at once when it has been moved, finds
//!   it there, and makes its rules.
//! - `pause`: the hypervisor's own pause alone. Both servers are at one switch that is a hub for
//!   VMs, without a controller: nothing has to be made for the VM to be reached.
//!
//! Each is measured for sizes of memory and for what the VM writes to it (its image), by numbered
//! packets in both directions.

mod loss_analysis;
mod measure;
mod report;

use crate::experiment::manifest::Manifest;
use crate::experiment::run_folder::RunFolder;
use crate::world::packets::PacketWorld;
use anyhow::{Context, bail};

/// The first line of `gaps.csv`, in every world.
pub const GAPS: &str = "world;memory_mb;dirty;rules;lost;longest_gap_ms;network_lost\n";

/// Sizes of memory that are measured if nothing else is said, MiB.
pub const MEMORY: [u64; 3] = [16, 64, 128];

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Sizes of the VM's memory in MiB.
    #[arg(long, value_delimiter = ',', default_values_t = MEMORY)]
    pub memory: Vec<u64>,
    /// What the VM writes to its memory: images.
    #[arg(long, value_delimiter = ',', default_value = "idle,web,adversarial")]
    pub dirty: Vec<String>,
    /// When the rules of the new place are made: first, after, pause.
    #[arg(long, value_delimiter = ',', default_value = "first,after,pause")]
    pub rules: Vec<String>,
    /// Milliseconds between packets, each direction.
    #[arg(long, default_value_t = 2)]
    pub every: u64,
    /// Only 16 and 64 MiB, idle and web.
    #[arg(long, conflicts_with_all = ["memory", "dirty"])]
    pub quick: bool,
}

/// When rules are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rules {
    /// Before the VM moves.
    First,
    /// When it has moved.
    After,
    /// None are needed.
    Pause,
}

impl Rules {
    /// As a column and an option have it.
    pub fn word(self) -> &'static str {
        match self {
            Rules::First => "first",
            Rules::After => "after",
            Rules::Pause => "pause",
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Rules::First => "rules first",
            Rules::After => "rules after",
            Rules::Pause => "the pause alone",
        }
    }

    /// Reads an option's word.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(word: &str) -> anyhow::Result<Rules> {
        let all = [Rules::First, Rules::After, Rules::Pause];
        let found = all.into_iter().find(|r| r.word() == word);
        found.with_context(|| format!("{word:?} says nothing of rules; write first, after or pause"))
    }
}

/// With more memory than this, one whose memory is sent in every round takes minutes: it is
/// measured only when it is asked for alone.
const ADVERSARIAL_MIB: u64 = 16;

/// Runs it and fills the run folder; the table for people.
///
/// # Errors
/// With the step that failed; worlds and controllers are then gone.
pub fn run(world: &dyn PacketWorld, options: &Options, folder: &mut RunFolder) -> anyhow::Result<String> {
    let mut memory = options.memory.clone();
    let mut dirty = options.dirty.clone();
    if options.quick {
        memory = vec![16, 64];
        dirty = vec!["idle".into(), "web".into()];
    }
    let rules: Vec<Rules> = options.rules.iter().map(|w| Rules::read(w)).collect::<anyhow::Result<_>>()?;
    if memory.is_empty() || dirty.is_empty() || rules.is_empty() {
        bail!("there is nothing to measure; give at least one of --memory, --dirty and --rules");
    }
    let mut manifest = Manifest::new("live-migration", world.kind(), 0, &measure::site_text(Rules::First));
    let mut cells = Vec::new();
    for rules in rules {
        let mut bench = measure::Bench::start(world, rules, options.every)?;
        manifest.of_world(bench.status());
        for mib in &memory {
            for image in &dirty {
                if image == "adversarial" && *mib > ADVERSARIAL_MIB && memory.len() > 1 {
                    eprintln!(
                        "{mib} MiB, {image}: left out, as it takes minutes; --memory {mib} measures it"
                    );
                    continue;
                }
                let cell = bench
                    .cell(*mib, image)
                    .with_context(|| format!("{mib} MiB, {image}, rules {}", rules.word()))?;
                eprintln!("{}", report::line(&cell));
                cells.push(cell);
            }
        }
        bench.stop()?;
    }
    report::write(folder, world.kind(), &cells, &manifest.place())?;
    let text = report::table(&cells, manifest.datapath.as_deref().unwrap_or("?"));
    folder.finish(manifest)?;
    Ok(text)
}
