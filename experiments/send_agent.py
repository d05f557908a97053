"""Sends the agent to a board and runs it there, leaving no file behind.

``python -m experiments.send_agent ssh board -- --marker gpio:0:17,27``, as `dut.command` of a lab.yaml: what stands
before ``--`` reaches a shell on the board, what stands after are the agent's own options. The agent is packed here
and written to the connection before the conversation begins, so that bench and board always run the same release.
The board needs Python 3.6, and torch for networks. Runs on the bench.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import select
import shlex
import subprocess
import sys

from experiments import agent_archive

# Python 3.6. The file has no name by the time that it runs, so nothing is left even by a power failure.
_RECEIVE = """\
import hashlib, os, sys, tempfile
size, digest = int(sys.argv[1]), sys.argv[2]
data = b""
while len(data) < size:
    part = os.read(0, size - len(data))
    if not part:
        sys.exit("the connection ended after %d of %d bytes of the agent" % (len(data), size))
    data += part
if hashlib.sha256(data).hexdigest() != digest:
    sys.exit("the agent did not arrive whole: its check sum is wrong")
file = tempfile.TemporaryFile()
file.write(data)
file.flush()
path = "/proc/self/fd/%d" % file.fileno()
sys.path.insert(0, path)
sys.argv = ["dut_agent"] + sys.argv[3:]
from experiments.dut_agent import main
sys.exit(main())
"""


def remote_command(data: bytes, python: str, agent_arguments: list[str]) -> str:
    """Return the command for a shell on the board that takes the agent from its standard input and runs it."""
    digest = hashlib.sha256(data).hexdigest()
    return shlex.join([python, "-c", _RECEIVE, str(len(data)), digest, *agent_arguments])


def relay(command: list[str], data: bytes) -> int:
    """Start `command`, give it `data` and then our standard input; return its exit code as a shell would.

    Its output is ours, without a way through this process. Ends when the command does.
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    ended, target = os.pidfd_open(process.pid), process.stdin.fileno()
    with contextlib.suppress(BrokenPipeError):
        _write(target, data)
        while ended not in select.select([0, ended], [], [])[0]:
            part = os.read(0, 65536)
            if not part:
                break
            _write(target, part)
    process.stdin.close()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def main(arguments: list[str] | None = None) -> int:
    """Send and run the agent; 2 for wrong usage, else what the command returns."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    agent_arguments: list[str] = []
    if "--" in given:
        at = given.index("--")
        given, agent_arguments = given[:at], given[at + 1 :]
    parser = argparse.ArgumentParser(
        prog="python -m experiments.send_agent",
        description=(__doc__ or "").split("\n")[0],
        usage="%(prog)s [-h] [--python PYTHON] COMMAND... [-- AGENT OPTIONS]",
    )
    parser.add_argument("--python", default="python3", help="the board's Python (default: python3)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="reaches a shell on the board, such as `ssh board`")
    options = parser.parse_args(given)
    if not options.command:
        parser.error("name the command that reaches the board, such as `ssh board`")
    data = agent_archive.archive()
    remote = remote_command(data, options.python, agent_arguments)
    try:
        return relay([*options.command, remote], data)
    except OSError as error:
        print(f"error: {options.command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
