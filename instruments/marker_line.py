"""The two lines that a device under test moves: gate (high while the measured loop runs) and batch.

Runs on the board: Python 3.6, standard library only at import time; of this project it imports `marker_ring` alone,
whose names for the bench's side are here too.

The batch line toggles at the end of every batch, so N batches give N edges; its level is not reset
between runs. Both lines are low when a line is opened and when it is closed. Kinds, as `open_line` takes them:

- ``none``: no wire; the stamps in the run's log are all there is;
- ``simulated:PATH``: a ring of edges in a file that the simulated bench reads (`RingReader`);
- ``serial:PORT`` or ``serial:PORT,invert``: RTS is the gate, DTR the batch line. On RS-232 levels an
  asserted line is positive, so asserted means high; a TTL adapter's pins are active low and need ``invert``.
  The kernel may raise both lines for an instant while it opens the port, before anything is measured;
- ``gpio:CHIP:GATE,BATCH``: two offsets of a Linux GPIO character device (``gpio:gpiochip0:17,27``).
"""

import errno
import fcntl
import importlib
import os
import struct
from typing import Any, Callable, Dict

from instruments.marker_ring import (
    BATCH_BIT,
    GATE_BIT,
    WORK_BIT,
    MarkerError,
    RingOverrunError,
    RingReader,
    RingWriter,
    create_ring,
    monotonic_ns,
)

__all__ = [
    "BATCH_BIT",
    "GATE_BIT",
    "GpioLine",
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
]


class MarkerLine:
    """Two output lines; this base class moves nothing (kind ``none``)."""

    def gate(self, level: bool) -> None:
        """Set the gate line: True just before the first batch, False just after the last."""

    def batch(self) -> None:
        """Toggle the batch line, at the end of a batch."""

    def working(self, level: bool) -> None:
        """Say that the board works outside the gate: no wire carries this, only a simulated bench hears it."""

    def close(self) -> None:
        """Leave both lines low and let go of them. May be called again."""

    def describe(self) -> Dict[str, Any]:
        """Return kind, wiring, `call_s` (typical cost of one call) and `jitter_s` (bound), None if unknown."""
        return _description("none", "software stamps only", 0.1e-6, 0.0, "no line moves")


def _description(kind: str, wiring: str, call_s: float, jitter_s: float, basis: str) -> Dict[str, Any]:
    return {"kind": kind, "wiring": wiring, "call_s": call_s, "jitter_s": jitter_s, "basis": basis}


# ---------------------------------------------------------------------------------------- simulated


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

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._lines:
            self._lines = 0
            self._put(0)
        self._ring.close()

    def describe(self) -> Dict[str, Any]:
        basis = "ring write measured at 0.2 us; preemption can add ms"
        return _description("simulated", self._path, 0.25e-6, 1e-6, basis)


# ------------------------------------------------------------------------------------------- serial


class SerialLine(MarkerLine):
    """RTS (gate) and DTR (batch) of a serial port, one ioctl each; needs pyserial."""

    def __init__(self, port: str, invert: bool = False) -> None:
        try:
            serial = importlib.import_module("serial")
        except ImportError as error:
            raise MarkerError("serial marker lines need pyserial (pip install pyserial): %s" % error) from None
        self._port_name, self._invert = port, invert
        self._batch = False
        try:
            self._port = serial.serial_for_url(port, do_not_open=True)
            self._port.rts = self._port.dtr = invert  # taken over by open()
            self._port.open()
        except (OSError, ValueError) as error:  # pyserial's own SerialException is an OSError
            raise MarkerError("cannot open serial port %s for the marker lines: %s" % (port, error)) from None

    def gate(self, level: bool) -> None:
        self._port.rts = level != self._invert

    def batch(self) -> None:
        self._batch = not self._batch
        self._port.dtr = self._batch != self._invert

    def close(self) -> None:
        if self._port.is_open:
            try:
                self._port.rts = self._port.dtr = self._invert
            finally:
                self._port.close()

    def describe(self) -> Dict[str, Any]:
        wiring = "%s RTS=gate DTR=batch%s" % (self._port_name, " inverted" if self._invert else "")
        basis = "expected of a USB adapter, not measured: calibrate the marker delay (a native UART is far better)"
        return _description("serial", wiring, 0.5e-3, 1e-3, basis)


# --------------------------------------------------------------------------------------------- GPIO

