"""Opening VISA resources; with ``message_port`` the only place that touches pyvisa.

What pyvisa-py 0.8.1 does behind its back, and what is done about it here: a refused raw socket opens
without an error; a failed open leaks its sockets; HiSLIP ignores the open timeout; TCP_NODELAY cannot
be set by attribute. Opening sends nothing to the instrument.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from instruments.errors import ConfigError, LinkError

from .message_port import MessagePort
from .ports import Port, SerialStream, SocketStream, StreamPort, close_quietly
from .prologix import Bus, PrologixPort, acquire_bus
from .transcript import Recorder


@dataclass(frozen=True)
class SerialOptions:
    """How a serial port is set; the defaults are those of the E364x family (UG364 p.77-79)."""

    baud_rate: int = 9600
    data_bits: Literal[7, 8] = 8
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 2
    flow_control: Literal["none", "xon_xoff", "rts_cts", "dtr_dsr"] = "dtr_dsr"


#: The USB adapter's virtual serial port, for which any rate will do (its manual, 4).
ADAPTER_SERIAL = SerialOptions(baud_rate=115200, stop_bits=1, flow_control="none")


@dataclass
class Opened:
    """An open port, the lock of its bus and the backend that carries it."""

    port: Port
    lock: threading.RLock
    backend: str
    bus: Bus | None


def backend_name(visa: str) -> str:
    """Give the VISA library to use: ``PYVISA_LIBRARY`` in the environment wins over the argument."""
    return os.environ.get("PYVISA_LIBRARY") or visa


def open_port(
    name: str,
    resources: Sequence[str],
    *,
    visa: str,
    open_timeout_s: float,
    serial: SerialOptions,
    recorder: Recorder,
) -> Opened:
    """Open the resources in their order; the last one is the instrument. ``recorder`` hears what an adapter is told.

    Raises:
        ConfigError: resource strings that cannot be right, or a VISA library that cannot be loaded.
        LinkError: could not connect, with the resource, the seconds waited and what to try.
    """
    if not resources or len(resources) > 2:
        raise ConfigError(
            f"{name}: {len(resources)} resources; one VISA string is expected, or an adapter's INTFC "
            "and then the instrument"
        )
    backend = backend_name(visa)
    instrument = resources[-1]

    def tell(line: bytes) -> None:
        recorder.put("out", line, of="adapter")

    if len(resources) == 2:
        adapter = resources[0]
        plain, options = _behind(adapter)
        bus = acquire_bus(
            adapter,
            lambda: _connect(name, plain, backend, open_timeout_s, options, shown=adapter),
            tell,
        )
        try:
            return Opened(PrologixPort(bus, instrument, tell), bus.lock, backend, bus)
        except BaseException:
            bus.release()
            raise
    port = _connect(name, instrument, backend, open_timeout_s, serial)
    return Opened(port, threading.RLock(), backend, None)


def _behind(adapter: str) -> tuple[str, SerialOptions]:
    """Give the plain socket or serial port behind an adapter's INTFC resource, for any VISA library."""
    from pyvisa import rname

    try:
        parsed = rname.parse_resource_name(adapter)
    except ValueError as error:
        raise ConfigError(f"{adapter!r} is no resource string: {error}") from error
    if isinstance(parsed, rname.PrlgxTCPIPIntfc):
        return f"TCPIP::{parsed.host_address}::{parsed.port}::SOCKET", ADAPTER_SERIAL
    if isinstance(parsed, rname.PrlgxASRLIntfc):
        return f"ASRL{parsed.serial_device}::INSTR", ADAPTER_SERIAL
    raise ConfigError(
        f"{adapter!r} stands before an instrument, where an adapter is expected: PRLGX-TCPIP::HOST::1234::INTFC or "
        "PRLGX-ASRL::/dev/ttyUSB0::INTFC"
    )


def _connect(
    name: str, text: str, backend: str, timeout_s: float, serial: SerialOptions, shown: str | None = None
) -> Port:
    """Open one resource and choose how to talk over it; errors speak of ``shown`` where that is another name."""
    resource = _open(name, text, backend, timeout_s, serial, shown or text)
    interface = getattr(_py_session(resource), "interface", None)
    if text.upper().endswith("::SOCKET") and isinstance(interface, socket.socket):
        fault = interface.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault:
            close_quietly(resource)
            raise _could_not(name, shown or text, 0.0, os.strerror(fault))
        return StreamPort(SocketStream(interface), resource)
    if text.upper().startswith("ASRL") and hasattr(interface, "in_waiting"):
        return StreamPort(SerialStream(interface), resource)
    return MessagePort(resource, text)


