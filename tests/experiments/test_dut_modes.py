"""Modes of a network on the board: number types, layouts, compiling, CUDA graphs, threads; and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instruments.dut import Dut, DutRefusedError, Ready
from instruments.dut_protocol import Mode

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
OWN = """
import torch
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 3)

    def forward(self, x):
        return self.one(x) if x.sum() > 0 else -self.one(x)


class Untraceable(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x


class Watching(nn.Module):
    '''Says in its output what it was given.'''

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        facts = (x.dtype, x.is_contiguous(memory_format=torch.channels_last), self.conv.weight.dtype)
        assert facts == (torch.bfloat16, True, torch.bfloat16), facts
        return self.conv(x)


def huge():
    model = nn.Linear(64, 3)
    nn.init.constant_(model.weight, 6e4)
    return model


def norm():
    return nn.LocalResponseNorm(3)
"""


@pytest.fixture(scope="module")
def dut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dut]:
    folder = tmp_path_factory.mktemp("board")
    (folder / "own.py").write_text(OWN)
    with Dut.start([sys.executable, "-m", "experiments.dut_agent"], {"PYTHONPATH": f"{ROOT}:{folder}"}) as dut:
        yield dut


def run(dut: Dut, network: str, mode: Mode, batch: int = 2, **how: Any) -> Ready:
    ready = dut.prepare(network, batch, mode=mode, run_s=0.01, warmup_s=0.02, device="cpu", **how)
    dut.go("r", 3)
    assert dut.wait_done(100).images == 3 * batch
    assert ready.mode == mode
    return ready


def refused(dut: Dut, network: str, mode: Mode, **how: Any) -> str:
    with pytest.raises(DutRefusedError) as error:
        dut.prepare(network, 2, mode=mode, run_s=0.01, warmup_s=0.02, **{"device": "cpu", **how})
    assert dut.prepare("busy:1", 1, warmup_s=0).batches > 0
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("mode", [Mode(), Mode("bf16"), Mode(channels_last=True), Mode("bf16", channels_last=True)])
def test_number_types_and_layouts(dut: Dut, mode: Mode) -> None:
    assert run(dut, "own:make@3x8x8", mode).facts["cached"] is False
    assert run(dut, "own:make@3x8x8", mode, batch=3).facts["cached"] is True


def test_the_network_really_gets_what_the_mode_says(dut: Dut) -> None:
    run(dut, "own:Watching@3x8x8", Mode("bf16", channels_last=True))
    assert "AssertionError: (torch.float32, False, torch.float32)" in refused(dut, "own:Watching@3x8x8", Mode())


def test_int8_quantises_all_or_the_linear_layers_or_says_that_it_cannot(dut: Dut) -> None:
    assert run(dut, "own:make@3x8x8", Mode("int8")).facts["quantised"].startswith("static, ")
    assert run(dut, "own:Branching@4", Mode("int8")).facts["quantised"].startswith("dynamic, linear layers only")
    assert "'own:Untraceable@4' at batch 2: it cannot run in int8: " in refused(dut, "own:Untraceable@4", Mode("int8"))
    assert "torch can quantise" in refused(dut, "own:norm@3x8x8", Mode("int8"))
    assert "not compiled" in refused(dut, "own:make@3x8x8", Mode("int8", compile=True))


def test_fp16_that_the_processor_or_the_range_does_not_allow(dut: Dut) -> None:
    run(dut, "own:make@3x8x8", Mode("fp16"))
    assert "does not run in fp16" in refused(dut, "own:norm@3x8x8", Mode("fp16"))
    assert "fp16 ends at 65504" in refused(dut, "own:huge@64", Mode("fp16"))
    run(dut, "own:huge@64", Mode("bf16"))


def test_what_a_cpu_has_not(dut: Dut) -> None:
    said = refused(dut, "own:make@3x8x8", Mode(cuda_graphs=True))
    assert "cannot run in mode fp32 cuda_graphs: CUDA graphs need a CUDA device, and this is cpu" in said
    assert "channels_last is for inputs of CxHxW" in refused(dut, "own:Branching@4", Mode(channels_last=True))
    if not torch.cuda.is_available():
        assert "finds no CUDA device" in refused(dut, "own:make@3x8x8", Mode(), device="cuda")


def test_compiling_is_over_before_the_warm_up(dut: Dut) -> None:
    ready = run(dut, "own:huge@64", Mode(compile=True))
    assert ready.warmup_s < 1 < ready.facts["load_s"]


def test_what_does_not_compile_is_refused(dut: Dut, tmp_path: Path) -> None:
    code = (
        "import torch, sys\n"
        "def compile(model, **options):\n"
        "    def run(images): raise RuntimeError('no compiler\\nhere')\n"
        "    return run\n"
        "torch.compile = compile\n"
        "from experiments import dut_agent; sys.exit(dut_agent.main([]))"
    )
    with Dut.start([sys.executable, "-P", "-c", code], {"PYTHONPATH": str(ROOT)}) as other:
        said = refused(other, "torch.nn:Identity@4", Mode(compile=True))
    assert (
        "'torch.nn:Identity@4' at batch 2: it does not run with torch.compile on an input of 2x4: no compiler" in said
    )


def test_threads(dut: Dut) -> None:
    assert run(dut, "own:make@3x8x8", Mode(), threads=1).threads == 1
    assert run(dut, "own:make@3x8x8", Mode(), threads=0).threads == torch.get_num_threads()


# ------------------------------------------------------------------------------ a GPU that is not there
#
# What torch does on a GPU cannot be seen here. What can: in which order the runner asks for it.

FAKE_GPU = """
import sys, torch
from experiments import dut_torch
from experiments.networks.specs import parse
from instruments.dut_protocol import Mode

calls = []


class Stream:
    def __init__(self): calls.append('stream')
    def wait_stream(self, other): calls.append('wait')
    def __enter__(self): calls.append('aside'); return self
    def __exit__(self, *_): calls.append('back')


class Graph:
    def replay(self): calls.append('replay')


class Capture(Stream):
    def __init__(self, graph): pass
    def __enter__(self): calls.append('capture')
    def __exit__(self, *_): calls.append('captured')


class Model(torch.nn.Module):
    def forward(self, x):
        calls.append('run')
        return x


torch.cuda.synchronize = lambda: calls.append('sync')
torch.cuda.reset_peak_memory_stats = lambda: None
torch.cuda.Stream = torch.cuda.current_stream = Stream
torch.cuda.stream = lambda stream: stream
torch.cuda.CUDAGraph, torch.cuda.graph = Graph, Capture
dut_torch.inputs = lambda *_: torch.zeros(2, 4)
loaded = dut_torch.LoadedModel(Model(), (4,), 'random', {}, 0, torch.float32, None, None)
runner = dut_torch.TorchRunner(parse('torch.nn:Identity@4'), 2, 0, loaded, Mode(cuda_graphs=GRAPHS), 'cuda', False)
print(' '.join(calls))
calls.clear()
with runner.session():
    calls.append('up')
    for _ in range(2):
        runner.run()
        calls.append('edge')
    calls.append('down')
print(' '.join(calls))
"""


@pytest.mark.parametrize("graphs", [False, True])
def test_each_edge_comes_after_the_device_is_done(graphs: bool) -> None:
    import subprocess

    code = FAKE_GPU.replace("GRAPHS", str(graphs))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 0, done.stderr
    made, ran = (line.split() for line in done.stdout.splitlines())
    work = "replay" if graphs else "run"
    assert ran == ["sync", "up", work, "sync", "edge", work, "sync", "edge", "down"]
    assert made[:3] == ["sync", "run", "sync"]
    if graphs:
        aside = made.index("aside")
        assert made[aside : aside + 5] == ["aside", "run", "run", "run", "back"]
        assert made[-5:] == ["capture", "run", "captured", "replay", "sync"]
        assert made[aside - 1] == "wait" == made[aside + 6]