# Layouts and numbers from the kernel's include/uapi/linux/gpio.h: v1 since Linux 4.8, v2 since 5.10.
_V2_GET_LINE = 0xC250B407  # _IOWR(0xB4, 0x07, struct gpio_v2_line_request), 592 bytes
_V2_SET_VALUES = 0xC010B40F  # _IOWR(0xB4, 0x0F, struct gpio_v2_line_values), 16 bytes
_V2_OUTPUT = 1 << 3
_V1_GET_HANDLE = 0xC16CB403  # _IOWR(0xB4, 0x03, struct gpiohandle_request), 364 bytes
_V1_SET_VALUES = 0xC040B409  # _IOWR(0xB4, 0x09, struct gpiohandle_data), 64 bytes
_V1_OUTPUT = 1 << 1
_CONSUMER = b"joulebench"


class GpioLine(MarkerLine):
    """Two lines of a GPIO character device, both written by one ioctl a call."""

    def __init__(self, chip: str, gate_offset: int, batch_offset: int, ioctl: Callable[..., Any] = fcntl.ioctl) -> None:
        if gate_offset == batch_offset:
            raise MarkerError("gate and batch need two GPIO lines, both are %d" % gate_offset)
        device = chip if "/" in chip else "/dev/" + ("gpiochip" + chip if chip.isdigit() else chip)
        self._ioctl = ioctl
        self._lines = 0
        self._wiring = "%s gate=%d batch=%d" % (device, gate_offset, batch_offset)
        offsets = struct.pack("=64I", gate_offset, batch_offset, *([0] * 62))
        try:
            chip_fd = os.open(device, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise MarkerError("cannot open GPIO chip %s for the marker lines: %s" % (device, error)) from None
        try:
            self._fd = self._request(chip_fd, offsets)
        except OSError as error:
            raise MarkerError("cannot take GPIO lines %s: %s" % (self._wiring, error)) from None
        finally:
            os.close(chip_fd)

    def _request(self, chip_fd: int, offsets: bytes) -> int:
        """Ask for both lines as outputs at 0, by the v2 interface or, on an older kernel, v1."""
        request = bytearray(offsets + struct.pack("=32sQ264xII20xi", _CONSUMER, _V2_OUTPUT, 2, 0, -1))
        try:
            self._ioctl(chip_fd, _V2_GET_LINE, request, True)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTTY):
                raise
            request = bytearray(offsets + struct.pack("=I64x32sIi", _V1_OUTPUT, _CONSUMER, 2, -1))
            self._ioctl(chip_fd, _V1_GET_HANDLE, request, True)
            self._set = _V1_SET_VALUES
            self._values = [bytes([lines & 1, lines >> 1]) + bytes(62) for lines in range(4)]
        else:
            self._set = _V2_SET_VALUES
            self._values = [struct.pack("=QQ", lines, 3) for lines in range(4)]
        return int(struct.unpack_from("=i", request, len(request) - 4)[0])

    def gate(self, level: bool) -> None:
        self._lines = (self._lines | GATE_BIT) if level else (self._lines & ~GATE_BIT)
        self._ioctl(self._fd, self._set, self._values[self._lines])

    def batch(self) -> None:
        self._lines ^= BATCH_BIT
        self._ioctl(self._fd, self._set, self._values[self._lines])

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd, self._lines = self._fd, -1, 0
        try:
            self._ioctl(fd, self._set, self._values[0])
        finally:
            os.close(fd)

    def describe(self) -> Dict[str, Any]:
        basis = "published for userspace GPIO, not measured here: ms tails under load, calibrate the marker delay"
        return _description("gpio", self._wiring, 20e-6, 50e-6, basis)


def open_line(spec: str) -> MarkerLine:
    """Open the lines that `spec` names (see the module's docstring), both low.

    Raises `MarkerError` for an unknown kind, a bad address or a device that cannot be had.
    """
    kind, _, rest = spec.partition(":")
    if kind == "none" and not rest:
        return MarkerLine()
    if kind == "simulated" and rest:
        return SimulatedLine(rest)
    if kind == "serial" and rest:
        port, comma, option = rest.rpartition(",")
        if comma and option == "invert":
            return SerialLine(port, invert=True)
        return SerialLine(rest)
    if kind == "gpio":
        chip, _, lines = rest.rpartition(":")
        numbers = lines.split(",")
        if chip and len(numbers) == 2 and all(number.strip().isdigit() for number in numbers):
            return GpioLine(chip, int(numbers[0]), int(numbers[1]))
    raise MarkerError(
        "marker line %r is not understood; write none, simulated:PATH, serial:PORT[,invert] or gpio:CHIP:GATE,BATCH"
        % (spec,)
    )
