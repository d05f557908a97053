"""The whole document: one file that asks nothing of any other, for one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from experiments.figures.rows import Run, all_networks
from experiments.outcome import Outcome
from experiments.report import (
    budgets,
    charts,
    comparison,
    device,
    findings,
    markup,
    pictures,
    provenance,
    viewer,
    words,
)
from experiments.report.text import energy_table, table
from experiments.traces import TraceReader
from instruments.wording import counted

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
MARGIN = comparison.MARGIN
ASSETS = ("chart.js", "viewer.js", "report.js")
ONE_RUN = "this run"
"""Name of a run in its own report, wherever its file lies."""


def of_run(reader: TraceReader, outcome: Outcome, *, replayed: bool = False) -> str:
    """The report of one run."""
    return page([Run(reader, outcome, ONE_RUN)], replayed=replayed)


def page(runs: Sequence[Run], *, replayed: bool = False, anyway: bool = False, margin: float = MARGIN) -> str:
    """The report of one or several runs; `anyway` compares unlike contexts too, `margin` is that of equivalence."""
    judged = findings.judge(runs)
    pairs = comparison.pairs(runs)
    seen = viewer.data(runs)
    sections = [
        words.head(runs, replayed),
        _contents(bool(pairs)),
        words.summary(runs, judged),
        *([comparison.contexts(pairs)] if pairs else []),
        markup.section("results", "Results", *_results(runs, replayed)),
    ]
    if pairs:
        sections.append(
            markup.section("differences", "Differences", *comparison.differences(pairs, anyway=anyway, margin=margin))
        )
    sections += [
        markup.section("against-batch", "Against the batch size", charts.chart(runs)),
        markup.section("waveforms", "Waveforms", viewer.viewer(bool(seen["captures"])), _left_out(seen["left_out"])),
        markup.section("figures", "Figures", *pictures.figures(runs)),
        markup.section("findings", "The paper's findings", *findings.sections(judged)),
        markup.section("budget", "Uncertainty budgets of energy per image", *budgets.bars(runs)),
        _by_run("device", "The device", runs, device.device),
        _by_run("flags", "Flags, and what gave no result", runs, device.flags),
        _by_run("identities", "Identities", runs, provenance.identities),
        _by_run("calibration", "Calibration", runs, provenance.calibration),
        _by_run("environment", "Environment", runs, provenance.environment),
        _by_run("reproduce", "How to reproduce", runs, provenance.reproduce),
        _by_run("screen", "The oscilloscope's screen", runs, provenance.screen),
    ]
    return "\n".join(
        [
            _opening(runs),
            *sections,
            markup.data_block("chart-data", charts.data(runs)),
            markup.data_block("viewer-data", seen | {"networks": all_networks(runs)}),
            f"<script>{''.join(_asset(name) for name in ASSETS)}</script>",
            "</body></html>",
            "",
        ]
    )


def _opening(runs: Sequence[Run]) -> str:
    benches = ", ".join(dict.fromkeys(run.outcome.lab.bench for run in runs))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<meta http-equiv='Content-Security-Policy' content=\"{POLICY}\">"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{markup.text(f'Energy per image: {benches}')}</title>"
        f"<style>{_asset('report.css')}</style></head><body>"
    )


def _asset(name: str) -> str:
    return resources.files("experiments.report").joinpath("assets", name).read_text(encoding="utf-8")


CONTENTS = (
    ("summary", "in short"), ("context", "contexts"), ("results", "results"), ("differences", "differences"),
    ("against-batch", "against batch"), ("waveforms", "waveforms"), ("figures", "figures"), ("findings", "findings"),
    ("budget", "budgets"), ("device", "device"), ("flags", "flags"), ("identities", "identities"),
    ("calibration", "calibration"), ("environment", "environment"), ("reproduce", "reproduce"),
)  # fmt: skip
OF_SEVERAL = ("context", "differences")


def _contents(several: bool) -> str:
    links = " · ".join(f"<a href='#{key}'>{name}</a>" for key, name in CONTENTS if several or key not in OF_SEVERAL)
    return f"<nav aria-label='contents'>{links}</nav>"


def _results(runs: Sequence[Run], replayed: bool) -> list[str]:
    said = markup.paragraph("Each value with the half-width U of its 95 % interval.")
    whole = [
        markup.table(
            table(run.outcome, replayed=replayed),
            of_rows=[{"data-network": network} for network, _ in run.outcome.pairs],
        )
        for run in runs
    ]
    whole = [one + _energies(run) for run, one in zip(runs, whole, strict=True)]
    if len(runs) == 1:
        return [said, *whole]
    closed = [markup.details(run.title, one) for run, one in zip(runs, whole, strict=True)]
    return [said, comparison.beside(runs), *closed]


def _energies(run: Run) -> str:
    lines = energy_table(run.outcome)
    of_rows = [{"data-network": line[0]} for line in lines[1:]]
    return markup.details("Energy of a batch and of a run", markup.table(lines, of_rows=of_rows)) if of_rows else ""


def _by_run(key: str, title: str, runs: Sequence[Run], of_one: object) -> str:
    assert callable(of_one)
    return markup.section(key, title, *device.by_run(runs, [of_one(run) for run in runs]))


def _left_out(count: int) -> str:
    if not count:
        return ""
    return markup.paragraph(f"In the trace files, without room here: {counted(count, 'capture')} more.", "hint")
