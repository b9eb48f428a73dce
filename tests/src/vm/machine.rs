//! One machine: its QEMU process, and what is done in it over ssh.

use super::cabling::Card;
use super::run::Run;
use anyhow::{Context, bail};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a machine may take to boot; emulated on a busy computer it needs a minute.
const BOOT: Duration = Duration::from_secs(600);
/// The control network as the machines see it: QEMU's own, one for each machine.
const CONTROL: &str = "192.168.76";
/// Where machines that may find this computer's loopback services.
pub const HOST: &str = "192.168.76.2";

/// What a machine is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// `m1`.
    pub name: String,
    /// Its place among the run's machines; addresses and MACs are made of it.
    pub index: usize,
    /// MiB.
    pub memory: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Whether it may reach this computer's loopback services, at [`HOST`]. It has no other route,
    /// to there or beyond.
    pub reaches_host: bool,
    /// Its data cards.
    pub cards: Vec<Card>,
}

/// A machine that runs; killed when dropped, and by the kernel when this process ends any other
/// way.
#[derive(Debug)]
pub struct Machine {
    /// What it was to be.
    pub spec: Spec,
    /// sshd's port on this computer's loopback.
    pub port: u16,
    folder: PathBuf,
    child: Child,
}

/// The MAC of a machine's card; card 0 is the control network's.
pub fn mac(index: usize, nic: usize) -> String {
    format!("52:54:00:76:{:02x}:{nic:02x}", index + 1)
}

impl Spec {
    /// Of the control card.
    pub fn address(&self) -> String {
        format!("{CONTROL}.{}", 11 + self.index)
    }

    fn arguments(&self, run: &Run, port: u16) -> Vec<String> {
        let (name, address) = (&self.name, self.address());
        let key: Vec<&str> = run.public_key.split(' ').take(2).collect();
        // Without mitigations: nothing secret is in there, and they are what costs most under
        // emulation.
        let kernel = format!(
            "console=ttyS0 quiet root=/dev/vda mitigations=off net.ifnames=0 tandem.name={name} tandem.address={address}/24 \
             tandem.key={}",
            key.join(":")
        );
        let restrict = if self.reaches_host { "off" } else { "on" };
        let mut all = vec![
            "-accel".into(),
            "tcg,thread=multi".into(),
            "-machine".into(),
            "pc".into(),
            "-cpu".into(),
            "max".into(),
            "-smp".into(),
            self.cpus.to_string(),
            "-m".into(),
            self.memory.to_string(),
            "-nodefaults".into(),
            "-no-reboot".into(),
            "-display".into(),
            "none".into(),
            "-kernel".into(),
            run.image.join("vmlinux").display().to_string(),
            "-initrd".into(),
            run.image.join("initrd").display().to_string(),
            "-append".into(),
            kernel,
            "-drive".into(),
            format!("file={name}.qcow2,if=virtio,format=qcow2,cache=unsafe"),
            "-serial".into(),
            format!("file:{name}.console"),
            "-device".into(),
            "virtio-rng-pci".into(),
            "-pidfile".into(),
            format!("{name}.pid"),
            "-netdev".into(),
            format!(
                "user,id=control,net={CONTROL}.0/24,restrict={restrict},hostfwd=tcp:127.0.0.1:{port}-{address}:22"
            ),
            "-device".into(),
            format!("virtio-net-pci,netdev=control,mac={},romfile=", mac(self.index, 0)),
        ];
        for Card { nic, sockets: [here, there] } in &self.cards {
            all.extend([
                "-netdev".into(),
                format!("dgram,id=data{nic},local.type=unix,local.path={here},remote.type=unix,remote.path={there}"),
                "-device".into(),
                // Without the offloads that a card at the end of a cable could not finish.
                format!(
                    "virtio-net-pci,netdev=data{nic},mac={},romfile=,speed=1000,duplex=full",
                    mac(self.index, *nic)
                ),
            ]);
        }
        all
    }
}

