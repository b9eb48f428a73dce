//! Names of nodes as a free-form site takes them: letters, digits and `-`, at most ten bytes, each
//! once, and none that a VM or the system has.

use std::collections::BTreeSet;
use tandem_model::text::escaped_to;

/// The longest name of a node: with a port's number behind it, it has to be an interface's name
/// (15 bytes, IFNAMSIZ - 1).
pub const LONGEST: usize = 10;

/// Gives out names, each once.
#[derive(Debug, Default)]
pub struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// A name like `wanted` that is not taken: that one, if it can be.
    pub fn take(&mut self, wanted: &str) -> String {
        let name = plain(wanted);
        if self.taken.insert(name.clone()) {
            return name;
        }
        // No number makes a name that is reserved: `vm` alone would.
        let name = if name == "vm" { "node".to_owned() } else { name };
        // Names are ASCII, so that cutting one leaves characters whole. There are more numbers than
        // names, so that one of them is free.
        let mut number = 2u64;
        loop {
            let digits = number.to_string();
            let kept = name.get(..name.len().min(LONGEST.saturating_sub(digits.len()))).unwrap_or_default();
            let other = format!("{kept}{digits}");
            if self.taken.insert(other.clone()) {
                return other;
            }
            number += 1;
        }
    }

    /// The first of `prefix1`, `prefix2` ... from `from` on that is not taken, and its number.
    pub fn numbered(&mut self, prefix: &str, from: u64) -> (String, u64) {
        let mut number = from;
        loop {
            let name = format!("{prefix}{number}");
            if self.taken.insert(name.clone()) {
                return (name, number);
            }
            number += 1;
        }
    }
}

/// Names of interfaces and settings that every network namespace has.
const SYSTEM: [&str; 5] = ["lo", "all", "default", "root", "ovs-system"];

/// True for a name that a VM (`vm7`) or the system has.
fn is_reserved(name: &str) -> bool {
    let number = name.strip_prefix("vm").unwrap_or_default();
    SYSTEM.contains(&name) || (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The switch whose port is called so: `a` of `a-1`.
pub fn of_port(name: &str) -> Option<&str> {
    let (stem, port) = name.rsplit_once('-')?;
    (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())).then_some(stem)
}

/// True for a name that a site takes as it is.
pub fn is_plain(name: &str) -> bool {
    !is_reserved(name)
        && (1..=LONGEST).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// A name of plain characters that is short enough: what is no letter or digit becomes one `-`.
pub fn plain(wanted: &str) -> String {
    if is_plain(wanted) {
        return wanted.to_owned();
    }
    let mut name = String::new();
    for c in wanted.chars().take(1000).map(without_accent) {
        if name.len() >= LONGEST {
            break;
        }
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_end_matches('-');
    match name {
        "" => "node".to_owned(),
        name if is_reserved(name) => {
            let name = format!("n-{name}");
            name.get(..LONGEST.min(name.len())).unwrap_or("node").to_owned()
        }
        name => name.to_owned(),
    }
}

/// The letter below an accent (Latin-1 Supplement), so that cities keep their names.
fn without_accent(c: char) -> char {
    match c {
        'À'..='Å' => 'A',
        'à'..='å' => 'a',
        'Ç' => 'C',
        'ç' => 'c',
        'È'..='Ë' => 'E',
        'è'..='ë' => 'e',
        'Ì'..='Ï' => 'I',
        'ì'..='ï' => 'i',
        'Ñ' => 'N',
        'ñ' => 'n',
        'Ò'..='Ö' | 'Ø' => 'O',
        'ò'..='ö' | 'ø' => 'o',
        'Ù'..='Ü' => 'U',
        'ù'..='ü' => 'u',
        'ß' => 's',
        other => other,
    }
}

/// A name of a site: up to 32 letters, digits, `-`, `_` and `.`.
pub fn site_name(wanted: &str) -> String {
    let fit = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String =
        wanted.trim().chars().take(32).map(without_accent).map(|c| if fit(c) { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "imported".to_owned() } else { name.to_owned() }
}

/// Foreign text as it stands in a comment: on one line and not long.
pub fn comment(text: &str) -> String {
    escaped_to(text, 60).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_vms_and_of_the_system_are_not_given() {
        let mut names = Names::default();
        let given = ["vm7", "lo", "vm", "vm", "ovs-system", "v"].map(|n| names.take(n));
        assert_eq!(given, ["n-vm7", "n-lo", "vm", "node2", "n-ovs-syst", "v"]);
        assert_eq!(of_port("s1-12"), Some("s1"));
        assert_eq!((of_port("s1-a"), of_port("s1")), (None, None));
    }

    #[test]
    fn names_keep_what_they_can() {
        let mut names = Names::default();
        let given = ["s1", "Frankfurt am Main", "Frankfurt am Rhein", "Zürich", "s1", "", "--", "node"];
        let taken: Vec<String> = given.iter().map(|n| names.take(n)).collect();
        let expected = ["s1", "Frankfurt", "Frankfurt2", "Zurich", "s12", "node", "node2", "node3"];
        assert_eq!(taken, expected);
        assert_eq!(names.numbered("s", 1).0, "s2", "s1 is taken");
        assert_eq!(site_name("  a b/c "), "a-b-c");
        assert_eq!(site_name("///"), "imported");
    }

    proptest! {
        #[test]
        fn whatever_is_wanted_each_name_is_fit_and_new(wanted in proptest::collection::vec(".{0,14}|[ab]|vm[0-9]{0,3}|lo", 0..300)) {
            let mut names = Names::default();
            let given: Vec<String> = wanted.iter().map(|w| names.take(w)).collect();
            prop_assert!(given.iter().all(|n| is_plain(n)), "{given:?}");
            let distinct: BTreeSet<&String> = given.iter().collect();
            prop_assert_eq!(distinct.len(), given.len());
        }
    }
}
