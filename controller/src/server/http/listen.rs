//! The API's listeners and connections: bounded in number, in time, and in what each may take.
//!
//! A connection that sends nothing, half a request, or does not take its answer is closed by
//! itself. There are at most so many at once that they never take the descriptors that switches and
//! agents need; one more is answered 503 and closed.

use super::respond::Failure;
use crate::clock::now;
use crate::openflow_server::Address;
use anyhow::{Context, bail};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tandem_agent_protocol::local_peers::{LocalPeers, NotAllowed};
use tandem_api::ApiError;
use tandem_model::rate_limit::RateLimiter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// How long a client may take to send a request's head; also how long it may keep a connection
/// without asking anything.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take no byte of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head (hyper's smallest allowed is 8192).
const HEAD: usize = 16 * 1024;
/// Connections of one listener at most: dashboards and commands of a large team.
const MOST: usize = 512;
/// Of all descriptors, the part that all API listeners together may have.
const PART: u64 = 4;

/// Raises the limit of open files to what the system allows, and says how many that are.
pub fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("the limit of open files cannot be raised ({error}); it is {:?}", limit.current);
            limit.current
        }
    };
    now.unwrap_or(u64::MAX)
}

/// Connections of switches when the process may have `descriptors`: half of them.
pub fn share_of_switches(descriptors: u64) -> usize {
    usize::try_from(descriptors / 2).unwrap_or(usize::MAX)
}

/// Connections that each of `listeners` may have when the process may have `descriptors`.
pub fn share_of(descriptors: u64, listeners: usize) -> usize {
    let part = usize::try_from(descriptors / PART).unwrap_or(usize::MAX);
    (part / listeners.max(1)).clamp(1, MOST)
}

/// A listening socket of the API.
#[derive(Debug)]
pub enum ApiListener {
    /// Loopback, and where it is.
    Tcp(TcpListener, SocketAddr),
    /// A Unix socket, and who may use it.
    Unix(UnixListener, LocalPeers),
}

/// Listens on a loopback address, or on a Unix socket that only its owner (and `group`) can open.
///
/// # Errors
/// When the address is in use, is not on loopback, or there is no such group.
pub async fn listen(address: &Address, group: Option<&str>) -> anyhow::Result<ApiListener> {
    match address {
        Address::Tcp(a) => {
            let mut all = tokio::net::lookup_host(a).await.with_context(|| format!("{a} is no address"))?;
            if !all.all(|s| s.ip().is_loopback()) {
                bail!(
                    "the API speaks without encryption, so it listens on loopback only; write tcp:127.0.0.1:8080 or unix:PATH"
                );
            }
            match crate::openflow_server::listen(address).await? {
                crate::openflow_server::Listener::Tcp(l) => {
                    let at = l.local_addr()?;
                    Ok(ApiListener::Tcp(l, at))
                }
                crate::openflow_server::Listener::Unix(_) => bail!("{address} is no TCP address"),
            }
        }
        Address::Unix(path) => {
            if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder).with_context(|| {
                    format!("cannot make {} for the API's socket; choose another --api", folder.display())
                })?;
            }
            let peers = match group {
                Some(name) => LocalPeers::with_group(name)?,
                None => LocalPeers::same_user(),
            };
            // The socket is made with these rights: there is no moment in which others could
            // connect.
            let listener = {
                let _mask = Mask::only_owner();
                crate::openflow_server::listen(address).await?
            };
            let crate::openflow_server::Listener::Unix(listener) = listener else {
                bail!("{address} is no path")
            };
            if let Some(group) = peers.group() {
                std::os::unix::fs::chown(path, None, Some(group))
                    .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)))
                    .with_context(|| format!("cannot give {} to its group (--api-group)", path.display()))?;
            } else {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            }
            Ok(ApiListener::Unix(listener, peers))
        }
    }
}

/// What new files of this process are made with; as before when it is dropped.
struct Mask(rustix::fs::Mode);

impl Mask {
    fn only_owner() -> Mask {
        Mask(rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177)))
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

/// Serves a listener, `most` connections at once, until the task is dropped.
pub async fn serve(listener: ApiListener, routes: Router, most: usize) {
    let free = Arc::new(Semaphore::new(most));
    let mut lines = RateLimiter::for_log_lines(now());
    // Connections end with this task.
    let mut open = tokio::task::JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = match &listener {
            ApiListener::Tcp(l, _) => l.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                (Stream::Tcp(stream), None)
            }),
            ApiListener::Unix(l, peers) => l.accept().await.map(|(stream, _)| {
                let refused = refused(&stream, peers);
                (Stream::Unix(stream), refused)
            }),
        };
        let (stream, refused) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if lines.take(now()) {
                    tracing::error!("the API cannot accept a connection: {error}");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        match free.clone().try_acquire_owned() {
            Ok(permit) => {
                let routes = match refused {
                    None => routes.clone(),
                    Some(why) => {
                        if lines.take(now()) {
                            tracing::warn!(kind = "api-refused", "a client of the API is turned away: {why}");
                        }
                        turned_away(why)
                    }
                };
                open.spawn(connection(Patient::new(stream), routes, permit));
            }
            Err(_) => {
                if lines.take(now()) {
                    tracing::warn!(
                        kind = "api-full",
                        "the API has {most} connections already; more are turned away"
                    );
                }
                full(stream);
            }
        }
    }
}

/// Why the peer of a Unix socket may not use it.
fn refused(stream: &tokio::net::UnixStream, peers: &LocalPeers) -> Option<String> {
    match stream.peer_cred() {
        Ok(cred) => peers.check_client(cred.uid(), cred.gid()).err().map(|e: NotAllowed| e.to_string()),
        Err(error) => Some(format!("it is not known who you are: {error}")),
    }
}

/// Answers whatever a peer asks that may not.
fn turned_away(why: String) -> Router {
    Router::new().fallback(move || {
        let why = why.clone();
        async move { Failure::from(ApiError::forbidden(why)) }
    })
}

async fn connection(stream: Patient, routes: Router, permit: OwnedSemaphorePermit) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEAD);
    let service = TowerToHyperService::new(routes);
    // A client that goes away or sends nonsense ends its own connection; there is nobody to tell.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    drop(permit);
}

/// Tells one too many to come again, if it listens, and closes.
fn full(stream: Stream) {
    let body = r#"{"error":"there are too many connections to the API; try again in a few seconds","code":"unavailable","advice":"try again in a few seconds"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\nretry-after: 5\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // Fits into a socket's buffer: not waited for.
    let _ = match &stream {
        Stream::Tcp(s) => s.try_write(answer.as_bytes()),
        Stream::Unix(s) => s.try_write(answer.as_bytes()),
    };
}

/// Either kind of stream.
enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

/// A stream whose writes do not wait for ever.
struct Patient {
    stream: Stream,
    waits: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: Stream) -> Patient {
        Patient { stream, waits: None }
    }

    /// Ends a write that has waited too long.
    fn within<T>(&mut self, cx: &mut TaskContext<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waits = None;
            return result;
        }
        let until = || Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIMEOUT));
        let waits = self.waits.get_or_insert_with(until);
        match waits.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, buffer),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.stream {
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, bytes),
            Stream::Unix(s) => Pin::new(s).poll_write(cx, bytes),
        };
        self.within(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(s) => Pin::new(s).poll_flush(cx),
            Stream::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
