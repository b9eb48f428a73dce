//! Reads a bundle into an empty folder: every file is in the list, with its size and its checksum,
//! and nothing else is there.
//!
//! What the archive says of itself is not believed: sizes are compared with the list before a byte
//! is read, what is decompressed is counted, and an entry that is no plain file (a link, a device, a
//! long name that has to be read to be known) is refused.

use super::{BundleError, FILE, FILES, FORMAT, LIST, LIST_BYTES, List, TOTAL, checked, sha256};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::Path;
use tar::{Archive, Entry};

/// What headers and padding of all entries have at most, beside the files themselves.
const OVERHEAD: u64 = 2048 * FILES as u64;

/// Unpacks a bundle from a file into a folder that is empty.
///
/// # Errors
/// When it is not as [`pack`](super::pack) writes it; the folder may then hold a part of it.
pub fn unpack(bundle: &Path, into: &Path) -> Result<List, BundleError> {
    let file = File::open(bundle).map_err(|source| BundleError::Io {
        doing: "read",
        path: bundle.to_owned(),
        source,
    })?;
    read(BufReader::new(file), bundle, into)
}

/// The same from any bytes; `bundle` is what they are called.
///
/// # Errors
/// See [`unpack`].
pub fn read(bytes: impl Read, bundle: &Path, into: &Path) -> Result<List, BundleError> {
    let broken = |source| BundleError::Broken { bundle: bundle.to_owned(), source };
    let mut archive = Archive::new(GzDecoder::new(bytes).take(TOTAL + LIST_BYTES + OVERHEAD));
    // Raw: an extended header would be read into memory as long as it says it is.
    let mut entries = archive.entries().map_err(broken)?.raw(true);
    let first = entries.next().ok_or_else(|| broken(std::io::ErrorKind::UnexpectedEof.into()))?;
    let list = listed(first.map_err(broken)?, bundle)?;
    let mut missing: BTreeMap<&str, (u64, &str)> =
        list.files.iter().map(|f| (f.path.as_str(), (f.bytes, f.sha256.as_str()))).collect();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let path = name(&entry)?;
        let below = checked(&path)?;
        let changed = |why| BundleError::Changed { path: path.clone(), why };
        let (size, digest) = missing
            .remove(path.as_str())
            .ok_or_else(|| changed("it is not in the list, or twice in the bundle"))?;
        if entry.size() != size {
            return Err(changed("its size differs"));
        }
        let mut contents = Vec::new();
        entry.by_ref().take(size).read_to_end(&mut contents).map_err(broken)?;
        if contents.len() as u64 != size {
            return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        if sha256(&contents) != digest {
            return Err(changed("its checksum differs"));
        }
        put(&into.join(below), &contents)?;
    }
    match missing.keys().next() {
        Some(path) => Err(BundleError::Changed { path: (*path).to_owned(), why: "it is not there" }),
        None => Ok(list),
    }
}

/// The path of a plain file's entry.
fn name(entry: &Entry<'_, impl Read>) -> Result<String, BundleError> {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    if entry.header().entry_type().is_file() {
        return Ok(path);
    }
    Err(BundleError::Path { path, why: "it is no plain file" })
}

/// The list, checked: nothing is unpacked of a bundle that is too large or leads elsewhere.
fn listed(mut entry: Entry<'_, impl Read>, bundle: &Path) -> Result<List, BundleError> {
    let odd = |why: String| BundleError::List { bundle: bundle.to_owned(), why };
    if name(&entry)? != LIST {
        return Err(odd("it is not the first file".into()));
    }
    bounded(LIST, entry.size(), LIST_BYTES)?;
    let mut text = Vec::new();
    let size = entry.size();
    entry.by_ref().take(LIST_BYTES).read_to_end(&mut text).map_err(|e| odd(e.to_string()))?;
    if text.len() as u64 != size {
        return Err(odd("it ends early".into()));
    }
    let list: List = serde_json::from_slice(&text).map_err(|e| odd(e.to_string()))?;
    if list.format != FORMAT {
        return Err(odd(format!("format {}, of which this program knows {FORMAT} only", list.format)));
    }
    bounded("the number of files", list.files.len() as u64, FILES as u64)?;
    let mut total = 0u64;
    let mut before: Option<&str> = None;
    for file in &list.files {
        checked(&file.path)?;
        bounded(&file.path, file.bytes, FILE)?;
        total = total.saturating_add(file.bytes);
        if before.is_some_and(|b| b >= file.path.as_str()) {
            return Err(odd("its files are not in order, or one is there twice".into()));
        }
        before = Some(&file.path);
    }
    bounded("the bundle", total, TOTAL)?;
    Ok(list)
}

fn bounded(what: &str, size: u64, limit: u64) -> Result<(), BundleError> {
    if size > limit { Err(BundleError::TooLarge { what: what.to_owned(), size, limit }) } else { Ok(()) }
}

/// Writes a file that is not there yet.
fn put(path: &Path, contents: &[u8]) -> Result<(), BundleError> {
    let fail = |source| BundleError::Io { doing: "write", path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(fail)?;
    file.write_all(contents).map_err(fail)
}
