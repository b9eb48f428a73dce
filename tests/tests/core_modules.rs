//! The modules inside the core: their graph has no circle, and no folder uses one that comes after
//! it.
//!
//! `cargo test -p tandem-tests --test core_modules -- --nocapture` prints the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The folders of the core in their order, and what each may use besides itself and `FOUNDATION`:
/// those before it.
const ORDER: &[&str] =
    &["policy", "network", "rules", "agents", "compute", "migration", "snapshot", "engine"];

/// Files that stand below all services: they may use each other, and nothing else.
const FOUNDATION: &[&str] =
    &["context", "counters", "dirty", "handles", "rejection", "signal", "stored_item", "timers"];

/// Files that stand above the engine or beside it.
const ABOVE: &[&str] = &["export", "record_replay", "site", "lib"];

/// A module is its file below `src`, without `.rs`; that of a folder is `folder/mod`.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without comments, strings and its module of tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths that a tree of `use` stands for: `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else { return vec![tree.to_owned()] };
    let prefix = &tree[..open];
    let inner = tree[open + 1..].trim_end().strip_suffix('}').expect("a closed tree");
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for letter in inner.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("a part").push(letter);
    }
    let whole = parts.iter().filter(|p| !p.trim().is_empty());
    whole.flat_map(|part| leaves(part).into_iter().map(|leaf| format!("{prefix}{leaf}"))).collect()
}

/// Every path from the root of the crate that the code names.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        if let Some(at) = statement.find("use crate::") {
            found.extend(leaves(&statement[at + "use crate::".len()..]));
        } else {
            let inline = statement.split("crate::").skip(1);
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            found.extend(inline.map(|rest| rest.split(|c| !is_path(c)).next().unwrap_or("").to_owned()));
        }
    }
    found
}

/// Which module of the core uses which.
fn graph() -> Graph {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../controller/core/src"));
    let mut files = Vec::new();
    source_files(root, &mut files);
    let module = |path: &Path| {
        let below = path.strip_prefix(root).expect("below the root").with_extension("");
        below.to_str().expect("a name in UTF-8").to_owned()
    };
    let is_test = |name: &str| name.ends_with("_tests") || name.ends_with("fixture");
    let modules: BTreeMap<String, &PathBuf> =
        files.iter().map(|p| (module(p), p)).filter(|(name, _)| !is_test(name)).collect();
    let target = |path: &str| {
        let steps: Vec<&str> = path.split("::").map(str::trim).collect();
        let named = (1..=steps.len()).rev().map(|n| steps[..n].join("/"));
        named.flat_map(|n| [n.clone(), format!("{n}/mod")]).find(|n| modules.contains_key(n))
    };
    let uses = |name: &String, path: &Path| -> BTreeSet<String> {
        let text = code(&std::fs::read_to_string(path).expect("a source file"));
        for relative in ["super::", "self::"] {
            assert!(!text.contains(relative), "{name} names a module by {relative}: name it from crate::");
        }
        paths(&text).iter().filter_map(|p| target(p)).filter(|t| t != name).collect()
    };
    modules.iter().map(|(name, path)| (name.clone(), uses(name, path))).collect()
}

/// A circle of modules, if there is one: depth first, and back to one that is still open.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    fn visit(at: &str, graph: &Graph, open: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if done.contains(at) {
            return false;
        }
        if let Some(start) = open.iter().position(|o| o == at) {
            open.drain(..start);
            return true;
        }
        open.push(at.to_owned());
        if graph[at].iter().any(|next| visit(next, graph, open, done)) {
            return true;
        }
        open.pop();
        done.insert(at.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|start| {
        let mut open = Vec::new();
        visit(start, graph, &mut open, &mut done).then_some(open)
    })
}

/// Where a module stands: the foundation is first, what is above the engine last.
fn place(module: &str) -> usize {
    let folder = module.split('/').next().unwrap_or(module);
    if FOUNDATION.contains(&module) {
        return 0;
    }
    if ABOVE.contains(&module) {
        return ORDER.len() + 1;
    }
    let known = ORDER.iter().position(|f| *f == folder);
    known.unwrap_or_else(|| panic!("{module} is in no folder of ORDER: say where it stands")) + 1
}

#[test]
fn the_modules_of_the_core_have_no_circle() {
    let graph = graph();
    for (module, uses) in &graph {
        println!("{module}: {}", uses.iter().cloned().collect::<Vec<_>>().join(" "));
    }
    assert!(graph.len() > 80, "the whole core is read: {} modules", graph.len());
    assert_eq!(circle(&graph), None, "each of these uses the next one");
}

#[test]
fn no_folder_of_the_core_uses_a_later_one() {
    for (module, uses) in graph() {
        for used in uses {
            let allowed = place(&used) <= place(&module);
            assert!(allowed, "{module} uses {used}, which comes after it: leave a signal for the engine");
        }
    }
}

#[test]
fn a_circle_is_found() {
    let uses = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let graph: Graph = [("a", uses(&["b"])), ("b", uses(&["c", "d"])), ("c", uses(&[])), ("d", uses(&["b"]))]
        .into_iter()
        .map(|(n, u): (&str, BTreeSet<String>)| (n.to_owned(), u))
        .collect();
    assert_eq!(circle(&graph), Some(vec!["b".to_owned(), "d".to_owned()]));
    let tree = "compute::{ComputeRef, vm::{Vm, X}}";
    assert_eq!(leaves(tree), ["compute::ComputeRef", "compute::vm::Vm", "compute::vm::X"]);
}
