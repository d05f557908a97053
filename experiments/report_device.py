"""Tables of a report that speak of the device: its times, memory and speed, and what may have disturbed it."""

from __future__ import annotations

import math

import numpy as np

from calibration.budget import Budget
from experiments import dut_sensors, flags, parts
from experiments.device import MEMORY_KINDS, DeviceRow, DeviceRun, Floats
from experiments.energy import RowResult
from experiments.flags import FLAGS, number, numbers
from experiments.outcome import Outcome
from experiments.shape import Settling
from instruments.wording import counted

Lines = list[list[str]]

_NOTHING = "–"


def device_table(outcome: Outcome) -> Lines:
    """One line per network and batch: times of batches, memory, operations per second, accuracy, outcome, flags."""
    lines = [
        [
            "network",
            "batch",
            "outcome",
            "on",
            "clock [ms/image]",
            "off by [ppm]",
            "p50/p95/p99 [ms/batch]",
            "cv [%]",
            "memory [MB]",
            "speed [GOP/s]",
            "top-1 [% cited]",
            "flags",
        ]
    ]
    for row, result in zip(outcome.device, outcome.rows, strict=True):
        peak, cited = row.peak_memory, row.cited
        time_s = result.time_per_image_s.value if result is not None else math.nan
        mode = "" if row.mode == "default" else row.mode
        lines.append(
            [
                row.network,
                str(row.batch),
                row.outcome,
                " ".join(filter(None, (row.device, row.dtype, mode))) or _NOTHING,
                _shown(row.device_time_per_image_s * 1e3, ".4g"),
                _NOTHING if _timed_by_device(row) else _shown(row.clock_difference * 1e6, "+.0f"),
                "/".join(_percentiles_ms(row.batches_s, ".4g")) or _NOTHING,
                _shown(row.batch_cv * 100, ".2g" if row.batch_cv < 0.995 else ".0f"),
                f"{peak[0] / 1e6:.4g} {peak[1]}" if peak else _NOTHING,
                _shown(row.size.get("operations", math.nan) / time_s / 1e9, ".4g"),
                f"{cited[0]:.2f}" if cited else _NOTHING,
                " ".join(row.flags) or _NOTHING,
            ]
        )
    return lines


def _timed_by_device(row: DeviceRow) -> bool:
    """Whether the row's time is that of the device's clock, which then is compared with nothing."""
    return any(parts.FLAGS[method] in row.flags for method in (parts.CONSECUTIVE, parts.STEADY))


def _percentiles_ms(times_s: Floats, form: str) -> list[str]:
    """The 50th, 95th and 99th percentile; none of no times."""
    return [f"{p * 1e3:{form}}" for p in np.percentile(times_s, (50, 95, 99))] if times_s.size else []


def conditions_table(outcome: Outcome) -> Lines:
    """How the device ran: threads, number type, mode, weights, warm-up."""
    lines = [["network", "batch", "device", "threads", "type", "mode", "weights", "warm-up"]]
    for row in outcome.device:
        for run in row.runs[:1]:
            lines.append(
                [
                    row.network,
                    str(row.batch),
                    row.device,
                    _shown(number(run.ready, "threads"), ".0f"),
                    row.dtype or _NOTHING,
                    row.mode or _NOTHING,
                    _weights(run),
                    ", ".join(_warm_up(r) for r in row.runs),
                ]
            )
    return lines


def agent_lines(outcome: Outcome) -> Lines:
    """Who ran the networks, a line for each agent that answered; none where the file does not say."""
    said = dict.fromkeys(_agent(run) for row in outcome.device for run in row.runs)
    return [["device: agent", text] for text in said if text]


def _agent(run: DeviceRun) -> str:
    agent = run.ready.get("agent")
    if not isinstance(agent, dict):
        return ""
    host, marker = (found if isinstance(found := agent.get(name), dict) else {} for name in ("host", "marker"))
    parts = [
        host.get("board") or host.get("model") or host.get("hostname"),
        *(f"{name} {agent[name]}" for name in ("python", "torch") if agent.get(name)),
        *(f"{host[name]}" for name in ("system", "cpu") if host.get(name)),
        f"sources {str(agent.get('agent_sha256', ''))[:12]}",
        f"marker lines: {marker.get('kind', 'unknown')}",
    ]
    return ", ".join(str(part) for part in parts if part)


