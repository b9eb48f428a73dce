//! Parses the text of the hypervisors file into checked values, or into all of its faults.

use super::*;
use crate::placeholders;
use crate::registry::DriverKind;
use tandem_model::site::{Collector, Section};
use tandem_model::{NodeId, PortNo};

/// Keys of a guest's configuration that the driver itself writes.
const OURS: [&str; 9] = ["name", "uuid", "memory", "maxmem", "vcpus", "maxvcpus", "vif", "disk", "kernel"];

/// The parts of the file that all drivers share, and the servers that were named so far.
pub struct Shared<'f> {
    /// The file's folder, to which files in it are relative.
    pub folder: &'f Path,
    /// The site of the servers.
    pub site: &'f Site,
    /// Default for how hosts are reached by ssh.
    pub ssh: SshTarget,
    /// Default time-outs of calls.
    pub times: Times,
    /// Servers that were named already: each may be named once.
    pub taken: BTreeSet<String>,
}

impl<'f> Shared<'f> {
    fn read(root: &mut Section<'_>, c: &mut Collector<'_>, folder: &'f Path, site: &'f Site) -> Shared<'f> {
        let none = SshTarget {
            user: "root".to_owned(),
            address: String::new(),
            port: 22,
            key: None,
            known_hosts: None,
            host_keys: HostKeys::Strict,
            options: Vec::new(),
        };
        let mut s = root.section(c, "ssh");
        let ssh = ssh_options(&mut s, c, folder, none);
        s.finish(c);
        let times = Times {
            connect: Duration::from_secs(15),
            command: Duration::from_secs(60),
            start: Duration::from_secs(300),
            shutdown: Duration::from_secs(30),
        };
        let times = read_times(root, c, times);
        Shared { folder, site, ssh, times, taken: BTreeSet::new() }
    }

    /// The server of the site in the key `server`; each may be named once.
    pub fn server(&mut self, s: &mut Section<'_>, c: &mut Collector<'_>) -> (ServerId, String) {
        let instead = "server = \"srv1\", as the site file calls it";
        let name = required(s, c, "server", "which server it is", instead);
        (self.take(s, c, "server", &name), name)
    }

    /// The servers in a key; without the key, all that were not named before.
    pub fn servers(
        &mut self,
        s: &mut Section<'_>,
        c: &mut Collector<'_>,
        key: &'static str,
    ) -> Vec<ServerId> {
        let all = &self.site.topology.servers;
        let left = || all.iter().map(|s| s.name.clone()).filter(|n| !self.taken.contains(n)).collect();
        let names: Vec<String> = s.texts(c, key).unwrap_or_else(left);
        names.iter().map(|name| self.take(s, c, key, name)).collect()
    }

    /// The server of that name; each may be named once.
    fn take(
        &mut self,
        s: &mut Section<'_>,
        c: &mut Collector<'_>,
        key: &'static str,
        name: &str,
    ) -> ServerId {
        if !name.is_empty() && !self.taken.insert(name.to_owned()) {
            s.fault(c, key, format!("{name:?} is written twice"), "write each server once");
        }
        if let Some(NodeId::Server(id)) = self.site.topology.by_name(name) {
            return id;
        }
        if !name.is_empty() {
            let all = &self.site.topology.servers;
            let more = if all.len() > 8 { ", ..." } else { "" };
            let few: Vec<&str> = all.iter().take(8).map(|s| s.name.as_str()).collect();
            let problem = format!("the site {} has no server {name:?}", self.site.name);
            s.fault(c, key, problem, format!("it has {}{more}", few.join(", ")));
        }
        ServerId(u32::MAX)
    }

    /// The networks or bridges behind a server's ports, port 1 first, with names of at most
    /// `longest` bytes.
    pub fn uplinks(
        &self,
        s: &mut Section<'_>,
        c: &mut Collector<'_>,
        key: &'static str,
        server: ServerId,
        longest: usize,
    ) -> Vec<(PortNo, String)> {
        uplinks(s, c, key, self.site, server, longest)
    }

    /// The ssh target in this key (`USER@ADDRESS:PORT`), with the section's own options.
    pub fn ssh(&self, s: &mut Section<'_>, c: &mut Collector<'_>, key: &'static str) -> SshTarget {
        let options = ssh_options(s, c, self.folder, self.ssh.clone());
        let Some(text) = s.text(c, key) else { return options };
        target(&text, options.clone()).unwrap_or_else(|| {
            s.fault(c, key, format!("{text:?} is no place for ssh"), "write \"root@192.0.2.11:22\"");
            options
        })
    }

    /// The section's `times`.
    pub fn times(&self, s: &mut Section<'_>, c: &mut Collector<'_>) -> Times {
        read_times(s, c, self.times)
    }
}

