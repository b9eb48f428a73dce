//! Requests in the text protocol of the thesis (Teixeira 2013), for requesters that speak nothing
//! else: `docs/text-socket.md` says what they send and what they are answered.
//!
//! ```text
//! bytes --Framer--> text --parse--> TextRequest --names resolved--> Request --core--> IP | TRUE | FALSE
//! ```
//!
//! Everything that comes by one socket is one requester's: its name is kept with the VMs, and only
//! VMs of that name can be grouped here. What is bounded: connections, the length of a request, how
//! long it may take to be sent, how long a connection may be silent, and how long an answer may wait
//! to be taken.

use crate::event_loop::Handle;
use crate::openflow_server::{self, Address, Listener};
use crate::peer_lines::PeerLines;
use crate::server::http::listen::{self, ApiListener};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::text::escaped_to;
use tandem_model::text_request::{Ending, Framer, TextRequest, parse};
use tandem_model::{BitRate, Bytes, ClassId, Request, Resources, Response, Site, VmRequest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// Connections at once: a requester has one for each request that waits.
const MOST: usize = 256;
/// What is taken at once.
const CHUNK: usize = 4096;

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// A request without a newline has ended after so long a pause.
    pause: Duration,
    /// A request is sent in this time.
    request: Duration,
    /// A connection that asks nothing is closed after this time.
    idle: Duration,
    /// An answer is taken in this time.
    answer: Duration,
}

const TIMEOUTS: Timeouts = Timeouts {
    pause: Duration::from_millis(300),
    request: Duration::from_secs(10),
    idle: Duration::from_secs(60),
    answer: Duration::from_secs(10),
};

/// Where it listens: a path (`unix:` may stand before it), or `tcp:ADDRESS:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextAddress(pub Address);

impl FromStr for TextAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<TextAddress, String> {
        if text.starts_with("tcp:") || text.starts_with("unix:") {
            return text.parse().map(TextAddress);
        }
        if text.is_empty() {
            return Err("this is no path; write /path/to/socket, or tcp:ADDRESS:PORT".into());
        }
        Ok(TextAddress(Address::Unix(PathBuf::from(text))))
    }
}

/// A listening text socket.
#[derive(Debug)]
pub enum TextListener {
    /// Where whoever reaches it may ask.
    Tcp(TcpListener),
    /// For the users that the API's socket is for, too.
    Unix(ApiListener),
}

/// Listens; a Unix socket is for its owner, root and `group`, as the API's.
///
/// # Errors
/// When the address is in use or cannot be had.
pub async fn listen(address: &TextAddress, group: Option<&str>) -> anyhow::Result<TextListener> {
    match &address.0 {
        Address::Unix(_) => Ok(TextListener::Unix(listen::listen(&address.0, group).await?)),
        Address::Tcp(_) => match openflow_server::listen(&address.0).await? {
            Listener::Tcp(listener) => {
                let at = listener.local_addr()?;
                if !at.ip().is_loopback() {
                    tracing::warn!(
                        kind = "text-socket-open",
                        "whoever reaches {at} may request VMs: the text protocol has no password and no encryption"
                    );
                }
                Ok(TextListener::Tcp(listener))
            }
            Listener::Unix(_) => anyhow::bail!("{} is no TCP address", address.0),
        },
    }
}

