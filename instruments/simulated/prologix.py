"""A simulated Prologix GPIB-ETHERNET or GPIB-USB adapter in controller mode, after the manual 1.6.6.0. Pure.

Bytes of a TCP client in, bytes out, time through `advance`; behind it instruments by GPIB address. Lines
that begin with `++` are for the adapter, others go to the addressed instrument; ESC protects CR, LF, ESC
and `+`. It reads an instrument only on `++read`, byte gaps may last `++read_tmo_ms`, and a reply that comes
later stays in the instrument for the next read. Several clients share settings and bus, one command at a
time; what `++read` brings goes to the client that asked.

It asserts REN, so that an instrument goes to remote when it is spoken to; ++loc gives its panel back.

Unconfirmed: power-on settings (`AdapterSettings`), silence after ++rst (`reset_s`), several clients at once (`clients`
limits them; one more is reset), a wrong value being ignored (`complains` True: it is called unrecognized).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from instruments.simulated.scpi_machine import ScpiMachine
from instruments.simulated.scpi_port import Port

ESC, CR, LF, PLUS = 0x1B, 0x0D, 0x0A, 0x2B
VERSION = "Prologix GPIB-ETHERNET Controller version 01.06.06.00"
USB_VERSION = "Prologix GPIB-USB Controller version 6.107"
READ_TMO_MS = (1, 3000)
EOS = {0: b"\r\n", 1: b"\r", 2: b"\n", 3: b""}


@dataclass(frozen=True)
class AdapterSettings:
    """What `++` commands set."""

    mode: int = 1
    addr: int = 5
    sad: int | None = None
    """Secondary address; no instrument here has one."""
    auto: int = 0
    eoi: int = 1
    eos: int = 0
    eot_enable: int = 0
    eot_char: int = 0
    read_tmo_ms: int = 500
    savecfg: int = 1
    lon: int = 0
    status: int = 0


UNRECOGNIZED = "Unrecognized command"
SECONDARY = range(96, 127)
_HELP = (
    "addr auto clr eoi eos eot_char eot_enable help ifc llo loc lon mode read read_tmo_ms rst savecfg spoll srq status"
    " trg ver"
)
_RANGES = {
    "mode": (0, 1), "auto": (0, 1), "eoi": (0, 1), "eos": (0, 3), "eot_enable": (0, 1), "eot_char": (0, 255),
    "read_tmo_ms": READ_TMO_MS, "savecfg": (0, 1), "lon": (0, 1), "status": (0, 255),
}  # fmt: skip


@dataclass
class _Read:
    """A `++read` in progress; `stop` is a byte value, or None."""

    client: PrologixPort
    bus: Port | None
    until_eoi: bool
    stop: int | None
    last_s: float


class PrologixPort:
    """One TCP client of the adapter."""

    kind = "stream"

    def __init__(self, adapter: Prologix) -> None:
        self._adapter = adapter
        self.out = bytearray()
        self.closed = self.broken = False
        self.signals = 0
        """The adapter asks nobody for service; clients look with ++srq and ++spoll."""
        self._line = bytearray()
        self._escaped = False
        self._command = 0
        """How many unescaped `+` began the line."""

    def feed(self, data: bytes) -> bytes:
        """Bytes in, bytes that are ready out."""
        self.write(data)
        return self.take()

    def write(self, data: bytes, end: bool = False) -> None:
        """Take bytes in and run what is whole."""
        for byte in data:
            if self._escaped:
                self._escaped = False
                self._line.append(byte)
            elif byte == ESC:
                self._escaped = True
            elif byte in (CR, LF):
                self._end_line()
            else:
                if byte == PLUS and self._command == len(self._line) < 2:
                    self._command += 1
                self._line.append(byte)
        self._adapter.run()

    def _end_line(self) -> None:
        line, command = bytes(self._line), self._command == 2
        self._line.clear()
        self._command = 0
        if line:
            self._adapter.submit(self, line, command)

    @property
    def readable(self) -> bool:
        """Whether bytes are ready."""
        return bool(self.out)

    def take(self) -> bytes:
        """Everything that is ready."""
        out = bytes(self.out)
        self.out.clear()
        return out

    def close(self) -> None:
        """The client is gone; a read of it that is going on ends."""
        self.closed = True
        self._adapter.forget(self)


class Prologix:
    """The adapter with its instruments; `devices` are keyed by GPIB address."""

    def __init__(
        self,
        devices: Mapping[int, ScpiMachine],
        *,
        settings: AdapterSettings | None = None,
        reset_s: float = 5.0,
        version: str = VERSION,
        complains: bool = False,
        clients: int | None = None,
    ) -> None:
        self._power_on = settings or AdapterSettings()
        self.settings = self._power_on
        self._devices = dict(devices)
        self._bus = {addr: machine.open_port("message", f"gpib{addr}") for addr, machine in devices.items()}
        self._reset_s, self._version, self._complains = reset_s, version, complains
        self._clients = clients
        self._queue: deque[tuple[PrologixPort, bytes, bool]] = deque()
        self._reading: _Read | None = None
        self._silent_until_s = 0.0
        self._ports: list[PrologixPort] = []
        self._first: PrologixPort | None = None
        self.now_s = 0.0

    # --- the outside ----------------------------------------------------------------------------

    def open_port(self, kind: str = "stream", name: str = "") -> PrologixPort:
        """One more TCP client."""
        port = PrologixPort(self)
        port.broken = self._clients is not None and len(self._ports) >= self._clients
        self._ports.append(port)
        for bus in self._bus.values():
            bus.reconnect()
        return port

    @property
    def ports(self) -> list[PrologixPort]:
        """The clients that are connected."""
        return self._ports

    def feed(self, data: bytes) -> bytes:
        """Bytes of a first client in, what is ready for it out."""
        if self._first is None:
            self._first = self.open_port()
        return self._first.feed(data)

    def tick(self, now_s: float) -> bytes:
        """Time passes; what became ready for the first client."""
        self.advance(now_s)
        return self._first.take() if self._first else b""

    def advance(self, now_s: float) -> None:
        """Time passes for adapter and instruments."""
        self.now_s = max(self.now_s, now_s)
        for machine in self._devices.values():
            machine.advance(self.now_s)
        self.run()

    @property
    def wake_s(self) -> float | None:
        """Next time at which anything happens by itself."""
        times = [m.wake_s for m in self._devices.values() if m.wake_s is not None]
        if self._reading is not None:
            times.append(self._reading.last_s + self.settings.read_tmo_ms / 1000)
        if self.now_s < self._silent_until_s:
            times.append(self._silent_until_s)
        return min(times, default=None)

    def submit(self, client: PrologixPort, line: bytes, command: bool) -> None:
        """Queue a whole line of a client."""
        self._queue.append((client, line, command))

    def forget(self, client: PrologixPort) -> None:
        """A client has gone."""
        self._queue = deque(item for item in self._queue if item[0] is not client)
        if self._reading is not None and self._reading.client is client:
            self._reading = None
        if client in self._ports:
            self._ports.remove(client)
        self.run()

    # --- work -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Do what can be done now: the read in progress, then line by line."""
        while self.now_s >= self._silent_until_s:
            if self._reading is not None:
                if not self._read_on(self._reading):
                    return
                continue
            if not self._queue:
                return
            client, line, command = self._queue.popleft()
            if command:
                self._execute(client, line.decode("latin-1")[2:])
            else:
                self._send(client, line)

    def _send(self, client: PrologixPort, data: bytes) -> None:
        """Send a line to the addressed instrument; nobody there: it is lost."""
        s = self.settings
        bus = self._addressed()
        if bus is not None and s.mode == 1:
            bus.machine.go_remote()
            bus.write(data + EOS[s.eos], bool(s.eoi))
        if s.auto:
            self._reading = _Read(client, bus, True, None, self.now_s)

    def _addressed(self) -> Port | None:
        return self._bus.get(self.settings.addr) if self.settings.sad is None else None

    def _read_on(self, read: _Read) -> bool:
        """Go on reading; whether it ended."""
        while read.bus is not None:
            if read.bus.broken:
                read.bus.broken, read.client.broken = False, True
                read.client.out += read.bus.take()
                self._reading = None
                return True
            data, end = read.bus.read(65536, read.stop)
            if data:
                read.client.out += data
                read.last_s = self.now_s
                if end and self.settings.eot_enable:
                    read.client.out.append(self.settings.eot_char)
                if (end and read.until_eoi) or (read.stop is not None and data[-1] == read.stop):
                    self._reading = None
                    return True
            else:
                break
        if self.now_s - read.last_s >= self.settings.read_tmo_ms / 1000 - 1e-9:
            self._reading = None
            return True
        return False

    def _execute(self, client: PrologixPort, text: str) -> None:
        words = text.strip().split()
        name, arguments = (words[0].lower(), words[1:]) if words else ("", [])
        if name in _RANGES:
            self._setting(client, name, arguments)
        elif name == "addr":
            self._address(client, arguments)
        elif name == "read":
            self._start_read(client, arguments)
        elif name in ("clr", "trg", "loc", "llo", "ifc", "spoll"):
            self._bus_command(client, name, arguments)
        elif name == "srq":
            asking = any(port.service_asked for port in self._bus.values())
            self._answer(client, f"{asking:d}")
        elif name == "ver":
            self._answer(client, self._version)
        elif name == "rst":
            self.settings = self._power_on
            self._queue.clear()
            self._silent_until_s = self.now_s + self._reset_s
        elif name == "help":
            self._answer(client, "\r\n".join(f"++{word}" for word in _HELP.split()))
        else:
            self._answer(client, UNRECOGNIZED)

    @staticmethod
    def _answer(client: PrologixPort, text: str) -> None:
        client.out += text.encode("ascii") + b"\r\n"

    def _setting(self, client: PrologixPort, name: str, arguments: list[str]) -> None:
        """Set, or answer when nothing follows; a value out of range changes nothing."""
        if not arguments:
            self._answer(client, str(getattr(self.settings, name)))
            return
        low, high = _RANGES[name]
        if arguments[0].isdigit() and low <= int(arguments[0]) <= high:
            values: dict[str, int] = {name: int(arguments[0])}
            self.settings = replace(self.settings, **values)
        elif self._complains:
            self._answer(client, UNRECOGNIZED)

    def _address(self, client: PrologixPort, arguments: list[str]) -> None:
        """++addr PAD [SAD]: 0 to 30, and 96 to 126."""
        s = self.settings
        if not arguments:
            self._answer(client, str(s.addr) if s.sad is None else f"{s.addr} {s.sad}")
            return
        numbers = [int(a) if a.isdigit() else -1 for a in arguments[:2]]
        if 0 <= numbers[0] <= 30 and (len(numbers) == 1 or numbers[1] in SECONDARY):
            self.settings = replace(s, addr=numbers[0], sad=numbers[1] if len(numbers) > 1 else None)
        elif self._complains:
            self._answer(client, UNRECOGNIZED)

    def _start_read(self, client: PrologixPort, arguments: list[str]) -> None:
        until_eoi = arguments[:1] == ["eoi"]
        stop = int(arguments[0]) if arguments and arguments[0].isdigit() else None
        self._reading = _Read(client, self._addressed(), until_eoi, stop, self.now_s)

    def _bus_command(self, client: PrologixPort, name: str, arguments: list[str]) -> None:
        addresses = [int(a) for a in arguments if a.isdigit()] or [self.settings.addr]
        for address in addresses:
            bus = self._bus.get(address)
            if bus is None:
                continue
            if name == "clr":
                bus.clear()
            elif name == "trg":
                bus.trigger()
            elif name == "loc":
                bus.machine.go_local()
            elif name == "llo":
                bus.machine.go_remote()
            elif name == "spoll":
                self._answer(client, str(bus.serial_poll()))
