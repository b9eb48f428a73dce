#!/usr/bin/env python3
"""Asks a running controller for a VM, shows where it went, and gives it back.

    api_client.py [--api SOCKET] [--ram MIB]

Only the standard library is needed. The API is described by GET /api/v1/openapi.json; who may use
it is in docs/api.md.
"""

import argparse
import http.client
import json
import socket


class Controller:
    """The API on a Unix socket: one connection per request."""

    def __init__(self, path):
        self.path = path

    def ask(self, method, resource, body=None):
        """The answer's JSON; a RuntimeError with the controller's reason if it refuses."""
        connection = http.client.HTTPConnection("tandem", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.path)
        # Whatever changes something needs the second header, which no web page can send.
        headers = {"content-type": "application/json", "x-tandem-request": "1"}
        text = None if body is None else json.dumps(body)
        connection.request(method, "/api/v1" + resource, text, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        value = json.loads(answer) if answer else None
        if response.status >= 400:
            raise RuntimeError(f"{method} {resource}: {response.status}: {value['error']}")
        return value


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--api", default="/run/tandem/api.sock", metavar="SOCKET")
    arguments.add_argument("--ram", type=int, default=16, metavar="MIB")
    options = arguments.parse_args()
    controller = Controller(options.api)

    servers = controller.ask("GET", "/servers")
    print(f"{len(servers)} servers")
    # Amounts are bytes and bit/s; what is left out is the site's default.
    vm = controller.ask("POST", "/vms", {"ram": options.ram * 2**20, "name": "example"})
    print(f"vm{vm['id']} runs as {vm['address']}")
    try:
        shown = controller.ask("GET", f"/vms/{vm['id']}")
        print(f"it is on {shown['server_name']}, by {' - '.join(shown['path'])}")
    finally:
        controller.ask("DELETE", f"/vms/{vm['id']}")
    print("and is gone again")
    # A request that cannot be met is answered 409, with what was short where.
    try:
        controller.ask("POST", "/vms", {"net": 10**12})
    except RuntimeError as refused:
        print(refused)


if __name__ == "__main__":
    main()