def _py_session(resource: Any) -> Any:
    """Give pyvisa-py's own session object of a resource; None with any other backend."""
    sessions = getattr(resource.visalib, "sessions", None)
    return sessions.get(resource.session) if isinstance(sessions, dict) else None


def _open(name: str, text: str, backend: str, timeout_s: float, serial: SerialOptions, shown: str) -> Any:
    """Open one resource within a deadline of our own, since not every transport keeps one."""
    box: dict[str, Any] = {}
    lock = threading.Lock()

    def work() -> None:
        try:
            resource = _open_visa(text, backend, timeout_s, serial)
        except Exception as error:
            close_leaked(error)
            box["error"] = error
            return
        with lock:
            if "abandoned" not in box:
                box["resource"] = resource
                return
        close_quietly(resource)

    started = time.monotonic()
    thread = threading.Thread(target=work, name=f"open {text}", daemon=True)
    thread.start()
    thread.join(max(0.05, timeout_s))
    with lock:
        if "resource" in box:
            return box["resource"]
        box["abandoned"] = True
    waited_s = time.monotonic() - started
    error = box.pop("error", None)
    reason = "no answer" if error is None else _plain(error)
    raise _could_not(name, shown, waited_s, reason)


def check_library(visa: str) -> None:
    """Raise ConfigError, in one line, when the VISA library that would be used cannot be loaded."""
    import pyvisa

    backend = backend_name(visa)
    try:
        pyvisa.ResourceManager(backend)
    except Exception as error:
        raise ConfigError(
            f"VISA library {backend!r} (PYVISA_LIBRARY in the environment, else visa: in lab.yaml) cannot be used: "
            f"{_plain(error)}; write @py for pyvisa-py, or the path of a vendor's library that is installed"
        ) from error


def _open_visa(text: str, backend: str, timeout_s: float, serial: SerialOptions) -> Any:
    import pyvisa
    from pyvisa import constants

    manager: Any = pyvisa.ResourceManager(backend)
    options: dict[str, Any] = {}
    if text.upper().startswith("ASRL"):
        options = {
            "baud_rate": serial.baud_rate,
            "data_bits": serial.data_bits,
            "parity": getattr(constants.Parity, serial.parity),
            "stop_bits": constants.StopBits.two if serial.stop_bits == 2 else constants.StopBits.one,
            "flow_control": getattr(constants.ControlFlow, serial.flow_control),
        }
    return manager.open_resource(text, open_timeout=max(1, int(1000 * timeout_s)), **options)


def _plain(error: BaseException) -> str:
    """Give the root of an error in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    context = error.__context__
    if isinstance(context, Exception) and context.__cause__ is not None:
        return _plain(context)
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def close_leaked(error: BaseException) -> None:
    """Close the sockets that a failed open of pyvisa-py leaves behind in its frames."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        pending += [current.__cause__, current.__context__]
        trace = current.__traceback__
        while trace is not None:
            owner = trace.tb_frame.f_locals.get("self")
            for attribute in ("interface", "sock", "_sync", "_async"):
                leaked = getattr(owner, "__dict__", {}).get(attribute)
                if isinstance(leaked, socket.socket):
                    leaked.close()
            trace = trace.tb_next


def _could_not(name: str, text: str, waited_s: float, reason: str) -> LinkError:
    return LinkError(
        f"could not connect after {waited_s:.1f} s: {reason}; {_advice(text)}", instrument=name, resource=text
    )


def _advice(text: str) -> str:
    upper = text.upper()
    if upper.startswith("ASRL"):
        return "check that the device node exists, that you may open it and that nothing else has it open"
    if upper.startswith("USB"):
        return "check the cable, the rights on the USB device and that PyUSB is installed"
    if upper.startswith("PRLGX"):
        return "check power and network of the GPIB adapter; it serves one client at a time on port 1234"
    if upper.startswith("GPIB"):
        return (
            "behind a Prologix adapter name its INTFC with the same board number before it; for a GPIB board install "
            "linux-gpib or gpib-ctypes, or name the vendor's VISA library in visa: or PYVISA_LIBRARY"
        )
    return (
        "check power, network and the instrument's I/O menu, and that host and port are right "
        "(for the simulated bench: is python -m instruments.simulated running?)"
    )
