//! The records and the owner of a store, and the errors of unusable ones.

use super::*;
use proptest::prelude::*;
use tandem_model::{BitRate, Bytes, GatewayId, GroupId, Mac, Resources, VmId, VmRequest, VmState};

fn site(text: &str) -> Site {
    tandem_model::site::read(text, "site.toml").expect("a site")
}

fn site_named(name: &str) -> Site {
    site(&format!("name = \"{name}\"\n[topology]\nshape = \"three-tier\"\n"))
}

fn open(path: &Path) -> anyhow::Result<Sqlite> {
    Sqlite::open(path, &site_named("here"))
}

#[test]
fn a_store_keeps_its_identity_and_is_refused_to_another_site_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let made = open(&path).expect("a store").identity().clone();
    assert_eq!(made.site, "here");
    assert_eq!(made.fingerprint.len(), 64);
    let again = open(&path).and_then(|mut s| s.load()).expect("a store");
    assert_eq!(again.identity, Some(made.clone()));
    let error = Sqlite::open(&path, &site_named("there")).err().expect("another site's");
    let text = format!("{error:#}");
    for word in ["\"here\"", "\"there\"", "--store", &made.id.to_string()] {
        assert!(text.contains(word), "{text}");
    }
    let other = folder.path().join("other.sqlite");
    assert_ne!(open(&other).expect("a store").identity().id, made.id, "each store has its own");
    assert_eq!(open(&path).expect("it was only looked at").identity(), &made);
}

#[test]
fn a_store_without_identity_becomes_that_of_the_site_that_opens_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    {
        let mut db = Connection::open(&path).expect("a database");
        let before = &MIGRATIONS[..4];
        rusqlite_migration::Migrations::from_slice(before).to_latest(&mut db).expect("an older store");
        db.execute("INSERT INTO vm_group VALUES (3, '{\"id\":3,\"members\":[1,2]}')", []).expect("a row");
    }
    let stored = open(&path).and_then(|mut s| s.load()).expect("a store");
    assert_eq!(stored.groups.len(), 1, "what it has stays");
    assert_eq!(stored.identity.map(|i| i.site), Some("here".to_owned()));
}

fn group(id: u64, members: u64) -> StoreOp {
    StoreOp::PutGroup {
        group: GroupRecord { id: GroupId(id), members: (0..members).map(VmId).collect(), request: None },
    }
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_ids_are_never_given_out_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    {
        let mut store = open(&path).expect("a store");
        store.commit(&[group(1, 2), group(2, 2)]).expect("room");
        store.commit(&[StoreOp::RemoveGroup { group: GroupId(2) }]).expect("room");
    }
    let stored = open(&path).and_then(|mut s| s.load()).expect("a store");
    assert_eq!(stored.groups.iter().map(|g| g.id.0).collect::<Vec<_>>(), [1]);
    assert_eq!(stored.last_group, 2, "the id of a group that is gone is not free again");
}

#[test]
fn a_group_is_written_with_its_vms_and_taken_back_with_them() {
    use proptest::strategy::ValueTree;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut vm = |id| {
        let vm = some_vm().new_tree(&mut runner).expect("a VM").current();
        VmRecord { id: VmId(id), state: VmState::Running, ..vm }
    };
    let mut vms = vec![vm(4), vm(7)];
    let group = GroupRecord { id: GroupId(3), members: vec![VmId(4), VmId(7)], request: None };
    {
        let mut store = open(&path).expect("a store");
        store.commit(&[StoreOp::PutVmGroup { group: group.clone(), vms: vms.clone() }]).expect("room");
        let stored = store.load().expect("whole rows");
        assert_eq!((stored.vms, stored.groups), (vms.clone(), vec![group]));
        for vm in &mut vms {
            vm.state = VmState::Stopping { why: "taken back".into() };
        }
        store.commit(&[StoreOp::TakeBackVmGroup { group: GroupId(3), vms: vms.clone() }]).expect("room");
    }
    let stored = open(&path).and_then(|mut s| s.load()).expect("a store");
    assert_eq!((stored.vms, stored.groups.len()), (vms, 0));
    assert_eq!((stored.last_vm, stored.last_group), (7, 3), "their ids are not free again");
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
    let put = |switch, port, up| StoreOp::PutPort { port: wish(switch, port, up) };
    {
        let mut store = open(&path).expect("a store");
        let records = [put(1, 2, false), put(2, 1, false), put(1, 3, false), put(1, 2, true)];
        store.commit(&records).expect("room");
        let gone = StoreOp::RemovePort { switch: SwitchId(1), port: PortNo(3) };
        store.commit(&[gone]).expect("room");
    }
    let stored = open(&path).and_then(|mut s| s.load()).expect("a store");
    assert_eq!(stored.ports, [wish(1, 2, true), wish(2, 1, false)]);
}

#[test]
fn a_second_controller_cannot_have_the_same_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let _first = open(&path).expect("a store");
    let error = open(&path).err().expect("the store is taken");
    assert!(format!("{error:#}").contains("cannot lock"), "{error:#}");
}