pub(super) fn root(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    kinds: &[DriverKind],
    folder: &Path,
    site: &Site,
) -> Option<Hypervisors> {
    let mut shared = Shared::read(root, c, folder, site);
    let mut images: Vec<Image> = Vec::new();
    for s in root.list(c, "image") {
        let image = image(s, c, &images);
        images.push(image);
    }
    if !images.iter().any(|i| i.default)
        && let Some(first) = images.first_mut()
    {
        first.default = true;
    }
    let sections: Vec<Box<dyn DriverConfig>> =
        kinds.iter().map(|kind| (kind.read)(root, c, &mut shared)).collect();
    if sections.iter().all(|s| s.parts() == 0) {
        let names: Vec<String> = kinds.iter().map(|kind| format!("[[{}]]", kind.section)).collect();
        let instead = format!("write a section for each: {}", names.join(", "));
        root.fault(c, kinds[0].section, "there is no hypervisor", instead);
    }
    let needs_images = sections.iter().all(|s| s.parts() == 0 || s.needs_images());
    if images.is_empty() && needs_images {
        root.fault(c, "image", "there is nothing to make a VM from", "write a section [[image]]");
    }
    Some(Hypervisors { images, sections })
}

/// True for a name of letters, digits and `-_.`, which no shell interprets.
pub fn plain(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A required text.
pub fn required(
    s: &mut Section<'_>,
    c: &mut Collector<'_>,
    key: &'static str,
    what: &str,
    write: &str,
) -> String {
    let text = s.text(c, key);
    if !s.has(key) {
        s.fault(c, key, format!("{what} is not said"), format!("write {write}"));
    }
    text.unwrap_or_default()
}

/// A file on a host: absolute, and without characters that a shell or `xl` interprets.
pub fn remote_path(s: &mut Section<'_>, c: &mut Collector<'_>, key: &'static str) -> Option<String> {
    let text = s.text(c, key)?;
    if !text.starts_with('/') || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.+:@".contains(&b)) {
        let instead = "write its whole path on the host: letters, digits and / - _ . + : @";
        s.fault(c, key, format!("{text:?} is no path of a file there"), instead);
    }
    Some(text)
}

fn read_times(parent: &mut Section<'_>, c: &mut Collector<'_>, default: Times) -> Times {
    let mut t = parent.section(c, "times");
    let mut time = |c: &mut Collector<'_>, key, default: Duration| {
        let time = t.duration(c, key).unwrap_or(default);
        if time < Duration::from_secs(1) {
            t.fault(c, key, "shorter than a second", "write at least \"1 s\"");
        }
        time
    };
    let times = Times {
        connect: time(c, "connect", default.connect),
        command: time(c, "command", default.command),
        start: time(c, "start", default.start),
        shutdown: time(c, "shutdown", default.shutdown),
    };
    t.finish(c);
    times
}

