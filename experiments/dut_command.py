"""A network in a program of any language: started once, then asked for each batch over its input and output.

The protocol is lines of text, and for every line the program answers one: ``ok``, or ``error`` and why.

    batch N    get ready to run N images at a time
    run        run one batch, to the end of the device's work, then answer
    ping       do nothing

``ok`` to ``batch`` may say more: ``ok parameters=61000000 macs=720000000`` (per image), ``device=...``. The
program ends when its input closes. Python 3.6, standard library.
"""

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import time
from typing import Any, Dict

from experiments import dut_host
from experiments.dut_runner import Runner
from experiments.networks.errors import RefusedError
from experiments.networks.specs import Spec
from instruments.marker_line import monotonic_ns

_PINGS = 21
_MAX_ANSWER = 4096
_GRACE_S = 0.2
_QUIET_S = 0.1
_COUNTS = ("parameters", "macs", "operations_opcounter2016", "activations")
_MAX_DIGITS = 18


class CommandRunner(Runner):
    """Starts the program (no shell; a session and process group of its own) and has it ready for its batches."""

    device = "program"

    def __init__(self, spec: Spec, batch: int, threads: int) -> None:
        self.name, self.batch, self.threads = spec.text, batch, threads
        self._answer, self._unasked = b"", False
        try:
            arguments = shlex.split(spec.target)
        except ValueError as error:
            raise RefusedError("bad_request", "its command line cannot be split into arguments: %s" % error) from None
        environment = dict(os.environ)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env=environment,
            )
        except (OSError, ValueError) as error:
            raise RefusedError("unknown_network", "the program cannot be started: %s" % error) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        try:
            self._said = self._get_ready()
            self.device = self._said.get("device", self.device)[:64]
            self._round_trip_s = self._time_pings()
            self._wait_for_more()
            self.run()
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        if self._exchange(b"run\n") != b"ok":
            raise self._misunderstood("run")

    def facts(self) -> Dict[str, Any]:
        facts: Dict[str, Any] = {"command_round_trip_s": self._round_trip_s}
        if self._said:
            facts["said"] = self._said
        size = {name: int(self._said[name]) for name in _COUNTS if name in self._said}
        if "macs" in size:
            size["operations"] = 2 * size["macs"]
        if size:
            facts["size"] = size
        return facts

    def memory(self) -> Dict[str, int]:
        peak = dut_host.field_bytes("/proc/%d/status" % self._process.pid, "VmHWM")
        return {} if peak is None else {"process_peak_rss": peak}

    def close(self) -> None:
        """Close the program's input, give it a moment to end, then end its whole process group."""
        process, self._answer = self._process, b""
        if process.returncode is not None:
            return
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
        self._gone_within(_GRACE_S)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(OSError):  # nobody of the group is left
                os.killpg(process.pid, number)
            self._gone_within(_GRACE_S)
        process.wait()

    def _gone_within(self, seconds: float) -> bool:
        """Wait for the program to end, but leave it to be collected later: until then its group's number is its own."""
        until = time.monotonic() + seconds
        while os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        return True

    def _get_ready(self) -> Dict[str, str]:
        """Tell the size of a batch; returns what the program says of itself."""
        line = "batch %d" % self.batch
        answer = self._exchange(line.encode() + b"\n")
        word, _, rest = answer.decode("utf-8", "replace").partition(" ")
        if word != "ok":
            raise self._misunderstood(line)
        pairs = [part.partition("=") for part in rest.split()]
        said = {name: value for name, _, value in pairs if value}
        for name in _COUNTS:
            value = said.get(name, "0")
            if not re.match("[0-9]{1,%d}$" % _MAX_DIGITS, value):
                raise RefusedError("failed", "the program says %s=%.40s: give a whole number per image" % (name, value))
        return said

    def _time_pings(self) -> float:
        """Return the median time of an exchange in which nothing is done [s]: each batch's time holds it once."""
        times = []
        for _ in range(_PINGS):
            begin = monotonic_ns()
            if self._exchange(b"ping\n") != b"ok":
                raise self._misunderstood("ping")
            times.append(monotonic_ns() - begin)
        return sorted(times)[len(times) // 2] * 1e-9

    def _wait_for_more(self) -> None:
        """A program that says two lines for each asked can stay one step ahead of us: it shows in a pause only."""
        select.select([self._from], [], [], _QUIET_S)

    def _exchange(self, line: bytes) -> bytes:
        """Send a line and return the answer's, without its end; nothing where what came is no answer to it."""
        self._answer, self._unasked = b"", False
        try:
            if select.select([self._from], [], [], 0)[0]:  # would be taken for the answer to what is asked now
                self._answer, self._unasked = os.read(self._from, _MAX_ANSWER), True
                return b""
            os.write(self._to, line)
            answer = os.read(self._from, _MAX_ANSWER)
            while not answer.endswith(b"\n") and len(answer) < _MAX_ANSWER:
                more = os.read(self._from, _MAX_ANSWER)
                if not more:
                    break
                answer += more
        except BrokenPipeError:
            answer = b""
        self._answer = answer
        return answer[:-1] if answer.endswith(b"\n") else b""

    def _misunderstood(self, line: str) -> RefusedError:
        """Say what came instead of an answer: an error of the program's own, its end, or something else."""
        answer = self._answer.decode("utf-8", "replace").strip()
        if answer and self._unasked:
            return RefusedError("failed", "the program says %.100r before it is asked %r" % (answer, line))
        if answer.startswith("error"):
            reason = answer.partition(" ")[2][:300] or "error, and no reason"
            code = "out_of_memory" if "out of memory" in reason.lower() else "failed"
            return RefusedError(code, "the program answers %r: %s" % (line, reason))
        if answer:
            return RefusedError("failed", "the program answers %r with %.100r, not a line of ok" % (line, answer))
        self._gone_within(_GRACE_S)
        status = self._process.poll()
        if status is None:
            how = "closed its output"
        else:
            how = "ended by signal %d" % -status if status < 0 else "ended (exit code %d)" % status
        return RefusedError("failed", "the program %s where an answer to %r was due" % (how, line))
