"""A trace file, or part of it, for other programs: CSV, Parquet, netCDF or NumPy, with units in the names.

Every file says whether its readings are corrected: CSV in the titles of its columns, NumPy in an array `readings`, the
others in attributes. All that a trace says of itself stands in the attributes too, and in NumPy's array `attributes` as
JSON.

One capture is in memory at a time, but for netCDF and NumPy, which are written whole.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from experiments import traces
from instruments.errors import ConfigError, TraceError
from instruments.plain_text import table_cell
from instruments.wording import counted

COLUMNS = {
    "time_s": "time [s]",
    "current_a": "current [A]",
    "voltage_v": "voltage [V]",
    "power_w": "power [W]",
    "gate": "gate",
    "batch_line": "batch line",
}
READINGS = ("current_a", "voltage_v", "power_w")
"""Columns that a calibration changes."""

FACTS = ("capture", "kind", "network", "batch", "repeat")
ENDINGS = (".csv", ".parquet", ".nc", ".npz")


@dataclass(frozen=True)
class Choice:
    """What to export: captures by number (None: all that were committed), a stretch of time, every so many samples."""

    captures: Sequence[int] | None = None
    start_s: float | None = None
    stop_s: float | None = None
    mean_of: int = 1
    calibrated: bool = False


def export(path: Path, out: Path, choice: Choice, say: Callable[[str], None] = lambda _: None) -> int:
    """Write the chosen part of a trace file; gives the number of samples of each channel.

    The ending of `out` (.csv, .parquet, .nc or .npz) chooses the format. Means of several samples are those of each
    quantity, the power's of the product; lines have the level of the first. Raises ConfigError for a choice that
    makes no sense, TraceError for what is no trace file.
    """
    writers = {".csv": _write_csv, ".parquet": _write_parquet, ".nc": _write_netcdf, ".npz": _write_numpy}
    if out.suffix not in writers:
        raise ConfigError(f"{out}: the ending says the format: write one of {', '.join(ENDINGS)}")
    if choice.mean_of < 1:
        raise ConfigError(f"a mean of {choice.mean_of} samples: give 1 or more")
    if out.exists():
        raise ConfigError(f"{out} exists: name another file")
    with traces.open(path, calibrated=choice.calibrated) as dataset:
        rows = _rows(dataset, choice, path)
        _require_samples(dataset, rows, choice, path)
        pieces = (_piece(dataset.isel(capture=row), choice) for row in rows)
        partial = out.with_name(out.name + ".unfinished")
        try:
            count = writers[out.suffix](partial, pieces, dataset.attrs)
            os.replace(partial, out)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            raise TraceError(f"{out}: cannot be written ({why}); name another file with --out") from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
    say(f"{out}: {counted(len(rows), 'capture')}, {counted(count, 'sample')} of each channel")
    return count


def _rows(dataset: xr.Dataset, choice: Choice, path: Path) -> list[int]:
    states = dataset["state"].values
    if choice.captures is None:
        return [row for row, state in enumerate(states) if state == "committed"]
    unknown = [row for row in choice.captures if not 0 <= row < len(states)]
    if unknown:
        raise ConfigError(f"{path}: has no capture {unknown[0]}; they count from 0 to {len(states) - 1}")
    return list(choice.captures)


def _require_samples(dataset: xr.Dataset, rows: Sequence[int], choice: Choice, path: Path) -> None:
    """Refuse a choice that holds no sample of any capture. Raises ConfigError with what there is."""
    longest, spans = 0, []
    for row in rows:
        time_s = _times(dataset.isel(capture=row))
        start, stop = _stretch(time_s, choice)
        longest = max(longest, stop - start)
        if longest >= choice.mean_of:
            return
        spans += [time_s[0], time_s[-1]] if len(time_s) else []
    if not spans:
        raise ConfigError(f"{path}: no capture was chosen, or none holds a sample: there is nothing to write")
    there = f"the captures chosen go from {min(spans):.6g} to {max(spans):.6g} s, by their own triggers"
    if longest:
        raise ConfigError(
            f"{path}: a mean of {choice.mean_of} samples: the longest stretch chosen has {longest}; {there}"
        )
    raise ConfigError(f"{path}: no sample lies within --start and --stop: {there}")


def _times(capture: xr.Dataset) -> Any:
    """The times of one capture's samples, (n,)."""
    return capture["time_s"].values[: int(capture["points"])]


