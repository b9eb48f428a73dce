//! Checks which features of an emulated network this machine supports.

use crate::link::Veth;
use crate::netlink::{Netlink, Request};
use crate::netns::NetNs;
use crate::ovs::Datapath;
use crate::{Error, tc};
use std::fmt;
use std::path::Path;

/// The features of this machine that an emulated data centre needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Namespaces can be created: by root, or by an ordinary user as root of a user namespace.
    pub namespaces: bool,
    /// /dev/net/tun can be opened.
    pub tun: bool,
    /// Open vSwitch is installed.
    pub ovs: bool,
    /// A DHCP client is installed.
    pub udhcpc: bool,
    /// The datapath that Open vSwitch can use.
    pub datapath: Datapath,
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|folder| folder.join(program).exists())
}

/// Checks the settings by which the kernel, Debian and Ubuntu turn user namespaces off.
fn user_namespaces() -> bool {
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    number("/proc/sys/user/max_user_namespaces").is_some_and(|n| n > 0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
        && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_none_or(|n| n == 0)
}

impl Probe {
    /// Checks this machine.
    pub fn new() -> Probe {
        Probe {
            namespaces: nix::unistd::geteuid().is_root() || user_namespaces(),
            tun: std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok(),
            ovs: installed("ovs-vswitchd") && Path::new("/usr/share/openvswitch/vswitch.ovsschema").exists(),
            udhcpc: installed("udhcpc"),
            datapath: Datapath::probe(),
        }
    }

    /// What is missing, each with what to do; empty when nothing is. `ovs`: the switches are those
    /// of Open vSwitch.
    pub fn missing(&self, ovs: bool) -> Vec<&'static str> {
        let tun_needed = ovs && self.datapath == Datapath::Userspace;
        [
            (
                self.namespaces,
                "root, or user namespaces (see user_namespaces(7); this kernel does not give them to ordinary users): run it with sudo. \
                 The simulated world needs neither",
            ),
            (
                self.tun || !tun_needed,
                "/dev/net/tun, for Open vSwitch in user space: modprobe tun, or mknod -m 666 /dev/net/tun c 10 200; if it is there, \
                 chmod 666 /dev/net/tun lets ordinary users use it in namespaces of their own",
            ),
            (self.ovs || !ovs, "Open vSwitch: apt-get install openvswitch-switch"),
            (self.udhcpc, "a DHCP client: apt-get install udhcpc"),
        ]
        .into_iter()
        .filter(|(there, _)| !there)
        .map(|(_, what)| what)
        .collect()
    }
}

impl Default for Probe {
    fn default() -> Probe {
        Probe::new()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let datapath = match self.datapath {
            Datapath::Kernel => "the kernel",
            Datapath::Userspace => "user space",
        };
        write!(f, "Open vSwitch forwards in {datapath}")?;
        for missing in self.missing(true) {
            write!(f, "\nmissing: {missing}")?;
        }
        Ok(())
    }
}

/// The features of traffic control that this kernel supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queueing {
    /// HTB: rates and classes.
    pub htb: bool,
    /// u32: filters by words of the packet.
    pub u32: bool,
    /// cls_bpf: filters by a program.
    pub bpf: bool,
    /// netem: delay and loss.
    pub netem: bool,
}

/// Tries traffic control on a veth pair in a temporary namespace, which makes the kernel load the
/// modules for it.
///
/// When no such namespace can be created (root is needed).
pub fn queueing() -> Result<Queueing, Error> {
    const INDEX: u32 = 10;
    let ns = NetNs::new()?;
    let veth = Veth::new(("probe", INDEX, &ns), ("epor", INDEX + 1, &ns));
    Netlink::open()?.batch(&[veth.request()])?;
    ns.run(|| {
        let mut netlink = Netlink::open()?;
        let mut takes = |request: Request| netlink.batch(&[request]).is_ok();
        let class = tc::Class::new(1, 0, 8_000_000, 8_000_000, 0);
        let htb = takes(tc::htb_root(INDEX, 1)) && takes(tc::htb_class(INDEX, class));
        let dscp = tc::Select::Dscp(46);
        let u32 = htb && takes(tc::u32(INDEX, 1, dscp, 1));
        let bpf = htb && takes(tc::cbpf(INDEX, 2, dscp, 1));
        let late =
            tc::Shape { rate: 8_000_000, queue: 10, delay: std::time::Duration::from_millis(1), loss_ppm: 0 };
        let netem = htb && tc::shape(INDEX, late).pop().is_some_and(takes);
        Ok(Queueing { htb, u32, bpf, netem })
    })?
}
