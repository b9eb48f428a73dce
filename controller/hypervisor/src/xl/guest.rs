//! A guest's configuration and its disk: input for `xl create` and for the host's shell.

use super::section::Host;
use super::tag::{Tag, name};
use crate::VmmError;
use crate::config::{Boot, CloneBy, Disk, Image};
use crate::placeholders::fill;
use tandem_model::VmId;
use tandem_model::VmSpec;

/// The path of our vif script.
pub(crate) const VIF_SCRIPT: &str = "/etc/xen/scripts/vif-tandem";

/// Clones `$1` to `$2` by method `$3`, with `$4` bytes. An existing clone is kept, as the VM has
/// run with it; an unfinished one is made again.
pub(crate) const CLONE: &str = r#"set -e
[ -e "$2" ] && exit 0
[ -e "$1" ] || { echo "there is no $1" >&2; exit 66; }
case "$3" in
lvm-snapshot)
  size=$(blockdev --getsize64 "$1")
  [ "$4" -gt "$size" ] && size=$4
  lvcreate --yes --snapshot --name "${2##*/}" --size "${size}B" "$1" >/dev/null ;;
qcow2)
  mkdir -p "${2%/*}"
  size=$(qemu-img info --output=json "$1" | sed -n 's/.*"virtual-size": *\([0-9]*\).*/\1/p' | head -n 1)
  format=$(qemu-img info --output=json "$1" | sed -n 's/.*"format": *"\([a-z0-9]*\)".*/\1/p' | head -n 1)
  [ "$4" -gt "${size:-0}" ] && size=$4
  qemu-img create -q -f qcow2 -b "$1" -F "$format" "$2.part" "$size" && mv "$2.part" "$2" ;;
copy)
  mkdir -p "${2%/*}"
  cp --sparse=always "$1" "$2.part"
  size=$(stat -c %s "$2.part")
  [ "$4" -gt "$size" ] && truncate -s "$4" "$2.part"
  mv "$2.part" "$2" ;;
esac"#;

/// Removes the disk `$1`, which method `$2` has made.
pub(crate) const REMOVE_DISK: &str = r#"case "$2" in
lvm-snapshot) [ ! -e "$1" ] || lvremove --yes "$1" >/dev/null ;;
*) rm -f "$1" "$1.part" ;;
esac"#;

/// The image of a request, or the default one.
pub(crate) fn image<'i>(
    images: &'i [Image],
    host: &str,
    wanted: Option<&str>,
) -> Result<&'i Image, VmmError> {
    let found = match wanted {
        Some(name) => images.iter().find(|i| i.name == name),
        None => images.iter().find(|i| i.default),
    };
    let bootable = |i: &Image| i.disk.is_some() || matches!(i.boot, Boot::Kernel { .. });
    found.filter(|i| bootable(i)).ok_or_else(|| VmmError::NoSuchTemplate {
        host: host.to_owned(),
        image: wanted.unwrap_or("").to_owned(),
        why: if found.is_some() { "it is for XAPI only".to_owned() } else { String::new() },
        known: images.iter().filter(|i| bootable(i)).map(|i| i.name.clone()).collect(),
    })
}

/// The path of a VM's own disk.
pub(crate) fn disk_path(disk: &Disk, vm: VmId) -> String {
    let folder = disk.folder.trim_end_matches('/');
    match disk.clone {
        CloneBy::LvmSnapshot => format!("{folder}/{}", name(vm)),
        CloneBy::Qcow2 => format!("{folder}/{}.qcow2", name(vm)),
        CloneBy::Copy => format!("{folder}/{}.img", name(vm)),
    }
}

/// The method's name for [`CLONE`] and [`REMOVE_DISK`].
pub(crate) fn clone_word(disk: &Disk) -> &'static str {
    match disk.clone {
        CloneBy::LvmSnapshot => "lvm-snapshot",
        CloneBy::Qcow2 => "qcow2",
        CloneBy::Copy => "copy",
    }
}

/// Memory in MiB, rounded up: the unit of `xl`.
pub(crate) fn memory_mib(spec: &VmSpec) -> u64 {
    spec.resources.ram.0.div_ceil(1 << 20).max(1)
}

/// Quotes a text for the configuration; characters that would end it are left out (xl.cfg(5) has no
/// escape for them).
fn quoted(text: &str) -> String {
    let safe: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\'' | '\\')).collect();
    format!("\"{safe}\"")
}

/// A VM's configuration on a host (xl.cfg(5)).
pub(crate) fn config(
    tag: Tag,
    host: &Host,
    image: &Image,
    vm: VmId,
    spec: &VmSpec,
) -> Result<String, VmmError> {
    let refused = |why: String| VmmError::Refused { what: format!("starting {vm} on {}", host.name), why };
    let uuid = tag.uuid(vm).ok_or_else(|| refused("its id has more than 48 bits".to_owned()))?;
    let (_, bridge) = host.uplinks.iter().find(|(port, _)| *port == spec.uplink_port).ok_or_else(|| {
        refused(format!(
            "the hypervisors file has no bridge for its port {}; write one in `bridges`",
            spec.uplink_port
        ))
    })?;
    let guest = name(vm);
    let memory = memory_mib(spec);
    let vcpus = spec.resources.cpu.max(1);
    let most_memory = memory.max(image.max_ram.map_or(0, |m| m.0.div_ceil(1 << 20)));
    let most_vcpus = vcpus.max(image.max_cpu.unwrap_or(0));
    let script = host.vif_script.as_deref().unwrap_or(VIF_SCRIPT);
    let mut lines = vec![
        format!("# Made by Tandem for {vm}; changes here are lost."),
        format!("name = {}", quoted(&guest)),
        format!("uuid = {}", quoted(&uuid)),
        format!("memory = {memory}"),
        format!("maxmem = {most_memory}"),
        format!("vcpus = {vcpus}"),
        format!("maxvcpus = {most_vcpus}"),
    ];
    match &image.boot {
        Boot::Kernel { kernel, ramdisk, cmdline } => {
            lines.push(format!("kernel = {}", quoted(kernel)));
            lines.extend(ramdisk.iter().map(|r| format!("ramdisk = {}", quoted(r))));
            lines.push(format!("extra = {}", quoted(&fill(cmdline, vm, &guest, spec))));
        }
        Boot::Disk { loader } => lines.extend(loader.iter().map(|l| format!("bootloader = {}", quoted(l)))),
    }
    // The script reads the guest's address in `ip` (xl-network-configuration(5)).
    let vif = format!("mac={},bridge={bridge},script={script},ip={}", spec.mac, spec.address);
    lines.push(format!("vif = [ {} ]", quoted(&vif)));
    if let Some(disk) = &image.disk {
        let format = if disk.clone == CloneBy::Qcow2 { "qcow2" } else { "raw" };
        let text = format!("format={format},vdev={},access=rw,target={}", disk.device, disk_path(disk, vm));
        lines.push(format!("disk = [ {} ]", quoted(&text)));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text.push_str(&fill(&image.config, vm, &guest, spec));
    Ok(text)
}
