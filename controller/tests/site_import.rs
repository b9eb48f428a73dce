//! `tandem site import` of Mininet scripts, which are run, and `tandem site export`, whose scripts
//! Mininet itself takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tandem_model::Site;
use tandem_model::site::{EXAMPLES, read};

const MININET: &str = "/usr/lib/python3/dist-packages/mininet";
const PYTHON: &str = "/usr/bin/python3";

/// True where Debian's package of Mininet is. Where it is not, the test says why and is skipped; in
/// CI that is a failure.
fn has_mininet() -> bool {
    if Path::new(MININET).join("topo.py").exists() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: mininet");
    eprintln!("skipped: missing mininet");
    false
}

fn tandem(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("tandem runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder that the user `nobody` may look into, as scripts are run by it.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    folder
}

fn written(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn imported(arguments: &[&str]) -> (Site, String) {
    let output = tandem(&[&["site", "import"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let toml = text(&output.stdout);
    let site = read(&toml, "site.toml").unwrap_or_else(|f| panic!("{f}\n{toml}"));
    (site, text(&output.stderr))
}

/// Nodes and links of a script's `Topo`, as Mininet's own classes count them.
fn counted(file: &Path, make: &str) -> (usize, usize) {
    let program = format!(
        "import importlib.util as u; s = u.spec_from_file_location('x', {file:?}); m = u.module_from_spec(s)\n\
         s.loader.exec_module(m); t = m.{make}; print(len(t.nodes()), len(t.links()))"
    );
    let output = Command::new(PYTHON).args(["-c", &program]).output().expect("python3");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let numbers: Vec<usize> =
        text(&output.stdout).split_whitespace().filter_map(|n| n.parse().ok()).collect();
    (numbers[0], numbers[1])
}

/// Scripts of Mininet's own: classes of `Topo`, and a network that is made node by node.
#[test]
fn mininets_examples_have_the_counts_that_mininet_finds() {
    if !has_mininet() {
        return;
    }
    let example = |name: &str| Path::new(MININET).join("examples").join(name);
    let trees = Path::new(MININET).join("topolib.py");
    for (name, of, make) in [
        ("multilink.py", example("multilink.py"), "simpleMultiLinkTopo(n=2)"),
        ("linuxrouter.py", example("linuxrouter.py"), "NetworkTopo()"),
        ("natnet.py", example("natnet.py"), "InternetTopo()"),
        ("treeping64.py", trees, "TreeTopo(depth=2, fanout=8)"),
    ] {
        let file = example(name);
        let (site, said) = imported(&[&file.display().to_string()]);
        let t = &site.topology;
        // A gateway that was added, with its link, is not the script's.
        let added = usize::from(said.contains("was added as the gateway"));
        let nodes = t.switches.len() + t.servers.len() + t.gateways.len() - added;
        assert_eq!((nodes, t.links.len() - added), counted(&of, make), "{name}: {said}");
    }
    let file = example("numberedports.py");
    let script = std::fs::read_to_string(&file).expect("the example");
    let calls =
        |call: &str| script.lines().filter(|l| !l.trim().starts_with('#') && l.contains(call)).count();
    let (site, said) = imported(&[&file.display().to_string(), "--gateway", "h1"]);
    let t = &site.topology;
    assert_eq!(
        (t.servers.len() + 1, t.links.len()),
        (calls("net.addHost("), calls("net.addLink(")),
        "{said}"
    );
    assert_eq!(t.gateways[0].name, "h1");
    assert!(said.contains("numberedports.py:20") || said.contains("a controller"), "lines are named: {said}");
}

#[test]
fn rates_delays_losses_and_queues_come_with_the_links() {
    if !has_mininet() {
        return;
    }
    let folder = folder();
    let script = "\
from mininet.topo import Topo
class Mine(Topo):
    def build(self, n=2):
        s = self.addSwitch('s1', dpid='1f')
        for i in range(n):
            h = self.addHost('a host %d' % i, ip='10.0.0.%d' % i, cpu=.5)
            self.addLink(h, s, bw=10.5, delay='5ms', loss=1, max_queue_size=100, use_htb=True)
class Other(Topo): pass
topos = {'mine': Mine, 'other': lambda: Other()}
print('to standard output')
";
    let file = written(&folder, "mine.py", script);
    let (site, said) = imported(&[&file, "--topo", "mine,n=3"]);
    let t = &site.topology;
    assert_eq!((t.switches[0].dpid.0, t.servers.len()), (0x1f, 3));
    let link = &t.links[0].cfg;
    assert_eq!(
        (link.rate.0, link.delay, link.loss_ppm, link.queue),
        (10_500_000, Duration::from_millis(5), 10_000, 100)
    );
    assert!(said.contains("mine.py:7 and 2 more: `use_htb` of a link"), "{said}");
    assert!(said.contains("mine.py:6 and 2 more: `ip` of a node: addresses come from [addresses]"), "{said}");
    let output = text(&tandem(&["site", "import", &file]).stderr);
    assert!(output.contains("several topologies: mine, other; choose one: --topo NAME"), "{output}");
    let output = text(&tandem(&["site", "import", &file, "--topo", "none"]).stderr);
    assert!(output.contains("no topology none"), "{output}");
}

/// What a bad script gets: where it is wrong, and what to do.
#[test]
fn a_script_that_goes_wrong_is_told_where() {
    if !has_mininet() {
        return;
    }
    let folder = folder();
    for (name, script, expected) in [
        (
            "raises.py",
            "import mininet\n\ndef f():\n    raise ValueError('no such thing')\nf()\n",
            "raises.py:4: the script raises ValueError: no such thing",
        ),
        (
            "half.py",
            "from mininet.topo import Topo\nclass Mine(Topo):\n    def build(self\n",
            "half.py:3: the script raises SyntaxError",
        ),
        (
            "exits.py",
            "import sys\nprint('bye')\nsys.exit(3)\n",
            "exits.py:3: the script ends by itself, exit(3)",
        ),
        ("dies.py", "import os\nprint('last words')\nos._exit(0)\n", "the script ended without a topology"),
        ("nothing.py", "x = 1\n", "the script makes no topology; define a class of Topo"),
        ("asks.py", "input('name? ')\n", "asks.py:1: the script raises EOFError"),
        ("memory.py", "x = 'x' * (4 << 30)\n", "memory.py:1: the script raises MemoryError"),
        (
            "builds.py",
            "from mininet.topo import Topo\nclass Mine(Topo):\n    def build(self):\n        self.addLink('a', 'b')\n        raise KeyError('c')\n",
            "builds.py:4: the script raises KeyError: 'a'",
        ),
        ("prints.py", "while True:\n    print('x' * 1000)\n", "says more than 1 MiB"),
        (
            "lies.py",
            "import os\nfor n in range(3, 9):\n    try: os.write(n, b'{\"recorded\": 1}')\n    except OSError: pass\n",
            "lies.py: ",
        ),
        (
            "network.py",
            "import socket\nsocket.create_connection(('127.0.0.1', 1), 1)\n",
            "network.py:2: the script raises OSError",
        ),
    ] {
        let file = written(&folder, name, script);
        let output = tandem(&["site", "import", &file, "--time-limit", "60"]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{name}: {said}");
        assert!(output.stdout.is_empty(), "{name}");
    }
    let output = text(&tandem(&["site", "import", &written(&folder, "x.bin", "?")]).stderr);
    assert!(output.contains("cannot tell what") && output.contains("graphml"), "{output}");
}

/// Processes whose command line has a word in it.
fn processes_with(word: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten().map(|e| e.path());
    all.filter(|p| {
        let line = std::fs::read(p.join("cmdline")).unwrap_or_default();
        // `tandem` itself has it too while it runs.
        text(&line).contains(word) && text(&line).contains("python3")
    })
    .collect()
}

#[test]
fn a_script_that_never_ends_or_forks_leaves_nothing() {
    if !has_mininet() {
        return;
    }
    let folder = folder();
    let waiting = "import os, select\nif os.fork() == 0:\n    os.setsid()\n    while True: select.select([], [], [], 60)\n";
    let endless = written(&folder, "endless.py", &format!("{waiting}while True: pass\n"));
    let output = tandem(&["site", "import", &endless, "--time-limit", "1"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("has not ended after 1 s, and was stopped"), "{said}");
    // One that goes on makes its topology, and what it has forked ends with it.
    let rest = "from mininet.net import Mininet\nnet = Mininet()\nnet.addSwitch('s1')\nnet.start()\n";
    let forks = written(&folder, "forks.py", &format!("{waiting}{rest}"));
    let output = tandem(&["site", "import", &forks, "--time-limit", "60"]);
    let said = text(&output.stderr);
    // Without namespaces nothing may be forked at all.
    assert!(output.status.success() || said.contains("BlockingIOError"), "{said}");
    for file in [&endless, &forks] {
        let until = Instant::now() + Duration::from_secs(10);
        while !processes_with(file).is_empty() {
            assert!(Instant::now() < until, "left: {:?}", processes_with(file));
            std::thread::yield_now();
        }
    }
}

/// Each example as a Mininet script: Mininet builds its `Topo`, and importing it gives the site back.
#[test]
fn an_exported_script_is_taken_by_mininet_and_comes_back() {
    if !has_mininet() {
        return;
    }
    let folder = folder();
    for (name, toml) in EXAMPLES.into_iter().filter(|(name, _)| *name != "fat-tree") {
        let site = read(toml, name).unwrap_or_else(|f| panic!("{f}"));
        let from = written(&folder, &format!("{name}.toml"), toml);
        let to = folder.path().join(format!("{}.py", name.replace('-', "_")));
        let script = to.display().to_string();
        let output = tandem(&["site", "export", "--mininet", &from, "--out", &script]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let t = &site.topology;
        let nodes = t.switches.len() + t.servers.len() + t.gateways.len();
        assert_eq!(counted(&to, "SiteTopo()"), (nodes, t.links.len()), "{name}");
        let (back, _) = imported(&[&script]);
        let b = &back.topology;
        let counts = |t: &tandem_model::Topology| (t.switches.len(), t.servers.len(), t.gateways.len());
        assert_eq!(counts(b), counts(t), "{name}");
        let links = |t: &tandem_model::Topology| {
            let ends = t.links.iter().map(|l| {
                let mut ends = [t.name(l.a.node).to_owned(), t.name(l.b.node).to_owned()];
                ends.sort();
                (ends, l.cfg.rate, l.cfg.delay, l.cfg.loss_ppm, l.cfg.queue)
            });
            let mut ends: Vec<_> = ends.collect();
            ends.sort();
            ends
        };
        assert_eq!(links(b), links(t), "{name}");
    }
    let output = text(&tandem(&["site", "export", "--dot", "--clab", "x"]).stderr);
    assert!(output.contains("cannot be used with"), "{output}");
}
