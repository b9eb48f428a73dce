//! What is asked for a new site, in order: each question with its key, its explanation and its
//! default.

use super::Answers;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In quotes.
    Text,
    /// As it is: a number.
    Number,
    /// `NAME=SHARE ...`, a table each.
    Classes,
}

/// A question.
pub(super) struct Question {
    /// The table of site.toml; empty for the top.
    pub table: &'static str,
    /// The key.
    pub key: &'static str,
    /// What it is; in the file too, as a comment.
    pub about: &'static str,
    pub form: Form,
    /// What an empty answer means, given the answers before.
    pub default: fn(&Answers) -> String,
}

const fn number(key: &'static str, about: &'static str, default: fn(&Answers) -> String) -> Question {
    Question { table: "topology", key, about, form: Form::Number, default }
}

const fn text(
    table: &'static str,
    key: &'static str,
    about: &'static str,
    default: fn(&Answers) -> String,
) -> Question {
    Question { table, key, about, form: Form::Text, default }
}

const FIRST: &[Question] = &[
    text("", "name", "the name of the data centre: letters, digits, '-', '_' and '.'", |_| "mine".into()),
    text("topology", "shape", "how the switches are wired: SHAPES", |_| "three-tier".into()),
];

const THREE_TIER: &[Question] = &[
    number("core", "core switches, which the gateways are linked to", |_| "2".into()),
    number("aggregation", "aggregation switches below them; 0 makes it two tiers", |a| {
        a.count("core").saturating_mul(2).to_string()
    }),
    number("edge", "edge switches, which the servers are linked to", |a| {
        let above = match a.count("aggregation") {
            0 => a.count("core"),
            n => n,
        };
        above.saturating_mul(2).to_string()
    }),
    number("servers_per_edge", "servers at each edge switch", |_| "2".into()),
    number("gateways", "gateways: routers at the border, outside of which the world is", |_| "1".into()),
];

const FAT_TREE: &[Question] = &[
    number("k", "ports of each switch, an even number: it makes k*k*5/4 switches", |_| "4".into()),
    number("servers_per_edge", "servers at each edge switch; k/2 uses all its ports", |a| {
        (a.count("k") / 2).to_string()
    }),
    number("gateways", "gateways, each linked to every core switch", |_| "1".into()),
];

const LINEAR: &[Question] = &[
    number("switches", "switches in the row", |_| "3".into()),
    number("servers_per_switch", "servers at each switch", |_| "1".into()),
    number("gateways", "gateways, at the first switch", |_| "1".into()),
];

const LEAF_SPINE: &[Question] = &[
    number("spines", "spine switches", |_| "2".into()),
    number("leaves", "leaf switches, each linked to every spine", |_| "4".into()),
    number("servers_per_leaf", "servers at each leaf switch", |_| "2".into()),
    number("gateways", "gateways, at the spines", |_| "1".into()),
];

const GATEWAY_RATE: Question =
    text("bandwidth", "gateway", "rate of each link of a gateway, with its unit", |_| "160 Mbit/s".into());
const CORE_RATE: Question =
    text("bandwidth", "core", "rate of each link of a core or spine switch downwards", |_| {
        "40 Mbit/s".into()
    });
const AGGREGATION_RATE: Question =
    text("bandwidth", "aggregation", "rate of each link between other switches", |_| "20 Mbit/s".into());
const EDGE_RATE: Question =
    text("bandwidth", "edge", "rate of each link of a server", |_| "10 Mbit/s".into());

const TIERS: &[Question] = &[GATEWAY_RATE, CORE_RATE, AGGREGATION_RATE, EDGE_RATE];
const ROW: &[Question] = &[GATEWAY_RATE, AGGREGATION_RATE, EDGE_RATE];
const SPINES: &[Question] = &[GATEWAY_RATE, CORE_RATE, EDGE_RATE];

const LAST: &[Question] = &[
    Question {
        table: "servers",
        key: "cpu",
        about: "cores that each server has for VMs",
        form: Form::Number,
        default: |_| "8".into(),
    },
    text("servers", "ram", "memory of each server, with its unit", |_| "16 GiB".into()),
    text("servers", "disk", "disk of each server", |_| "500 GiB".into()),
    text("policy", "allocation", "which server gets a VM: POLICIES", |_| "best-fit".into()),
    Question {
        table: "class",
        key: "classes",
        about: "classes of service with their shares of every port in percent, such as gold=70 bronze=30; - for none",
        form: Form::Classes,
        default: |_| "-".into(),
    },
];

/// The shapes that can be asked for by counts.
pub(super) const SHAPES: &[&str] = &["three-tier", "fat-tree", "leaf-spine", "linear"];

/// All questions, given the shape (the first one where it is not known yet).
pub(super) fn questions(shape: &str) -> impl Iterator<Item = &'static Question> {
    let (counts, rates) = match shape {
        "fat-tree" => (FAT_TREE, TIERS),
        "leaf-spine" => (LEAF_SPINE, SPINES),
        "linear" => (LINEAR, ROW),
        _ => (THREE_TIER, TIERS),
    };
    FIRST.iter().chain(counts).chain(rates).chain(LAST)
}
