"""os-ken's switch tester, with a list of tests and a record of results of our own. What a test sends and how it is judged is the tester's.

Three things of it are replaced, because of what they cost and not because of what they find:
- It sleeps a second before it asks whether a packet that matches nothing was looked up; here it is asked until it was, for as long.
- It makes a thread for each hundredth of a second of a stream and is late by a tenth and more, or cannot keep up at all; here what is
  due is sent, and a stream that did not come to the switch says so.
- It reads folders, in which of two files with the same title only one is run; here each test is named.
"""

import json
import logging
import os
import time

from os_ken import cfg, flags  # noqa: F401  (the tester's options are in flags)
from os_ken.base.app_manager import AppManager
from os_ken.lib import hub
from os_ken.tests.switch import tester

# Seconds: until a lookup is seen, and for one test with all that it waits for besides its stream.
LOOKUP, TEST = 1.5, 60
# How many packets are sent at once at most, and the pause between, in seconds.
BURST, PAUSE = 300, 0.002
# Which part of a stream must come to the switch for what leaves it to say anything.
CAME = 0.97


class TooSlow(Exception):
    """The tester was."""


class Sayings(logging.Handler):
    """What the tester says of the test that runs."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def reason(self):
        """The tester writes what was wrong behind the result, further to the right."""
        found = [line.strip() for line in self.lines if line.startswith("        ")]
        return found[-1] if found else ""


class Runner(tester.OfTester):
    """See the module. What is to be run is in `job`, set before the application is loaded."""

    job = None

    def _set_logger(self):
        self.sayings = Sayings()
        self.logger.propagate = False
        self.logger.setLevel(logging.INFO)
        self.logger.addHandler(self.sayings)

    def _test_sequential_execute(self, test_dir):
        code = 1
        try:
            self._tests()
            code = 0
        finally:
            Runner.job["ended"](code)

    def _tests(self):
        tester.INTERVAL = 0
        files = {}
        with open(Runner.job["results"], "w", encoding="utf-8") as results:
            for item in Runner.job["tests"]:
                if item["file"] not in files:
                    files[item["file"]] = tester.TestFile(os.path.join(test_root(), item["file"]), self.logger).tests
                test = files[item["file"]][item["number"]]
                self._shorten(test)
                outcome = self._run(test)
                # A busy machine is no fault of the switch: what fails is tried once more. A fault is there again.
                if outcome["result"] != tester.TEST_OK and Runner.job["again"]:
                    outcome = dict(self._run(test), again=True)
                results.write(json.dumps(dict(item, **outcome)) + "\n")
                results.flush()

    def _shorten(self, test):
        for packets in (t[tester.KEY_PACKETS] for t in test.tests if tester.KEY_PACKETS in t):
            packets[tester.KEY_DURATION_TIME] = min(packets[tester.KEY_DURATION_TIME], Runner.job["seconds"])

    def _run(self, test):
        Runner.job["check"]()
        self.sayings.lines.clear()
        start = time.monotonic()
        limit = hub.Timeout(TEST + Runner.job["seconds"])
        try:
            is_good = self._test_execute(test, None) == tester.TEST_OK
            reason = "" if is_good else self.sayings.reason() or "the tester does not say why"
        except hub.Timeout:
            self.waiter = None
            reason = "no end: the test has waited for something that does not come"
        except TooSlow as error:
            reason = str(error)
        except Exception as error:  # pylint: disable=broad-except
            # An answer that the tester does not foresee ends the test with an assertion.
            self.waiter = None
            reason = f"the tester does not understand the answer: {type(error).__name__} {error}".strip()
        finally:
            limit.cancel()
        result = "ERROR" if reason else tester.TEST_OK
        return {"result": result, "reason": reason, "seconds": round(time.monotonic() - start, 2)}

    def _test_flow_unmatching_check(self, before_stats, pkt):
        limit = time.monotonic() + LOOKUP
        while True:
            try:
                return super()._test_flow_unmatching_check(before_stats, pkt)
            except tester.TestError:
                if time.monotonic() > limit:
                    raise
                hub.sleep(0.05)
                self.send_msg_xids = []

    def _packet_out(self, data):
        datapath, ofproto = self.tester_sw.dp, self.tester_sw.dp.ofproto
        actions = [datapath.ofproto_parser.OFPActionOutput(self.tester_send_port)]
        message = datapath.ofproto_parser.OFPPacketOut(
            datapath=datapath, buffer_id=ofproto.OFP_NO_BUFFER, data=data, in_port=ofproto.OFPP_CONTROLLER,
            actions=actions)
        datapath.set_xid(message)
        message.serialize()
        return bytes(message.buf)

    def _some(self, packets, count):
        """The next packets of a stream, which are all equal, or each at random."""
        if not packets["randomize"]:
            return self._packet_out(packets["packet_binary"]) * count
        text = "/".join(packets["packet_text"])
        made = bytearray()
        for _ in range(count):
            # The patterns are Python, in the tester's own names.
            packet = eval(text, vars(tester))  # pylint: disable=eval-used
            packet.serialize()
            made += self._packet_out(packet.data)
        return bytes(made)

    def _continuous_packet_send(self, pkt):
        packets = pkt[tester.KEY_PACKETS]
        before = self._received()
        start, sent = time.monotonic(), 0
        while (elapsed := time.monotonic() - start) < packets[tester.KEY_DURATION_TIME]:
            due = min(int(elapsed * packets[tester.KEY_PKTPS]) - sent, BURST)
            if due > 0:
                self.tester_sw.dp.send(self._some(packets, due))
                sent += due
            hub.sleep(PAUSE)
        came = self._received() - before
        wanted = packets[tester.KEY_PKTPS] * packets[tester.KEY_DURATION_TIME]
        if came < wanted * CAME:
            raise TooSlow(f"only {came} of {wanted} packets came to the switch: this machine is too slow, or busy")

    def _received(self):
        """Packets that have come to the switch under test."""
        counted = self._test(tester.STATE_TARGET_PKT_COUNT, True)
        return counted[self.target_recv_port]["rx"]


def test_root():
    """The folder of the patterns."""
    return os.path.dirname(tester.__file__)


def run(job):
    """Runs a job until it calls `job["ended"]`. `job`: version, tests, results, seconds, again, check, ended."""
    Runner.job = job
    version = {"of10": "openflow10", "of13": "openflow13"}[job["version"]]
    cfg.CONF(args=["--test-switch-target-version", version, "--ofp-tcp-listen-port", "6653"], project="os_ken")
    AppManager.run_apps(["tester_app"])
