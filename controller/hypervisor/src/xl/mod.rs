//! Plain Xen: `xl` on hosts that are reached by the system's ssh. Written for Xen 4.17 with a Linux
//! dom0; older versions as far as their `xl` has the same commands.
//!
//! Requirements of a host: root by ssh, `xl` and its daemons, a bridge per uplink of the server,
//! and for each image its kernel and ramdisk or its disk's source. Python 3 (Debian's Xen tools
//! depend on it) for `migration = "tcp"`, for rates and for cold moves; qemu for disks that are
//! files. The driver installs: `/etc/xen/scripts/vif-tandem` (connects interfaces),
//! `/run/tandem-xl` (the relay, configurations, migrations under way), `/var/lib/tandem` (cold
//! moves under way, stored specifications of VMs, the owner of the host), and the disks that it
//! clones.
//!
//! - ssh, host: a host and its connection; parse: the output of `xl`; tag: which domains are ours
//! - kept: records for later controllers
//! - guest, lifecycle: a VM on one host; load: resource usage
//! - live, cold: moves; job: their processes on the hosts; resolution, resolve: their results
//!
//! Unknown are: a live move's downtime (`xl` does not report it), memory that is dirtied while no
//! migration runs, the counters of disks that qemu serves. CPU time has a resolution of tenths of
//! seconds. `xl` has no option for the requested downtime and rounds: Xen ends pre-copy after 5
//! rounds or below 50 pages.

#[doc(hidden)]
pub mod answers;
mod cold;
mod guest;
mod host;
mod job;
mod kept;
mod lifecycle;
mod live;
mod load;
pub mod parse;
mod resolution;
mod resolve;
pub mod section;
mod ssh;
mod tag;
#[cfg(test)]
mod tests;

use super::owner::Owner;
use super::{
    Capabilities, DiscoveredVm, Hypervisor, MigrateError, MigrateOrder, MigrationControl, MigrationKey,
    Moved, ResolveOutcome, ServerLoad, VmmError, async_trait,
};
use crate::config::Image;
use host::HostState;
use section::{Host, Transport};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tag::Tag;
use tandem_model::{MigrationMode, PortNo, Resources, ServerId, Time, VmId, VmSpec};

/// All hosts with `xl`: any of them can move a VM to any other.
pub struct Xl {
    hosts: BTreeMap<ServerId, HostState>,
    servers: Vec<ServerId>,
    images: Vec<Image>,
}

impl Xl {
    /// The driver; does not connect yet. `site` is the site's name, which marks its VMs.
    ///
    /// When no folder can be created for the connections' sockets.
    pub fn new(site: &str, hosts: &[Host], images: &[Image]) -> std::io::Result<Xl> {
        let tag = Tag::of(site);
        let servers = hosts.iter().map(|h| h.server).collect();
        let hosts = hosts
            .iter()
            .map(|h| Ok((h.server, HostState::new(h.clone(), tag)?)))
            .collect::<std::io::Result<_>>()?;
        Ok(Xl { hosts, servers, images: images.to_vec() })
    }

    fn host(&self, server: ServerId) -> Result<&HostState, VmmError> {
        self.hosts.get(&server).ok_or_else(|| VmmError::Refused {
            what: format!("asking {server}"),
            why: "it is not a host with xl in the hypervisors file".to_owned(),
        })
    }
}

#[async_trait]
impl Hypervisor for Xl {
    fn name(&self) -> &str {
        "xl"
    }

    fn servers(&self) -> &[ServerId] {
        &self.servers
    }

    fn capabilities(&self, server: ServerId) -> Capabilities {
        let relay = self.hosts.get(&server).and_then(HostState::tools).is_some_and(|t| t.relay);
        Capabilities {
            live: true,
            cold: relay,
            storage: false,
            cancel: true,
            progress: true,
            rate: relay,
            resize: true,
            loads: true,
            addresses: false,
        }
    }

    async fn claim(
        &self,
        server: ServerId,
        owner: &Owner,
        take_over: bool,
    ) -> Result<Option<Owner>, VmmError> {
        self.claim_host(self.host(server)?, owner, take_over).await
    }

