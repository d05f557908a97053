"""What all kinds of marker lines have in common. Python 3.6, standard library."""

from typing import Any, Callable, Dict, Tuple

from instruments.marker_ring import monotonic_ns

_CALLS = 32


class MarkerLine:
    """Two output lines; this base class moves nothing (kind ``none``)."""

    def gate(self, level: bool) -> None:
        """Set the gate line: True just before the first batch, False just after the last."""

    def batch(self) -> None:
        """Toggle the batch line, at the end of a batch."""

    def working(self, level: bool) -> None:
        """Say that the board works outside the gate: no wire carries this, only a simulated bench hears it."""

    def resting(self, level: bool) -> None:
        """Say that the board rests for a while in a batch: no wire carries this either."""

    def close(self) -> None:
        """Leave both lines low and let go of them. May be called again."""

    def describe(self) -> Dict[str, Any]:
        """Return kind, wiring, `call_s` (typical cost of one call), `jitter_s` (bound) and the basis of both, `idle`
        (what the check of the idle level at the start found) and `start_frames` (whether runs can be numbered)."""
        basis = "stamps of the log alone: the bench knows them within the bound of the clocks' offset"
        return description("none", "no line moves", 0.1e-6, 0.0, basis, "not checked", start_frames=False)


def description(
    kind: str, wiring: str, call_s: float, jitter_s: float, basis: str, idle: str, start_frames: bool = True
) -> Dict[str, Any]:
    """Return what `MarkerLine.describe` promises."""
    return {
        "kind": kind,
        "wiring": wiring,
        "call_s": call_s,
        "jitter_s": jitter_s,
        "basis": basis,
        "idle": idle,
        "start_frames": start_frames,
    }


def cost(call: Callable[[], Any], clock_ns: Callable[[], int] = monotonic_ns) -> Tuple[float, float]:
    """Time some calls that change nothing; return the median and how much longer the longest took [s]."""
    times = []
    for _ in range(_CALLS):
        start = clock_ns()
        call()
        times.append((clock_ns() - start) * 1e-9)
    times.sort()
    middle = times[_CALLS // 2]
    return middle, times[-1] - middle
