//! The store: what must survive a restart. SQLite in a file beside the controller, behind a trait.
//!
//! One thread owns the database. Writes that arrive together are one transaction; each is answered by `Stored` or `StoreFailed`,
//! and of a failed transaction nothing is in the file.

use crate::hub::Input;
use anyhow::Context;
use rusqlite::{Connection, params};
use rusqlite_migration::{M, Migrations};
use std::path::Path;
use std::sync::mpsc;
use tandem_model::{
    Event, GroupRecord, MigrationRecord, PortNo, PortOverride, Record, ServerId, Share, StoreId, Stored,
    SwitchId, VmRecord,
};

/// What the controller needs of a store.
pub trait Store: Send {
    /// Everything that is stored.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&mut self) -> anyhow::Result<Stored>;

    /// Writes all or nothing.
    ///
    /// # Errors
    /// When it cannot be written; then nothing is.
    fn commit(&mut self, records: &[Record]) -> anyhow::Result<()>;
}

/// A store in a SQLite file.
pub struct Sqlite {
    db: Connection,
    path: String,
}

const MIGRATIONS: &[M<'static>] = &[
    M::up(
        "CREATE TABLE vm (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
         CREATE TABLE vm_group (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
         CREATE TABLE last_id (kind TEXT PRIMARY KEY, id INTEGER NOT NULL);",
    ),
    // One row: the shares of all classes.
    M::up("CREATE TABLE shares (id INTEGER PRIMARY KEY, record TEXT NOT NULL);"),
    // What the operator wants of ports; the id is made of the switch's and the port's.
    M::up("CREATE TABLE port (id INTEGER PRIMARY KEY, record TEXT NOT NULL);"),
    // Migrations under way, and servers out of service.
    M::up(
        "CREATE TABLE migration (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
         CREATE TABLE drained (id INTEGER PRIMARY KEY, record TEXT NOT NULL);",
    ),
];

impl Sqlite {
    /// Opens `path`, making it if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened, or another controller has it.
    pub fn open(path: &Path) -> anyhow::Result<Sqlite> {
        let name = path.display().to_string();
        let mut db = Connection::open(path).with_context(|| {
            format!("cannot open the store {name}; does its folder exist, and may you write there?")
        })?;
        // Locked for as long as we run: a second controller on the same store would undo what this one does.
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        db.pragma_update(None, "journal_mode", "WAL")
            .and_then(|()| db.pragma_update(None, "synchronous", "FULL"))
            .and_then(|()| db.execute_batch("BEGIN EXCLUSIVE; COMMIT;"))
            .with_context(|| {
                format!("cannot lock the store {name}; is another `tandem serve` running on it?")
            })?;
        Migrations::from_slice(MIGRATIONS)
            .to_latest(&mut db)
            .with_context(|| format!("the store {name} is of a newer version, or no store at all"))?;
        Ok(Sqlite { db, path: name })
    }

    fn rows<T: serde::de::DeserializeOwned>(&self, table: &str) -> anyhow::Result<Vec<T>> {
        let mut query = self.db.prepare(&format!("SELECT id, record FROM {table} ORDER BY id"))?;
        let rows = query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (id, text) = row?;
            serde_json::from_str(&text)
                .with_context(|| format!("{table} {id} in the store {} is damaged", self.path))
        })
        .collect()
    }

    fn last(&self, kind: &str) -> anyhow::Result<u64> {
        let mut query = self.db.prepare("SELECT id FROM last_id WHERE kind = ?1")?;
        let id = query.query_map([kind], |row| row.get::<_, i64>(0))?.next().transpose()?;
        Ok(id.unwrap_or(0).cast_unsigned())
    }
}

impl Store for Sqlite {
    fn load(&mut self) -> anyhow::Result<Stored> {
        Ok(Stored {
            vms: self.rows::<VmRecord>("vm")?,
            groups: self.rows::<GroupRecord>("vm_group")?,
            last_vm: self.last("vm")?,
            last_group: self.last("vm_group")?,
            shares: self.rows::<Vec<Share>>("shares")?.pop().unwrap_or_default(),
            ports: self.rows::<PortOverride>("port")?,
            migrations: self.rows::<MigrationRecord>("migration")?,
            last_migration: self.last("migration")?,
            drained: self.rows::<ServerId>("drained")?,
            identity: None,
        })
    }

    fn commit(&mut self, records: &[Record]) -> anyhow::Result<()> {
        self.write(records).map_err(|error| {
            let full = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code)
                == Some(rusqlite::ErrorCode::DiskFull);
            let what = if full { "; free space on its disk" } else { "" };
            error.context(format!("writing {}{what}", self.path))
        })
    }
}