    async fn prepare(&self, server: ServerId) -> Result<(), VmmError> {
        self.host(server)?.repaired().await.map(drop)
    }

    async fn tag(&self, server: ServerId, vm: VmId, spec: &VmSpec) -> Result<(), VmmError> {
        self.host(server)?.keep(vm, spec).await
    }

    async fn list(&self, server: ServerId) -> Result<Vec<DiscoveredVm>, VmmError> {
        let seen = self.host(server)?.seen().await?;
        let found = |(o, spec): (host::Ours, Option<Box<VmSpec>>)| {
            let state = o.state();
            DiscoveredVm { vm: o.vm, server, state, name: o.domain.name, spec }
        };
        Ok(seen.into_iter().map(found).collect())
    }

    async fn allocate(
        &self,
        server: ServerId,
        vm: VmId,
        spec: &VmSpec,
    ) -> Result<Option<Ipv4Addr>, VmmError> {
        self.start(self.host(server)?, vm, spec).await?;
        Ok(spec.fixed_address.map(|f| f.address))
    }

    async fn destroy(&self, server: ServerId, vm: VmId, placed_at: Option<Time>) -> Result<(), VmmError> {
        self.stop(self.host(server)?, vm, placed_at).await
    }

    async fn resize(&self, server: ServerId, vm: VmId, resources: Resources) -> Result<(), VmmError> {
        self.resize_domain(self.host(server)?, vm, resources).await
    }

    async fn attach(&self, server: ServerId, vm: VmId, uplink: PortNo) -> Result<(), VmmError> {
        self.plug(self.host(server)?, vm, uplink).await
    }

    /// Unknown to dom0; the switches learn it.
    async fn address(&self, server: ServerId, vm: VmId) -> Result<Option<Ipv4Addr>, VmmError> {
        self.host(server)?.running(vm).await.map(|_| None)
    }

    async fn load(&self, server: ServerId) -> Result<ServerLoad, VmmError> {
        load::load(self.host(server)?).await
    }

    async fn can_migrate(&self, order: &MigrateOrder) -> Result<(), VmmError> {
        let key = order.key;
        let (source, target) = (self.host(key.from)?, self.host(key.to)?);
        let refused = |why: String| VmmError::Refused {
            what: format!("moving {} from {} to {}", key.vm, source.host.name, target.host.name),
            why,
        };
        let domain = source.running(key.vm).await?;
        if target.of(key.vm).await?.iter().any(|o| o.state() != super::FoundState::Dying) {
            return Err(refused("there is a domain of it there already; stop that first".to_owned()));
        }
        let image = guest::image(&self.images, &target.host.name, order.spec.image.as_deref())?;
        guest::config(target.tag, &target.host, image, key.vm, &order.spec)?;
        self.have_files(target, image).await?;
        for host in [source, target] {
            let relay = host.tools().is_some_and(|t| t.relay);
            let needs = target.host.transport == Transport::Tcp || order.manner == MigrationMode::Cold;
            if needs && !relay {
                return Err(refused(format!(
                    "{} has no python3, which carries it; install it, or move live with migration = \"ssh\"",
                    host.host.name
                )));
            }
        }
        self.enough_memory(target, key.vm, domain.memory_mib).await?;
        if order.manner == MigrationMode::Live
            && let Some((_, path, _)) = self.local_disk(source, target, order).await?
        {
            return Err(refused(format!(
                "its disk {path} is not reached there under the same path; move it cold, which copies it, or keep disks on storage that both hosts share"
            )));
        }
        Ok(())
    }

    async fn migrate(
        &self,
        order: &MigrateOrder,
        mut control: MigrationControl,
    ) -> Result<Moved, MigrateError> {
        match order.manner {
            MigrationMode::Live => self.migrate_live(order, &mut control).await,
            MigrationMode::Cold => self.migrate_cold(order, &mut control).await,
        }
    }

    async fn resolve(&self, key: MigrationKey, stop: bool) -> ResolveOutcome {
        self.resolve_migration(key, stop).await
    }
}
