"""A terminal for the documents' commands: a folder, and programs that run in it one after the other.

`python -m ...` runs in a process forked from one that has the large libraries loaded already; anything else runs in
bash. Programs that serve until they are ended stay until the terminal is closed.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.process
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tests import forked
from tests.locks import alone
from tests.sweeps import ROOT

LIMIT_S = 200.0

UNDRAWN = ("experiments.power_sweep", "experiments.replay")
"""Programs whose pictures no page looks at."""


def _run_module(arguments: list[str], folder: str, said: str, extra: dict[str, str]) -> None:
    """Be `python -m MODULE ...` or `python FILE ...` in the folder, with both streams in a file."""
    stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    if set(UNDRAWN) & set(arguments[:2]):
        forked.leave_pictures_out()
    forked.be(arguments, folder, extra)


class Terminal:
    """Runs commands in a folder; on leaving, ends the programs that still serve."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        self._log = folder / ".said"
        self._serving: list[multiprocessing.process.BaseProcess] = []
        self._held, self._alone = contextlib.ExitStack(), False
        self.addresses: dict[str, dict[str, list[str]]] = {}

    def __enter__(self) -> Terminal:
        return self

    @property
    def address(self) -> str | None:
        """The raw socket of the oscilloscope that was served last."""
        return self.addresses["scope"]["socket"][0] if self.addresses else None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End what still serves; each must end well."""
        for process in self._serving:
            process.terminate()
        codes = []
        for process in self._serving:
            process.join(20.0)
            codes.append(process.exitcode)
            process.kill()
        self._serving.clear()
        self._held.close()
        self._alone = False
        assert not any(codes), codes

    def run(self, command: str, serves: bool = False) -> int:
        """Run one command to its end, or to its first line of JSON where it serves; gives its exit code."""
        before = self._size()
        words = shlex.split(command, comments=True)
        extra = {}
        while words and re.match(r"^[A-Z_]+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            extra[name] = value
        plain = not re.search(r"[|<>;&*$]", re.sub(r"'[^']*'", "", command))
        if words[0] in ("python", ".venv/bin/python") and plain:
            code = self._fork(words[1:], extra, serves)
        else:
            code = self._shell(command)
        self.said = self._since(before)
        if serves and code == 0:
            first = next(line for line in self.said.splitlines() if line.startswith("{"))
            self.addresses = json.loads(first)
        return code

    def _fork(self, arguments: list[str], extra: dict[str, str], serves: bool) -> int:
        process = forked.CONTEXT.Process(target=_run_module, args=(arguments, str(self.folder), str(self._log), extra))
        before = self._size()
        if serves and not self._alone:  # a bench that is served takes port 111 too
            self._held.enter_context(alone("port-111"))
            self._alone = True
        process.start()
        if serves:
            deadline = time.monotonic() + LIMIT_S
            while not re.search(r"^{.*}$", self._since(before), re.M):
                if not process.is_alive() or time.monotonic() > deadline:
                    process.kill()
                    return process.exitcode or 1
                time.sleep(0.05)
            self._serving.append(process)
            return 0
        process.join(LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"{shlex.join(arguments)} did not end in {LIMIT_S:g} s: {self._since(before)}")
        assert process.exitcode is not None
        return process.exitcode

    def _size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def _since(self, before: int) -> str:
        return self._log.read_bytes()[before:].decode() if self._log.exists() else ""

    def _shell(self, command: str) -> int:
        folders = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with self._log.open("a") as stream:
            return subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", command],
                cwd=self.folder,
                env={**os.environ, "PATH": folders, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_S,
                check=False,
            ).returncode
