//! Data centres that are no trees, for seeds from [`FIRST`] on: leaf-spine fabrics, and graphs that
//! are declared by hand, with loops, parallel links, several gateways, switches without servers and
//! servers with several uplinks.

use super::draw::Draw;
use std::fmt::Write;

/// Seeds below this draw trees and chains, as they did before there were graphs.
pub(super) const FIRST: u64 = 1_000_000;

pub(super) fn write_shape(draw: &mut Draw, text: &mut String) -> std::fmt::Result {
    if draw.chance(30) { write_leaf_spine(draw, text) } else { write_free_form(draw, text) }
}

fn write_leaf_spine(draw: &mut Draw, text: &mut String) -> std::fmt::Result {
    let leaves = draw.between(2, 6);
    writeln!(
        text,
        "[topology]\nshape = \"leaf-spine\"\nspines = {}\nleaves = {leaves}\nservers_per_leaf = {}\n\
         server_uplinks = {}\nlinks = {}\ngateways = {}\ngateways_at = \"{}\"",
        draw.between(1, 4),
        draw.between(1, 4),
        draw.between(1, 3),
        draw.between(1, 3),
        draw.between(1, 4),
        draw.pick(&["spines", "leaves", "border"]),
    )
}

/// A random tree of switches, then links that close loops or double others, then gateways and
/// servers anywhere. Nodes are declared in any order of their links.
fn write_free_form(draw: &mut Draw, text: &mut String) -> std::fmt::Result {
    let switches = draw.between(1, 9);
    let (gateways, servers) = (draw.between(1, 4), draw.between(2, 9));
    writeln!(text, "[topology]\nshape = \"free-form\"")?;
    for n in 0..switches {
        writeln!(text, "[[switch]]\nname = \"s{n}\"")?;
        if draw.chance(15) {
            writeln!(text, "role = \"{}\"", draw.pick(&["core", "aggregation", "edge"]))?;
        }
        if draw.chance(15) {
            writeln!(text, "dpid = {}", 100 + n)?;
        }
    }
    (0..gateways).try_for_each(|n| writeln!(text, "[[gateway]]\nname = \"g{n}\""))?;
    for n in 0..servers {
        writeln!(text, "[[server]]\nname = \"h{n}\"")?;
        if draw.chance(20) {
            writeln!(text, "cpu = {}", draw.between(1, 20))?;
        }
    }
    for n in 1..switches {
        // Chains, stars and what is between.
        let to = if draw.chance(40) { n - 1 } else { draw.below(n) };
        write_link(draw, text, &format!("s{to}"), &format!("s{n}"))?;
    }
    for _ in 0..draw.below(switches + 1) {
        let (a, b) = (draw.below(switches), draw.below(switches));
        if a != b {
            write_link(draw, text, &format!("s{a}"), &format!("s{b}"))?;
        }
    }
    for (kind, count, most) in [("g", gateways, 3), ("h", servers, 3)] {
        for n in 0..count {
            for _ in 0..draw.between(1, most) {
                let to = draw.below(switches);
                write_link(draw, text, &format!("{kind}{n}"), &format!("s{to}"))?;
            }
        }
    }
    Ok(())
}

fn write_link(draw: &mut Draw, text: &mut String, a: &str, b: &str) -> std::fmt::Result {
    writeln!(text, "[[link]]\nbetween = [\"{a}\", \"{b}\"]")?;
    if draw.chance(15) {
        writeln!(text, "count = 2")?;
    }
    if draw.chance(15) {
        writeln!(text, "rate = \"{} Mbit/s\"", draw.between(3, 300))?;
    }
    Ok(())
}
