//! One host: its QEMU process, and ssh into its domain 0.

use super::{BOOT, output};
use crate::world::xen::files::{CONTROL, HOST};
use crate::world::xen::network::{Part, mac};
use anyhow::{Context, bail};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A CPU on which both Xen 4.17 and its guests compute right under emulation. TRAP: `max`, with the
/// mitigations off, corrupts registers of domain 0's programs as soon as a guest runs.
const CPU: &str = "qemu64,+svm,+npt,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,-rdtscp";
/// MiB that domain 0 has; the rest is for guests.
const DOMAIN0: u32 = 512;

/// ssh into a host, by the files in its lab's folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Access {
    /// `xen1`.
    pub name: String,
    /// sshd's port on this computer's loopback.
    pub port: u16,
    /// The lab's folder.
    pub folder: PathBuf,
}

impl Access {
    /// A command for its shell, not started yet. Calls share a connection.
    pub fn ssh(&self, command: &str) -> Command {
        let mut ssh = self.login();
        ssh.arg(command).stdin(Stdio::null());
        ssh
    }

    /// ssh without a command: a terminal of a person.
    pub fn login(&self) -> Command {
        let mut ssh = Command::new("ssh");
        // Names are relative to the folder: a socket's whole path must fit in 107 bytes (unix(7)).
        ssh.current_dir(&self.folder)
            .args(["-F", "none", "-i", "key", "-p", &self.port.to_string()])
            .args(["-o", "UserKnownHostsFile=known_hosts", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60"])
            .args(["-o", "ControlMaster=auto", "-o", "ControlPersist=120"])
            .arg("-o")
            .arg(format!("ControlPath={}.ssh", self.name))
            .args(["-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=10", "-o", "LogLevel=ERROR"])
            .arg("root@127.0.0.1");
        ssh
    }

    /// Runs a command and gives what it writes.
    ///
    /// # Errors
    /// With what it says.
    pub fn run(&self, command: &str) -> anyhow::Result<String> {
        output(&mut self.ssh(command), &format!("on {}: {command}", self.name))
    }
}

/// A host that runs, or did; killed when dropped, and by the kernel when this process ends any
/// other way.
#[derive(Debug)]
pub struct Host {
    /// How it is reached.
    pub access: Access,
    part: Part,
    index: usize,
    memory: u32,
    image: PathBuf,
    child: Option<Child>,
    began: Instant,
    boots: u32,
}

/// A loopback port that is free now. QEMU binds it a moment later; whoever took it in between makes
/// QEMU say so.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Host {
    /// Not started yet. `memory` is in MiB, domain 0's included.
    pub fn new(folder: &Path, image: &Path, index: usize, part: Part, port: u16, memory: u32) -> Host {
        let access = Access { name: part.host.clone(), port, folder: folder.to_owned() };
        let image = image.to_owned();
        Host { access, part, index, memory, image, child: None, began: Instant::now(), boots: 0 }
    }

    /// Starts it; it boots on its own, with the disk that it had before if it was started before.
    /// Call it from the program's first thread: the kernel ends QEMU when the thread that started
    /// it ends.
    ///
    /// # Errors
    /// When it runs already, or its disk or process cannot be made.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.check().is_ok() {
            bail!("{} runs already", self.access.name);
        }
        let name = &self.access.name;
        let folder = &self.access.folder;
        let disk = format!("{name}.qcow2");
        if !folder.join(&disk).exists() {
            output(
                Command::new("qemu-img")
                    .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                    .arg(self.image.join("disk.ext4"))
                    .arg(&disk)
                    .current_dir(folder),
                "making a host's disk (tests/vm/install installs qemu-utils)",
            )?;
        }
        let console = folder.join(format!("{name}.console"));
        if self.boots > 0 {
            std::fs::rename(&console, folder.join(format!("{name}.console.{}", self.boots)))?;
        }
        self.boots += 1;
        let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
        let child = Command::new("nice")
            .args(["-n", "5", "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(self.arguments())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting QEMU by nice and setpriv (packages coreutils, util-linux)")?;
        std::fs::write(folder.join(format!("{name}.pid")), format!("{}\n", child.id()))?;
        self.child = Some(child);
        self.began = Instant::now();
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let name = &self.access.name;
        let image = |file: &str| self.image.join(file).display().to_string();
        // Without mitigations: nothing secret is in there, and they are what costs most under
        // emulation.
        let xen = format!(
            "console=com1 com1=115200,8n1 dom0_mem={DOMAIN0}M,max:{DOMAIN0}M dom0_max_vcpus=1 noreboot spec-ctrl=no \
             spec-ctrl=eager-fpu xpti=no pcid=no edd=off"
        );
        // Multiboot modules are separated by a comma: the kernel of domain 0 with its command line,
        // its initial file system.
        let modules = format!(
            "{} console=hvc0 quiet root=/dev/vda mitigations=off net.ifnames=0,{name}.initrd",
            image("vmlinux")
        );
        let mut all: Vec<String> = [
            "-accel",
            "tcg,thread=multi,tb-size=256",
            "-machine",
            "pc",
            "-cpu",
            CPU,
            "-smp",
            "1",
            "-m",
            &self.memory.to_string(),
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-kernel",
            &image("xen"),
            "-append",
            &xen,
            "-initrd",
            &modules,
            "-drive",
            &format!("file={name}.qcow2,if=virtio,format=qcow2,cache=unsafe"),
            "-serial",
            &format!("file:{name}.console"),
            "-netdev",
            &format!(
                "user,id=control,net={CONTROL}.0/24,hostfwd=tcp:127.0.0.1:{}-{HOST}:22",
                self.access.port
            ),
            "-device",
            &format!("virtio-net-pci,netdev=control,mac={},romfile=", mac(self.index, 0)),
        ]
        .map(str::to_owned)
        .to_vec();
        for (n, (_, cable)) in self.part.cards.iter().enumerate() {
            let [here, there] = cable.sockets();
            all.extend([
                "-netdev".into(),
                format!(
                    "dgram,id=data{n},local.type=unix,local.path={here},remote.type=unix,remote.path={there}"
                ),
                "-device".into(),
                format!(
                    "virtio-net-pci,netdev=data{n},mac={},romfile=,speed=1000,duplex=full",
                    mac(self.index, n + 1)
                ),
            ]);
        }
        all
    }

