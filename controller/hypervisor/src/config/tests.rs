//! Valid hypervisors files, and the faults of invalid ones.

use super::*;
use crate::lab::section::{LabConfig, LabSection};
use crate::xapi::section::{Pool, XapiSection};
use crate::xl::section::{Host, Transport, XlSection};
use tandem_model::PortNo;
use tandem_model::site;

const EXAMPLE: &str = include_str!("../../../../docs/hypervisors/hypervisors.toml");

fn site() -> Site {
    let text = "name = \"small\"\n[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 4\n";
    site::read(text, "site.toml").expect("a good site")
}

fn read(text: &str) -> Result<Hypervisors, Faults> {
    Hypervisors::read(text, "hypervisors.toml", Path::new("/etc/tandem"), &site())
}

fn hosts(file: &Hypervisors) -> &[Host] {
    &file.section::<XlSection>().expect("the driver's").hosts
}

fn pools(file: &Hypervisors) -> &[Pool] {
    &file.section::<XapiSection>().expect("the driver's").pools
}

/// Line and key of each fault.
fn faults(text: &str) -> Vec<(usize, String)> {
    read(text).err().into_iter().flat_map(|f| f.faults).map(|f| (f.line, f.key)).collect()
}

#[test]
fn the_example_is_read_and_its_defaults_are_those_it_says() {
    let full = read(EXAMPLE).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(full.missing(&site()), ["srv4"]);
    let host = &hosts(&full)[0];
    assert_eq!((host.name.as_str(), host.server, host.migration_port), ("srv1", ServerId(0), 8900));
    assert_eq!(host.ssh.key.as_deref(), Some(Path::new("/etc/tandem/id_ed25519")));
    assert_eq!(host.uplinks, [(PortNo(1), "xenbr0".to_owned())]);
    assert_eq!(hosts(&full)[1].ssh.options.len(), 3);
    assert_eq!(hosts(&full)[1].transport, Transport::Ssh);
    assert_eq!(pools(&full)[0].fingerprints[0].len(), 64);
    let said = [
        "host_keys = \"strict\"",
        "options = []",
        "connect =",
        "command =",
        "start =",
        "shutdown =",
        "default = true",
        "folder = \"/var/lib/tandem/disks\"",
        "device =",
        "clone =",
        "migration = \"tcp\"",
        "migration_address",
        "migration_port",
        "run =",
        "keep =",
        "migration_options",
        "user = \"root\"",
    ];
    let short: String = EXAMPLE
        .lines()
        .filter(|l| !said.iter().any(|s| l.starts_with(s)))
        .map(|l| format!("{l}\n"))
        .collect();
    let mut short = read(&short).unwrap_or_else(|f| panic!("{f}"));
    // A clone's default folder is its source's.
    let disk = short.images[1].disk.as_mut().expect("a disk");
    assert_eq!(disk.folder, "/var/lib/tandem");
    disk.folder = "/var/lib/tandem/disks".to_owned();
    assert_eq!(full.images, short.images);
    assert_eq!(hosts(&full), hosts(&short));
    assert_eq!(pools(&full), pools(&short));
}

#[test]
fn all_faults_are_told_at_once_each_at_its_line() {
    let text = r#"[times]
command = "1 ms"
[[image]]
name = "a b"
cmdline = "x"
[[image]]
name = "i"
kernel = "vmlinuz"
cmdline = "{colour}"
config = "vif = []"
[[host]]
server = "srv9"
ssh = "root@-oProxyCommand=x"
bridges = ["a/b"]
options = ["ProxyCommand"]
[[host]]
server = "srv1"
ssh = "root@h:0"
colour = "red"
[[host]]
server = "srv1"
ssh = "h"
bridges = ["br0"]
migration = "pigeon"
[[pool]]
name = "p"
url = "https://h"
"#;
    let found = faults(text);
    for expected in [
        (2, "times.command"),
        (4, "image.name"),
        (5, "image.cmdline"),
        (8, "image.kernel"),
        (9, "image.cmdline"),
        (10, "image.config"),
        (12, "host.server"),
        (13, "host.ssh"),
        (14, "host.bridges"),
        (15, "host.options"),
        (16, "host.bridges"),
        (18, "host.ssh"),
        (19, "host.colour"),
        (21, "host.server"),
        (24, "host.migration"),
        (25, "pool.password_file"),
        (25, "pool.fingerprints"),
        (25, "pool.server"),
    ] {
        assert!(found.contains(&(expected.0, expected.1.to_owned())), "{expected:?} is not in {found:?}");
    }
    let text = read(text).expect_err("faults").to_string();
    assert!(text.contains("it has srv1, srv2, srv3, srv4"), "{text}");
    assert_eq!(faults("[ssh]\n"), [(1, "host".to_owned()), (1, "image".to_owned())]);
}

