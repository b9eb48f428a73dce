"""Runs os-ken's switch tester against the soft switch and Open vSwitch: see README.md."""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import patterns
import report
import sandbox

HERE = os.path.dirname(os.path.abspath(__file__))
# Seconds that a worker has besides its tests.
SETTLE = 90


def arguments():
    """The command line."""
    words = argparse.ArgumentParser(prog="tests/conformance/run", description=__doc__)
    words.add_argument("--agent", required=True, help="the program tandem-agent")
    words.add_argument("--out", required=True, help="folder for results; made")
    words.add_argument("--target", choices=["tandem", "ovs", "both"], default="both", help="what is tested")
    words.add_argument("--sample", action="store_true", help="without most of the tests that send streams")
    words.add_argument("--only", default="", metavar="TEXT", help="tests whose group, file or name has this")
    words.add_argument("--seconds", type=int, default=30, help="longest stream of the tests of groups and meters")
    words.add_argument("--workers", type=int, default=6, help="tests of groups and meters side by side")
    return words.parse_args()


def chosen(options, everything):
    """The tests that are asked for."""
    tests = patterns.sample(everything) if options.sample else everything
    return [p for p in tests if options.only in p.group or options.only in p.file or options.only in p.name]


def split(tests, count):
    """In that many parts, none of them empty."""
    return [part for part in (tests[n::count] for n in range(count)) if part]


class Runs:
    """Workers, and what they found."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.count = 0
        self.found = {}

    def work(self, target, version, tests):
        """One worker to its end; raises when it does not come to it."""
        self.count += 1
        place = os.path.join(self.folder, f"w{self.count}")
        paths = {name: f"{place}.{name}" for name in ("job", "results", "log")}
        seconds = self.options.seconds
        job = {"target": target, "version": version, "agent": self.options.agent, "folder": place, "seconds": seconds,
               "again": True, "cache": any(p.rate for p in tests), "results": paths["results"],
               "tests": [{"file": p.file, "number": p.number} for p in tests]}
        with open(paths["job"], "w", encoding="utf-8") as file:
            json.dump(job, file)
        limit = SETTLE + sum(2 * (seconds + 8) if p.rate else 10 for p in tests)
        with open(paths["log"], "w", encoding="utf-8") as log:
            done = subprocess.run([sys.executable, "-B", "-W", "ignore", os.path.join(HERE, "worker.py"), paths["job"]],
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=limit, check=False)
        by_place = {(p.file, p.number): p for p in tests}
        lines = []
        if os.path.exists(paths["results"]):
            with open(paths["results"], encoding="utf-8") as file:
                lines = [json.loads(line) for line in file]
        if done.returncode != 0 or len(lines) != len(tests):
            with open(paths["log"], encoding="utf-8", errors="replace") as log:
                said = log.read().strip()[-2000:]
            raise RuntimeError(f"{target} {version}: {len(lines)} of {len(tests)} tests, then: {said}")
        results = [report.Result(by_place[l["file"], l["number"]], l["result"], l["reason"], l["seconds"]) for l in lines]
        self.found.setdefault(target, []).extend(results)

    def side_by_side(self, jobs, workers):
        """Several workers; raises what the first of them raises."""
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            for done in [pool.submit(self.work, *job) for job in jobs]:
                done.result()


def jobs(targets, tests, workers):
    """Who does what: what is quick, what sends a stream, and what sends one that needs the machine."""
    quick, streams, heavy = [], [], []
    for target in targets:
        for version in ("of13", "of10"):
            of_version = [p for p in tests if p.version == version]
            quick += [(target, version, part) for part in split([p for p in of_version if not p.rate], 1)]
            light = [p for p in of_version if 0 < p.rate < patterns.HEAVY]
            streams += [(target, version, part) for part in split(light, max(workers // len(targets), 1))]
            heavy += [(target, version, part) for part in split([p for p in of_version if p.rate >= patterns.HEAVY], 1)]
    return quick, streams, heavy


def main():
    """Exit code 0: all is as known.toml says; 1: it is not; 2: it could not be found out."""
    options = arguments()
    options.agent, options.out = os.path.abspath(options.agent), os.path.abspath(options.out)
    os.makedirs(options.out, exist_ok=True)
    folder = sandbox.enter()
    # Here, since it cannot be loaded before its own process is one: it changes how Python waits.
    import tester_app  # pylint: disable=import-outside-toplevel
    everything = patterns.read(tester_app.test_root())
    tests = chosen(options, everything)
    targets = ["tandem", "ovs"] if options.target == "both" else [options.target]
    known = report.Known(os.path.join(HERE, "known.toml"), everything)
    runs = Runs(options, folder)
    start = time.monotonic()
    quick, streams, heavy = jobs(targets, tests, options.workers)
    try:
        runs.side_by_side(quick, 2)
        runs.side_by_side(streams, options.workers)
        runs.side_by_side(heavy, 1)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 2
    order = {p.key: n for n, p in enumerate(everything)}
    found = {t: sorted(runs.found.get(t, []), key=lambda r: order[r.pattern.key]) for t in targets}
    print(f"{len(tests)} tests in {time.monotonic() - start:.0f} s\n\n{report.table(found)}")
    for target, results in found.items():
        report.write(options.out, target, results)
        with open(os.path.join(options.out, f"{target}-failures.md"), "w", encoding="utf-8") as file:
            file.write(report.failures(results))
    with open(os.path.join(options.out, "table.md"), "w", encoding="utf-8") as file:
        file.write(report.table(found))
    other = known.compare(found.get("tandem", []))
    print("\n".join(other), file=sys.stderr)
    return 1 if other else 0


if __name__ == "__main__":
    sys.exit(main())
