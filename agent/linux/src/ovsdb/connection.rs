//! A connection: requests and replies, echo requests in both directions, time-outs.

use super::Error;
use super::framing::Framer;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a reply may take. A transaction that creates a thousand ports takes the server a tenth
/// of a second.
const ANSWER: Duration = Duration::from_secs(60);

/// How long the server may be silent before an echo request is sent, and again before the
/// connection is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// The database's name.
const DATABASE: &str = "Open_vSwitch";

/// A Unix or TCP stream.
#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn wait_at_most(&self, limit: Duration) -> std::io::Result<()> {
        // A zero time-out would mean no time-out.
        let limit = Some(limit.max(Duration::from_millis(1)));
        match self {
            Stream::Unix(s) => s.set_read_timeout(limit),
            Stream::Tcp(s) => s.set_read_timeout(limit),
        }
    }

    fn write_for_at_most(&self, limit: Duration) -> std::io::Result<()> {
        match self {
            Stream::Unix(s) => s.set_write_timeout(Some(limit)),
            Stream::Tcp(s) => s.set_write_timeout(Some(limit)),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Unix(s) => s.read(into),
            Stream::Tcp(s) => s.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Unix(s) => s.write_all(bytes),
            Stream::Tcp(s) => s.write_all(bytes),
        }
    }
}

/// A connection to an ovsdb-server. All calls block.
#[derive(Debug)]
pub struct Ovsdb {
    stream: Stream,
    framer: Framer,
    last_id: u64,
    answer_within: Duration,
    /// Set once the stream is unusable: half a message was written, or the bytes received were not
    /// a message.
    lost: bool,
    heard: Instant,
    /// When the echo request was sent that is not answered yet.
    asked: Option<Instant>,
    /// The schema, once it was needed.
    schema: Option<Value>,
}

impl Ovsdb {
    /// Connects to a Unix socket.
    ///
    /// [`Error::Connect`] when no server listens there.
    pub fn connect(socket: &Path) -> Result<Ovsdb, Error> {
        let remote = || format!("unix:{}", socket.display());
        let stream = UnixStream::connect(socket)
            .map_err(|source| Error::Connect { remote: remote(), cause: source })?;
        Ovsdb::over(Stream::Unix(stream), &remote())
    }

    /// Uses a socket that is connected already.
    ///
    /// [`Error::Connect`] when the socket does not support time-outs.
    pub fn on(stream: UnixStream) -> Result<Ovsdb, Error> {
        Ovsdb::over(Stream::Unix(stream), "a connected socket")
    }

