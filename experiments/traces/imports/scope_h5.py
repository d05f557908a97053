"""HDF5 files (.h5) that an oscilloscope saved.

The layout is that which the maker publishes for Infiniium ("HDF5 Schema for Infiniium Oscilloscope Data"), seen in a
published file of an MSO9254A: /Waveforms with a group for each source, its attributes NumPoints, XInc, XOrg, XUnits,
YInc, YOrg, YUnits, and in it a dataset named as the group with `Data` behind. Floats are readings; integers are taken
as reading = integer x YInc + YOrg, as others read them. That an InfiniiVision 2000 X writes the same could not be
verified: its guides do not describe the layout, and no file of one was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.traces.imports.recording import Recording, Series, unit_of
from instruments.errors import TraceError

FORMAT = "scope-h5"
_SOURCE = re.compile(r"(Channel|Memory|Function|Digital)\s*(\d+)$")


def looks_like(path: Path) -> bool:
    """Whether a file is HDF5 with this layout."""
    try:
        with h5py.File(path, "r") as file:
            return "Waveforms" in file
    except OSError:
        return False


def read(path: Path) -> Iterator[Recording]:
    """Give the one recording. Raises TraceError naming the group or attribute that is not as described."""
    try:
        with h5py.File(path, "r") as file:
            if "Waveforms" not in file:
                raise TraceError(f"{path}: has no group /Waveforms: it is no .h5 of an oscilloscope")
            yield _recording(path, file)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read as HDF5 ({str(error)[:120]})") from error


def _recording(path: Path, file: h5py.File) -> Recording:
    series: dict[str, Series] = {}
    lines: dict[str, NDArray[np.uint8]] = {}
    base: tuple[float, float, int] | None = None
    for name, group in file["Waveforms"].items():
        source = _SOURCE.match(name)
        if source is None or not isinstance(group, h5py.Group):
            continue
        place = f"{path}: /Waveforms/{name}"
        dataset = group.get(f"{name}Data")
        if not isinstance(dataset, h5py.Dataset):
            raise TraceError(f"{place}: has no dataset {name}Data; segmented memory is not read")
        found = (_number(place, group, "XOrg"), _number(place, group, "XInc"), int(_number(place, group, "NumPoints")))
        if base is not None and found != base:
            raise TraceError(f"{place}: is of another time base than the sources before")
        base = found
        if dataset.shape != (base[2],) or not base[1] > 0 or base[2] < 2:
            raise TraceError(f"{place}: {dataset.shape} values do not fit NumPoints {base[2]} and XInc {base[1]!r}")
        if _text(group, "XUnits").lower() not in ("second", "s", ""):
            raise TraceError(f"{place}: XUnits is {_text(group, 'XUnits')!r}, seconds were expected")
        values = dataset[:]
        if source.group(1) == "Digital":
            lines[f"D{source.group(2)}"] = (values != 0).astype(np.uint8)
            continue
        short = source.group(2) if source.group(1) == "Channel" else name
        series[short] = _series(place, group, values)
    if base is None or not series:
        raise TraceError(f"{path}: /Waveforms holds no channel")

    def where(k: int) -> str:
        return f"{path}: sample {k}"

    return Recording(path, FORMAT, base[0], base[1], series, where, lines, facts=_frame(file)).checked()


def _series(place: str, group: h5py.Group, values: NDArray[Any]) -> Series:
    unit = unit_of(_text(group, "YUnits")) or (_text(group, "YUnits"), 1.0)
    if values.dtype.kind in "iu":
        step, origin = _number(place, group, "YInc"), _number(place, group, "YOrg")
        return Series((values * step + origin) * unit[1], unit[0], 0.0)
    if values.dtype.kind != "f":
        raise TraceError(f"{place}: its values are of type {values.dtype}, numbers were expected")
    digits = np.finfo(values.dtype).eps / 2
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
    return Series(values.astype(np.float64) * unit[1], unit[0], float(digits) * largest * unit[1])


def _number(place: str, group: h5py.Group, name: str) -> float:
    try:
        return float(group.attrs[name])
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"{place}: has no number in its attribute {name}") from error


def _text(group: h5py.Group, name: str) -> str:
    value = group.attrs.get(name, b"")
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip("\0 ")


def _frame(file: h5py.File) -> dict[str, str]:
    """Model, serial and date, where the file tells them."""
    try:
        row = file["Frame/TheFrame"][()]
        names = row.dtype.names or ()
        return {n.lower(): row[n].decode("ascii", "replace").strip("\0 ") for n in names}
    except (KeyError, AttributeError, OSError):
        return {}
