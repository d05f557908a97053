"""The device under test as the bench sees it: starts the agent, drives its states, bounds its clock.

The agent is any command that speaks `dut_protocol` on its standard input and output: here, in a container or
through ssh. Its lines are moved by the agent itself (`marker_line`); nothing here touches them. Imports torch nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from instruments import dut_protocol
from instruments.dut_channel import DutChannel
from instruments.errors import DutError


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
    `settled` says whether their times had stopped changing before the warm-up limit."""

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
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """One finished run, in ns of the DUT's monotonic clock.

    `gate_ns`: before and after the gate's rise, before and after its fall. `batch_ns`: one stamp for each batch,
    taken at its end and just before the batch line toggles.
    """

    run_id: str
    batches: int
    batch: int
    gate_ns: tuple[int, int, int, int]
    batch_ns: tuple[int, ...]
    facts: Mapping[str, Any]

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

    def __init__(self, channel: DutChannel, deadline_s: float) -> None:
        self._channel = channel
        self._ready: Ready | None = None
        self._run: tuple[str, int] | None = None
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
    def start(cls, command: Sequence[str], env: Mapping[str, str] | None = None, deadline_s: float = 20.0) -> Dut:
        """Start `command` (with `env` added to the environment) and exchange hellos within `deadline_s`.

        The process gets a session of its own, so a terminal's Ctrl-C does not reach it; it ends when its input closes.
        Raises DutError with the command, its exit code and the end of its standard error.
        """
        channel = DutChannel(command, env)
        try:
            return cls(channel, deadline_s)
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

    def clock_bound(self, n: int = 20, deadline_s: float = 5.0) -> ClockBound:
        """Ask the DUT's clock `n` times and keep the shortest round trip.

        For identity and bounds only: the limits of an integral come from the marker lines.
        """
        until = time.monotonic() + deadline_s
        best: tuple[int, float] | None = None
        for index in range(max(1, n)):
            sent = time.monotonic_ns()
            self._channel.send({"type": "clock", "n": index})
            message = self._channel.expect({"clock"}, until - time.monotonic())
            back = time.monotonic_ns()
            if message["n"] != index:
                raise self._channel.error(f"answered clock question {index} as {message['n']}", broken=True)
            if best is None or back - sent < best[0]:
                best = (back - sent, message["t_ns"] - (sent + back) / 2)
        assert best is not None
        return ClockBound(offset_s=best[1] * 1e-9, bound_s=best[0] * 0.5e-9, pings=max(1, n))

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
        deadline_s: float = 120.0,
    ) -> Ready:
        """Load and warm up `network` at `batch` images; the reply says how many batches fill `run_s`.

        `warmup_s` bounds the warm-up (at least one batch runs); `threads` 0 leaves the library's choice; `device` is
        "auto", "cpu" or "cuda". Raises DutRefusedError (unknown network, no memory, ...) and DutError.
        """
        self._ready = None
        self._channel.send(
            {
                "type": "prepare",
                "network": network,
                "batch": batch,
                "run_s": run_s,
                "max_batches": max_batches,
                "seed": seed,
                "threads": threads,
                "warmup_s": warmup_s,
                "device": device,
            }
        )
        message = self._channel.expect({"ready", "refused"}, deadline_s)
        if message["type"] == "refused":
            raise DutRefusedError(f"the DUT refuses {network!r} at batch {batch}: {message['reason']}", message["code"])
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
            facts=message,
        )
        if ready.batch != batch or ready.batches < 1:
            raise self._channel.error(f"was asked for batch {batch} and is ready with {ready}", broken=True)
        self._ready = ready
        return ready

    def go(self, run_id: str, batches: int | None = None, *, limit_s: float = 3600.0) -> None:
        """Start the measured loop and return at once; `batches` None takes what `prepare` answered.

        The loop ends early where another batch might pass `limit_s`: what ran is in `Done.batches`.
        """
        if batches is None:
            if self._ready is None:
                raise self._channel.error("was told to go and no network is prepared")
            batches = self._ready.batches
        self._channel.send({"type": "go", "run_id": run_id, "batches": batches, "limit_s": limit_s})
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
        gate, stamps = message["gate_ns"], message["batch_ns"]
        if not all(type(stamp) is int for stamp in (*gate, *stamps)) or len(gate) != 4:
            raise self._channel.error("logged what is no time stamp", broken=True)
        order = [*gate[:2], *stamps, *gate[2:]]
        if len(stamps) != message["batches"] or any(b < a for a, b in pairwise(order)):
            raise self._channel.error(
                f"logged {len(stamps)} stamps for {message['batches']} batches, or stamps that go back in time",
                broken=True,
            )
        return Done(
            run_id=message["run_id"],
            batches=message["batches"],
            batch=message["batch"],
            gate_ns=(gate[0], gate[1], gate[2], gate[3]),
            batch_ns=tuple(stamps),
            facts=message,
        )

    def close(self, grace_s: float = 2.0) -> None:
        """End the agent: a goodbye and closed pipes first, then signals. May be called again."""
        self._channel.close(grace_s)

    def __enter__(self) -> Dut:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
