//! Ready-made site files: for the documentation, for the tests, and as something to start from.

/// Name and text of each: `three-tier` (every key, with its default), `fat-tree`, `linear`,
/// `leaf-spine`, `free-form` (a graph with loops, declared by hand), and `office` (servers and
/// links that differ, legacy switches).
pub const EXAMPLES: [(&str, &str); 6] = [
    ("three-tier", include_str!("../../sites/three-tier.toml")),
    ("fat-tree", include_str!("../../sites/fat-tree.toml")),
    ("linear", include_str!("../../sites/linear.toml")),
    ("leaf-spine", include_str!("../../sites/leaf-spine.toml")),
    ("free-form", include_str!("../../sites/free-form.toml")),
    ("office", include_str!("../../sites/office.toml")),
];
