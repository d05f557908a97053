"""The simulated oscilloscope's screen as a picture. Pure; imports no driver.

:DISPlay:DATA? [<format>][,][<palette>] gives BMP (24 bit), BMP8bit or PNG (24 bit); BMP and COLor where nothing is said
(PG3000, unconfirmed for the 2000 X: `PanelQuirks.picture`); :HARDcopy:INKSaver turns background and grid to white. The
picture shows grid, traces and digital lines, not the texts around them.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from instruments.simulated.mso_traces import Traces
from instruments.simulated.scpi_syntax import encode_block
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

WIDTH, HEIGHT = 800, 480
Pixels = NDArray[np.uint8]
COLOURS = np.array(
    ((0, 0, 0), (60, 60, 60), (255, 220, 0), (0, 220, 80), (80, 140, 255), (255, 80, 120), (0, 200, 255)),
    dtype=np.uint8,
)
"""Background, grid, channels 1 to 4, digital lines."""
INK_SAVED = np.array(((255, 255, 255), (200, 200, 200), *COLOURS[2:]), dtype=np.uint8)
DIGITAL = 6


class DisplayCommands:
    """:DISPlay:DATA? and :HARDcopy:INKSaver, bound to one oscilloscope."""

    def __init__(self, scope: SimulatedMsoX2024A, traces: Traces) -> None:
        self._scope, self._traces = scope, traces
        self._saves_ink = True
        scope.add(":DISPlay:DATA", query=self._screenshot, query_args=(0, 3))
        scope.add(
            ":HARDcopy:INKSaver",
            lambda c: setattr(self, "_saves_ink", c.boolean()),
            lambda c: f"{self._saves_ink:d}",
        )

    def _screenshot(self, call: Call) -> bytes:
        """Format and palette in this order, each may be missing; SCReen is what older programs add."""
        words = []
        while call.more:
            words.append(call.choice("BMP", "BMP8bit", "PNG", "SCReen", "COLor", "GRAYscale"))
        palette = INK_SAVED if self._saves_ink else COLOURS
        if "GRAY" in words:
            weights = np.array((0.299, 0.587, 0.114))
            palette = np.repeat(np.rint(palette @ weights)[:, None], 3, axis=1).astype(np.uint8)
        image = self._picture()
        if not {"BMP", "BMP8", "PNG"} & set(words):
            words.append(self._scope.quirks.picture)
        if "PNG" in words:
            return encode_block(png(palette[image]))
        return encode_block(bmp8(image, palette) if "BMP8" in words else bmp24(palette[image]))

    def _picture(self) -> Pixels:
        """Places of the palette, (HEIGHT, WIDTH)."""
        image = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        image[:: HEIGHT // 8, :] = 1
        image[:, :: WIDTH // 10] = 1
        record = self._scope.acquisition.record
        for number, name in enumerate(self._scope.settings.channels, 1):
            points = self._traces.values(name, most=WIDTH * 4)
            if points is None or record is None:
                continue
            low, high = self._scope.synthesiser.screen_span(record.settings.channels[name])
            _draw(image, (high - points[1]) / (high - low) * HEIGHT, 1 + number)
        for number in range(self._scope.model.digital):
            points = self._traces.values(f"DIG{number}", most=WIDTH * 4)
            if points is not None:
                bottom = HEIGHT - (number + 0.2) * HEIGHT / self._scope.model.digital
                _draw(image, bottom - points[1] * 0.6 * HEIGHT / self._scope.model.digital, DIGITAL)
        return image


def _draw(image: Pixels, rows: np.ndarray[tuple[int], np.dtype[np.float64]], colour: int) -> None:
    """A line from the least to the greatest row of each column's samples and the last one before them."""
    rows = np.clip(rows, 0, HEIGHT - 1)
    starts = np.linspace(0, rows.size, WIDTH, endpoint=False).astype(int)
    before = rows[np.maximum(starts - 1, 0)]
    tops = np.minimum(np.minimum.reduceat(rows, starts), before).astype(int)
    bottoms = np.maximum(np.maximum.reduceat(rows, starts), before).astype(int)
    for column, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        image[top : bottom + 1, column] = colour


def png(pixels: Pixels) -> bytes:
    """Picture (height, width, 3) as PNG of 24 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def bmp24(pixels: Pixels) -> bytes:
    """Picture (height, width, 3) as BMP of 24 bits; the width is a multiple of 4."""
    height, width, _ = pixels.shape
    return _bmp(width, height, 24, b"", pixels[::-1, :, ::-1].tobytes())


def bmp8(image: Pixels, palette: Pixels) -> bytes:
    """Picture (height, width) of palette places as BMP of 8 bits."""
    height, width = image.shape
    colours = b"".join(bytes((int(b), int(g), int(r), 0)) for r, g, b in palette).ljust(1024, b"\0")
    return _bmp(width, height, 8, colours, image[::-1].tobytes())


def _bmp(width: int, height: int, bits: int, colours: bytes, data: bytes) -> bytes:
    offset = 54 + len(colours)
    head = struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 2835, 2835, len(colours) // 4, 0)
    return head + colours + data
