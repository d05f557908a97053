"""Pulse trains, their plan, and what the file of a run with them says about meters. Reads the file alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from calibration.model import Calibration, Channel
from experiments.capture_data import CaptureData, ReductionError, Wires, wires
from experiments.energy import RowResult
from experiments.measure import measure
from experiments.meters.pollers import POLLERS, Errors, Power, errors
from experiments.meters.response import Response, Series, respond
from experiments.networks.errors import SpecError
from experiments.networks.specs import parse
from experiments.plan import Plan, RunOptions, make_plan
from experiments.reduction import reduce_run
from experiments.traces import TraceReader
from instruments.errors import ConfigError, TraceError
from instruments.waveform import Record
from instruments.wording import counted

STEADY = "busy:20"
"""Work without pauses: with it the gains are found and duties are compared."""

TRAINS = (
    STEADY,
    "busy:3:4",
    "busy:10:30",
    "busy:45:45",
    "busy:50:50",
    "busy:52:52",
    "busy:25:75",
    "busy:75:25",
    "busy:100:100",
    "busy:310:190",
)
"""ms of work and of rest: periods below, about and above the 100 ms at which many meters sample, and other duties."""

WINDOW_S = 2.0


def plan(trains: Sequence[str], repeats: int, seed: int, run: RunOptions | None = None) -> Plan:
    """Plan trains, with steady work before them where they have none; raises ConfigError for what is no train."""
    strange = [train for train in trains if not train.startswith("busy:")]
    if strange:
        raise ConfigError(f"--trains: {strange[0]!r} is no train: write busy:MS or busy:MS:MS of rest")
    try:
        asked = [parse(train).text for train in trains]
    except SpecError as error:
        raise ConfigError(f"--trains: {error}") from error
    return make_plan([STEADY, *(train for train in asked if train != STEADY)], [1], repeats, WINDOW_S, seed, run)


@dataclass(frozen=True)
class TrainResult:
    """One record of one train: energies in J over its window, ours with U; errors relative to the reference.

    The reference is the true energy where it is known (a simulated bench), else ours. `our_error` is NaN without a
    truth. Duties are parts of the period in which the board works: as asked for, and as found in the power.
    """

    train: str
    repeat: int
    period_s: float
    window_s: float
    duty: float
    duty_found: float
    energy_j: float
    relative_u: float
    true_energy_j: float
    pollers: Mapping[str, Errors]

    @property
    def our_error(self) -> float:
        """Our relative error against the truth."""
        return self.energy_j / self.true_energy_j - 1.0


@dataclass(frozen=True)
class Finding:
    """A sensor, and how it responded; None where it is not there or told too little (`why`)."""

    sensor: str
    name: str
    response: Response | None
    why: str = ""


@dataclass(frozen=True)
class MeterCheck:
    """Everything that a run with pulse trains says."""

    source: str
    trains: tuple[TrainResult, ...]
    sensor: Finding | None
    notes: tuple[str, ...]

    @property
    def within(self) -> bool:
        """Whether every train has a result and, where the truth is known, ours covers it."""
        true = [t for t in self.trains if math.isfinite(t.true_energy_j)]
        return bool(self.trains) and not self.notes and all(abs(t.our_error) <= t.relative_u for t in true)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what is unknown is None."""
        sensor = asdict(self.sensor) if self.sensor else None
        if sensor and self.sensor and self.sensor.response:
            sensor["response"]["explained"] = self.sensor.response.explained
        tree = {
            "source": self.source,
            "within": self.within,
            "trains": [{**asdict(t), "our_error": t.our_error} for t in self.trains],
            "sensor": sensor,
            "notes": list(self.notes),
        }
        known: dict[str, Any] = _known(tree)
        return known


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_known(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def duty_of(train: str) -> tuple[float, float]:
    """Period (s) and duty that the name of a train asks for."""
    busy, _, rest = train.partition(":")[2].partition(":")
    period_s = (float(busy) + float(rest or 0)) * 1e-3
    return period_s, float(busy) * 1e-3 / period_s


def check(reader: TraceReader, sensor: str = "") -> MeterCheck:
    """Judge our own result, the emulated pollers and a sensor on the records of a run with pulse trains.

    Without the name of a `sensor` that one is judged which was read while the trains ran, if any was.

    Raises TraceError where the file holds no such run, or no calibration.
    """
    outcome = reduce_run(reader)
    if not all(network.startswith("busy:") for network in outcome.plan.networks):
        raise TraceError(f"{reader.path}: is no run of python -m experiments.meter_check: other things ran than trains")
    calibration = outcome.calibration
    if calibration is None:
        raise TraceError(f"{reader.path}: no zero was committed, so that nothing can be reduced")
    roles = wires(outcome.lab)
    ours = {(r.result.network, r.repeat): r.result for r in outcome.repeats}
    sensor = sensor or sensor_in(reader)
    found: list[TrainResult] = []
    series: list[Series] = []
    names: list[tuple[str, str]] = []
    active_w, idle_w = _levels(ours)
    for data in reader.data(kinds=("cell",)):
        row = ours.get((data.network, data.repeat))
        if row is None:
            continue
        power = power_of(data, calibration, roles)
        found.append(_train(data, row, power, roles, active_w, idle_w))
        if sensor:
            told = _told(reader, data, power, sensor, calibration)
            if told is not None:
                series.append(told[0])
                names.append(told[1:])
    notes = tuple(f"{r.label}: {r.outcome}: {r.reason}" for r in outcome.rejected)
    if outcome.missing:
        notes += (f"not measured: {counted(outcome.missing, 'train')}",)
    found.sort(key=lambda t: (t.period_s, t.duty, t.train, t.repeat))
    return MeterCheck(outcome.source, tuple(found), _finding(sensor, series, names) if sensor else None, notes)


def sensor_in(reader: TraceReader) -> str:
    """The sensor that was read while the trains of a run ran; empty where none was."""
    for index, row in enumerate(reader.captures()):
        if row["kind"] != "cell":
            continue
        if reader.readings(index):
            return "supply"
        if watch := _watch(reader, index):
            return str(watch.get("name", ""))
    return ""


def _watch(reader: TraceReader, index: int) -> dict[str, Any]:
    """What the board's agent told of the sensor that it read during a record; empty where it read none."""
    try:
        return json.loads(reader.long_text("device_facts", index)).get("watch") or {}
    except (AttributeError, ValueError):
        return {}


def _levels(ours: Mapping[tuple[str, int], RowResult]) -> tuple[float, float]:
    """Power at work and at rest, from the train without pauses, W."""
    steady = [row for (train, _), row in ours.items() if train == STEADY]
    if not steady:
        return math.nan, math.nan
    return tuple(float(np.mean([getattr(row, q).value for row in steady])) for q in ("power_w", "idle_power_w"))  # type: ignore[return-value]


def power_of(data: CaptureData, calibration: Calibration, roles: Wires) -> Power:
    """Power over a whole record with both channels corrected, sample by sample; time from the trigger."""

    def true(record: Record, channel: Channel) -> Any:
        return (record.values() - channel.offset.at(data.at_s)) / channel.gain.value

    current, voltage = data.capture.records[roles.current], data.capture.records[roles.voltage]
    watts = true(current, calibration.current) * true(voltage, calibration.voltage)
    return Power(watts, data.capture.dt_s, data.capture.start_s)


def _train(
    data: CaptureData, row: RowResult, power: Power, roles: Wires, active_w: float, idle_w: float
) -> TrainResult:
    loop = measure(data, roles).loop
    if loop is None or not data.images:
        raise ReductionError("the capture holds no measured loop")
    from_s, to_s = (power.start_s + at * power.dt_s for at in (loop.start, loop.stop))
    energy_j, true_j = row.energy_per_image_j.value * data.images, row.true_energy_per_image_j * data.images
    reference_j = true_j if math.isfinite(true_j) else energy_j
    period_s, duty = duty_of(data.network)
    return TrainResult(
        data.network,
        data.repeat,
        period_s,
        to_s - from_s,
        duty,
        (row.power_w.value - idle_w) / (active_w - idle_w),
        energy_j,
        row.energy_per_image_j.expanded() / row.energy_per_image_j.value,
        true_j,
        {name: errors(poller, power, from_s, to_s, reference_j) for name, poller in POLLERS.items()},
    )


def _told(
    reader: TraceReader, data: CaptureData, power: Power, sensor: str, calibration: Calibration
) -> tuple[Series, str, str] | None:
    """What the sensor told during one record, its name and its unit; None where it told nothing."""
    if sensor == "supply":
        readings = reader.readings(data.index)
        amps = [r for r in readings if r.quantity == "A"]
        volts = [r.value for r in readings if r.quantity == "V"]
        if not amps or not volts:
            return None
        t = np.array([r.done_after_trigger_s for r in amps])
        watts = np.array([r.value for r in amps]) * float(np.mean(volts))
        return Series(power, t, watts, len(amps)), "current read-back times its voltage", "W"
    try:
        watch = _watch(reader, data.index)
        t, values = np.array(watch["t_us"], np.float64) * 1e-6, np.array(watch["values"], np.float64)
        return Series(power, t, values, int(watch["reads"])), f"{watch['name']} ({watch['source']})", watch["unit"]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _finding(sensor: str, series: list[Series], names: list[tuple[str, str]]) -> Finding:
    if not names:
        why = "it was not read while the trains ran (measure with --sensor), is not there, or may not be read"
        return Finding(sensor, "", None, f"it told nothing: {why}")
    name, unit = names[0]
    response = respond(series, is_counter=unit == "J")
    return Finding(sensor, name, response, "" if response else "its readings were too few, or never changed")
