"""Comparing runs: unlike contexts are refused, like boards are found alike, and other boards different."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind

from calibration.budget import Budget, Component
from experiments.budgets import budgets_json
from experiments.compare import _compare, parser
from experiments.comparison import context, sides, verdicts
from experiments.comparison.context import Shared
from experiments.outcome import results_csv
from experiments.plan import make_plan
from experiments.reduction import reduce_run
from experiments.traces import CaptureRow, Reading, TraceReader, TraceWriter
from instruments.errors import BenchError, ConfigError
from tests.sweeps import rows, run
from tests.trace_files import SOURCES
from tests.worlds import LAB, Bench

NETWORKS = {"AlexNet": 0.010, "ENet": 0.023}
BATCHES = (1, 4)
SAME = Shared(supply=True, scope=True, probe=True, board=True)
IDENTITIES = {"scope": "AGILENT,MSO-X 2024A,MY00000001,02.65", "supply": "Agilent,E3645A,0,1.4"}


@dataclass(frozen=True)
class Made:
    """How a run is made: `more` is what its board draws more than the usual one at work."""

    seed: int = 1
    plan_seed: int = 1
    more: float = 0.0
    supply_error_a: float = 0.0
    repeats: int = 3
    window_s: float = 1.0
    lab: tuple[str, str] = ("", "")
    told: tuple[str, object] = ("threads", 2)


def write(folder: Path, made: Made) -> Path:
    """Write the run that a bench would have made of a simulated world."""
    folder.mkdir()
    usual = Bench.make(0).world.facts
    drawn = {name: getattr(usual, name) * (1 + made.more) for name in ("active_a", "launch_a")}
    bench = Bench.make(made.seed, **drawn)
    bench.dt_s, bench.points = 125e-6, 8_000
    rng = np.random.default_rng(made.seed)
    plan = make_plan(list(NETWORKS), BATCHES, made.repeats, made.window_s, made.plan_seed)
    old, new = made.lab
    text = LAB.read_text()
    assert old in text
    texts = {"lab_yaml": text.replace(old, new) if old else text}
    ready = json.dumps({"device": "cpu", "weights": "random", "mode": {"dtype": "fp32"}, made.told[0]: made.told[1]})
    with TraceWriter.create(folder / "trace.h5", plan, source="simulated", texts=texts) as writer:
        writer.session(1.8e9, json.dumps({"identities": IDENTITIES}), json.dumps({"numpy": "2.0"}))
        _zero(bench, writer, 1.0)
        bench.power(2.0, True)
        at_s = 10.0
        for position in range(-1, len(plan.cells)):
            cell = plan.cells[max(position, 0)]
            kind, at_s = "gain" if position < 0 else "cell", at_s + 2.0
            batch_s = NETWORKS[cell.network] * cell.batch**0.8 * (1 + 2e-3 * rng.standard_normal())
            loop_s = 0.85 if kind == "gain" else 0.6
            batches = 2 * int(loop_s / batch_s / 2)  # an even number leaves the batch line as it was
            measured = bench.run(kind, at_s, batches, batch_s, cell.batch)
            index = writer.add(
                CaptureRow(
                    kind,
                    cell=position,
                    network=cell.network,
                    batch=cell.batch,
                    repeat=cell.repeat,
                    batches=batches,
                    images=batches * cell.batch,
                    host_s=at_s,
                    gate_fall_ns=int(batches * batch_s * 1e9),
                    ready_facts=ready,
                    true_energy_j=measured.data.true_energy_j,
                    batch_end_ns=tuple(int(batch_s * 1e9 * (k + 1)) for k in range(batches)),
                ),
                measured.data.capture,
                SOURCES,
            )
            if kind == "gain":
                compared = bench.comparison(measured, at_s, (made.supply_error_a, 0.0))
                writer.readings(index, [Reading("A", value, 0.3) for value in compared.reference_a])
                writer.readings(index, [Reading("V", value, 0.3) for value in compared.reference_v])
            writer.settle(index)
            if kind == "cell":
                writer.cell(position, "committed", capture=index)
        bench.power(at_s + 5.0, False)
        _zero(bench, writer, at_s + 10.0)
        writer.complete()
    return folder


def _zero(bench: Bench, writer: TraceWriter, at_s: float) -> None:
    zero = bench.steady("zero", at_s)
    writer.settle(writer.add(CaptureRow("zero", host_s=at_s), zero.data.capture, SOURCES))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("runs") / "usual", Made())


def test_runs_of_one_board_are_equivalent_and_their_intervals_hold_nothing(tmp_path: Path, usual: Path) -> None:
    """The clamp is put on anew for each: another gain, zero and noise each time."""
    first = sides.load(usual)
    rows = []
    for seed in range(2, 5):
        again = write(tmp_path / str(seed), Made(seed=seed))
        rows += verdicts.compare(first, sides.load(again), SAME, 0.02)
    assert np.mean([row.verdict == "equivalent" for row in rows]) >= 0.95
    found = [row.quantities["energy_per_image_j"].difference for row in rows]
    assert np.mean([abs(d.value) <= d.expanded() for d in found]) >= 0.85


def test_a_board_with_more_power_is_different(tmp_path: Path, usual: Path) -> None:
    hungry = write(tmp_path / "hungry", Made(seed=2, more=0.05))
    done = run("experiments.compare", usual, hungry, "--json")
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)
    assert tree["alike"]
    assert [(row["network"], row["batch"]) for row in tree["rows"]] == [(n, b) for n in NETWORKS for b in BATCHES]
    with TraceReader(usual / "trace.h5") as a, TraceReader(hungry / "trace.h5") as b:
        truth = {
            (x.network, x.batch): y.true_energy_per_image_j - x.true_energy_per_image_j
            for x, y in zip(reduce_run(a).rows, reduce_run(b).rows, strict=True)
            if x and y
        }
    for row in tree["rows"]:
        energy = row["energy_per_image_j"]
        assert row["verdict"] == row["power_w"]["verdict"] == "different"
        assert energy["difference"] == pytest.approx(truth[row["network"], row["batch"]], abs=energy["difference_u"])
        assert energy["relative"] == pytest.approx(0.05, abs=0.01)
        assert energy["welch"]["p_holm"] < 0.01
        assert row["time_per_image_s"]["verdict"] == "equivalent"


def test_an_error_of_the_supply_that_both_runs_have_cancels(tmp_path: Path, usual: Path) -> None:
    one, two = (write(tmp_path / str(seed), Made(seed=seed, supply_error_a=4e-3)) for seed in (2, 3))
    (first, second), usual_side = (sides.load(path) for path in (one, two)), sides.load(usual)
    same, others = (
        [row.quantities["power_w"] for row in verdicts.compare(first, second, shared, 0.02)]
        for shared in (SAME, Shared())
    )
    for near, far in zip(same, others, strict=True):
        assert abs(near.relative) < near.difference.expanded() / near.a.value < 0.006
        assert far.difference.expanded() > 1.5 * near.difference.expanded()
    for row in verdicts.compare(usual_side, first, Shared(), 0.02):  # now one of them has it alone
        power = row.quantities["power_w"]
        assert 0.003 < abs(power.relative) < power.difference.expanded() / power.a.value


def test_what_is_common_is_known_by_the_names_that_budgets_use(usual: Path) -> None:
    row = sides.load(usual).rows["AlexNet", 1]
    names = {c.name for c in row.budgets["energy_per_image_j"].components}
    assert {*verdicts.REFERENCES, verdicts.REPEATABILITY, "timebase", "current linearity"} <= names
    assert "current at output off" in names


def test_instruments_of_a_simulated_bench_are_others_with_another_seed(tmp_path: Path, usual: Path) -> None:
    a = sides.load(usual)
    found = []
    for plan_seed in (1, 5):
        b = sides.load(write(tmp_path / str(plan_seed), Made(seed=2, plan_seed=plan_seed, repeats=1)))
        found.append(context.shared(a.facts, b.facts, simulated=True))
    assert found[0].supply
    assert found[0].probe
    assert found[1] == Shared()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Made(lab=("voltage_v: 12.0", "voltage_v: 12.5")), "supply voltage: A has 12 V"),
        (Made(lab=("serial: SIM1146B", "serial: OTHER")), "probe: A has 1146B SIM1146B"),
        (Made(lab=("turns: 1", "turns: 2")), "2 turns"),
        (Made(lab=("name: this computer", "name: another board")), "device: A has this computer"),
        (Made(lab=("bench: simulated demonstration bench", "bench: the other one")), "bench: A has simulated demo"),
        (Made(window_s=2.0), "window: A has 1 s; B has 2 s"),
        (Made(told=("threads", 4)), "threads: A has 2; B has 4"),
        (Made(told=("mode", {"dtype": "fp16"})), "fp16"),
    ],
)
def test_unlike_contexts_are_refused_by_name(
    tmp_path: Path, usual: Path, made: Made, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "other", replace(made, repeats=1))
    assert _compare(parser().parse_args([str(usual), str(other)])) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err
    assert _compare(parser().parse_args([str(usual), str(other), "--anyway", "--json"])) == 0
    tree = json.loads(capfd.readouterr().out)
    assert not tree["alike"]
    assert any(
        said.partition(":")[0] in d["name"] or said in (d["a"] + d["b"]) for d in tree["context"]["different"]
    ) or (said in " ".join(tree["notes"]))


def test_one_repeat_concludes_nothing_and_tables_alone_can_be_compared_when_told(
    tmp_path: Path, usual: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    single = write(tmp_path / "single", Made(seed=2, repeats=1))
    assert {r.verdict for r in verdicts.compare(sides.load(usual), sides.load(single), SAME, 0.5)} == {"inconclusive"}
    table = tmp_path / "again" / "results.csv"
    table.parent.mkdir()
    with TraceReader(usual / "trace.h5") as reader:
        table.write_text(results_csv(reduce_run(reader), replayed=True))
    assert _compare(parser().parse_args([str(usual), str(table.parent)])) == 2
    refused = capfd.readouterr().err
    assert "supply voltage: A has 12 V" in refused
    assert "name the run's folder or its trace.h5" in refused
    assert _compare(parser().parse_args([str(usual), str(table), "--anyway", "--margin", "5%"])) == 0
    said = capfd.readouterr().out
    assert "4 equivalent, 0 different, 0 inconclusive" in said
    assert "NOT MADE IN THE SAME CONTEXT" in said


def test_tables_alone_tell_no_context_and_those_beside_their_trace_have_its(
    tmp_path: Path, usual: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "other", Made(seed=2, lab=("voltage_v: 12.0", "voltage_v: 12.5")))
    alone, beside = [], []
    for run_, name in ((usual, "a"), (other, "b")):
        folder = tmp_path / name
        folder.mkdir()
        with TraceReader(run_ / "trace.h5") as reader:
            (folder / "results.csv").write_text(results_csv(reduce_run(reader)))
        alone.append(str(folder / "results.csv"))
        shutil.copytree(folder, tmp_path / f"{name} whole")
        shutil.copy(run_ / "trace.h5", tmp_path / f"{name} whole")
        beside.append(str(tmp_path / f"{name} whole" / "results.csv"))
    assert _compare(parser().parse_args([*alone, "--json"])) == 0
    told = capfd.readouterr()
    assert "same context is not known" in told.err
    tree = json.loads(told.out)
    assert tree["alike"] is None
    assert any("same context is not known" in note for note in tree["notes"])
    assert _compare(parser().parse_args(beside)) == 2
    assert "supply voltage: A has 12 V" in capfd.readouterr().err
    shutil.copy(tmp_path / "a" / "results.csv", beside[1])  # not that of the trace beside it
    assert not sides.load(Path(beside[1])).context_known


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nowhere", "{usual}"], 2, "nowhere: there is no such file"),
        (["{usual}", "{usual}/trace.h5"], 2, "nothing to compare"),
        (["{usual}", "{empty}"], 2, "holds neither trace.h5 nor results.csv"),
        (["{usual}", "{bad}"], 2, "bad.csv: is no results.csv"),
        (["{usual}", "{broken}"], 3, "broken.h5"),
        (["{usual}", "{usual}", "--margin", "two"], 2, "--margin 'two'"),
    ],
)
def test_what_cannot_be_compared_is_told(
    tmp_path: Path, usual: Path, args: list[str], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF" * 100)
    names = {"usual": usual, "empty": tmp_path / "empty", "bad": tmp_path / "bad.csv", "broken": tmp_path / "broken.h5"}
    with pytest.raises(BenchError) as caught:
        _compare(parser().parse_args([text.format(**names) for text in args]))
    assert caught.value.exit_code == code
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("energy_per_image_j_u", "-0.01", "line 2: is damaged"),
        ("power_w_u", "nan", "is no result"),
        ("time_per_image_s", "inf", "is no result"),
        ("energy_per_image_j", "0", "is no result"),
        ("power_w", "1e308", "is no result"),
        ("energy_per_image_j_u", "inf", "is no result"),
        ("repeats", "0", "a result of 0 repeats"),
        (None, "", "line 3: is damaged"),
    ],
)
def test_a_table_with_an_impossible_line_is_refused(
    tmp_path: Path, usual: Path, column: str | None, value: str, said: str
) -> None:
    path = tmp_path / "results.csv"
    with TraceReader(usual / "trace.h5") as reader:
        path.write_text(results_csv(reduce_run(reader)))
    first, *others = rows(path)
    lines = [first, first, *others] if column is None else [{**first, column: value}, *others]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows(lines)
    with pytest.raises(ConfigError, match=said):
        sides.load(path)


def test_a_difference_is_as_unsure_as_first_principles_say() -> None:
    """Two rows with one common and one own error each: only the own ones are left."""
    from calibration.budget import Budget, Component

    def row(value: float) -> sides.Row:
        parts = (Component("timebase", 0.01, value, "1"), Component("current noise", 0.003, 1.0, "W"))
        return sides.Row(3, {"power_w": Budget("power_w", value, "W", parts)})

    near = verdicts.difference("power_w", row(5.0), row(5.0), (None, None), SAME)
    assert near.u == pytest.approx(0.003 * np.sqrt(2))
    twice = verdicts.difference("power_w", row(5.0), row(10.0), (None, None), SAME)
    assert twice.value == 5.0
    assert twice.u == pytest.approx(np.hypot(0.01 * 5.0, 0.003 * np.sqrt(2)))
    alone = verdicts.difference("power_w", row(5.0), row(5.0), (None, None), Shared())
    assert alone.u == pytest.approx(np.sqrt(2) * np.hypot(0.05, 0.003))


def test_probabilities_are_the_inverse_of_half_widths() -> None:
    from calibration.propagation import half_width, probability

    mixed = [("t", 1.0, 4.0), ("rectangular", 2.0, np.inf), ("normal", 0.5, np.inf)]
    for parts in ([("normal", 2.0, np.inf)], [("rectangular", 1.0, np.inf)], mixed):
        for wanted in (0.5, 0.95, 0.9999):
            assert probability(parts, half_width(parts, wanted)) == pytest.approx(wanted, abs=1e-6)
    assert probability([], 0.1) == 1.0
    assert probability(mixed, 0.0) == 0.0


def test_a_row_that_scatters_by_itself_tells_nothing_of_the_others(usual: Path) -> None:
    side = sides.load(usual)
    shaken, quiet = list(side.rows)[:2]
    wild = side.rows[shaken]
    values = {
        name: tuple(v * by for v, by in zip(each, (0.2, 1.0, 1.8), strict=True)) for name, each in wild.values.items()
    }
    other = replace(side, rows={**side.rows, shaken: replace(wild, values=values, flags=("spread",))})
    rows = {(row.network, row.batch): row for row in verdicts.compare(side, other, SAME, 0.02)}
    for name in verdicts.QUANTITIES:
        assert rows[shaken].quantities[name].scatter is None
        assert rows[quiet].quantities[name].scatter.relative < 0.01
    unflagged = replace(side, rows={**side.rows, shaken: replace(wild, values=values)})
    assert all(row.quantities["power_w"].scatter is None for row in verdicts.compare(side, unflagged, SAME, 0.02))


def test_a_table_alone_never_shows_more_than_the_trace_it_came_from(tmp_path: Path, usual: Path) -> None:
    """With its budgets beside it a table shows the same, but for what repeats and common errors tell."""
    traces = [sides.load(usual), sides.load(write(tmp_path / "second", Made(seed=2, repeats=2)))]
    traces = [replace(s, rows={key: replace(row, values={}) for key, row in s.rows.items()}) for s in traces]
    tables, whole = [], []
    for number, side in enumerate(traces):
        folder = tmp_path / f"table{number}"
        folder.mkdir()
        with TraceReader(side.path) as reader:
            outcome = reduce_run(reader)
        (folder / "results.csv").write_text(results_csv(outcome))
        tables.append(sides.load(folder))
        (folder / "budgets.json").write_text(budgets_json(outcome))
        whole.append(sides.load(folder))
    by_trace, by_table, by_budgets = (verdicts.compare(a, b, Shared(), 0.02) for a, b in (traces, tables, whole))
    for one, alone, beside in zip(by_trace, by_table, by_budgets, strict=True):
        for name in verdicts.QUANTITIES:
            p, least, same = (row.quantities[name] for row in (one, alone, beside))
            assert least.p_equivalent >= p.p_equivalent - 1e-6
            assert least.p_different >= p.p_different - 1e-6
            assert least.difference.expanded() >= p.difference.expanded() * (1 - 1e-6)
            assert same.p_equivalent == pytest.approx(p.p_equivalent, abs=1e-4)
            assert same.p_different == pytest.approx(p.p_different, abs=1e-4)
    (tmp_path / "table0" / "budgets.json").write_text("{}")
    assert sides.load(tmp_path / "table0").rows == tables[0].rows


@pytest.mark.parametrize(("share", "dof"), [(1.0, np.inf), (0.8, 2.0), (0.0, 2.0)])
def test_whatever_an_interval_of_a_table_is_of_it_proves_no_more_than_that(share: float, dof: float) -> None:
    """Limits, scatter and both: `share` of the standard uncertainty is a limit."""
    from calibration.budget import Budget, Component

    parts = (
        Component("limit", share, 1.0, "W", distribution="rectangular"),
        Component("scatter", 1.0 - share, 1.0, "W", dof, "t" if np.isfinite(dof) else "normal"),
    )
    true = Budget("power_w", 100.0, "W", parts)
    table = sides._budget("power_w", 100.0, true.expanded(), 3)
    assert table.expanded() == pytest.approx(true.expanded())
    for margin in (0.02, 0.05):
        known, alone = (_one(b, margin) for b in (true, table))
        assert alone.p_equivalent >= known.p_equivalent - 1e-6
        assert alone.p_different >= known.p_different - 1e-6


def _one(budget, margin: float) -> verdicts.Compared:
    """A row of that budget against one that is a little more."""
    near, more = (sides.Row(3, dict.fromkeys(verdicts.QUANTITIES, replace(budget, value=v))) for v in (100.0, 100.5))
    a, b = (sides.Side(Path(), True, 0.0, {}, {("n", 1): row}, {}, None) for row in (near, more))
    return verdicts._column("power_w", [("n", 1)], a, b, Shared(), margin)[0]


@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_repeats_that_are_taken_together_are_those_of_the_pooled_t_test(repeats: int) -> None:
    """Of one row where nothing but the repeats is unsure; with nearly equal means relative is absolute."""
    draw = np.random.default_rng(14 * repeats)
    a, b = (1 + 0.01 * draw.standard_normal(repeats) for _ in range(2))
    b += 0.01 - b.mean() + a.mean()

    def row(values: np.ndarray) -> sides.Row:
        u = float(values.std(ddof=1) / np.sqrt(repeats))
        part = Component("repeatability", u, 1.0, "J", repeats - 1.0, "t")
        budgets = {name: Budget(name, float(values.mean()), unit, (part,)) for name, unit in sides.QUANTITIES.items()}
        return sides.Row(repeats, budgets, dict.fromkeys(sides.QUANTITIES, tuple(values)))

    left, right = (sides.Side(Path(n), False, 0.0, {}, {("net", 1): row(v)}, {}, None) for n, v in (("a", a), ("b", b)))
    (found,) = verdicts.compare(left, right, Shared(), 0.02)
    energy, classic = found.quantities["energy_per_image_j"], ttest_ind(b, a)
    assert energy.scatter is not None
    low, high = classic.confidence_interval(0.95)
    assert energy.difference.expanded() == pytest.approx((high - low) / 2, rel=0.02)
    assert energy.p_different == pytest.approx(classic.pvalue, rel=0.02)
    upper = ttest_ind(b - 0.02 * a.mean(), a, alternative="less")
    assert energy.p_equivalent == pytest.approx(upper.pvalue, rel=0.05)
