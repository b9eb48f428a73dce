//! A real `tandem serve`, and a client that sends what it is given.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const SITE: &str = "name = \"api-test\"\n[topology]\nshape = \"three-tier\"\n\
    [[class]]\nname = \"gold\"\nshare = 60\ndscp = 46\n[[class]]\nname = \"rest\"\nshare = 40\ndscp = 0\ndefault = true\n";

/// A controller in a folder of its own; it ends with this.
pub(crate) struct Server {
    child: Child,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
}

/// An answer's status, head and body.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// The reason of an error; panics when the body is no error in JSON.
    pub(crate) fn error(&self) -> String {
        let body: Value =
            serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}: {:?}", self.status, self.body));
        body["error"].as_str().unwrap_or_else(|| panic!("no reason: {body}")).to_owned()
    }
}

pub(crate) fn program() -> Command {
    program_by(env!("CARGO_BIN_EXE_tandem"))
}

fn program_by(name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .stdin(Stdio::null())
        .env_remove("TANDEM_API")
        .env_remove("TANDEM_TOKEN")
        .env_remove("STATE_DIRECTORY");
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("it").port()
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::start_with(&[], None)
    }

    /// With more options, and with so many descriptors at most.
    pub(crate) fn start_with(more: &[&str], descriptors: Option<u64>) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        Server::launch(folder, SITE, more, descriptors)
    }

    /// Of another site, in a folder that has something already.
    pub(crate) fn start_in(folder: tempfile::TempDir, site: &str, more: &[&str]) -> Server {
        Server::launch(folder, site, more, None)
    }

    fn launch(folder: tempfile::TempDir, site: &str, more: &[&str], descriptors: Option<u64>) -> Server {
        std::fs::write(folder.path().join("site.toml"), site).expect("room");
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).expect("room");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut command = match descriptors {
            None => {
                // A file that may not grow is an error then and not the end (setrlimit(2),
                // RLIMIT_FSIZE).
                let mut shell = program_by("sh");
                shell.args(["-c", "trap '' XFSZ && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tandem")]);
                shell
            }
            Some(n) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -Sn {} && ulimit -Hn {n} && exec \"$0\" \"$@\"", n / 2);
                shell.args(["-c", &script, env!("CARGO_BIN_EXE_tandem")]).stdin(Stdio::null());
                shell
            }
        };
        command
            .args(["--api", &format!("unix:{}", at("api.sock")), "serve", "--site", &at("site.toml")])
            .args([
                "--openflow",
                &format!("unix:{}", at("of.sock")),
                "--agents",
                &format!("unix:{}", at("agents.sock")),
            ])
            .args(["--also-listen", &format!("tcp:127.0.0.1:{port}"), "--store", &at("store.sqlite")])
            .args(if more.contains(&"--world") {
                &[][..]
            } else {
                &["--world", "@tandem-lab/nobody-is-here/world"]
            })
            .args(more)
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().expect("the program");
        let mut server = Server { child, folder, port };
        let start = Instant::now();
        // It listens before it has opened its store.
        let answers = |server: &Server| {
            let stream = UnixStream::connect(server.at("api.sock"));
            stream.is_ok_and(|s| {
                Server::raw(s, b"GET /api/v1/overview HTTP/1.0\r\nhost: tandem\r\n\r\n").status == 200
            })
        };
        while !answers(&server) {
            let ended = server.child.try_wait().expect("it");
            assert!(ended.is_none() && start.elapsed() < LIMIT, "it does not start: {}", server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Lets no file of the controller grow beyond what its store's log has, so that its store,
    /// which has been written before, cannot be written; or lets them grow again.
    pub(crate) fn freeze_store(&self, frozen: bool) {
        let log = std::fs::metadata(self.at("store.sqlite-wal")).expect("it was written before").len();
        let pid = Pid::from_raw(self.child.id() as i32);
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit { current: if frozen { Some(log) } else { maximum }, maximum };
        prlimit(pid, Resource::Fsize, limit).expect("its user may");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    pub(crate) fn tcp(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
    }

    pub(crate) fn unix(&self) -> UnixStream {
        let stream = UnixStream::connect(self.at("api.sock")).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a stream");
        stream
    }

    /// Sends bytes and reads until the other end closes.
    pub(crate) fn raw(mut stream: impl Read + Write, bytes: &[u8]) -> Reply {
        // It may have closed already: its answer is read all the same.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A request over TCP, with these lines in its head.
    pub(crate) fn over_tcp(&self, request: &str, lines: &[String]) -> Reply {
        Server::raw(self.tcp().expect("it listens"), head(request, lines).as_bytes())
    }

    /// A request over the Unix socket.
    pub(crate) fn over_unix(&self, request: &str, lines: &[String]) -> Reply {
        Server::raw(self.unix(), head(request, lines).as_bytes())
    }

    /// A request as `tandem` sends it, with a body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&[u8]>) -> Reply {
        let body = body.unwrap_or_default();
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: tandem\r\nx-tandem-request: 1\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Server::raw(self.unix(), &bytes)
    }

    /// `tandem ARGUMENTS` on its Unix socket.
    pub(crate) fn tandem(&self, arguments: &[&str]) -> Output {
        let api = format!("unix:{}", self.at("api.sock").display());
        program().args(["--api", &api]).args(arguments).output().expect("the program")
    }
}

fn head(request: &str, lines: &[String]) -> String {
    format!(
        "{request} HTTP/1.1\r\nconnection: close\r\n{}\r\n",
        lines.iter().map(|l| format!("{l}\r\n")).collect::<String>()
    )
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