def _weights(run: DeviceRun) -> str:
    told = run.ready.get("weights")
    if isinstance(told, dict):
        return f"{told.get('source', 'unknown')} ({str(told.get('sha256', ''))[:12]})"
    return str(told) if told else _NOTHING


def _warm_up(run: DeviceRun) -> str:
    seconds, batches = number(run.ready, "warmup_s"), number(run.ready, "warmup_batches")
    text = f"{seconds:.2g} s" if seconds is not None else "unknown"
    text += f" ({counted(round(batches), 'batch')})" if batches is not None else ""
    return text if run.ready.get("settled") is True else f"{text}, not settled"


def marker_table(outcome: Outcome) -> Lines:
    """Durations of batches by the device's log and, where samples are close enough, by the marker edges."""
    lines = [["network", "batch", "batches", "mean [ms]", "p50 [ms]", "p95 [ms]", "p99 [ms]", "longest [ms]", "by"]]
    for row in outcome.device:
        for name, times in (("device's log", row.batches_s), ("marker edges", row.marker_batches_s)):
            if times.size:
                shown = [f"{times.mean() * 1e3:.5g}", *_percentiles_ms(times, ".5g"), f"{times.max() * 1e3:.5g}"]
                lines.append([row.network, str(row.batch), str(times.size), *shown, name])
    return lines


def shape_table(outcome: Outcome) -> Lines:
    """Peak, crest, settling and mean batch of each row's power; why there is no mean batch where there is none."""
    lines = [
        [
            "network",
            "batch",
            "peak [W]",
            "highest [W]",
            "peak/mean",
            "steady from [ms]",
            "settling [ms]",
            "mean batch [W]",
            "of batches",
        ]
    ]
    for row in outcome.device:
        found = row.shape
        if found is None:
            continue
        profile = found.profile
        mean = f"{profile.mean_w.min():.4g} to {profile.mean_w.max():.4g}" if profile is not None else found.why
        lines.append(
            [
                row.network,
                str(row.batch),
                _shown(found.peak_w, ".4g") + (f" (s {sd:.2g})" if math.isfinite(sd := found.peak_sd_w) else ""),
                _shown(found.highest_w, ".4g"),
                _shown(found.crest, ".3g"),
                _shown(found.steady_from_s * 1e3, ".3g"),
                _settling(found.settling) + (f": {found.unsettled}" if found.unsettled else ""),
                mean or _NOTHING,
                str(profile.batches) if profile is not None else _NOTHING,
            ]
        )
    return lines


def _settling(found: Settling) -> str:
    if math.isfinite(found.tau_s):
        return f"{found.tau_s * 1e3:.3g} ± {found.u_s * 2e3:.2g}"
    return f"below {found.below_s * 1e3:.2g}" if found.known else "unknown"


def clock_table(outcome: Outcome) -> Lines:
    """One line per run: how the marker edges of its batches follow the device's log."""
    lines = [
        [
            "network",
            "batch",
            "repeat",
            "edges",
            "rate [ppm]",
            "scatter [µs]",
            "largest [µs]",
            "odd edges",
            "odd beyond [ms]",
        ]
    ]
    for row in outcome.device:
        for run in row.runs:
            if (fit := run.fit) is not None:
                lines.append(
                    [
                        row.network,
                        str(row.batch),
                        str(run.repeat + 1),
                        str(fit.edges),
                        f"{fit.rate * 1e6:+.0f} ± {_shown(fit.u_rate * 2e6, '.0f' if fit.u_rate > 4e-6 else '.2g')}",
                        _shown(fit.scatter_s * 1e6, ".3g"),
                        _shown(fit.largest_s * 1e6, ".3g"),
                        str(fit.odd),
                        f"{fit.tolerance_s * 1e3:.3g}",
                    ]
                )
    return lines


def memory_table(outcome: Outcome) -> Lines:
    """Every kind of memory that is known, the highest of each row's repeats."""
    kinds = [kind for kind in MEMORY_KINDS if any(kind in row.memory for row in outcome.device)]
    lines = [["network", "batch", *(f"{kind} [MB]" for kind in kinds)]]
    for row in outcome.device:
        found = row.memory
        if found:
            shown = [f"{found[kind] / 1e6:.4g}" if kind in found else _NOTHING for kind in kinds]
            lines.append([row.network, str(row.batch), *shown])
    return lines


