//! A VM that changes its server: paused, its interface carried over, let run again.
//!
//! A VM that is a namespace is paused by three things, in this order:
//! 1. what the lab generates for it is held back (its gate is closed),
//! 2. its processes are stopped (SIGSTOP),
//! 3. its port at the server is set down: from then on what comes for it is really lost, and what
//!    its kernel still sends (TCP's retransmissions), too.
//!
//! Its namespace stays where it is, and its interface in it, with addresses, routes, neighbours and
//! open connections. The other end of the veth pair is what is plugged into a server: that goes to
//! the new server's namespace and bridge.

use super::processes;
use crate::control::service::lock;
use crate::node::guest::Guest;
use crate::node::hosts::{Host, Hosts};
use crate::node::processes::Stopped;
use crate::node::traffic::clock;
use crate::node::vms::{ETH0, bridge_number, port_manners, vm_index};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::port_filter::{Kind, Port};
use tandem_model::PortNo;
use tokio::runtime::Handle;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

/// How long the lab's own senders may take to finish the packet that they are sending.
const HOLD: Duration = Duration::from_secs(2);
/// How long a VM's interface may take to have a carrier.
const CARRIER: Duration = Duration::from_secs(5);

/// Open while the VM runs: whoever sends for it holds it for as long as a packet takes.
pub type Gate = Arc<RwLock<()>>;

/// A pause of a VM, for those who count what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Which VM.
    pub vm: u64,
    /// By which migration; one by hand has a number from the top.
    pub migration: u64,
    /// The server that it was on.
    pub from: String,
    /// The server that it ran on afterwards.
    pub to: String,
    /// Its port was set down: nanoseconds on the lab's clock.
    pub paused_ns: u64,
    /// Its port was up, with a carrier.
    pub resumed_ns: u64,
}

/// A VM on its way: all that is needed for it, so that nobody else waits meanwhile.
pub struct VmRelocation {
    id: u64,
    /// Its namespace.
    vm: NetNs,
    inode: u64,
    gate: Gate,
    /// What it has and does.
    pub guest: Arc<Mutex<Guest>>,
    /// The old server's namespace, and where the VM is plugged in there.
    pub from: NetNs,
    from_bridge: u32,
    to: NetNs,
    to_bridge: u32,
    filter: Option<Kind>,
    /// As whom it may speak at the old server, and at the new one.
    old: Port,
    new: Port,
    /// The servers' names.
    pub names: (String, String),
}

/// A VM that is paused.
pub struct Paused {
    gate: OwnedRwLockWriteGuard<()>,
    stopped: Stopped,
    /// When its port was set down.
    pub at: u64,
}

impl Hosts {
    /// Prepares for a VM to be moved; the new server's bridge is made if it is not there yet.
    ///
    /// # Errors
    /// When there is no such VM, server or port.
    pub fn relocation(&self, id: u64, to: usize, port: PortNo) -> anyhow::Result<VmRelocation> {
        let target = self.servers.get(to).with_context(|| format!("there is no server {to}"))?;
        let mut vms = self.vms();
        let to_bridge = vms.bridge(target, to, port)?;
        let Some(vm) = vms.get(id) else { bail!("there is no vm{id}") };
        let from =
            self.servers.get(vm.server).with_context(|| format!("vm{id} is on no server that is here"))?;
        Ok(VmRelocation {
            id,
            vm: vm.ns.duplicate()?,
            inode: vm.inode,
            gate: vm.gate.clone(),
            guest: vm.guest.clone(),
            from: from.ns.duplicate()?,
            from_bridge: bridge_number(vm.port),
            to: target.ns.duplicate()?,
            to_bridge,
            filter: vms.filter().ok(),
            old: vm.identity,
            new: Port { host: target.mac, ..vm.identity },
            names: (from.name.clone(), target.name.clone()),
        })
    }

    /// Notes that a VM is on another server now.
    pub fn arrived(&self, relocation: &VmRelocation, server: usize, port: PortNo) {
        self.vms().placed(relocation.id, server, port, relocation.new);
    }

    /// Server and namespace of a server, for those that connect to it.
    ///
    /// # Errors
    /// When there is none of that number.
    pub fn server(&self, n: usize) -> anyhow::Result<&Host> {
        self.servers.get(n).with_context(|| format!("there is no server {n}"))
    }
}

