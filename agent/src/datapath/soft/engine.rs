//! One switch on one thread: it waits for packets, controllers, time-outs and orders, and handles
//! one event after the other.
//!
//! ```text
//! ports --batch--> Switch::on_packet --transmit--> ports   (the hot path: a batch comes, each
//!                                                           is decided, what leaves is sent)
//! controllers --messages--> Switch::on_message --send--> controllers
//! datapath --orders--> ports and controllers that are wanted
//! ```
//!
//! Nothing blocks except the wait for the next event: a controller that does not answer, or a port
//! that is gone, delays nothing else.

use super::connection::{Connection, Target};
use super::dump::{SwitchDump, flows};
use super::flow_checkpoint;
use super::io::PacketIo;
use super::runtime::{EnginePort, PendingBytes, Runtime, Wait};
use crate::local_socket;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tandem_agent_protocol::local_peers::LocalPeers;
use tandem_linux::packet::Batch;
use tandem_model::Time;
use tandem_model::rate_limit::RateLimiter;
use tandem_openflow::switch::{Config, Switch};

/// The source of an event: its kind in the high half, its number in the low one.
const WAKE: u64 = 0;
const LISTENER: u64 = 1 << 32;
const CONNECTION: u64 = 2 << 32;
const PORT: u64 = 3 << 32;
const KIND: u64 = !0 << 32;

/// Messages that report or clear counters: OFPT_FLOW_MOD, OFPT_STATS_REQUEST of 1.0,
/// OFPT_MULTIPART_REQUEST of 1.3.
const COUNTED: [u8; 3] = [14, 16, 18];

/// Stack of an engine's thread, which makes no deep calls.
const STACK: usize = 512 << 10;
/// Events fetched at once.
const EVENTS: usize = 64;
/// The most management clients at the same time, besides the controllers.
const MANAGEMENT_CLIENTS: usize = 16;
/// Orders that wait for the switch's thread. They come from two threads (the worker's and the one
/// that watches links), which wait for most of them; when the queue is full, a sender waits too.
const ORDERS: usize = 16;
/// The MTU that batches have room for at least.
const MTU: u32 = 1500;

enum Order {
    Ports(Vec<EnginePort>, mpsc::SyncSender<Vec<(u32, String)>>),
    Controllers(Vec<Target>),
    Dump(mpsc::SyncSender<SwitchDump>),
    Keep(u64, mpsc::SyncSender<Option<(u64, Vec<u8>)>>),
    End,
}

/// A running switch. Dropping it ends the switch.
pub struct Engine {
    orders: mpsc::SyncSender<Order>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// The engine's thread has ended, which happens only by a panic.
#[derive(Debug, thiserror::Error)]
#[error(
    "the switch's engine has ended; the agent's log says why, and starting the agent again starts it again"
)]
pub struct Ended;

