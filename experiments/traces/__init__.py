"""The trace file of a run: schema version 1, its writer and its reader. The only importer of h5py.

Raw codes are stored per source as (capture, sample), each capture one checksummed chunk, with the
preamble that scales them as variables along `capture`. The file is valid netCDF-4: dimension scales,
characters for text, no exotic types. docs/trace-format.md describes every variable.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.journal import ENDED, NOT_NEEDED, UNMEASURED, CaptureRow, Reading

if TYPE_CHECKING:
    import xarray as xr

    from experiments.traces.reader import TraceReader
    from experiments.traces.room import check_writable
    from experiments.traces.schema import CAPTURE, ROLES, SCHEMA
    from experiments.traces.writer import TraceWriter, seal_whole

__all__ = [
    "CAPTURE",
    "ENDED",
    "NOT_NEEDED",
    "ROLES",
    "SCHEMA",
    "UNMEASURED",
    "CaptureRow",
    "Reading",
    "TraceReader",
    "TraceWriter",
    "check_writable",
    "open",
    "seal_whole",
]


_FROM = {
    "TraceReader": "reader",
    **dict.fromkeys(("CAPTURE", "ROLES", "SCHEMA"), "schema"),
    **dict.fromkeys(("TraceWriter", "seal_whole"), "writer"),
    "check_writable": "room",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: h5py takes longer to come than the help of a command."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)


def open(path: str | Path, *, calibrated: bool = False) -> xr.Dataset:
    """Open a trace file as lazy xarray objects; see `experiments.traces.views.open_lazily`."""
    from experiments.run_calibration import calibrate_run
    from experiments.traces.views import open_lazily  # xarray takes a quarter of a second to import

    return open_lazily(path, calibrate_run if calibrated else None)
