//! Opens a store: it is created completely or not at all, locked by one controller, and damage is
//! detected.
//!
//! A new store is created under a temporary name and renamed when it is complete, so that an
//! interrupted start leaves no empty file. So an empty file is never a new store: its contents are
//! lost, and the operator has to decide what to do.

use super::{MIGRATIONS, date, identity};
use crate::clock::wall;
use anyhow::{Context, bail};
use rusqlite::{Connection, ErrorCode};
use rusqlite_migration::Migrations;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tandem_model::Site;

/// The first bytes of every SQLite 3 file (SQLite file format 1.3.1).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The most findings of `quick_check` in an error; there may be one per page.
const FINDINGS: usize = 3;

/// The remedy for a damaged store.
const REMEDY: &str = "nothing was changed. Put a copy of it back in its place (with its -wal file, if that has one), or move the \
                      damaged file aside; a controller without it knows none of its VMs, and leaves them alone";

/// Opens the database at `path` for this process alone.
///
/// When it does not exist and cannot be created, is damaged, is not a store, is of a newer version,
/// or another process uses it.
pub(super) fn open(path: &Path, site: &Site) -> anyhow::Result<Connection> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            left_behind(path)?;
            make(path, site)?;
        }
        Err(error) => return Err(unusable(path, &error)),
        Ok(_) => {}
    }
    look(path)?;
    let db = lock(path)?;
    check(&db, path)?;
    Ok(db)
}

/// Opens an existing one for this process alone, without changing its contents.
///
/// As [`open`], and when it does not exist.
pub(super) fn open_existing(path: &Path) -> anyhow::Result<Connection> {
    if let Err(error) = std::fs::symlink_metadata(path) {
        return Err(unusable(path, &error));
    }
    look(path)?;
    let db = lock(path)?;
    check(&db, path)?;
    Ok(db)
}

/// Migrates the tables to this version.
pub(super) fn migrate(db: &mut Connection, path: &Path) -> anyhow::Result<()> {
    let done = Migrations::from_slice(MIGRATIONS).to_latest(db);
    done.map_err(|error| match &error {
        rusqlite_migration::Error::MigrationDefinition(_) => anyhow::anyhow!(
            "the store {} is of a newer version of tandem; install that version again, or give another store with --store",
            path.display()
        ),
        rusqlite_migration::Error::RusqliteError { err, .. } => explain(path, err),
        _ => anyhow::anyhow!("the tables of the store {} cannot be made: {error}", path.display()),
    })
}

/// The path of a file that SQLite keeps next to a database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A log without its database is the rest of a store that was removed: SQLite would delete it.
fn left_behind(path: &Path) -> anyhow::Result<()> {
    let wal = beside(path, "-wal");
    if std::fs::symlink_metadata(&wal).is_ok_and(|m| m.len() > 0) {
        bail!(
            "the store {} is gone, but its log {} is still there: it was removed or moved without it. Put the store back beside its \
             log, or move the log aside to begin with an empty store",
            path.display(),
            wal.display()
        );
    }
    Ok(())
}

/// Creates a new store with its tables and its identity, completely or not at all.
fn make(path: &Path, site: &Site) -> anyhow::Result<()> {
    let fail = |error: &std::io::Error| unusable(path, error);
    let scratch = beside(path, &format!(".new-{}", std::process::id()));
    let made = (|| {
        let _ = std::fs::remove_file(&scratch);
        let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch);
        let file = options.map_err(|e| fail(&e))?;
        // Independent of the umask: the database holds access rights.
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(|e| fail(&e))?;
        let mut db = Connection::open(&scratch).map_err(|e| explain(path, &e))?;
        migrate(&mut db, path)?;
        let name = path.display().to_string();
        identity::adopt(&db, &name, site, wall()).map_err(|e| match e.downcast::<rusqlite::Error>() {
            Ok(error) => explain(path, &error),
            Err(error) => error,
        })?;
        db.close().map_err(|(_, e)| explain(path, &e))?;
        file.sync_all().map_err(|e| fail(&e))?;
        match std::fs::hard_link(&scratch, path) {
            // Another process has created one meanwhile, which its lock shows.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => linked.map_err(|e| fail(&e))?,
        }
        sync_folder(path).map_err(|e| fail(&e))
    })();
    let _ = std::fs::remove_file(&scratch);
    let _ = std::fs::remove_file(beside(&scratch, "-journal"));
    made
}

/// Syncs the changes in a file's folder to disk.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// Examines the file itself, before SQLite does.
fn look(path: &Path) -> anyhow::Result<()> {
    let name = path.display();
    let meta = std::fs::metadata(path).map_err(|e| unusable(path, &e))?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "no ordinary file" };
        bail!("{name} is {what}, and a store is a file; give another path with --store");
    }
    if meta.len() == 0 {
        bail!("the store {name} is damaged: it is empty (0 bytes), so what it held is lost; {REMEDY}");
    }
    let mut begin = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| unusable(path, &e))?;
    file.take(100).read_to_end(&mut begin).map_err(|e| unusable(path, &e))?;
    if !begin.starts_with(MAGIC) {
        bail!(
            "{name} is no store, or a damaged one: it does not begin as an SQLite file does; {REMEDY}. If it is something else, give \
             another path with --store"
        );
    }
    if begin.len() < 100 {
        bail!("the store {name} is damaged: it has only {} bytes; {REMEDY}", meta.len());
    }
    if meta.permissions().mode() & 0o077 != 0 && meta.uid() == rustix::process::geteuid().as_raw() {
        let only_owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, only_owner).map_err(|e| unusable(path, &e))?;
        tracing::warn!("the store {name} could be read by others; now only its owner may");
    }
    Ok(())
}

