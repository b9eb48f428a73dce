//! The data centres of the seeds: small and middle-sized ones of every shape, as the text of a site
//! file that goes through the model's reader.

use super::draw::Draw;
use super::graphs;
use std::fmt::Write;
use tandem_model::site;

/// Seeds from here on have what came later too: policies that place server and path together, and
/// switches with a margin. Earlier seeds are what they always were.
const JOINT: u64 = 50_000;

/// What stands around the controller, by seed.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The site file.
    pub(super) text: String,
    /// Every n-th switch speaks OpenFlow 1.0 with one table; 0 for none, 1 for all.
    pub(super) one_table: u32,
    /// Other switches with OpenFlow 1.3 have one table only, every n-th of them; 0 for none.
    pub(super) narrow: u32,
}

/// The data centre of a seed.
pub(super) fn place(seed: u64) -> Place {
    let mut draw = Draw::new(seed, 2);
    let mut joint = (seed >= JOINT).then(|| Draw::new(seed, 6));
    loop {
        let mut text = String::from("name = \"fuzz\"\n");
        // Writing to a text cannot fail.
        let _ = write_site(&mut draw, seed >= graphs::FIRST, &mut text, joint.as_mut());
        // Some of the trees that are drawn are in pieces: those are none.
        if site::read(&text, "fuzz").is_ok() {
            return Place { text, one_table: draw.pick(&[0, 0, 1, 2, 3]), narrow: draw.pick(&[0, 0, 0, 2]) };
        }
    }
}

fn write_site(
    draw: &mut Draw,
    is_graph: bool,
    text: &mut String,
    joint: Option<&mut Draw>,
) -> std::fmt::Result {
    if is_graph {
        graphs::write_shape(draw, text)?;
    } else {
        write_shape(draw, text)?;
    }
    let narrow = draw.chance(30);
    let edge = if narrow { draw.between(3, 12) } else { draw.between(20, 200) };
    let aggregation = if narrow { draw.between(3, 20) } else { draw.between(40, 400) };
    let core = aggregation * draw.between(1, 3);
    writeln!(
        text,
        "[bandwidth]\ngateway = \"{} Mbit/s\"\ncore = \"{core} Mbit/s\"\naggregation = \"{aggregation} Mbit/s\"\n\
         edge = \"{edge} Mbit/s\"",
        core * 2
    )?;
    writeln!(text, "[servers]\ncpu = {}\nram = \"{} GiB\"", draw.between(3, 12), draw.between(4, 16))?;
    let usual = draw.pick(&["best-fit", "worst-fit", "first-fit"]);
    let ties = draw.pick(&["first", "last"]);
    let margins = [draw.pick(&["1.0", "1.0", "1.2"]), draw.pick(&["1.0", "1.0", "1.5"])];
    let allocation = joint.is_none().then_some(usual);
    let mut section = String::new();
    if let Some(draw) = joint {
        write_joint(draw, &mut section)?;
    }
    let allocation = allocation.map(|name| format!("allocation = \"{name}\"\n")).unwrap_or_default();
    writeln!(
        text,
        "[policy]\n{allocation}ties = \"{ties}\"\nlink_margin = {}\nserver_margin = {}{section}",
        margins[0], margins[1]
    )?;
    writeln!(text, "[statistics]\nperiod = \"{} s\"", draw.pick(&[20, 45, 90]))?;
    writeln!(text, "[modules]\ndhcp = {}\ndiscovery = {}", draw.chance(60), draw.chance(70))?;
    let lldp = draw.pick(&[30, 60]);
    writeln!(
        text,
        "[discovery]\nlldp_period = \"{lldp} s\"\nlldp_timeout = \"{} s\"\nswitch_grace = \"{} s\"\n\
         host_timeout = \"{} s\"",
        lldp * 3,
        draw.pick(&[2, 10]),
        draw.pick(&[60, 600]),
    )?;
    writeln!(
        text,
        "[traffic]\nenabled = {}\ndirection = \"{}\"",
        draw.chance(60),
        draw.pick(&["to-vm", "from-vm", "both"])
    )?;
    write_vms(draw, text)
}