    /// Connects to `unix:PATH` or `tcp:HOST:PORT`, as in
    /// [`ovsdb(7)`](https://docs.openvswitch.org/en/latest/ref/ovsdb.7/).
    ///
    /// # Errors [`Error::Address`] when it is neither, [`Error::Connect`] when no server listens
    /// there.
    pub fn open(remote: &str) -> Result<Ovsdb, Error> {
        match remote.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ovsdb::connect(Path::new(path)),
            Some(("tcp", address)) => {
                let fail = |source| Error::Connect { remote: remote.to_owned(), cause: source };
                let addresses = address.to_socket_addrs().map_err(|source| match source.kind() {
                    ErrorKind::InvalidInput => Error::Address { remote: remote.to_owned() },
                    _ => fail(source),
                })?;
                let mut last = ErrorKind::AddrNotAvailable.into();
                for address in addresses {
                    match TcpStream::connect_timeout(&address, SILENCE) {
                        Ok(stream) => {
                            // Requests and replies are small and alternate.
                            stream.set_nodelay(true).map_err(fail)?;
                            return Ovsdb::over(Stream::Tcp(stream), remote);
                        }
                        Err(error) => last = error,
                    }
                }
                Err(fail(last))
            }
            _ => Err(Error::Address { remote: remote.to_owned() }),
        }
    }

    fn over(stream: Stream, remote: &str) -> Result<Ovsdb, Error> {
        stream
            .write_for_at_most(ANSWER)
            .map_err(|source| Error::Connect { remote: remote.to_owned(), cause: source })?;
        Ok(Ovsdb {
            stream,
            framer: Framer::default(),
            last_id: 0,
            answer_within: ANSWER,
            lost: false,
            heard: Instant::now(),
            asked: None,
            schema: None,
        })
    }

    /// Sets how long each reply may take; a minute by default.
    pub fn set_answer_within(&mut self, limit: Duration) {
        self.answer_within = limit;
    }

    /// Executes operations on `Open_vSwitch` as one transaction; all or none.
    ///
    /// # Errors
    /// [`Error::Refused`] with the operation that failed (RFC 7047 section 4.1.3: errors stand
    /// inside the result); those of the connection.
    pub fn transact(&mut self, operations: &[Value]) -> Result<Vec<Value>, Error> {
        let mut params = vec![json!(DATABASE)];
        params.extend_from_slice(operations);
        let list = match self.call("transact", &Value::Array(params))? {
            Value::Array(list) => list,
            other => return Err(Error::Garbled { why: format!("a transaction was answered with {other}") }),
        };
        for (n, item) in list.iter().enumerate() {
            if let Some(error) = item.get("error").filter(|e| !e.is_null()) {
                let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), ToOwned::to_owned);
                let operation = operations.get(n).map_or_else(
                    || "the commit".to_owned(),
                    |o| format!("{} {}", text(&o["op"]), text(&o["table"])),
                );
                let details = item.get("details").map(text).unwrap_or_default();
                return Err(Error::Refused { operation, error: text(error), details });
            }
        }
        if list.len() < operations.len() {
            return Err(Error::Garbled {
                why: format!("{} operations were answered with {} results", operations.len(), list.len()),
            });
        }
        Ok(list)
    }

    /// Sends an echo request (RFC 7047 section 4.1.11) and waits for the reply.
    ///
    /// [`Error::Silent`] when there is no reply; those of the connection.
    pub fn echo(&mut self) -> Result<(), Error> {
        self.call("echo", &json!(["alive"])).map(drop)
    }

    /// Creates the database's single row, if it does not exist yet.
    ///
    /// # Errors
    /// As [`Ovsdb::transact`].
    pub fn init(&mut self) -> Result<(), Error> {
        let rows = self.transact(&[
            json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": ["_uuid"] }),
        ])?;
        let empty = rows.first().and_then(|r| r["rows"].as_array()).is_none_or(Vec::is_empty);
        if empty {
            self.transact(&[json!({ "op": "insert", "table": "Open_vSwitch", "row": {} })])?;
        }
        Ok(())
    }

    /// The database's schema (RFC 7047 section 4.1.2), fetched once.
    pub(super) fn schema(&mut self) -> Result<&Value, Error> {
        let schema = match self.schema.take() {
            Some(schema) => schema,
            None => self.call("get_schema", &json!([DATABASE]))?,
        };
        Ok(self.schema.insert(schema))
    }

    /// A name that no monitor of this connection has had.
    pub(super) fn next_monitor_id(&mut self) -> String {
        self.last_id += 1;
        format!("m{}", self.last_id)
    }

    /// Sends a request and waits for the reply.
    pub(super) fn call(&mut self, method: &str, params: &Value) -> Result<Value, Error> {
        self.ask(method, params)?.map_err(|error| Error::Refused {
            operation: method.to_owned(),
            error: error["error"]
                .as_str()
                .or(error.as_str())
                .map_or_else(|| error.to_string(), ToOwned::to_owned),
            details: error["details"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Sends a request and waits for the reply, or for the server's error.
    pub(super) fn ask(&mut self, method: &str, params: &Value) -> Result<Result<Value, Value>, Error> {
        let id = json!(self.send_request(method, params)?);
        let deadline = Instant::now() + self.answer_within;
        while let Some(mut message) = self.receive(deadline)? {
            // Other messages are updates of a monitor that has ended, or replies that came too
            // late.
            if message["id"] != id || message.get("method").is_some() {
                continue;
            }
            let error = message["error"].take();
            return Ok(if error.is_null() { Ok(message["result"].take()) } else { Err(error) });
        }
        Err(Error::Silent { what: method.to_owned(), limit: self.answer_within })
    }

    /// Sends a request without waiting; its reply is skipped when it comes.
    pub(super) fn send_request(&mut self, method: &str, params: &Value) -> Result<u64, Error> {
        self.last_id += 1;
        self.send(&json!({ "method": method, "params": params, "id": self.last_id }))?;
        Ok(self.last_id)
    }

    fn send(&mut self, message: &Value) -> Result<(), Error> {
        if self.lost {
            return Err(Error::Closed);
        }
        self.stream.write_all(message.to_string().as_bytes()).map_err(|source| {
            self.lost = true;
            match source.kind() {
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Closed,
                _ => Error::Io { what: "writing to", cause: source },
            }
        })
    }

    /// The next message that is not an echo; `None` when none has come until `deadline`.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Option<Value>, Error> {
        if self.lost {
            return Err(Error::Closed);
        }
        let outcome = self.receive_or_fail(deadline);
        self.lost |= outcome.is_err();
        outcome
    }

    fn receive_or_fail(&mut self, deadline: Instant) -> Result<Option<Value>, Error> {
        let mut chunk = vec![0; 65536];
        loop {
            while let Some(bytes) =
                self.framer.next_message().map_err(|e| Error::Garbled { why: e.to_string() })?
            {
                let message: Value =
                    serde_json::from_slice(bytes).map_err(|e| Error::Garbled { why: e.to_string() })?;
                // RFC 7047 section 4.1.11: the server, too, may send an echo request at any time.
                if message["method"] == "echo" {
                    self.send(&json!({ "result": message["params"], "error": null, "id": message["id"] }))?;
                } else {
                    return Ok(Some(message));
                }
            }
            let now = Instant::now();
            let quiet_until = self.asked.unwrap_or(self.heard) + SILENCE;
            self.stream
                .wait_at_most(deadline.min(quiet_until).saturating_duration_since(now))
                .map_err(|source| Error::Io { what: "reading from", cause: source })?;
            match self.stream.read(&mut chunk) {
                Ok(0) if self.framer.is_within_message() => {
                    return Err(Error::Garbled { why: "the stream ends within a message".into() });
                }
                Ok(0) => return Err(Error::Closed),
                Ok(count) => {
                    (self.heard, self.asked) = (Instant::now(), None);
                    self.framer.push(&chunk[..count]);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let now = Instant::now();
                    if now >= quiet_until {
                        if self.asked.is_some() {
                            return Err(Error::Silent { what: "echo".into(), limit: SILENCE });
                        }
                        self.send_request("echo", &json!(["alive"]))?;
                        self.asked = Some(now);
                    }
                    if now >= deadline {
                        return Ok(None);
                    }
                }
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Err(Error::Closed),
                Err(source) => return Err(Error::Io { what: "reading from", cause: source }),
            }
        }
    }
}
