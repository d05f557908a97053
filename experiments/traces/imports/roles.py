"""Which channel of a recording is the current, the voltage and the marker lines; readings as codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from experiments.traces.imports import joulescope, own_csv, plain_csv, powersensor, scope_bin, scope_csv, scope_h5
from experiments.traces.imports.codes import MIDDLE, Grid, grid_of
from experiments.traces.imports.recording import Recording, Series
from experiments.windows import AnalogueMarkers, Bits
from instruments.errors import ConfigError, TraceError
from instruments.lab import Lab
from instruments.waveform import Preamble

ROLES = ("time", "current", "voltage", "gate", "batch", "images")
BYTE, WORD = 0, 1


@dataclass(frozen=True)
class Choice:
    """What a person says of the channels.

    `columns` and `scales` are by role; `constant_v` stands for a voltage that was not recorded; `dt_s` is the period
    where a table has no time; `thresholds` and `hysteresis` are of analogue marker lines; `marks` are the letters at
    which a measured loop begins and ends.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    constant_v: float | None = None
    dt_s: float | None = None
    thresholds: tuple[float, ...] | None = None
    hysteresis: float | None = None
    marks: tuple[str, str] | None = None


@dataclass(frozen=True)
class Picked:
    """One recording by roles: codes on their grids, (n,) each; `lines` is None where no marker line was recorded.

    `analogue` says how the raw `markers` are read where they are an analogue line, on `marker_grid`; `images` is a
    counter of images done, None without one; `notes` tell what a person should know of the lines.
    """

    recording: Recording
    current: NDArray[np.uint16]
    voltage: NDArray[np.uint16]
    grids: Mapping[str, Grid]
    lines: NDArray[np.uint8] | None
    batch_line: bool
    markers: NDArray[np.uint8] | None
    analogue: AnalogueMarkers | None
    marker_grid: Grid | None
    images: NDArray[np.float64] | None
    notes: tuple[str, ...] = ()


def default_columns(format: str, lab: Lab) -> dict[str, str]:
    """Names of the channels where nobody gives them: of an oscilloscope by the bench's wiring."""
    wiring = lab.wiring
    lines = {"gate": f"D{wiring.gate.digital}", "batch": f"D{wiring.batch.digital}"}
    return {
        scope_csv.FORMAT: {"current": str(wiring.current.channel), "voltage": str(wiring.voltage.channel), **lines},
        scope_bin.FORMAT: {"current": str(wiring.current.channel), "voltage": str(wiring.voltage.channel), **lines},
        scope_h5.FORMAT: {"current": str(wiring.current.channel), "voltage": str(wiring.voltage.channel), **lines},
        joulescope.FORMAT: {"current": "current", "voltage": "voltage", "gate": "gpi[0]", "batch": "gpi[1]"},
        powersensor.FORMAT: {"current": "current0", "voltage": "voltage0"},
        own_csv.FORMAT: {"current": "current", "voltage": "voltage", "gate": "gate", "batch": "batch line"},
        plain_csv.FORMAT: {"time": "time", "current": "current", "voltage": "voltage"},
    }[format]