impl Sqlite {
    fn write(&mut self, records: &[Record]) -> anyhow::Result<()> {
        let transaction = self.db.transaction()?;
        for record in records {
            if let Record::PutMoved { vm, migration } = record {
                put(&transaction, "migration", migration.id.0, &serde_json::to_string(migration)?)?;
                put(&transaction, "vm", vm.id.0, &serde_json::to_string(vm)?)?;
                continue;
            }
            let (table, id, text) = match record {
                Record::PutVm { vm } => ("vm", vm.id.0, Some(serde_json::to_string(vm)?)),
                Record::RemoveVm { vm } => ("vm", vm.0, None),
                Record::PutGroup { group } => ("vm_group", group.id.0, Some(serde_json::to_string(group)?)),
                Record::RemoveGroup { group } => ("vm_group", group.0, None),
                Record::PutPort { port } => {
                    ("port", port_id(port.switch, port.port), Some(serde_json::to_string(port)?))
                }
                Record::RemovePort { switch, port } => ("port", port_id(*switch, *port), None),
                Record::PutShares { shares } => ("shares", 0, Some(serde_json::to_string(shares)?)),
                Record::PutMigration { migration } => {
                    ("migration", migration.id.0, Some(serde_json::to_string(migration)?))
                }
                Record::RemoveMigration { migration } => ("migration", migration.0, None),
                Record::PutDrained { server } => {
                    ("drained", u64::from(server.0), Some(serde_json::to_string(server)?))
                }
                Record::RemoveDrained { server } => ("drained", u64::from(server.0), None),
                // Above.
                Record::PutMoved { .. } => continue,
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

fn port_id(switch: SwitchId, port: PortNo) -> u64 {
    u64::from(switch.0) << 32 | u64::from(port.0)
}

/// Hands writes to the store's thread.
#[derive(Clone)]
pub struct Writer(mpsc::Sender<(StoreId, Record)>);

impl Writer {
    /// Starts the store's thread; answers go to the hub.
    pub fn start(
        mut store: Box<dyn Store>,
        hub: tokio::sync::mpsc::Sender<Input>,
    ) -> std::io::Result<Writer> {
        let (sender, receiver) = mpsc::channel::<(StoreId, Record)>();
        std::thread::Builder::new().name("store".into()).spawn(move || {
            while let Ok(first) = receiver.recv() {
                let mut batch = vec![first];
                batch.extend(receiver.try_iter());
                let (ids, records): (Vec<StoreId>, Vec<Record>) = batch.into_iter().unzip();
                let result = store.commit(&records).map_err(|e| format!("{e:#}"));
                for id in ids {
                    let event = match &result {
                        Ok(()) => Event::Stored { id },
                        Err(why) => Event::StoreFailed { id, why: why.clone() },
                    };
                    if hub.blocking_send(Input::Event(event)).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(Writer(sender))
    }

    /// Queues a write. When the thread is gone (it never ends before the hub) the write is lost and never answered.
    pub fn write(&self, id: StoreId, record: Record) {
        if self.0.send((id, record)).is_err() {
            tracing::error!("the store's thread is gone; {id} is not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::{GroupId, VmId};

    fn group(id: u64, members: u64) -> Record {
        Record::PutGroup { group: GroupRecord { id: GroupId(id), members: (0..members).map(VmId).collect() } }
    }

    #[test]
    fn what_was_committed_is_there_after_a_restart_and_ids_are_never_given_out_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.sqlite");
        {
            let mut store = Sqlite::open(&path).expect("a store");
            store.commit(&[group(1, 2), group(2, 2)]).expect("room");
            store.commit(&[Record::RemoveGroup { group: GroupId(2) }]).expect("room");
        }
        let stored = Sqlite::open(&path).and_then(|mut s| s.load()).expect("a store");
        assert_eq!(stored.groups.iter().map(|g| g.id.0).collect::<Vec<_>>(), [1]);
        assert_eq!(stored.last_group, 2, "the id of a group that is gone is not free again");
    }

    #[test]
    fn what_the_operator_wants_of_ports_is_kept_one_by_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.sqlite");
        let wish = |switch, port, up| PortOverride {
            switch: SwitchId(switch),
            port: PortNo(port),
            up,
            since: tandem_model::Time::from_secs(5),
        };
        let put = |switch, port, up| Record::PutPort { port: wish(switch, port, up) };
        {
            let mut store = Sqlite::open(&path).expect("a store");
            let records = [put(1, 2, false), put(2, 1, false), put(1, 3, false), put(1, 2, true)];
            store.commit(&records).expect("room");
            let gone = Record::RemovePort { switch: SwitchId(1), port: PortNo(3) };
            store.commit(&[gone]).expect("room");
        }
        let stored = Sqlite::open(&path).and_then(|mut s| s.load()).expect("a store");
        assert_eq!(stored.ports, [wish(1, 2, true), wish(2, 1, false)]);
    }

    #[test]
    fn a_second_controller_cannot_have_the_same_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.sqlite");
        let _first = Sqlite::open(&path).expect("a store");
        let error = Sqlite::open(&path).err().expect("the store is taken");
        assert!(format!("{error:#}").contains("another `tandem serve`"), "{error:#}");
    }

    #[test]
    fn of_a_write_that_finds_the_disk_full_nothing_is_left_and_later_ones_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Sqlite::open(&folder.path().join("store.sqlite")).expect("a store");
        store.commit(&[group(1, 2)]).expect("room");
        // SQLite answers as for a full disk when it may not grow its file any more.
        let pages: i64 = store.db.query_row("PRAGMA page_count", [], |r| r.get(0)).expect("a number");
        store
            .db
            .query_row(&format!("PRAGMA max_page_count = {}", pages + 1), [], |r| r.get::<_, i64>(0))
            .expect("a limit");
        let error = store.commit(&[group(2, 2), group(3, 200_000)]).expect_err("there is no room");
        let text = format!("{error:#}");
        assert!(
            text.contains("full") && text.contains("free space") && text.contains("store.sqlite"),
            "{text}"
        );
        let kept: Vec<u64> = store.load().expect("a store").groups.iter().map(|g| g.id.0).collect();
        assert_eq!(kept, [1], "all or nothing");
        store.commit(&[group(4, 2)]).expect("a small one still fits");
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.sqlite");
        std::fs::write(
            &path,
            b"this is a letter, not a database, and it is long enough to be read as a header",
        )
        .expect("room");
        assert!(Sqlite::open(&path).is_err());
        assert!(Sqlite::open(&folder.path().join("nowhere/store.sqlite")).is_err());
    }
}
