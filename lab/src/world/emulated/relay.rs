//! Carries the switches' connections out of the lab's network namespace, to a controller that
//! anybody may run: `--controller tcp:ADDRESS:PORT`.
//!
//! ```text
//! switch --> 127.0.0.1:6653 in the lab --> relay --> a socket made outside --> tcp:ADDRESS:PORT
//!                                               \--> unix:PATH
//! ```
//! A TCP socket stays in the namespace that it was made in, so `tandem-lab up` makes as many as there
//! are switches and hands them down ([`tandem_linux::tcp`]). No process stays outside.
//!
//! A switch is connected to the relay at once, and waits there while the controller does not answer:
//! the relay tries again and again, for as long as the switch stays. What it says goes into
//! [`Relay::trouble`].

use crate::control::peer_lines::PeerLines;
use crate::control::service::lock;
use anyhow::{Context, bail};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tandem_linux::tcp;
use tandem_model::Site;
use tokio::io::{AsyncRead, AsyncWrite, Interest, copy, split};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::Semaphore;

/// Where the switches find the relay, inside of the lab: OpenFlow's port (IANA).
pub const INSIDE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 6653);

/// The same in a switch's words.
pub fn target() -> String {
    let (host, port) = INSIDE;
    format!("tcp:{host}:{port}")
}

/// Between two attempts to reach a controller that does not answer.
const AGAIN: Duration = Duration::from_millis(500);
/// How long an attempt may take: a machine that is gone says nothing at all.
const ATTEMPT: Duration = Duration::from_secs(5);
/// What the other direction of a connection may still say when one has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Sockets beyond one for each switch: a connection that ends holds one while its successor begins.
const SPARE: usize = 8;