/// Additional options of ssh, as after its `-o`.
pub fn options(s: &mut Section<'_>, c: &mut Collector<'_>, key: &'static str) -> Option<Vec<String>> {
    let options = s.texts(c, key)?;
    let good = |o: &String| {
        let name = o.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric())
            && !o.chars().any(|ch| ch.is_control() || ch == '\'' || ch == '"')
    };
    if !options.iter().all(good) {
        let instead = "write each as KEY=VALUE, such as \"KexAlgorithms=+diffie-hellman-group1-sha1\"";
        s.fault(c, key, "this is no option of ssh", instead);
    }
    Some(options)
}

fn ssh_options(s: &mut Section<'_>, c: &mut Collector<'_>, folder: &Path, default: SshTarget) -> SshTarget {
    let words = [("strict", HostKeys::Strict), ("accept-new", HostKeys::AcceptNew)];
    // ssh itself expands `~`.
    let file = |p: String| if p.starts_with('~') { p.into() } else { folder.join(p) };
    SshTarget {
        key: s.text(c, "key").map(file).or(default.key),
        known_hosts: s.text(c, "known_hosts").map(file).or(default.known_hosts),
        host_keys: s.word(c, "host_keys", &words).unwrap_or(default.host_keys),
        options: options(s, c, "options").unwrap_or(default.options),
        ..default
    }
}

/// `USER@ADDRESS:PORT`; user and port may be left out, an IPv6 address is in brackets.
fn target(text: &str, default: SshTarget) -> Option<SshTarget> {
    let (user, rest) = text.split_once('@').map_or((default.user.as_str(), text), |(u, r)| (u, r));
    let (address, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((address, after)) => (address, after.strip_prefix(':').or(after.is_empty().then_some("22"))?),
        None if rest.matches(':').count() > 1 => (rest, "22"),
        None => rest.split_once(':').unwrap_or((rest, "22")),
    };
    let port = port.parse::<u16>().ok().filter(|p| *p > 0)?;
    let good = plain(user, 32) && (plain(address, 253) || address.parse::<std::net::IpAddr>().is_ok());
    good.then(|| SshTarget { user: user.to_owned(), address: address.to_owned(), port, ..default })
}

fn image(mut s: Section<'_>, c: &mut Collector<'_>, before: &[Image]) -> Image {
    let name = required(&mut s, c, "name", "the image's name", "name = \"debian\"");
    if s.has("name") && !plain(&name, 64) {
        s.fault(c, "name", format!("{name:?} cannot be a name"), "write letters, digits, '-', '_' or '.'");
    }
    if before.iter().any(|i| i.name == name) {
        s.fault(c, "name", format!("two images are called {name:?}"), "rename one");
    }
    let default = s.flag(c, "default").unwrap_or(false);
    if default && before.iter().any(|i| i.default) {
        s.fault(c, "default", "there is a default image already", "let one image be the default");
    }
    let (kernel, ramdisk) = (remote_path(&mut s, c, "kernel"), remote_path(&mut s, c, "ramdisk"));
    let (cmdline, loader) = (s.text(c, "cmdline"), s.text(c, "loader"));
    let config = s.text(c, "config").unwrap_or_default();
    let template = s.text(c, "template");
    let (max_ram, max_cpu) = (s.bytes(c, "max_ram"), s.count(c, "max_cpu", 1..=4096));
    if kernel.is_none() {
        for key in ["ramdisk", "cmdline"] {
            if s.has(key) {
                s.fault(c, key, format!("a {key} without a kernel"), "write kernel = \"/boot/vmlinuz\" too");
            }
        }
    } else if loader.is_some() {
        s.fault(c, "loader", "a kernel and a boot loader", "write one of them");
    }
    if loader.as_ref().is_some_and(|l| !plain(&l.replace('/', ""), 200)) {
        s.fault(c, "loader", "this is no boot loader", "write loader = \"pygrub\", or its whole path");
    }
    for (key, text) in [("cmdline", cmdline.as_deref().unwrap_or("")), ("config", &config)] {
        if let Err(unknown) = placeholders::check(text) {
            let known = placeholders::KNOWN.join("} {");
            s.fault(c, key, format!("there is no placeholder {{{unknown}}}"), format!("known: {{{known}}}"));
        }
    }
    if cmdline.as_ref().is_some_and(|l| l.contains(['"', '\'', '\n', '\\'])) {
        s.fault(c, "cmdline", "quotes, backslashes and line ends cannot be in it", "leave them out");
    }
    for line in config.lines() {
        let key = line.split('=').next().unwrap_or("").trim();
        if OURS.contains(&key) {
            let instead = "leave it out: requests and the other keys here say it";
            s.fault(c, "config", format!("{key} is written by the driver"), instead);
        }
    }
    let disk = s.has("disk").then(|| disk(&mut s, c));
    if kernel.is_none() && disk.is_none() && template.is_none() {
        let instead =
            "write kernel = \"/boot/vmlinuz\", a section [image.disk], or template = \"Debian 12\" for XAPI";
        s.fault(c, "name", format!("nothing boots in {name:?}"), instead);
    }
    s.finish(c);
    let boot = match kernel {
        Some(kernel) => Boot::Kernel { kernel, ramdisk, cmdline: cmdline.unwrap_or_default() },
        None => Boot::Disk { loader },
    };
    Image { name, default, boot, disk, config, max_ram, max_cpu, template }
}

