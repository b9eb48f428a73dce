//! YAML (and with it JSON, which YAML 1.2 contains) as a tree whose every value knows its place.
//!
//! What a few lines of YAML can grow to is bounded here: an alias is a pointer and never a copy, an
//! alias of what it stands in is refused, so that no walk is endless, and looking a key up through
//! merges (`<<`) gives up after [`MOST_MERGES`] maps. Depth, number of values and number of aliases
//! have limits of their own.

use crate::{ImportError, LARGEST_FILE, Source};
use saphyr_parser::{Event, Marker, Parser};
use std::collections::BTreeMap;
use tandem_model::site::Collector;

/// How deep values may be nested.
pub const DEEPEST: usize = 64;
/// Values that a document may have.
pub const MOST_VALUES: usize = 2_000_000;
/// Aliases that a document may have.
pub const MOST_ALIASES: usize = 10_000;
/// Maps that one key is looked for in, through merges.
pub const MOST_MERGES: usize = 64;

/// A document.
#[derive(Debug)]
pub struct Tree {
    items: Vec<Item>,
    root: Option<usize>,
}

#[derive(Debug)]
struct Item {
    /// In characters, from 0.
    at: usize,
    /// From 1.
    line: usize,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Scalar(String),
    List(Vec<usize>),
    Map(Vec<(usize, usize)>),
}

/// A value of a document.
#[derive(Debug, Clone, Copy)]
pub struct Node<'t> {
    tree: &'t Tree,
    index: usize,
}

/// Why a document was not read: where, what, and what to do about it.
struct Refused {
    mark: Marker,
    problem: String,
    instead: String,
}

/// Reads the first document of a file.
///
/// # Errors
/// With the place where it is no YAML, or more than the limits allow.
pub fn read(source: Source<'_>) -> Result<Tree, ImportError> {
    if source.text.len() as u64 > LARGEST_FILE {
        let mut c = Collector::new("");
        c.add(0..0, "", format!("the file is larger than {} MiB", LARGEST_FILE >> 20), "take a part of it");
        return Err(ImportError::Faults(vec![c.finish(source.file)]));
    }
    build(source.text).map_err(|refused| {
        let mut c = Collector::new(source.text);
        let at = offset(source.text, refused.mark.index());
        c.add(at..at + 1, "", refused.problem, refused.instead);
        ImportError::Faults(vec![c.finish(source.file)])
    })
}

/// The place of a character in bytes.
pub(crate) fn offset(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

/// A list or map that is being read.
enum Open {
    List { index: usize, anchor: usize, items: Vec<usize> },
    Map { index: usize, anchor: usize, entries: Vec<(usize, usize)>, key: Option<usize> },
}

fn build(text: &str) -> Result<Tree, Refused> {
    let mut tree = Tree { items: Vec::new(), root: None };
    let mut open: Vec<Open> = Vec::new();
    // What each anchor names: nothing while it is still being read.
    let mut anchors: BTreeMap<usize, usize> = BTreeMap::new();
    let mut aliases = 0;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Refused {
            mark: *error.marker(),
            problem: format!("this is not YAML: {}", tandem_model::text::escaped(error.info())),
            instead: "correct it (yaml.org/spec/1.2.2)".to_owned(),
        })?;
        let mark = span.start;
        let refuse = |problem: String, instead: &str| Refused { mark, problem, instead: instead.to_owned() };
        if tree.items.len() >= MOST_VALUES {
            return Err(refuse(format!("more than {MOST_VALUES} values"), "take a part of it"));
        }
        let done = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => continue,
            // Only the first document counts.
            Event::DocumentEnd => break,
            Event::Alias(anchor) => {
                aliases += 1;
                if aliases > MOST_ALIASES {
                    return Err(refuse(format!("more than {MOST_ALIASES} aliases"), "write values out"));
                }
                match anchors.get(&anchor) {
                    Some(index) => *index,
                    None => {
                        let problem = "an alias of what it stands in has no end".to_owned();
                        return Err(refuse(problem, "name something that ends before it"));
                    }
                }
            }
            Event::Scalar(value, _, anchor, _) => {
                let index = tree.add(mark, Value::Scalar(value.into_owned()));
                anchors.insert(anchor, index);
                index
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                return Err(refuse(format!("nested deeper than {DEEPEST} levels"), "write it flatter"));
            }
            Event::SequenceStart(anchor, _) => {
                let index = tree.add(mark, Value::List(Vec::new()));
                open.push(Open::List { index, anchor, items: Vec::new() });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                let index = tree.add(mark, Value::Map(Vec::new()));
                open.push(Open::Map { index, anchor, entries: Vec::new(), key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (index, anchor, value) = match open.pop() {
                    Some(Open::List { index, anchor, items }) => (index, anchor, Value::List(items)),
                    Some(Open::Map { index, anchor, entries, .. }) => (index, anchor, Value::Map(entries)),
                    None => continue,
                };
                if let Some(item) = tree.items.get_mut(index) {
                    item.value = value;
                }
                anchors.insert(anchor, index);
                index
            }
        };
        match open.last_mut() {
            None => tree.root = Some(done),
            Some(Open::List { items, .. }) => items.push(done),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                None => *key = Some(done),
                Some(key) => entries.push((key, done)),
            },
        }
    }
    Ok(tree)
}

impl Tree {
    fn add(&mut self, mark: Marker, value: Value) -> usize {
        self.items.push(Item { at: mark.index(), line: mark.line(), value });
        self.items.len() - 1
    }

    /// The whole document; `None` where it is empty.
    pub fn root(&self) -> Option<Node<'_>> {
        self.root.map(|index| Node { tree: self, index })
    }
}

