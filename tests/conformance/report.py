"""What became of the tests: files of results, the table, and the comparison with the list of failures that are none of ours."""

import csv
import json
import os
import tomllib
from dataclasses import dataclass

import patterns

NAMES = {"tandem": "Tandem's soft switch", "ovs": "Open vSwitch"}


@dataclass(frozen=True)
class Result:
    """Of a test on a switch."""
    pattern: patterns.Pattern
    result: str
    reason: str
    seconds: float

    @property
    def is_good(self):
        """The tester says so."""
        return self.result == "OK"


def write(folder, target, results):
    """The results of a switch as `TARGET.csv` and `TARGET.json`."""
    rows = [{"group": r.pattern.group, "file": r.pattern.file, "test": r.pattern.name, "result": r.result,
             "reason": r.reason, "seconds": r.seconds} for r in results]
    with open(os.path.join(folder, f"{target}.json"), "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)
    with open(os.path.join(folder, f"{target}.csv"), "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["group", "file", "test", "result", "reason", "seconds"])
        table.writeheader()
        table.writerows(rows)


def table(results):
    """Passed of all by group, as Markdown; `results` by target."""
    lines = ["| group | " + " | ".join(NAMES[t] for t in results) + " |", "|---" * (len(results) + 1) + "|"]
    sums = {target: [0, 0] for target in results}
    for group in patterns.GROUPS:
        cells = []
        for target, all_of in results.items():
            of_group = [r for r in all_of if r.pattern.group == group]
            good = sum(r.is_good for r in of_group)
            sums[target][0] += good
            sums[target][1] += len(of_group)
            cells.append(f"{good} of {len(of_group)}" if of_group else "-")
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    lines.append("| all | " + " | ".join(f"{good} of {count}" for good, count in sums.values()) + " |")
    return "\n".join(lines) + "\n"


def failures(results):
    """What failed, by group and file, with the tester's reasons."""
    lines = []
    for group in patterns.GROUPS:
        bad = [r for r in results if r.pattern.group == group and not r.is_good]
        if bad:
            lines.append(f"\n## {group}: {len(bad)}")
        last = None
        for r in bad:
            if r.pattern.file != last:
                lines.append(f"\n{r.pattern.file}")
                last = r.pattern.file
            lines.append(f"  - {r.pattern.name}\n      {r.reason}")
    return "\n".join(lines) + "\n"


class Known:
    """The list of failures that are none of ours: `known.toml`, which says what an entry is."""

    def __init__(self, path, all_patterns):
        with open(path, "rb") as file:
            entries = tomllib.load(file).get("failure", [])
        there = {p.key for p in all_patterns}
        self.why = {}
        self.faults = []
        for entry in entries:
            for field in ("file", "tests", "section", "why"):
                if not entry.get(field):
                    self.faults.append(f"known.toml: an entry of {entry.get('file')} has no {field}")
            for name in entry.get("tests", []):
                key = (entry.get("file"), name)
                if key not in there:
                    self.faults.append(f"known.toml: there is no test {name!r} in {entry.get('file')}")
                if key in self.why:
                    self.faults.append(f"known.toml: {name!r} of {entry.get('file')} is there twice")
                self.why[key] = f"{entry.get('section')}: {entry.get('why')}"

    def compare(self, results):
        """What is other than the list says, a line each."""
        said = list(self.faults)
        for r in results:
            listed = r.pattern.key in self.why
            if r.is_good and listed:
                said.append(f"passes and is in known.toml: {r.pattern.file}: {r.pattern.name}")
            elif not r.is_good and not listed:
                said.append(f"fails and is not in known.toml: {r.pattern.file}: {r.pattern.name}: {r.reason}")
        return said
