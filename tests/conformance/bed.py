"""What is tested and what tests it: two switches with three cables between them, in a network namespace of this process.

    tester switch 1 ---- 1 switch under test
                  2 ---- 2
                  3 ---- 3

The tester's switch is always Open vSwitch in user space. The switch under test is a second bridge of it, or the agent's soft switch.
"""

import os
import subprocess
import time

import sandbox

TARGET, TESTER = 1, 2
PORTS = (1, 2, 3)
# Seconds that a daemon may take to be there.
START = 30
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class Failure(Exception):
    """The bed cannot be made or has broken down; says why."""


class Bed:
    """See the module. `end` ends what was started; whoever forgets it is in a sandbox."""

    def __init__(self, target, version, agent, folder, cache):
        self.folder = folder
        self.target = target
        self.children = {}
        os.makedirs(folder)
        self.environment = dict(os.environ, **{f"OVS_{n}DIR": folder for n in ("RUN", "DB", "LOG", "SYSCONF")})
        sandbox.unshare(sandbox.CLONE_NEWNET)
        self.cables()
        self.vswitch(cache)
        protocol = {"of10": "OpenFlow10", "of13": "OpenFlow13"}[version]
        self.bridge("tester", TESTER, "OpenFlow13", "b")
        if target == "ovs":
            self.bridge("target", TARGET, protocol, "a")
        else:
            self.soft(agent, protocol)

    def run(self, *words):
        """A command to its end; its output."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=START, check=False)
        if done.returncode != 0:
            raise Failure(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def start(self, name, *words):
        """A program that runs on, with a log of its own."""
        with open(self.at(f"{name}.log"), "w", encoding="utf-8") as log:
            self.children[name] = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=sandbox.end_with_parent)

    def at(self, name):
        """A path in the folder."""
        return os.path.join(self.folder, name)

    def check(self):
        """Raises when a program has ended, with what it said last."""
        for name, child in self.children.items():
            if child.poll() is not None:
                with open(self.at(f"{name}.log"), encoding="utf-8", errors="replace") as log:
                    said = " / ".join(log.read().strip().splitlines()[-5:])
                raise Failure(f"{name} has ended with {child.returncode}: {said}")

    def wait(self, what, ready):
        """Until something is there."""
        limit = time.monotonic() + START
        while not ready():
            self.check()
            if time.monotonic() > limit:
                raise Failure(f"{what}: not within {START} s")
            time.sleep(0.02)

    def cables(self):
        """Nobody but the switches says a word on them."""
        for name in ("all", "default"):
            with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w", encoding="ascii") as file:
                file.write("1")
        self.run("ip", "link", "set", "lo", "up")
        for n in PORTS:
            self.run("ip", "link", "add", f"a{n}", "arp", "off", "type", "veth", "peer", "name", f"b{n}", "arp", "off")
            for end in "ab":
                self.run("ip", "link", "set", f"{end}{n}", "up")

    def vswitch(self, cache):
        """Open vSwitch with a database and a folder of its own.

        Its datapath forwards by flows that it has cached, and follows a FLOW_MOD up to half a second after the barrier: what a test sends
        would be treated by the test before. Where single packets count it has no cache, so that each is looked up in the tables.
        """
        self.run("ovsdb-tool", "create", self.at("conf.db"), SCHEMA)
        self.start("ovsdb-server", "ovsdb-server", self.at("conf.db"), f"--remote=punix:{self.at('db.sock')}",
                   f"--unixctl={self.at('db.ctl')}")
        self.wait("ovsdb-server", lambda: os.path.exists(self.at("db.sock")))
        self.vsctl("--no-wait", "init")
        if not cache:
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:flow-limit=0")
        self.start("ovs-vswitchd", "ovs-vswitchd", f"unix:{self.at('db.sock')}", f"--unixctl={self.at('vswitchd.ctl')}",
                   "--disable-system")
        self.wait("ovs-vswitchd", lambda: os.path.exists(self.at("vswitchd.ctl")))

    def vsctl(self, *words):
        """ovs-vsctl."""
        return self.run("ovs-vsctl", f"--db=unix:{self.at('db.sock')}", f"--timeout={START}", *words)

    def bridge(self, name, dpid, protocol, ends):
        """A bridge that dials the tester. No probes: a machine that is busy is no reason to dial anew."""
        words = ["add-br", name, "--", "set", "bridge", name, "datapath_type=netdev", "fail_mode=secure",
                 "other-config:disable-in-band=true", f"other-config:datapath-id={dpid:016x}", f"protocols={protocol}"]
        for n in PORTS:
            port = f"{ends}{n}"
            words += ["--", "add-port", name, port, "--", "set", "interface", port, f"ofport_request={n}"]
        words += ["--", "set-controller", name, "tcp:127.0.0.1:6653", "--", "set", "controller", name,
                  "inactivity_probe=0", "max_backoff=1000"]
        self.vsctl(*words)

    def soft(self, agent, protocol):
        """The agent with a soft switch that dials the tester; it has no controller of its own."""
        ports = "".join(f'[[switch.port]]\nnumber = {n}\ninterface = "a{n}"\n' for n in PORTS)
        paths = "".join(f'{key} = "{self.at(name)}"\n' for key, name in
                        [("state", "state"), ("control", "control.sock"), ("initial", "initial.toml")])
        config = (f'name = "target"\ncontroller = "unix:{self.at("no-controller")}"\n{paths}'
                  f'[ovs]\ndatabase = "{self.at("no-database")}"\n'
                  f'[[switch]]\nname = "target"\ndatapath = "soft"\n{ports}')
        initial = (f'[[switch]]\nname = "target"\ndatapath_id = "{TARGET:016x}"\nprotocols = ["{protocol}"]\n'
                   f'controllers = ["tcp:127.0.0.1:6653"]\n{ports}')
        for name, text in [("agent.toml", config), ("initial.toml", initial)]:
            with open(self.at(name), "w", encoding="utf-8") as file:
                file.write(text)
        self.start("tandem-agent", agent, "--config", self.at("agent.toml"))

    def end(self):
        """Ends all that was started."""
        for child in self.children.values():
            child.kill()
        for child in self.children.values():
            child.wait()
