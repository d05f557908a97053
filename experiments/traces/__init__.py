"""The trace file of a run: schema version 1, its writer and its reader. The only importer of h5py.

Raw codes are stored per source as (capture, sample), each capture one checksummed chunk, with the
preamble that scales them as variables along `capture`. The file is valid netCDF-4: dimension scales,
characters for text, no exotic types. docs/trace-format.md describes every variable.
"""

from experiments.traces.reader import TraceReader
from experiments.traces.schema import CAPTURE, ROLES, SCHEMA, CaptureRow, Reading
from experiments.traces.writer import TraceWriter, check_writable

__all__ = ["CAPTURE", "ROLES", "SCHEMA", "CaptureRow", "Reading", "TraceReader", "TraceWriter", "check_writable"]
