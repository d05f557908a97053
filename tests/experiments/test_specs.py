"""What `--networks` accepts: each form, what is wrong with a text of none, and nothing else that gets through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.networks import SETS
from experiments.networks.errors import SpecError
from experiments.networks.specs import MAX_CHARACTERS, Spec, parse, parse_list
from tests.sweeps import lab_file, run

ROOT = Path(__file__).resolve().parents[2]
_RUN = "./run -n 'a b' y.pt@3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet-18", Spec("ResNet-18", "ours", "ResNet-18", None)),
        (" VGG-16@3x224x224 ", Spec("VGG-16@3x224x224", "ours", "VGG-16", (3, 224, 224))),
        ("BUSY:2.5", Spec("busy:2.5", "busy", "2.5", None)),
        ("nets.mine:make.small", Spec("nets.mine:make.small", "factory", "nets.mine:make.small", None)),
        ("mine:make@1x28x028", Spec("mine:make@1x28x28", "factory", "mine:make", (1, 28, 28))),
        ("mine:make@16000", Spec("mine:make@16000", "factory", "mine:make", (16000,))),
        ("TorchVision:resnet18", Spec("torchvision:resnet18", "torchvision", "resnet18", None)),
        ("timm:vit_tiny.augreg", Spec("timm:vit_tiny.augreg", "timm", "vit_tiny.augreg", None)),
        ("/a/b c.pt", Spec("/a/b c.pt", "torchscript", "/a/b c.pt", None)),
        ("Net.TorchScript", Spec("Net.TorchScript", "torchscript", "Net.TorchScript", None)),
        ("net.pt2@3x8x8", Spec("net.pt2@3x8x8", "export", "net.pt2", (3, 8, 8))),
        ("../net.onnx", Spec("../net.onnx", "onnx", "../net.onnx", None)),
        (f"command: {_RUN} ", Spec("command:" + _RUN, "command", _RUN, None)),
    ],
)  # fmt: skip
def test_each_form(text: str, expected: Spec) -> None:
    assert parse(text) == expected
    assert parse(expected.text) == expected  # as it is stored and told to the device


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("AlexNt", r"unknown network 'AlexNt'; did you mean AlexNet\? \(known: .*busy:MILLISECONDS"),
        ("busy:", "write busy:MILLISECONDS, above 0 and up to 60000"),
        ("busy:0", "above 0"),
        ("busy:nan", "above 0"),
        ("busy:60001", "up to 60000"),
        ("command:", "names no program"),
        ("torchvision:", "write torchvision:NAME"),
        ("timm:a b", "write timm:NAME"),
        ("weights.pth", "a file of weights goes to --weights"),
        ("nets/mine.py:make", "write it as its module is imported"),
        ("mine.py", "write it as its module is imported"),
        ("http://x/y", "is none of: a network's name"),
        ("a:b:c", "is none of"),
        ("net.onnx@3x0x3", "an input has 1 to"),
        ("net.onnx@3x", "is written as CxHxW"),
        ("net.onnx@", "is written as CxHxW"),
        ("net.onnx@99999x99999x3", "an input has 1 to"),
        ("a\nb", "cannot be printed"),
        ("x" * (MAX_CHARACTERS + 1), f"longer than the {MAX_CHARACTERS} characters"),
    ],
)
def test_what_has_no_form_is_told_in_one_line(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as error:
        parse(text)
    assert "\n" not in str(error.value)


@given(st.text(max_size=40) | st.from_regex(r"[a-z.:/@x0-9]{1,30}", fullmatch=True))
def test_any_text_is_a_spec_that_reads_the_same_again_or_an_error(text: str) -> None:
    try:
        spec = parse(text)
    except SpecError:
        return
    assert parse(spec.text) == spec
    assert spec.text == spec.text.strip()


def test_lists() -> None:
    assert [spec.text for spec in parse_list(" Paper ,busy:3,, enet")] == [*SETS["paper"], "busy:3", "ENet"]
    assert parse_list(" , ") == []


@pytest.mark.parametrize(
    "options",
    [
        ["--networks", "AlexNet,LeNet"],
        ["--networks", "weights.pth"],
        ["--batches", "0,1"],
        ["--threads", "-1"],
        ["--dtype", "fp8"],
        ["--device", "tpu"],
        ["--device", "cpu", "--cuda-graphs"],
        ["--weights", " "],
    ],
)
def test_a_sweep_refuses_them_before_any_instrument_is_opened(tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "experiments.power_sweep", "--out", str(out), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    assert "error: " in done.stderr.splitlines()[-1]
    assert not out.exists()


def test_options_win_over_the_lab_file(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, ("  threads: 0 ", "  device: cpu\n  threads: 3 "))
    dry = ["--lab", lab, "--dry-run", "--networks", "busy:1", "--batches", "1", "--repeats", "1"]
    assert "device cpu, fp32, threads: 3, weights: random" in run("experiments.power_sweep", *dry).stdout
    asked = ["--device", "auto", "--threads", "0", "--dtype", "fp16", "--compile", "--weights", "w.pth"]
    shown = run("experiments.power_sweep", *dry, *asked).stdout
    assert "device auto, fp16 compile, threads as the library chooses, weights: w.pth" in shown
    wrong = run(
        "experiments.power_sweep", "--dry-run", "--lab", lab_file(tmp_path, ("  threads: 0 ", "  device: tpu "))
    )
    assert wrong.returncode == 2
    assert "dut.device" in wrong.stderr
