"""The program on the board: loads networks, warms them up, runs them on command and moves the marker lines.

``python -m experiments.dut_agent --marker simulated:/path``: speaks `dut_protocol` on standard input and output and
ends, lines low, when its input closes. Python 3.6, torch 1.10 and the standard library. Silent while a run is measured.
"""

import argparse
import array
import contextlib
import os
import platform
import signal
import sys
import traceback
from typing import Any, Dict, List, Optional

from experiments import dut_host, dut_loop, dut_runner
from instruments import dut_protocol
from instruments.dut_protocol import DutProtocolError, Garbage, Message
from instruments.marker_line import MarkerError, MarkerLine, monotonic_ns, open_line

_MAX_RUN_S = 600.0
_MAX_SEED = (1 << 63) - 1


def _check_request(request: Message) -> None:
    """Raise `RefusedError` for numbers that make no sense."""
    ranges = [
        ("batch", 1, dut_runner.MAX_BATCH),
        ("run_s", 1e-3, _MAX_RUN_S),
        ("max_batches", 1, dut_protocol.MAX_BATCHES),
        ("seed", 0, _MAX_SEED),
        ("threads", 0, dut_host.cpus()),
        ("warmup_s", 0, _MAX_RUN_S),
    ]
    for name, lowest, highest in ranges:
        value = request[name]
        if not lowest <= value <= highest:
            raise dut_runner.RefusedError(
                "bad_request", "%s %r is not within %r to %r" % (name, value, lowest, highest)
            )
    if request["device"] not in ("auto", "cpu", "cuda"):
        raise dut_runner.RefusedError("bad_request", "device %r is not auto, cpu or cuda" % request["device"])


