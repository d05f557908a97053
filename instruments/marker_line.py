"""The two lines that a device under test moves: gate (high while the measured loop runs) and batch.

Runs on the board: Python 3.6, standard library only at import time; of this project it imports its neighbours
`marker_*` alone, whose names are here too.

The batch line toggles at the end of every batch, so N batches give N edges; its level is not reset
between runs. Both lines are low when a line is opened and when it is closed. Kinds, as `open_line` takes them:

- ``none``: no wire; the stamps in the run's log are all there is;
- ``simulated:PATH``: a ring of edges in a file that the simulated bench reads (`RingReader`);
- ``serial:PORT`` or ``serial:PORT,invert``: RTS is the gate, DTR the batch line. On RS-232 levels an
  asserted line is positive, so asserted means high; a TTL adapter's pins are active low and need ``invert``.
  The kernel may raise both lines for an instant while it opens the port, before anything is measured;
- ``gpio:CHIP:GATE,BATCH``: two offsets of a Linux GPIO character device (``gpio:gpiochip0:17,27``).

A board's own kind is put into `OWN_KINDS` by the program that starts the agent there (docs/adding.md).
"""

from typing import Any, Callable, Dict, Tuple

from instruments.marker_base import MarkerLine, description
from instruments.marker_gpio import GpioLine
from instruments.marker_ring import (
    BATCH_BIT,
    GATE_BIT,
    REST_BIT,
    WORK_BIT,
    MarkerBusyError,
    MarkerError,
    RingOverrunError,
    RingReader,
    RingWriter,
    create_ring,
    monotonic_ns,
)
from instruments.marker_serial import SerialLine

__all__ = [
    "BATCH_BIT",
    "GATE_BIT",
    "OWN_KINDS",
    "GpioLine",
    "MarkerBusyError",
    "MarkerError",
    "MarkerLine",
    "RingOverrunError",
    "RingReader",
    "RingWriter",
    "SerialLine",
    "SimulatedLine",
    "create_ring",
    "monotonic_ns",
    "open_line",
    "read_spec",
]

OWN_KINDS: Dict[str, Callable[[str], MarkerLine]] = {}
"""Kinds beyond those of this module: what opens the lines at the address after ``KIND:``, both low."""


class SimulatedLine(MarkerLine):
    """Writes each change of the lines, with its monotonic time, into a ring file."""

    def __init__(self, path: str, clock_ns: Callable[[], int] = monotonic_ns) -> None:
        self._path = path
        self._ring = RingWriter(path, clock_ns)
        self._put = self._ring.put
        self._lines = 0
        self._open = True
        if self._ring.last_lines:  # whoever had the ring before was killed with a line high
            self._put(0)

    def gate(self, level: bool) -> None:
        self._lines = (self._lines | GATE_BIT) if level else (self._lines & ~GATE_BIT)
        self._put(self._lines)

    def batch(self) -> None:
        self._lines ^= BATCH_BIT
        self._put(self._lines)

    def working(self, level: bool) -> None:
        self._lines = (self._lines | WORK_BIT) if level else (self._lines & ~WORK_BIT)
        self._put(self._lines)

    def resting(self, level: bool) -> None:
        self._lines = (self._lines | REST_BIT) if level else (self._lines & ~REST_BIT)
        self._put(self._lines)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._lines:
            self._lines = 0
            self._put(0)
        self._ring.close()

    def describe(self) -> Dict[str, Any]:
        basis = "a write to shared memory, 0.3 us by python -m benchmarks.markers; preemption can add ms"
        return description("simulated", self._path, 0.3e-6, 1e-6, basis, "low, written")


def read_spec(spec: str) -> Tuple[str, Tuple[Any, ...]]:
    """Return the kind of lines that `spec` names and what its class is opened with; opens nothing.

    Raises `MarkerError` for an unknown kind or an address that the kind does not have.
    """
    kind, _, rest = spec.partition(":")
    if kind == "none" and not rest:
        return kind, ()
    if kind == "simulated" and rest:
        return kind, (rest,)
    if kind == "serial" and rest:
        port, comma, option = rest.rpartition(",")
        return kind, (port, True) if comma and option == "invert" else (rest, False)
    if kind == "gpio":
        chip, _, lines = rest.rpartition(":")
        numbers = [number.strip() for number in lines.split(",")]
        if chip and len(numbers) == 2 and all(number and not number.strip("0123456789") for number in numbers):
            gate, batch = map(int, numbers)
            if gate == batch:
                raise MarkerError("marker line %r: gate and batch need two GPIO lines, both are %d" % (spec, gate))
            return kind, (chip, gate, batch)
    if kind in OWN_KINDS:
        return kind, (rest,)
    raise MarkerError(
        "marker line %r is not understood; write none, simulated:PATH, serial:PORT[,invert] or gpio:CHIP:GATE,BATCH"
        % (spec,)
    )


def open_line(spec: str) -> MarkerLine:
    """Open the lines that `spec` names (see the module's docstring), both low.

    Raises `MarkerError` for an unknown kind, a bad address or a device that cannot be had, `MarkerBusyError` for
    one that another program has.
    """
    kind, address = read_spec(spec)
    known = {"none": MarkerLine, "simulated": SimulatedLine, "serial": SerialLine, "gpio": GpioLine}
    opened = known.get(kind) or OWN_KINDS[kind]  # type: Callable[..., MarkerLine]
    return opened(*address)