/// Opens and locks it for as long as this process runs: a second controller on the same store would
/// undo the changes of this one.
fn lock(path: &Path) -> anyhow::Result<Connection> {
    let db = Connection::open(path).map_err(|e| explain(path, &e))?;
    db.busy_timeout(std::time::Duration::ZERO).map_err(|e| explain(path, &e))?;
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")
        .and_then(|()| db.pragma_update(None, "journal_mode", "WAL"))
        .and_then(|()| db.pragma_update(None, "synchronous", "FULL"))
        .and_then(|()| db.execute_batch("BEGIN EXCLUSIVE; COMMIT;"))
        .map_err(|e| explain(path, &e))?;
    Ok(db)
}

/// Reads all pages: an overwritten page is detected now, not when a VM needs it.
fn check(db: &Connection, path: &Path) -> anyhow::Result<()> {
    let findings = (|| {
        let mut query = db.prepare("PRAGMA quick_check(20)")?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<Result<Vec<String>, _>>()
    })()
    .map_err(|e| explain(path, &e))?;
    if findings.iter().any(|f| f != "ok") {
        let shown: Vec<&str> =
            findings.iter().flat_map(|f| f.lines()).filter(|l| !l.is_empty()).take(FINDINGS).collect();
        bail!("the store {} is damaged ({}); {REMEDY}", path.display(), shown.join("; "));
    }
    Ok(())
}

/// The meaning of an error of SQLite for the operator.
pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> anyhow::Error {
    let name = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            let who = holder(path).map_or_else(
                || "another process has it (a second `tandem serve`?)".to_owned(),
                |who| format!("{who} has it"),
            );
            anyhow::anyhow!(
                "cannot lock the store {name}: {who}; stop that, as with `another tandem serve` one would undo what the other does"
            )
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            anyhow::anyhow!("the store {name} is damaged ({error}); {REMEDY}")
        }
        Some(ErrorCode::DiskFull) => {
            anyhow::anyhow!("the store {name} cannot be written: its disk is full; free space on it")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => anyhow::anyhow!(
            "cannot open the store {name} ({error}): does its folder exist, and may you ({}) write there? Another place can be \
             given with --store",
            user()
        ),
        Some(ErrorCode::SystemIoFailure) => {
            anyhow::anyhow!("the store {name} cannot be read or written: its disk fails ({error})")
        }
        _ => anyhow::anyhow!("the store {name} cannot be used: {error}"),
    }
}

/// The meaning of an error of the file system.
pub(super) fn unusable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let name = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            anyhow::anyhow!(
                "the store {name} cannot be written: its disk is full ({error}); free space on it"
            )
        }
        ErrorKind::NotFound => {
            anyhow::anyhow!(
                "there is no {name}: {error}; does its folder exist? Another place can be given with --store"
            )
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => anyhow::anyhow!(
            "cannot open the store {name}: you ({}) may not read and write there ({error}); another place can be given with --store",
            user()
        ),
        _ => anyhow::anyhow!("cannot use the store {name}: {error}"),
    }
}

fn user() -> String {
    format!("user {}", rustix::process::geteuid().as_raw())
}

/// The process that holds SQLite's locks on a file, by the kernel's list.
fn holder(path: &Path) -> Option<String> {
    // SQLite file format 1.5: the lock bytes are at 1 GiB; 512 of them.
    let file = std::fs::File::open(path).ok()?;
    let mut wanted = Flock::from(FlockType::WriteLock);
    wanted.start = 0x4000_0000;
    wanted.length = 512;
    let pid = fcntl_getlk(&file, &wanted).ok()??.pid?.as_raw_nonzero();
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let command = tandem_model::text::escaped(command.trim()).to_string();
    Some(if command.is_empty() { format!("process {pid}") } else { format!("process {pid} ({command})") })
}

/// Copies a store to a file next to it, named after the time.
pub(super) fn copy_aside(db: &Connection, path: &Path) -> anyhow::Result<PathBuf> {
    let at = date(wall()).replace([' ', ':'], "-");
    let copy_to = (0u32..1000)
        .map(|n| beside(path, &if n == 0 { format!(".{at}") } else { format!(".{at}.{n}") }))
        .find(|p| std::fs::symlink_metadata(p).is_err())
        .context("there are too many copies beside the store; remove some")?;
    copy(db, path, &copy_to)?;
    Ok(copy_to)
}

/// Copies an open database to a new file by SQLite itself: closing the file anywhere in this
/// process would release its lock (SQLite: "How To Corrupt An SQLite Database File", 2.2).
pub(super) fn copy(db: &Connection, path: &Path, to: &Path) -> anyhow::Result<()> {
    let fail = || format!("cannot copy the store {} to {}", path.display(), to.display());
    let file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).with_context(fail)?;
    let name = to.to_str().with_context(fail)?;
    db.execute("VACUUM INTO ?1", [name]).map_err(|e| explain(path, &e)).with_context(fail)?;
    file.sync_all().with_context(fail)?;
    // Moves the contents of the log into the file.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        .map_err(|e| explain(path, &e))
        .and_then(
            |busy| if busy == 0 { Ok(()) } else { Err(anyhow::anyhow!("its log cannot be written back")) },
        )
        .with_context(fail)
}