def pick(recording: Recording, choice: Choice, lab: Lab) -> Picked:
    """Take the channels of a recording by their roles.

    Raises ConfigError for a channel that is not there, TraceError for one in a unit that cannot be right, and for a
    marker line of more than two levels that nobody calls an analogue one.
    """
    names = {**default_columns(recording.format, lab), **choice.columns}
    if recording.format == powersensor.FORMAT:
        _one_pair(recording, choice)
    current = _channel(recording, choice, "current", names, "A")
    grids = {"current": grid_of(current.values, current.resolution)}
    codes = {"current": grids["current"].codes(current.values)}
    if choice.constant_v is not None:
        grids["voltage"] = grid_of(np.array([choice.constant_v]), 0.0)
        codes["voltage"] = np.full(recording.points, MIDDLE, dtype=np.uint16)
    else:
        voltage = _channel(recording, choice, "voltage", names, "V")
        grids["voltage"] = grid_of(voltage.values, voltage.resolution)
        codes["voltage"] = grids["voltage"].codes(voltage.values)
    asked = set(choice.columns) & {"gate", "batch"}
    gate = _line(recording, names.get("gate"), "gate" in asked, "gate", choice)
    batch = _line(recording, names.get("batch"), "batch" in asked, "batch", choice)
    lines, analogue, raw, grid = _lines(recording, gate, batch, names, choice, lab)
    notes = tuple(
        _analogue_note(role, names[role], choice, lab)
        for role, line in (("gate", gate), ("batch", batch))
        if isinstance(line, Series)
    )
    images = None
    if "images" in choice.columns:
        images = _channel(recording, choice, "images", names, "").values.astype(np.float64)
    has_batches = batch is not None or (analogue is not None and len(analogue.thresholds) > 1)
    return Picked(
        recording, codes["current"], codes["voltage"], grids, lines, has_batches, raw, analogue, grid, images, notes
    )


def _one_pair(recording: Recording, choice: Choice) -> None:
    pairs = [name for name in recording.series if name.startswith("current")]
    if len(pairs) > 1 and "current" not in choice.columns:
        raise ConfigError(
            f"{recording.path}: has {len(pairs)} pairs of sensors ({', '.join(pairs)}): name the one that feeds the "
            "device with --columns current=current0,voltage=voltage0"
        )


def _channel(recording: Recording, choice: Choice, role: str, names: Mapping[str, str], unit: str) -> Series:
    name = names.get(role, role)
    if name not in recording.series:
        why = f": {recording.left_out[name]}" if name in recording.left_out else ""
        constant = " or --voltage V where it was constant" if role == "voltage" else ""
        raise ConfigError(
            f"{recording.path}: has no channel {name!r} for the {role}{why} (there are: {', '.join(recording.names)}); "
            f"name it with --columns {role}=NAME{constant}"
        )
    series = recording.series[name]
    factor = choice.scales.get(role)
    if factor is not None:
        return Series(series.values * factor, unit or "V", series.resolution * abs(factor))
    if unit and series.unit not in (unit, ""):
        raise TraceError(
            f"{recording.path}: the {role} ({name}) is in {series.unit}, {unit} were expected: give --scale "
            f"{role}=FACTOR ({unit} for each {series.unit}) where a probe stands between"
        )
    return series


def _line(
    recording: Recording, name: str | None, asked: bool, role: str, choice: Choice
) -> NDArray[np.uint8] | Series | None:
    """A digital line, levels 0 and 1; the series of an analogue one; None where there is none and none was asked."""
    if name is None:
        return None
    if name in recording.lines:
        return recording.lines[name]
    if name in recording.series and asked:
        series = _channel(recording, choice, role, {role: name}, "")
        low, high = float(series.values.min()), float(series.values.max())
        two = (series.values == low) | (series.values == high)
        if bool(np.all(two)) and low < high:
            return np.asarray(series.values == high, dtype=np.uint8)
        if series.unit == "V" or choice.thresholds is not None:
            return series
        if low == high:  # it never moves
            return np.full(recording.points, low == 1, dtype=np.uint8)
        raise _third_level(recording, name, role, series.values)
    if asked:
        why = f": {recording.left_out[name]}" if name in recording.left_out else ""
        raise ConfigError(
            f"{recording.path}: has no line or channel {name!r} for the {role}{why} (there are: "
            f"{', '.join(recording.names)})"
        )
    return None


def _third_level(recording: Recording, name: str, role: str, values: NDArray[np.floating]) -> TraceError:
    """What is wrong with a line of several levels, and where the first of them is that is none of the usual two."""
    levels, first, counts = np.unique(values, return_index=True, return_counts=True)
    usual = np.argsort(-counts, kind="stable")[:2]
    odd = min(int(first[k]) for k in range(len(levels)) if k not in usual)
    known = " and ".join(f"{level:g}" for level in sorted(levels[usual]))
    return TraceError(
        f"{recording.where(odd)}: the {role} ({name}) is {values[odd]:g}, and {known} elsewhere: a marker line has two "
        "levels; of one that was recorded as a voltage, --threshold V tells between which"
    )


