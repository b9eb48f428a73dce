//! Topologies of other tools as site files, and site files as theirs, without I/O.
//!
//! One file per format, each with a reader, and one table of them all ([`FORMATS`]):
//!
//! ```text
//! text -> a format's reader -> Graph -> settle: what is a switch, a server, a gateway -> site.toml
//!                                           (the thesis' two ini files -> site.toml directly)
//! site.toml -> tandem_model::site::read -> Site -> export -> Mininet script, containerlab file, dot
//! ```
//!
//! What a reader cannot carry over it names, with its line ([`Leftover`]); what is wrong with a file
//! is said with line and column ([`Faults`]). Whatever comes out has been read back by the site's own
//! reader, so that `tandem check` takes it. Every input is bounded: its size ([`LARGEST_FILE`]), its
//! nodes and links ([`graph::MOST_NODES`], [`graph::MOST_LINKS`]), and what YAML may nest and repeat
//! ([`tree`]).

mod additions;
mod clab;
mod controller_ini;
pub mod export;
pub mod graph;
mod graphml;
mod ini;
pub mod init;
mod lines;
mod mininet;
mod mininet_ini;
pub mod names;
mod node_link;
mod settle;
pub mod tree;
mod values;
mod write;

use std::fmt;
use tandem_model::site::Faults;

/// The largest file that is read, in bytes.
pub const LARGEST_FILE: u64 = 16 << 20;

/// A file to be translated.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its name, for recognising it and for messages.
    pub file: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// What the reader of a topology is told besides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Hosts that are gateways, by their names in the file or in the site.
    pub gateways: Vec<String>,
    /// Servers that each switch gets in a topology that has none; 0 leaves it without.
    pub servers_per_switch: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { gateways: Vec::new(), servers_per_switch: 1 }
    }
}

/// Something in the file that the site does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The file.
    pub file: String,
    /// The first line that has it, from 1; 0 where the format has no lines.
    pub line: usize,
    /// How many more there are of it.
    pub more: usize,
    /// What it is.
    pub what: String,
    /// Why the site does not have it, or what has it instead.
    pub why: String,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file)?,
            line => write!(f, "{}:{line}", self.file)?,
        }
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        write!(f, ": {}: {}", self.what, self.why)
    }
}

/// A site file that was made of another tool's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The text of site.toml.
    pub site: String,
    /// What it does not have of the file.
    pub leftovers: Vec<Leftover>,
    /// What was decided where the file says nothing: the gateway, the servers.
    pub decisions: Vec<String>,
}

/// Why a file could not be translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The files have faults, each with its place.
    #[error("{}", every(.0))]
    Faults(Vec<Faults>),
    /// A gateway was named that is no host.
    #[error("{name:?} cannot be the gateway: {problem}; the hosts are {known}")]
    Gateway {
        /// The name.
        name: String,
        /// Why not.
        problem: &'static str,
        /// Hosts that there are, the first few.
        known: String,
    },
    /// There is nothing in it that forwards packets.
    #[error(
        "{file} has no switch: {nodes} nodes and {links} links are in it, and none of the nodes joins others; \
         a site needs at least one switch"
    )]
    NoSwitch {
        /// The file.
        file: String,
        /// Nodes that were found.
        nodes: usize,
        /// Links that were found.
        links: usize,
    },
    /// More than a site can have.
    #[error("{file} has more than {most} {what}; take a part of it")]
    TooMany {
        /// The file.
        file: String,
        /// Nodes or links.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// Files that do not belong together.
    #[error(
        "{0} and {1} do not make one site; only the thesis' conf.ini and its controller's ini are read together"
    )]
    NotTogether(String, String),
    /// A topology is whole, and the site's reader refuses what became of it.
    #[error("what is in {file} makes no site: {faults}")]
    Unfit {
        /// The file.
        file: String,
        /// What the reader says, about the translation.
        faults: Faults,
    },
}

fn every(faults: &[Faults]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A format that can be read.
pub struct Format {
    /// What `--format` calls it.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// True for a file of it.
    pub recognises: fn(Source<'_>) -> bool,
    /// Translates files of it; more than one only where [`Format::partner`] says so.
    pub translate: fn(&[Source<'_>], &Options) -> Result<Imported, ImportError>,
    /// The format whose file can be given besides.
    pub partner: Option<&'static str>,
}

/// Every format, in the order in which a file is tried. A new one is a file beside this one and a
/// line here.
pub const FORMATS: &[Format] = &[
    Format {
        name: "conf-ini",
        about: "conf.ini of the thesis' Mininet environment",
        recognises: mininet_ini::recognises,
        translate: mininet_ini::translate,
        partner: Some("controller-ini"),
    },
    Format {
        name: "controller-ini",
        about: "the ini file of the thesis' controller",
        recognises: controller_ini::recognises,
        translate: mininet_ini::translate,
        partner: Some("conf-ini"),
    },
    Format {
        name: "mininet",
        about: "a Mininet script in Python, which is run where it can start and change nothing",
        recognises: mininet::recognises,
        translate: mininet::translate,
        partner: None,
    },
    Format {
        name: "clab",
        about: "a topology file of containerlab (.clab.yml)",
        recognises: clab::recognises,
        translate: clab::translate,
        partner: None,
    },
    Format {
        name: "graphml",
        about: "a GraphML file, such as those of the Topology Zoo",
        recognises: graphml::recognises,
        translate: graphml::translate,
        partner: None,
    },
    Format {
        name: "node-link",
        about: "node-link JSON of NetworkX, such as that of TopoHub",
        recognises: node_link::recognises,
        translate: node_link::translate,
        partner: None,
    },
];

/// The format of that name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|f| f.name == name)
}

/// The format of a file, by its name and what is in it.
pub fn recognise(source: Source<'_>) -> Option<&'static Format> {
    FORMATS.iter().find(|f| (f.recognises)(source))
}

/// The only file of a format of which only one is read.
pub(crate) fn single<'a>(sources: &[Source<'a>]) -> Result<Source<'a>, ImportError> {
    match sources {
        [first, .., last] => Err(ImportError::NotTogether(first.file.to_owned(), last.file.to_owned())),
        [source] => Ok(*source),
        [] => Err(ImportError::NoSwitch { file: "nothing".to_owned(), nodes: 0, links: 0 }),
    }
}

/// True when a file's name ends so, in any case.
pub(crate) fn ends_with(file: &str, ends: &[&str]) -> bool {
    let file = file.to_ascii_lowercase();
    ends.iter().any(|end| file.ends_with(end))
}

/// The part of a path behind the last slash.
pub(crate) fn base_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}
