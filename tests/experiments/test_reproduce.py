"""A report's "how to reproduce": the command that it gives makes the same plan, and the same results, again."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest

from experiments.plan import Method, Plan
from experiments.report.provenance import sweep_words
from experiments.sweep_options import parser, plan_of
from instruments import lab as lab_yaml
from tests.sweeps import run, run_afresh, virtual_lab_file
from tests.worlds import LAB

OPTIONS = [
    "",
    "--networks busy:4,torchvision:resnet18 --batches 8,1 --repeats 7 --seed 12345678901",
    "--window 0.123456789",
    "--window 1e2 --gain-check",
    "--mode long --long-s 71.0000001 --long-batch consecutive",
    "--mode long --window 0.5",
    "--long-batch steady --target-u 0.3000001 --max-repeats 12 --repeats 2",
    "--device cuda --dtype fp16 --channels-last --cuda-graphs",
    "--device cpu --threads 3 --compile --weights '/a folder/state.pt'",
    "--networks \"command:/opt/my program --fast 'a b',AlexNet\"",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_that_makes_a_plan_is_in_the_command(options: str) -> None:
    lab = lab_yaml.parse(LAB.read_text())
    plan = plan_of(parser().parse_args(shlex.split(options)), lab)
    words = sweep_words(plan)
    assert words[:3] == ["python", "-m", "experiments.power_sweep"]
    assert plan_of(parser().parse_args(words[3:]), lab) == plan
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_of_an_earlier_program_has_no_gain_check() -> None:
    lab = lab_yaml.parse(LAB.read_text())
    text = plan_of(parser().parse_args([]), lab).to_json()
    earlier = text.replace(', "gain_check": false', "")
    assert earlier != text
    assert Plan.from_json(earlier).method == Method()


def test_the_command_of_a_report_gives_the_same_results(tmp_path: Path) -> None:
    lab = virtual_lab_file(tmp_path)
    first = ["--networks", "AlexNet", "--batches", "4", "--repeats", "1", "--window", "0.5", "--gain-check"]
    done = run("experiments.power_sweep", "--lab", lab, *first, "--out", tmp_path / "first")
    assert done.returncode == 0, done.stderr
    assert "running gain check" in done.stderr + done.stdout
    page = (tmp_path / "first/report.html").read_text()
    (command,) = re.findall(r"<pre>(python -m experiments\.power_sweep .*?)</pre>", page)
    words = shlex.split(html.unescape(command))
    again = [str(lab) if word == "lab.yaml" else word for word in words[3:]]
    done = run_afresh("experiments.power_sweep", *again, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    first_csv, again_csv = ((tmp_path / name / "results.csv").read_bytes() for name in ("first", "again"))
    assert again_csv == first_csv
    assert b"true_energy" in first_csv
