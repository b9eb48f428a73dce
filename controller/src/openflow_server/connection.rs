//! One connection, from its HELLO to its end: reads and writes at the same time.
//!
//! The switch can always send: reading goes on while bytes wait to be written, and these are
//! bounded. So the two sides cannot wait for each other for ever, as they do when both only write:
//!
//! 1. Bytes for the switch wait in one buffer. Above `FULL` no more effects are taken from the
//!    event loop; they wait in their queue (`line`), and when that overflows, the connection is
//!    closed and the switch synchronised again. Changes wait in the driver for the confirmation of
//!    earlier ones.
//! 2. Replies to the switch (echoes, errors) are added nevertheless; a peer that sends requests and
//!    reads no replies is disconnected at `MOST`.
//! 3. Events wait until the event loop has room; meanwhile nothing is read. The event loop waits
//!    for no connection, so this ends.

use super::line::{Inbox, line};
use super::switchboard::{ConnectionId, Identity};
use super::{Caller, Server, Subject, Wish};
use crate::event_loop::{Input, now};
use anyhow::{Context, bail, ensure};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tandem_model::{Event, text};
use tandem_openflow::framing;
use tandem_switch_driver::{Driver, Output};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;

/// The most bytes of one read.
const READ: usize = 64 * 1024;
/// Waiting bytes above which no more effects are taken: some thousand rules, or frames to a
/// thousand ports.
const FULL: usize = 256 * 1024;
/// Waiting bytes above which the connection is closed: far more than one effect and the replies to
/// many reads.
const MOST: usize = 16 * 1024 * 1024;
/// The most effects taken at once.
const BATCH: usize = 64;
/// How long a peer may read nothing of what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer may take to close its side after an error message: a close with unread bytes
/// could discard that message.
const LINGER: Duration = Duration::from_secs(1);
/// Characters of a reason that are kept.
const WHY: usize = 1000;

/// Serves one switch, from its HELLO to its end. A panic in it counts as a lost connection.
pub async fn connection<S>(stream: S, caller: Caller, server: Server)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let id = server.next_id();
    let Some(wishes) = server.enter(id, &caller) else {
        if let Some(held_back) = server.may_log(&caller, Subject::Refused) {
            tracing::warn!(
                kind = "switch-refused",
                held_back,
                "{}: there is no place for more switches",
                caller.name
            );
        }
        return;
    };
    let conversation = Conversation::new(stream, id, caller.clone(), server.clone(), wishes);
    attend(id, &caller, &server, conversation.run()).await;
}

/// Runs the connection on a task of its own, which may panic, and reports how it ended.
async fn attend(
    id: ConnectionId,
    caller: &Caller,
    server: &Server,
    conversation: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    let ended = tokio::spawn(conversation).await;
    let dpid = server.switch_of(id);
    let name = &caller.name;
    let why = match ended {
        Ok(Ok(())) => "it closed the connection".to_owned(),
        Ok(Err(error)) => text::escaped_to(&format!("{error:#}"), WHY).to_string(),
        Err(error) if error.is_panic() => {
            let why = "the controller has a fault in the code that serves this connection; it is in the log, please report it";
            if server.may_log(caller, Subject::Panic).is_some() {
                tracing::error!(kind = "switch-panic", "{name}: {why}");
            }
            if let Some(switch) = dpid {
                let what = format!("its connection ({name}) was lost: {why}");
                server.tell(vec![Input::Event(Event::SwitchTrouble { switch, what })]).await;
            }
            why.to_owned()
        }
        Err(_) => "the controller is stopping".to_owned(),
    };
    let subject = if dpid.is_some() { Subject::Ended } else { Subject::Refused };
    if let Some(held_back) = server.may_log(caller, subject) {
        match dpid {
            Some(dpid) => {
                tracing::info!(held_back, "switch {dpid} ({name}): a connection has ended: {why}");
            }
            None => tracing::warn!(kind = "switch-refused", held_back, "{name}: refused: {why}"),
        }
    }
    server.leave(id, &why).await;
}

/// Bytes for the switch.
struct Outgoing {
    bytes: BytesMut,
    /// When the peer last read some, or when the first ones came.
    moved: Instant,
}

impl Outgoing {
    fn add(&mut self, bytes: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            self.moved = Instant::now();
        }
        self.bytes.extend_from_slice(bytes);
        bytes.clear();
    }
}