/// The rest of `[policy]` where server and path are placed together, or where switches have a margin.
fn write_joint(draw: &mut Draw, text: &mut String) -> std::fmt::Result {
    let fits = ["first-fit", "best-fit", "worst-fit"];
    let allocation = draw.pick(&["server-driven", "network-driven", "network-driven", "best-fit"]);
    write!(text, "\nallocation = \"{allocation}\"")?;
    write!(text, "\nswitch_margin = {}\n[policy.joint]", draw.pick(&["0.05", "0.1", "0.3", "1.0"]))?;
    for level in ["core", "aggregation", "edge", "server"] {
        write!(text, "\n{level} = \"{}\"", draw.pick(&fits))?;
    }
    Ok(())
}

fn write_vms(draw: &mut Draw, text: &mut String) -> std::fmt::Result {
    writeln!(text, "[vm]\nram = \"256 MiB\"\nnet = \"1 Mbit/s\"\nstart_timeout = \"15 s\"")?;
    if draw.chance(20) {
        writeln!(text, "lifetime = \"90 s\"")?;
    }
    if draw.chance(40) {
        writeln!(text, "[[class]]\nname = \"gold\"\nshare = 60\n[[class]]\nname = \"plain\"\nshare = 20")?;
        if draw.chance(50) {
            writeln!(text, "ceiling = 60\ndefault = true\n[[class]]\nname = \"moves\"\nshare = 10")?;
        }
    }
    writeln!(
        text,
        "[migration]\nrate = \"{} Mbit/s\"\nat_once = {}\nper_server = {}\ntimeout = \"20 s\"\ndirty_rate = \"{} kbit/s\"",
        draw.pick(&[2, 20, 200]),
        draw.between(1, 5),
        draw.between(1, 4),
        draw.pick(&[50, 500]),
    )?;
    if draw.chance(50) {
        writeln!(text, "[hotspot]\nrelieve = {}\nover = 2\nof = 3", draw.chance(70))?;
    }
    if draw.chance(40) {
        writeln!(text, "[keep_policy]\nperiod = \"{} s\"\nmoves = 4", draw.pick(&[15, 60]))?;
    }
    Ok(())
}

fn write_shape(draw: &mut Draw, text: &mut String) -> std::fmt::Result {
    let gateways = draw.between(1, 4);
    match draw.below(10) {
        // Three tiers.
        0..=4 => {
            let core = draw.between(1, 4);
            let aggregation = draw.between(2, 5);
            let edge = draw.between(2, 7);
            let uplinks = draw.between(1, 3);
            writeln!(
                text,
                "[topology]\nshape = \"three-tier\"\ngateways = {gateways}\ncore = {core}\naggregation = {aggregation}\n\
                 edge = {edge}\nservers_per_edge = {}\ncore_gateway_links = {}\naggregation_core_links = {}\n\
                 edge_aggregation_links = 2\nserver_uplinks = {uplinks}",
                draw.between(1, 4),
                draw.between(1, gateways.min(2) + 1),
                draw.between(1, core.min(2) + 1),
            )
        }
        // Two tiers.
        5 | 6 => {
            let core = draw.between(1, 4);
            writeln!(
                text,
                "[topology]\nshape = \"three-tier\"\ngateways = {gateways}\ncore = {core}\naggregation = 0\nedge = {}\n\
                 servers_per_edge = {}\nedge_aggregation_links = {}",
                draw.between(2, 7),
                draw.between(1, 5),
                core.min(2),
            )
        }
        7 => writeln!(
            text,
            "[topology]\nshape = \"fat-tree\"\nk = {}\nservers_per_edge = 2\ngateways = {gateways}",
            draw.pick(&[2, 4])
        ),
        _ => writeln!(
            text,
            "[topology]\nshape = \"linear\"\nswitches = {}\nservers_per_switch = {}\ngateways = {gateways}",
            draw.between(1, 6),
            draw.between(1, 4)
        ),
    }
}
