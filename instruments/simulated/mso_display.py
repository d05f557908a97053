"""Screenshot and a few measurements of the simulated oscilloscope. Pure; imports no driver.

:MEASure answers 9.9E+37 where there is nothing to measure. Measurements look at up to 62 500 points of the
record, as the instrument's measurement record does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from instruments.simulated.interfaces import Floats
from instruments.simulated.mso_acquisition import MEASUREMENT_POINTS
from instruments.simulated.mso_record import MID
from instruments.simulated.mso_settings import nr3
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_syntax import encode_block
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

INVALID = 9.9e37
WIDTH, HEIGHT = 320, 192
COLOURS = bytes((0, 0, 0, 60, 60, 60, 255, 220, 0, 0, 220, 80, 80, 140, 255, 255, 80, 120, 200, 200, 200))


class DisplayCommands:
    """:DISPlay:DATA? and :MEASure, bound to one oscilloscope."""

    def __init__(self, scope: SimulatedMsoX2024A) -> None:
        self._scope = scope
        scope.add(":DISPlay:DATA", query=self._screenshot, query_args=(0, 3))
        scope.add(":DISPlay:CLEar", lambda c: None, set_args=(0, 0))
        scope.add(
            ":DISPlay:LABel",
            lambda c: setattr(scope.settings, "labels_shown", c.boolean()),
            lambda c: f"{scope.settings.labels_shown:d}",
        )
        for name, function in FUNCTIONS.items():
            scope.add(f":MEASure:{name}", lambda c: None, self._measure(function), set_args=(0, 3), query_args=(0, 3))
        scope.add(":MEASure:SOURce", self._set_source, lambda c: self._source)
        scope.add(":MEASure:CLEar", lambda c: None, set_args=(0, 0))
        self._source = "CHAN1"

    def _set_source(self, call: Call) -> None:
        self._source = call.choice(*(f"CHANnel{n}" for n in range(1, 5)))

    def _measure(self, function: Callable[[Floats, Floats], float]) -> Callable[[Call], str]:
        def query(call: Call) -> str:
            source = self._source
            while call.more:
                word = call.word()
                if word.startswith("CHAN") and word[-1:] in "1234":
                    source = "CHAN" + word[-1]
                elif word not in ("DISP", "DISPLAY", "CYCL", "CYCLE", "AUTO", "AC", "DC"):
                    raise Refused(-224)
            points = self.values(source)
            return nr3(float(function(*points)) if points is not None else INVALID)

        return query

    def values(self, source: str, most: int = MEASUREMENT_POINTS) -> tuple[Floats, Floats] | None:
        """(time, value) of up to `most` points of the record in the probe's units, or None."""
        record = self._scope.acquisition.record
        if record is None or record.blank or not record.settings.channels[source].display:
            return None
        every = -(-record.timing.on_screen // most)
        count = record.timing.on_screen // every
        codes = self._scope.synthesiser.codes(record, source, every, count)
        scale = self._scope.synthesiser.scale(record.settings.channels[source])
        if codes.size != count:
            codes = codes[::2]
        values = (codes.astype(np.float64) - MID) * scale.increment + scale.origin
        t = np.asarray(record.start_s + record.step_s * every * np.arange(count), dtype=np.float64)
        return t, values

    def _screenshot(self, call: Call) -> bytes:
        """A PNG of grid and traces; :DISPlay:DATA? [PNG][,SCReen][,COLor|GRAYscale]."""
        if call.more and call.choice("PNG", "BMP", "BMP8bit") != "PNG":
            raise Refused(-221)
        while call.more:
            call.choice("SCReen", "COLor", "GRAYscale")
        image = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        image[:: HEIGHT // 8, :] = 1
        image[:, :: WIDTH // 10] = 1
        for number in range(1, 5):
            points = self.values(f"CHAN{number}", most=WIDTH * 8)
            if points is None:
                continue
            record = self._scope.acquisition.record
            assert record is not None
            low, high = self._scope.synthesiser.screen_span(record.settings.channels[f"CHAN{number}"])
            _, values = points
            rows = np.clip((high - values) / (high - low) * HEIGHT, 0, HEIGHT - 1).astype(int)
            for column, part in enumerate(np.array_split(rows, WIDTH)):
                if part.size:
                    image[part.min() : part.max() + 1, column] = 1 + number
        return encode_block(png(image, COLOURS))


def png(image: np.ndarray[tuple[int, int], np.dtype[np.uint8]], palette: bytes) -> bytes:
    """Palette picture (h, w) as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"PLTE", palette)
        + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    )  # fmt: skip


def _frequency(t: Floats, v: Floats) -> float:
    """From the rising crossings of the middle, with hysteresis; 9.9E+37 with fewer than two."""
    middle, guard = (v.max() + v.min()) / 2, 0.2 * np.ptp(v)
    state = np.where(v > middle + guard, 1, np.where(v < middle - guard, -1, 0))
    sure = np.flatnonzero(state)
    rises = sure[1:][(state[sure[1:]] > 0) & (state[sure[:-1]] < 0)]
    if rises.size < 2:
        return INVALID
    return float((rises.size - 1) / (t[rises[-1]] - t[rises[0]]))


FUNCTIONS: dict[str, Callable[[Floats, Floats], float]] = {
    "VPP": lambda t, v: float(np.ptp(v)),
    "VMAX": lambda t, v: float(v.max()),
    "VMIN": lambda t, v: float(v.min()),
    "VAVerage": lambda t, v: float(v.mean()),
    "VRMS": lambda t, v: float(np.sqrt(np.mean(v * v))),
    "VAMPlitude": lambda t, v: float(np.percentile(v, 95) - np.percentile(v, 5)),
    "FREQuency": _frequency,
    "PERiod": lambda t, v: 1 / f if (f := _frequency(t, v)) < INVALID else INVALID,
}
