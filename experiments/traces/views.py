"""A trace file as lazy xarray objects: amperes, volts, watts and bits on a time axis, and the raw codes.

Nothing but the tables is read until values are asked for; then only the rows and samples asked for. The objects
can be pickled, and chunked where dask is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, CachingFileManager
from xarray.core import indexing

from calibration.model import Calibration
from experiments.traces import schema
from experiments.traces.reader import TraceReader
from experiments.traces.schema import CAPTURE, ROLES
from experiments.windows import AnalogueMarkers
from instruments.errors import TraceError

Floats = NDArray[np.float64]
Key = tuple[Any, Any]
"""What is asked for along capture and along sample: numbers, slices, or one sorted array."""

Calibrate = Callable[[TraceReader], Calibration | None]
"""Finds a run's calibration in its file; None where it has no zero."""


class _Values(Protocol):
    """Values of some rows and samples, from the group /captures."""

    def __call__(self, group: h5py.Group, key: Key) -> NDArray[Any]: ...


@dataclass(frozen=True)
class _Codes:
    role: str

    def __call__(self, group: h5py.Group, key: Key) -> NDArray[Any]:
        return np.asarray(group[f"{self.role}_codes"][key])


@dataclass(frozen=True)
class _Bit:
    number: int

    def __call__(self, group: h5py.Group, key: Key) -> NDArray[Any]:
        return np.asarray((group["markers_codes"][key] >> self.number) & 1)


@dataclass(frozen=True)
class _Line:
    """A line decoded from an analogue record in the place of the markers: of whole rows, since levels have a past."""

    number: int
    markers: AnalogueMarkers
    scale: _Readings
    points: NDArray[np.int64]

    def __call__(self, group: h5py.Group, key: Key) -> NDArray[Any]:
        rows = np.atleast_1d(np.arange(len(self.points))[key[0]])
        lines = np.zeros((len(rows), int(group["sample"].shape[0])), dtype=np.uint8)
        for line, row in zip(lines, rows.tolist(), strict=True):
            n = int(self.points[row])
            line[:n] = (self.markers.decoded(self.scale(group, (row, slice(0, n)))) >> self.number) & 1
        picked = lines[:, key[1]]
        return picked[0] if np.ndim(np.arange(len(self.points))[key[0]]) == 0 else picked


@dataclass(frozen=True)
class _Time:
    increment_s: Floats
    origin_s: Floats
    reference: Floats

    @property
    def uniform(self) -> bool:
        """Whether all rows share one time base."""
        columns = (self.increment_s, self.origin_s, self.reference)
        return len(self.increment_s) > 0 and all(bool(np.all(column == column[0])) for column in columns)

    def of(self, rows: Any, samples: Floats) -> Floats:
        """Time of samples in rows that broadcast against them."""
        return np.asarray((samples - self.reference[rows]) * self.increment_s[rows] + self.origin_s[rows])

    def __call__(self, group: h5py.Group, key: Key) -> NDArray[Any]:
        rows = np.arange(len(self.increment_s))[key[0]]
        samples = np.arange(group["sample"].shape[0], dtype=float)[key[1]]
        return self.of(rows[:, None] if np.ndim(rows) == 1 and np.ndim(samples) == 1 else rows, samples)


@dataclass(frozen=True)
class _Readings:
    """reading = slope x code + intercept, each row with its own; NaN at holes and beyond a record's end."""

    role: str
    slope: Floats
    intercept: Floats
    whole: bool = False
    """Whether code 0 is a reading too, as in 8 bits that were not an oscilloscope's."""

    def __call__(self, group: h5py.Group, key: Key) -> NDArray[Any]:
        codes = np.asarray(group[f"{self.role}_codes"][key])
        rows = np.arange(len(self.slope))[key[0]]
        slope, intercept = self.slope[rows], self.intercept[rows]
        if np.ndim(rows) == 1 and codes.ndim == 2:
            slope, intercept = slope[:, None], intercept[:, None]
        values = codes * slope + intercept
        return np.asarray(values if self.whole else np.where(codes == 0, np.nan, values))


@dataclass(frozen=True)
class _Product:
    a: _Readings
    b: _Readings

    def __call__(self, group: h5py.Group, key: Key) -> NDArray[Any]:
        return np.asarray(self.a(group, key) * self.b(group, key))


class _Lazy(BackendArray):
    """Asks `values` for the rows and samples that are wanted, from a file that is opened when needed."""

    def __init__(
        self, manager: CachingFileManager[h5py.File], values: _Values, shape: tuple[int, int], dtype: str
    ) -> None:
        self._manager, self._values, self.shape, self.dtype = manager, values, shape, np.dtype(dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read)

    def _read(self, key: Key) -> NDArray[Any]:
        return np.asarray(self._values(self._manager.acquire()["captures"], key), dtype=self.dtype)


