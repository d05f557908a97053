"""What linux-gpib's class `Gpib` offers pyvisa-py; at address 5 of board 0 stands a simulated supply.

Reads block until the instrument has something to say or the board's time-out has passed, as ibrd does.
"""

from __future__ import annotations

import json
import os
import time

import gpib

from instruments.simulated.e3645a import SimulatedE3645A
from tests.simulated.standin import StandIn

TIMO, END, CMPL = 0x4000, 0x2000, 0x0100
#: linux-gpib knows these time-outs and no other, in seconds.
STEPS_S = (3600, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)

supply = SimulatedE3645A(StandIn())
bus = supply.open_port("message", "gpib5")


def tell(what: str) -> None:
    """Note what happens on the bus."""
    with open(os.environ["GPIB_LOG"], "a") as log:
        log.write(json.dumps(what) + "\n")


class Gpib:
    def __init__(
        self, name: int = 0, pad: int | None = None, sad: int = 0, timeout: int = 13, send_eoi: int = 1,
        eos_mode: int = 0,
    ) -> None:  # fmt: skip
        self._pad, self._sta, self._count, self._tmo_s = pad, CMPL, 0, float(STEPS_S[timeout])

    def _bus(self):
        if self._pad != 5:
            self._sta = TIMO
            raise gpib.GpibError("nobody listens")
        supply.advance(time.monotonic())
        return bus

    def write(self, data: bytes) -> None:
        tell(data.decode("latin-1"))
        self._bus().write(bytes(data), True)
        self._sta, self._count = CMPL, len(data)

    def read(self, count: int = 512) -> bytes:
        until = time.monotonic() + self._tmo_s
        while True:
            data, end = self._bus().read(count, None)
            if data:
                self._sta, self._count = CMPL | (END if end else 0), len(data)
                return data
            if time.monotonic() > until:
                self._sta, self._count = TIMO, 0
                raise gpib.GpibError("read timed out")
            time.sleep(0.002)

    def clear(self) -> None:
        tell("<SDC>")
        self._bus().clear()
        self._sta = CMPL

    def ibloc(self) -> int:
        tell("<GTL>")
        supply.go_local()
        return CMPL

    def ibsta(self) -> int:
        return self._sta

    def ibcnt(self) -> int:
        return self._count

    def timeout(self, value: int) -> None:
        self._tmo_s = float(STEPS_S[value])

    def ask(self, option: int) -> int:
        return {1: self._pad or 0, 4: 1}.get(option, 0)

    def command(self, data: bytes) -> None:
        tell(f"<command {data!r}>")

    def remote_enable(self, on: int) -> None:
        tell(f"<REN {on}>")

    def close(self) -> None:
        tell("<close>")
