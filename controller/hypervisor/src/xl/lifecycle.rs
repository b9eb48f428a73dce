//! The life of a VM on one host: starting, stopping, resizing, moving its interface.

use super::Xl;
use super::guest::{self, CLONE, REMOVE_DISK};
use super::host::{HostState, Ours};
use super::kept;
use super::ssh::one_line;
use super::tag::name;
use crate::config::{Boot, Image};
use crate::{FoundState, VmmError};
use tandem_model::VmSpec;
use tandem_model::{Bytes, PortNo, Resources, Time, VmId};

/// Memory that Xen needs for a domain besides its own: page tables, rings (MiB).
const OVERHEAD_MIB: u64 = 4;
/// The exit status of a script that misses a file (sysexits.h, EX_NOINPUT).
const NO_FILE: i32 = 66;

/// The path of a VM's configuration.
pub(crate) fn config_path(host: &HostState, vm: VmId) -> String {
    format!("{}/guests/{}.cfg", host.host.run, name(vm))
}

impl Xl {
    pub(crate) async fn start(&self, host: &HostState, vm: VmId, spec: &VmSpec) -> Result<(), VmmError> {
        let mut left: Vec<Ours> = Vec::new();
        for ours in host.meant(vm, Some(spec.origin.placed_at)).await? {
            match ours.state() {
                FoundState::Running => return Ok(()),
                _ => left.push(ours),
            }
        }
        let image = guest::image(&self.images, &host.host.name, spec.image.as_deref())?;
        let text = guest::config(host.tag, &host.host, image, vm, spec)?;
        self.enough_memory(host, vm, guest::memory_mib(spec)).await?;
        for ours in left {
            host.destroy_domain(&ours.domain).await?;
        }
        let result = self.create(host, image, vm, spec, &text).await;
        if result.is_err() {
            // Everything is removed; the reason of the failure matters more than an error of that.
            if let Err(also) = self.remove(host, vm).await {
                tracing::warn!("{vm} did not start on {} and left something: {also}", host.host.name);
            }
        }
        result
    }

    pub(crate) async fn enough_memory(&self, host: &HostState, vm: VmId, mib: u64) -> Result<(), VmmError> {
        let free = host.info().await?.free_mib;
        let needed = mib + OVERHEAD_MIB;
        if free >= needed {
            return Ok(());
        }
        let host = host.host.name.clone();
        Err(VmmError::NoMemory { host, vm, needed: Bytes::mib(needed), free: Bytes::mib(free) })
    }

    async fn create(
        &self,
        host: &HostState,
        image: &Image,
        vm: VmId,
        spec: &VmSpec,
        text: &str,
    ) -> Result<(), VmmError> {
        self.have_files(host, image).await?;
        if let Some(disk) = &image.disk {
            let (path, size) = (guest::disk_path(disk, vm), spec.resources.disk.0.to_string());
            let what = format!("cloning {} for {vm}", disk.source);
            let arguments = [disk.source.as_str(), &path, guest::clone_word(disk), &size];
            let output = host.run(&what, CLONE, &arguments, &[], host.host.times.start).await?;
            if output.status == NO_FILE {
                return Err(self.no_template(host, image, one_line(&output.stderr)));
            }
            host.good(&what, output)?;
        }
        let path = config_path(host, vm);
        host.put(&path, text, "0600").await?;
        // Stored before the domain exists, so that its request is never unknown.
        host.keep(vm, spec).await?;
        let what = format!("starting {vm}");
        let output =
            host.run(&what, "exec xl create -q \"$1\"", &[&path], &[], host.host.times.start).await?;
        let low = output.status != 0
            && ["failed to free memory", "Not enough memory", "Cannot allocate memory", "out of memory"]
                .iter()
                .any(|w| output.stderr.contains(w));
        if low {
            // By now Xen's free memory is exact; if it suffices, Xen's own error is reported.
            self.enough_memory(host, vm, guest::memory_mib(spec)).await?;
        }
        host.good(&what, output).map(drop)
    }

    /// Checks that the kernel and ramdisk are on the host.
    pub(crate) async fn have_files(&self, host: &HostState, image: &Image) -> Result<(), VmmError> {
        let Boot::Kernel { kernel, ramdisk, .. } = &image.boot else { return Ok(()) };
        let mut files = vec![kernel.as_str()];
        files.extend(ramdisk.as_deref());
        let script = "for f in \"$@\"; do [ -r \"$f\" ] || { echo \"there is no $f\" >&2; exit 66; }; done";
        let what = "looking for the image's files";
        let output = host.run(what, script, &files, &[], host.host.times.command).await?;
        if output.status == NO_FILE {
            return Err(self.no_template(host, image, one_line(&output.stderr)));
        }
        host.good(what, output).map(drop)
    }

    fn no_template(&self, host: &HostState, image: &Image, why: String) -> VmmError {
        let known = self.images.iter().filter(|i| i.name != image.name).map(|i| i.name.clone()).collect();
        VmmError::NoSuchTemplate { host: host.host.name.clone(), image: image.name.clone(), why, known }
    }