impl VmRelocation {
    /// Pauses the VM. Must be called within the runtime that carries traffic, on a thread that is
    /// not the runtime's.
    ///
    /// # Errors
    /// When something that it sends does not end, or the kernel refuses; it runs on then.
    pub fn pause(&self) -> anyhow::Result<Paused> {
        let gate = Handle::current()
            .block_on(async { tokio::time::timeout(HOLD, self.gate.clone().write_owned()).await })
            .context("a packet that is being sent for it does not get away")?;
        let stopped = processes::stop(self.inode);
        lock(&self.guest).set_running(false, clock());
        let at = clock();
        let paused = Paused { gate, stopped, at };
        let down = [link::set_up(vm_index(self.id), false)];
        match self.from.run(|| Netlink::open().and_then(|mut n| n.batch(&down))) {
            Ok(Ok(())) => Ok(paused),
            Ok(Err(error)) | Err(error) => {
                let error = anyhow::Error::from(error).context("setting its port down");
                Err(match self.resume_at_old(paused) {
                    Ok(_) => error,
                    Err(worse) => error.context(worse),
                })
            }
        }
    }

    /// Carries a paused VM's interface over to the new server and lets it run there: when it had a
    /// carrier again.
    ///
    /// # Errors
    /// When the kernel refuses; it then runs on the old server, or the error says why not even
    /// that.
    pub fn switch_over(&self, paused: Paused) -> anyhow::Result<u64> {
        let over = [link::move_to(vm_index(self.id), &self.to)];
        // The new server knows it before its interface is there.
        let moved = self
            .to
            .run(|| self.filter.map_or(Ok(()), |f| f.admit(&self.new)))
            .and_then(|r| r)
            .and_then(|()| self.from.run(|| Netlink::open().and_then(|mut n| n.batch(&over))));
        let landed = moved
            .and_then(|r| r)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("carrying its interface over to {}", self.names.1))
            .and_then(|()| self.plug_in(&self.to, self.to_bridge, &self.new));
        match landed {
            Ok(()) => {
                let at = self.let_run(paused);
                self.forget(&self.from, &self.old, &self.names.0);
                Ok(at)
            }
            Err(error) => {
                let back = [link::move_to(vm_index(self.id), &self.from)];
                // It may not have left at all.
                let _ = self.to.run(|| Netlink::open().and_then(|mut n| n.batch(&back)));
                self.forget(&self.to, &self.new, &self.names.1);
                match self.resume_at_old(paused) {
                    Ok(_) => Err(error),
                    Err(worse) => Err(error.context(worse)),
                }
            }
        }
    }

    /// Lets a paused VM run on the old server again: when it had a carrier.
    ///
    /// # Errors
    /// When the kernel refuses; its processes run on without a network then.
    pub fn resume_at_old(&self, paused: Paused) -> anyhow::Result<u64> {
        let plugged = self.plug_in(&self.from, self.from_bridge, &self.old);
        let at = self.let_run(paused);
        plugged.map(|()| at).with_context(|| format!("plugging it into {} again", self.names.0))
    }

    /// Lets nobody speak as this VM at a server where it is not.
    fn forget(&self, place: &NetNs, identity: &Port, name: &str) {
        let Some(filter) = self.filter else { return };
        if let Err(error) = place.run(|| filter.dismiss(identity)).and_then(|r| r) {
            tracing::warn!("{name} still knows vm{}, which is not there: {error}", self.id);
        }
    }

    fn let_run(&self, paused: Paused) -> u64 {
        let at = clock();
        lock(&self.guest).set_running(true, at);
        paused.stopped.go_on();
        drop(paused.gate);
        at
    }

    /// Plugs the VM's port in and waits until both of its ends have a carrier: what is sent before
    /// would be lost.
    fn plug_in(&self, place: &NetNs, bridge: u32, identity: &Port) -> anyhow::Result<()> {
        let index = vm_index(self.id);
        let [flags, learning] = port_manners(index);
        let up = link::set_up(index, true);
        let begin = Instant::now();
        place.run(|| -> anyhow::Result<()> {
            if let Some(filter) = self.filter {
                filter.attach(identity)?;
            }
            let mut netlink = Netlink::open()?;
            netlink.batch(&[link::plug(index, bridge), flags, learning, up.clone()])?;
            self.wait_running(&mut netlink, index, begin)?;
            // The bridge lets packets through when it has been told of the carrier. The kernel
            // tells everybody before it takes another change.
            Ok(netlink.batch(&[up])?)
        })??;
        self.vm.run(|| self.wait_running(&mut Netlink::open()?, ETH0, begin))?
    }

    fn wait_running(&self, netlink: &mut Netlink, index: u32, begin: Instant) -> anyhow::Result<()> {
        while !link::one(netlink, index)?.running {
            if begin.elapsed() > CARRIER {
                bail!("vm{} has no carrier {CARRIER:?} after it was plugged in", self.id);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}
