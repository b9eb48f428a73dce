"""Makes a data centre with Mininet's Python API, for the lab that has started this.

Standard input is a socket on which the lab asks and this answers, a line of JSON each:

    {"do": "build", "network": {...}}  ->  {"pids": {"srv1": 12, ...}, "seconds": {"build": ..., "start": ...}}
    {"do": "stop"}                     ->  {"seconds": {"stop": ...}}

An answer may be {"error": "..."} instead. When the lab closes the socket, this ends; when this ends,
the lab does. Everything runs in the lab's namespaces: nothing that is left here is left outside.
"""

import json
import logging
import os
import socket
import subprocess
import time

from mininet.link import TCIntf, TCLink
from mininet.log import lg
from mininet.net import Mininet
from mininet.node import OVSBridge, OVSSwitch, RemoteController
from mininet.topo import Topo


class Errors(logging.Handler):
    """Mininet says what fails in its log and goes on: a link without its rate, for one."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.said = []

    def emit(self, record):
        text = " ".join(record.getMessage().split())
        # The kernel warns of HTB's quantum above some Mbit/s, and does what it was asked for.
        if text and not text.startswith("*** Error: Warning: "):
            self.said.append(text)

    def check(self):
        if self.said:
            raise RuntimeError("; ".join(self.said[:3]))


class Interface(TCIntf):
    """Mininet leaves links above 1 Gbit/s unshaped, and says so as an error."""

    bwParamMax = 1_000_000


class SiteTopo(Topo):
    """The site's topology, with its names, port numbers and Ethernet addresses."""

    def build(self, network):
        for host in network["hosts"]:
            self.addHost(host["name"], ip=host["address"])
        for switch in network["switches"]:
            # A legacy switch learns by itself, as a bridge does.
            kind = {"cls": OVSBridge} if switch["legacy"] else {"protocols": network["protocols"]}
            self.addSwitch(switch["name"], dpid=switch["dpid"], datapath=network["datapath"], **kind)
        for link in network["links"]:
            ends = {}
            for n, end in enumerate(link["ends"], 1):
                ends["port%d" % n] = end["port"]
                ends["intfName%d" % n] = end["interface"]
                if end["mac"]:
                    ends["addr%d" % n] = end["mac"]
                # A checksum that is left to the card never reaches the other end: userspace Open
                # vSwitch takes packets from the kernel as they are.
                shape = {"txo": False} if end["host"] else {}
                if end["shaped"]:
                    shape.update(link["shape"])
                ends["params%d" % n] = shape
            first, second = (end["node"] for end in link["ends"])
            self.addLink(first, second, intf=Interface, **ends)


def refused_ports():
    """Mininet does not look at what Open vSwitch says of the ports that it is told to make."""
    said = subprocess.run(
        ["ovs-vsctl", "--format=json", "--columns=name,ofport,error", "list", "Interface"],
        stdout=subprocess.PIPE,
        check=True,
    )
    rows = json.loads(said.stdout)["data"]
    return ["port %s: %s" % (name, error) for name, ofport, error in rows if ofport == -1]


def build(network, errors):
    # It would raise limits of the whole machine, which would stay: the lab has raised its own.
    Mininet.inited = True
    begin = time.monotonic()
    net = Mininet(topo=SiteTopo(network), switch=OVSSwitch, link=TCLink, controller=None)
    errors.check()
    built = time.monotonic()
    controller = network["controller"]
    if controller:
        net.addController("c0", controller=RemoteController, ip=controller["ip"], port=controller["port"])
    net.start()
    errors.check()
    refused = refused_ports()
    if refused:
        raise RuntimeError("Open vSwitch refuses " + "; ".join(refused[:3]))
    started = time.monotonic()
    pids = {host.name: host.pid for host in net.hosts}
    return net, {"pids": pids, "seconds": {"build": built - begin, "start": started - built}}


def serve(lines, errors):
    net = None
    for line in lines:
        order = json.loads(line)
        try:
            if order["do"] == "build":
                net, answer = build(order["network"], errors)
            else:
                begin = time.monotonic()
                net.stop()
                answer = {"seconds": {"stop": time.monotonic() - begin}}
        # Mininet ends the program where it misses something (SystemExit).
        except (Exception, SystemExit) as why:
            logging.getLogger("driver").exception("failed")
            answer = {"error": "; ".join(errors.said[:3]) or "%s: %s" % (type(why).__name__, why)}
        lines.write(json.dumps(answer) + "\n")
        lines.flush()


def main():
    lab = socket.socket(fileno=os.dup(0))
    # What Mininet starts must not hold the socket, nor write into it.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    logging.basicConfig()
    lg.setLogLevel("warning")
    errors = Errors()
    lg.addHandler(errors)
    with lab.makefile("rw", encoding="utf-8") as lines:
        serve(lines, errors)


main()
