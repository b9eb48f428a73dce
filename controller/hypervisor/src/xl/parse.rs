//! Parses the output of `xl` and of dom0's files. Pure; no text makes it panic.

use std::collections::BTreeMap;

/// A domain in `xl list -v`.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Its name; `(null)` if it no longer has one.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// CPUs that are online.
    pub vcpus: u32,
    /// Its state's letters.
    pub state: State,
    /// CPU time used, in nanoseconds; `xl` prints tenths of seconds.
    pub cpu_ns: u64,
    /// Its UUID in lower case.
    pub uuid: String,
}

/// The letters of a domain's state (xl(1), DOMAIN STATE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// `p`
    pub paused: bool,
    /// `s`: it has shut down, or is suspended.
    pub shutdown: bool,
    /// `c`
    pub crashed: bool,
    /// `d`
    pub dying: bool,
}

/// The output of `xl info` on a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    /// Memory, MiB.
    pub total_mib: u64,
    /// Free of it, MiB.
    pub free_mib: u64,
    /// CPUs.
    pub cpus: u32,
    /// Xen's version.
    pub version: String,
}

/// A line that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not understood")]
pub struct Nonsense(pub String);

/// `xl list -v`.
///
/// The first line that is not a domain.
pub fn domains(text: &str) -> Result<Vec<Domain>, Nonsense> {
    let header = |l: &&str| l.starts_with("Name ") || l.trim().is_empty();
    text.lines().filter(|l| !header(l)).map(|l| domain(l).ok_or_else(|| Nonsense(l.to_owned()))).collect()
}

fn domain(line: &str) -> Option<Domain> {
    let words: Vec<&str> = line.split_whitespace().collect();
    // A name may contain spaces and look like all columns of another domain; the text behind the
    // UUID has no spaces. So the last place that fits is the right one.
    let at = (4..words.len())
        .rev()
        .find(|n| state(words[*n]).is_some() && words.get(n + 2).is_some_and(|u| uuid(u)))?;
    let name = words[..at - 3].join(" ");
    Some(Domain {
        name,
        id: words[at - 3].parse().ok()?,
        memory_mib: words[at - 2].parse().ok()?,
        vcpus: words[at - 1].parse().ok()?,
        state: state(words[at])?,
        cpu_ns: seconds(words.get(at + 1)?)?,
        uuid: words[at + 2].to_ascii_lowercase(),
    })
}

fn uuid(word: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    word.len() == 36
        && word
            .bytes()
            .enumerate()
            .all(|(n, b)| if dashes.contains(&n) { b == b'-' } else { b.is_ascii_hexdigit() })
}

fn state(word: &str) -> Option<State> {
    let letters = b"rbpscd";
    let good = word.len() == 6 && word.bytes().zip(letters).all(|(b, l)| b == b'-' || b == *l);
    let has = |n: usize| word.as_bytes()[n] != b'-';
    good.then(|| State { paused: has(2), shutdown: has(3), crashed: has(4), dying: has(5) })
}

/// `15.9` as nanoseconds, without rounding by a binary fraction.
fn seconds(word: &str) -> Option<u64> {
    let (whole, part) = word.split_once('.').unwrap_or((word, "0"));
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)
}

/// `xl info`.
///
/// When it lacks the memory.
pub fn info(text: &str) -> Result<Info, Nonsense> {
    let fields: BTreeMap<&str, &str> =
        text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
    let number = |key: &str| {
        let value = fields.get(key).copied().unwrap_or("");
        value.parse::<u64>().map_err(|_| Nonsense(format!("{key}: {value}")))
    };
    Ok(Info {
        total_mib: number("total_memory")?,
        free_mib: number("free_memory")?,
        cpus: number("nr_cpus").ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        version: fields.get("xen_version").copied().unwrap_or("").to_owned(),
    })
}

/// Lines `NAME NUMBER NUMBER`, as our script prints counters; others are skipped.
pub fn counters(text: &str) -> BTreeMap<String, (u64, u64)> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        let (name, one, two) = (words.next()?, words.next()?, words.next()?);
        Some((name.to_owned(), (one.parse().ok()?, two.parse().ok()?)))
    };
    text.lines().filter_map(line).collect()
}

/// A migration's log so far. During a migration `xl` prints no rounds: it suppresses its own
/// progress (xl_migrate.c).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// The guest was suspended for the last round.
    pub suspended: bool,
    /// The end of the text read so far: a line may come in two parts.
    tail: String,
}

impl Log {
    /// Reads the new part `text`.
    pub fn read(&mut self, text: &str) {
        const SUSPENDED: &str = "guest has suspended";
        self.tail.push_str(text);
        self.suspended |= self.tail.contains(SUSPENDED);
        let mut cut = self.tail.len().saturating_sub(SUSPENDED.len());
        while !self.tail.is_char_boundary(cut) {
            cut -= 1;
        }
        self.tail.drain(..cut);
    }
}

/// The reason of a migration's failure from its log: the messages of both ends, without debug
/// output.
pub fn complaint(log: &str) -> String {
    let noise = [
        "debug",
        "detail:",
        "progress:",
        "info:",
        "Loading new save file",
        "Savefile contains",
        "Parsing config",
        "Ready to receive",
        "Saving to migration",
    ];
    let to_router: Vec<&str> = log
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|l| !l.is_empty() && !noise.iter().any(|n| l.contains(n)))
        .collect();
    let tail = to_router.len().saturating_sub(3);
    to_router[tail..].join("; ")
}