    /// Shuts a VM down, then forces it off, then removes its files: the VM that was created for
    /// that request.
    pub(crate) async fn stop(
        &self,
        host: &HostState,
        vm: VmId,
        placed_at: Option<Time>,
    ) -> Result<(), VmmError> {
        for ours in host.meant(vm, placed_at).await? {
            if ours.state() == FoundState::Running {
                let limit = host.host.times.shutdown;
                // A guest without the driver ignores the request; then, and when it takes too long,
                // it is forced off.
                let script = r#"xl shutdown "$1" >/dev/null 2>&1 || exit 0
while [ "$(xl domid "$2" 2>/dev/null)" = "$1" ]; do
  case $(xl list "$1" 2>/dev/null | tail -n 1) in *---s*) exit 0 ;; esac
  sleep 0.5
done"#;
                let id = ours.domain.id.to_string();
                let what = format!("shutting {vm} down");
                match host.run(&what, script, &[&id, &ours.domain.name], &[], limit).await {
                    Ok(_) | Err(VmmError::TimeOut { .. }) => {}
                    Err(why) => return Err(why),
                }
            }
        }
        self.remove(host, vm).await
    }

    /// Removes all domains, disks and files of a VM from a host.
    pub(crate) async fn remove(&self, host: &HostState, vm: VmId) -> Result<(), VmmError> {
        for ours in host.of(vm).await? {
            host.destroy_domain(&ours.domain).await?;
        }
        self.remove_files(host, vm).await
    }

    /// Removes its disks, whatever its image, and its configuration.
    pub(crate) async fn remove_files(&self, host: &HostState, vm: VmId) -> Result<(), VmmError> {
        for disk in self.images.iter().filter_map(|i| i.disk.as_ref()) {
            let path = guest::disk_path(disk, vm);
            let what = format!("removing {path}");
            host.ask(&what, REMOVE_DISK, &[&path, guest::clone_word(disk)]).await?;
        }
        let kept = kept::path(host, vm).unwrap_or_default();
        let script = "rm -f \"$1\"; [ -z \"$2\" ] || rm -f \"$2\"";
        host.ask("removing its configuration", script, &[&config_path(host, vm), &kept]).await.map(drop)
    }

    pub(crate) async fn resize_domain(
        &self,
        host: &HostState,
        vm: VmId,
        r: Resources,
    ) -> Result<(), VmmError> {
        let domain = host.running(vm).await?;
        let (id, memory, vcpus) = (domain.id.to_string(), r.ram.0.div_ceil(1 << 20).max(1), r.cpu.max(1));
        if memory > domain.memory_mib {
            self.enough_memory(host, vm, memory - domain.memory_mib).await?;
        }
        // xl returns 0 also when the maximum is reached: the result is read back.
        let script = r#"path=/local/domain/$1
most=$(xenstore-read "$path/memory/static-max") || exit 1
[ $(($2 * 1024)) -le "$most" ] || { echo "it was made for at most $((most / 1024)) MiB of memory; write max_ram in its image before it is made" >&2; exit 65; }
cpus=$(xenstore-list "$path/cpu" 2>/dev/null | wc -l)
[ "$3" -le "$cpus" ] || { echo "it was made for at most $cpus CPUs; write max_cpu in its image before it is made" >&2; exit 65; }
before=$(xenstore-read "$path/memory/target")
xl mem-set "$1" "$2" || exit 1
xl vcpu-set "$1" "$3" || { xl mem-set "$1" "${before}k"; exit 1; }"#;
        let what = format!("resizing {vm}");
        let arguments = [id, memory.to_string(), vcpus.to_string()];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = host.run(&what, script, &arguments, &[], host.host.times.command).await?;
        if output.status == 65 {
            let what = format!("{what} on {}", host.host.name);
            return Err(VmmError::Refused { what, why: one_line(&output.stderr) });
        }
        host.good(&what, output).map(drop)
    }

    pub(crate) async fn plug(&self, host: &HostState, vm: VmId, uplink: PortNo) -> Result<(), VmmError> {
        let what = format!("plugging {vm} into port {uplink} of {}", host.host.name);
        let bridge = host.host.uplinks.iter().find(|(port, _)| *port == uplink).map(|(_, b)| b.as_str());
        let Some(bridge) = bridge else {
            let why = "the hypervisors file has no bridge for it; write one in `bridges`".to_owned();
            return Err(VmmError::Refused { what, why });
        };
        if host.host.vif_script.is_some() {
            let why = "its host has a vif script of its own, and only ours can move an interface; leave vif_script out";
            return Err(VmmError::Refused { what, why: why.to_owned() });
        }
        let domain = host.running(vm).await?;
        let vif = format!("vif{}.0", domain.id);
        host.ask(&what, "exec bash \"$1\" plug \"$2\" \"$3\"", &[guest::VIF_SCRIPT, &vif, bridge])
            .await
            .map(drop)
    }
}
