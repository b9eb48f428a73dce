"""Runs a Mininet script and records the topology that it makes. Nothing is started.

`tandem site import` starts this program in a child: python3 -I -c THIS REQUEST, the script on standard
input. The class `Mininet` and whatever would start a process or touch the machine's network are
replaced by recording ones before the script runs; `mininet.topo` stays Debian's own. The answer is one
JSON object on the standard output that the child was started with:

    {"recorded": {"name", "nodes", "links", "notes"}}   or   {"fault": {"line", "problem", "instead"}}

The script's own output goes to standard error. What is here keeps a mistaken script from doing harm;
what keeps any script from it (no network, no privileges, no processes left) is around this process.
"""

import json
import math
import os
import resource
import sys
import traceback

REQUEST = json.loads(sys.argv[1])
SCRIPT = REQUEST["file"]
PARENT = os.getpid()
ANSWER = os.dup(1)


def answer(value):
    """Ends the process with an answer; a process that the script forked has none to give."""
    if os.getpid() == PARENT:
        with os.fdopen(ANSWER, "w", encoding="utf-8") as out:
            json.dump(value, out, allow_nan=False)
    sys.stderr.flush()
    os._exit(0)


def fault(problem, instead, line=0):
    """Ends the process: there is no topology, for this reason."""
    answer({"fault": {"line": line, "problem": problem, "instead": instead}})


def limit():
    """Bounds what the script may use, whoever it runs as."""
    seconds = int(math.ceil(REQUEST["seconds"])) + 1
    limits = [
        (resource.RLIMIT_AS, 1 << 30),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ]
    if not REQUEST["forks"]:
        # Outside of a PID namespace a process of the script could outlive it.
        limits.append((resource.RLIMIT_NPROC, 0))
    for what, most in limits:
        resource.setrlimit(what, (most, most))