fn disk(parent: &mut Section<'_>, c: &mut Collector<'_>) -> Disk {
    let mut s = parent.section(c, "disk");
    let words = [("copy", CloneBy::Copy), ("qcow2", CloneBy::Qcow2), ("lvm-snapshot", CloneBy::LvmSnapshot)];
    let clone = s.word(c, "clone", &words).unwrap_or(CloneBy::Copy);
    let source = remote_path(&mut s, c, "source").unwrap_or_default();
    if !s.has("source") {
        s.fault(c, "source", "what is cloned is not said", "write source = \"/var/lib/tandem/debian.img\"");
    }
    let parent = source.rsplit_once('/').map_or("", |(p, _)| p).to_owned();
    if clone == CloneBy::LvmSnapshot && (!source.starts_with("/dev/") || source.matches('/').count() != 3) {
        s.fault(c, "source", "this is no logical volume", "write source = \"/dev/GROUP/VOLUME\"");
    }
    let folder = remote_path(&mut s, c, "folder").unwrap_or(parent);
    if clone == CloneBy::LvmSnapshot && s.has("folder") {
        s.fault(c, "folder", "snapshots go to the volume group of their source", "leave it out");
    }
    let device = s.text(c, "device").unwrap_or_else(|| "xvda".to_owned());
    if !plain(&device, 15) {
        s.fault(c, "device", format!("{device:?} is no device's name"), "write device = \"xvda\"");
    }
    s.finish(c);
    Disk { clone, source, folder, device }
}

/// The networks or bridges behind a server's ports, port 1 first.
fn uplinks(
    s: &mut Section<'_>,
    c: &mut Collector<'_>,
    key: &'static str,
    site: &Site,
    server: ServerId,
    longest: usize,
) -> Vec<(PortNo, String)> {
    let names = s.texts(c, key).unwrap_or_default();
    let bad = |n: &String| n.is_empty() || n.len() > longest || n.contains(['\'', '"', ',', '\n', '\\']);
    if names.iter().any(bad) || (key == "bridges" && !names.iter().all(|n| plain(n, longest))) {
        s.fault(c, key, "a name that cannot be", "write names such as \"xenbr0\"");
    }
    if let Some(server) = site.topology.servers.get(server.0 as usize)
        && server.uplinks.len() != names.len()
    {
        let (have, count) = (names.len(), server.uplinks.len());
        let problem = format!("{have} given, and {} has {count} uplinks in the site", server.name);
        s.fault(c, key, problem, "write one for each of the server's ports, port 1 first");
    }
    (1..).map(PortNo).zip(names).collect()
}
