//! The OpenFlow server: listens on TCP and Unix sockets; each connection is a task with a driver.
//!
//! A task reads as much as there is, handles all whole messages in it, and writes once. Memory per connection is bounded: the
//! receive buffer holds at most one message beyond what was read, and a full hub queue stops the reading.

use crate::hub::{Input, now};
use anyhow::Context;
use bytes::{Buf, BytesMut};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tandem_model::{Dpid, Effect};
use tandem_openflow::framing;
use tandem_switch_driver::{Cfg, Driver, Output};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

/// Bytes that one read takes at most.
const READ: usize = 64 * 1024;
/// How long a peer may take to accept what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer that was told what is wrong may take to close its side: closing with bytes unread could cost it the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Where to listen or to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `tcp:127.0.0.1:6653`.
    Tcp(String),
    /// `unix:/run/tandem/openflow.sock`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;
    fn from_str(s: &str) -> Result<Address, String> {
        match s.split_once(':') {
            Some(("tcp", rest)) if rest.contains(':') => Ok(Address::Tcp(rest.to_owned())),
            Some(("unix", path)) if !path.is_empty() => Ok(Address::Unix(path.into())),
            _ => Err(format!("{s:?} is no address; write tcp:127.0.0.1:6653 or unix:/path/to/socket")),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(a) => write!(f, "tcp:{a}"),
            Address::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// Listens, taking over a Unix socket whose owner is gone.
///
/// # Errors
/// When the address is in use or cannot be had.
pub async fn listen(address: &Address) -> anyhow::Result<Listener> {
    let taken = || {
        format!(
            "cannot listen on {address}; is another `tandem serve` running? Stop it, or choose another address"
        )
    };
    match address {
        Address::Tcp(a) => Ok(Listener::Tcp(TcpListener::bind(a).await.with_context(taken)?)),
        Address::Unix(path) => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                anyhow::bail!(taken());
            }
            if std::fs::symlink_metadata(path)
                .is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()))
            {
                std::fs::remove_file(path).with_context(taken)?;
            }
            Ok(Listener::Unix(UnixListener::bind(path).with_context(taken)?))
        }
    }
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Accepts switches until the hub is gone.
pub async fn accept(listener: Listener, cfg: Cfg, hub: mpsc::Sender<Input>) {
    loop {
        let hub = hub.clone();
        if hub.is_closed() {
            return;
        }
        let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        match &listener {
            Listener::Tcp(l) => match l.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(connection(stream, format!("tcp:{peer}"), id, cfg, hub));
                }
                Err(error) => pause(&error).await,
            },
            Listener::Unix(l) => match l.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(stream, format!("unix#{id}"), id, cfg, hub));
                }
                Err(error) => pause(&error).await,
            },
        }
    }
}

/// Out of file descriptors, say: tried again soon, without spinning.
async fn pause(error: &std::io::Error) {
    tracing::error!("cannot accept a connection: {error}");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// One switch, from its HELLO to its end.
pub async fn connection<S>(stream: S, peer: String, id: u64, cfg: Cfg, hub: mpsc::Sender<Input>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (effects, mut inbox) = mpsc::unbounded_channel();
    let mut known = None;
    let why = match converse(stream, &peer, cfg, &hub, &effects, &mut inbox, id, &mut known).await {
        Ok(()) => "it closed the connection".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    match known {
        Some(dpid) => {
            tracing::info!("switch {dpid} ({peer}): the connection has ended: {why}");
            let _ = hub.send(Input::Disconnected(dpid, id, why)).await;
        }
        None => tracing::warn!("{peer}: refused: {why}"),
    }
}

#[expect(clippy::too_many_arguments, reason = "the two halves of one function: this one may use `?`")]
async fn converse<S>(
    mut stream: S,
    peer: &str,
    cfg: Cfg,
    hub: &mpsc::Sender<Input>,
    effects: &mpsc::UnboundedSender<Effect>,
    inbox: &mut mpsc::UnboundedReceiver<Effect>,
    id: u64,
    known: &mut Option<Dpid>,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut out = Output::default();
    let mut driver = Driver::new(cfg, peer, now(), &mut out);
    let mut buffer = BytesMut::with_capacity(READ);
    let mut sender = Some(effects.clone());
    loop {
        let result = pump(&mut driver, &mut out, &mut stream, hub, &mut sender, id, known).await;
        result?;
        let wait = driver.next_deadline().since(now());
        buffer.reserve(READ);
        let mut batch = Vec::new();
        let verdict = tokio::select! {
            read = stream.read_buf(&mut buffer) => match read? {
                0 if buffer.is_empty() => return Ok(()),
                0 => anyhow::bail!("the connection ended within a message"),
                _ => drain(&mut driver, &mut buffer, &mut out),
            },
            count = inbox.recv_many(&mut batch, 64) => {
                if count == 0 {
                    anyhow::bail!("another connection has taken the switch over");
                }
                batch.into_iter().for_each(|effect| driver.carry_out(effect, now(), &mut out));
                Ok(())
            }
            () = tokio::time::sleep(wait) => driver.on_deadline(now(), &mut out).map_err(Into::into),
        };
        if let Err(error) = verdict {
            // What the driver has still to say (an error message) is said, then the connection ends.
            let said = !out.bytes.is_empty();
            let _ = pump(&mut driver, &mut out, &mut stream, hub, &mut sender, id, known).await;
            if said {
                let _ = tokio::time::timeout(LINGER, last_words(&mut stream)).await;
            }
            return Err(error);
        }
    }
}

/// Closes our side and drops what still comes, until the peer closes too.
async fn last_words<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut dropped = [0; 4096];
    while stream.read(&mut dropped).await? > 0 {}
    Ok(())
}

fn drain(driver: &mut Driver, buffer: &mut BytesMut, out: &mut Output) -> anyhow::Result<()> {
    loop {
        let message = match framing::next(buffer) {
            Ok(Some((message, _))) => message,
            Ok(None) => return Ok(driver.on_beginning(buffer, out)?),
            Err(error) => {
                driver.on_unframed(buffer, out);
                return Err(error.into());
            }
        };
        let length = message.len();
        driver.on_message(message, now(), out)?;
        buffer.advance(length);
    }
}

/// Hands on what the driver made: bytes to the switch, events to the hub.
async fn pump<S: AsyncWrite + Unpin>(
    driver: &mut Driver,
    out: &mut Output,
    stream: &mut S,
    hub: &mpsc::Sender<Input>,
    sender: &mut Option<mpsc::UnboundedSender<Effect>>,
    id: u64,
    known: &mut Option<Dpid>,
) -> anyhow::Result<()> {
    if !out.bytes.is_empty() {
        let written = tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&out.bytes)).await;
        out.bytes.clear();
        written.context("it takes in nothing any more")??;
    }
    if known.is_none()
        && let Some(dpid) = driver.dpid()
        && let Some(sender) = sender.take()
    {
        *known = Some(dpid);
        hub.send(Input::Connected(dpid, id, sender)).await.context("the controller is stopping")?;
    }
    for warning in out.warnings.drain(..) {
        match driver.dpid() {
            Some(dpid) => tracing::warn!("switch {dpid}: {warning}"),
            None => tracing::warn!("{}: {warning}", driver.peer()),
        }
    }
    for event in out.events.drain(..) {
        hub.send(Input::Event(event)).await.context("the controller is stopping")?;
    }
    Ok(())
}
