"""Marker lines on the modem control lines of a serial port. Python 3.6; needs pyserial to open a port."""

import errno
import fcntl
import importlib
import io
import os
import struct
import termios
from typing import Any, Callable, Dict

from instruments.marker_base import MarkerLine, cost, description
from instruments.marker_ring import MarkerBusyError, MarkerError

_USB_JITTER_S = 1e-3  # a USB adapter's lines move with a frame of the bus
_UART_JITTER_S = 50e-6


class SerialLine(MarkerLine):
    """RTS (gate) and DTR (batch) of a serial port, one ioctl each."""

    def __init__(self, port: str, invert: bool = False, ioctl: Callable[..., Any] = fcntl.ioctl) -> None:
        try:
            serial = importlib.import_module("serial")
        except ImportError as error:
            raise MarkerError("serial marker lines need pyserial (pip install pyserial): %s" % error) from None
        self._port_name, self._invert = port, invert
        self._batch = False
        try:
            self._port = serial.serial_for_url(port, do_not_open=True, exclusive=True)
            self._port.rts = self._port.dtr = invert  # taken over by open()
            self._port.open()
        except (OSError, ValueError) as error:  # pyserial's own SerialException is an OSError
            kind = MarkerBusyError if _is_busy(error) else MarkerError
            raise kind("cannot open serial port %s for the marker lines: %s" % (port, error)) from None
        try:
            self._idle = self._check_idle(ioctl)
            self._call_s, self._spread_s = cost(self._set_idle_gate)
        except OSError as error:
            self._port.close()
            raise MarkerError("serial port %s has no RTS and DTR to move: %s" % (port, error)) from None
        except MarkerError:
            self._port.close()
            raise

    def _check_idle(self, ioctl: Callable[..., Any]) -> str:
        """Read both outputs back; raises `MarkerError` when one is not idle."""
        try:
            descriptor = self._port.fileno()
        except (AttributeError, io.UnsupportedOperation):
            return "not read back: %s is no device of the system" % self._port_name
        state = struct.unpack("i", ioctl(descriptor, termios.TIOCMGET, struct.pack("i", 0)))[0]
        for name, bit in (("RTS", termios.TIOCM_RTS), ("DTR", termios.TIOCM_DTR)):
            if bool(state & bit) != self._invert:
                self.close()
                raise MarkerError(
                    "%s of %s does not stay where it was put: does another program use the port, or flow control?"
                    % (name, self._port_name)
                )
        return "low, read back"

    def _set_idle_gate(self) -> None:
        self._port.rts = self._invert

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
        usb = _on_usb(self._port_name)
        floor_s = _USB_JITTER_S if usb else _UART_JITTER_S
        basis = "cost of calls that change nothing, timed at the start; jitter at least %g ms, expected of a %s" % (
            floor_s * 1e3,
            "USB adapter" if usb else "UART",
        )
        return description("serial", wiring, self._call_s, max(floor_s, self._spread_s), basis, self._idle)


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "errno", None) in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error)


def _on_usb(port: str) -> bool:
    """Whether a port is on USB, or cannot be told."""
    name = os.path.basename(os.path.realpath(port))
    device = os.path.realpath("/sys/class/tty/%s/device" % name)
    return "/usb" in device or not os.path.exists(device)
