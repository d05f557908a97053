"""The data of the waveform viewer: every capture at a glance, and some with every sample.

At a glance: smallest, mean and largest code of short stretches. With every sample: the codes themselves, as differences
from one to the next, packed. Both come with the scale that makes amperes and volts of them, corrected as the results.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.model import Channel
from experiments.capture_data import CaptureData, wires
from experiments.figures import captures
from experiments.figures.folding import chosen_cell
from experiments.figures.rows import NothingToDrawError, Run
from experiments.moments import code_step, scale
from experiments.report import markup
from instruments.errors import TraceError
from instruments.waveform import Codes, Record

STRETCHES = 400
"""Stretches into which a capture is cut for a glance."""

GLANCES_BYTES, SAMPLES_BYTES = 2_000_000, 2_400_000
"""Most that glances and single samples may take in the file."""

PAIR_BYTES = 3
"""What a sample of current and voltage takes in the file, about; half of it where the noise is little."""

FEWEST_SAMPLES = 1000
"""Samples below which a piece of a record is not worth its place."""

MOST_EDGES = 4000
"""Edges of one line that are kept; more are noise."""

_GLANCE_BYTES = 6 * STRETCHES * 2 * 4 // 3
STATES = ("committed", "rejected")


def data(runs: Sequence[Run]) -> dict[str, Any]:
    """Captures for the viewer's script; `left_out` counts those for which there was no room."""
    found: list[dict[str, Any]] = []
    order: list[tuple[int, Run, int]] = []
    counts = [sum(row["state"] in STATES for row in run.reader.captures()) for run in runs]
    shares = _shares(counts, GLANCES_BYTES // _GLANCE_BYTES)
    for k, (run, share) in enumerate(zip(runs, shares, strict=True)):
        first = len(found)
        found += itertools.islice(_captures(run, k), share)
        order += [(at, run, found[at]["index"]) for at in _wanted_first(run, found, first)]
    spent = 0
    for at, run, index in _in_turn(order, runs):
        packed = _samples(run, index, SAMPLES_BYTES - spent)
        if packed is None:
            break
        spent += sum(len(packed[name]["packed"]) for name in ("current", "voltage"))
        found[at]["samples"] = packed
    default = order[0][0] if order else 0
    return {"captures": found, "default": default, "left_out": sum(counts) - len(found)}


def _shares(counts: Sequence[int], room: int) -> list[int]:
    """How many captures of each run are shown: all of a small one, and of the others as many of each."""
    shares = [0] * len(counts)
    for left, k in enumerate(sorted(range(len(counts)), key=lambda k: counts[k])):
        shares[k] = min(counts[k], room // (len(counts) - left))
        room -= shares[k]
    return shares


def _in_turn(order: Sequence[tuple[int, Run, int]], runs: Sequence[Run]) -> Iterator[tuple[int, Run, int]]:
    """One capture of each run after the other, so that none takes all the room."""
    queues = [[entry for entry in order if entry[1] is run] for run in runs]
    while any(queues):
        for queue in queues:
            if queue:
                yield queue.pop(0)


def _read(run: Run) -> Iterator[CaptureData]:
    """Captures that gave results, which could be read, then the rejected ones up to one that cannot be."""
    yield from run.reader.data(states=STATES[:1])
    with contextlib.suppress(TraceError):
        yield from run.reader.data(states=STATES[1:])


def _captures(run: Run, number: int) -> Iterator[dict[str, Any]]:
    roles, known, rows = wires(run.outcome.lab), captures.calibrations(run), run.reader.captures()
    for data in _read(run):
        row = rows[data.index]
        records = data.capture.records
        current, voltage, lines = records[roles.current], records[roles.voltage], records[roles.markers]
        channels = known.get(data.session)
        yield {
            "run": number,
            "index": data.index,
            "label": _label(data, row),
            "network": data.network if data.kind == "cell" else "",
            "state": row["state"],
            "reason": row["reason"] if row["state"] == "rejected" else data.problem or "",
            "corrected": channels is not None,
            "points": data.capture.points,
            "dt_s": data.capture.dt_s,
            "start_s": data.capture.start_s,
            "gate": _edges(lines.bit(roles.gate_bit)),
            "batch": _edges(lines.bit(roles.batch_bit)),
            "current": _glance(current, channels.current if channels else None, data.at_s),
            "voltage": _glance(voltage, channels.voltage if channels else None, data.at_s),
        }


def _label(data: CaptureData, row: dict[str, Any]) -> str:
    part = row.get("part", 0)
    name = f"{data.network}, batch {data.batch}, repeat {data.repeat + 1}" if data.kind == "cell" else data.kind
    name += f", part {part + 1}" if part else ""
    return name if row["state"] == "committed" else f"{name} ({row['state']})"


def _edges(line: NDArray[np.bool_]) -> dict[str, Any]:
    """A line as its first level and the samples at which it changes."""
    changes = np.flatnonzero(line[1:] != line[:-1]) + 1
    high = bool(line[0]) if len(line) else False
    return {"high": high, "changes": changes[:MOST_EDGES].tolist(), "more": max(len(changes) - MOST_EDGES, 0)}


def _glance(record: Record, channel: Channel | None, at_s: float) -> dict[str, Any]:
    """The stretches of one channel with its scale: value = slope x code + intercept."""
    codes = record.codes
    size = max(-(-len(codes) // STRETCHES), 1)
    table = _stretches(codes, record.holes(), size)
    by_code = scale(record)
    gain, zero = (channel.gain.value, channel.offset.at(at_s)) if channel is not None else (1.0, 0.0)
    return {
        "slope": by_code.slope / gain,
        "intercept": (by_code.intercept - zero) / gain,
        "size": size,
        "stretches": base64.b64encode(table.astype("<u2").tobytes()).decode(),
    }


def _stretches(codes: Codes, holes: NDArray[np.bool_], size: int) -> NDArray[np.uint16]:
    """Smallest, mean and largest code of each stretch, (3, stretches); 0, which is no reading, where all are holes."""
    if not len(codes):
        return np.zeros((3, 0), dtype=np.uint16)
    starts = np.arange(0, len(codes), size)
    wide = codes.astype(np.int64)
    count = np.add.reduceat(~holes, starts, dtype=np.int64)
    low = np.minimum.reduceat(np.where(holes, 0xFFFF, wide), starts)
    high = np.maximum.reduceat(np.where(holes, 0, wide), starts)
    mean = np.add.reduceat(np.where(holes, 0, wide), starts) / np.maximum(count, 1)
    return np.stack([np.where(count > 0, low, 0), np.rint(mean), high]).astype(np.uint16)


def _wanted_first(run: Run, found: Sequence[dict[str, Any]], first: int) -> list[int]:
    """Captures of a run in the order in which they get every sample: the one that says most, one of each network, all.

    The first is what the viewer shows when it is opened.
    """
    mine = range(first, len(found))
    rows = run.reader.captures()
    cells = [at for at in mine if found[at]["network"] and found[at]["state"] == "committed"]
    try:
        network, batch = chosen_cell(run)
    except NothingToDrawError:
        return [*cells, *(at for at in mine if at not in cells)]

    def key(at: int) -> tuple[bool, float]:
        row = rows[found[at]["index"]]
        return row["network"] != network, abs(np.log(row["batch"] / batch))

    ranked = sorted(cells, key=key)
    each = list({found[at]["network"]: at for at in reversed(ranked)}.values())
    ahead = [*ranked[:1], *(at for at in ranked if at in each)]
    return list(dict.fromkeys([*ahead, *ranked, *mine]))


def _samples(run: Run, index: int, room: int) -> dict[str, Any] | None:
    """Every sample of both channels; of a long record those around the trigger, as many as there is room for."""
    capture, roles = run.reader.capture(index), wires(run.outcome.lab)
    current, voltage = capture.records[roles.current], capture.records[roles.voltage]
    n, most = capture.points, room // PAIR_BYTES
    if n > most:
        if n <= SAMPLES_BYTES // PAIR_BYTES or most < FEWEST_SAMPLES:  # others took the room
            return None
        n = most
    if n < 1:
        return None
    first = max(min(round(-capture.start_s / capture.dt_s) - n // 4, capture.points - n), 0)
    return {
        "first": first,
        "count": n,
        "current": _packed(current.codes[first : first + n]),
        "voltage": _packed(voltage.codes[first : first + n]),
    }


def _packed(codes: Codes) -> dict[str, Any]:
    """Differences of neighbouring codes, small ones of either sign as small numbers, low bytes and high bytes apart."""
    step = code_step(codes)
    base = int(codes[0]) % step
    steps = ((codes.astype(np.int64) - base) // step).astype(np.uint16)
    moved = np.diff(steps, prepend=np.uint16(0)).view(np.int16)
    folded = ((moved << 1) ^ (moved >> 15)).view(np.uint16)
    planes = np.concatenate([(folded & 0xFF).astype(np.uint8), (folded >> 8).astype(np.uint8)])
    packed = base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode()
    return {"step": step, "base": base, "packed": packed}


def viewer(there: bool) -> str:
    """Where the viewer is drawn, with its controls; a line where there is no capture."""
    if not there:
        return markup.paragraph("The file holds no capture: there is no waveform to show.")
    buttons = (
        ("in", "+", "zoom in"),
        ("out", "−", "zoom out"),
        ("left", "◀", "earlier"),
        ("right", "▶", "later"),
        ("all", "whole record", "show the whole record"),
        ("gate", "measured loop", "show the measured loop"),
        ("one", "one batch", "show one batch and its neighbours"),
        ("samples", "single samples", "show single samples"),
    )
    controls = "".join(
        f"<button type='button' data-zoom='{key}' title='{markup.text(title)}' aria-label='{markup.text(title)}'>"
        f"{markup.text(name)}</button>"
        for key, name, title in buttons
    )
    return (
        "<div id='viewer' class='live'><div class='controls'><label>capture "
        f"<select id='viewer-capture'></select></label></div><div class='controls'>{controls}</div>"
        "<p id='viewer-about' class='hint'></p><div id='viewer-drawing'></div>"
        "<p><output id='viewer-range'></output><br><output id='viewer-reading' aria-live='polite'></output></p>"
        "<p class='hint'>Wheel, pinch or + and − zoom; drag across a stretch to zoom into it, with Shift or a finger "
        "to move; ← → move, Shift with ← → goes from sample to sample, 0 shows all. Orange: the gate is high.</p></div>"
        "<noscript><p>Scripts are switched off here: figure 14 shows one record.</p></noscript>"
    )
