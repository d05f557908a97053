"""The report of a run: a table for the terminal and one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.budget import Budget
from calibration.list import what
from calibration.records import stamp
from experiments import budgets, figures, networks, report_device
from experiments.budgets import budget_lines
from experiments.command import complain, say
from experiments.energy import CaptureData, RowResult
from experiments.reduction import Outcome, reduce_run, results_csv, source_text, wires
from experiments.traces import TraceReader

SHOWN = (
    ("time_per_image_s", "time", "ms/image", 1e3),
    ("power_w", "power", "W", 1.0),
    ("net_power_w", "net power", "W", 1.0),
    ("energy_per_image_j", "energy", "mJ/image", 1e3),
    ("net_energy_per_image_j", "net energy", "mJ/image", 1e3),
)


OUTPUTS = ("results.csv", "power_vs_batch.png", "energy_vs_batch.png", "report.html", budgets.FILE)
SCREEN = "scope_screen.png"
"""Written too where the trace holds a picture of the oscilloscope's screen."""


def with_uncertainty(value: float, half_width: float) -> str:
    """Write value and half-width with two significant digits of the half-width, such as `12.34 ± 0.56`."""
    if math.isnan(value) or math.isnan(half_width):
        return "unknown"
    if half_width <= 0:
        return f"{value:.6g}"
    digits = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{value:.{digits}f} ± {half_width:.{digits}f}"


def table(outcome: Outcome, *, replayed: bool = False) -> list[list[str]]:
    """Rows of text, the header first: what the terminal and the report show."""
    header = ["network", "batch", "n", *(f"{label} [{unit}]" for _, label, unit, _ in SHOWN), "source"]
    if outcome.source == "simulated":
        header.insert(-1, "truth [mJ/image]")
    lines = [header]
    for (network, batch), row in zip(outcome.pairs, outcome.rows, strict=True):
        if row is None:
            cells = [network, str(batch), "0", *(["no result"] * len(SHOWN))]
        else:
            cells = [network, str(batch), str(row.repeats), *(_shown(row, name, f) for name, _, _, f in SHOWN)]
        if outcome.source == "simulated":
            cells.append("" if row is None else f"{row.true_energy_per_image_j * 1e3:.4g}")
        lines.append([*cells, source_text(outcome, replayed)])
    return lines


def _shown(row: RowResult, quantity: str, factor: float) -> str:
    budget: Budget = getattr(row, quantity)
    return with_uncertainty(budget.value * factor, budget.expanded() * factor)


def plain_table(lines: Sequence[Sequence[str]]) -> str:
    """Align a table's columns with spaces; a unit in brackets goes below its name, which saves width."""
    names = [cell.partition(" [") for cell in lines[0]]
    lines = [[n for n, _, _ in names], [f"[{unit}" if unit else "" for _, _, unit in names], *lines[1:]]
    if not any(lines[1]):
        del lines[1]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def conclude(reader: TraceReader, out: Path, *, quiet: bool, replayed: bool = False, budget: bool = False) -> int:
    """Reduce a file, write every output, print the table; 1 when a cell has no result.

    `budget` prints every result's budget first. Where nothing else may be printed, what has no result still is, on
    standard error.
    """
    outcome = reduce_run(reader)
    write_outputs(reader, outcome, out, replayed=replayed)
    if quiet:
        for r in outcome.rejected:
            complain(f"{r.outcome}: {r.label}: {r.reason}")
    else:
        if budget:
            say(budgets.budgets_text(outcome, plain_table))
        say(closing_text(outcome, out, replayed=replayed))
    return 0 if outcome.whole else 1


def closing_text(outcome: Outcome, out: Path, *, replayed: bool = False) -> str:
    """What a sweep or replay prints at its end."""
    lines = [plain_table(table(outcome, replayed=replayed)), "", "± is the half-width U of the 95 % interval.", ""]
    lines += [plain_table(report_device.device_table(outcome)), ""]
    lines += [f"note: {note}" for note in outcome.notes]
    if outcome.rejected:
        lines.append(f"{len(outcome.rejected)} without a result:")
        lines += [f"  {r.label}: {r.outcome}: {r.reason}" for r in outcome.rejected]
    names = OUTPUTS if replayed else ("trace.h5", *OUTPUTS)
    names = (*names, SCREEN) if (out / SCREEN).is_file() else names
    lines.append(f"written to {out}: " + ", ".join(names))
    return "\n".join(lines)


