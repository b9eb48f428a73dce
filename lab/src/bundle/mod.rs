//! Bundles: a run folder as one file that says how to run it again, and whether it came out the same.
//!
//! ```text
//! RUN.tar.gz    bundle.json    every other file with its size and SHA-256 (FIPS 180-4)
//!               manifest.json  experiment, world, site, options, seed, versions
//!               csv/ figures/ recordings/ statistics/ run-1/ ...
//! ```
//!
//! A bundle comes from somebody else. Nothing of it is taken before it is checked ([`unpack`]): what
//! it may be is bounded, and an option that names a file of this machine is not taken from it
//! ([`rerun`]).

pub mod compare;
pub mod pack;
pub mod rerun;
pub mod unpack;

use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// The list of files in a bundle, its first file.
pub const LIST: &str = "bundle.json";
/// What this program writes and reads.
const FORMAT: u32 = 1;
/// Files of a bundle at most: a thousand repetitions of ten figures in three formats each.
pub const FILES: usize = 30_000;
/// Bytes of a file at most: a recording of an hour of a large data centre has some hundred MB.
pub const FILE: u64 = 1 << 30;
/// Bytes of all files together at most.
pub const TOTAL: u64 = 4 << 30;
/// Bytes of the list at most: some 200 for each file.
const LIST_BYTES: u64 = 8 << 20;
/// Bytes of a path at most, as a ustar header without its prefix has them.
const PATH: usize = 100;

/// What is wrong with a bundle, or with what was to become one.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no manifest.
    #[error("{0} is no run folder: it has no manifest.json; an experiment's --out FOLDER is one")]
    NoRun(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// `read`, `write` or `make`.
        doing: &'static str,
        /// The file's path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The archive ends early, or is none.
    #[error(
        "{bundle} is broken: {source}; it is no .tar.gz of `tandem-lab bundle`, or not all of it is there"
    )]
    Broken {
        /// The bundle.
        bundle: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The list is not the first file, or is not understood.
    #[error("{bundle} does not begin with {LIST} as this program writes it: {why}")]
    List {
        /// The bundle.
        bundle: PathBuf,
        /// Why.
        why: String,
    },
    /// A path that leads out of the folder, or is none that a run folder has.
    #[error("a bundle may not have a file {path:?}: {why}")]
    Path {
        /// As it stands there.
        path: String,
        /// Why not.
        why: &'static str,
    },
    /// More than there may be.
    #[error("{what} is too large: {size} of {limit} at most")]
    TooLarge {
        /// What.
        what: String,
        /// How much it has.
        size: u64,
        /// How much it may have.
        limit: u64,
    },
    /// A file is not as the list says.
    #[error("{path} is not as {LIST} says: {why}; the bundle was changed or damaged")]
    Changed {
        /// The file's path.
        path: String,
        /// What differs.
        why: &'static str,
    },
    /// The manifest does not say how to run it again.
    #[error("this run cannot be run again from its bundle: {0}")]
    NotAgain(String),
    /// The rerun itself failed.
    #[error("running it again failed ({0}); what it said is above")]
    Failed(std::process::ExitStatus),
}

/// A file in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Below the run folder, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The format's number.
    pub format: u32,
    /// Version of Tandem that wrote it.
    pub version: String,
    /// All other files, in order.
    pub files: Vec<Listed>,
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A path as a bundle may have one, below the run folder.
///
/// # Errors
/// When it leads elsewhere, or is too long.
pub fn checked(path: &str) -> Result<&Path, BundleError> {
    let refuse = |why| BundleError::Path { path: path.chars().take(PATH * 2).collect(), why };
    if path.is_empty() || path.len() > PATH {
        return Err(refuse("it is empty, or longer than 100 bytes"));
    }
    if path.contains(['\\', '\0']) || path.ends_with('/') || path.chars().any(char::is_control) {
        return Err(refuse("it has characters that are no part of a name"));
    }
    let as_path = Path::new(path);
    let plain = as_path.components().all(|c| matches!(c, Component::Normal(_)));
    // `components` reads `a/./b` and `a//b` as `a/b`: two names of one file.
    if !plain || path.split('/').any(|part| part.is_empty() || part == ".") {
        return Err(refuse("it leads out of the run folder, or has two names"));
    }
    if path == LIST {
        return Err(refuse("there is one list, and it is the first file"));
    }
    Ok(as_path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_digest_is_fips_180s() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
    }

    #[test]
    fn a_path_stays_in_the_folder() {
        for good in
            ["manifest.json", "csv/series.csv", "run-1/figures/figure.svg", "..a/b..", "statistics/a b/x"]
        {
            assert!(checked(good).is_ok(), "{good}");
        }
        let long = "x".repeat(101);
        for odd in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "./a",
            "a/./b",
            "a/",
            "a\\b",
            "a\nb",
            "a\0b",
            LIST,
            "..",
            &long,
        ] {
            assert!(matches!(checked(odd), Err(BundleError::Path { .. })), "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_below_the_folder(path in "[./\\\\a\\x00-]{0,12}") {
            if let Ok(path) = checked(&path) {
                let below = Path::new("/root/of/it").join(path);
                prop_assert!(below.starts_with("/root/of/it") && !path.components().any(|c| c == Component::ParentDir));
            }
        }
    }
}