/// A loopback port that is free now. QEMU binds it a moment later; whoever took it in between makes
/// QEMU say so.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Machine {
    /// Starts it; it boots on its own. Call it from the program's first thread: the kernel ends the
    /// machine when the thread that started it ends.
    ///
    /// # Errors
    /// When its disk or its process cannot be made.
    pub fn start(run: &Run, spec: Spec) -> anyhow::Result<Machine> {
        let disk = format!("{}.qcow2", spec.name);
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(run.image.join("disk.ext4"))
            .arg(&disk)
            .current_dir(&run.folder)
            .status()
            .context("starting qemu-img; tests/vm/install installs it")?;
        if !made.success() {
            bail!("qemu-img could not make {disk} ({made})");
        }
        let port = free_port()?;
        let log = File::create(run.folder.join(format!("{}.log", spec.name)))?;
        // Sockets are named relative to the folder: a socket's whole path must fit in 107 bytes
        // (unix(7)).
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(spec.arguments(run, port))
            .current_dir(&run.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting QEMU by setpriv (package util-linux)")?;
        run.know_host(port)?;
        Ok(Machine { spec, port, folder: run.folder.clone(), child })
    }

    /// Waits until it has booted, with all its services, and looks whether its cards are the ones
    /// it was given.
    ///
    /// # Errors
    /// When QEMU ends, or a service fails, or the time is over.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let (start, name) = (Instant::now(), self.spec.name.clone());
        loop {
            self.check()?;
            // Degraded and unreachable both end the wait with an error; only the second is tried
            // again.
            let state = self
                .ssh("systemctl is-system-running --wait || systemctl --failed --plain --no-legend")
                .output()?;
            let said = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            if state.status.success() {
                if said == "running" {
                    break;
                }
                bail!("{name} is up, but not all of it: {said}");
            }
            if start.elapsed() > BOOT {
                let why = String::from_utf8_lossy(&state.stderr).trim().to_owned();
                bail!("{name} is not up within {} s ({why}): {}", BOOT.as_secs(), self.last_words());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        for nic in 0..=self.spec.cards.len() {
            let found = self.run(&format!("cat /sys/class/net/eth{nic}/address"))?;
            if found != mac(self.spec.index, nic) {
                bail!("eth{nic} of {name} is {found}, not {}", mac(self.spec.index, nic));
            }
        }
        Ok(())
    }

    /// Looks whether it runs still.
    ///
    /// # Errors
    /// With the end of its logs when it does not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("QEMU of {} has ended ({status}): {}", self.spec.name, self.last_words()),
            None => Ok(()),
        }
    }

    fn last_words(&self) -> String {
        let read = |kind: &str| {
            let text =
                std::fs::read(self.folder.join(format!("{}.{kind}", self.spec.name))).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            text.lines().rev().take(3).map(str::to_owned).collect::<Vec<_>>()
        };
        read("log").into_iter().chain(read("console")).collect::<Vec<_>>().join(" / ")
    }

    /// A command for its shell, not started yet.
    pub fn ssh(&self, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.current_dir(&self.folder)
            .args(["-F", "none", "-i", "key", "-p", &self.port.to_string()])
            .args(["-o", "UserKnownHostsFile=known_hosts", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60"])
            .args(["-o", "ServerAliveInterval=30", "-o", "LogLevel=ERROR", "root@127.0.0.1", command])
            .stdin(Stdio::null());
        ssh
    }

    /// Runs a command and gives what it writes.
    ///
    /// # Errors
    /// With what it says.
    pub fn run(&self, command: &str) -> anyhow::Result<String> {
        let output = self.ssh(command).output().context("starting ssh")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("on {}: {command}: {} ({})", self.spec.name, said.trim(), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Copies a program there, without what only a debugger reads: that is most of it.
    ///
    /// # Errors
    /// When it cannot be read, or the copy fails.
    pub fn install(&self, program: &Path) -> anyhow::Result<()> {
        let name = program.file_name().and_then(|n| n.to_str()).context("a program without a name")?;
        let bare = self.folder.join(name);
        let stripped = Command::new("strip").arg("-o").arg(&bare).arg(program).status();
        if !stripped.context("starting strip (package binutils)")?.success() {
            bail!("{} is not built, or is no program", program.display());
        }
        let file = File::open(bare)?;
        let to = format!("/usr/local/bin/{name}");
        let copied = self.ssh(&format!("cat > {to} && chmod 755 {to}")).stdin(file).status()?;
        if !copied.success() {
            bail!("copying {name} to {} ({copied})", self.spec.name);
        }
        Ok(())
    }

    /// Fetches a folder's contents.
    ///
    /// # Errors
    /// When either end fails.
    pub fn fetch(&self, from: &str, to: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(to)?;
        let mut sender = self.ssh(&format!("tar -C {from} -cf - .")).stdout(Stdio::piped()).spawn()?;
        let stream = sender.stdout.take().context("no output")?;
        let unpacked = Command::new("tar").arg("-C").arg(to).args(["-xf", "-"]).stdin(stream).status()?;
        let sent = sender.wait()?;
        if !sent.success() || !unpacked.success() {
            bail!("fetching {from} from {}: ssh {sent}, tar {unpacked}", self.spec.name);
        }
        Ok(())
    }

    /// Resident memory of its QEMU, MiB.
    pub fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
        Some(kib.trim().parse::<u64>().ok()? / 1024)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