def _stretch(time_s: Any, choice: Choice) -> tuple[int, int]:
    """The chosen samples [start, stop) of one capture."""
    start = 0 if choice.start_s is None else int(np.searchsorted(time_s, choice.start_s))
    stop = len(time_s) if choice.stop_s is None else int(np.searchsorted(time_s, choice.stop_s))
    return start, max(start, stop)


def _piece(capture: xr.Dataset, choice: Choice) -> xr.Dataset:
    """The chosen stretch of one capture, in memory, its samples averaged where that is asked for."""
    capture = capture.isel(sample=slice(0, int(capture["points"])))
    time_s = capture["time_s"].values
    capture = capture.isel(sample=slice(*_stretch(time_s, choice))).load()
    if choice.mean_of == 1:
        return capture
    coarse = capture[list(READINGS)].coarsen(sample=choice.mean_of, boundary="trim").mean(keep_attrs=True)
    first = capture.isel(sample=slice(0, coarse.sizes["sample"] * choice.mean_of, choice.mean_of))
    for name in ("gate", "batch_line"):
        coarse[name] = first[name]
    shift_s = (choice.mean_of - 1) / 2 * float(time_s[1] - time_s[0]) if len(time_s) > 1 else 0.0
    return coarse.assign_coords(time_s=("sample", first["time_s"].values + shift_s, capture["time_s"].attrs))


def _frame(piece: xr.Dataset, with_facts: bool = True) -> pd.DataFrame:
    facts = {name: _scalar(piece, name) for name in FACTS} if with_facts else {}
    return pd.DataFrame({**facts, **{title: piece[name].values for name, title in COLUMNS.items()}})


def _scalar(piece: xr.Dataset, name: str) -> Any:
    return piece[name].item()


def _write_csv(out: Path, pieces: Iterator[xr.Dataset], attributes: Any) -> int:
    count = 0
    titles = {COLUMNS[name]: f"{COLUMNS[name]} ({attributes['readings']})" for name in READINGS}
    with out.open("w", encoding="utf-8", newline="") as file:
        for number, piece in enumerate(pieces):
            frame = _frame(piece)
            frame["network"] = [table_cell(name) for name in frame["network"]]
            frame.rename(columns=titles).to_csv(
                file, index=False, header=number == 0, float_format="%.9g", lineterminator="\n"
            )
            count += len(frame)
    return count


def _write_parquet(out: Path, pieces: Iterator[xr.Dataset], attributes: Any) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow: pip install 'joulebench[parquet]'") from error
    count = 0
    with contextlib.ExitStack() as stack:
        writer: Any = None
        for piece in pieces:
            table = pa.Table.from_pandas(_frame(piece), preserve_index=False)
            if writer is None:
                schema = table.schema.with_metadata({k: str(v) for k, v in attributes.items()})
                for name, title in COLUMNS.items():
                    told = schema.field(title).with_metadata(piece[name].attrs)
                    schema = schema.set(schema.get_field_index(title), told)
                writer = stack.enter_context(pq.ParquetWriter(out, schema))
            writer.write_table(table.cast(writer.schema))
            count += table.num_rows
    return count


def _write_netcdf(out: Path, pieces: Iterator[xr.Dataset], attributes: Any) -> int:
    found = list(pieces)
    longest = max(piece.sizes["sample"] for piece in found)

    def table(name: str) -> Any:
        values = np.zeros((len(found), longest), dtype=found[0][name].dtype)
        if values.dtype.kind == "f":
            values[:] = np.nan
        for row, piece in zip(values, found, strict=True):
            row[: piece.sizes["sample"]] = piece[name].values
        return ("capture", "sample"), values, found[0][name].attrs

    facts = {name: ("capture", [_scalar(piece, name) for piece in found]) for name in FACTS}
    whole = io.BytesIO()  # HDF5 does not survive a disk that fills while it writes
    xr.Dataset({name: table(name) for name in COLUMNS}, facts, dict(attributes)).to_netcdf(whole, engine="h5netcdf")
    out.write_bytes(whole.getbuffer())
    return sum(piece.sizes["sample"] for piece in found)


def _write_numpy(out: Path, pieces: Iterator[xr.Dataset], attributes: Any) -> int:
    found = list(pieces)
    arrays = {name: np.concatenate([piece[name].values for piece in found]) for name in COLUMNS}
    for name in FACTS:
        arrays[name] = np.concatenate([np.full(piece.sizes["sample"], _scalar(piece, name)) for piece in found])
    arrays["readings"] = np.array(attributes["readings"])
    arrays["attributes"] = np.array(json.dumps({str(name): str(value) for name, value in attributes.items()}))
    with out.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return len(arrays["time_s"])
