//! Bundles: what is packed is read back, a run in virtual time comes out the same to the byte, and
//! what is no sound bundle is refused before it does anything.

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use tandem_lab::bundle::{BundleError, FILES, List, Listed, pack, sha256, unpack};
use tandem_lab::temp_dir::TempDir;
use tar::{Builder, EntryType, Header};

/// A folder of its own: tests run side by side.
fn folder() -> TempDir {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    TempDir::new(&format!("bundle-test-{number}")).expect("a folder")
}

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem-lab")).args(arguments).output().expect("tandem-lab starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
}

/// An archive of entries, each a kind, a path and contents; the path is written as it is.
fn archive(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (kind, path, contents) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(contents.len() as u64);
        header.set_cksum();
        tar.append(&header, *contents).expect("in memory");
    }
    tar.into_inner().expect("in memory").finish().expect("in memory")
}

fn list(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files = files
        .iter()
        .map(|(path, c)| Listed { path: (*path).to_owned(), bytes: c.len() as u64, sha256: sha256(c) })
        .collect();
    serde_json::to_vec(&List { format: 1, version: "x".into(), files }).expect("JSON")
}

fn read(bytes: &[u8]) -> Result<List, BundleError> {
    let temp = folder();
    let result = unpack::read(bytes, Path::new("x.tar.gz"), temp.path());
    let outside = temp.path().parent().expect("a folder").join("outside");
    assert!(!outside.exists(), "nothing is written outside");
    result
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn what_is_packed_is_read_back_and_the_same_run_gives_the_same_bytes() {
    let temp = folder();
    let run = temp.path().join("run");
    std::fs::create_dir_all(run.join("csv")).expect("a folder");
    assert!(matches!(pack::pack(&run, &temp.path().join("x")), Err(BundleError::NoRun(_))));
    std::fs::write(run.join("manifest.json"), "{}").expect("a file");
    std::fs::write(run.join("csv/series.csv"), "second,ratio\n0,1\n").expect("a file");
    std::os::unix::fs::symlink("/etc/passwd", run.join("csv/link")).expect("a link");
    let [first, second] = ["a.tar.gz", "b.tar.gz"].map(|name| temp.path().join(name));
    assert_eq!(pack::pack(&run, &first).expect("packed"), 2, "a link is no file of the run");
    pack::pack(&run, &second).expect("packed");
    assert_eq!(std::fs::read(&first).expect("a file"), std::fs::read(&second).expect("a file"));
    let into = temp.path().join("into");
    std::fs::create_dir(&into).expect("a folder");
    let list = unpack::unpack(&first, &into).expect("a sound bundle");
    let paths: Vec<&str> = list.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["csv/series.csv", "manifest.json"]);
    assert_eq!(std::fs::read_to_string(into.join("csv/series.csv")).expect("a file"), "second,ratio\n0,1\n");
}

#[test]
fn a_path_that_leads_elsewhere_a_link_and_a_long_name_are_refused() {
    for path in ["../outside", "/tmp/outside", "a/../../outside", "csv//x"] {
        let bytes = archive(&[(FILE, "bundle.json", &list(&[(path, b"x")])), (FILE, path, b"x")]);
        assert!(matches!(read(&bytes), Err(BundleError::Path { .. })), "{path}: {:?}", read(&bytes));
        // Also where the list says something else.
        let bytes = archive(&[(FILE, "bundle.json", &list(&[("a", b"x")])), (FILE, path, b"x")]);
        assert!(matches!(read(&bytes), Err(BundleError::Path { .. })), "{path}");
    }
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::GNULongName,
        EntryType::XHeader,
        EntryType::GNUSparse,
    ] {
        let bytes = archive(&[(FILE, "bundle.json", &list(&[("a", b"x")])), (kind, "a", b"x")]);
        assert!(matches!(read(&bytes), Err(BundleError::Path { .. })), "{kind:?}: {:?}", read(&bytes));
    }
}

#[test]
fn what_differs_from_the_list_is_named() {
    let said =
        |entries: &[(EntryType, &str, &[u8])]| read(&archive(entries)).expect_err("refused").to_string();
    let files = list(&[("a", b"one"), ("b", b"two")]);
    let begin = (FILE, "bundle.json", &files[..]);
    assert!(read(&archive(&[begin, (FILE, "a", b"one"), (FILE, "b", b"two")])).is_ok());
    assert!(
        said(&[begin, (FILE, "a", b"eno")]).contains("a is not as bundle.json says: its checksum differs")
    );
    assert!(said(&[begin, (FILE, "a", b"ones")]).contains("its size differs"));
    assert!(said(&[begin, (FILE, "a", b"one")]).contains("b is not as bundle.json says: it is not there"));
    assert!(said(&[begin, (FILE, "a", b"one"), (FILE, "a", b"one")]).contains("twice"));
    assert!(said(&[begin, (FILE, "c", b"one")]).contains("not in the list"));
    assert!(said(&[(FILE, "a", b"one"), begin]).contains("does not begin with bundle.json"));
    let newer = serde_json::json!({"format": 2, "version": "9", "files": []}).to_string();
    assert!(said(&[(FILE, "bundle.json", newer.as_bytes())]).contains("format 2"));
    assert!(said(&[(FILE, "bundle.json", b"{")]).contains("does not begin with"));
}