#[test]
fn of_a_write_that_finds_the_disk_full_nothing_is_left_and_later_ones_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(&folder.path().join("store.sqlite")).expect("a store");
    store.commit(&[group(1, 2)]).expect("room");
    // SQLite reports a full disk when it may not grow its file.
    let pages: i64 = store.db.query_row("PRAGMA page_count", [], |r| r.get(0)).expect("a number");
    store
        .db
        .query_row(&format!("PRAGMA max_page_count = {}", pages + 1), [], |r| r.get::<_, i64>(0))
        .expect("a limit");
    let error = store.commit(&[group(2, 2), group(3, 200_000)]).expect_err("there is no room");
    let text = format!("{error:#}");
    assert!(text.contains("full") && text.contains("free space") && text.contains("store.sqlite"), "{text}");
    let kept: Vec<u64> = store.load().expect("a store").groups.iter().map(|g| g.id.0).collect();
    assert_eq!(kept, [1], "all or nothing");
    store.commit(&[group(4, 2)]).expect("a small one still fits");
}

/// The error of opening a store whose file was damaged like this.
fn refused_after(damage: impl Fn(&Path)) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    {
        let mut store = open(&path).expect("a store");
        let groups: Vec<StoreOp> = (1..200).map(|n| group(n, 40)).collect();
        store.commit(&groups).expect("room");
    }
    damage(&path);
    let before = std::fs::read(&path).ok();
    let error = open(&path).map(|_| ()).expect_err("it is refused");
    assert_eq!(std::fs::read(&path).ok(), before, "nothing was changed");
    format!("{error:#}")
}

#[test]
fn damage_is_named_as_damage_with_what_to_do() {
    let empty = refused_after(|p| std::fs::write(p, b"").expect("room"));
    assert!(empty.contains("damaged") && empty.contains("0 bytes") && empty.contains("copy"), "{empty}");
    let letter =
        refused_after(|p| std::fs::write(p, "this is a letter, not a database".repeat(50)).expect("room"));
    assert!(letter.contains("no store") && letter.contains("--store"), "{letter}");
    let short = refused_after(|p| std::fs::write(p, b"SQLite format 3\0").expect("room"));
    assert!(short.contains("damaged"), "{short}");
    let cut = refused_after(|p| {
        let file = std::fs::OpenOptions::new().write(true).open(p).expect("it");
        file.set_len(3 * 4096 + 17).expect("shorter");
    });
    assert!(cut.contains("damaged"), "{cut}");
    // One page is overwritten, page by page: always detected before it is used, unless the page is
    // free.
    for page in 1..6 {
        let text = refused_after(|p| {
            let mut bytes = std::fs::read(p).expect("it");
            bytes[page * 4096..(page + 1) * 4096].fill(0x5a);
            std::fs::write(p, bytes).expect("room");
        });
        assert!(text.contains("damaged"), "page {page}: {text}");
    }
    for text in [empty, letter, short, cut] {
        assert!(!text.contains("tandem serve"), "{text}");
    }
}

#[test]
fn a_folder_in_its_place_a_folder_that_is_not_there_and_a_log_without_its_store_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = |path: &Path| format!("{:#}", open(path).map(|_| ()).expect_err("refused"));
    let text = said(folder.path());
    assert!(text.contains("is a folder"), "{text}");
    let text = said(&folder.path().join("nowhere/store.sqlite"));
    assert!(text.contains("does its folder exist"), "{text}");
    let path = folder.path().join("store.sqlite");
    std::fs::write(folder.path().join("store.sqlite-wal"), b"what was not yet in the file").expect("room");
    let text = said(&path);
    assert!(text.contains("its log") && !path.exists(), "{text}");
}

#[test]
fn a_start_that_is_interrupted_leaves_no_empty_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    // A killed start leaves its temporary file.
    std::fs::write(folder.path().join("store.sqlite.new-1"), b"").expect("room");
    open(&path).expect("a store");
    let len = std::fs::metadata(&path).expect("it").len();
    assert!(len > 0, "it is whole when it has its name");
}