/// A controller's address: `tcp:ADDRESS:PORT`, as Open vSwitch has it. A name's first IPv4 address is
/// taken, else its first.
///
/// # Errors
/// When it is no such address.
pub fn parse(text: &str) -> anyhow::Result<SocketAddr> {
    let wanted = "write tcp:ADDRESS:PORT, as in tcp:192.0.2.1:6653 or tcp:[2001:db8::1]:6653";
    let Some(address) = text.strip_prefix("tcp:") else { bail!("{text:?} is no TCP address; {wanted}") };
    let found = address
        .to_socket_addrs()
        .with_context(|| format!("looking for the controller {text:?}; {wanted}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    let first = found.first().with_context(|| format!("{address:?} is the name of no machine; {wanted}"))?;
    if first.port() == 0 {
        bail!("nothing listens on port 0; {wanted}");
    }
    Ok(*first)
}

/// Sockets that are made outside, for the switches of a site.
///
/// # Errors
/// When there are too many descriptors.
pub fn sockets(site: &Site, to: SocketAddr) -> anyhow::Result<Vec<OwnedFd>> {
    let switches = site.topology.switches.iter().filter(|s| !s.legacy).count();
    Ok((0..switches + SPARE).map(|_| tcp::unconnected(to)).collect::<Result<_, _>>()?)
}

/// Where the controller is.
#[derive(Debug)]
pub enum Controller {
    /// At an address outside, by sockets that are of there.
    Outside(SocketAddr, Vec<OwnedFd>),
    /// At a Unix socket.
    Unix(PathBuf),
}

/// What is known of the controller.
#[derive(Debug, Default)]
struct Seen {
    /// Connections that are up.
    connected: usize,
    /// Attempts since the last one that succeeded.
    failed: u64,
    /// Why the last one failed.
    why: String,
}

/// Connections that are free to be made, and the word of how they go.
struct Shared {
    controller: String,
    place: Place,
    seen: Mutex<Seen>,
    lines: PeerLines,
}

enum Place {
    Outside { address: SocketAddr, free: Mutex<Vec<OwnedFd>>, count: Semaphore },
    Unix(PathBuf),
}

/// A running relay.
pub struct Relay(Arc<Shared>);

impl Relay {
    /// Starts it, in the network namespace of the calling thread, whose loopback interface is up.
    /// `controller` is what people call it.
    ///
    /// # Errors
    /// When no thread or port can be had.
    pub fn start(controller: &str, place: Controller) -> anyhow::Result<Relay> {
        let place = match place {
            Controller::Unix(path) => Place::Unix(path),
            Controller::Outside(address, sockets) => {
                let count = Semaphore::new(sockets.len());
                Place::Outside { address, free: Mutex::new(sockets), count }
            }
        };
        let seen = Mutex::default();
        let lines = PeerLines::default();
        let shared = Arc::new(Shared { controller: controller.to_owned(), place, seen, lines });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (host, port) = INSIDE;
        let listener = runtime
            .block_on(TcpListener::bind(INSIDE))
            .with_context(|| format!("listening for switches on {host}:{port}"))?;
        let own = shared.clone();
        std::thread::Builder::new()
            .name("relay".into())
            .spawn(move || runtime.block_on(serve(own, listener)))?;
        Ok(Relay(shared))
    }

    /// What is said while the controller does not answer.
    pub fn trouble(&self) -> Option<String> {
        let seen = lock(&self.0.seen);
        (seen.failed > 0 && seen.connected == 0).then(|| {
            format!(
                "no controller answers at {}: {} (tried {} times, and again every {} ms)",
                self.0.controller,
                seen.why,
                seen.failed,
                AGAIN.as_millis()
            )
        })
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((switch, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move { shared.carry(switch).await });
            }
            Err(error) => {
                shared.lines.warn(|| format!("a switch is not let out: {error}"));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

impl Shared {
    /// Carries a switch's connection until one of both ends it.
    async fn carry(&self, mut switch: TcpStream) {
        let _ = switch.set_nodelay(true);
        match &self.place {
            Place::Unix(path) => {
                let connect = || async { UnixStream::connect(path).await };
                if let Some(mut controller) = self.reach(&switch, connect).await {
                    self.both(&mut switch, &mut controller).await;
                }
            }
            Place::Outside { address, free, count } => {
                // Never closed: there is always somebody who waits, and nobody who closes it.
                let Ok(_permit) = count.acquire().await else { return };
                let Some(socket) = lock(free).pop() else { return };
                let connect = || async {
                    tcp::disconnect(&socket).map_err(std::io::Error::other)?;
                    // A second hold on the same socket, which goes with the connection.
                    let held = std::net::TcpStream::from(socket.try_clone()?);
                    held.set_nonblocking(true)?;
                    TcpSocket::from_std_stream(held).connect(*address).await
                };
                if let Some(mut controller) = self.reach(&switch, connect).await {
                    let _ = controller.set_nodelay(true);
                    self.both(&mut switch, &mut controller).await;
                }
                // Now, not when it is needed next: the controller would take the switch to be there.
                if let Err(error) = tcp::disconnect(&socket) {
                    self.lines.warn(|| format!("socket {}: {error}", socket.as_raw_fd()));
                }
                lock(free).push(socket);
            }
        }
    }

    /// Connects, however long it takes; `None` when the switch has gone meanwhile.
    async fn reach<S, F: Future<Output = std::io::Result<S>>>(
        &self,
        switch: &TcpStream,
        connect: impl Fn() -> F,
    ) -> Option<S> {
        loop {
            let why = match tokio::time::timeout(ATTEMPT, connect()).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("it does not answer within {ATTEMPT:?}"),
            };
            {
                let mut seen = lock(&self.seen);
                seen.failed += 1;
                seen.why = why;
            }
            tokio::time::sleep(AGAIN).await;
            // What it has said already is still to be read, and does not hide that it has gone.
            let gone = tokio::time::timeout(Duration::ZERO, switch.ready(Interest::READABLE)).await;
            if matches!(gone, Ok(Ok(ready)) if ready.is_read_closed()) || matches!(gone, Ok(Err(_))) {
                return None;
            }
        }
    }

    async fn both<S: AsyncRead + AsyncWrite + Unpin>(&self, switch: &mut TcpStream, controller: &mut S) {
        {
            let mut seen = lock(&self.seen);
            seen.connected += 1;
            seen.failed = 0;
        }
        let (mut from_switch, mut to_switch) = switch.split();
        let (mut from_controller, mut to_controller) = split(controller);
        let up = copy(&mut from_switch, &mut to_controller);
        let down = copy(&mut from_controller, &mut to_switch);
        tokio::pin!(up, down);
        // Half of an OpenFlow connection is of no use to anybody.
        tokio::select! {
            _ = &mut up => { let _ = tokio::time::timeout(LAST_WORDS, &mut down).await; }
            _ = &mut down => {}
        }
        lock(&self.seen).connected -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_open_vswitch() {
        let good = [
            ("tcp:127.0.0.1:6653", "127.0.0.1:6653"),
            ("tcp:[::1]:6633", "[::1]:6633"),
            ("tcp:localhost:1", "127.0.0.1:1"),
        ];
        for (text, address) in good {
            assert_eq!(parse(text).expect(text).to_string(), address);
        }
        for text in
            ["unix:/run/x", "tcp:", "tcp:127.0.0.1", "tcp:127.0.0.1:0", "tcp:127.0.0.1:65536", "tcp: :1"]
        {
            let why = format!("{:#}", parse(text).expect_err(text));
            assert!(why.contains("tcp:ADDRESS:PORT"), "{text}: {why}");
        }
    }
}