impl<'t> Node<'t> {
    fn item(self) -> Option<&'t Item> {
        self.tree.items.get(self.index)
    }

    fn node(self, index: usize) -> Node<'t> {
        Node { tree: self.tree, index }
    }

    /// Its line, from 1.
    pub fn line(self) -> usize {
        self.item().map_or(0, |i| i.line)
    }

    /// Where it begins, in bytes of that text.
    pub fn offset(self, text: &str) -> usize {
        offset(text, self.item().map_or(0, |i| i.at))
    }

    /// A text or number as it is written, without quotes.
    pub fn text(self) -> Option<&'t str> {
        match &self.item()?.value {
            Value::Scalar(text) => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// A number.
    pub fn number(self) -> Option<f64> {
        self.text()?.trim().parse().ok().filter(|n: &f64| n.is_finite())
    }

    /// True for a map.
    pub fn is_map(self) -> bool {
        self.item().is_some_and(|i| matches!(i.value, Value::Map(_)))
    }

    /// The values of a list; `None` for anything else.
    pub fn list(self) -> Option<impl ExactSizeIterator<Item = Node<'t>>> {
        match &self.item()?.value {
            Value::List(items) => Some(items.iter().map(move |index| self.node(*index))),
            Value::Scalar(_) | Value::Map(_) => None,
        }
    }

    /// Keys and values of a map, in its order, without what is merged into it; none for anything
    /// else.
    pub fn entries(self) -> impl Iterator<Item = (Node<'t>, Node<'t>)> {
        let entries = match self.item().map(|i| &i.value) {
            Some(Value::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(move |(key, value)| (self.node(*key), self.node(*value)))
    }

    /// The value of a key of a map: its own, else that of what is merged into it (`<<`).
    pub fn get(self, key: &str) -> Option<Node<'t>> {
        let mut open = vec![self];
        for _ in 0..MOST_MERGES {
            let map = open.pop()?;
            let mut merged = Vec::new();
            for (name, value) in map.entries() {
                match name.text() {
                    Some(name) if name == key => return Some(value),
                    Some("<<") => match value.list() {
                        Some(maps) => merged.extend(maps.take(MOST_MERGES)),
                        None => merged.push(value),
                    },
                    _ => {}
                }
            }
            // The first of them goes before the others (yaml.org/type/merge.html).
            open.extend(merged.into_iter().rev());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        read(Source { file: "x", text }).map(|_| ()).expect_err("refused").to_string()
    }

    #[test]
    fn values_know_their_lines_and_keys_are_merged() {
        let text = "base: &b {kind: linux, image: a}\nn:\n  <<: *b\n  image: é\nlist: [1, 2.5]\n";
        let tree = read(Source { file: "x", text }).expect("YAML");
        let root = tree.root().expect("a document");
        let n = root.get("n").expect("n");
        assert_eq!(n.get("kind").and_then(Node::text), Some("linux"));
        assert_eq!(n.get("image").and_then(Node::text), Some("é"), "its own goes before a merged one");
        assert_eq!(n.get("image").map(Node::line), Some(4));
        let numbers: Vec<_> =
            root.get("list").and_then(Node::list).expect("a list").map(Node::number).collect();
        assert_eq!(numbers, [Some(1.0), Some(2.5)]);
        let at = root.get("list").expect("a list").offset(text);
        assert_eq!(text.get(at..at + 1), Some("["), "in bytes, behind a letter of two");
    }

    /// "Billion laughs": nine levels of nine aliases each would be 387 million values.
    #[test]
    fn a_bomb_stays_as_small_as_its_text() {
        let mut text = "a0: &a0 [lol, lol, lol]\n".to_owned();
        for n in 1..9 {
            let many = vec![format!("*a{}", n - 1); 9].join(", ");
            text += &format!("a{n}: &a{n} [{many}]\n");
        }
        let tree = read(Source { file: "x", text: &text }).expect("only pointers");
        assert!(tree.items.len() < 50, "{}", tree.items.len());
        // The same with merges: looking a key up gives up.
        let mut text = "a0: &a0 {k: 1}\n".to_owned();
        for n in 1..30 {
            let many = vec![format!("*a{}", n - 1); 9].join(", ");
            text += &format!("a{n}: &a{n} {{<<: [{many}]}}\n");
        }
        let tree = read(Source { file: "x", text: &text }).expect("only pointers");
        assert!(tree.root().and_then(|r| r.get("a29")).expect("a29").get("nothing").is_none());
    }

    #[test]
    fn what_has_no_end_or_is_too_much_is_refused_with_its_place() {
        assert!(refused("a: &a [1, *a]\n").contains("x:1:11: an alias of what it stands in has no end"));
        let deep = "[".repeat(DEEPEST + 1);
        assert!(refused(&deep).contains("nested deeper than 64 levels"), "{}", refused(&deep));
        let many = format!("a: &a 1\nb: [{}]\n", vec!["*a"; MOST_ALIASES + 1].join(", "));
        assert!(refused(&many).contains("more than 10000 aliases"));
        assert!(refused("a: 'b\n").contains("x:"), "{}", refused("a: 'b\n"));
        assert!(refused("a: *nobody\n").contains("not YAML"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_tree_or_has_a_place(text in "([\\[\\]{}:,&*\\-a-c<\n \"'|>#!%\t]|é){0,60}") {
            if let Err(ImportError::Faults(faults)) = read(Source { file: "x", text: &text }).map(|_| ()) {
                prop_assert!(faults[0].faults[0].line <= text.split('\n').count());
            }
        }
    }
}
