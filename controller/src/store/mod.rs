//! The store: all state that must survive a restart. A SQLite file, behind a trait.
//!
//! [`place`] finds its path, `opening` creates and locks it and detects damage, `identity` has its
//! owner, [`check`] compares its records with the site; [`writer`] is the one thread that uses it
//! afterwards. Writes that arrive together are one transaction; each is answered by `Stored` or
//! `StoreFailed`, and nothing of a failed transaction is in the file.

pub mod check;
mod identity;
mod opening;
pub mod place;
pub mod tokens;
pub mod writer;

pub use identity::Layout;
pub(crate) use identity::hex;
pub use writer::Writer;

use crate::clock::wall;
use anyhow::{Context, bail};
use check::{Finding, Severity};
use identity::Owner;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use rusqlite_migration::M;
use std::path::{Path, PathBuf};
use tandem_model::{
    GroupRecord, MigrationRecord, PersistedState, PortNo, PortOverride, ServerId, Share, Site, StoreIdentity,
    StoreOp, SwitchId, Time, VmRecord,
};

/// The interface of a store.
pub trait Store: Send {
    /// All stored records.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&mut self) -> anyhow::Result<PersistedState>;

    /// Writes all or nothing.
    ///
    /// When it cannot be written; nothing is written then.
    fn commit(&mut self, records: &[StoreOp]) -> anyhow::Result<()>;
}

/// A store in a SQLite file.
pub struct Sqlite {
    db: Connection,
    path: String,
    owner: Owner,
}

const MIGRATIONS: &[M<'static>] = &[
    M::up(
        "CREATE TABLE vm (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
         CREATE TABLE vm_group (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
         CREATE TABLE last_id (kind TEXT PRIMARY KEY, id INTEGER NOT NULL);",
    ),
    // One row: the shares of all classes.
    M::up("CREATE TABLE shares (id INTEGER PRIMARY KEY, record TEXT NOT NULL);"),
    // Manual overrides of ports; the id is made of the switch's and the port's.
    M::up("CREATE TABLE port (id INTEGER PRIMARY KEY, record TEXT NOT NULL);"),
    // Migrations under way, and servers out of service.
    M::up(
        "CREATE TABLE migration (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
         CREATE TABLE drained (id INTEGER PRIMARY KEY, record TEXT NOT NULL);",
    ),
    // One row: the owner of the store.
    M::up("CREATE TABLE site (id INTEGER PRIMARY KEY CHECK (id = 1), record TEXT NOT NULL);"),
    // One row: when a controller last ran, by the wall clock.
    M::up("CREATE TABLE alive (id INTEGER PRIMARY KEY, record TEXT NOT NULL);"),
];

impl Sqlite {
    /// Opens `site`'s store at `path`, and creates it if it does not exist.
    ///
    /// # Errors
    /// When it cannot be opened, is another site's, or another controller has it.
    pub fn open(path: &Path, site: &Site) -> anyhow::Result<Sqlite> {
        let name = path.display().to_string();
        let mut db = opening::open(path, site)?;
        opening::migrate(&mut db, path)?;
        let owner = identity::adopt(&db, &name, site, wall())?;
        Ok(Sqlite { db, path: name, owner })
    }

    /// Its identity.
    pub fn identity(&self) -> &StoreIdentity {
        &self.owner.identity
    }

    /// All rows of a table that can be read; the others are added to `damaged`.
    fn rows<T: serde::de::DeserializeOwned>(
        &self,
        table: &'static str,
        id_of: impl Fn(&T) -> u64,
        damaged: &mut Vec<Finding>,
    ) -> anyhow::Result<Vec<T>> {
        let mut query = self.db.prepare(&format!("SELECT id, record FROM {table} ORDER BY id"))?;
        let mut rows = query.query([])?;
        let mut list = Vec::new();
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let record = match row.get_ref(1)? {
                ValueRef::Text(text) => serde_json::from_slice::<T>(text).map_err(|e| e.to_string()),
                _ => Err("it is no text".to_owned()),
            };
            let record = record.and_then(|record| match id_of(&record).cast_signed() {
                inside if inside == id => Ok(record),
                inside => Err(format!("it is that of {inside}")),
            });
            match record {
                Ok(record) => list.push(record),
                Err(why) => damaged.push(Finding {
                    table,
                    id,
                    severity: Severity::Fault,
                    what: format!("the record is damaged: {why}"),
                }),
            }
        }
        Ok(list)
    }

    /// All records that can be read, and findings for the others.
    fn read(&self) -> anyhow::Result<(PersistedState, Vec<Finding>)> {
        let mut damaged = Vec::new();
        let d = &mut damaged;
        let stored = PersistedState {
            vms: self.rows::<VmRecord>("vm", |v| v.id.0, d)?,
            groups: self.rows::<GroupRecord>("vm_group", |g| g.id.0, d)?,
            last_vm: self.last("vm")?,
            last_group: self.last("vm_group")?,
            shares: self.rows::<Vec<Share>>("shares", |_| 0, d)?.pop().unwrap_or_default(),
            ports: self.rows::<PortOverride>("port", |p| port_id(p.switch, p.port), d)?,
            migrations: self.rows::<MigrationRecord>("migration", |m| m.id.0, d)?,
            last_migration: self.last("migration")?,
            drained: self.rows::<ServerId>("drained", |s| u64::from(s.0), d)?,
            alive_at: self.rows::<Time>("alive", |_| 0, d)?.pop(),
            identity: Some(self.owner.identity.clone()),
        };
        Ok((stored, damaged))
    }

    /// All damaged records and those that do not fit `site`.
    ///
    /// # Errors
    /// When it cannot be read at all.
    pub fn examine(&self, site: &Site) -> anyhow::Result<Vec<Finding>> {
        let (stored, mut found) = self.read()?;
        found.extend(check::findings(&stored, &self.owner.layout, site));
        Ok(found)
    }

    /// All records, if they fit `site`; leftovers of a killed controller are left out and returned.
    /// From then on the store is valid for the present site.
    ///
    /// With all damaged and unfit records; nothing is changed then.
    pub fn load_for(&mut self, site: &Site) -> anyhow::Result<(PersistedState, Vec<Finding>)> {
        let (mut stored, mut found) = self.read()?;
        found.extend(check::findings(&stored, &self.owner.layout, site));
        let (faults, left): (Vec<Finding>, Vec<Finding>) =
            found.into_iter().partition(|f| f.severity == Severity::Fault);
        if !faults.is_empty() {
            let list: Vec<String> = faults.iter().map(|f| format!("\n  {f}")).collect();
            bail!(
                "the store {} does not fit the site {:?}:{}\nNothing was changed, and nothing is used. Serve the site file that it was \
                 written for; or drop a record, by its table and number, with `tandem store forget` (a copy of the store is kept): what \
                 it stood for is then no longer known, and is not stopped. `tandem store check` shows this list",
                self.path,
                site.name,
                list.concat()
            );
        }
        check::leave_out(&mut stored);
        let layout = Layout::of(site);
        if layout != self.owner.layout {
            self.owner.identity.fingerprint = layout.fingerprint(&site.name);
            self.owner.layout = layout;
            identity::write(&self.db, &self.owner).map_err(|e| self.explained(e))?;
            stored.identity = Some(self.owner.identity.clone());
        }
        Ok((stored, left))
    }

    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<rusqlite::Error>() {
            Ok(error) => opening::explain(Path::new(&self.path), &error),
            Err(error) => error,
        }
    }

    fn last(&self, kind: &str) -> anyhow::Result<u64> {
        let mut query = self.db.prepare("SELECT id FROM last_id WHERE kind = ?1")?;
        let id = query.query_map([kind], |row| row.get::<_, i64>(0))?.next().transpose()?;
        Ok(id.unwrap_or(0).cast_unsigned())
    }
}

