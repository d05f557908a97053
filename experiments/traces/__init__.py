"""The trace file of a run: schema version 1, its writer and its reader. The only importer of h5py.

Raw codes are stored per source as (capture, sample), each capture one checksummed chunk, with the
preamble that scales them as variables along `capture`. The file is valid netCDF-4: dimension scales,
characters for text, no exotic types. docs/trace-format.md describes every variable.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.traces.reader import TraceReader
from experiments.traces.schema import CAPTURE, ENDED, NOT_NEEDED, ROLES, SCHEMA, UNMEASURED, CaptureRow, Reading
from experiments.traces.writer import TraceWriter, check_writable

if TYPE_CHECKING:
    import xarray as xr

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
]


def open(path: str | Path, *, calibrated: bool = False) -> xr.Dataset:
    """Open a trace file as lazy xarray objects; see `experiments.traces.views.open_lazily`."""
    from experiments.traces.views import open_lazily  # xarray takes a quarter of a second to import

    return open_lazily(path, calibrated=calibrated)
