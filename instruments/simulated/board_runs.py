"""What a simulated board makes of a request: the network's work, the warm-up, the times of a run's batches. Pure.

Batches scatter by half a percent, runs by a fifth of one, and now and then a batch is a millisecond or two late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from instruments.dut_protocol import Message
from instruments.simulated.board_models import BoardModel, NetworkSize, Work

BATCH_SCATTER = 0.005
RUN_SCATTER = 0.002
"""Relative scatter of batch times within a run, and from one run to the next."""

LATE_SHARE = 0.005
LATE_BY_S = (0.5e-3, 3e-3)
"""Share of batches that something else on the board holds up, and for how long."""

FIRST_SHARE, FIRST_S = 1.1, 0.02
"""The first batch after loading takes this much longer, and these seconds more."""

WARMUP_S = 0.3
"""Warm-up after which times have settled, with three batches at least."""

_BUSY = "busy:"
_MODES = ("channels_last", "compile", "cuda_graphs")


class RefusedError(Exception):
    """The board will not do what was asked; `code` is one of dut_protocol.REFUSALS, said `after_s` seconds."""

    def __init__(self, code: str, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.code, self.after_s = code, after_s


def work_asked(model: BoardModel, request: Message) -> tuple[Work, NetworkSize | None]:
    """What the network of a PREPARE does on a board, and its size; raises RefusedError for what the model lacks."""
    network, batch, mode = request["network"], request["batch"], request["mode"]
    if batch < 1:
        raise RefusedError("bad_request", f"batch {batch} is no number of images")
    if mode.get("dtype", "fp32") != "fp32" or any(mode.get(name) for name in _MODES):
        raise RefusedError("bad_request", "this model of a board knows fp32 without further modes only")
    if request["weights"] != "random":
        raise RefusedError("bad_request", "this model of a board has no weights to load")
    if request["device"] == "cpu":
        raise RefusedError("bad_request", "this model of a board has one device: ask for auto")
    if network.startswith(_BUSY):
        busy, _, rest = network[len(_BUSY) :].partition(":")
        try:
            busy_s, batch_s = float(busy) * 1e-3, (float(busy) + float(rest or 0)) * 1e-3
        except ValueError:
            busy_s = batch_s = 0.0
        if not 0 < busy_s <= batch_s <= 60:
            raise RefusedError("unknown_network", f"{network}: busy:MILLISECONDS takes up to 60000")
        return Work(batch_s, model.full_w, 0.0, busy_s / batch_s), None
    told = request.get("size", {})
    try:
        size = NetworkSize(*(int(told[name]) for name in ("parameters", "operations", "activations")))
    except (KeyError, TypeError, ValueError):
        raise RefusedError(
            "unknown_network",
            f"a simulated board cannot run {network}: it must be told parameters, operations and activations",
        ) from None
    return model.work(network, size, batch), size


def warm_up(rng: np.random.Generator, batch_s: float, limit_s: float) -> dict[str, Any]:
    """Facts of a warm-up as READY tells them: a slow batch, then some until they have settled or the limit comes.

    As the agent does: two more of long batches will do, and they may take three times the limit with the first.
    """
    wanted = max(2 if batch_s >= WARMUP_S else 3, int(WARMUP_S / batch_s) + 1)
    within = [int(max(0.0, limit - FIRST_S - FIRST_SHARE * batch_s) / batch_s) for limit in (limit_s, 3 * limit_s)]
    fitting = max(within[0], min(2, within[1]))
    first_s, *rest = batch_times(rng, batch_s, 1 + min(wanted, fitting)).tolist()
    first_s = FIRST_SHARE * first_s + FIRST_S
    last = rest[-max(1, len(rest) // 3) :] or [first_s]
    return {
        "batch_time_s": float(np.median(last)),
        "warmup_batches": 1 + len(rest),
        "warmup_s": first_s + sum(rest),
        "settled": len(rest) >= wanted,
        "first_batch_s": first_s,
        "warmup_batch_s": rest[:1000],
    }


def batch_times(rng: np.random.Generator, batch_s: float, count: int) -> NDArray[np.float64]:
    """Durations of a run's batches in seconds; (count,)."""
    times = batch_s * np.exp(RUN_SCATTER * rng.standard_normal() + BATCH_SCATTER * rng.standard_normal(count))
    late = rng.random(count) < LATE_SHARE
    return np.asarray(times + late * rng.uniform(*LATE_BY_S, count))


def cut_short(times_s: NDArray[np.float64], limit_s: float) -> NDArray[np.float64]:
    """Those of a run's batches that run: none after which one as long as the longest so far might pass the limit."""
    over = np.flatnonzero(np.cumsum(times_s) + np.maximum.accumulate(times_s) > limit_s)
    return times_s[: int(over[0]) + 1] if over.size else times_s
