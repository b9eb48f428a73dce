//! A private Open vSwitch: it has its own database, daemons and folder, in the namespaces of the
//! process that starts it.

use crate::ovsdb::Ovsdb;
use crate::{Error, vswitchd};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the daemons may take to start.
const START: Duration = Duration::from_secs(20);

/// The datapath of the bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel's `openvswitch` module.
    Kernel,
    /// Inside vswitchd.
    Userspace,
}

impl Datapath {
    /// The datapath that this kernel supports.
    pub fn probe() -> Datapath {
        if Path::new("/sys/module/openvswitch").exists() { Datapath::Kernel } else { Datapath::Userspace }
    }

    /// The database's value for it.
    pub fn kind(self) -> &'static str {
        match self {
            Datapath::Kernel => "system",
            Datapath::Userspace => "netdev",
        }
    }
}

/// A running instance; dropping it ends its daemons.
#[derive(Debug)]
pub struct Ovs {
    folder: PathBuf,
    datapath: Datapath,
    /// The daemons, vswitchd first: it is stopped first.
    daemons: Vec<Child>,
}

fn command(program: &'static str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(name, folder);
    }
    command.stdin(Stdio::null());
    command
}

fn missing(program: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { program, package: "openvswitch-switch" },
        _ => Error::Io { what: format!("starting {program}"), cause: error },
    }
}

impl Ovs {
    /// Starts an instance in `folder`, which has to exist.
    ///
    /// When Open vSwitch is not installed or does not come up; no daemon is left running then.
    pub fn start(folder: &Path) -> Result<Ovs, Error> {
        let database = folder.join("conf.db");
        let log = |name: &str| {
            File::create(folder.join(name))
                .map_err(Error::io(format!("making {name} in {}", folder.display())))
        };
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        let made = command("ovsdb-tool", folder)
            .arg("create")
            .arg(&database)
            .arg(schema)
            .stderr(log("ovsdb-tool.log")?)
            .status()
            .map_err(missing("ovsdb-tool"))?;
        if !made.success() {
            let said = std::fs::read_to_string(folder.join("ovsdb-tool.log")).unwrap_or_default();
            return Err(Error::Ovs(format!(
                "ovsdb-tool could not make {}: {}",
                database.display(),
                said.trim()
            )));
        }
        let mut ovs = Ovs { folder: folder.to_owned(), datapath: Datapath::probe(), daemons: Vec::new() };
        let socket = ovs.socket();
        let mut server = command("ovsdb-server", folder);
        server
            .arg(&database)
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!("--unixctl={}", folder.join("db.ctl").display()))
            .stdout(Stdio::null())
            .stderr(log("ovsdb-server.log")?);
        ovs.daemons.push(server.spawn().map_err(missing("ovsdb-server"))?);
        ovs.wait("ovsdb-server", || Ovsdb::connect(&socket).and_then(|mut db| db.init()).is_ok())?;
        ovs.start_switchd()?;
        Ok(ovs)
    }

    fn start_switchd(&mut self) -> Result<(), Error> {
        let (folder, socket) = (self.folder.clone(), self.socket());
        let log = File::create(folder.join("ovs-vswitchd.log"))
            .map_err(Error::io(format!("making ovs-vswitchd.log in {}", folder.display())))?;
        let mut switchd = command("ovs-vswitchd", &folder);
        switchd
            .arg(format!("unix:{}", socket.display()))
            .arg(format!("--unixctl={}", folder.join("vswitchd.ctl").display()))
            .stdout(Stdio::null())
            .stderr(log);
        if self.datapath == Datapath::Userspace {
            switchd.arg("--disable-system");
        }
        self.daemons.insert(0, switchd.spawn().map_err(missing("ovs-vswitchd"))?);
        let control = folder.join("vswitchd.ctl");
        self.wait("ovs-vswitchd", || control.exists())
    }

    /// Ends vswitchd and starts another one in the thread's namespace, as an upgrade does; the
    /// database keeps running.
    ///
    /// # Errors
    /// When it cannot be ended or does not come up.
    pub fn restart_switchd(&mut self) -> Result<(), Error> {
        self.end_switchd()?;
        if self.daemons.len() == 2 {
            let _ = self.daemons.remove(0).wait();
        }
        // A killed process leaves its socket file behind.
        let _ = std::fs::remove_file(self.folder.join("vswitchd.ctl"));
        self.start_switchd()
    }

    /// The database's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("db.sock")
    }

    /// The datapath of its bridges.
    pub fn datapath(&self) -> Datapath {
        self.datapath
    }

    /// The process id of vswitchd.
    pub fn switchd(&self) -> Option<u32> {
        self.daemons.first().filter(|_| self.daemons.len() == 2).map(Child::id)
    }

    /// Ends vswitchd at once, and closes its sockets.
    ///
    /// Its userspace datapath has a packet socket per port, and closing one waits for the kernel's
    /// readers (an RCU grace period, about 16 ms). A process that is killed closes them one after
    /// the other: ten seconds for 640 ports. So they are duplicated here before (pidfd_getfd(2))
    /// and closed by parallel threads, which all wait for the same grace period.
    ///
    /// # Errors When it is gone already, or the kernel (before Linux 5.6) does not support this.
    /// Dropping the instance then ends it slowly.
    pub fn end_switchd(&self) -> Result<(), Error> {
        let [switchd, _] = &self.daemons[..] else { return Ok(()) };
        let taken = vswitchd::sockets(switchd.id())?;
        let killed = i32::try_from(switchd.id()).ok().and_then(Pid::from_raw);
        killed
            .map_or(Ok(()), |pid| kill_process(pid, Signal::KILL))
            .map_err(|e| Error::Io { what: "ending vswitchd".into(), cause: e.into() })?;
        std::thread::scope(|scope| {
            for fd in taken {
                // If no thread can be started, this one closes the socket.
                let _ =
                    std::thread::Builder::new().stack_size(16 << 10).spawn_scoped(scope, move || drop(fd));
            }
        });
        Ok(())
    }

    fn wait(&mut self, name: &str, ready: impl Fn() -> bool) -> Result<(), Error> {
        let start = Instant::now();
        while !ready() {
            let ended = self.daemons.iter_mut().any(|d| matches!(d.try_wait(), Ok(Some(_))));
            if ended || start.elapsed() > START {
                let log =
                    std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(Error::Ovs(format!("{name} does not come up: {}", last.join(" / "))));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        let _ = self.end_switchd();
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
