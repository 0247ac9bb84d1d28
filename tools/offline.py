"""Run a command in a network namespace of its own, with nothing in it but loopback.

    python tools/offline.py pytest -m "not whole"

Where the machine has no such namespaces it says so and runs the command with the network as it is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

INSIDE = "DRYSTONE_OFFLINE"
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def main() -> None:
    command = sys.argv[1:]
    if not command:
        sys.exit("Name a command to run offline.")
    if os.environ.get(INSIDE):
        loopback_up()
        os.execvp(command[0], command)
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            environment = {**os.environ, INSIDE: "1"}
            again = [*prefix, sys.executable, os.path.abspath(__file__), *command]
            sys.exit(subprocess.run(again, env=environment).returncode)
    print("NOTE: no network namespaces here (unshare): the command runs with the network as it is", flush=True)
    os.execvp(command[0], command)


def loopback_up() -> None:
    """The one device of a new namespace is there but down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        name = b"lo".ljust(16, b"\0")
        answer = fcntl.ioctl(device, SIOCGIFFLAGS, struct.pack("16sh14x", name, 0))
        flags = struct.unpack("16sh14x", answer)[1] | IFF_UP
        fcntl.ioctl(device, SIOCSIFFLAGS, struct.pack("16sh14x", name, flags))


if __name__ == "__main__":
    main()