    /// Its QEMU's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it is to the site: switches, servers, gateways.
    pub fn nodes(&self) -> Vec<String> {
        let switches = self.part.switches.iter().map(|s| s.0.clone());
        switches
            .chain(self.part.servers.iter().map(|s| s.0.clone()))
            .chain(self.part.gateways.clone())
            .collect()
    }

    /// Looks whether it has booted, with all its services.
    ///
    /// # Errors
    /// When QEMU has ended, or a service failed, or the time is over.
    pub fn ready(&mut self) -> anyhow::Result<bool> {
        self.check()?;
        let name = &self.access.name;
        let console = self.console();
        if let Some(failed) = console.lines().find(|l| l.contains("LAB FAILED") || l.contains("Panic on CPU"))
        {
            bail!("{name} did not come up: {}", failed.trim());
        }
        if console.lines().any(|l| l.starts_with("LAB ") && l.trim_end().ends_with(" READY")) {
            return Ok(true);
        }
        if self.began.elapsed() > BOOT {
            bail!("{name} is not up within {} s: {}", BOOT.as_secs(), self.last_words());
        }
        Ok(false)
    }

    /// How long it has been running.
    pub fn since(&self) -> Duration {
        self.began.elapsed()
    }

    /// Looks whether it runs still.
    ///
    /// # Errors
    /// With the end of its logs when it does not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let name = self.access.name.clone();
        let Some(child) = &mut self.child else { bail!("{name} is not running") };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                bail!("QEMU of {name} has ended ({status}): {}", self.last_words())
            }
        }
    }

    /// Ends it at once, as a power cut would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} is not running", self.access.name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn console(&self) -> String {
        let bytes = std::fs::read(self.access.folder.join(format!("{}.console", self.access.name)));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.access.folder.join(format!("{}.log", self.access.name)));
        let last = |text: &str| text.lines().rev().take(3).map(str::to_owned).collect::<Vec<_>>().join(" / ");
        format!("{} | {}", last(&log.unwrap_or_default()), last(&self.console()))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
