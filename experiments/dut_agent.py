"""The program on the board: loads networks, warms them up, runs them on command and moves the marker lines.

``python -m experiments.dut_agent --marker simulated:/path``: speaks `dut_protocol` on standard input and output and
ends, lines low, when its input closes. Python 3.6, torch 1.10 and the standard library. Silent while a run is measured.
``--build FILE.pyz`` packs it into one file for a board.
"""

import argparse
import array
import contextlib
import functools
import json
import os
import platform
import signal
import sys
import time
import traceback
from typing import Any, Dict, List, Optional

from experiments import dut_condition, dut_host, dut_loop, dut_memory, dut_runner, dut_sensors
from instruments import dut_protocol, marker_frame
from instruments.dut_protocol import DutProtocolError, Garbage, Message
from instruments.marker_line import MarkerBusyError, MarkerError, MarkerLine, monotonic_ns, open_line

_LINES_FREE_S = 20.0
"""How long lines that another program has are waited for: an agent whose bench has gone ends with its run."""

_MAX_RUN_S = 600.0
_MAX_SEED = (1 << 63) - 1

_MAX_QUIET_S = 10.0


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


def _order(request: Message) -> dut_runner.Order:
    """Return what a PREPARE message asks for; raises `RefusedError` where it makes no sense."""
    _check_request(request)
    try:
        mode = dut_protocol.mode_of(request["mode"])
    except DutProtocolError as error:
        raise dut_runner.RefusedError("bad_request", str(error)) from None
    return dut_runner.Order(
        dut_runner.spec_of(request["network"]),
        request["batch"],
        request["seed"],
        request["threads"],
        request["device"],
        mode,
        request["weights"],
    )


_FRAME = [("number", 0, 65535), ("unit_s", 20e-6, 10.0), ("pause_s", 0.0, 600.0), ("tries", 1, 20)]


def _frame_asked(request: Message) -> Optional[Message]:
    """Return number, unit_s, pause_s and tries of the start frame that was asked for, if one was."""
    asked = request.get("frame")
    if asked is None:
        return None
    for name, lowest, highest in _FRAME:
        value = asked.get(name)
        whole = isinstance(lowest, int)
        if not isinstance(value, int if whole else (int, float)) or not lowest <= value <= highest:
            text = "frame.%s %r is not within %r to %r"
            raise dut_runner.RefusedError("bad_request", text % (name, value, lowest, highest))
    return {name: asked[name] for name, _, _ in _FRAME}


