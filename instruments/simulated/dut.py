"""A simulated board in virtual time: speaks `dut_protocol`, moves marker lines, is told a network's size. Pure.

Bytes of the bench go in with `feed`, time passes with `advance`; out come bytes (`take`) and edges of the lines
(`take_edges`). What a network does on it is a model's business (`board_models`, `board_runs`). The board's own clock
has an offset and runs 50 ppm off. Everything is drawn from the seed and the instant, never from how often something
was asked.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instruments import dut_protocol, marker_frame
from instruments.dut_protocol import DutProtocolError, Garbage, Message
from instruments.simulated.board_models import MODELS, BoardModel, Work, constants
from instruments.simulated.board_runs import RefusedError, batch_times, cut_short, warm_up, work_asked
from instruments.simulated.world import BATCH, GATE, REST, WORK

CLOCK_RATE = 1.0 + 50e-6
"""Seconds of the board's clock in one of the bench's."""

MOST_QUIET_S = 10.0
"""The longest rest after a run that it takes an order for."""

STORAGE_BYTES_PER_S = 300e6
START_S = 1.0
"""How fast weights are loaded, after how long a start: by then the current of what ran before has settled."""

LATENCY_S = (60e-6, 240e-6)
"""How long a message is on its way."""

LINE_NS = 300
"""What one change of a marker line takes."""

MEMORY_SCATTER = 0.005
POWER_SCATTER = 0.003
"""Relative scatter of memory and power from run to run."""

_PAGE = 4096


@dataclass(frozen=True)
class _Loaded:
    """The network that is in memory."""

    network: str
    batch: int
    work: Work
    facts: dict[str, Any]


class SimulatedBoard:
    """One board; `kind` names its model. Times are seconds of the world's clock."""

    def __init__(self, kind: str, *, seed: int, now_s: float = 0.0) -> None:
        self.model: BoardModel = MODELS[kind]
        self._kind, self._seed = kind, seed
        self._offset_s = float(np.random.default_rng([seed, 0xB0A2D]).uniform(1e3, 1e5))
        self._now_s = now_s
        self._talk = dut_protocol.Conversation("agent")
        self._due: list[tuple[float, int, Message]] = []
        self._number = 0
        self._edges: deque[tuple[int, int]] = deque()
        self._lines = 0
        self._out = bytearray()
        self._loaded: _Loaded | None = None
        self.net_power_w = self.model.full_w
        """What its work draws above rest, from its latest edge on."""
        self.taken = 0
        """Messages of the bench that were taken in since the last `hang_up`."""
        self.said = 0
        """Bytes that were said since then."""

    # --- the outside ---------------------------------------------------------------------------

    def feed(self, data: bytes, now_s: float) -> bool:
        """Take in bytes of the bench; False once it said goodbye."""
        self.advance(now_s)
        for event in self._talk.feed(data):
            self.taken += 1
            if isinstance(event, Garbage):
                self._say(now_s, {"type": "error", "reason": f"bytes that are no message ({event.reason})"})
                continue
            try:
                self._talk.accept(event)
            except DutProtocolError as error:
                self._break_off(now_s)
                self._say(now_s, {"type": "error", "reason": str(error)})
                continue
            if event["type"] == "bye":
                self._break_off(now_s)
                return False
            try:
                self._answer(event, now_s)
            except RefusedError as error:
                refusal = {"type": "refused", "code": error.code, "reason": str(error)}
                self._say(now_s + error.after_s + self._latency_s(now_s, 1), refusal)
        self.advance(now_s)
        return True

    def hang_up(self, now_s: float) -> None:
        """The bench is gone: what runs is broken off, both lines go low, the next one finds a fresh board."""
        self.advance(now_s)
        self._break_off(now_s)
        self._talk = dut_protocol.Conversation("agent")
        self._out.clear()
        self._loaded = None
        self.taken = self.said = 0

    def advance(self, now_s: float) -> None:
        """Let everything happen up to now_s."""
        self._now_s = max(self._now_s, now_s)
        while self._due and self._due[0][0] <= self._now_s:
            data = self._talk.send(heapq.heappop(self._due)[2])
            self.said += len(data)
            self._out += data

    @property
    def next_s(self) -> float | None:
        """When the board will say something next, as far as is known."""
        return self._due[0][0] if self._due else None

    def take(self) -> bytes:
        """What the board has said since the last call."""
        out = bytes(self._out)
        self._out.clear()
        return out

    @property
    def at_work(self) -> bool:
        """Whether its lines will still move."""
        return bool(self._edges)

    def take_edges(self) -> Sequence[tuple[int, int]]:
        """Edges up to now since the last call: (ns, line states)."""
        now_ns, taken = int(self._now_s * 1e9), []
        while self._edges and self._edges[0][0] <= now_ns:
            taken.append(self._edges.popleft())
        return taken

    # --- inside --------------------------------------------------------------------------------

    def _rng(self, now_s: float, what: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, 0xB0A2D, int(now_s * 1e9), what])

    def _latency_s(self, now_s: float, what: int) -> float:
        share = zlib.crc32(b"%d %d %d" % (self._seed, int(now_s * 1e9), what)) / 0xFFFFFFFF
        return LATENCY_S[0] + share * (LATENCY_S[1] - LATENCY_S[0])

    def _clock_ns(self, t_s: float) -> int:
        return int((self._offset_s + CLOCK_RATE * t_s) * 1e9)

    def _say(self, at_s: float, message: Message) -> None:
        self._number += 1
        heapq.heappush(self._due, (at_s, self._number, message))

    def _break_off(self, now_s: float) -> None:
        """Forget what was to come; both lines fall."""
        self._due.clear()
        now_ns = int(now_s * 1e9)
        self._edges = deque(edge for edge in self._edges if edge[0] <= now_ns)
        self._lines = 0
        self._edges.append((now_ns, 0))

    def _answer(self, message: Message, now_s: float) -> None:
        arrived_s = now_s + self._latency_s(now_s, 2)
        kind = message["type"]
        if kind == "hello":
            self._say(arrived_s + START_S, self._hello())
        elif kind == "clock":
            answer = {"type": "clock", "n": message["n"], "t_ns": self._clock_ns(arrived_s)}
            self._say(arrived_s + self._latency_s(now_s, 3), answer)
        elif kind == "prepare":
            self._prepare(message, arrived_s)
        else:
            self._go(message, arrived_s)

    def _hello(self) -> Message:
        digest = hashlib.sha256(json.dumps(constants(self.model), sort_keys=True).encode()).hexdigest()
        note = f"a model of a board, {self.model.title}, in virtual time: its times and currents were not measured"
        return {
            "type": "hello",
            "version": dut_protocol.VERSION,
            "agent_sha256": digest,
            "python": "none: a model",
            "pid": 1,
            "host": {"model": f"{self.model.title} (model)", "simulated": self._kind, "note": note},
            "marker": {
                "kind": "simulated",
                "wiring": "inside the simulated bench",
                "call_s": LINE_NS * 1e-9,
                "jitter_s": 0.0,
                "basis": "by definition of the model",
                "start_frames": True,
            },
            "networks": [],
        }

    # --- a network -----------------------------------------------------------------------------

    def _prepare(self, request: Message, at_s: float) -> None:
        self._loaded = None
        work, size = work_asked(self.model, request)
        load_s = START_S + (size.weights_bytes / STORAGE_BYTES_PER_S if size is not None else 0.0)
        # Nothing is left of the network before, nor of the batch line's level: a cell is the same after any other.
        self._lines = 0
        self.net_power_w = work.net_power_w
        if work.memory_bytes > self.model.memory_bytes:
            self._move(at_s, self._lines | WORK)
            self._move(at_s + load_s, self._lines & ~WORK)
            raise RefusedError(
                "out_of_memory",
                f"out of memory: {work.memory_bytes / 1e9:.2f} GB are needed, {self.model.memory_bytes / 1e9:.2f} GB "
                "are free (model)",
                load_s,
            )
        warm = warm_up(self._rng(at_s, 5), work.batch_s, float(request["warmup_s"]))
        end_s = at_s + load_s + warm["warmup_s"]
        self._move(at_s, self._lines | WORK)
        self._move(end_s, self._lines & ~WORK)
        batches = max(1, min(request["max_batches"], int(request["run_s"] / warm["batch_time_s"])))
        facts = {
            "network": request["network"],
            "batch": request["batch"],
            "batches": batches,
            "images": batches * request["batch"],
            "threads": request["threads"],
            "device": f"{self.model.title} (model)",
            "weights": "random",
            "mode": dict(request["mode"]),
            "load_s": load_s,
            **warm,
        }
        if size is not None:
            facts["size"] = dict(request["size"])
        self._loaded = _Loaded(request["network"], request["batch"], work, facts)
        self._say(end_s + self._latency_s(at_s, 4), {"type": "ready", **facts})

    # --- a run ---------------------------------------------------------------------------------

    def _go(self, request: Message, at_s: float) -> None:
        loaded, batches, limit_s = self._loaded, request["batches"], float(request["limit_s"])
        if loaded is None:
            raise RefusedError("bad_request", "no network is prepared")
        if not 1 <= batches <= dut_protocol.MAX_BATCHES or not 0 < limit_s < 1e6:
            raise RefusedError("bad_request", f"{batches} batches within {limit_s} s cannot be run")
        quiet_s = float(request.get("quiet_after_s", 0.0))
        if not 0 <= quiet_s <= MOST_QUIET_S:
            raise RefusedError("bad_request", f"quiet_after_s {quiet_s} is no time to rest for")
        rng = self._rng(at_s, 6)
        self.net_power_w = loaded.work.net_power_w * (1.0 + POWER_SCATTER * float(rng.standard_normal()))
        memory = loaded.work.memory_bytes * (1.0 + MEMORY_SCATTER * float(rng.standard_normal()))
        rise_s, frame = self._tell_number(request.get("frame"), at_s + 1e-3)
        ends = np.cumsum(cut_short(batch_times(self._rng(at_s, 7), loaded.work.batch_s, batches), limit_s)).tolist()
        ran = len(ends)
        stamps = [self._clock_ns(rise_s + LINE_NS * 1e-9 + end) for end in ends]
        self._move(rise_s + 0.5e-9 * LINE_NS, GATE | self._lines)
        share = loaded.work.busy_share
        for start, end in zip([0.0, *ends], ends, strict=False):
            if share < 1:
                self._move(rise_s + 1.5e-9 * LINE_NS + start + share * (end - start), self._lines | REST)
            self._move(rise_s + 1.5e-9 * LINE_NS + end, (self._lines & ~REST) ^ BATCH)
        fall_s = rise_s + 2e-9 * LINE_NS + ends[-1]
        self._move(fall_s + 0.5e-9 * LINE_NS, self._lines & ~GATE)
        done: Message = {
            "type": "done",
            "run_id": request["run_id"],
            "network": loaded.network,
            "batches": ran,
            "batch": loaded.batch,
            "images": ran * loaded.batch,
            "gate_ns": [self._clock_ns(t) for t in (rise_s, rise_s + LINE_NS * 1e-9, fall_s, fall_s + LINE_NS * 1e-9)],
            "batch_ns": stamps,
            "woke_ns": self._clock_ns(at_s),
            "quiet_s": quiet_s,
        }
        if frame is not None:
            done["frame"] = frame
        if memory > 0:
            done["memory"] = {"system_used_net": round(memory / _PAGE) * _PAGE}
        self._say(fall_s + quiet_s + 1e-3 + self._latency_s(at_s, 8), done)

    def _tell_number(self, frame: Any, at_s: float) -> tuple[float, Message | None]:
        """Tell the run's number by the batch line where that is asked for; when the gate may rise then."""
        if frame is None:
            return at_s, None
        unit_s = float(frame["unit_s"])
        self._move(at_s, self._lines ^ BATCH)
        for units in marker_frame.intervals(int(frame["number"])):
            at_s += units * unit_s
            self._move(at_s, self._lines ^ BATCH)
        said = {"number": frame["number"], "unit_s": unit_s, "edges": marker_frame.EDGES, "good": True}
        return at_s + marker_frame.PAUSE_UNITS * unit_s, said

    def _move(self, t_s: float, lines: int) -> None:
        self._lines = lines
        self._edges.append((int(t_s * 1e9), lines))