#[test]
fn the_store_and_its_log_are_its_owners_only_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let mode = |p: &Path| std::fs::metadata(p).expect("it").permissions().mode() & 0o777;
    {
        let mut store = open(&path).expect("a store");
        store.commit(&[group(1, 2)]).expect("room");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("store.sqlite-wal")), 0o600);
    }
    // A store created by an older version.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("ours");
    let _store = open(&path).expect("a store");
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn damaged_rows_are_named_by_table_and_number_all_at_once_and_a_forgotten_one_is_kept_in_a_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    {
        let mut store = open(&path).expect("a store");
        store.commit(&[group(1, 0), group(2, 0)]).expect("room");
        let rows =
            "INSERT INTO vm VALUES (7, '{\"id\":'), (8, x'00ff'); UPDATE vm_group SET id = 5 WHERE id = 2;
                    INSERT INTO drained VALUES (99, '99'); INSERT INTO migration VALUES (-1, '[]');";
        store.db.execute_batch(rows).expect("room");
    }
    let error =
        open(&path).and_then(|mut s| s.load_for(&site_named("here")).map(|_| ())).expect_err("refused");
    let text = format!("{error:#}");
    for named in ["vm 7:", "vm 8:", "vm_group 5:", "drained 99:", "migration -1:", "tandem store forget"] {
        assert!(text.contains(named), "{named}: {text}");
    }
    assert!(forget(&path, "vm", 70).is_err() && forget(&path, "sqlite_schema", 1).is_err());
    let copies = [("vm", 7), ("vm", 8), ("group", 5), ("drained", 99), ("migration", -1)];
    let copies = copies.map(|(table, id)| forget(&path, table, id).expect("it goes"));
    let (stored, left) =
        open(&path).and_then(|mut s| s.load_for(&site_named("here"))).expect("what is left fits");
    assert!(left.is_empty() && stored.groups.len() == 1);
    let db = Connection::open(&copies[0]).expect("a copy");
    let rows: i64 = db.query_row("SELECT count(*) FROM vm", [], |r| r.get(0)).expect("a table");
    assert_eq!(rows, 2, "the first copy has everything");
}

#[test]
fn looking_at_a_store_does_not_make_it_anybodys() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    {
        let mut db = Connection::open(&path).expect("a database");
        rusqlite_migration::Migrations::from_slice(&MIGRATIONS[..4])
            .to_latest(&mut db)
            .expect("an older store");
        db.execute("INSERT INTO drained VALUES (9999, '9999')", []).expect("a row");
    }
    assert_eq!(examine(&path, &site_named("there")).expect("it is looked at").len(), 1);
    assert_eq!(site_of(&path).expect("a store"), None);
    assert_eq!(open(&path).expect("a store").identity().site, "here");
    assert!(examine(&path, &site_named("there")).is_err(), "now it is somebody's");
}

/// A VM's row, whether it fits a site or not.
fn some_vm() -> impl Strategy<Value = VmRecord> {
    let request = (any::<u32>(), any::<[u64; 3]>(), proptest::option::of(".{0,20}"), any::<Option<u32>>());
    let place = (any::<u32>(), any::<u32>(), any::<u32>(), any::<[u8; 6]>(), any::<u32>());
    let state = prop_oneof![
        Just(VmState::Placed),
        Just(VmState::Starting),
        Just(VmState::Running),
        ".{0,20}".prop_map(|why| VmState::Stopping { why }),
    ];
    // SQLite's integers are signed: ids are stored by their bits.
    (any::<u64>(), request, place, state, any::<[u64; 2]>(), any::<bool>()).prop_map(
        |(
            id,
            (cpu, bytes, name, timeout),
            (server, uplink, gateway, mac, address),
            state,
            times,
            is_pinned,
        )| VmRecord {
            id: VmId(id),
            request: VmRequest {
                resources: Resources {
                    cpu,
                    ram: Bytes(bytes[0]),
                    disk: Bytes(bytes[1]),
                    net: BitRate(bytes[2]),
                },
                timeout: timeout.map(|t| std::time::Duration::from_secs(t.into())),
                name,
                ..VmRequest::default()
            },
            server: ServerId(server),
            uplink,
            gateway: GatewayId(gateway),
            mac: Mac(mac),
            address: address.into(),
            path_up: Vec::new(),
            path_down: Vec::new(),
            pin: is_pinned.then(|| vec![SwitchId(uplink), SwitchId(server)]),
            state,
            placed_at: Time(times[0]),
            running_at: is_pinned.then_some(Time(times[1])),
            expires_at: None,
        },
    )
}

proptest! {
    // Each case is a file of its own.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_row_is_read_as_it_was_written_and_another_text_is_a_record_or_named_as_damage(
        vm in some_vm(),
        members in proptest::collection::vec(any::<u64>(), 0..4),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<char>()), 1..3),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.sqlite");
        let group = GroupRecord { id: GroupId(vm.id.0), members: members.into_iter().map(VmId).collect(), request: None };
        {
            let mut store = open(&path).expect("a store");
            let records = [StoreOp::PutVm { vm: Box::new(vm.clone()) }, StoreOp::PutGroup { group: group.clone() }];
            store.commit(&records).expect("room");
        }
        {
            let mut store = open(&path).expect("a store");
            let stored = store.load().expect("whole rows");
            prop_assert_eq!((&stored.vms[..], &stored.groups[..]), (&[vm.clone()][..], &[group][..]));
            // Whether it fits the site can be examined too.
            store.examine(&site_named("here")).expect("it can be read");
            let mut text: Vec<char> = serde_json::to_string(&vm).expect("JSON").chars().collect();
            for (at, c) in changes {
                let at = at.index(text.len());
                text[at] = c;
            }
            let text: String = text.into_iter().collect();
            store.db.execute("UPDATE vm SET record = ?1", [&text]).expect("room");
        }
        let store = open(&path).expect("a store");
        let (stored, damaged) = store.read().expect("it can be read");
        prop_assert_eq!(stored.vms.len() + damaged.len(), 1, "no row is passed over in silence");
        store.examine(&site_named("here")).expect("it can be read");
    }
}