def write_outputs(reader: TraceReader, outcome: Outcome, out: Path, *, replayed: bool = False) -> list[Path]:
    """Write results.csv, both pictures and report.html into a folder; returns their paths."""
    paths = [out / name for name in OUTPUTS]
    _write(paths[0], results_csv(outcome, replayed=replayed).encode())
    power = figures.png(figures.power_vs_batch(outcome))
    energy = figures.png(figures.energy_vs_batch(outcome))
    _write(paths[1], power)
    _write(paths[2], energy)
    _write(paths[3], _html(reader, outcome, power, energy, replayed).encode())
    _write(paths[4], budgets.budgets_json(outcome, replayed=replayed).encode())
    if screen := reader.blob("scope_screen"):
        paths.append(out / SCREEN)
        _write(paths[-1], screen)
    return paths


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a program that dies meanwhile leaves what was there before."""
    partial = path.with_name(path.name + ".unfinished")
    partial.write_bytes(data)
    os.replace(partial, path)


_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:68rem;padding:0 1rem;color:#1a1a1a}
h1{font-size:1.5rem;margin-bottom:.2rem}
h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e5e5e5;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
thead th{border-bottom:2px solid #999;white-space:normal}
.facts th,.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
img{max-width:100%;height:auto}
.source{background:#fff3cd;border:1px solid #e0c56e;border-radius:.3rem;padding:.1rem .5rem;font-weight:600}
.bad{color:#a40000}
pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;font-size:.8rem}
summary{cursor:pointer}
@media print{body{max-width:none;margin:0}details{break-inside:avoid}}
"""


def _html(reader: TraceReader, outcome: Outcome, power: bytes, energy: bytes, replayed: bool) -> str:
    e = html.escape
    source = source_text(outcome, replayed)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>Energy per image: {e(outcome.lab.bench)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Energy per image</h1><p>{e(outcome.lab.bench)} · device: {e(outcome.lab.dut.name)} · "
        f"{e(str(outcome.summary.get('started_utc', '')))} · <span class='source'>{e(source)}</span></p>",
        f"<p>{e(_in_words(outcome))}</p>",
    ]
    parts += [f"<p class='bad'>{e(note)}</p>" for note in outcome.notes]
    parts += [
        "<h2>Results</h2><p>Each value with the half-width U of its 95 % interval.</p><div class='scroll'>",
        _html_table(table(outcome, replayed=replayed)),
        "</div>",
        *_device(outcome),
    ]
    if any(row is not None for row in outcome.rows):
        parts += [
            "<h2>Net power against batch size</h2>",
            _image(power, "net power against batch size"),
            "<h2>Energy per image against batch size</h2>",
            _image(energy, "energy per image against batch size"),
        ]
    picture = _waveform(reader, outcome)
    if picture:
        parts += ["<h2>One capture</h2>", _image(picture, "current during one measured loop")]
    parts += ["<h2>Uncertainty budgets of energy per image</h2>", *_budgets(outcome)]
    parts += ["<h2>Calibration of this run</h2>", _calibration(outcome)]
    parts.append("<h2>Without a result</h2>")
    if outcome.rejected:
        rejected = [["what", "outcome", "reason"], *([r.label, r.outcome, r.reason] for r in outcome.rejected)]
        parts.append(_html_table(rejected, "facts"))
    else:
        parts.append("<p>Every capture gave a result.</p>")
    noted = networks.notes(outcome.plan.networks)
    if noted:
        parts.append("<h2>Where the paper's own figures do not hold</h2>")
        parts.append(_html_table([["of", "note"], *map(list, noted)], "facts"))
    parts += ["<h2>Provenance</h2>", *_provenance(reader, outcome), "</body></html>"]
    return "\n".join(parts)


def _device(outcome: Outcome) -> list[str]:
    """The device's side: its times, memory and speed, how it ran, what may have disturbed it."""
    parts = [
        "<h2>The device</h2><p>Times by its own clock and log; the difference to the markers is rate of the clocks and "
        "latency of the lines. Percentiles are over all batches of all repeats: of fewer than a hundred batches, p99 "
        "is little but the longest. A speed is operations (two a multiplication and addition) by the time by the "
        "markers.</p><div class='scroll'>",
        _html_table(report_device.device_table(outcome)),
        "</div>",
    ]
    given = report_device.flag_lines(outcome)
    if len(given) > 1:
        parts += ["<h3>Flags</h3>", _html_table(given, "facts")]
    for title, lines in (
        ("How the networks ran", report_device.conditions_table(outcome)),
        ("Durations of batches, by the device's log and by the markers", report_device.marker_table(outcome)),
        ("Memory by kind", report_device.memory_table(outcome)),
        ("What else went on, before and after each run", report_device.contention_table(outcome)),
        ("The device's own sensors: a cross-check, never the result", report_device.sensor_table(outcome)),
    ):
        if len(lines) > 1:
            table_text = f"<div class='scroll'>{_html_table(lines)}</div>"
            parts.append(f"<details><summary>{html.escape(title)}</summary>{table_text}</details>")
    return parts


