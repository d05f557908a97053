"""Binary files (.bin) that the oscilloscope saved: InfiniiVision 2000 X and its relatives.

From the User's Guides ("Binary Data (.bin) Format": 2000 X, 3000 X, 3000T X, 5000, 7000B). That numbers are
little-endian is not said there; the maker's example programs and every file that others published have them so.
No file of a 2000 X A of our own was at hand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.traces.imports.recording import Recording, Series
from instruments.errors import TraceError
from instruments.wording import counted

FORMAT = "scope-bin"
_FILE = struct.Struct("<2s2sii")
_WAVE = struct.Struct("<iiiiifdddii16s16s24s16sdI")
_DATA = struct.Struct("<ihhi")
_UNITS = {0: "", 1: "V", 2: "s", 3: "", 4: "A", 5: "dB", 6: "Hz"}
VERSIONS = (b"01", b"10")
PEAK = 2
_BUFFERS = {(1, 4): "<f4", (6, 1): "u1"}
"""(type, bytes a point) -> what the points are: readings, or the eight lines of a pod, bit k = Dk (unconfirmed)."""


class _Wave(NamedTuple):
    """A waveform's header as it stands in the file."""

    size: int
    kind: int
    buffers: int
    points: int
    averages: int
    x_display_range: float
    x_display_origin: float
    dt_s: float
    start_s: float
    x_unit: int
    y_unit: int
    date: bytes
    time: bytes
    frame: bytes
    label: bytes
    tag_s: float
    segment: int


Values = NDArray[np.float32] | NDArray[np.uint8]


def looks_like(first: bytes) -> bool:
    """Whether a file's first bytes are those of this format: AG and a version of two digits."""
    return first[:2] == b"AG" and first[2:4].isdigit()


def read(path: Path) -> Iterator[Recording]:
    """Give the recording, or that of each segment. Raises TraceError with file and byte."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror})") from error
    waves = list(_waves(path, data))
    if not waves:
        raise TraceError(f"{path}: holds no waveform")
    for segment in sorted({wave.segment for wave, _ in waves}):
        yield _recording(path, [(wave, values) for wave, values in waves if wave.segment == segment])


def _waves(path: Path, data: bytes) -> Iterator[tuple[_Wave, Values]]:
    if len(data) < _FILE.size or not looks_like(data):
        raise TraceError(f"{path}: is no .bin file of an oscilloscope: it does not begin with AG and a version")
    _, version, size, count = _FILE.unpack_from(data)
    if version not in VERSIONS:
        raise TraceError(f"{path}: is of version {version.decode('ascii', 'replace')}; 01 and 10 are read")
    if size != len(data):
        raise TraceError(f"{path}: says that it has {size} bytes, and has {len(data)}: it is cut off or was changed")
    at = _FILE.size
    for number in range(1, count + 1):
        wave, values, at = _wave(f"{path}: waveform {number} at byte {at}", data, at)
        yield wave, values
    if at != len(data):
        raise TraceError(
            f"{path}: {counted(len(data) - at, 'byte')} more than the {counted(count, 'waveform')} that it announces"
        )


def _wave(place: str, data: bytes, at: int) -> tuple[_Wave, Values, int]:
    """One waveform, and where the next one begins."""
    try:
        wave = _Wave(*_WAVE.unpack_from(data, at))
        if wave.size < _WAVE.size:
            raise TraceError(f"{place}: its header says {wave.size} bytes, {_WAVE.size} are the least")
        at += wave.size
        size, buffer, width, length = _DATA.unpack_from(data, at)
    except struct.error as error:
        raise TraceError(f"{place}: the file ends within its header") from error
    if wave.kind == PEAK or wave.buffers != 1:
        raise TraceError(
            f"{place}: was saved with peak detection (minimum and maximum of each point): no mean can be had from it; "
            "acquire with normal or high resolution"
        )
    if _UNITS.get(wave.x_unit) not in ("s", "") or not wave.dt_s > 0 or wave.points < 2:
        raise TraceError(f"{place}: is no waveform over time ({wave.points} points, {wave.dt_s!r} s apart)")
    if (buffer, width) not in _BUFFERS:
        raise TraceError(f"{place}: has a buffer of type {buffer} with {width} bytes a point, which is not known")
    at += size
    if size < _DATA.size or length != wave.points * width or at + length > len(data):
        raise TraceError(f"{place}: {length} bytes are announced for {wave.points} points, {len(data) - at} are left")
    return wave, np.frombuffer(data, _BUFFERS[buffer, width], wave.points, at), at + length


def _recording(path: Path, waves: Sequence[tuple[_Wave, Values]]) -> Recording:
    first, _ = waves[0]
    series: dict[str, Series] = {}
    lines: dict[str, NDArray[np.uint8]] = {}
    for number, (wave, values) in enumerate(waves, 1):
        if (wave.points, wave.dt_s, wave.start_s) != (first.points, first.dt_s, first.start_s):
            raise TraceError(f"{path}: waveforms 1 and {number} are not of one time base")
        if values.dtype == np.uint8:
            low = len(lines)
            bits = values.astype(np.uint8)
            lines |= {f"D{low + bit}": ((bits >> bit) & 1).astype(np.uint8) for bit in range(8)}
            continue
        name = _text(wave.label)
        name = name if name and name not in series else f"waveform {number}"
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
        series[name] = Series(values.astype(np.float64), _UNITS.get(wave.y_unit, ""), 2.0**-24 * largest)
    if not series:
        raise TraceError(f"{path}: holds digital lines alone, no channel")

    def where(k: int) -> str:
        return f"{path}: sample {k}"

    facts = {"frame": _text(first.frame)} if _text(first.frame) else {}
    if first.segment or first.tag_s:
        facts |= {"segment": str(first.segment), "time_tag_s": repr(first.tag_s)}
    return Recording(path, FORMAT, first.start_s, first.dt_s, series, where, lines, facts=facts).checked()


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("ascii", "replace").strip()