def contention_table(outcome: Outcome) -> Lines:
    """One line per run: what else went on, before and after."""
    lines = [
        [
            "network",
            "batch",
            "repeat",
            "load average",
            "waited [%]",
            "others [processors]",
            "stolen [%]",
            "clock [MHz]",
            "hottest [°C]",
            "held back",
            "reference [ms]",
            "flags",
        ]
    ]
    for row in outcome.device:
        for run in row.runs:
            share = flags.shares(run.done)
            lines.append(
                [
                    row.network,
                    str(row.batch),
                    str(run.repeat + 1),
                    _both(run, "load1"),
                    _shown(_percent(share.get("waited")), ".2g"),
                    _shown(share.get("others"), ".2f"),
                    _shown(_percent(share.get("steal")), ".2g"),
                    _pair(".0f", *(number(run.done, "reference_mhz", side) for side in ("before", "after"))),
                    _pair(".1f", *(max(_zones(run, side), default=None) for side in _SIDES)),
                    ", ".join(sorted({name for side in _SIDES for name in _held_back(run, side)})) or _NOTHING,
                    _reference(run),
                    " ".join(run.flags) or _NOTHING,
                ]
            )
    return lines


_SIDES = ("condition_before", "condition_after")


def _zones(run: DeviceRun, side: str) -> list[float]:
    return list(numbers(run.done, side, "temperature_c").values())


def _held_back(run: DeviceRun, side: str) -> list[str]:
    return [name for name, value in numbers(run.done, side, "throttle").items() if value > 0]


def _reference(run: DeviceRun) -> str:
    works = flags.reference_s(run.done).values()
    medians_ms = [
        [float(np.median(t[side])) * 1e3 if side in t else None for side in ("before", "after")] for t in works
    ]
    return "; ".join(_pair(".3g", *pair) for pair in medians_ms) or _NOTHING


def _both(run: DeviceRun, name: str) -> str:
    return _pair(".2f", *(number(run.done, side, name) for side in _SIDES))


def _pair(form: str, before: float | None, after: float | None) -> str:
    first, last = _shown(before, form), _shown(after, form)
    return first if first == last else f"{first} → {last}"


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100


def _shown(value: float | None, form: str) -> str:
    return _NOTHING if value is None or not math.isfinite(value) else f"{value:{form}}"


def sensor_table(outcome: Outcome) -> Lines:
    """What the device's own sensors of power and energy told beside what the bench measured: never the result."""
    lines = [["network", "batch", "repeat", "bench [W]", "idle [W]", "sensor", "it told"]]
    for row, result in zip(outcome.device, outcome.rows, strict=True):
        watts = [_shown(b.value if b is not None else None, ".4g") for b in _powers(result)]
        for run in row.runs:
            for name, text in dut_sensors.cross_check(*(_sensors(run, side) for side in ("before", "after"))):
                lines.append([row.network, str(row.batch), str(run.repeat + 1), *watts, name, text])
    return lines


_POWER = ("power", "energy", "mode")


def _sensors(run: DeviceRun, side: str) -> dut_sensors.Sensors:
    """The readings of power, and the time that makes one of a counter."""
    told = run.done.get(f"sensors_{side}")
    found = told.items() if isinstance(told, dict) else ()
    return {n: e for n, e in found if isinstance(e, dict) and (n == "time" or e.get("quantity") in _POWER)}


def _powers(result: RowResult | None) -> tuple[Budget | None, Budget | None]:
    return (result.power_w, result.idle_power_w) if result is not None else (None, None)


def flag_lines(outcome: Outcome) -> Lines:
    """Which flags were given, what each says, and to whom."""
    given: dict[str, list[str]] = {}
    for row in outcome.device:
        for code in row.flags:
            given.setdefault(code, []).append(_name(row))
    lines = [["flag", "it says that", "rows"]]
    return lines + [
        [code, FLAGS.get(code, "unknown to this release"), ", ".join(given[code])] for code in flags.in_order(given)
    ]


def _name(row: DeviceRow) -> str:
    return f"{row.network} {row.batch}"
