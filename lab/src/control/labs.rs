//! Finding a lab and connecting to it: names are per user, and whoever listens is checked before
//! anything is said ([`tandem_agent_protocol::lab_sockets`]). A lab of one's own is called by its
//! name, another user's `UID/NAME`.

use crate::control::messages::{LabRequest, LabResponse};
use anyhow::{Context, bail};
use nix::unistd::{Uid, User, geteuid, seteuid};
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use tandem_agent_protocol::lab_sockets::{self, ConnectError, LAB, Lab, WORLD};

/// A listening socket's flags in /proc/net/unix (__SO_ACCEPTCON).
const LISTENS: &str = "00010000";

/// A user as people write it: by name, or by number.
///
/// # Errors
/// When there is no such user.
pub fn user(text: &str) -> anyhow::Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let found = User::from_name(text).with_context(|| format!("looking for the user {text:?}"))?;
    Ok(found.with_context(|| format!("there is no user {text:?} on this machine"))?.uid.as_raw())
}

/// A user for people.
fn shown(uid: u32) -> String {
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|u| u.name);
    name.unwrap_or_else(|| format!("user {uid}"))
}

/// Connects to a lab's control socket, or (`world`) to its hypervisor service. Must not be called
/// while other threads depend on the user that this process runs as: root becomes the lab's owner
/// for a moment, as an ordinary user's lab cannot tell root from others.
///
/// # Errors
/// When there is no such lab, or somebody else listens under its name.
pub fn connect(name: &str, is_world: bool) -> anyhow::Result<UnixStream> {
    let lab = Lab::named(name)?;
    let socket = lab.socket(LAB, if is_world { WORLD } else { "" });
    as_owner(lab.owner, || lab_sockets::connect(&socket, Some(lab.owner))).map_err(|error| match error {
        ConnectError::Io(error) => anyhow::anyhow!(
            "there is no lab {name:?} ({error}); `tandem-lab up --name {}` makes one{}",
            lab.name,
            known()
        ),
        refused @ ConnectError::NotAllowed(_) => anyhow::anyhow!("lab {name:?}: {refused}"),
    })
}

/// Does something as a lab's owner, where this process is root and may.
fn as_owner<T>(owner: u32, work: impl FnOnce() -> T) -> T {
    let is_other = geteuid().is_root() && owner != 0;
    let changed = is_other && seteuid(Uid::from_raw(owner)).is_ok();
    let done = work();
    if changed {
        // Root's saved id is still root's: this cannot fail.
        let _ = seteuid(Uid::from_raw(0));
    }
    done
}

/// Takes a lab's name: its control socket, and that of the hypervisor service.
///
/// # Errors
/// When there is a lab of that name, or somebody else has taken it.
pub fn bind(name: &str) -> anyhow::Result<(UnixListener, UnixListener)> {
    let lab = Lab::named(name)?;
    let bind = |suffix: &str| {
        let socket = lab.socket(LAB, suffix);
        let address = SocketAddr::from_abstract_name(&socket)?;
        UnixListener::bind_addr(&address).map_err(|error| {
            if let Err(ConnectError::NotAllowed(why)) = lab_sockets::connect(&socket, None) {
                return anyhow::anyhow!(
                    "the name of lab {name:?} was taken by somebody else: {why}; `ss -xlp | grep {socket}` says by which \
                     process. End it, or choose another name with --name"
                );
            }
            anyhow::Error::from(error).context(format!(
                "there is a lab {name:?} already; `tandem-lab down --name {name}` ends it, `--name` gives another name"
            ))
        })
    };
    Ok((bind("")?, bind(WORLD)?))
}

/// The labs that are up: this user's own, and for root those of all users. One under whose name
/// somebody else listens is none.
pub fn labs() -> Vec<Lab> {
    // Names are bytes of anybody's choice.
    let table = std::fs::read("/proc/net/unix").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let own = geteuid().as_raw();
    let mut found: Vec<Lab> = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let socket = fields.get(7)?.strip_prefix('@').filter(|_| fields.get(3) == Some(&LISTENS))?;
            Lab::of_socket(LAB, socket).filter(|(_, suffix)| suffix.is_empty()).map(|(lab, _)| lab)
        })
        .filter(|lab| own == 0 || lab.owner == own)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.retain(|lab| {
        lab_sockets::connect(&lab.socket(LAB, ""), Some(lab.owner)).is_ok_and(|s| is_of(&s, lab.owner))
    });
    found
}

fn is_of(stream: &UnixStream, owner: u32) -> bool {
    lab_sockets::peer(stream).is_ok_and(|(uid, _)| uid == owner)
}

/// Those that are up, for the end of an error.
fn known() -> String {
    let own = geteuid().as_raw();
    let names: Vec<String> = labs()
        .into_iter()
        .map(|l| {
            if l.owner == own {
                l.name
            } else {
                format!("{} of {} (--user {})", l.name, shown(l.owner), l.owner)
            }
        })
        .collect();
    if names.is_empty() { String::new() } else { format!(". These are up: {}", names.join(", ")) }
}

/// The lab that is meant: the one named, or the only one there is, of this user or of the one that
/// is given.
///
/// # Errors
/// When none is named and there is none, or more than one; when there is no such user.
pub fn pick(name: Option<String>, of: Option<&str>) -> anyhow::Result<String> {
    let own = geteuid().as_raw();
    let owner = of.map(user).transpose()?.unwrap_or(own);
    let called = |name: String| if owner == own { name } else { format!("{owner}/{name}") };
    if let Some(name) = name {
        return Ok(called(name));
    }
    let mut all: Vec<String> = labs().into_iter().filter(|l| l.owner == owner).map(|l| l.name).collect();
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(called(only)),
        (None, _) => bail!("no lab is up; `tandem-lab up --site site.toml` makes one{}", known()),
        (Some(last), _) => {
            all.push(last);
            bail!("several labs are up; say which one with --name: {}", all.join(", "))
        }
    }
}

/// Holds a lab: it goes down when the connection is dropped, also when this process is killed.
///
/// # Errors
/// When there is no such lab, or it does not answer.
pub fn hold(name: &str) -> anyhow::Result<UnixStream> {
    let stream = connect(name, false)?;
    match say(name, &stream, &LabRequest::Hold)? {
        LabResponse::Done => Ok(stream),
        _ => bail!("the lab {name:?} cannot be held"),
    }
}

/// Asks a lab.
///
/// # Errors
/// When there is no such lab, or it does not answer.
pub fn ask(name: &str, ask: &LabRequest) -> anyhow::Result<LabResponse> {
    say(name, &connect(name, false)?, ask)
}

fn say(name: &str, stream: &UnixStream, ask: &LabRequest) -> anyhow::Result<LabResponse> {
    // A lab that turns us away says why and ends; it may have done so before this is written.
    let said = writeln!(&*stream, "{}", serde_json::to_string(ask)?);
    let mut line = String::new();
    let heard = BufReader::new(stream).read_line(&mut line);
    match serde_json::from_str(&line) {
        Ok(LabResponse::Error { why }) => bail!("{why}"),
        Ok(answer) => Ok(answer),
        Err(_) => {
            said.and(heard.map(drop)).with_context(|| format!("speaking to the lab {name:?}"))?;
            bail!("the lab {name:?} ended before it answered")
        }
    }
}
