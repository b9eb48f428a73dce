//! Ready-made site files: for the documentation, for the tests, and as something to start from.

/// Name and text of each: `three-tier` (every key, with its default), `fat-tree`, `linear`, and
/// `office` (servers and links that differ, legacy switches).
pub const EXAMPLES: [(&str, &str); 4] = [
    ("three-tier", include_str!("../../sites/three-tier.toml")),
    ("fat-tree", include_str!("../../sites/fat-tree.toml")),
    ("linear", include_str!("../../sites/linear.toml")),
    ("office", include_str!("../../sites/office.toml")),
];
