//! `[traffic]`: what generates VMs' traffic, and between whom.
//!
//! `[traffic.NAME]` is for the tool NAME, or, with `tool = "..."` in it, makes NAME another name of
//! that tool with these options. What the options mean is the tool's business: here they are
//! numbers, texts and flags.

use super::TrafficConfig;
use super::faults::Collector;
use super::section::Section;
use crate::{Direction, TrafficId, TrafficPattern, TrafficTool};
use std::collections::BTreeMap;

/// What a tool's name looks like, for faults.
pub(super) const TOOL: &str = "the name of a traffic tool, such as \"udp\" or \"tcp\"";
/// Sections `[traffic.NAME]`: more tools than there are, under several names each.
const TOOLS: usize = 64;

pub(super) fn is_default(pattern: &TrafficPattern) -> bool {
    *pattern == TrafficPattern::default()
}

pub(super) fn seed() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(super) fn is_seed(value: &u64) -> bool {
    *value == seed()
}

pub(super) fn read_traffic(root: &mut Section<'_>, c: &mut Collector<'_>) -> TrafficConfig {
    let mut t = root.section(c, "traffic");
    let directions = [("to-vm", Direction::ToVm), ("from-vm", Direction::FromVm), ("both", Direction::Both)];
    let patterns = [
        ("gateway", TrafficPattern::Gateway),
        ("incast", TrafficPattern::Incast),
        ("all-to-all", TrafficPattern::AllToAll),
    ];
    let mut cfg = TrafficConfig {
        enabled: t.flag(c, "enabled").unwrap_or(true),
        transport: t.parsed(c, "transport", TOOL).unwrap_or(TrafficTool::UDP),
        udp_share: t.fraction(c, "udp_share", 0.0, 1.0),
        direction: t.word(c, "direction", &directions).unwrap_or(Direction::ToVm),
        share: t.fraction(c, "share", 0.0, 10.0).unwrap_or(1.0),
        packet: t.count(c, "packet", 128..=1500).unwrap_or(1400) as u16,
        pattern: t.word(c, "pattern", &patterns).unwrap_or_default(),
        seed: t.count(c, "seed", 0..=u32::MAX).map_or(seed(), u64::from),
        tools: BTreeMap::new(),
    };
    if cfg.pattern != TrafficPattern::Gateway && t.has("direction") {
        let problem = "a pattern among the members of groups has its own directions";
        t.fault(c, "direction", problem, "leave out direction, or write pattern = \"gateway\"");
    }
    for (name, options) in t.tables() {
        match name.parse::<TrafficTool>() {
            _ if cfg.tools.len() >= TOOLS => {
                options.fault_here(c, format!("more than {TOOLS} sections for tools"), "use fewer");
            }
            Ok(tool) => {
                cfg.tools.insert(tool, options.options(c));
            }
            Err(why) => options.fault_here(c, format!("{name:?} is no tool's name"), why.to_string()),
        }
    }
    t.finish(c);
    cfg
}

impl TrafficConfig {
    /// Whether a flow is UDP where transports are mixed; `None` where they are not.
    ///
    /// By the golden ratio (a Weyl sequence): of any few flows with ids in a row the part that is
    /// UDP is as close to the share as it can be, which flows depends on the seed.
    pub fn is_udp(&self, id: TrafficId) -> Option<bool> {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let share = self.udp_share?;
        // The directions of one VM are half a turn apart: at a share of a half one of them is UDP.
        let start = self.seed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let position = start.wrapping_add((id.0 >> 1).wrapping_mul(GOLDEN)).wrapping_add((id.0 & 1) << 63);
        Some((position as f64) < share * 2f64.powi(64))
    }

    /// What generates a flow for which nobody asked for something else.
    pub fn tool_of(&self, id: TrafficId) -> TrafficTool {
        let mixed = self.transport == TrafficTool::UDP || self.transport == TrafficTool::TCP;
        match self.is_udp(id).filter(|_| mixed) {
            Some(true) => TrafficTool::UDP,
            Some(false) => TrafficTool::TCP,
            None => self.transport,
        }
    }
}
