"""JLS files of a Joulescope, through the maker's own library pyjls (optional: pip install 'joulebench[jls]').

Signals of fixed rate are read: floats in their units, `gpi[k]` as digital lines. NaN stands for samples that the
instrument lost, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.traces.imports.recording import Recording, Series, unit_of
from instruments.errors import ConfigError, TraceError

FORMAT = "jls"
_MAGIC = b"jlsfmt\r\n \n \x1a  \xb2\x1c"
_PIECE = 1 << 20


def looks_like(first: bytes) -> bool:
    """Whether a file's first bytes are those of JLS version 2."""
    return first.startswith(_MAGIC)


def read(path: Path) -> Iterator[Recording]:
    """Give the one recording of all signals that share the time base of the current.

    Raises ConfigError where pyjls is missing, TraceError for what it cannot read or signals that do not fit.
    """
    try:
        import pyjls
    except ImportError as error:
        raise ConfigError("JLS needs pyjls: pip install 'joulebench[jls]'") from error
    try:
        with pyjls.Reader(str(path)) as reader:
            yield _recording(path, reader, pyjls)
    except (RuntimeError, ValueError) as error:
        raise TraceError(f"{path}: pyjls cannot read it ({str(error)[:160]})") from error


def _recording(path: Path, reader: Any, pyjls: Any) -> Recording:
    signals = {s.name: s for s in reader.signals.values() if s.signal_type == pyjls.SignalType.FSR and s.length}
    if "current" not in signals:
        raise TraceError(f"{path}: has no signal named current (signals with samples: {', '.join(signals) or 'none'})")
    first = signals["current"]
    series: dict[str, Series] = {}
    lines: dict[str, NDArray[np.uint8]] = {}
    left_out: dict[str, str] = {}
    base = [s for s in signals.values() if _beside(s, first)]
    length = min(s.length for s in base if s.name in ("current", "voltage"))
    for signal in signals.values():
        is_line = signal.data_type == pyjls.DataType.U1
        if signal not in base:
            left_out[signal.name] = (
                f"it is sampled at {signal.sample_rate} Hz from sample {signal.sample_id_offset} on, the current at "
                f"{first.sample_rate} Hz from {first.sample_id_offset}"
            )
        elif signal.length < length:
            left_out[signal.name] = f"it has {signal.length} samples of {length}"
        elif is_line:
            lines[signal.name] = np.unpackbits(_values(reader, signal, length, 8), bitorder="little")[:length]
        elif signal.data_type in (pyjls.DataType.F32, pyjls.DataType.F64):
            series[signal.name] = _series(_values(reader, signal, length, 1), signal.units)

    def where(k: int) -> str:
        return f"{path}: sample {k}"

    source = reader.sources.get(first.source_id)
    named = {"source": source.name, "model": source.model, "serial": source.serial_number} if source else {}
    facts = {k: str(v) for k, v in named.items() if v}
    dt_s = 1.0 / float(first.sample_rate)
    return Recording(path, FORMAT, 0.0, dt_s, series, where, lines, facts=facts, left_out=left_out).checked()


def _beside(signal: Any, other: Any) -> bool:
    """Whether two signals have one time base, but for their ends."""
    return (signal.sample_rate, signal.sample_id_offset) == (other.sample_rate, other.sample_id_offset)


def _series(values: NDArray[Any], units: str) -> Series:
    unit = unit_of(units) or (units, 1.0)
    digits = 2.0**-24 if values.dtype == np.float32 else 2.0**-53
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
    return Series(values * values.dtype.type(unit[1]), unit[0], digits * largest * unit[1])


def _values(reader: Any, signal: Any, length: int, per_item: int) -> NDArray[Any]:
    """The first samples of a signal, read piece by piece; lines come eight in an item."""
    parts = [
        np.asarray(reader.fsr(signal.signal_id, at, min(_PIECE, length - at)))[
            : -(-min(_PIECE, length - at) // per_item)
        ]
        for at in range(0, length, _PIECE)
    ]
    return np.concatenate(parts)
