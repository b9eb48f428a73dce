//! Links between pages: each leads to a file and a heading that are there, and every page of the
//! book is in its table of contents.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders that hold no pages of ours.
const SKIPPED: &[&str] = &["target", ".git", "runs", "node_modules", "artifacts", "corpus"];

/// Pages that are being written. A link to one of them is no fault before it is there.
const COMING: &[&str] = &[];

/// Where parts of the code are going. ARCHITECTURE.md may name them before they are there.
const COMING_PATHS: &[&str] = &[];

fn is_coming(path: &Path) -> bool {
    COMING.iter().any(|page| path.ends_with(page))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root")
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            pages(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

/// The text without fenced blocks and code spans, in which brackets mean something else.
fn prose(text: &str) -> String {
    let mut kept = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept.extend(line.split('`').step_by(2));
            kept.push('\n');
        }
    }
    kept
}

/// The targets of links and pictures: what stands in the parentheses of "](target)", and in
/// `src=` and `srcset=` of the few tags that pages have.
fn targets(text: &str) -> Vec<String> {
    let text = prose(text);
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let tags = ["src=\"", "srcset=\""]
        .into_iter()
        .flat_map(|attribute| text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()));
    links.chain(tags).map(|target| target.trim().to_owned()).collect()
}

/// The anchors of a page's headings, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if fenced || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

#[test]
fn every_link_leads_somewhere() {
    let mut files = Vec::new();
    pages(&root(), &mut files);
    let mut faults = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a page");
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = file.parent().expect("a folder");
            let at = if path.is_empty() { file.clone() } else { folder.join(path) };
            let here = file.strip_prefix(root()).unwrap_or(file).display();
            if is_coming(&at) && !at.exists() {
                continue;
            }
            if !at.exists() {
                faults.push(format!("{here}: {target} is not there"));
            } else if !anchor.is_empty() && at.extension().is_some_and(|e| e == "md") {
                let text = std::fs::read_to_string(&at).expect("a page");
                if !anchors(&text).contains(anchor) {
                    faults.push(format!("{here}: {target} has no such heading"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_table_of_contents_has_every_page_once() {
    let docs = root().join("docs");
    let text = std::fs::read_to_string(docs.join("SUMMARY.md")).expect("docs/SUMMARY.md");
    let listed = targets(&text);
    let mut unique: BTreeSet<PathBuf> = listed.iter().map(PathBuf::from).collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice");
    unique.retain(|page| docs.join(page).exists() || !is_coming(page));
    let mut files = Vec::new();
    pages(&docs, &mut files);
    let there: BTreeSet<PathBuf> = (files.iter())
        .filter_map(|file| file.strip_prefix(&docs).ok().map(Path::to_owned))
        .filter(|file| file != Path::new("SUMMARY.md"))
        .collect();
    assert_eq!(unique, there, "docs/SUMMARY.md and the pages below docs/ differ");
}

#[test]
fn the_readme_is_short() {
    let text = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let lines = text.lines().count();
    assert!(lines <= 100, "README.md has {lines} lines; what is more than 100 belongs into docs/");
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let lines = text.lines().count();
    assert!(lines <= 250, "ARCHITECTURE.md has {lines} lines; figures belong into docs/benchmarks.md");
}

/// What stands between backticks and begins with a folder of the repository.
#[test]
fn every_path_that_the_architecture_names_is_there() {
    let folders = ["agent/", "controller/", "docs/", "fpga-config/", "lab/", "model/", "openflow/", "tests/"];
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let gone: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|span| folders.iter().any(|folder| span.starts_with(folder)))
        .filter(|path| !root().join(path).exists())
        .filter(|path| !COMING_PATHS.iter().any(|coming| path.starts_with(coming)))
        .collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names what is not there:\n{}", gone.join("\n"));
}
