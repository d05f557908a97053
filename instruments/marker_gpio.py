"""Marker lines on a Linux GPIO character device, by its ioctls. Python 3.6, standard library.

Layouts and numbers are those of the kernel's include/uapi/linux/gpio.h: v1 since Linux 4.8, v2 since 5.10.
"""

import errno
import fcntl
import os
import struct
from typing import Any, Callable, Dict

from instruments.marker_base import MarkerLine, cost, description
from instruments.marker_ring import BATCH_BIT, GATE_BIT, MarkerBusyError, MarkerError

_V2_GET_LINE = 0xC250B407  # _IOWR(0xB4, 0x07, struct gpio_v2_line_request), 592 bytes
_V2_GET_VALUES = 0xC010B40E  # _IOWR(0xB4, 0x0E, struct gpio_v2_line_values), 16 bytes
_V2_SET_VALUES = 0xC010B40F  # _IOWR(0xB4, 0x0F, struct gpio_v2_line_values)
_V2_OUTPUT = 1 << 3
_V1_GET_HANDLE = 0xC16CB403  # _IOWR(0xB4, 0x03, struct gpiohandle_request), 364 bytes
_V1_GET_VALUES = 0xC040B408  # _IOWR(0xB4, 0x08, struct gpiohandle_data), 64 bytes
_V1_SET_VALUES = 0xC040B409  # _IOWR(0xB4, 0x09, struct gpiohandle_data)
_V1_OUTPUT = 1 << 1
_CONSUMER = b"joulebench"

_JITTER_S = 50e-6  # expected of a loaded board


class GpioLine(MarkerLine):
    """Two lines of a GPIO character device, both written by one ioctl a call."""

    def __init__(self, chip: str, gate_offset: int, batch_offset: int, ioctl: Callable[..., Any] = fcntl.ioctl) -> None:
        if gate_offset == batch_offset:
            raise MarkerError("gate and batch need two GPIO lines, both are %d" % gate_offset)
        device = chip if "/" in chip else "/dev/" + ("gpiochip" + chip if chip.isdigit() else chip)
        self._ioctl = ioctl
        self._lines = 0
        self._offsets = (gate_offset, batch_offset)
        self._wiring = "%s gate=%d batch=%d" % (device, gate_offset, batch_offset)
        try:
            chip_fd = os.open(device, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise MarkerError("cannot open GPIO chip %s for the marker lines: %s" % (device, error)) from None
        try:
            self._fd = self._request(chip_fd)
        except OSError as error:
            kind = MarkerBusyError if error.errno == errno.EBUSY else MarkerError
            raise kind("cannot take GPIO lines %s: %s" % (self._wiring, error)) from None
        finally:
            os.close(chip_fd)
        try:
            self._idle = self._check_idle()
            self._call_s, self._spread_s = cost(lambda: self._put(0))
        except BaseException:
            self.close()
            raise

    def _request(self, chip_fd: int) -> int:
        """Ask for both lines as outputs at 0, by the v2 interface or, on an older kernel, v1."""
        offsets = struct.pack("=64I", *(list(self._offsets) + [0] * 62))
        request = bytearray(offsets + struct.pack("=32sQ264xII20xi", _CONSUMER, _V2_OUTPUT, 2, 0, -1))
        try:
            self._ioctl(chip_fd, _V2_GET_LINE, request, True)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTTY):
                raise
            request = bytearray(offsets + struct.pack("=I64x32sIi", _V1_OUTPUT, _CONSUMER, 2, -1))
            self._ioctl(chip_fd, _V1_GET_HANDLE, request, True)
            self._interface, self._get, self._set = "v1", _V1_GET_VALUES, _V1_SET_VALUES
            self._values = [bytes([lines & 1, lines >> 1]) + bytes(62) for lines in range(4)]
        else:
            self._interface, self._get, self._set = "v2", _V2_GET_VALUES, _V2_SET_VALUES
            self._values = [struct.pack("=QQ", lines, 3) for lines in range(4)]
        return int(struct.unpack_from("=i", request, len(request) - 4)[0])

    def _check_idle(self) -> str:
        """Read both lines back; raises `MarkerError` when one is high although it is driven low."""
        answer = bytearray(self._values[0])
        try:
            self._ioctl(self._fd, self._get, answer, True)
        except OSError as error:
            return "not read back: %s" % error
        levels = [answer[0] & 1, answer[0] >> 1 & 1] if self._interface == "v2" else [answer[0], answer[1]]
        high = [offset for index, offset in enumerate(self._offsets) if levels[index]]
        if high:
            raise MarkerError(
                "GPIO line %d of %s reads high although it is driven low: something else drives it, or its pin is not "
                "set up as GPIO" % (high[0], self._wiring)
            )
        return "low, read back"

    def _put(self, lines: int) -> None:
        self._ioctl(self._fd, self._set, self._values[lines])

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
        basis = "cost of calls that change nothing, timed at the start; jitter at least 50 us, ms under load"
        wiring = "%s (%s interface)" % (self._wiring, self._interface)
        return description("gpio", wiring, self._call_s, max(_JITTER_S, self._spread_s), basis, self._idle)
