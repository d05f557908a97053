"""The device under test as the bench sees it: starts the agent, drives its states, bounds its clock.

The agent is any command that speaks `dut_protocol` on its standard input and output: here, in a container or
through ssh. Its lines are moved by the agent itself (`marker_line`); nothing here touches them. Imports torch nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from instruments import dut_protocol, marker_frame
from instruments.clock import Clock, VirtualClock, WallClock
from instruments.dut_channel import DutChannel
from instruments.dut_ends import BoardEnd, ProcessEnd
from instruments.dut_protocol import Mode
from instruments.errors import DutError
from instruments.wording import counted

FP32 = Mode()

PINGS, VIRTUAL_PINGS = 20, 5
"""Questions for the DUT's clock: many where other work delays some of them, few in virtual time, where nothing does."""


MOST_EDGES = 1_000_000
"""Edges before the gate that no start frame has."""


class DutRefusedError(DutError):
    """The agent will not do what was asked, and lives on.

    `code` is one of `dut_protocol.REFUSALS`: unknown_network, out_of_memory, bad_request, failed.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Hello:
    """Who answers: `facts` is the whole message (host, marker line, library versions)."""

    agent_sha256: str
    pid: int
    networks: tuple[str, ...]
    marker: Mapping[str, Any]
    host: Mapping[str, Any]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class ClockBound:
    """DUT clock minus bench clock [s], right within ±`bound_s`: half the shortest of `pings` round trips."""

    offset_s: float
    bound_s: float
    pings: int


@dataclass(frozen=True)
class Ready:
    """A network that is loaded and warm. `batch_time_s` is the median of the last warm-up batches;
    `settled` says whether their times had stopped changing before the warm-up limit. `size` holds what is known of
    parameters, macs, operations, operations_opcounter2016 and activations; `mode` is the mode as run; `weights` is
    "random" or where they came from, with their SHA-256. Each is None where the agent did not say."""

    network: str
    batch: int
    batches: int
    images: int
    batch_time_s: float
    warmup_batches: int
    warmup_s: float
    settled: bool
    threads: int
    device: str
    size: Mapping[str, int] | None
    mode: Mode | None
    weights: str | Mapping[str, str] | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """One finished run, in ns of the DUT's monotonic clock.

    `gate_ns`: before and after the gate's rise, before and after its fall. `batch_ns`: one stamp for each batch,
    taken at its end and just before the batch line toggles. `start_frame` is the number that the batch line told
    before the gate, by `start_frame_edges` toggles, None where none was asked for or none came out in time.
    `busy_s`: how long before the gate's rise the agent began to act; `quiet_s`: how long after its fall it did nothing.
    """

    run_id: str
    batches: int
    batch: int
    gate_ns: tuple[int, int, int, int]
    batch_ns: tuple[int, ...]
    facts: Mapping[str, Any]
    start_frame: int | None = None
    start_frame_edges: int = 0
    busy_s: float = 0.0
    quiet_s: float = 0.0

    @property
    def images(self) -> int:
        return self.batches * self.batch

    @property
    def run_s(self) -> float:
        """Time from the gate's rise to its fall [s], by the DUT's clock."""
        return (self.gate_ns[2] - self.gate_ns[1]) * 1e-9

    @property
    def batch_times_s(self) -> tuple[float, ...]:
        """Duration of each batch [s]; the first counts from the gate's rise."""
        starts = (self.gate_ns[1], *self.batch_ns[:-1])
        return tuple((end - start) * 1e-9 for start, end in zip(starts, self.batch_ns, strict=True))


