//! Measures how long an adopted bridge has no flows. Open vSwitch reports them by OpenFlow on a
//! management socket (`BRIDGE.mgmt`, ovs-vswitchd(8)), which needs no controller.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tandem_model::Time;
use tandem_openflow::AnyMessage;
use tandem_openflow::of10::stats as stats10;
use tandem_openflow::of13::{multipart, stats as stats13};
use tandem_openflow::session::{Config, Incoming, Session};
use tandem_openflow::{framing, header, of10, of13};

/// The longest wait for flows to come back.
const LIMIT: Duration = Duration::from_secs(30);
/// The interval of the requests.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a reply may take.
const ANSWER: Duration = Duration::from_secs(2);

/// A measurement that is under way.
pub(super) struct Measurement {
    /// The bridge.
    pub bridge: String,
    thread: Option<JoinHandle<String>>,
    stop: Arc<AtomicBool>,
}

impl Measurement {
    /// Starts with a first request, before the adoption. `folder` has vswitchd's sockets.
    ///
    /// When the bridge does not answer.
    pub(super) fn start(folder: &Path, bridge: &str) -> std::io::Result<Measurement> {
        let socket = folder.join(format!("{bridge}.mgmt"));
        let mut first = Asker::connect(&socket)?;
        let before = first.flows()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("gap".into())
            .stack_size(256 << 10)
            .spawn(move || measure(&socket, first, before, &stopped))?;
        Ok(Measurement { bridge: bridge.to_owned(), thread: Some(thread), stop })
    }

    /// Whether there is a result.
    pub(super) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The result as text; waits for it.
    pub(super) fn result(mut self) -> String {
        let result = self.thread.take().map(JoinHandle::join);
        result.and_then(Result::ok).unwrap_or_else(|| "the gap could not be measured".into())
    }
}

impl Drop for Measurement {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn measure(socket: &Path, first: Asker, before: u32, stop: &AtomicBool) -> String {
    let start = Instant::now();
    let (mut asker, mut with, mut without) = (Some(first), start, None::<Instant>);
    while start.elapsed() < LIMIT && !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        // A bridge that is recreated closes its socket: while it does not answer it has no flows.
        let flows = match &mut asker {
            Some(a) => a.flows().ok(),
            None => {
                asker = Asker::connect(socket).ok();
                asker.as_mut().and_then(|a| a.flows().ok())
            }
        };
        match (flows, without) {
            (None | Some(0), None) => without = Some(asked),
            (Some(n), Some(_)) if n > 0 => {
                let gap = asked.duration_since(with).as_secs_f64() * 1e3;
                return format!("it had {before} flows, then none for {gap:.0} ms, now {n}");
            }
            (Some(n), None) if n > 0 => with = asked,
            _ => {}
        }
        if flows.is_none() {
            asker = None;
        }
        std::thread::sleep(PAUSE);
    }
    match without {
        None => format!("it had {before} flows and was never without"),
        Some(_) => format!(
            "it had {before} flows, and has had none for {:.0} s since: its controller has sent none; does `tandem serve` run, can the switch reach it?",
            with.elapsed().as_secs_f64()
        ),
    }
}

/// An OpenFlow connection that only requests the number of flows.
struct Asker {
    stream: UnixStream,
    session: Session,
    epoch: Instant,
    buffer: Vec<u8>,
    version: u8,
}

fn other(why: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(why.to_string())
}

impl Asker {
    fn connect(socket: &Path) -> std::io::Result<Asker> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut out = Vec::new();
        let session = Session::new(&[header::V10, header::V13], Config::default(), Time::ZERO, &mut out);
        let mut asker = Asker { stream, session, epoch: Instant::now(), buffer: Vec::new(), version: 0 };
        asker.stream.write_all(&out)?;
        while asker.version == 0 {
            asker.next()?;
        }
        Ok(asker)
    }

    /// The next message that the session does not handle itself.
    fn next(&mut self) -> std::io::Result<Option<AnyMessage>> {
        loop {
            if let Some((message, _)) = framing::next(&self.buffer).map_err(other)? {
                let message = message.to_vec();
                self.buffer.drain(..message.len());
                let now = Time(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX));
                let mut out = Vec::new();
                let incoming = self.session.on_message(&message, now, &mut out).map_err(other)?;
                let result = match incoming {
                    Incoming::Agreed(version) => {
                        self.version = version;
                        None
                    }
                    Incoming::Handled => None,
                    Incoming::Message(bytes) => Some(AnyMessage::decode(bytes).map_err(other)?.1),
                };
                self.stream.write_all(&out)?;
                return Ok(result);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    fn flows(&mut self) -> std::io::Result<u32> {
        let ask = if self.version == header::V10 { ask10() } else { ask13() };
        let xid = self.session.next_xid();
        let mut out = Vec::new();
        ask.encode(xid, &mut out).map_err(other)?;
        self.stream.write_all(&out)?;
        let deadline = Instant::now() + ANSWER;
        while Instant::now() < deadline {
            match self.next()? {
                Some(AnyMessage::V10(of10::Message::StatsReply(reply))) => {
                    if let stats10::ReplyBody::Aggregate(a) = reply.body {
                        return Ok(a.flow_count);
                    }
                }
                Some(AnyMessage::V13(of13::Message::MultipartReply(reply))) => {
                    if let multipart::ReplyBody::Aggregate(a) = reply.body {
                        return Ok(a.flow_count);
                    }
                }
                _ => {}
            }
        }
        Err(std::io::ErrorKind::TimedOut.into())
    }
}

fn ask10() -> AnyMessage {
    let all = stats10::FlowStatsRequest {
        matching: of10::Match::any(),
        table_id: 0xff,
        pad: Default::default(),
        // OFPP_NONE.
        out_port: 0xffff,
    };
    let body = stats10::RequestBody::Aggregate(all);
    AnyMessage::V10(of10::Message::StatsRequest(of10::StatsRequest { flags: 0, body }))
}

fn ask13() -> AnyMessage {
    let all = stats13::FlowStatsRequest {
        table_id: 0xff,
        pad: Default::default(),
        // OFPP_ANY, OFPG_ANY.
        out_port: u32::MAX,
        out_group: u32::MAX,
        pad2: Default::default(),
        cookie: 0,
        cookie_mask: 0,
        matching: of13::Match::any(),
    };
    let body = multipart::RequestBody::Aggregate(all);
    AnyMessage::V13(of13::Message::MultipartRequest(of13::MultipartRequest::new(body)))
}
