"""A sandbox of namespaces that nothing outlives: whatever is started inside is gone when the process that entered it is, however that ends.

Inside there are no interfaces but those that are made there, no processes of others, and a folder in memory.
"""

import ctypes
import os
import signal
import subprocess
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)


def unshare(flags):
    """unshare(2)."""
    if LIBC.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"namespaces cannot be made (root, or user namespaces, are needed): {os.strerror(number)}")


def end_with_parent():
    """Has this process killed when its parent ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter():
    """Goes on as the first process of a sandbox, and returns its folder; the caller's own process waits and ends as that one does."""
    users = (os.getuid(), os.getgid())
    unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | (0 if users[0] == 0 else CLONE_NEWUSER))
    if users[0] != 0:
        for name, text in [("setgroups", "deny"), ("uid_map", f"0 {users[0]} 1"), ("gid_map", f"0 {users[1]} 1")]:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    child = os.fork()
    if child != 0:
        wait_for(child)
    end_with_parent()
    # The first process of a namespace gets no signal that it does not ask for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mount = lambda *words: subprocess.run(["mount", *words], check=True)
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    here = os.getcwd()
    folder = next(f for f in ("/mnt", "/media", "/srv") if not here.startswith(f))
    mount("-t", "tmpfs", "tmpfs", folder)
    return folder


def wait_for(child):
    """Ends as the child does; with a signal, the child is ended first."""
    def stop(number, _):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