#[test]
fn a_bomb_is_refused_by_what_it_says_before_it_is_read() {
    let large = |bytes: u64, count: usize| {
        let file = |n: usize| Listed { path: format!("{n:06}"), bytes, sha256: String::new() };
        let files = (0..count).map(file).collect();
        let list = serde_json::to_vec(&List { format: 1, version: "x".into(), files }).expect("JSON");
        read(&archive(&[(FILE, "bundle.json", &list)]))
    };
    for (bytes, count) in [(u64::MAX, 1), (2 << 30, 1), (1 << 30, 5), (0, FILES + 1)] {
        assert!(matches!(large(bytes, count), Err(BundleError::TooLarge { .. })), "{count} of {bytes} bytes");
    }
    // A list that says how large it is, and a gigabyte of zeros that says it is the list.
    let mut header = Header::new_ustar();
    header.set_entry_type(FILE);
    header.set_path("bundle.json").expect("a path");
    header.set_size(1 << 40);
    header.set_cksum();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(header.as_bytes()).expect("in memory");
    gz.write_all(&vec![0; 1 << 20]).expect("in memory");
    let bytes = gz.finish().expect("in memory");
    assert!(matches!(read(&bytes), Err(BundleError::TooLarge { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_bundle_that_is_cut_or_damaged_is_an_error_and_never_more(
        cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let whole = archive(&[
            (FILE, "bundle.json", &list(&[("a", b"one"), ("b", &[7; 3000])])),
            (FILE, "a", b"one"),
            (FILE, "b", &[7; 3000]),
        ]);
        let cut = cut.index(whole.len());
        // The last bytes are gzip's own checksum, behind the archive's end.
        if cut + 8 < whole.len() {
            prop_assert!(read(&whole[..cut]).is_err() || cut > whole.len() - 64);
        }
        let mut damaged = whole.clone();
        let at = at.index(damaged.len());
        damaged[at] ^= flip;
        if let Ok(list) = read(&damaged) {
            // Bytes of gzip's header and trailer that mean nothing to the archive.
            prop_assert_eq!(list.files.len(), 2);
        }
    }
}

#[test]
fn a_simulated_run_comes_out_of_its_bundle_the_same_to_the_byte() {
    let temp = folder();
    let [run, again, bundle] = ["run", "again", "run.tar.gz"].map(|n| temp.path().join(n));
    let options = ["experiment", "fill", "--policy", "worst-fit,weighted", "--record", "--out", text(&run)];
    let output = lab(&options);
    assert!(output.status.success(), "{output:?}");
    assert!(lab(&["bundle", text(&run)]).status.success());
    let output = lab(&["rerun", text(&bundle), "--out", text(&again)]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("verdict: the same to the byte"), "{output:?}");
    for file in [
        "csv/series.csv",
        "figures/figure.pdf",
        "recordings/weighted.jsonl",
        "statistics/weighted/hoststats.csv",
    ] {
        assert!(again.join(file).is_file(), "{file}");
    }
    // A changed number is found, and named with its column.
    let series = run.join("csv/series.csv");
    let changed = std::fs::read_to_string(&series).expect("a file").replacen("33.33", "44.33", 1);
    std::fs::write(&series, changed).expect("a file");
    assert!(lab(&["bundle", text(&run)]).status.success());
    let output = lab(&["rerun", text(&bundle), "--out", text(&again)]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("verdict: DIFFERS"), "{output:?}");
    assert!(said.contains("csv/series.csv, worst-fit: differs by 11.0000"), "{said}");
}

#[test]
fn a_site_of_ones_own_is_in_the_bundle() {
    let temp = folder();
    let path = |name: &str| -> PathBuf { temp.path().join(name) };
    let site = "name = \"own\"\n[topology]\nshape = \"linear\"\nswitches = 2\n[policy]\nallocation = \"first-fit\"\n";
    std::fs::write(path("site.toml"), site).expect("a file");
    let (own, run, again, bundle) = (path("site.toml"), path("run"), path("again"), path("run.tar.gz"));
    assert!(lab(&["experiment", "fill", "--site", text(&own), "--out", text(&run)]).status.success());
    std::fs::remove_file(own).expect("our file");
    assert!(lab(&["bundle", text(&run)]).status.success());
    let output = lab(&["rerun", text(&bundle), "--out", text(&again)]);
    assert!(output.status.success(), "{output:?}");
    assert!(again.join("statistics/first-fit").is_dir(), "the site's own policy");
}
