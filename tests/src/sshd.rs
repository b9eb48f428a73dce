//! A real sshd on loopback, with a host key, keys and a configuration of its own. It is started
//! once a connection, as inetd does it, behind a relay of ours: so a test can cut a connection
//! after so many bytes, as a pulled cable would, and nothing runs on when the test ends.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/sbin/sshd";

/// True when there is an sshd. Where there is none, the test says so and is skipped; in CI that is
/// a failure.
pub fn can_ssh() -> bool {
    let there = Path::new(PROGRAM).exists() && Path::new("/usr/bin/ssh-keygen").exists();
    assert!(there || std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: openssh-server");
    if !there {
        eprintln!("skipped: missing openssh-server");
    }
    there
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// False refuses connections: they are closed at once.
    deaf: AtomicBool,
    /// Bytes that clients may still send before all connections are cut; negative is no limit.
    left: AtomicI64,
    open: Mutex<Vec<TcpStream>>,
    children: Mutex<Vec<Child>>,
}

/// A running SSH server. Its folder is removed when it is dropped.
pub struct Sshd {
    /// Of 127.0.0.1.
    pub port: u16,
    /// Keys, configuration, log.
    pub folder: PathBuf,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn keygen(file: &Path) -> anyhow::Result<()> {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status()?;
    anyhow::ensure!(made.success(), "ssh-keygen could not make {}", file.display());
    Ok(())
}

impl Sshd {
    /// Starts one below `folder`.
    ///
    /// # Errors
    /// When keys or sockets cannot be made.
    pub fn start(folder: &Path) -> anyhow::Result<Sshd> {
        Sshd::start_in(folder, None)
    }

    /// As [`Sshd::start`]; who logs in is in the network namespace of the process `namespace`.
    ///
    /// # Errors
    /// When keys or sockets cannot be made.
    pub fn start_in(folder: &Path, namespace: Option<u32>) -> anyhow::Result<Sshd> {
        let folder = folder.join("sshd");
        std::fs::create_dir_all(&folder)?;
        // Debian's service makes it before it starts sshd, which refuses to run without it.
        let _ = std::fs::create_dir_all("/run/sshd");
        keygen(&folder.join("host"))?;
        keygen(&folder.join("id"))?;
        std::fs::copy(folder.join("id.pub"), folder.join("authorized_keys"))?;
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nMaxSessions 64\nLogLevel VERBOSE\n",
            at("host"),
            at("authorized_keys")
        );
        std::fs::write(folder.join("config"), config)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let host = std::fs::read_to_string(folder.join("host.pub"))?;
        std::fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {host}"))?;
        let shared = Arc::new(Shared { left: AtomicI64::new(-1), ..Shared::default() });
        let (state, place) = (shared.clone(), folder.clone());
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if state.stop.load(Ordering::SeqCst) {
                    break;
                }
                if state.deaf.load(Ordering::SeqCst) {
                    continue;
                }
                if let Err(error) = serve(client, &place, namespace, &state) {
                    eprintln!("sshd for a test: {error:#}");
                }
            }
        });
        Ok(Sshd { port, folder, shared, thread: Some(thread) })
    }

    /// The `[ssh]` section of an inventory that reaches it.
    pub fn section(&self) -> String {
        let user = Command::new("id")
            .arg("-un")
            .output()
            .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        format!(
            "[ssh]\nuser = \"{}\"\nport = {}\nkey = \"{}\"\nknown_hosts = \"{}\"\n",
            user.unwrap_or_default(),
            self.port,
            self.folder.join("id").display(),
            self.folder.join("known_hosts").display()
        )
    }

    /// Cuts all connections, as a pulled cable would, once clients have sent so many more bytes.
    pub fn cut_after(&self, bytes: u32) {
        self.shared.left.store(bytes.into(), Ordering::SeqCst);
    }

    /// True when a limit was set and reached.
    pub fn was_cut(&self) -> bool {
        self.shared.left.load(Ordering::SeqCst) == 0
    }

    /// No limit any more.
    pub fn mend(&self) {
        self.shared.left.store(-1, Ordering::SeqCst);
    }

    /// Lets nobody in any more, or again.
    pub fn set_deaf(&self, deaf: bool) {
        self.shared.deaf.store(deaf, Ordering::SeqCst);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        let mut children = self.shared.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain_mut(|c| matches!(c.try_wait(), Ok(None)));
        children.len()
    }
}

/// One sshd with a socket of its own, and the relay between it and the client.
fn serve(
    client: TcpStream,
    folder: &Path,
    namespace: Option<u32>,
    state: &Arc<Shared>,
) -> anyhow::Result<()> {
    let between = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = TcpStream::connect(between.local_addr()?)?;
    let (theirs, _) = between.accept()?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    let mut command = match namespace {
        None => Command::new(PROGRAM),
        Some(pid) => {
            // Its sockets stay those of the namespace that they were made in.
            let mut command = Command::new("nsenter");
            command.args(["-n", "-t", &pid.to_string(), "--", PROGRAM]);
            command
        }
    };
    let child = command
        .args(["-i", "-e", "-f"])
        .arg(folder.join("config"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone()?)))
        .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stderr(log)
        .spawn()
        .context("starting sshd")?;
    state.children.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    let mut open = state.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.extend([client.try_clone()?, ours.try_clone()?]);
    drop(open);
    for (mut from, mut to, counted) in [(client.try_clone()?, ours.try_clone()?, true), (ours, client, false)]
    {
        let state = state.clone();
        std::thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(n @ 1..) = from.read(&mut part) {
                if counted && !state.spend(n) {
                    state.cut();
                    break;
                }
                if to.write_all(&part[..n]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

impl Shared {
    /// True while clients may send.
    fn spend(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            (left >= 0).then(|| left.saturating_sub(bytes).max(0))
        });
        spent.is_err() || self.left.load(Ordering::SeqCst) != 0
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits for the sshds to end by themselves, then ends them by their ids.
    fn end(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        for child in children.iter_mut() {
            while child.try_wait()?.is_none() {
                if start.elapsed() > Duration::from_secs(5) {
                    child.kill()?;
                    child.wait()?;
                    bail!("sshd {} did not end with its connection", child.id());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.cut();
        if let Err(error) = self.shared.end() {
            eprintln!("{error:#}");
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
