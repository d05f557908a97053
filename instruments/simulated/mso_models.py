"""What an oscilloscope of the InfiniiVision 2000 X and 3000 X series has, by its model string. Pure.

From the data sheets' model tables: inputs, digital lines (MSO), bandwidth, rate of one channel of a pair. The rates are
weakly confirmed (2 GSa/s) or unconfirmed (3000 X: 4, 3000T X: 5 GSa/s). What is not named like one of them gets the
inputs of an MSO-X 2024A, so that a wrong model at the address can be simulated by its identity alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"([MD])SO-?X ?([23])(\d\d)([24])([AT])", re.IGNORECASE)
_BANDWIDTH_HZ = {"00": 70e6, "01": 100e6, "02": 200e6, "03": 350e6, "05": 500e6, "10": 1e9}
_RATE_HZ = {"2A": 2e9, "3A": 4e9, "3T": 5e9}
_LINES = {"2": 8, "3": 16}


@dataclass(frozen=True)
class Model:
    """Inputs and speed of a model."""

    analog: int = 4
    digital: int = 8
    bandwidth_hz: float = 200e6
    rate_hz: float = 2e9
    """Of one channel, its pair partner off."""

    @classmethod
    def of(cls, name: str) -> Model:
        """Read a model string such as `DSO-X 3034A`."""
        hit = _NAME.fullmatch(" ".join(name.split()))
        if hit is None or hit[3] not in _BANDWIDTH_HZ or (rate_hz := _RATE_HZ.get(hit[2] + hit[5].upper())) is None:
            return cls()
        digital = _LINES[hit[2]] if hit[1].upper() == "M" else 0
        return cls(int(hit[4]), digital, _BANDWIDTH_HZ[hit[3]], rate_hz)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the analogue channels, in the manual's notation."""
        return tuple(f"CHANnel{n}" for n in range(1, self.analog + 1))

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the digital lines."""
        return tuple(f"DIGital{k}" for k in range(self.digital))

    @property
    def pods(self) -> tuple[str, ...]:
        """Names of the groups of eight digital lines."""
        return tuple(f"POD{n}" for n in range(1, self.digital // 8 + 1))

    @property
    def aperture_s(self) -> float:
        """What one sample of the full bandwidth smears over: its rise time."""
        return 0.35 / self.bandwidth_hz