def open_lazily(path: str | Path, calibrate: Calibrate | None = None) -> xr.Dataset:
    """Open a trace file as a lazy dataset along (capture, sample).

    Variables: `current_a`, `voltage_v`, `power_w` (float64; NaN at holes and beyond the end of a shorter record),
    `gate` and `batch_line` (levels, 0 or 1), `markers` (uint8, bit k = Dk), `current_codes` and `voltage_codes` (as
    stored). Coordinates: `time_s` (trigger at 0; along sample alone where all captures share one time base), and the
    columns of the capture table. With `calibrate` (`experiments.run_calibration.calibrate_run`) the run's own zero and
    gain are applied; without, values are as the oscilloscope scaled them: the attribute `readings` says which. Close
    the dataset when done, or use it as a context manager.

    Raises TraceError for what is no trace file, and with `calibrate` where the run has no zero.
    """
    with TraceReader(path) as reader:
        rows, preambles, wiring = reader.captures(), reader.preambles(), reader.lab().wiring
        scaled = scaling(reader.source, calibrated=calibrate is not None)
        attributes = {
            "title": "joulebench trace",
            "source": reader.source,
            "complete": int(reader.complete),
            "readings": scaled,
        }
        corrections = _corrections(reader, rows, calibrate) if calibrate is not None else {}
        analogue = reader.analogue_markers()
    shape = (len(rows), int(preambles["points"].max(initial=0)))
    manager: CachingFileManager[h5py.File] = CachingFileManager(h5py.File, str(path), mode="r")

    def lazy(values: _Values, dtype: str, name: str, units: str = "1") -> xr.Variable:
        array = indexing.LazilyIndexedArray(_Lazy(manager, values, shape, dtype))
        return xr.Variable(("capture", "sample"), array, {"long_name": name, "units": units})

    def line(number: int) -> _Values:
        if analogue is None:
            return _Bit(number)
        scale = replace(_readings("markers", preambles, None), whole=True)
        return _Line(number, analogue, scale, preambles["points"][:, ROLES.index("markers")])

    current, voltage = (_readings(role, preambles, corrections.get(role)) for role in ("current", "voltage"))
    variables = {
        "current_a": lazy(current, "f8", f"current, {scaled}", "A"),
        "voltage_v": lazy(voltage, "f8", f"voltage, {scaled}", "V"),
        "power_w": lazy(_Product(current, voltage), "f8", f"power, {scaled}", "W"),
        "gate": lazy(line(wiring.gate.digital), "u1", f"gate line, D{wiring.gate.digital}"),
        "batch_line": lazy(line(wiring.batch.digital), "u1", f"batch line, D{wiring.batch.digital}"),
        "markers": lazy(_Codes("markers"), "u1", "digital inputs, bit k = Dk"),
        "current_codes": lazy(_Codes("current"), schema.CODE_TYPES["current"], "raw codes of the current"),
        "voltage_codes": lazy(_Codes("voltage"), schema.CODE_TYPES["voltage"], "raw codes of the voltage"),
    }
    coordinates: dict[str, Any] = {
        name: ("capture", np.array([row[name] for row in rows]), {"long_name": spec.note} if spec.note else {})
        for name, spec in CAPTURE.items()
        if name not in schema.ON_DEMAND
    }
    coordinates["capture"] = ("capture", np.arange(shape[0]), {"long_name": "number of the capture"})
    coordinates["points"] = ("capture", preambles["points"][:, 0], {"long_name": "samples of the record"})
    time = _Time(*(preambles[name][:, 0] for name in ("x_increment_s", "x_origin_s", "x_reference")))
    named = {"long_name": "time, trigger at 0", "units": "s"}
    if time.uniform:
        coordinates["time_s"] = ("sample", time.of(0, np.arange(shape[1], dtype=float)), named)
    else:
        coordinates["time_s"] = lazy(time, "f8", named["long_name"], named["units"])
    dataset = xr.Dataset(variables, coordinates, attributes)
    dataset.set_close(manager.close)
    return dataset


def scaling(source: str, *, calibrated: bool) -> str:
    """Words for how readings were come by, for titles and attributes; without a comma, which parts titles of tables."""
    if calibrated:
        return "corrected by the zero and gain of the run"
    how = "as they were recorded" if source == "imported" else "as the oscilloscope scaled them"
    return f"{how}; no calibration applied"


def _readings(role: str, preambles: Mapping[str, NDArray[Any]], correction: tuple[Floats, Floats] | None) -> _Readings:
    """Scale of a role's codes, row by row; `correction` is the channel's offset and gain of each row."""
    column = ROLES.index(role)
    slope = preambles["y_increment"][:, column]
    intercept = preambles["y_origin"][:, column] - preambles["y_reference"][:, column] * slope
    if correction is not None:
        offset, gain = correction
        slope, intercept = slope / gain, (intercept - offset) / gain
    return _Readings(role, slope, intercept)


def _corrections(
    reader: TraceReader, rows: Sequence[Mapping[str, Any]], calibrate: Calibrate
) -> dict[str, tuple[Floats, Floats]]:
    """Offset and gain of both channels for each row, from the run's own zeros and comparisons."""
    calibration = calibrate(reader)
    if calibration is None:
        raise TraceError(f"{reader.path}: no zero was committed: open it with calibrated=False")
    return {
        channel.name: (
            np.array([channel.offset.at(row["host_s"]) for row in rows]),
            np.full(len(rows), channel.gain.value),
        )
        for channel in (calibration.current, calibration.voltage)
    }