class Dut:
    """A started agent. Use as a context manager, or call `close`. Not for several threads at once."""

    def __init__(self, channel: DutChannel, deadline_s: float, clock: Clock) -> None:
        self._channel, self._clock = channel, clock
        self._ready: Ready | None = None
        self._run: tuple[str, int] | None = None
        self._frame: int | None = None
        channel.send({"type": "hello", "version": dut_protocol.VERSION})
        message = channel.expect({"hello"}, deadline_s)
        if message["version"] != dut_protocol.VERSION:
            raise channel.error(
                f"speaks protocol version {message['version']} and this bench {dut_protocol.VERSION}: "
                "install the same release on both"
            )
        self._hello = Hello(
            agent_sha256=message["agent_sha256"],
            pid=message["pid"],
            networks=tuple(str(name) for name in message["networks"]),
            marker=message["marker"],
            host=message["host"],
            facts=message,
        )

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        deadline_s: float = 20.0,
        clock: Clock | None = None,
    ) -> Dut:
        """Start `command` (with `env` added to the environment) and exchange hellos within `deadline_s`.

        The process gets a session of its own, so a terminal's Ctrl-C does not reach it; it ends when its input closes.
        Raises DutError with the command, its exit code and the end of its standard error.
        """
        clock = clock or WallClock()
        return cls._greet(DutChannel(ProcessEnd(command, env), clock), deadline_s, clock)

    @classmethod
    def of_simulated_bench(cls, board: Path, clock: VirtualClock, deadline_s: float = 20.0) -> Dut:
        """Exchange hellos with the board of a simulated bench in virtual time, at its socket; raises DutError."""
        return cls._greet(DutChannel(BoardEnd(board, clock), clock), deadline_s, clock)

    @classmethod
    def _greet(cls, channel: DutChannel, deadline_s: float, clock: Clock) -> Dut:
        try:
            return cls(channel, deadline_s, clock)
        except BaseException:
            channel.close()
            raise

    def hello(self) -> Hello:
        """Return what the agent said of itself at the start."""
        return self._hello

    @property
    def alive(self) -> bool:
        """Whether the agent's process runs and its conversation can go on."""
        return self._channel.alive

    def clock_bound(self, n: int | None = None, deadline_s: float = 5.0) -> ClockBound:
        """Ask the DUT's clock `n` times (None: as often as pays) and keep the shortest round trip.

        For identity and bounds only: the limits of an integral come from the marker lines.
        """
        n = n or (VIRTUAL_PINGS if isinstance(self._clock, VirtualClock) else PINGS)
        until = self._clock.monotonic() + deadline_s
        best: tuple[int, float] | None = None
        for index in range(n):
            sent = round(self._clock.monotonic() * 1e9)
            self._channel.send({"type": "clock", "n": index})
            message = self._channel.expect({"clock"}, until - self._clock.monotonic())
            back = round(self._clock.monotonic() * 1e9)
            if message["n"] != index:
                raise self._channel.error(f"answered clock question {index} as {message['n']}", broken=True)
            if best is None or back - sent < best[0]:
                best = (back - sent, message["t_ns"] - (sent + back) / 2)
        assert best is not None
        return ClockBound(offset_s=best[1] * 1e-9, bound_s=best[0] * 0.5e-9, pings=n)

    def prepare(
        self,
        network: str,
        batch: int,
        *,
        run_s: float = 1.5,
        max_batches: int = 10_000,
        seed: int = 0,
        threads: int = 0,
        warmup_s: float = 3.0,
        device: str = "auto",
        mode: Mode = FP32,
        weights: str = "random",
        size: Mapping[str, int] | None = None,
        deadline_s: float = 120.0,
    ) -> Ready:
        """Load and warm up `network` at `batch` images; the reply says how many batches fill `run_s`.

        `warmup_s` bounds the warm-up (at least one batch runs); `threads` 0 leaves the library's choice; `device` is
        "auto", "cpu" or "cuda"; `weights` is "random", "torchvision" or a file on the board; `size` is what is known
        of the network without running it (`experiments.networks.size`), which a simulated board needs. Raises
        DutRefusedError (unknown network, no memory, a mode that the device lacks, ...) and DutError.
        """
        self._ready = None
        request = {
            "type": "prepare",
            "network": network,
            "batch": batch,
            "run_s": run_s,
            "max_batches": max_batches,
            "seed": seed,
            "threads": threads,
            "warmup_s": warmup_s,
            "device": device,
            "mode": mode.as_json(),
            "weights": weights,
        }
        if size is not None:
            request["size"] = dict(size)
        self._channel.send(request)
        message = self._channel.expect({"ready", "refused"}, deadline_s)
        if message["type"] == "refused":
            reason = _without_name(message["reason"], network)
            raise DutRefusedError(f"the DUT refuses {network!r} at batch {batch}: {reason}", message["code"])
        try:
            mode_as_run = dut_protocol.mode_of(message["mode"]) if "mode" in message else None
        except dut_protocol.DutProtocolError as error:
            raise self._channel.error(f"is ready in a mode of its own: {error}", broken=True) from error
        ready = Ready(
            network=message["network"],
            batch=message["batch"],
            batches=message["batches"],
            images=message["images"],
            batch_time_s=float(message["batch_time_s"]),
            warmup_batches=message["warmup_batches"],
            warmup_s=float(message["warmup_s"]),
            settled=message["settled"],
            threads=message["threads"],
            device=message["device"],
            size=message.get("size"),
            mode=mode_as_run,
            weights=message.get("weights"),
            facts=message,
        )
        if ready.batch != batch or not 1 <= ready.batches <= max_batches or ready.batch_time_s <= 0:
            raise self._channel.error(f"was asked for batch {batch} and is ready with {ready}", broken=True)
        self._ready = ready
        return ready

    def go(
        self,
        run_id: str,
        batches: int | None = None,
        *,
        limit_s: float = 3600.0,
        record: tuple[float, float] | None = None,
        watch: str = "",
        quiet_after_s: float = 0.0,
    ) -> None:
        """Start the measured loop and return at once; `batches` None takes what `prepare` answered.

        The loop ends early where another batch might pass `limit_s`: what ran is in `Done.batches`. With `record`,
        its sampling period and what it holds before the trigger [s], the batch line tells the run's number before
        the gate rises, where the lines can and the record has room for it. `watch` names a sensor of the board that
        is to be read all the while (`experiments.dut_sensors.find_meter`); `Done.facts` tells under that name. The
        agent is asked to rest for `quiet_after_s` after the gate's fall; `Done.quiet_s` says how long it did.
        """
        if batches is None:
            if self._ready is None:
                raise self._channel.error("was told to go and no network is prepared")
            batches = self._ready.batches
        request = {"type": "go", "run_id": run_id, "batches": batches, "limit_s": limit_s}
        marker = self._hello.marker
        frame = None
        if record is not None and marker.get("start_frames") is True:
            frame = marker_frame.plan(*record, float(marker.get("jitter_s") or 0.0))
        self._frame = None
        if frame is not None:
            self._frame = marker_frame.number_of(run_id)
            request["frame"] = {"number": self._frame, **frame}
        if watch:
            request["watch"] = watch
        if quiet_after_s > 0:
            request["quiet_after_s"] = quiet_after_s
        self._channel.send(request)
        self._run = (run_id, batches)

    def wait_done(self, deadline_s: float) -> Done:
        """Wait for the end of the run. Raises DutError when it failed, died, or its log is not that of this run."""
        message = self._channel.expect({"done", "refused"}, deadline_s)
        if message["type"] == "refused":
            raise DutRefusedError(f"the DUT refuses to run: {message['reason']}", message["code"])
        wanted = self._run
        if wanted is None or message["run_id"] != wanted[0] or not 1 <= message["batches"] <= wanted[1]:
            raise self._channel.error(
                f"was to do run and batches {wanted} and did {(message['run_id'], message['batches'])}",
                broken=True,
            )
        if self._ready is not None and message["batch"] != self._ready.batch:
            raise self._channel.error(
                f"was to run batches of {self._ready.batch} and says {message['batch']}", broken=True
            )
        gate, stamps = message["gate_ns"], message["batch_ns"]
        if not all(type(t) is int and dut_protocol.is_measure(t) for t in (*gate, *stamps)) or len(gate) != 4:
            raise self._channel.error("logged what is no time stamp", broken=True)
        order = [*gate[:2], *stamps, *gate[2:]]
        if len(stamps) != message["batches"] or any(b < a for a, b in pairwise(order)):
            raise self._channel.error(
                f"logged {counted(len(stamps), 'stamp')} for {counted(message['batches'], 'batch')}, "
                "or stamps that go back in time",
                broken=True,
            )
        frame = message.get("frame") or {"number": None}
        good = frame.get("good") is True
        edges = frame.get("edges")
        if frame.get("number") != self._frame or (good and not (type(edges) is int and 0 <= edges <= MOST_EDGES)):
            raise self._channel.error(
                f"was to tell run number {self._frame} on its lines and told {frame.get('number')}", broken=True
            )
        return Done(
            run_id=message["run_id"],
            batches=message["batches"],
            batch=message["batch"],
            gate_ns=(gate[0], gate[1], gate[2], gate[3]),
            batch_ns=tuple(stamps),
            facts=message,
            start_frame=self._frame if good else None,
            start_frame_edges=frame["edges"] if good else 0,
            busy_s=max(0, gate[1] - message.get("woke_ns", gate[1])) * 1e-9,
            quiet_s=_quiet_s(message),
        )

    def close(self, grace_s: float = 2.0) -> None:
        """End the agent: a goodbye and closed pipes first, then signals. May be called again."""
        self._channel.close(grace_s)

    def __enter__(self) -> Dut:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _quiet_s(message: Mapping[str, Any]) -> float:
    """How long the agent rested after the run [s]; 0 where it did not say, or said what cannot be."""
    told_s = float(message.get("quiet_s", 0.0))
    return told_s if 0.0 < told_s < math.inf else 0.0


def _without_name(reason: str, network: str) -> str:
    """A refusal's reason that need not name the network once more."""
    rest = reason.removeprefix(network)
    if rest == reason or rest[:1] not in (":", " "):
        return reason
    return rest[1:].lstrip() if rest.startswith(":") else f"it{rest}"
