//! A sandbox: network, mount and process namespaces that live as long as their first process.
//! However that one ends, the kernel ends all others and removes all interfaces and mounts.
//!
//! Two steps, since a process cannot move itself into a new process namespace: [`outer`] starts a
//! copy of the program in new namespaces; that copy calls [`inner`], whose child is the first
//! process; then the copy ends.

use crate::{Error, sys};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{getegid, geteuid};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};

/// Where the first process has a private file system in memory. Every Linux has this folder (FHS
/// 3.0 section 3.12).
pub const PRIVATE: &str = "/mnt";

/// Makes `command` start in new network, mount and process namespaces; its own children are inside.
/// For an ordinary user these belong to a new user namespace, in which that user is root.
pub fn outer(command: &mut Command) {
    let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if geteuid().is_root() {
        return sys::in_namespaces(command, flags, Vec::new());
    }
    // A process without privileges may map only itself, and its group only after setgroups is
    // denied (user_namespaces(7)).
    let maps = vec![
        (c"/proc/self/setgroups", "deny".to_owned()),
        (c"/proc/self/uid_map", format!("0 {} 1", geteuid())),
        (c"/proc/self/gid_map", format!("0 {} 1", getegid())),
    ];
    sys::in_namespaces(command, flags | CloneFlags::CLONE_NEWUSER, maps);
}

/// Starts the first process, from within a process started by [`outer`]; it outlives its parent.
///
/// # Errors
/// When it cannot be started.
pub fn inner(command: &mut Command) -> Result<Child, Error> {
    command.spawn().map_err(Error::io("starting the sandbox's first process"))
}

/// Prepares the first process: mounts /proc and a private file system at [`PRIVATE`], invisible
/// from outside.
///
/// # Errors
/// When the kernel refuses a mount.
pub fn settle() -> Result<(), Error> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::nix("making mounts private"))?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
        .map_err(Error::nix("mounting /proc"))?;
    mount(Some("tmpfs"), PRIVATE, Some("tmpfs"), MsFlags::empty(), Some("mode=0700"))
        .map_err(Error::nix(format!("mounting a private file system at {PRIVATE}")))
}

/// Moves the calling process into the sandbox of the process `pid`, and into the network namespace
/// of its descriptor `netns`; processes that it starts afterwards are inside. The caller must have
/// one thread only.
///
/// # Errors
/// When the sandbox is gone, or the caller may not enter it.
pub fn enter(pid: u32, netns: i32) -> Result<(), Error> {
    let open =
        |path: String| File::open(&path).map_err(Error::io(format!("opening {path}; is the lab still up?")));
    let net = open(format!("/proc/{pid}/fd/{netns}"))?;
    let mounts = open(format!("/proc/{pid}/ns/mnt"))?;
    let processes = open(format!("/proc/{pid}/ns/pid"))?;
    let user = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    if user("self") != user(&pid.to_string()) {
        let users = open(format!("/proc/{pid}/ns/user"))?;
        setns(users, CloneFlags::CLONE_NEWUSER).map_err(Error::nix("entering the lab's user namespace"))?;
    }
    setns(net, CloneFlags::CLONE_NEWNET).map_err(Error::nix("entering the node's network namespace"))?;
    setns(processes, CloneFlags::CLONE_NEWPID).map_err(Error::nix("entering the lab's process namespace"))?;
    setns(mounts, CloneFlags::CLONE_NEWNS).map_err(Error::nix("entering the lab's mount namespace"))?;
    let _ = std::env::set_current_dir(Path::new("/"));
    Ok(())
}
