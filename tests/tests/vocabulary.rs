//! The words of `docs/glossary.md` are those of the code: no type and no file has a name that the
//! glossary's table "Names that are not used" gives up.
//!
//! Names that were given up and are still there stand in `tests/data/vocabulary/open.txt`. That
//! list only gets shorter: a name on it that is gone has to be taken off. With PRUNE_VOCABULARY set
//! the test takes such names off itself; it never adds one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The heading of the table in the glossary.
const HEADING: &str = "## Names that are not used";

/// Where the code is.
const FOLDERS: &[&str] = &["agent", "controller", "fpga-config", "lab", "model", "openflow", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root")
}

/// The names that are given up: of a type (`Surprise`), of a type below a path
/// (`agent/src::Kind`), of all types that end so (`*Cfg`), or the end of a file's path.
fn given_up() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/glossary.md")).expect("the glossary");
    let (_, table) = text.split_once(HEADING).expect("the table");
    let rows = table.lines().take_while(|line| !line.starts_with("## ")).filter(|l| l.starts_with("| `"));
    // The first column, which may name several.
    let names: Vec<String> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 20, "the table was not read: {names:?}");
    names
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The types that a file defines.
fn types(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|w| w.starts_with("pub"));
        let kind = words.next()?;
        if !["struct", "enum", "trait", "type", "union"].contains(&kind) {
            return None;
        }
        words.next()?.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    })
}

/// True where a file is, or defines, what has a name that is given up.
fn is_used(name: &str, file: &str, defined: &BTreeSet<&str>) -> bool {
    if name.ends_with(".rs") {
        return file == name || file.ends_with(&format!("/{name}"));
    }
    let (below, name) = name.split_once("::").unwrap_or(("", name));
    let matches = |defined: &&str| match name.strip_prefix('*') {
        Some(end) => defined.ends_with(end),
        None => *defined == name,
    };
    file.starts_with(below) && defined.iter().any(matches)
}

/// Every name that is given up and still there, with the files that have it.
fn found() -> BTreeMap<String, Vec<String>> {
    let names = given_up();
    let root = root();
    let mut files = Vec::new();
    FOLDERS.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a source file");
        let file = path.strip_prefix(&root).expect("below the root").display().to_string();
        let defined: BTreeSet<&str> = types(&text).collect();
        for name in &names {
            if is_used(name, &file, &defined) {
                found.entry(name.clone()).or_default().push(file.clone());
            }
        }
    }
    found
}

#[test]
fn nothing_has_a_name_that_was_given_up() {
    let list = root().join("tests/data/vocabulary/open.txt");
    let text = std::fs::read_to_string(&list).expect("the list of what is open");
    let open: BTreeSet<String> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let found = found();
    let new: Vec<_> = found.iter().filter(|(name, _)| !open.contains(*name)).collect();
    assert!(new.is_empty(), "docs/glossary.md has another name for these:\n{new:#?}");
    let gone: Vec<&String> = open.iter().filter(|name| !found.contains_key(*name)).collect();
    if std::env::var_os("PRUNE_VOCABULARY").is_some() {
        let kept = text.lines().filter(|line| !gone.iter().any(|name| name.as_str() == *line));
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        std::fs::write(&list, kept).expect("the list of what is open");
        return;
    }
    assert!(gone.is_empty(), "take these off {}, they are gone:\n{gone:#?}", list.display());
}

#[test]
fn types_are_found_where_they_are_defined() {
    let text = "pub(crate) struct Way<T> {\nenum Told;\n    pub type Line = u8;\n// struct Surprise\n";
    assert_eq!(types(text).collect::<Vec<_>>(), ["Way", "Told", "Line"]);
}