class Agent:
    """The conversation's agent end: one message in, one message out."""

    def __init__(self, line: MarkerLine, write: Any) -> None:
        self._line = line
        self._write = write
        self._talk = dut_protocol.Conversation("agent")
        self._workshop = dut_runner.Workshop()
        self._steady_allocator = dut_host.steady_allocator()
        self._runner: Optional[dut_runner.Runner] = None
        self._peak_reset = False
        self._complained = False

    def feed(self, data: bytes) -> bool:
        """Act on what came from the bench; False once it said goodbye."""
        for event in self._talk.feed(data):
            if isinstance(event, Garbage):
                if not self._complained:  # once, until the next whole message
                    self._say({"type": "error", "reason": "bytes that are no message (%s)" % event.reason})
                self._complained = True
                continue
            self._complained = False
            try:
                self._talk.accept(event)
            except DutProtocolError as error:
                self._say({"type": "error", "reason": str(error)})
                continue
            if event["type"] == "bye":
                return False
            self._say(self._answer(event))
        return True

    def _say(self, message: Message) -> None:
        self._write(self._talk.send(message))

    def _answer(self, message: Message) -> Message:
        kind = message["type"]
        try:
            if kind == "hello":
                return self._hello()
            if kind == "clock":
                return {"type": "clock", "n": message["n"], "t_ns": monotonic_ns()}
            if kind == "prepare":
                return self._prepare(message)
            return self._go(message)
        except dut_runner.RefusedError as error:
            return {"type": "refused", "code": error.code, "reason": str(error)}
        except Exception as error:  # the agent outlives whatever a network does
            traceback.print_exc()
            if dut_runner.is_out_of_memory(error):
                self._runner = None
                self._workshop.forget()
            code = "out_of_memory" if dut_runner.is_out_of_memory(error) else "failed"
            reason = "%s: %s" % (type(error).__name__, str(error).strip() or "no message")
            if kind == "prepare":
                return {"type": "refused", "code": code, "reason": reason[:2000]}
            return {"type": "error", "code": code, "reason": reason[:2000]}

    def _hello(self) -> Message:
        return {
            "type": "hello",
            "version": dut_protocol.VERSION,
            "agent_sha256": dut_host.sources_sha256(),
            "python": platform.python_version(),
            "torch": dut_host.torch_version(),
            "pid": os.getpid(),
            "host": dut_host.identity(),
            "condition": dut_host.condition(),
            "steady_allocator": self._steady_allocator,
            "marker": self._line.describe(),
            "networks": self._workshop.names(),
        }

    def _prepare(self, request: Message) -> Message:
        self._runner = None
        _check_request(request)
        self._line.working(True)
        try:
            return self._load_and_warm_up(request)
        finally:
            self._line.working(False)

    def _load_and_warm_up(self, request: Message) -> Message:
        started = monotonic_ns()
        name, batch = request["network"], request["batch"]
        device = self._workshop.device(name, request["device"])
        with contextlib.ExitStack() as stack:
            if device == "cpu":  # CUDA maps far more addresses than there is memory
                stack.enter_context(dut_host.memory_guard())
            runner, cached = self._workshop.make(name, batch, request["seed"], request["threads"], device)
            loaded = monotonic_ns()
            dut_host.trim_memory()
            self._peak_reset = dut_host.reset_rss_peak()
            runner.reset_memory()
            with runner.session():
                warm = dut_loop.warm_up(runner.run, float(request["warmup_s"]))
            runner.check_output()
        batches = dut_loop.batches_for(float(request["run_s"]), warm["batch_time_s"], request["max_batches"])
        self._runner = runner
        ready: Dict[str, Any] = {
            "type": "ready",
            "network": runner.name,
            "batch": runner.batch,
            "batches": batches,
            "images": batches * runner.batch,
            "threads": runner.threads,
            "device": runner.device,
            "cached": cached,
            "load_s": (loaded - started) * 1e-9,
        }
        ready.update(warm)
        return ready

    def _go(self, request: Message) -> Message:
        runner, batches = self._runner, request["batches"]
        if runner is None:
            raise dut_runner.RefusedError("bad_request", "no network is prepared")
        if not 1 <= batches <= dut_protocol.MAX_BATCHES:
            raise dut_runner.RefusedError(
                "bad_request", "%d batches, not 1 to %d" % (batches, dut_protocol.MAX_BATCHES)
            )
        log = array.array("q", bytes(8 * batches))
        limit_s = float(request["limit_s"])
        if not 0 < limit_s < 1e6:
            raise dut_runner.RefusedError("bad_request", "limit_s %r is no time to run for" % limit_s)
        before = dut_host.condition()
        with runner.session():
            used = dut_host.usage()
            gate_ns, ran = dut_loop.run_measured(runner.run, self._line.gate, self._line.batch, log, limit_s)
            used = {name: now - used[name] for name, now in dut_host.usage().items()}
        return {
            "type": "done",
            "run_id": request["run_id"],
            "network": runner.name,
            "batches": ran,
            "batch": runner.batch,
            "images": ran * runner.batch,
            "gate_ns": gate_ns,
            "batch_ns": log[:ran].tolist(),
            "usage": used,
            "memory": self._workshop.memory(runner, self._peak_reset),
            "condition_before": before,
            "condition_after": dut_host.condition(),
        }


class _Leave(BaseException):
    """A signal asks us to end; passes through the handlers of ordinary errors."""


def _on_signal(number: int, frame: Any) -> None:
    _handle_signals(signal.SIG_IGN)
    raise _Leave(number)


def _handle_signals(handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, handler)


def _take_standard_streams() -> List[int]:
    """Return private descriptors of input and output; what others print then goes to standard error."""
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return [read_fd, write_fd]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def main(arguments: Optional[List[str]] = None) -> int:
    """Serve until the input closes. Returns 0, 2 when the lines cannot be had, 128 + n after signal n."""
    parser = argparse.ArgumentParser(prog="experiments.dut_agent", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--marker",
        default="none",
        help="none, simulated:PATH, serial:PORT[,invert] or gpio:CHIP:GATE,BATCH (default: none)",
    )
    options = parser.parse_args(arguments)
    _handle_signals(_on_signal)
    line: Optional[MarkerLine] = None
    try:
        line = open_line(options.marker)
        read_fd, write_fd = _take_standard_streams()
        agent = Agent(line, lambda data: _write_all(write_fd, data))
        while True:
            data = os.read(read_fd, 65536)
            if not data or not agent.feed(data):
                return 0
    except MarkerError as error:
        print("dut_agent: %s" % error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0  # the bench is gone, as at the end of the input
    except _Leave as leave:
        return 128 + int(leave.args[0])
    finally:
        _handle_signals(signal.SIG_IGN)
        if line is not None:
            line.close()


if __name__ == "__main__":
    sys.exit(main())
