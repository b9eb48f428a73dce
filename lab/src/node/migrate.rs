//! A migration in the emulated world: receiver at the new server, the transfer, the pause, the
//! interface.

use crate::control::service::lock;
use crate::node::hosts::Hosts;
use crate::node::traffic::clock;
use crate::node::vm_relocation::{Pause, Paused, VmRelocation};
use crate::precopy::Failed;
use crate::precopy::memory::Memory;
use crate::precopy::transfer::{self, Control, Expected, How, PORT, Source, Step};
use anyhow::Context;
use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tandem_agent_protocol::hypervisor::{self as wire, report::Report as What};
use tandem_model::PortNo;

/// Pauses that are remembered.
const REMEMBERED: usize = 10_000;

/// Servers that take VMs in, and the pauses that there were.
#[derive(Debug, Default)]
pub struct Movers {
    receivers: Mutex<BTreeSet<usize>>,
    expected: Arc<Expected>,
    pauses: Mutex<Vec<Pause>>,
}

/// A VM that is being sent.
struct Sent<'a> {
    relocation: &'a VmRelocation,
    order: &'a wire::Migrate,
    say: &'a dyn Fn(What),
    written: f64,
    paused: Option<Paused>,
}

impl Source for Sent<'_> {
    fn written(&mut self) -> f64 {
        let now = lock(&self.relocation.guest).dirtied(clock());
        now - std::mem::replace(&mut self.written, now)
    }

    fn pause(&mut self) -> anyhow::Result<()> {
        self.paused = Some(self.relocation.pause()?);
        // A cold one is silent for the whole of it; that it is the last of it is said when that is
        // so.
        if self.order.live {
            (self.say)(What::Suspended(wire::Suspended { migration: self.order.migration }));
        }
        Ok(())
    }

    fn step(&mut self, step: Step) {
        // Once it is said to be suspended, that is what whoever comes back has to hear.
        if self.order.live && self.paused.is_some() {
            return;
        }
        (self.say)(What::MigrationProgress(wire::MigrationProgress {
            migration: self.order.migration,
            round: step.round,
            sent_bytes: step.sent,
            remaining_bytes: step.remaining,
            rate_bit_per_s: step.rate,
            dirty_bit_per_s: step.dirty,
        }));
    }
}

impl Movers {
    /// The pauses that there were, the oldest first.
    pub fn pauses(&self) -> Vec<Pause> {
        lock(&self.pauses).clone()
    }

    /// Lets a server take VMs in.
    fn receive_at(&self, hosts: &Hosts, server: usize) -> anyhow::Result<()> {
        let mut there = lock(&self.receivers);
        if there.contains(&server) {
            return Ok(());
        }
        let host = hosts.server(server)?;
        let listener = host
            .ns
            .run(transfer::listen)?
            .with_context(|| format!("listening at port {PORT} of {}", host.name))?;
        // Ends with the lab.
        let expected = self.expected.clone();
        std::thread::Builder::new()
            .name("receiver".into())
            .spawn(move || transfer::serve(&listener, &expected))?;
        there.insert(server);
        Ok(())
    }

    /// Moves a VM: how long it was silent, in nanoseconds. Must be called as
    /// [`VmRelocation::pause`].
    ///
    /// # Errors
    /// With where it runs then, and why it was not moved.
    pub fn migrate(
        &self,
        hosts: &Hosts,
        order: &wire::Migrate,
        control: &Control,
        say: &dyn Fn(What),
    ) -> Result<u64, Failed> {
        let stays = |error: anyhow::Error| Failed { at: Some(order.from), why: format!("{error:#}") };
        let to = order.to as usize;
        let port = PortNo(order.uplink_port);
        let relocation = hosts.relocation(order.vm, to, port).map_err(stays)?;
        self.receive_at(hosts, to).map_err(stays)?;
        let address = SocketAddrV4::new(hosts.server(to).map_err(stays)?.address, PORT);
        let (ram, disk, working_set) = {
            let guest = lock(&relocation.guest);
            (guest.ram, guest.behaviour.disk_written, guest.behaviour.working_set)
        };
        let bytes = if order.live { ram } else { ram.saturating_add(disk) };
        let memory =
            Memory::new(order.vm ^ 0x7461_6e64_656d, bytes, working_set).map_err(|e| stays(e.into()))?;
        let key = self.expected.announce(memory.pages());
        let how = How {
            key,
            downtime: Duration::from_nanos(order.downtime_ns),
            rounds: if order.live { order.rounds.max(1) } else { 0 },
        };
        let mut source = Sent { relocation: &relocation, order, say, written: 0.0, paused: None };
        let sent = relocation
            .from
            .run(|| transfer::connect(address))
            .map_err(anyhow::Error::from)
            .and_then(|stream| Ok(transfer::send(stream?, memory, &how, control, &mut source)?));
        self.expected.forget(key);
        let paused = source.paused.take();
        match (sent, paused) {
            (Ok(_), Some(paused)) => {
                if !order.live {
                    say(What::Suspended(wire::Suspended { migration: order.migration }));
                }
                let paused_at = paused.at;
                let resumed = relocation.switch_over(paused).map_err(stays)?;
                hosts.arrived(&relocation, to, port);
                let mut pauses = lock(&self.pauses);
                pauses.push(Pause {
                    vm: order.vm,
                    migration: order.migration,
                    from: relocation.names.0.clone(),
                    to: relocation.names.1.clone(),
                    paused_ns: paused_at,
                    resumed_ns: resumed,
                });
                let excess = pauses.len().saturating_sub(REMEMBERED);
                pauses.drain(..excess);
                Ok(resumed.saturating_sub(paused_at))
            }
            (Ok(_), None) => Err(stays(anyhow::anyhow!("it was sent without having been paused"))),
            (Err(error), Some(paused)) => Err(stays(match relocation.resume_at_old(paused) {
                Ok(_) => error,
                Err(worse) => error.context(worse),
            })),
            (Err(error), None) => Err(stays(error)),
        }
    }
}