impl Store for Sqlite {
    fn load(&mut self) -> anyhow::Result<PersistedState> {
        let (stored, damaged) = self.read()?;
        match damaged.first() {
            None => Ok(stored),
            Some(first) => bail!("the store {} is damaged: {first}", self.path),
        }
    }

    fn commit(&mut self, records: &[StoreOp]) -> anyhow::Result<()> {
        self.write(records).map_err(|error| {
            let full = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code)
                == Some(rusqlite::ErrorCode::DiskFull);
            let what = if full { "; free space on its disk" } else { "" };
            error.context(format!("writing {}{what}", self.path))
        })
    }
}

impl Sqlite {
    fn write(&mut self, records: &[StoreOp]) -> anyhow::Result<()> {
        let transaction = self.db.transaction()?;
        for record in records {
            if let StoreOp::PutMoved { vm, migration } = record {
                put(&transaction, "migration", migration.id.0, &serde_json::to_string(migration)?)?;
                put(&transaction, "vm", vm.id.0, &serde_json::to_string(vm)?)?;
                continue;
            }
            if let StoreOp::PutVmGroup { vms, .. } | StoreOp::TakeBackVmGroup { vms, .. } = record {
                for vm in vms {
                    put(&transaction, "vm", vm.id.0, &serde_json::to_string(vm)?)?;
                }
            }
            let (table, id, text) = match record {
                StoreOp::PutVm { vm } => ("vm", vm.id.0, Some(serde_json::to_string(vm)?)),
                StoreOp::RemoveVm { vm } => ("vm", vm.0, None),
                StoreOp::PutGroup { group } | StoreOp::PutVmGroup { group, .. } => {
                    ("vm_group", group.id.0, Some(serde_json::to_string(group)?))
                }
                StoreOp::RemoveGroup { group } | StoreOp::TakeBackVmGroup { group, .. } => {
                    ("vm_group", group.0, None)
                }
                StoreOp::PutPort { port } => {
                    ("port", port_id(port.switch, port.port), Some(serde_json::to_string(port)?))
                }
                StoreOp::RemovePort { switch, port } => ("port", port_id(*switch, *port), None),
                StoreOp::PutShares { shares } => ("shares", 0, Some(serde_json::to_string(shares)?)),
                StoreOp::PutAlive { at } => ("alive", 0, Some(serde_json::to_string(at)?)),
                StoreOp::PutMigration { migration } => {
                    ("migration", migration.id.0, Some(serde_json::to_string(migration)?))
                }
                StoreOp::RemoveMigration { migration } => ("migration", migration.0, None),
                StoreOp::PutDrained { server } => {
                    ("drained", u64::from(server.0), Some(serde_json::to_string(server)?))
                }
                StoreOp::RemoveDrained { server } => ("drained", u64::from(server.0), None),
                // Above.
                StoreOp::PutMoved { .. } => continue,
            };
            match text {
                Some(text) => put(&transaction, table, id, &text)?,
                None => {
                    transaction.execute(&format!("DELETE FROM {table} WHERE id = ?1"), [id.cast_signed()])?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn put(transaction: &rusqlite::Transaction<'_>, table: &str, id: u64, text: &str) -> anyhow::Result<()> {
    let id = id.cast_signed();
    transaction.execute(&format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2)"), params![id, text])?;
    transaction.execute(
        "INSERT INTO last_id VALUES (?1, ?2) ON CONFLICT (kind) DO UPDATE SET id = max(id, ?2)",
        params![table, id],
    )?;
    Ok(())
}

/// A time for people, in UTC: `2026-03-01 12:00`.
fn date(at: Time) -> String {
    let seconds = i64::try_from(at.0 / 1_000_000_000).unwrap_or(i64::MAX);
    let date = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", date.hour(), date.minute())
}

fn port_id(switch: SwitchId, port: PortNo) -> u64 {
    u64::from(switch.0) << 32 | u64::from(port.0)
}

/// The tables from which `tandem store forget` removes records, by their names for people.
pub const TABLES: [(&str, &str); 6] = [
    ("vm", "vm"),
    ("group", "vm_group"),
    ("port", "port"),
    ("migration", "migration"),
    ("drained", "drained"),
    ("shares", "shares"),
];

/// Removes one record from the store at `path`, after making a copy of the store; returns the
/// copy's path.
///
/// When a controller uses the store, there is no such record, or the copy cannot be made; nothing
/// is changed then.
pub fn forget(path: &Path, table: &str, id: i64) -> anyhow::Result<PathBuf> {
    let words = || TABLES.map(|(word, _)| word).join(", ");
    let found = TABLES.iter().find(|(word, name)| *word == table || *name == table);
    let (_, name) = found.with_context(|| format!("there is no table {table:?}; there are {}", words()))?;
    let db = opening::open_existing(path)?;
    let there: i64 =
        db.query_row(&format!("SELECT count(*) FROM {name} WHERE id = ?1"), [id], |row| row.get(0))?;
    if there == 0 {
        bail!("the store {} has no {table} {id}; nothing was changed", path.display());
    }
    let copy = opening::copy_aside(&db, path)?;
    db.execute(&format!("DELETE FROM {name} WHERE id = ?1"), [id]).map_err(|e| opening::explain(path, &e))?;
    Ok(copy)
}

/// All damaged records in the store at `path`, and those that do not fit `site`. A copy is
/// examined: the store and its owner are not changed.
///
/// When it cannot be read, is another site's, or a controller uses it.
pub fn examine(path: &Path, site: &Site) -> anyhow::Result<Vec<Finding>> {
    let folder = tempfile::tempdir().context("cannot make a folder for a copy of the store")?;
    let copied = folder.path().join("store.sqlite");
    copy_store(path, &copied)?;
    Sqlite::open(&copied, site)?.examine(site)
}

/// The identity of the store at `path`, which has to be `site`'s. Works also while a controller
/// uses it: a record of one row is read.
///
/// When it does not exist, cannot be read, or is another site's.
pub fn identity_of(path: &Path, site: &Site) -> anyhow::Result<StoreIdentity> {
    let folder = tempfile::tempdir().context("cannot make a folder for a copy of the store")?;
    let copied = folder.path().join("store.sqlite");
    copy_store(path, &copied)?;
    let identity = Sqlite::open(&copied, site)?.identity().clone();
    if site_of(path)?.is_none() {
        bail!("the store {} is of no site yet: serve it once", path.display());
    }
    Ok(identity)
}

/// The site of a store; `None` if it has no owner yet.
fn site_of(path: &Path) -> anyhow::Result<Option<String>> {
    let db = opening::open_existing(path)?;
    let made: bool =
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'site'", [], |row| row.get(0))?;
    if !made {
        return Ok(None);
    }
    Ok(identity::read(&db, &path.display().to_string())?.map(|owner| owner.identity.site))
}

/// Copies a store, with the contents of its log, to a new file.
fn copy_store(from: &Path, to: &Path) -> anyhow::Result<()> {
    let db = opening::open_existing(from)?;
    opening::copy(&db, from, to)
}

#[cfg(test)]
mod tests;
