//! A page as its fenced blocks and its code spans.

use super::programs;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// How a block of shell commands is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is run.
    Run,
    /// Its words are parsed.
    Parse,
    /// Its words are parsed; running it needs a virtual machine (`scripts/test --vm`).
    Vm,
    /// Its words are parsed; running it needs the Xen lab (`scripts/test --xen`).
    Xen,
    /// Commands of others: only the shell's syntax is looked at.
    Example,
}

/// A block of shell commands.
#[derive(Debug)]
pub(crate) struct Block {
    /// File and line, for people.
    pub(crate) place: String,
    /// How it is held.
    pub(crate) mark: Mark,
    /// The commands.
    pub(crate) text: String,
}

/// A file that a page says to write: a block such as "toml file=site.toml".
#[derive(Debug)]
pub(crate) struct Written {
    /// Its name, below the folder in which the page's commands run.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// How many blocks of commands stand before it on the page.
    pub(crate) before: usize,
}

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its path below the repository's root.
    pub(crate) name: String,
    /// Its blocks of shell commands, in order.
    pub(crate) blocks: Vec<Block>,
    /// The files that it says to write.
    pub(crate) written: Vec<Written>,
    /// What stands between backticks in its text, each with its place.
    pub(crate) spans: Vec<(String, String)>,
    /// Blocks that do not say what they are.
    pub(crate) faults: Vec<String>,
}

/// What a block may be, besides `sh`.
const LANGUAGES: &[&str] = &["text", "toml", "yaml", "rust", "python", "json", "c"];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root").to_owned()
}

/// README.md and every page below docs/.
pub(crate) fn all() -> anyhow::Result<Vec<Page>> {
    let mut files = vec![root().join("README.md"), root().join("examples/README.md")];
    find(&root().join("docs"), &mut files)?;
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let name = file.strip_prefix(root()).unwrap_or(file).display().to_string();
            Ok(read(&name, &text))
        })
        .collect()
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "md") {
            files.push(path);
        }
    }
    Ok(())
}

/// A fenced block that is being read.
struct Open {
    indent: usize,
    info: String,
    line: usize,
    text: String,
}

/// Reads a page.
pub(crate) fn read(name: &str, text: &str) -> Page {
    let mut page = Page {
        name: name.to_owned(),
        blocks: Vec::new(),
        written: Vec::new(),
        spans: Vec::new(),
        faults: Vec::new(),
    };
    let mut open: Option<Open> = None;
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        let fence = bare.strip_prefix("```");
        match (&mut open, fence) {
            (Some(_), Some("")) => page.close(open.take().expect("just matched")),
            (Some(block), _) => {
                // A block in a list is indented like its list item.
                let own = line.len() - bare.len();
                block.text.push_str(&line[own.min(block.indent)..]);
                block.text.push('\n');
            }
            (None, Some(info)) => {
                let indent = line.len() - bare.len();
                let line = number + 1;
                open = Some(Open { indent, info: info.to_owned(), line, text: String::new() });
            }
            (None, None) => page.prose(line, number + 1),
        }
    }
    if let Some(block) = open {
        page.faults.push(format!("{name}:{}: a block that does not end", block.line));
    }
    page
}

impl Page {
    /// Takes in a block that has ended.
    fn close(&mut self, block: Open) {
        let place = format!("{}:{}", self.name, block.line);
        let words: Vec<&str> = block.info.split_whitespace().collect();
        let mark = match words.as_slice() {
            ["sh", "run"] => Mark::Run,
            ["sh", "parse"] => Mark::Parse,
            ["sh", "vm"] => Mark::Vm,
            ["sh", "xen"] => Mark::Xen,
            ["sh", "example"] => Mark::Example,
            [language] if LANGUAGES.contains(language) => return,
            [language, file] if LANGUAGES.contains(language) && file.starts_with("file=") => {
                let name = file["file=".len()..].to_owned();
                self.written.push(Written { name, text: block.text, before: self.blocks.len() });
                return;
            }
            _ => {
                self.faults.push(format!("{place}: \"{}\" says not how it is held", block.info));
                return;
            }
        };
        if mark == Mark::Example && block.text.split_whitespace().any(is_ours) {
            self.faults.push(format!("{place}: an example must not have commands of ours"));
        }
        self.blocks.push(Block { place, mark, text: block.text });
    }

    /// Takes in a line of text.
    fn prose(&mut self, line: &str, number: usize) {
        let place = format!("{}:{number}", self.name);
        let first = line.split_whitespace().next().unwrap_or_default();
        if line.starts_with("    ") && is_ours(first) {
            self.faults.push(format!("{place}: commands belong into a fenced block that is marked"));
        }
        let spans = line.split('`').skip(1).step_by(2);
        self.spans.extend(spans.map(|span| (place.clone(), span.to_owned())));
    }
}

/// True for the name of a program of ours.
fn is_ours(word: &str) -> bool {
    programs::names().any(|name| name == word)
}

#[test]
fn blocks_files_and_spans_are_found() {
    let text = "\
Use `tandem check` first.

1. Write it:
   ```toml file=site.toml
   name = \"a\"
   ```
   ```sh run
   tandem check site.toml
   ```

```sh
tandem vm list
```
";
    let page = read("x.md", text);
    assert_eq!(page.spans, [("x.md:1".to_owned(), "tandem check".to_owned())]);
    assert_eq!(page.written[0].text, "name = \"a\"\n");
    assert_eq!(page.blocks[0].text, "tandem check site.toml\n");
    assert_eq!(page.faults, ["x.md:11: \"sh\" says not how it is held"]);
}