class Agent:
    """The conversation's agent end: one message in, one message out."""

    def __init__(self, line: MarkerLine, write: Any) -> None:
        self._line = line
        self._write = write
        self._talk = dut_protocol.Conversation("agent")
        self._workshop = dut_runner.Workshop()
        self._steady_allocator = dut_host.steady_allocator()
        self._runner: Optional[dut_runner.Runner] = None
        self._memory: Optional[dut_memory.MemoryWatch] = None
        self._reference = dut_condition.Reference()
        self._reference_before: Dict[str, Any] = {}
        self._sensors: dut_sensors.Sensors = {}
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
                return self.hello()
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
                self.release()
                self._workshop.forget()
            code = "out_of_memory" if dut_runner.is_out_of_memory(error) else "failed"
            reason = "%s: %s" % (type(error).__name__, str(error).strip() or "no message")
            if kind == "prepare":
                return {"type": "refused", "code": code, "reason": reason[:2000]}
            return {"type": "error", "code": code, "reason": reason[:2000]}

    def hello(self) -> Message:
        """Return who answers, on what, with which lines."""
        return {
            "type": "hello",
            "version": dut_protocol.VERSION,
            "agent_sha256": dut_host.sources_sha256(),
            "archive_sha256": dut_host.archive_sha256(),
            "python": platform.python_version(),
            "torch": dut_host.torch_version(),
            "pid": os.getpid(),
            "host": dut_host.identity(),
            "condition": dut_condition.condition(),
            "steady_allocator": self._steady_allocator,
            "marker": self._line.describe(),
            "networks": self._workshop.names(),
        }

    def _prepare(self, request: Message) -> Message:
        self.release()
        order = _order(request)
        self._line.working(True)
        try:
            return self._load_and_warm_up(request, order)
        except BaseException:
            self.release()
            raise
        finally:
            self._line.working(False)
            self._sensors = dut_sensors.read()

    def release(self) -> None:
        """Let go of what was prepared; ends a program that was started for it. May be called again."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()

    def _load_and_warm_up(self, request: Message, order: dut_runner.Order) -> Message:
        started = monotonic_ns()
        device = self._workshop.device(order)
        with contextlib.ExitStack() as stack:
            torch = sys.modules.get("torch")
            self._reference.prepare(device, torch)
            memory = dut_memory.MemoryWatch(device, torch, self._workshop.cached_bytes())
            if device == "cpu":  # CUDA maps far more addresses than there is memory
                stack.enter_context(dut_host.memory_guard())
            self._runner = runner = self._workshop.make(order, device)
            runner.tell_rests(self._line.resting)
            loaded = monotonic_ns()
            memory.loaded(self._workshop.cached_bytes(), runner.weights_bytes, order.mode.cuda_graphs)
            with runner.session():
                first = functools.partial(memory.first, runner.run)
                warm = dut_loop.warm_up(runner.run, float(request["warmup_s"]), first=first)
            runner.check_output()
        memory.note()
        self._memory = memory
        self._reference_before = self._refer(device)
        batches = dut_loop.batches_for(float(request["run_s"]), warm["batch_time_s"], request["max_batches"])
        ready: Dict[str, Any] = {
            "type": "ready",
            "network": runner.name,
            "batch": runner.batch,
            "batches": batches,
            "images": batches * runner.batch,
            "threads": runner.threads,
            "device": runner.device,
            "load_s": (loaded - started) * 1e-9,
        }
        ready.update(runner.facts())
        ready.update(warm)
        return ready

    def _refer(self, device: str) -> Dict[str, Any]:
        """Do the reference work; the processors' clock is read while they are still awake from it."""
        times_s = self._reference.times_s(device, sys.modules.get("torch"))
        return {"times_s": times_s, "mhz": (dut_condition.cpu_mhz() or {}).get("mean")}

    def _go(self, request: Message) -> Message:
        woke_ns = monotonic_ns()
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
        asked = _frame_asked(request)
        quiet_after_s = float(request.get("quiet_after_s", 0.0))
        if not 0 <= quiet_after_s <= _MAX_QUIET_S:
            raise dut_runner.RefusedError("bad_request", "quiet_after_s %r is no time to rest for" % quiet_after_s)
        watch = dut_sensors.Watch(request["watch"]) if request.get("watch") else None
        before = dut_condition.condition()
        sensors = dict(self._sensors, **dut_sensors.counters())
        with contextlib.ExitStack() as stack:
            stack.enter_context(runner.session())
            if watch is not None:
                stack.enter_context(watch)
            frame = marker_frame.send(self._line, **asked) if asked is not None else None
            if frame is not None and (frame["tries"] > 1 or not frame["good"]):
                woke_ns = frame["began_ns"]  # what was before has passed out of the record
            used = dut_host.usage()
            gate_ns, ran = dut_loop.run_measured(runner.run, self._line.gate, self._line.batch, log, limit_s)
            used = {name: now - used[name] for name, now in dut_host.usage().items()}
        # What counts up is read before the rest, which is no part of the run, and takes a few milliseconds.
        after, counted = dut_condition.counters(), dut_sensors.counters()
        memory = self._memory.note() if self._memory is not None else {}
        memory.update(runner.memory())
        quiet_s = dut_loop.rest(gate_ns[3], quiet_after_s)
        sensors_after = dict(dut_sensors.read(), **counted)
        reference, reference_before = self._refer(runner.device), self._reference_before
        after.update(dut_condition.state())
        done = {
            "type": "done",
            "run_id": request["run_id"],
            "network": runner.name,
            "batches": ran,
            "batch": runner.batch,
            "images": ran * runner.batch,
            "gate_ns": gate_ns,
            "batch_ns": log[:ran].tolist(),
            "usage": used,
            "memory": memory,
            "memory_context": self._memory.context if self._memory is not None else {},
            "condition_before": before,
            "condition_after": after,
            "reference_s": {
                work: {"before": reference_before["times_s"].get(work, []), "after": times_s}
                for work, times_s in reference["times_s"].items()
            },
            "reference_mhz": {"before": reference_before["mhz"], "after": reference["mhz"]},
            "sensors_before": sensors,
            "sensors_after": sensors_after,
            "woke_ns": woke_ns,
            "quiet_s": quiet_s,
        }
        if frame is not None:
            done["frame"] = frame
        if watch is not None:
            done["watch"] = watch.facts(gate_ns[1])
        return done


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


def _open_line(spec: str) -> MarkerLine:
    """Open the lines; wait for those that another program has, for as long as its last run may take."""
    until = time.monotonic() + _LINES_FREE_S
    while True:
        try:
            return open_line(spec)
        except MarkerBusyError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


def _build(path: str) -> int:
    if dut_host.archive_sha256() is not None:
        print("dut_agent: --build works in the project's folder: this is the built file", file=sys.stderr)
        return 2
    from experiments import agent_archive  # for the bench, not in the archive

    return agent_archive.main(path)


def _print(text: str) -> int:
    """Print a text; 0, or 3 where standard output cannot be written, as on a full disk."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        print("dut_agent: standard output cannot be written (%s)" % error.strerror, file=sys.stderr)
        return 3
    return 0


def _arguments(arguments: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="experiments.dut_agent", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--marker",
        default="none",
        metavar="SPEC",
        help="none, simulated:PATH, serial:PORT[,invert] or gpio:CHIP:GATE,BATCH (default: none)",
    )
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--check", action="store_true", help="print what there is here as JSON, sensors too, and end")
    others.add_argument("--build", metavar="FILE.pyz", help="pack the agent into one file for a board, and end")
    return parser.parse_args(arguments)


def main(arguments: Optional[List[str]] = None) -> int:
    """Serve until the input closes. Returns 0, 2 when the lines cannot be had, 128 + n after signal n.

    With --check 3, when what there is cannot be told.
    """
    options = _arguments(arguments)
    if options.build:
        return _build(options.build)
    _handle_signals(_on_signal)
    line: Optional[MarkerLine] = None
    agent: Optional[Agent] = None
    try:
        line = _open_line(options.marker)
        if options.check:
            found = Agent(line, None).hello()
            found["sensors"] = dut_sensors.read()
            return _print(json.dumps(found, indent=2))
        if sys.stdin is not None and sys.stdin.isatty():
            print("dut_agent: waits for a bench on its standard input; --check shows what is here", file=sys.stderr)
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
        if agent is not None:
            agent.release()


def run() -> None:
    """Run `main` and end at once: everything is let go, and taking torch down would keep a slow board for seconds."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