/// Without the key `servers`, a lab has those that belong to no other driver; it needs no image.
#[test]
fn a_lab_has_its_servers_or_all_that_are_left() {
    let labs = |text: &str| {
        let file = read(text).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(
            file.drivers("small").expect("nothing is opened").len(),
            file.sections.iter().map(|s| s.parts().min(1)).sum::<usize>()
        );
        file.section::<LabSection>().expect("the driver's").labs.clone()
    };
    let all: Vec<ServerId> = (0..4).map(ServerId).collect();
    let own = LabConfig::of_site(&site(), None);
    assert_eq!(labs("[[lab]]\n"), std::slice::from_ref(&own));
    assert_eq!(own.servers, all);
    let one = "[[image]]\nname = \"i\"\nkernel = \"/k\"\n[[host]]\nserver = \"srv2\"\nssh = \"h\"\nbridges = [\"b\"]\n";
    let rest = labs(&format!("{one}[[lab]]\nservice = \"lab.sock\"\n"));
    assert_eq!(rest[0].service, Path::new("/etc/tandem/lab.sock"));
    assert_eq!(rest[0].servers, [ServerId(0), ServerId(2), ServerId(3)]);
    let named = labs(&format!("{one}[[lab]]\nservice = \"@x\"\nservers = [\"srv4\"]\n"));
    assert_eq!((named[0].service.as_path(), &*named[0].servers), (Path::new("@x"), &[ServerId(3)][..]));
    let twice = format!("{one}[[lab]]\nservers = [\"srv2\", \"srv9\"]\n");
    assert_eq!(faults(&twice), [(9, "lab.servers".to_owned()), (9, "lab.servers".to_owned())]);
    assert_eq!(faults("[[lab]]\n[[lab]]\n"), [(2, "lab.servers".to_owned())]);
}

#[test]
fn a_password_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hypervisors.toml");
    std::fs::write(&file, EXAMPLE).expect("written");
    let missing = Hypervisors::load(&file, &site()).expect_err("no password").to_string();
    assert!(missing.contains("pool1.password"), "{missing}");
    let password = folder.path().join("pool1.password");
    std::fs::write(&password, "secret\n").expect("written");
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o640)).expect("changed");
    let open = Hypervisors::load(&file, &site()).expect_err("open").to_string();
    assert!(open.contains("mode 0640") && open.contains("chmod 600"), "{open}");
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).expect("changed");
    let all = Hypervisors::load(&file, &site()).expect("good");
    assert_eq!(pools(&all)[0].password().expect("read"), "secret");
}

#[test]
fn places_for_ssh_are_read_in_all_their_forms() {
    let with = |ssh: &str| {
        let text = format!(
            "[[image]]\nname = \"i\"\nkernel = \"/k\"\n[[host]]\nserver = \"srv1\"\nbridges = [\"b\"]\nssh = \"{ssh}\"\n"
        );
        read(&text).ok().map(|h| hosts(&h)[0].ssh.clone()).map(|ssh| (ssh.user, ssh.address, ssh.port))
    };
    let place = |u: &str, a: &str, p| Some((u.to_owned(), a.to_owned(), p));
    assert_eq!(with("h"), place("root", "h", 22));
    assert_eq!(with("lab@h.example:2222"), place("lab", "h.example", 2222));
    assert_eq!(with("lab@[fe80::1]:2222"), place("lab", "fe80::1", 2222));
    assert_eq!(with("lab@2001:db8::1"), place("lab", "2001:db8::1", 22));
    for bad in ["", "@h", "a@", "a@h:", "a@h:x", "a@-h", "a b@h", "a@[::1", "a@[::1]x"] {
        assert_eq!(with(bad), None, "{bad}");
    }
}

#[test]
fn no_text_makes_it_panic() {
    for cut in 0..EXAMPLE.len() {
        if let Some(text) = EXAMPLE.get(..cut) {
            let _ = read(text);
        }
    }
}

use proptest::prelude::*;
use tandem_tests::damage::damage;

/// The example with some damaged values.
fn damaged() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        "-?[0-9]{1,21}",
        "\"-?[0-9]{1,20}(\\.[0-9]{1,3})? ?(ms|s|min|h|d|MiB|GiB)\"",
        "\"[a-zA-Z0-9:/@.{}'-]{0,30}\"",
        "\"(https?://)?[a-z0-9.:\\[\\]@/%-]{0,30}\"",
        Just("\"\"".to_owned()),
        Just("[]".to_owned()),
        Just("[\"a=b\", \"'\"]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("1e999".to_owned()),
        Just("true".to_owned()),
        ".{0,20}",
    ];
    let change = (0..EXAMPLE.lines().count(), prop::option::of(value));
    prop::collection::vec(change, 1..4).prop_map(|changes| damage(EXAMPLE, changes))
}

proptest! {
    /// A damaged file either is valid, so that drivers can be created, or has faults with their
    /// place.
    #[test]
    fn any_text_is_a_file_of_hypervisors_or_has_faults(text in prop_oneof![6 => damaged(), 1 => ".{0,200}"]) {
        let folder = tempfile::tempdir().expect("a folder");
        let read = Hypervisors::read(&text, "hypervisors.toml", folder.path(), &site());
        match read {
            Ok(file) => {
                let _ = file.missing(&site());
                // Passwords are missing or readable by other users, which is an error with a
                // message.
                if let Err(why) = file.drivers("small") {
                    prop_assert!(!why.to_string().is_empty());
                }
            }
            Err(faults) => {
                let lines = text.split('\n').count();
                prop_assert!(!faults.faults.is_empty());
                prop_assert!(faults.faults.iter().all(|f| (1..=lines).contains(&f.line)));
                prop_assert!(!faults.to_string().is_empty());
            }
        }
    }
}
