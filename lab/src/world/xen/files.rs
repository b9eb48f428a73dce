//! What the lab writes down: the site and who is what in it, for the controller, the agents'
//! deployment and people; and what each host is given for its boot.

use super::output;
use crate::world::xen::network::Part;
use anyhow::Context;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tandem_model::Site;

/// The control network as the hosts see it: QEMU's own, one for each host.
pub const CONTROL: &str = "192.168.76";
/// Where hosts find this computer's loopback services.
pub const OUTSIDE: &str = "192.168.76.2";
/// A host's address on it.
pub const HOST: &str = "192.168.76.15";
/// The interface of the control network.
pub const CONTROL_CARD: &str = "control";

/// Loopback ports of this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ports {
    /// Where the controller is to listen for switches.
    pub openflow: u16,
    /// Where it is to listen for agents.
    pub agents: u16,
}

/// A data centre of so many hosts. Times are an emulated computer's.
pub fn site(name: &str, hosts: usize) -> String {
    format!(
        r#"# A Xen lab: a core switch, and an edge switch and a server on each host. Times are long because the hosts are emulated.
name = "{name}"

[topology]
shape = "three-tier"
gateways = 1
core = 1
aggregation = 0
edge = {hosts}
servers_per_edge = 1
edge_aggregation_links = 1

[bandwidth]
gateway = "1 Gbit/s"
core = "1 Gbit/s"
aggregation = "1 Gbit/s"
edge = "1 Gbit/s"

[servers]
cpu = 4
ram = "400 MiB"                 # what a host has beside its domain 0
disk = "512 MiB"

[vm]
cpu = 1
ram = "96 MiB"
disk = "16 MiB"
net = "1 Mbit/s"
start_timeout = "5 min"

[policy]
allocation = "first-fit"

[statistics]
period = "5 s"
history_weight = 0.0

[discovery]
lldp_period = "10 s"
lldp_timeout = "2 min"
switch_grace = "2 min"
host_timeout = "10 min"

[migration]
timeout = "10 min"
dirty_rate = "100 kbit/s"

[traffic]
enabled = false
"#
    )
}

/// Which machine is what, for `scripts/deploy`.
pub fn inventory(name: &str, parts: &[Part], ssh_ports: &[u16], ports: Ports) -> String {
    let mut out = format!(
        "# Written by `tandem-lab xen up`, for as long as that lab is up.\nname = {name:?}\n\n[controller]\naddress = {OUTSIDE:?}\n\
         listen = \"127.0.0.1\"\nopenflow = {}\nagents = {}\n\n[ssh]\nuser = \"root\"\nkey = \"key\"\nknown_hosts = \"known_hosts\"\n",
        ports.openflow, ports.agents
    );
    for (part, port) in parts.iter().zip(ssh_ports) {
        let _ = write!(
            out,
            "\n[[machine]]\nname = {:?}\naddress = \"127.0.0.1\"\nservice = \"process\"\ncontrol = {CONTROL_CARD:?}\n[machine.ssh]\nport = {port}\n",
            part.host
        );
        for (switch, ports) in &part.switches {
            let _ = writeln!(out, "[[machine.switch]]\nname = {switch:?}");
            for (number, interface) in ports {
                let _ =
                    writeln!(out, "[[machine.switch.port]]\nnumber = {number}\ninterface = {interface:?}");
            }
        }
    }
    out
}

/// What guests are made from, by name: the default first, then MiB dirtied and the pause between,
/// in seconds.
pub const IMAGES: [(&str, u32, &str); 3] = [("idle", 0, "0"), ("web", 4, "2"), ("adversarial", 40, "0")];

/// Which servers are which Xen hosts, and what guests are made from, for
/// `tandem serve --hypervisors`.
pub fn hypervisors(site: &Site, parts: &[Part], ssh_ports: &[u16]) -> String {
    let mut out = String::from(
        "# Written by `tandem-lab xen up`, for as long as that lab is up.\n[ssh]\nkey = \"key\"\nknown_hosts = \"known_hosts\"\n\n\
         [times]\nconnect = \"60 s\"\ncommand = \"3 min\"\nstart = \"5 min\"\nshutdown = \"5 s\"\n",
    );
    let boot = "kernel = \"/var/lib/tandem/images/vmlinux\"\nramdisk = \"/var/lib/tandem/images/initrd\"\n";
    let config = "config = '''\ntype = \"pv\"\non_crash = \"destroy\"\n'''\n";
    for (name, dirty, pause) in IMAGES {
        let _ = write!(
            out,
            "\n[[image]]\nname = {name:?}\ndefault = {}\n{boot}cmdline = \"console=hvc0 mitigations=off quiet {{ip}} tandem.dirty={dirty} tandem.pause={pause}\"\n{config}",
            name == IMAGES[0].0
        );
    }
    let _ = write!(
        out,
        "\n[[image]]\nname = \"disk\"\n{boot}cmdline = \"console=hvc0 mitigations=off quiet {{ip}}\"\n{config}[image.disk]\n\
         clone = \"copy\"\nsource = \"/var/lib/tandem/images/disk.img\"\nfolder = \"/var/lib/tandem/disks\"\ndevice = \"xvda\"\n"
    );
    for (n, (part, port)) in parts.iter().zip(ssh_ports).enumerate() {
        // Both ways are in use: memory comes to the first host by ssh, and to the others as it is.
        let transport = if n == 0 { "ssh" } else { "tcp" };
        for (name, bridge) in &part.servers {
            let address =
                site.topology.servers.iter().find(|s| s.name == *name).map(|s| s.address.to_string());
            let _ = write!(
                out,
                "\n[[host]]\nserver = {name:?}\nssh = \"root@127.0.0.1:{port}\"\nbridges = [{bridge:?}]\n\
                 vif_script = \"/etc/xen/scripts/vif-bridge\"\nmigration = {transport:?}\nmigration_address = {:?}\n",
                address.unwrap_or_default()
            );
        }
    }
    out
}

