//! A lab in the hands of another user of the machine: he neither asks it nor takes it down, does
//! not see it, and gains nothing by listening under its name first.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tandem_lab::control::client::Client;

/// An ordinary user, whom the machine need not know.
const OTHER: &str = "10001";
/// What this program, started again as that user, is to do.
const DEED: &str = "TANDEM_TEST_DEED";
const SITE: &str = "name = \"sockets\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 1\nservers_per_edge = 2\n\
    [bandwidth]\nedge = \"100 Mbit/s\"\n[traffic]\nenabled = false\n";

/// By a process of its own: a test beside this one must not inherit a descriptor that makes the
/// copy busy (ETXTBSY, execve(2)).
fn copy(from: &Path, to: &Path) -> Result<()> {
    ensure!(
        Command::new("cp").arg("--").args([from, to]).status()?.success(),
        "{} is not copied",
        from.display()
    );
    Ok(())
}

/// A folder that the other user reaches, with the programs in it.
struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    /// `None` where this machine has no other user to be; in CI that is a failure.
    fn new(what: &str) -> Result<Option<Place>> {
        let is_root = nix::unistd::geteuid().is_root();
        let has_setpriv = Command::new("setpriv").arg("--version").output().is_ok();
        if !is_root || !has_setpriv {
            ensure!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: root and setpriv");
            eprintln!("skipped: missing root or setpriv (package util-linux)");
            return Ok(None);
        }
        let name = format!("sock-{what}-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("tandem-{name}"));
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
        copy(Path::new(env!("CARGO_BIN_EXE_tandem-lab")), &folder.join("tandem-lab"))?;
        copy(&std::env::current_exe()?, &folder.join("again"))?;
        std::fs::write(folder.join("site.toml"), SITE)?;
        Ok(Some(Place { folder, name }))
    }

    /// The program, as root.
    fn own(&self, arguments: &[&str]) -> Result<Output> {
        let program = env!("CARGO_BIN_EXE_tandem-lab");
        Ok(Command::new(program).args(arguments).stdin(Stdio::null()).output()?)
    }

    fn as_other(&self, program: &str) -> Command {
        self.as_other_of(OTHER, program)
    }

    /// As the other user, with a primary group.
    fn as_other_of(&self, group: &str, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", OTHER, "--regid", group, "--clear-groups", "--"]);
        command.arg(self.folder.join(program)).current_dir("/").stdin(Stdio::null());
        command
    }

    /// The program, as the other user: what it says in the end, which has to be a failure.
    fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.as_other("tandem-lab").args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{arguments:?} was carried out for another user: {text}");
        Ok(text)
    }

    /// This program again, as the other user, for one of the deeds below.
    fn deed(&self, deed: &str) -> Result<Child> {
        let mut command = self.as_other("again");
        command.env(DEED, format!("{deed} {}", self.name)).args(["--exact", "the_other_user", "--nocapture"]);
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
    }

    fn up(&self) -> Result<Output> {
        self.up_for(&[])
    }

    /// With further words for `up`.
    fn up_for(&self, more: &[&str]) -> Result<Output> {
        let site = self.folder.join("site.toml").display().to_string();
        let socket = |n: &str| format!("unix:{}", self.folder.join(n).display());
        let controller = socket("openflow.sock");
        let agents = socket("agents.sock");
        let rest = ["--datapath", "soft", "--controller", &controller, "--agents", &agents];
        self.own(&[&["up", "--site", &site, "--name", &self.name][..], &rest, more].concat())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.own(&["down", "--name", &self.name]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Reads lines until one begins with `word`, and gives the rest of it.
fn line(reader: &mut impl BufRead, word: &str) -> Result<String> {
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "it ended without saying {word:?}");
        // The test program's own words may be in front of it.
        if let Some((_, rest)) = line.split_once(word) {
            return Ok(rest.trim().to_owned());
        }
    }
}

/// What the other user does; nothing where it is not told to.
#[test]
fn the_other_user() -> Result<()> {
    let Ok(told) = std::env::var(DEED) else { return Ok(()) };
    let (deed, name) = told.split_once(' ').context("a deed and a lab's name")?;
    match deed {
        "squat" => {
            let address = SocketAddr::from_abstract_name(format!("tandem-lab/{name}"))?;
            let listener = UnixListener::bind_addr(&address)?;
            println!("LISTENS");
            listener.set_nonblocking(true)?;
            // Until root has tried everything.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let mut heard = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                let _ = stream.read_to_end(&mut heard);
            }
            println!("HEARD {}", heard.len());
        }
        "attach" => {
            let why =
                Client::attach(&format!("0/{name}")).err().map_or("attached".into(), |e| format!("{e:#}"));
            println!("WHY {}", why.replace('\n', " "));
        }
        "ask" => {
            // Without a client that is careful: the bytes themselves.
            let address = SocketAddr::from_abstract_name(format!("tandem-lab/{name}"))?;
            let mut stream = UnixStream::connect_addr(&address)?;
            let _ = stream.write_all(b"{\"ask\":\"down\"}\n");
            let mut said = String::new();
            let _ = stream.read_to_string(&mut said);
            println!("SAID {}", said.trim());
        }
        _ => {}
    }
    Ok(())
}