def _analogue_note(role: str, name: str, choice: Choice, lab: Lab) -> str:
    levels = ", ".join(f"{level:g}" for level in _thresholds(choice, lab))
    width = "a fifth of its span" if choice.hysteresis is None else f"{choice.hysteresis:g} V"
    return f"{role} ({name}) is taken for an analogue line, decoded at {levels} V with a hysteresis of {width}"


def _thresholds(choice: Choice, lab: Lab) -> tuple[float, ...]:
    return choice.thresholds or (lab.wiring.marker_threshold_v,)


def _lines(
    recording: Recording,
    gate: NDArray[np.uint8] | Series | None,
    batch: NDArray[np.uint8] | Series | None,
    names: Mapping[str, str],
    choice: Choice,
    lab: Lab,
) -> tuple[NDArray[np.uint8] | None, AnalogueMarkers | None, NDArray[np.uint8] | None, Grid | None]:
    """Both lines as bits, how they were decoded where one analogue channel holds them, its codes and their grid."""
    bits = Bits(lab.wiring.gate.digital, lab.wiring.batch.digital)
    thresholds = _thresholds(choice, lab)
    if choice.marks is not None:
        return (_from_marks(recording, *choice.marks) << bits.gate).astype(np.uint8), None, None, None
    if gate is None:
        return None, None, None, None
    if isinstance(gate, Series) and batch is None:
        decoder = AnalogueMarkers("markers", thresholds, choice.hysteresis, bits, f"the column {names['gate']}")
        low, high = float(gate.values.min()), float(gate.values.max())
        grid = Grid(max(high - low, 1e-9) / 0xFF, low, False)
        raw = np.rint((gate.values - low) / grid.increment).astype(np.uint8)
        return decoder.decoded(raw * grid.increment + low), decoder, raw, grid
    if len(thresholds) != 1:
        raise ConfigError("three thresholds are of one analogue channel with both lines: name no batch line")
    level = {}
    for role, line in (("gate", gate), ("batch", batch)):
        if isinstance(line, Series):
            alone = AnalogueMarkers("markers", thresholds, choice.hysteresis, Bits(0, 1))
            line = alone.decoded(line.values.astype(np.float64))
        level[role] = line if line is not None else np.zeros(recording.points, dtype=np.uint8)
    return (level["gate"] << bits.gate | level["batch"] << bits.batch).astype(np.uint8), None, None, None


def _from_marks(recording: Recording, begin: str, end: str) -> NDArray[np.uint8]:
    """A gate that rises at one letter and falls at the other. Raises ConfigError where they do not alternate."""
    found = "".join(letter for _, letter in recording.marks)
    level = np.zeros(recording.points, dtype=np.uint8)
    own = [(k, letter) for k, letter in recording.marks if letter in (begin, end)]
    letters = "".join(letter for _, letter in own)
    if not own or letters != (begin + end) * (len(own) // 2):
        raise ConfigError(
            f"{recording.path}: its marks are {found[:60]!r}, which are no pairs of {begin} and {end}: name the "
            "letters with --marks BEGIN,END"
        )
    for (start, _), (stop, _) in zip(own[::2], own[1::2], strict=True):
        level[start:stop] = 1
    return level


def preamble(grid: Grid, points: int, dt_s: float, start_s: float) -> Preamble:
    """The preamble of codes on a grid; `start_s` is the time of the first sample."""
    return Preamble(WORD, 0, points, 1, dt_s, start_s, 0.0, grid.increment, grid.origin, float(MIDDLE))


def marker_preamble(grid: Grid | None, points: int, dt_s: float, start_s: float) -> Preamble:
    """The preamble of the lines, or of the analogue record in their place."""
    scale = (grid.increment, grid.origin) if grid is not None else (1.0, 0.0)
    return Preamble(BYTE, 0, points, 1, dt_s, start_s, 0.0, *scale, 0.0)