def script_line():
    """The line of the script that is being carried out."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == SCRIPT:
            return frame.f_lineno
        frame = frame.f_back
    return 0


class Anything:
    """What methods give back that are not recorded: it can be called, read and walked, and is empty."""

    def __call__(self, *args, **params):
        return Anything()

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Anything()

    def __getitem__(self, key):
        return Anything()

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0

    def __str__(self):
        return ""

    def __int__(self):
        return 0

    def __float__(self):
        return 0.0

    def __index__(self):
        return 0

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return False


class RecordedNode(Anything):
    """A node of a recorded network."""

    def __init__(self, name, kind, params, line):
        self.name = name
        self.kind = kind
        self.params = params
        self.line = line

    def __str__(self):
        return self.name

    def __len__(self):
        return 1

    def cmd(self, *args, **params):
        return ""

    cmdPrint = sendCmd = waitOutput = monitor = cmd

    def IP(self, *args):
        return str(self.params.get("ip") or "10.0.0.1").split("/")[0]

    def MAC(self, *args):
        return str(self.params.get("mac") or "00:00:00:00:00:01")

    def setIP(self, ip, *args, **params):
        self.params.setdefault("ip", ip)

    def setMAC(self, mac, *args):
        self.params.setdefault("mac", mac)


class RecordedLink(Anything):
    """A link of a recorded network."""

    def __init__(self, ends, params, line):
        self.ends = ends
        self.params = params
        self.line = line


class RecordedNet(Anything):
    """In place of `mininet.net.Mininet`: takes down what is added, and starts nothing."""

    all = []

    def __init__(self, topo=None, *args, **params):
        self.topo = topo
        self.hosts, self.switches, self.controllers, self.links = [], [], [], []
        self.nameToNode = {}
        self.whole = topo is not None
        self.notes = []
        RecordedNet.all.append(self)
        if topo is not None:
            self.buildFromTopo(topo)

    def add(self, nodes, name, kind, params):
        name = str(name)
        node = RecordedNode(name, kind, params, script_line())
        nodes.append(node)
        self.nameToNode[name] = node
        return node

    def addHost(self, name, cls=None, **params):
        kind = "gateway" if is_nat(cls) else "host"
        return self.add(self.hosts, name, kind, params)

    def addNAT(self, name="nat0", connect=True, inNamespace=False, **params):
        node = self.add(self.hosts, name, "gateway", params)
        if connect:
            switch = connect if isinstance(connect, (str, RecordedNode)) else (self.switches or [None])[0]
            if switch is not None:
                self.addLink(node, switch)
        return node

    def addSwitch(self, name, cls=None, **params):
        return self.add(self.switches, name, "switch", params)

    def addController(self, name="c0", controller=None, **params):
        self.notes.append([script_line(), "a controller", "the site's is `tandem serve`"])
        return self.add(self.controllers, getattr(name, "name", name), "controller", params)

    def addLink(self, node1, node2, port1=None, port2=None, cls=None, **params):
        params.update({k: v for k, v in (("port1", port1), ("port2", port2)) if v is not None})
        ends = [str(getattr(node, "name", node)) for node in (node1, node2)]
        for end in ends:
            if end not in self.nameToNode:
                raise KeyError(end)
        link = RecordedLink(ends, params, script_line())
        self.links.append(link)
        return link

    def delLink(self, link):
        if link in self.links:
            self.links.remove(link)

    def delNode(self, node, nodes=None):
        name = str(getattr(node, "name", node))
        node = self.nameToNode.pop(name, None)
        for nodes in (self.hosts, self.switches, self.controllers):
            if node in nodes:
                nodes.remove(node)
        self.links = [link for link in self.links if name not in link.ends]

    delHost = delSwitch = delController = delNode

    def buildFromTopo(self, topo=None):
        recorded = of_topo(topo)
        for node in recorded["nodes"]:
            nodes = self.switches if node["kind"] == "switch" else self.hosts
            made = self.add(nodes, node["name"], node["kind"], dict(node["options"]))
            made.line = node["line"]
        for link in recorded["links"]:
            self.links.append(RecordedLink(list(link["ends"]), dict(link["options"]), link["line"]))

    def build(self):
        self.whole = True

    def start(self):
        self.whole = True

    def get(self, *names):
        nodes = [self.nameToNode[name] for name in names]
        return nodes[0] if len(nodes) == 1 else nodes

    def getNodeByName(self, *names):
        return self.get(*names)

    def __getitem__(self, name):
        return self.nameToNode[name]

    def __contains__(self, name):
        return name in self.nameToNode

    def __iter__(self):
        return iter(list(self.nameToNode))

    def __len__(self):
        return len(self.nameToNode)

    def keys(self):
        return list(self.nameToNode)

    def values(self):
        return list(self.nameToNode.values())

    def items(self):
        return list(self.nameToNode.items())

    def pingAll(self, *args, **params):
        return 0.0

    ping = pingPair = pingAllFull = pingAll

    def iperf(self, *args, **params):
        return ["0 Mbits/sec", "0 Mbits/sec"]


def plain(params, drop):
    """Options as JSON has them; what is neither text nor number is named and not shown."""
    kept = {}
    for key, value in params.items():
        if key in drop or value is None:
            continue
        finite = isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < 1e15
        kept[str(key)] = value if isinstance(value, (str, bool)) or finite else "?"
    return kept


def is_nat(cls):
    from mininet.nodelib import NAT

    return isinstance(cls, type) and issubclass(cls, NAT)


DROPPED = ("node1", "node2", "isSwitch", "cls", "recorded_line", "recorded_order", "recorded_ports")


def of_topo(topo):
    """A `Topo` as it is recorded."""
    lines = getattr(topo, "recorded_lines", {})
    nodes = []
    for name in topo.nodes(sort=False):
        info = topo.nodeInfo(name)
        kind = "switch" if topo.isSwitch(name) else "gateway" if is_nat(info.get("cls")) else "host"
        nodes.append({"name": str(name), "kind": kind, "line": lines.get(name, 0), "options": plain(info, DROPPED)})
    links = []
    for one, other, info in topo.links(withInfo=True):
        drop = DROPPED if info.get("recorded_ports") else DROPPED + ("port1", "port2")
        ends = [str(one), str(other)]
        order = info.get("recorded_order", 0)
        links.append((order, {"ends": ends, "line": info.get("recorded_line", 0), "options": plain(info, drop)}))
    links.sort(key=lambda pair: pair[0])
    return {"name": type(topo).__name__, "nodes": nodes, "links": [link for _, link in links], "notes": []}


def of_net(net):
    """A recorded network as it is told."""
    nodes = [
        {"name": n.name, "kind": n.kind, "line": n.line, "options": plain(n.params, DROPPED)}
        for n in net.switches + net.hosts
    ]
    links = [{"ends": l.ends, "line": l.line, "options": plain(l.params, DROPPED)} for l in net.links]
    name = type(net.topo).__name__ if net.topo is not None else ""
    return {"name": name, "nodes": nodes, "links": links, "notes": net.notes}


def replace():
    """Replaces what starts something by what records it."""
    import time

    import mininet.clean
    import mininet.cli
    import mininet.link
    import mininet.net
    import mininet.node
    import mininet.term
    import mininet.topo
    import mininet.util

    nothing = Anything()
    mininet.net.Mininet = RecordedNet
    mininet.net.MininetWithControlNet = RecordedNet

    class RecordedCLI(Anything):
        def __init__(self, *args, **params):
            pass

    mininet.cli.CLI = RecordedCLI
    mininet.net.CLI = RecordedCLI
    for module, names in (
        (mininet.util, ("quietRun", "errRun", "oldQuietRun", "pmonitor", "ensureRoot", "fixLimits", "moveIntf")),
        (mininet.clean, ("cleanup", "sh")),
        (mininet.term, ("makeTerm", "makeTerms", "cleanUpScreens", "runX11")),
    ):
        for name in names:
            setattr(module, name, nothing)
    mininet.clean.Cleanup = nothing
    # A controller or a node that the script makes by itself.
    for name in ("startShell", "mountPrivateDirs", "cmd", "sendCmd", "waitOutput", "popen", "pexec", "terminate", "stop"):
        setattr(mininet.node.Node, name, lambda self, *args, **params: "")
    # Nothing happens that could be waited for.
    time.sleep = lambda seconds: None

    topo = mininet.topo.Topo
    add_node, add_link = topo.addNode, topo.addLink

    def recorded_node(self, name, **opts):
        self.__dict__.setdefault("recorded_lines", {}).setdefault(name, script_line())
        return add_node(self, name, **opts)

    def recorded_link(self, node1, node2, port1=None, port2=None, key=None, **opts):
        order = self.__dict__.setdefault("recorded_count", 0)
        self.recorded_count = order + 1
        if not opts and self.lopts:
            opts = dict(self.lopts)
        is_given = port1 is not None or port2 is not None
        opts.update(recorded_line=script_line(), recorded_order=order, recorded_ports=is_given)
        return add_link(self, node1, node2, port1, port2, key, **opts)

    topo.addNode, topo.addLink = recorded_node, recorded_link
    return topo


def raised(error):
    """Ends the process: the script has raised; the last line of its traceback, and the place."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == SCRIPT]
    line = frames[-1].lineno if frames else getattr(error, "lineno", 0) or 0
    last = traceback.format_exception_only(type(error), error)[-1].strip()
    if isinstance(error, MemoryError):
        last = "MemoryError: it takes more than 1 GiB"
    fault(f"the script raises {last}", "let the script run through with `python3 FILE` first", line)


