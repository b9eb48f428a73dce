//! Writes a bundle. The same run folder gives the same bytes: no times, no owners, files in order of
//! their paths.

use super::{BundleError, FILE, FILES, FORMAT, LIST, List, Listed, TOTAL, checked, sha256};
use crate::experiment::manifest::Manifest;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Packs a run folder into a file; how many files it has.
///
/// # Errors
/// When it is no run folder, is too large, or a file cannot be read or written. A bundle that is
/// not whole is removed.
pub fn pack(run: &Path, bundle: &Path) -> Result<usize, BundleError> {
    if !run.join(Manifest::FILE).is_file() {
        return Err(BundleError::NoRun(run.to_owned()));
    }
    let files = list(run)?;
    let written = write(run, bundle, &files);
    if written.is_err() {
        let _ = std::fs::remove_file(bundle);
    }
    written.map(|()| files.len())
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io { doing, path, source }
}

/// Every file below the folder; what is no file (a link, a socket) is left out.
fn list(run: &Path) -> Result<Vec<Listed>, BundleError> {
    let mut folders: Vec<PathBuf> = vec![run.to_owned()];
    let mut files = Vec::new();
    let mut total = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(io("read", &folder))? {
            let entry = entry.map_err(io("read", &folder))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(io("read", &path))?;
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            if !kind.is_file() {
                continue;
            }
            let below = path.strip_prefix(run).unwrap_or(&path).to_string_lossy().into_owned();
            checked(&below)?;
            let bytes = entry.metadata().map_err(io("read", &path))?.len();
            bounded(&below, bytes, FILE)?;
            total += bytes;
            bounded("the run folder", total, TOTAL)?;
            let contents = std::fs::read(&path).map_err(io("read", &path))?;
            files.push(Listed { path: below, bytes: contents.len() as u64, sha256: sha256(&contents) });
            bounded("the number of files", files.len() as u64, FILES as u64)?;
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn bounded(what: &str, size: u64, limit: u64) -> Result<(), BundleError> {
    if size > limit { Err(BundleError::TooLarge { what: what.to_owned(), size, limit }) } else { Ok(()) }
}

fn write(run: &Path, bundle: &Path, files: &[Listed]) -> Result<(), BundleError> {
    let fail = || io("write", bundle);
    let file = File::create(bundle).map_err(io("make", bundle))?;
    let mut tar = Builder::new(GzEncoder::new(BufWriter::new(file), Compression::default()));
    let list = List { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), files: files.to_vec() };
    let text = serde_json::to_vec_pretty(&list).map_err(|e| fail()(e.into()))?;
    add(&mut tar, LIST, &text).map_err(fail())?;
    for listed in files {
        let path = run.join(&listed.path);
        let contents = std::fs::read(&path).map_err(io("read", &path))?;
        add(&mut tar, &listed.path, &contents).map_err(fail())?;
    }
    let gz = tar.into_inner().map_err(fail())?;
    let mut file = gz.finish().map_err(fail())?;
    file.flush().map_err(fail())
}

/// A file without anything of this machine: no owner, no time.
fn add(tar: &mut Builder<impl Write>, path: &str, contents: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_path(path)?;
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    tar.append(&header, contents)
}