#[test]
fn another_user_neither_asks_a_lab_nor_ends_it_nor_sees_it() -> Result<()> {
    let Some(place) = Place::new("other")? else { return Ok(()) };
    let up = place.up()?;
    if !up.status.success() && stderr(&up).contains("not possible here") && std::env::var_os("CI").is_none() {
        eprintln!("skipped: {}", stderr(&up));
        return Ok(());
    }
    ensure!(up.status.success(), "{}", stderr(&up));
    let name = place.name.as_str();
    let of_root = ["--user", "root", "--name", name];
    for verb in ["down", "status", "flows", "ping-all"] {
        let why = place.refused(&[&[verb][..], &of_root].concat())?;
        ensure!(why.contains("user 10001 may not use this service of user 0"), "{verb}: {why}");
    }
    let why = place.refused(&[&["exec"][..], &of_root, &["srv1", "--", "true"]].concat())?;
    ensure!(why.contains("may not use this service"), "{why}");
    let why = place.refused(&["vm", "move", "--user", "root", "--name", name, "vm1", "--to", "srv2"])?;
    ensure!(why.contains("may not use this service"), "{why}");
    // Not by his own name for it, and no word of it in what he is told.
    let why = place.refused(&["status"])?;
    ensure!(why.contains("no lab is up") && !why.contains(name), "{why}");
    let why = place.refused(&["down", "--name", name])?;
    ensure!(why.contains("there is no lab"), "{why}");
    // Without a client that is careful.
    let mut said = BufReader::new(place.deed("ask")?.stdout.context("output")?);
    let answer = line(&mut said, "SAID ")?;
    ensure!(answer.contains("may not use this service"), "{answer}");
    let mut said = BufReader::new(place.deed("attach")?.stdout.context("output")?);
    let answer = line(&mut said, "WHY ")?;
    ensure!(answer.contains("may not use this service"), "{answer}");
    // It is still there, and its own user's.
    let status = place.own(&["status", "--name", name])?;
    ensure!(status.status.success(), "{}", stderr(&status));
    let text = String::from_utf8_lossy(&status.stdout);
    ensure!(text.contains("filtered by"), "{text}");
    Ok(())
}

#[test]
fn a_member_of_the_labs_group_is_served_and_another_is_not() -> Result<()> {
    let Some(place) = Place::new("group")? else { return Ok(()) };
    let text = std::fs::read_to_string("/etc/group")?;
    let group = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let number = fields.get(2)?.parse().ok().filter(|n| (1..10_000).contains(n))?;
        Some((fields[0].to_owned(), number))
    });
    let (name, number): (String, u32) = group.context("a group beside root's")?;
    let up = place.up_for(&["--group", &name])?;
    if !up.status.success() && stderr(&up).contains("not possible here") && std::env::var_os("CI").is_none() {
        eprintln!("skipped: {}", stderr(&up));
        return Ok(());
    }
    ensure!(up.status.success(), "{}", stderr(&up));
    let status = ["status", "--user", "root", "--name", &place.name];
    let member = place.as_other_of(&number.to_string(), "tandem-lab").args(status).output()?;
    ensure!(member.status.success(), "{}", stderr(&member));
    let why = place.refused(&status)?;
    ensure!(
        why.contains("may not use this service") && why.contains(&format!("join the group {name}")),
        "{why}"
    );
    Ok(())
}

#[test]
fn whoever_listens_under_a_labs_name_first_is_found_out_and_hears_nothing() -> Result<()> {
    let Some(place) = Place::new("squat")? else { return Ok(()) };
    let mut squatter = place.deed("squat")?;
    let mut said = BufReader::new(squatter.stdout.take().context("output")?);
    line(&mut said, "LISTENS")?;
    let name = place.name.as_str();
    for verb in ["status", "down", "flows"] {
        let output = place.own(&[verb, "--name", name])?;
        let why = stderr(&output);
        ensure!(!output.status.success() && why.contains("nothing was sent to it"), "{verb}: {why}");
    }
    let up = place.up()?;
    let why = stderr(&up);
    ensure!(!up.status.success() && why.contains("was taken by somebody else"), "{why}");
    ensure!(why.contains("user 10001"), "{why}");
    // It is no lab of root's that would be listed.
    let status = place.own(&["status"])?;
    ensure!(!stderr(&status).contains(name), "{}", stderr(&status));
    drop(squatter.stdin.take());
    ensure!(line(&mut said, "HEARD ")? == "0", "something was sent to whoever listened");
    squatter.wait()?;
    Ok(())
}