def _in_words(outcome: Outcome) -> str:
    rows = [row for row in outcome.rows if row is not None]
    if not rows:
        return "No cell gave a result."
    best = min(rows, key=lambda r: r.energy_per_image_j.value)
    worst = max(rows, key=lambda r: r.energy_per_image_j.value)
    relative = sorted(r.energy_per_image_j.expanded() / r.energy_per_image_j.value for r in rows)
    kind = "The bench and its currents are simulated; the inference is real. " if outcome.source == "simulated" else ""
    if outcome.lab.dut.simulated is not None:
        kind = "The bench is simulated, and times, currents and memory come from a model of a board. "
    return (
        f"{kind}{len(rows)} of {len(outcome.rows)} combinations of network and batch gave a result. "
        f"Least energy per image: {best.network} at batch {best.batch}, {_joules(best)}; "
        f"most: {worst.network} at batch {worst.batch}, {_joules(worst)}. "
        f"Median relative U: {_percent(relative[len(relative) // 2])}."
    )


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share < 0.995 else f"{share * 100:.0f} %"


def _joules(row: RowResult) -> str:
    return f"{_shown(row, 'energy_per_image_j', 1e3)} mJ"


def _html_table(lines: Sequence[Sequence[str]], style: str = "") -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in lines[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in line) + "</tr>" for line in lines[1:])
    return f"<table class='{style}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _image(data: bytes, text: str) -> str:
    return f"<img alt='{html.escape(text)}' src='data:image/png;base64,{base64.b64encode(data).decode()}'>"


def _waveform(reader: TraceReader, outcome: Outcome) -> bytes | None:
    first: CaptureData | None = next((d for d in reader.data() if d.kind == "cell"), None)
    if first is None:
        return None
    roles = wires(outcome.lab)
    current = first.capture.records[roles.current]
    gate = first.capture.records[roles.markers].bit(roles.gate_bit)
    title = f"{first.network}, batch {first.batch}: current as the oscilloscope scaled it, uncorrected"
    return figures.png(figures.waveform(current.time_s(), current.values(), gate, title))


def _budgets(outcome: Outcome) -> list[str]:
    parts = []
    for row in outcome.rows:
        if row is not None:
            title = f"{row.network}, batch {row.batch}: {_joules(row)}"
            lines = budget_lines(row.energy_per_image_j, 1e3, "mJ")
            parts.append(f"<details><summary>{html.escape(title)}</summary>{_html_table(lines)}</details>")
    return parts


def _calibration(outcome: Outcome) -> str:
    c = outcome.calibration
    if c is None:
        return "<p>None.</p>"
    lines = [["channel", "gain", "u of the reference", "noise", "against", "zeros", "u of drift"]]
    for channel in (c.current, c.voltage):
        lines.append(
            [
                channel.name,
                f"{channel.gain.value:.5f}",
                f"{channel.gain.u_reference * 100:.3g} %",
                f"{channel.gain.u_noise * 100:.2g} %",
                channel.gain.source,
                ", ".join(f"{p.value:.5g} {channel.unit}" for p in channel.offset.points),
                f"{channel.offset.u_drift:.2g} {channel.unit}",
            ]
        )
    return _html_table(lines) + _records(outcome)


def _records(outcome: Outcome) -> str:
    """The calibration records that were offered to the run, and what became of each."""
    if not outcome.records.judged:
        return "<p>No calibration record was offered: the run stands on its own comparison with the supply.</p>"
    lines = [["record", "kind", "made", "expires", "used", "of"]]
    for one in outcome.records.judged:
        record = one.filed.record
        because = "; ".join(f"{p.code}: {p.text}" for p in one.problems) or "a later one was"
        lines.append(
            [
                one.filed.name,
                record.kind,
                stamp(record.made),
                stamp(record.expires) if record.expires is not None else "never",
                "yes" if one.used else f"no: {because}",
                what(record),
            ]
        )
    return _html_table(lines, "facts")


def _provenance(reader: TraceReader, outcome: Outcome) -> list[str]:
    e = html.escape
    again = f"python -m experiments.replay {reader.path.name} --out DIR"
    facts: list[list[str]] = [["what", "value"]]
    for group in ("instruments", "environment"):
        facts += [[f"{group}: {k}", _flat(v)] for k, v in reader.json(group).items()]
    facts += report_device.agent_lines(outcome)
    return [
        _html_table(facts, "facts"),
        f"<p>Recompute from the trace file alone: <code>{e(again)}</code></p>",
        f"<details><summary>lab.yaml as it was read</summary><pre>{e(reader.text('lab_yaml'))}</pre></details>",
        f"<p>As asked for: {e(outcome.plan.run.label)}.</p>",
        f"<p>Seed {outcome.plan.seed}; window {outcome.plan.window_s:g} s; {outcome.plan.repeats} repeats.</p>",
    ]


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    return str(value)
