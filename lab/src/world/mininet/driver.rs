//! The Python program that drives Mininet, as seen from the lab: started, asked, and watched.

use super::topology::Network;
use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The program.
const DRIVER: &str = include_str!("driver.py");
/// Debian's packages are for the system's own Python, whatever else a PATH may have.
const PYTHON: &str = "/usr/bin/python3";
/// Mininet calls its tools by their names; an ordinary user's PATH may lack those of root.
const TOOLS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// So long is an answer at most: a line of some 20 bytes for each host.
const LONGEST: u64 = 16 << 20;
/// So much of its log is read.
const LOG: u64 = 64 << 10;

/// Looks whether Mininet is installed.
///
/// # Errors
/// When it is not, with the package.
pub fn installed() -> anyhow::Result<()> {
    const PACKAGE: &str = "apt-get install mininet";
    // Where it is imported, and what its hosts are started by.
    let script =
        "import mininet.net, shutil, sys; sys.exit(not shutil.which('mnexec') and 'mnexec is not there')";
    let output = Command::new(PYTHON)
        .args(["-I", "-c", script])
        .env("PATH", TOOLS)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("Mininet is not here: {PYTHON} is missing; {PACKAGE}"),
            _ => anyhow::Error::from(error).context(format!("starting {PYTHON}")),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.lines().last().unwrap_or("it does not say why").trim();
    bail!("Mininet is not here: {PACKAGE} ({PYTHON} says: {why})")
}

/// What Mininet took for its steps, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct Times {
    /// Hosts, switches' shells, links.
    #[serde(default)]
    pub build: f64,
    /// Switches.
    #[serde(default)]
    pub start: f64,
    /// Its own end.
    #[serde(default)]
    pub stop: f64,
}

/// What it answers.
#[derive(Debug, Default, Deserialize)]
pub struct Answer {
    /// The shells of its hosts: their process ids.
    #[serde(default)]
    pub pids: BTreeMap<String, i32>,
    /// How long it took.
    #[serde(default)]
    pub seconds: Times,
    #[serde(default)]
    error: Option<String>,
}

/// The program while it runs.
pub struct Driver {
    child: Child,
    socket: BufReader<UnixStream>,
    log: PathBuf,
}

impl Driver {
    /// Starts it; its files, and the sockets of the Open vSwitch that it is to use, are in `folder`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(folder: &Path) -> anyhow::Result<Driver> {
        let file = folder.join("mininet.py");
        std::fs::write(&file, DRIVER).with_context(|| format!("writing {}", file.display()))?;
        let log = folder.join("mininet.log");
        let (own, its) = UnixStream::pair().context("making a socket for Mininet")?;
        let mut command = Command::new(PYTHON);
        command.arg("-I").arg(&file).env("PATH", TOOLS).current_dir("/");
        for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(name, folder);
        }
        let output = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let child = command
            .stdin(OwnedFd::from(its))
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {PYTHON}"))?;
        Ok(Driver { child, socket: BufReader::new(own), log })
    }

    /// Makes a network.
    ///
    /// # Errors
    /// With what Mininet says, or when it takes longer than `limit`.
    pub fn build(&mut self, network: &Network, limit: Duration) -> anyhow::Result<Answer> {
        self.ask(&json!({ "do": "build", "network": network }), limit)
            .context("making the network with Mininet")
    }

    /// Lets Mininet take its network apart, as its own users do.
    ///
    /// # Errors
    /// As [`Driver::build`].
    pub fn stop(&mut self, limit: Duration) -> anyhow::Result<Answer> {
        self.ask(&json!({ "do": "stop" }), limit).context("taking Mininet's network apart")
    }

    fn ask(&mut self, what: &serde_json::Value, limit: Duration) -> anyhow::Result<Answer> {
        let stream = self.socket.get_mut();
        stream.set_read_timeout(Some(limit))?;
        // One that has ended says why in its log, and that is worth more than a broken pipe.
        let _ = stream.write_all(format!("{what}\n").as_bytes());
        let mut line = String::new();
        match (&mut self.socket).take(LONGEST).read_line(&mut line) {
            Ok(0) => bail!("its program has ended: {}", self.last_words()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("it has not done it within {limit:?}: {}", self.last_words())
            }
            Err(error) => return Err(error).context("hearing from it"),
        }
        let answer: Answer = serde_json::from_str(&line).context("its answer is not understood")?;
        match answer.error {
            Some(why) => bail!("{why}"),
            None => Ok(answer),
        }
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let mut text = String::new();
        let read = File::open(&self.log).and_then(|file| file.take(LOG).read_to_string(&mut text));
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        match (read, lines.last()) {
            (Ok(_), Some(last)) => (*last).to_owned(),
            _ => "it does not say why".into(),
        }
    }

    /// From now on this process ends when Mininet does: what is left of a network without it would be
    /// a lab that is not what it says.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn end_with_it(self) -> anyhow::Result<()> {
        let mut driver = self;
        let watch = move || {
            let _ = driver.socket.get_mut().set_read_timeout(None);
            // It says nothing of its own accord: this is its end.
            let _ = driver.socket.read(&mut [0]);
            let status = driver.child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
            tracing::error!("Mininet's program has ended ({status}); the lab ends with it");
            std::process::exit(1);
        };
        std::thread::Builder::new().name("mininet".into()).spawn(watch)?;
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A driver that answers what it is told to, whatever it is asked.
    fn answering(answer: &'static [u8]) -> (Driver, thread::JoinHandle<String>) {
        let (own, its) = UnixStream::pair().expect("a socket");
        let asked = thread::spawn(move || {
            let mut line = String::new();
            let mut its = BufReader::new(its);
            its.read_line(&mut line).expect("what is asked");
            its.get_mut().write_all(answer).expect("answered");
            line
        });
        let child = Command::new("true").spawn().expect("a process");
        (Driver { child, socket: BufReader::new(own), log: "/nonexistent/log".into() }, asked)
    }

    #[test]
    fn what_the_driver_says_is_understood_or_an_error() {
        let limit = Duration::from_secs(60);
        let (mut driver, asked) = answering(b"{\"seconds\": {\"stop\": 1.5}}\n");
        assert!((driver.stop(limit).expect("it has stopped").seconds.stop - 1.5).abs() < 1e-9);
        assert_eq!(asked.join().expect("asked"), "{\"do\":\"stop\"}\n");
        let bad: [(&[u8], &str); 4] = [
            (b"{\"error\": \"no tc\"}\n", "no tc"),
            (b"nonsense\n", "not understood"),
            (b"{\"pids\": 7}\n", "not understood"),
            (b"", "has ended"),
        ];
        for (answer, word) in bad {
            let (mut driver, asked) = answering(answer);
            let why = format!("{:#}", driver.stop(limit).expect_err("no answer"));
            assert!(why.contains(word), "{why}");
            asked.join().expect("asked");
        }
    }

    /// One that says nothing is not waited for longer than it may take.
    #[test]
    fn a_driver_that_never_ends_is_given_up() {
        let (own, _its) = UnixStream::pair().expect("a socket");
        let child = Command::new("true").spawn().expect("a process");
        let mut driver = Driver { child, socket: BufReader::new(own), log: "/nonexistent/log".into() };
        let why = format!("{:#}", driver.stop(Duration::from_millis(20)).expect_err("no answer"));
        assert!(why.contains("not done it within 20ms"), "{why}");
    }
}