/// The lab's keys: of whoever may log in (`key`), and of all hosts' sshd (`host-key`). Both are
/// made anew for each lab.
///
/// # Errors
/// When ssh-keygen fails.
pub fn keys(folder: &Path) -> anyhow::Result<()> {
    for name in ["key", "host-key"] {
        output(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "tandem-xen", "-f"])
                .arg(folder.join(name))
                .stdin(Stdio::null()),
            "making the lab's keys (package openssh-client)",
        )?;
    }
    Ok(())
}

/// The file of known hosts: every host's sshd, at its loopback port.
///
/// # Errors
/// When files cannot be read or written.
pub fn known_hosts(folder: &Path, ports: &[u16]) -> anyhow::Result<()> {
    let key = std::fs::read_to_string(folder.join("host-key.pub"))?;
    let lines: String = ports.iter().map(|p| format!("[127.0.0.1]:{p} {}\n", key.trim())).collect();
    Ok(std::fs::write(folder.join("known_hosts"), lines)?)
}

/// A host's initial file system: the image's, with what this host is (`/host`) behind it, as the
/// kernel allows (Documentation/driver-api/early-userspace/buffer-format.rst). It holds private
/// keys, and is for its owner only.
///
/// # Errors
/// When files cannot be read or written, or cpio fails.
pub fn initrd(folder: &Path, image: &Path, index: usize, part: &Part) -> anyhow::Result<()> {
    let own = folder.join(format!("{}.boot", part.host));
    let host = own.join("host");
    std::fs::create_dir_all(&host).with_context(|| format!("cannot make {}", host.display()))?;
    let copy = |from: &str, to: &str| private(&host.join(to), &std::fs::read(folder.join(from))?);
    let public = std::fs::read_to_string(folder.join("host-key.pub"))?;
    copy("key", "id_ed25519")?;
    copy("key.pub", "authorized_keys")?;
    copy("host-key", "ssh_host_ed25519_key")?;
    private(&host.join("known_hosts"), format!("* {}\n", public.trim()).as_bytes())?;
    private(&host.join("name"), format!("{}\n", part.host).as_bytes())?;
    let control = format!(
        "card {} {CONTROL_CARD}\nip address add {HOST}/24 dev {CONTROL_CARD}\nip link set {CONTROL_CARD} up\n",
        super::network::mac(index, 0)
    );
    private(&host.join("network"), format!("{control}{}", part.script).as_bytes())?;
    let names = ["id_ed25519", "authorized_keys", "ssh_host_ed25519_key", "known_hosts", "name", "network"];
    let list: String =
        std::iter::once("host\n".to_owned()).chain(names.map(|n| format!("host/{n}\n"))).collect();
    let mut cpio = Command::new("cpio")
        .args(["-o", "-H", "newc", "--quiet", "-R", "0:0"])
        .current_dir(&own)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cpio (package cpio)")?;
    if let Some(mut input) = cpio.stdin.take() {
        input.write_all(list.as_bytes())?;
    }
    let mut archive = Vec::new();
    if let Some(mut out) = cpio.stdout.take() {
        out.read_to_end(&mut archive)?;
    }
    anyhow::ensure!(cpio.wait()?.success(), "cpio could not pack {}", host.display());
    let mut bytes = std::fs::read(image.join("initrd"))?;
    // An archive that is not compressed begins at a multiple of four.
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(archive);
    private(&folder.join(format!("{}.initrd", part.host)), &bytes)?;
    std::fs::remove_dir_all(&own)?;
    Ok(())
}

/// Writes a file that only its owner may read.
fn private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file: File = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.write_all(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::xen::network::parts;
    use tandem_model::site::read;
    use tandem_testbed::inventory::Inventory;

    #[test]
    fn the_inventory_names_every_switch_of_the_site_and_the_hypervisors_every_server() {
        let site = read(&super::site("lab", 2), "the lab's site").expect("a sound site");
        let parts = parts(&site);
        let ports = Ports { openflow: 6653, agents: 6655 };
        let text = inventory("lab", &parts, &[2201, 2202], ports);
        let inventory =
            Inventory::read(&text, "inventory.toml", Path::new("/lab"), Some(&site)).expect("sound");
        assert_eq!(inventory.missing(&site), ["srv1", "srv2", "gw1"]);
        let text = hypervisors(&site, &parts, &[2201, 2202]);
        let table: toml::Table = text.parse().expect("well-formed");
        let hosts = table["host"].as_array().expect("hosts");
        assert_eq!(hosts.len(), 2);
        assert_eq!(
            hosts[1]["migration_address"].as_str(),
            Some(site.topology.servers[1].address.to_string().as_str())
        );
        assert_eq!(table["image"].as_array().map(Vec::len), Some(4));
    }
}
