"""The device's side of a report: its times, memory and speed, how it ran, flags, and what gave no result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from experiments import networks, report_device
from experiments.figures.rows import Run
from experiments.flags import FLAGS
from experiments.report import markup
from instruments.wording import counted


def device(run: Run) -> list[str]:
    """What the device said of itself, the longer tables closed."""
    outcome = run.outcome
    parts = [
        markup.paragraph(
            "Times by its own clock and log; the difference to the markers is rate of the clocks and latency of the "
            "lines. Percentiles are over all batches of all repeats: of fewer than a hundred batches, p99 is little "
            "but the longest. A speed is operations (two a multiplication and addition) by the time by the markers."
        ),
        *_on_one(report_device.device_table(outcome), [{"data-network": network} for network, _ in outcome.pairs]),
    ]
    for title, lines in (
        ("How the networks ran", report_device.conditions_table(outcome)),
        ("Durations of batches, by the device's log and by the markers", report_device.marker_table(outcome)),
        ("The device's clock: how the marker edges of the batches follow its log", report_device.clock_table(outcome)),
        ("The shape of power: peak, settling, the mean batch", report_device.shape_table(outcome)),
        ("Memory by kind", report_device.memory_table(outcome)),
        ("What else went on, before and after each run", report_device.contention_table(outcome)),
        ("The device's own sensors: a cross-check, never the result", report_device.sensor_table(outcome)),
    ):
        if len(lines) > 1:
            parts.append(markup.details(title, markup.table(lines)))
        else:
            parts.append(markup.paragraph(f"{title}: nothing was told.", "hint"))
    noted = networks.notes(outcome.plan.networks)
    if noted:
        lines = [["of", "note"], *map(list, noted)]
        parts.append(markup.details("Where the paper's own figures do not hold", markup.table(lines, "facts")))
    return parts


def _on_one(lines: list[list[str]], of_rows: list[dict[str, str]]) -> list[str]:
    """The device's table; on what the networks ran is said above it where that is the same of all."""
    at = lines[0].index("on")
    told = {line[at] for line in lines[1:] if line[lines[0].index("outcome")] == "measured"}
    if len(told) != 1:
        return [markup.table(lines, of_rows=of_rows)]
    narrower = [[cell for k, cell in enumerate(line) if k != at] for line in lines]
    return [markup.paragraph(f"All ran on {told.pop()}."), markup.table(narrower, of_rows=of_rows)]


def flags(run: Run) -> list[str]:
    """Which flags were given and what each says; then every capture and cell without a result, and why."""
    given = report_device.flag_lines(run.outcome)
    parts = [markup.table(given, "facts") if len(given) > 1 else markup.paragraph("No row is flagged.")]
    lines = [["what", "outcome", "code", "reason"]]
    lines += _together(run)
    parts.append("<h4>Without a result</h4>")
    parts.append(markup.table(lines, "facts") if len(lines) > 1 else markup.paragraph("Every cell gave a result."))
    kept: Counter[tuple[str, str, str]] = Counter()
    for row in run.reader.captures():
        if row["state"] == "rejected":
            name = f"{row['network']} batch {row['batch']} repeat {row['repeat'] + 1}"
            kept[name if row["kind"] == "cell" else row["kind"], row["flags"], row["reason"]] += 1
    again = [["capture", "codes", "reason"]]
    again += [[f"{name} ({n} times)" if n > 1 else name, codes, why] for (name, codes, why), n in kept.items()]
    if len(again) > 1:
        parts.append("<h4>Captures that were rejected at the bench, and kept</h4>")
        parts.append(markup.table(again, "facts"))
    codes = {code for line in again[1:] for code in line[1].split()} | {line[2] for line in lines[1:]}
    known = [[code, FLAGS[code]] for code in FLAGS if code in codes]
    if known:
        parts.append(markup.table([["code", "it says that"], *known], "facts"))
    if run.outcome.missing:
        parts.append(markup.paragraph(f"Not measured: {counted(run.outcome.missing, 'cell')}; the sweep ended early."))
    return parts


def _together(run: Run) -> list[list[str]]:
    """What gave no result: repeats of one cell in one line where the reason is the same."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for r in run.outcome.rejected:
        cell, _, repeat = r.label.rpartition(" repeat ")
        code = r.code if r.outcome == "rejected" else ""
        found.setdefault((cell or r.label, r.outcome, code, r.reason), []).append(repeat)
    return [
        [f"{cell} repeat {', '.join(repeats)}", outcome, code, reason]
        for (cell, outcome, code, reason), repeats in found.items()
    ]


def by_run(runs: Sequence[Run], parts: list[list[str]]) -> list[str]:
    """Parts of each run below its name, which is left out where there is one run alone; equal parts once."""
    if len(runs) == 1:
        return parts[0]
    alike: dict[tuple[str, ...], list[str]] = {}
    for run, mine in zip(runs, parts, strict=True):
        alike.setdefault(tuple(mine), []).append(run.title)
    found: list[str] = []
    for pieces, titles in alike.items():
        same = f" ({len(titles)} runs, the same of each)" if len(titles) > 1 else ""
        found += [f"<h3>{markup.text(', '.join(titles) + same)}</h3>", *pieces]
    return found
