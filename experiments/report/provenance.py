"""Where the numbers come from: identities, calibrations with expiry, environment, the screen, how to do it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from calibration.records import stamp
from experiments import gain_check, report_device
from experiments.figures.rows import Run
from experiments.plan import Method, Plan, RunOptions
from experiments.report import markup

PNG = b"\x89PNG\r\n\x1a\n"


def identities(run: Run) -> list[str]:
    """Who answered on the bench in each of its sessions, and which program ran the networks."""
    lab = run.outcome.lab
    lines = [
        ["what", "value"],
        ["bench", lab.bench],
        ["device", lab.dut.name],
        *_of_sessions(run, "instruments"),
        *report_device.agent_lines(run.outcome),
    ]
    return [markup.table(lines, "facts")]


def environment(run: Run) -> list[str]:
    """Programs and computer of each session."""
    lines = [["what", "value"], *_of_sessions(run, "environment")]
    return [markup.table(lines, "facts") if len(lines) > 1 else markup.paragraph("The file tells nothing of it.")]


def _of_sessions(run: Run, name: str) -> list[list[str]]:
    """What the sessions of the bench tell, each fact with the sessions in which it was so where they differ."""
    told = [tree for session in run.reader.sessions() if isinstance(tree := _tree(session[name]), dict)]
    if not told:
        stored = run.reader.json(name)
        told = [stored] if isinstance(stored, dict) else []
    lines = []
    for key in dict.fromkeys(key for tree in told for key in tree):
        values = [_flat(tree.get(key, "unknown")) for tree in told]
        if len(set(values)) == 1:
            lines.append([key, values[0]])
        else:
            lines += [[f"{key}, session {k + 1}", value] for k, value in enumerate(values)]
    return lines


def _tree(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    return str(value)


def calibration(run: Run) -> list[str]:
    """What the results were corrected with, and what became of each calibration record that was offered."""
    found = run.outcome.calibration
    if found is None:
        return [markup.paragraph("No calibration: without a zero nothing can be reduced."), *_records(run)]
    lines = [["channel", "gain", "u of the reference", "noise", "against", "zeros", "u of drift"]]
    for channel in (found.current, found.voltage):
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
    several = len({row["session"] for row in run.reader.captures()}) > 1
    note = "Of the first session; each other has a zero and a gain of its own." if several else ""
    said = markup.paragraph(note, "hint") if note else ""
    return [markup.table(lines, "facts"), said, *_running_check(run), *_records(run)]


def _running_check(run: Run) -> list[str]:
    """What the supply read during the cells, against the gain of the current; nothing where it was not read."""
    lines = gain_check.table(run.outcome.gain_checks)
    if not lines:
        return []
    (said,) = gain_check.notes(run.outcome.gain_checks)
    return [markup.paragraph(said), markup.details("The running gain check of each cell", markup.table(lines))]


def _records(run: Run) -> list[str]:
    """The calibration records that were offered to the run, and what became of each."""
    from calibration.list import what  # it takes the drivers with it

    judged = run.outcome.records.judged
    if not judged:
        return [
            markup.paragraph("No calibration record was offered: the run stands on its own comparison with the supply.")
        ]
    lines = [["record", "kind", "made", "expires", "used", "of"]]
    for one in judged:
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
    return [markup.table(lines, "facts")]


def reproduce(run: Run) -> list[str]:
    """The commands that give these results again: from the trace file, and from the bench."""
    plan, name = run.outcome.plan, run.reader.path.name
    given = [word for filed in run.reader.calibrations or () for word in ("--calibration", filed.name)]
    replay = shlex.join(["python", "-m", "experiments.replay", name, "--out", "DIR", *given])
    return [
        markup.paragraph("From the trace file alone, to the same bytes but for the source:"),
        f"<pre>{markup.text(replay)}</pre>",
        markup.paragraph("At the bench, with lab.yaml as below:"),
        f"<pre>{markup.text(shlex.join(sweep_words(plan, *_chosen_records(run))))}</pre>",
        markup.paragraph(
            f"Networks ran as: {plan.run.label}. Seed {plan.seed}; window {plan.window_s:g} s; repeats: {plan.repeats}"
            ". " + ". ".join(plan.method.lines(plan.repeats, plan.rounds))
        ),
        markup.details("lab.yaml as it was read", f"<pre>{markup.text(run.reader.text('lab_yaml'))}</pre>"),
        *(
            markup.details(f"Calibration record {one.filed.name}", f"<pre>{markup.text(one.filed.text)}</pre>")
            for one in run.outcome.records.judged
            if one.used
        ),
    ]


def _chosen_records(run: Run) -> tuple[Sequence[str], bool]:
    """The calibration records that the sweep was given by name, and whether it was to refuse to start without any."""
    options = run.outcome.summary.get("options")
    if not isinstance(options, dict):
        return (), False
    return [str(path) for path in options.get("calibration", ())], bool(options.get("require_calibration"))


def sweep_words(plan: Plan, calibrations: Sequence[str] = (), required: bool = False) -> list[str]:
    """The command, word by word, that makes this plan again, with the calibration records it was given."""
    words = ["python", "-m", "experiments.power_sweep", "--lab", "lab.yaml", "--networks", ",".join(plan.networks)]
    words += ["--batches", ",".join(map(str, plan.batches)), "--repeats", str(plan.repeats)]
    words += ["--window", _exactly(plan.window_s), "--seed", str(plan.seed)]
    method, common = plan.method, Method()
    if method.long_s is not None:
        words += ["--mode", "long", "--long-s", _exactly(method.long_s)]
    if method.long_batch != common.long_batch:
        words += ["--long-batch", method.long_batch]
    if method.target_u is not None:
        words += ["--target-u", _exactly(method.target_u), "--max-repeats", str(plan.rounds)]
    if method.gain_check:
        words += ["--gain-check"]
    usual, run = RunOptions(), plan.run
    for name in ("device", "threads", "weights"):
        if getattr(run, name) != getattr(usual, name):
            words += [f"--{name}", str(getattr(run, name))]
    if run.mode.dtype != usual.mode.dtype:
        words += ["--dtype", run.mode.dtype]
    words += [
        f"--{name.replace('_', '-')}" for name in ("channels_last", "compile", "cuda_graphs") if getattr(run.mode, name)
    ]
    for path in calibrations:
        words += ["--calibration", path]
    return [*words, "--require-calibration"] if required else words


def _exactly(number: float) -> str:
    """A number as short as it can be and still read back as itself."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def screen(run: Run) -> list[str]:
    """The oscilloscope's own picture of the last capture, where the file holds one."""
    data = run.reader.blob("scope_screen")
    if not data:
        return [markup.paragraph("The file holds no picture of the oscilloscope's screen.")]
    if not data.startswith(PNG):
        return [markup.paragraph("What the file holds as picture of the oscilloscope's screen is no PNG.")]
    return [f"<figure>{markup.picture(data, 'image/png', 'screen of the oscilloscope')}</figure>"]