struct Conversation<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    id: ConnectionId,
    caller: Caller,
    server: Server,
    wishes: watch::Receiver<Wish>,
    driver: Driver,
    out: Output,
    outgoing: Outgoing,
    incoming: BytesMut,
    /// Reports that the event loop has to get.
    news: VecDeque<Input>,
    /// True once the switchboard knows the switch.
    is_introduced: bool,
    probes: u32,
    lost: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Conversation<S> {
    fn new(
        stream: S,
        id: ConnectionId,
        caller: Caller,
        server: Server,
        wishes: watch::Receiver<Wish>,
    ) -> Conversation<S> {
        let (reader, writer) = tokio::io::split(stream);
        let mut out = Output::default();
        let driver = Driver::undecided(server.0.cfg, &caller.name, now(), &mut out);
        Conversation {
            reader,
            writer,
            id,
            caller,
            server,
            wishes,
            driver,
            out,
            outgoing: Outgoing { bytes: BytesMut::new(), moved: Instant::now() },
            incoming: BytesMut::with_capacity(READ),
            news: VecDeque::new(),
            is_introduced: false,
            probes: 0,
            lost: 0,
        }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let result = self.talk().await;
        // The driver's last output (an error message) is still sent, and its events reported; then
        // the connection ends.
        self.outgoing.add(&mut self.out.bytes);
        self.pass_on(&mut None);
        for input in std::mem::take(&mut self.news) {
            let _ = self.server.0.event_loop.send(input).await;
        }
        if result.is_err() && !self.outgoing.bytes.is_empty() {
            let _ = tokio::time::timeout(LINGER, self.last_words()).await;
        }
        result
    }

    async fn talk(&mut self) -> anyhow::Result<()> {
        let (line, mut inbox) = line(self.wishes.clone());
        let mut line = Some(line);
        let event_loop = self.server.0.event_loop.clone();
        let mut batch = Vec::new();
        loop {
            self.outgoing.add(&mut self.out.bytes);
            ensure!(self.outgoing.bytes.len() <= MOST, "it asks and asks, and takes in no answer");
            self.introduce().await;
            self.pass_on(&mut line);
            self.say_what_was_lost(&inbox);
            self.incoming.reserve(READ);
            let has_news = !self.news.is_empty();
            let is_writing = !self.outgoing.bytes.is_empty();
            let has_room = self.outgoing.bytes.len() < FULL && self.driver.backlog() < FULL;
            let wait = self.driver.next_deadline().since(now());
            tokio::select! {
                written = self.writer.write(&self.outgoing.bytes), if is_writing => {
                    let count = written?;
                    ensure!(count > 0, "it takes in nothing any more");
                    self.outgoing.bytes.advance(count);
                    self.outgoing.moved = Instant::now();
                }
                place = event_loop.reserve(), if has_news => {
                    let place = place.context("the controller is stopping")?;
                    if let Some(input) = self.news.pop_front() {
                        place.send(input);
                    }
                    while !self.news.is_empty() && let Ok(place) = event_loop.try_reserve() {
                        if let Some(input) = self.news.pop_front() {
                            place.send(input);
                        }
                    }
                }
                read = self.reader.read_buf(&mut self.incoming), if !has_news => {
                    if read? == 0 {
                        ensure!(self.incoming.is_empty(), "the connection ended within a message");
                        return Ok(());
                    }
                    self.take_in()?;
                }
                count = inbox.effects.recv_many(&mut batch, BATCH), if has_room => {
                    if count == 0 {
                        // The event loop drops the line as soon as another connection is active;
                        // the reason was decided before, and has to be sent.
                        self.follow()?;
                        let why = "another connection has taken the switch over";
                        self.driver.dismiss(why, &mut self.out);
                        bail!("{why}");
                    }
                    for effect in batch.drain(..) {
                        self.driver.execute(effect, now(), &mut self.out);
                    }
                }
                () = inbox.overflow.cancelled() => {
                    bail!("it takes in too little of what it is told; it is told all anew when it is back");
                }
                changed = self.wishes.changed() => {
                    changed.context("the controller is stopping")?;
                    self.follow()?;
                }
                () = tokio::time::sleep_until(self.outgoing.moved + WRITE_TIMEOUT), if is_writing => {
                    bail!("it takes in nothing any more");
                }
                () = tokio::time::sleep(wait), if !has_news => self.on_time().await?,
            }
        }
    }

    /// Handles due deadlines. Received bytes are read first: after a pause of this process, silence
    /// proves nothing.
    async fn on_time(&mut self) -> anyhow::Result<()> {
        let read = tokio::time::timeout(Duration::ZERO, self.reader.read_buf(&mut self.incoming)).await;
        if let Ok(read) = read {
            ensure!(read? > 0, "it closed the connection");
            self.take_in()?;
        }
        Ok(self.driver.on_deadline(now(), &mut self.out)?)
    }

    /// Handles all whole messages.
    fn take_in(&mut self) -> anyhow::Result<()> {
        loop {
            let message = match framing::next(&self.incoming) {
                Ok(Some((message, _))) => message,
                Ok(None) => return Ok(self.driver.on_partial(&self.incoming, &mut self.out)?),
                Err(error) => {
                    self.driver.on_unframed(&self.incoming, &mut self.out);
                    return Err(error.into());
                }
            };
            let length = message.len();
            self.driver.on_message(message, now(), &mut self.out)?;
            self.incoming.advance(length);
        }
    }

    /// Executes the switchboard's order.
    fn follow(&mut self) -> anyhow::Result<()> {
        let wish = self.wishes.borrow_and_update().clone();
        if let Some(why) = wish.close {
            self.driver.dismiss(&why, &mut self.out);
            bail!("{why}");
        }
        if wish.probes != self.probes {
            self.probes = wish.probes;
            self.driver.probe(now(), &mut self.out);
        }
        self.driver.take_duty(wish.duty, now(), &mut self.out);
        Ok(())
    }

    /// Introduces the switch to the switchboard, once.
    async fn introduce(&mut self) {
        if self.is_introduced {
            return;
        }
        let (Some(dpid), Some(caps)) = (self.driver.dpid(), self.driver.caps()) else { return };
        let identity = Identity {
            peer: self.caller.peer,
            name: self.caller.name.clone(),
            description: caps.description.clone(),
            ports: self.driver.ports().map(|p| (p.port, (p.name.clone(), p.mac))).collect(),
        };
        self.is_introduced = true;
        self.server.arrive(self.id, dpid, identity).await;
    }

    /// Adds the driver's events to the reports for the event loop; before the first one, the queue
    /// of the switch's effects.
    fn pass_on(&mut self, line: &mut Option<super::SwitchLine>) {
        for warning in std::mem::take(&mut self.out.warnings) {
            let text = match self.driver.dpid() {
                Some(dpid) => format!("switch {dpid}: {warning}"),
                None => format!("{}: {warning}", self.caller.name),
            };
            self.server.warn(&self.caller, &text);
        }
        let Some(dpid) = self.driver.dpid() else { return };
        for event in std::mem::take(&mut self.out.events) {
            if let Some(line) = line.take() {
                self.news.push_back(Input::Connected(dpid, self.id, line));
            }
            self.news.push_back(Input::Switch(dpid, self.id, event));
        }
    }

    fn say_what_was_lost(&mut self, inbox: &Inbox) {
        let lost = inbox.lost.load(Ordering::Relaxed);
        if lost != self.lost {
            let text = format!(
                "{}: {} frames and polls found no place in its queue",
                self.caller.name,
                lost - self.lost
            );
            self.lost = lost;
            self.server.warn(&self.caller, &text);
        }
    }

    /// Writes the remaining bytes, closes this side and discards received bytes, until the peer
    /// closes too.
    async fn last_words(&mut self) -> std::io::Result<()> {
        let Conversation { reader, writer, outgoing, .. } = self;
        let mut dropped = [0; 4096];
        let write = async {
            writer.write_all(&outgoing.bytes).await?;
            writer.shutdown().await
        };
        let read = async {
            while reader.read(&mut dropped).await? > 0 {}
            Ok::<(), std::io::Error>(())
        };
        tokio::try_join!(write, read).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::super::switchboard::Peer;
    use super::*;
    use tandem_model::{Dpid, Mac, PortNo};
    use tokio::sync::mpsc;

    /// A panic in a parser takes the switch down and is reported to the operator; other connections
    /// are unaffected.
    #[tokio::test]
    async fn a_panic_is_a_lost_connection_and_a_notice() {
        let (event_loop, mut inputs) = mpsc::channel(16);
        let cfg = tandem_switch_driver::Config {
            poll_period: Duration::from_secs(1),
            lldp_period: None,
            secret: 1,
            packet_ins: 1,
            session: tandem_openflow::session::Config::default(),
        };
        let server = Server::new(cfg, [Dpid(7)], 16, event_loop);
        let caller = Caller { peer: Peer::Unknown, name: "test".into() };
        let id = server.next_id();
        let _wishes = server.enter(id, &caller).expect("a place");
        let identity = Identity {
            peer: caller.peer,
            name: "test".into(),
            description: "a switch".into(),
            ports: [(PortNo(1), ("p1".to_owned(), Mac([2; 6])))].into(),
        };
        server.arrive(id, Dpid(7), identity).await;
        attend(id, &caller, &server, async { panic!("index out of bounds") }).await;
        let told = inputs.recv().await.expect("a notice");
        assert!(
            matches!(&told, Input::Event(Event::SwitchTrouble { switch: Dpid(7), what }) if what.contains("fault")),
            "{told:?}"
        );
        let down = inputs.recv().await.expect("the end");
        assert!(matches!(&down, Input::Disconnected(Dpid(7), gone, _) if *gone == id), "{down:?}");
        assert_eq!(server.switch_of(id), None);
        assert!(server.state().wishes.is_empty(), "nothing of it is left");
    }
}