impl Engine {
    /// Starts a switch without ports and controllers, in the thread's network namespace. A
    /// permitted client that connects to `management` can use OpenFlow like a controller
    /// (`ovs-ofctl dump-flows unix:SOCKET`). It starts with `flows`, as returned by
    /// [`Engine::kept`].
    ///
    /// When the kernel refuses a thread or descriptors.
    pub fn start(
        name: &str,
        cfg: Config,
        io: Box<dyn PacketIo>,
        management: Option<(UnixListener, LocalPeers)>,
        flows: Vec<u8>,
    ) -> io::Result<Engine> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        if let Some((listener, _)) = &management {
            listener.set_nonblocking(true)?;
            epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        }
        let (orders, receiver) = mpsc::sync_channel(ORDERS);
        let own = wake.clone();
        let label = name.to_owned();
        let run = move || {
            let clock = Clock::start();
            let runtime = Runtime::new(io, clock.now());
            let mut core = Core {
                name: label,
                switch: Switch::new(cfg),
                runtime,
                batch: Batch::new(MTU),
                mtu: MTU,
                epoll,
                wake: own,
                orders: receiver,
                management,
                refusals: RateLimiter::for_log_lines(clock.now()),
                clock,
                next_offload_poll: None,
            };
            flow_checkpoint::restore(&mut core.switch, &flows, core.runtime.now);
            core.run();
        };
        // The kernel shows 15 bytes of a thread's name.
        let thread = std::thread::Builder::new().name(name.chars().take(15).collect()).stack_size(STACK);
        Ok(Engine { orders, wake, thread: Some(thread.spawn(run)?) })
    }

    fn order(&self, order: Order) -> Result<(), Ended> {
        self.orders.send(order).map_err(|_| Ended)?;
        let _ = self.wake.write(1);
        Ok(())
    }

    fn ask<T>(&self, order: impl FnOnce(mpsc::SyncSender<T>) -> Order) -> Result<T, Ended> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.order(order(sender))?;
        receiver.recv().map_err(|_| Ended)
    }

    /// Sets its ports. Returns the faults by port; such a port has no link, and is tried again with
    /// the next call.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn set_ports(&self, ports: Vec<EnginePort>) -> Result<Vec<(u32, String)>, Ended> {
        self.ask(|reply| Order::Ports(ports, reply))
    }

    /// Sets its controllers.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn set_controllers(&self, targets: Vec<Target>) -> Result<(), Ended> {
        self.order(Order::Controllers(targets))
    }

    /// False if its thread has ended.
    pub fn runs(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Its present state.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn dump(&self) -> Result<SwitchDump, Ended> {
        self.ask(Order::Dump)
    }

    /// The flows for the next process, with the generation of the tables; `None` if they are
    /// unchanged since `last`.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn kept(&self, last: u64) -> Result<Option<(u64, Vec<u8>)>, Ended> {
        self.ask(|reply| Order::Keep(last, reply))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.order(Order::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A clock in nanoseconds since the epoch that never goes back: the system's time at the start, and
/// the time passed since.
struct Clock(Time, Instant);

impl Clock {
    fn start() -> Clock {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock(Time::ZERO + epoch, Instant::now())
    }

    fn now(&self) -> Time {
        self.0 + self.1.elapsed()
    }
}

struct Core {
    name: String,
    switch: Switch,
    runtime: Runtime,
    batch: Batch,
    mtu: u32,
    epoll: Epoll,
    wake: Arc<EventFd>,
    orders: mpsc::Receiver<Order>,
    management: Option<(UnixListener, LocalPeers)>,
    /// Limits log lines about management clients that are refused.
    refusals: RateLimiter,
    clock: Clock,
    /// When the packet I/O has to be polled next.
    next_offload_poll: Option<Time>,
}

impl Core {
    fn run(&mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    tracing::error!("switch {}: waiting for events: {error}; it stops here", self.name);
                    return;
                }
            };
            self.runtime.now = self.clock.now();
            let mut told = false;
            for event in events.iter().take(count) {
                let number = event.data() & !KIND;
                match event.data() & KIND {
                    PORT => self.packets(number as u32),
                    CONNECTION => told |= self.controller(number),
                    LISTENER => self.accept_management_client(),
                    _ => {
                        let _ = self.wake.read();
                        while let Ok(order) = self.orders.try_recv() {
                            if matches!(order, Order::End) {
                                return;
                            }
                            self.execute(order);
                            told = true;
                        }
                    }
                }
            }
            told |= self.timers();
            if told || self.next_offload_poll.is_some_and(|t| t <= self.runtime.now) {
                self.next_offload_poll = self.runtime.io.poll_offload(&mut self.switch, self.runtime.now);
            }
            self.runtime.io.flush(self.runtime.now);
            self.finish();
        }
    }

    /// Forwards the packets of a port: the hot path.
    fn packets(&mut self, port: u32) {
        self.runtime.now = self.clock.now();
        self.batch.clear();
        if let Err(error) = self.runtime.io.receive(port, &mut self.batch, self.runtime.now) {
            // The interface is down or gone; the watch of interfaces reports that.
            tracing::debug!("switch {} port {port}: {error}", self.name);
        }
        for (in_port, frame) in self.batch.frames() {
            self.switch.on_packet(in_port, frame, self.runtime.now, &mut self.runtime);
        }
        self.runtime.io.flush(self.runtime.now);
    }

    /// Time until the next deadline.
    fn patience(&self) -> EpollTimeout {
        let dialling = self.runtime.slots.iter().filter_map(|s| s.connection.next_deadline());
        let next = dialling.chain(self.switch.next_deadline()).chain(self.next_offload_poll).min();
        let Some(next) = next else { return EpollTimeout::NONE };
        let left = next.since(self.clock.now());
        // Rounded up, so that the thread does not wake before the deadline.
        let left = (left + Duration::from_micros(999)).min(Duration::from_secs(3600));
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::ZERO)
    }

    /// Handles the switch's time-outs and due connections. True when the tables may have changed.
    fn timers(&mut self) -> bool {
        let now = self.runtime.now;
        for n in 0..self.runtime.slots.len() {
            if self.runtime.slots[n].connection.next_deadline().is_some_and(|t| t <= now) {
                let opened = self.runtime.slots[n].connection.advance(now);
                if opened {
                    self.opened(n);
                }
            }
        }
        let due = self.switch.next_deadline().is_some_and(|t| t <= now);
        if due {
            self.runtime.io.refresh_counters(&mut self.switch, now);
            self.switch.on_deadline(now, &mut self.runtime);
        }
        due
    }

    fn opened(&mut self, n: usize) {
        let now = self.runtime.now;
        // The switch's HELLO is buffered until the connection has its number.
        let mut first = PendingBytes::default();
        let id = self.switch.connected(now, &mut first);
        let Some(slot) = self.runtime.slots.get_mut(n) else { return };
        slot.connection.open(id, now);
        let _ = slot.connection.put(&first.0);
        if let Some(target) = slot.connection.target() {
            tracing::info!("switch {}: connected to {target}", self.name);
        }
    }

    fn accept_management_client(&mut self) {
        let Some((listener, peers)) = &self.management else { return };
        let Ok((stream, _)) = listener.accept() else { return };
        if let Err(why) = local_socket::check_peer(&stream, peers) {
            if self.refusals.take(self.runtime.now) {
                tracing::warn!("switch {}: its management socket: {why}", self.name);
            }
            return;
        }
        let clients = self.runtime.slots.iter().filter(|s| s.connection.target().is_none()).count();
        if clients >= MANAGEMENT_CLIENTS {
            return;
        }
        let now = self.runtime.now;
        let mut first = PendingBytes::default();
        let id = self.switch.connected(now, &mut first);
        match Connection::of(stream, id) {
            Ok(mut connection) => {
                let _ = connection.put(&first.0);
                self.runtime.add(connection);
            }
            Err(_) => self.switch.closed(id),
        }
    }

    /// Handles an event on a connection. True when messages were executed.
    fn controller(&mut self, key: u64) -> bool {
        let Some(n) = self.runtime.slots.iter().position(|s| s.key == key) else { return false };
        let now = self.runtime.now;
        let connection = &mut self.runtime.slots[n].connection;
        let Some(id) = connection.id() else {
            if connection.advance(now) {
                self.opened(n);
            }
            return false;
        };
        let ended = connection.fill().err();
        let (bytes, whole) = connection.take();
        let mut rest = &bytes[..];
        let mut any = false;
        while let Ok(Some((message, after))) = tandem_openflow::framing::next(rest) {
            rest = after;
            if self.runtime.over.iter().any(|(over, _)| *over == id) {
                break;
            }
            if message.get(1).is_some_and(|kind| COUNTED.contains(kind)) {
                self.runtime.io.refresh_counters(&mut self.switch, now);
            }
            if let Err(why) = self.switch.on_message(id, message, now, &mut self.runtime) {
                self.runtime.over.push((id, why.to_string()));
            }
            any = true;
        }
        if any && let Some(slot) = self.runtime.by_id(id) {
            slot.connection.is_good();
        }
        match (whole, ended) {
            (Err(error), _) => self.runtime.over.push((id, error.to_string())),
            (_, Some(error)) => self.runtime.over.push((id, error.to_string())),
            _ => {}
        }
        any
    }

    /// Sends what waits for controllers, closes connections that have ended, and registers new
    /// ones.
    fn finish(&mut self) {
        for n in 0..self.runtime.slots.len() {
            let slot = &mut self.runtime.slots[n];
            if let (Some(id), Err(error)) = (slot.connection.id(), slot.connection.flush()) {
                self.runtime.over.push((id, error.to_string()));
            }
        }
        for (id, why) in std::mem::take(&mut self.runtime.over) {
            self.switch.closed(id);
            let now = self.runtime.now;
            let Some(slot) = self.runtime.by_id(id) else { continue };
            slot.connection.close(&why, now);
            if let Some(target) = slot.connection.target() {
                tracing::info!("switch {}: no longer connected to {target}: {why}", self.name);
            }
        }
        self.runtime.slots.retain(|s| !s.connection.is_over());
        for (key, wait) in self.runtime.waits() {
            let flags = |write| {
                if write { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN }
            };
            let outcome = match wait {
                Wait::Add(fd, write) => self.epoll.add(fd, EpollEvent::new(flags(write), CONNECTION | key)),
                Wait::Change(fd, write) => {
                    self.epoll.modify(fd, &mut EpollEvent::new(flags(write), CONNECTION | key))
                }
            };
            if let Err(error) = outcome {
                tracing::warn!("switch {}: waiting for a controller: {error}", self.name);
            }
        }
    }

    fn execute(&mut self, order: Order) {
        match order {
            Order::Ports(ports, reply) => {
                let _ = reply.send(self.set_ports(ports));
            }
            Order::Controllers(targets) => self.runtime.dial(&targets),
            Order::Dump(reply) => {
                let _ = reply.send(self.dump());
            }
            Order::Keep(last, reply) => {
                let generation = self.switch.pipeline().generation();
                let changed = generation != last;
                let _ = reply.send(changed.then(|| (generation, flow_checkpoint::write(&self.switch))));
            }
            Order::End => {}
        }
    }

    fn set_ports(&mut self, ports: Vec<EnginePort>) -> Vec<(u32, String)> {
        let now = self.runtime.now;
        let io: Vec<_> = ports.iter().map(|p| p.io.clone()).collect();
        let before: Vec<_> = self.runtime.ports.values().map(|p| p.io.clone()).collect();
        let mut refused = Vec::new();
        let sorted = |mut list: Vec<super::io::IoPort>| {
            list.sort_by_key(|p| p.number);
            list
        };
        if sorted(io.clone()) != before || !self.runtime.refused.is_empty() {
            for (_, fd) in self.runtime.io.descriptors() {
                let _ = self.epoll.delete(fd);
            }
            refused = self.runtime.io.set_ports(&io);
            for (number, fd) in self.runtime.io.descriptors() {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, PORT | u64::from(number));
                if let Err(error) = self.epoll.add(fd, event) {
                    refused.push((number, format!("waiting for its packets: {error}")));
                }
            }
            self.runtime.refused = refused.iter().map(|(n, _)| *n).collect();
        }
        let mtu = ports.iter().map(|p| p.io.mtu).max().unwrap_or(MTU).max(MTU);
        if mtu != self.mtu {
            (self.mtu, self.batch) = (mtu, Batch::new(mtu));
        }
        let gone: Vec<u32> =
            self.runtime.ports.keys().copied().filter(|n| !ports.iter().any(|p| p.io.number == *n)).collect();
        for number in gone {
            self.runtime.ports.remove(&number);
            self.switch.unport(number, now, &mut self.runtime);
        }
        for port in ports {
            let number = port.io.number;
            if self.runtime.ports.get(&number) != Some(&port) {
                self.runtime.ports.insert(number, port.clone());
                self.switch.port(port.port, now, &mut self.runtime);
            }
        }
        refused
    }

    fn dump(&self) -> SwitchDump {
        let controllers = self.runtime.slots.iter().filter_map(|s| {
            let target = s.connection.target()?.to_string();
            let trouble = match s.connection.id() {
                Some(_) => String::new(),
                None if s.connection.trouble.is_empty() => "dialling".into(),
                None => s.connection.trouble.clone(),
            };
            Some((target, trouble))
        });
        SwitchDump {
            controllers: controllers.collect(),
            about: self.runtime.io.about(),
            flows: flows(&self.switch),
        }
    }
}
