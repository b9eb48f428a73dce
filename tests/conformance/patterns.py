"""The tester's patterns: which tests there are, to which group each belongs, and which of them a sample has."""

import json
import os
from dataclasses import dataclass

# In the order of the table.
GROUPS = [
    "match, plain", "match, MPLS", "match, PBB", "match, OpenFlow 1.0",
    "action, plain", "action, MPLS", "action, PBB", "action, OpenFlow 1.0",
    "group", "meter",
]
# Packets in a second that the tester is to send, from which on a test is alone on the machine.
HEAVY = 5000
# Tests with a stream of packets in a sample, of groups and of meters: each takes as long as its stream.
SAMPLE = 2


@dataclass(frozen=True)
class Pattern:
    """A test: the `number`-th of a file of patterns."""
    file: str
    number: int
    name: str
    group: str
    version: str
    rate: int

    @property
    def key(self):
        """What it is called in lists."""
        return (self.file, self.name)


def group_of(version, kind, name):
    """A test's group, by what its name says it sends and does."""
    if kind in ("group", "meter"):
        return kind
    if version == "of10":
        return f"{kind}, OpenFlow 1.0"
    words = name.lower()
    if "mpls" in words:
        return f"{kind}, MPLS"
    return f"{kind}, PBB" if "pbb" in words or "itag" in words else f"{kind}, plain"


def read(root):
    """All tests of OpenFlow 1.0 and 1.3 under a folder, in order. A name that a file has twice gets a number."""
    found = []
    for version in ("of13", "of10"):
        for folder, _, files in sorted(os.walk(os.path.join(root, version))):
            for file in sorted(f for f in files if f.endswith(".json")):
                path = os.path.join(folder, file)
                with open(path, encoding="utf-8") as text:
                    tests = [t for t in json.load(text) if isinstance(t, dict)]
                short = os.path.relpath(path, root)
                kind = short.split(os.sep)[1]
                seen = {}
                for number, test in enumerate(tests):
                    name = test["description"]
                    seen[name] = seen.get(name, 0) + 1
                    called = name if seen[name] == 1 else f"{name} #{seen[name]}"
                    rates = [t["ingress"]["packets"].get("pktps", 1000) for t in test["tests"]
                             if isinstance(t["ingress"], dict)]
                    group = group_of(version, kind, name)
                    found.append(Pattern(short, number, called, group, version, max(rates, default=0)))
    return found


def sample(patterns):
    """Those that send single packets, and some of those that send streams, always the same."""
    chosen = [p for p in patterns if not p.rate]
    for group in GROUPS:
        streams = [p for p in patterns if p.group == group and 0 < p.rate < HEAVY]
        places = {int((n + 0.5) * len(streams) / SAMPLE) for n in range(SAMPLE)}
        chosen.extend(p for n, p in enumerate(streams) if n in places)
    return chosen