def choose(topo, names):
    """The topology of the script's names: a class or a function that makes one."""
    topos = names.get("topos")
    known = dict(topos) if isinstance(topos, dict) else {}
    if not known:
        # By their module: those that the script defines, and not those that it imports.
        is_own = lambda v: isinstance(v, type) and issubclass(v, topo) and v.__module__ == "__main__"
        known = {v.__name__: v for v in names.values() if is_own(v)}
    wanted, args, params = None, [], {}
    if REQUEST["topo"]:
        import mininet.util

        wanted, args, params = mininet.util.splitArgs(REQUEST["topo"])
        if wanted not in known and isinstance(names.get(wanted), type):
            known[wanted] = names[wanted]
    listed = ", ".join(sorted(map(str, known))) or "none"
    if wanted is None and len(known) > 1:
        fault(f"the script has several topologies: {listed}", "choose one: --topo NAME, or --topo NAME,ARGUMENT")
    if wanted is None and known:
        wanted = next(iter(known))
    if wanted is None:
        return None
    if wanted not in known:
        fault(f"the script has no topology {wanted}", f"write --topo with one of: {listed}")
    return known[wanted](*args, **params)


def main():
    text = sys.stdin.buffer.read()
    # The script's output is not the answer.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    limit()
    try:
        topo = replace()
    except ImportError as error:
        fault(f"Mininet's Python package cannot be imported: {error}", "install it: apt-get install mininet")
    sys.argv = [SCRIPT]
    sys.path.insert(0, REQUEST["folder"])
    ended = None
    scope = {"__name__": "__main__", "__file__": SCRIPT, "__builtins__": __builtins__}
    try:
        exec(compile(text, SCRIPT, "exec"), scope)
    except BaseException as error:  # whatever it is, the answer is ours
        ended = error
    if os.getpid() != PARENT:
        os._exit(0)
    nets = [net for net in RecordedNet.all if net.nameToNode]
    try:
        if nets and not REQUEST["topo"]:
            net = nets[0]
            if isinstance(ended, SystemExit):
                ended = None
            if ended is not None and not net.whole:
                raised(ended)
            recorded = of_net(net)
            if ended is not None:
                last = traceback.format_exception_only(type(ended), ended)[-1].strip()
                why = f"the network was whole, and what comes then is not carried out: {last}"
                recorded["notes"].append([0, "the end of the script", why])
            if len(nets) > 1:
                recorded["notes"].append([0, f"{len(nets) - 1} other networks of the script", "a site is one of them"])
            answer({"recorded": recorded})
        if ended is not None and not isinstance(ended, SystemExit):
            raised(ended)
        made = choose(topo, scope)
        if made is None and isinstance(ended, SystemExit):
            frames = [f for f in traceback.extract_tb(ended.__traceback__) if f.filename == SCRIPT]
            line = frames[-1].lineno if frames else 0
            fault(f"the script ends by itself, exit({ended.code!r})", "take the exit out, or let it come last", line)
        if made is None:
            instead = "define a class of Topo, a dictionary `topos`, or make a Mininet"
            fault("the script makes no topology", instead)
        answer({"recorded": of_topo(made)})
    except BaseException as error:
        raised(error)


main()