/// Serves a listener until the task is dropped; all that is asked for is `requester`'s.
pub async fn serve(listener: TextListener, requester: String, handle: Handle) {
    let free = Arc::new(Semaphore::new(MOST));
    let service = Service { requester: requester.into(), handle, lines: Arc::default() };
    let mut open = tokio::task::JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = match &listener {
            TextListener::Tcp(l) => l.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            TextListener::Unix(ApiListener::Unix(l, peers)) => match l.accept().await {
                Ok((stream, _)) => {
                    let allowed =
                        stream.peer_cred().is_ok_and(|c| peers.check_client(c.uid(), c.gid()).is_ok());
                    if !allowed {
                        service.log("a client of the text socket may not use it");
                        continue;
                    }
                    Ok(Stream::Unix(stream))
                }
                Err(error) => Err(error),
            },
            TextListener::Unix(ApiListener::Tcp(..)) => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                service.log(&format!("the text socket cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        // One too many is closed at once: it reads an end instead of an answer.
        let Ok(permit) = free.clone().try_acquire_owned() else {
            service.log(&format!("the text socket has {MOST} connections already; more are turned away"));
            continue;
        };
        let service = service.clone();
        open.spawn(async move {
            match stream {
                Stream::Tcp(stream) => service.connection(stream, TIMEOUTS).await,
                Stream::Unix(stream) => service.connection(stream, TIMEOUTS).await,
            }
            drop(permit);
        });
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

#[derive(Clone)]
struct Service {
    requester: Arc<str>,
    handle: Handle,
    lines: Arc<PeerLines<()>>,
}

impl Service {
    fn log(&self, text: &str) {
        if let Some(more) = self.lines.take(()) {
            tracing::warn!(kind = "text-socket", "{}{more}", escaped_to(text, 500));
        }
    }

    /// Answers what a connection asks, one request after the other, until it ends.
    async fn connection(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, timeouts: Timeouts) {
        let mut framer = Framer::default();
        let mut begun: Option<Instant> = None;
        let mut chunk = [0; CHUNK];
        loop {
            match framer.next_line() {
                Ok(Some(text)) => {
                    begun = None;
                    if !self.reply(&mut stream, &text, Ending::Newline, timeouts).await {
                        return;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(bad) => return self.refuse(&mut stream, &bad.to_string(), timeouts).await,
            }
            let wait = match (framer.is_within(), begun) {
                (true, Some(since)) if since.elapsed() >= timeouts.request => {
                    let why = format!("a request took longer than {:?} to be sent", timeouts.request);
                    return self.refuse(&mut stream, &why, timeouts).await;
                }
                (true, _) => timeouts.pause,
                (false, _) => timeouts.idle,
            };
            let read = timeout(wait, stream.read(&mut chunk)).await;
            let has_ended = match read {
                Ok(Ok(0)) => true,
                Ok(Ok(n)) => {
                    begun.get_or_insert_with(Instant::now);
                    framer.push(chunk.get(..n).unwrap_or_default());
                    continue;
                }
                Ok(Err(_)) => return,
                // A pause ends a request, and silence a connection.
                Err(_) => !framer.is_within(),
            };
            begun = None;
            match framer.take_rest() {
                Ok(Some(text)) if !self.reply(&mut stream, &text, Ending::Silence, timeouts).await => return,
                Ok(_) if has_ended => return,
                Ok(_) => {}
                Err(bad) => return self.refuse(&mut stream, &bad.to_string(), timeouts).await,
            }
        }
    }

    /// Answers one request as it was ended; false when the answer is not taken.
    async fn reply(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        text: &str,
        ending: Ending,
        timeouts: Timeouts,
    ) -> bool {
        let mut answer = match self.answer(text).await {
            Ok(answer) => answer,
            Err(why) => {
                self.log(&format!("{} of {}: {why}", escaped_to(text, 80), self.requester));
                "FALSE".to_owned()
            }
        };
        if ending == Ending::Newline {
            answer.push('\n');
        }
        let taken = timeout(timeouts.answer, stream.write_all(answer.as_bytes())).await;
        matches!(taken, Ok(Ok(())))
    }

    async fn refuse(&self, stream: &mut (impl AsyncWrite + Unpin), why: &str, timeouts: Timeouts) {
        self.log(why);
        let _ = timeout(timeouts.answer, stream.write_all(b"FALSE\n")).await;
    }

    /// What a request is answered, or why it is answered `FALSE`.
    async fn answer(&self, text: &str) -> Result<String, String> {
        let request = parse(text).map_err(|bad| bad.to_string())?;
        let snapshot = self.handle.snapshot.load_full();
        let request = match request {
            TextRequest::Vm { resources, class, timeout } => {
                let resources = with_defaults(resources, snapshot.site.vm.default);
                let class = class_of(&snapshot.site, &class)?;
                let requester = Some(self.requester.to_string());
                let request = VmRequest { resources, class, timeout, requester, ..VmRequest::default() };
                Request::RequestVm { request }
            }
            TextRequest::Group(members) => {
                let is_own = |ip| {
                    snapshot.vms.iter().any(|v| {
                        v.record.address == ip
                            && v.record.request.requester.as_deref() == Some(&*self.requester)
                    })
                };
                if let Some(other) = members.iter().find(|ip| !is_own(**ip)) {
                    return Err(format!("{other} is no VM of {}", self.requester));
                }
                Request::CreateGroup { members }
            }
        };
        match self.handle.ask(request).await {
            Some(Response::VmRunning { vm }) => Ok(vm.address.to_string()),
            Some(Response::GroupCreated { .. }) => Ok("TRUE".to_owned()),
            Some(Response::Rejected { rejection }) => Err(rejection.summary),
            Some(Response::Failed { why } | Response::Conflict { why }) => Err(why),
            Some(Response::NotFound { what }) => Err(format!("there is no {what}")),
            Some(_) => Err("the controller gave another answer".to_owned()),
            None => Err("the controller is stopping".to_owned()),
        }
    }
}

/// A disk or a network of 0 is the site's default: old requesters fill in what they do not ask for.
fn with_defaults(asked: Resources, default: Resources) -> Resources {
    let or = |asked: u64, default: u64| if asked == 0 { default } else { asked };
    Resources {
        disk: Bytes(or(asked.disk.0, default.disk.0)),
        net: BitRate(or(asked.net.0, default.net.0)),
        ..asked
    }
}

/// A class by its name, or by its place in the site file from 0 on. A site without classes takes any
/// number for none.
fn class_of(site: &Site, text: &str) -> Result<Option<ClassId>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse::<u16>().ok();
    if site.classes.is_empty() && number.is_some() {
        return Ok(None);
    }
    let named = site.classes.iter().position(|class| class.name == text).and_then(|n| u16::try_from(n).ok());
    let found = named.or(number).filter(|n| usize::from(*n) < site.classes.len());
    found.map(ClassId).map(Some).ok_or_else(|| {
        let names: Vec<&str> = site.classes.iter().map(|class| class.name.as_str()).collect();
        format!("there is no class \"{}\"; there are {}", escaped_to(text, 20), names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::site;

    #[test]
    fn a_path_is_a_unix_socket_and_tcp_is_said() {
        let of = |text: &str| text.parse::<TextAddress>().map(|a| a.0);
        assert_eq!(of("/run/tandem/requests.sock"), Ok(Address::Unix("/run/tandem/requests.sock".into())));
        assert_eq!(of("unix:/run/r"), Ok(Address::Unix("/run/r".into())));
        assert_eq!(of("tcp:127.0.0.1:9000"), Ok(Address::Tcp("127.0.0.1:9000".into())));
        assert!(of("tcp:9000").is_err());
        assert!(of("").is_err());
    }

    #[test]
    fn a_class_is_named_or_counted_from_the_first() {
        let shape = "[topology]\nshape = \"linear\"\nswitches = 2\n";
        let classes = "[[class]]\nname = \"gold\"\nshare = 60\n[[class]]\nname = \"rest\"\nshare = 40\n";
        let with = site::read(&format!("{shape}{classes}"), "s").expect("a site");
        let without = site::read(shape, "s").expect("a site");
        assert_eq!(class_of(&with, "gold"), Ok(Some(ClassId(0))));
        assert_eq!(class_of(&with, "1"), Ok(Some(ClassId(1))));
        assert_eq!(class_of(&with, ""), Ok(None));
        assert!(class_of(&with, "2").is_err());
        assert!(class_of(&with, "nope").is_err_and(|why| why.contains("gold, rest")));
        assert_eq!(class_of(&without, "3"), Ok(None));
        assert!(class_of(&without, "gold").is_err());
    }
}
