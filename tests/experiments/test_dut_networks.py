"""Networks that are not ours, through the agent's process: factories, files, libraries, weights; what is refused."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import networks
from instruments.dut import Dut, DutRefusedError, Ready
from tests.onnx_files import convolution

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
SIZE = {"parameters": 4 * 28 + 5 * (4 * 36 + 1), "macs": 36 * 4 * 27 + 5 * 4 * 36, "activations": 2 * 4 * 36 + 5}
OWN = """
import torch
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return {"scores": (self.one(x) if x.sum() > 0 else self.two(x),), "name": "branching"}


def linear():
    return nn.Linear(4, 3)


def infinite():
    model = nn.Linear(4, 3)
    nn.init.constant_(model.weight, float("inf"))
    return model


def broken():
    raise ValueError("no luck today\\nand more")


def leaves():
    raise SystemExit(3)


number = 3
listed = lambda: [1, 2]
untaught = lambda: make
counted = lambda: 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board's folder: a module of one's own, and files of it in every form."""
    folder = tmp_path_factory.mktemp("board")
    (folder / "own.py").write_text(OWN)
    (folder / "bad_import.py").write_text("import no_such_thing\n")
    sys.path.insert(0, str(folder))
    try:
        import own  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(folder))
    torch.manual_seed(1)
    model = own.make().eval()
    images = torch.randn(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, images), str(folder / "net.pt"))
        torch.export.save(torch.export.export(model, (images,)), folder / "two.pt2")
        free = ({0: torch.export.Dim("batch", min=1, max=64)},)
        torch.export.save(torch.export.export(model, (images,), dynamic_shapes=free), folder / "any.pt2")
    torch.save(model, folder / "pickled.pt")
    (folder / "junk.pt").write_text("junk")
    (folder / "junk.pt2").write_text("junk")
    torch.save(model.state_dict(), folder / "own.pth")
    torch.save(
        {"epoch": 3, "state_dict": {"module." + k: v for k, v in model.state_dict().items()}}, folder / "ckpt.pth"
    )
    torch.save({"0.weight": torch.zeros(4, 3, 5, 5), "0.bias": torch.zeros(4), "x": torch.zeros(1)}, folder / "off.pth")
    torch.save([1, 2], folder / "list.pth")
    return folder


@pytest.fixture(scope="module")
def dut(folder: Path) -> Iterator[Dut]:
    """The agent, started in that folder; what it imports of this project is on its path."""
    code = f"import os, sys; os.chdir({str(folder)!r}); from experiments import dut_agent; sys.exit(dut_agent.main([]))"
    with Dut.start([sys.executable, "-P", "-c", code], {"PYTHONPATH": str(ROOT)}) as dut:
        yield dut


def run(dut: Dut, network: str, batch: int = 2, **how: Any) -> Ready:
    """Prepare and run three batches on the CPU."""
    ready = dut.prepare(network, batch, run_s=0.01, warmup_s=0.02, **{"device": "cpu", **how})
    dut.go("r", 3)
    assert dut.wait_done(100).images == 3 * batch
    return ready


def refused(dut: Dut, network: str, batch: int = 2, **how: Any) -> tuple[str, str]:
    """Prepare what cannot be run; returns the code and what is said, and sees that the agent works on."""
    with pytest.raises(DutRefusedError) as error:
        dut.prepare(network, batch, run_s=0.01, warmup_s=0.02, **{"device": "cpu", **how})
    assert dut.prepare("busy:1", 1, warmup_s=0).batches > 0
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 700
    return error.value.code, said


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_factory_in_the_agents_folder(dut: Dut) -> None:
    ready = run(dut, "own:make@3x8x8", 5)
    assert (ready.network, ready.device, ready.weights) == ("own:make@3x8x8", "cpu", "random")
    assert ready.size == {**SIZE, "operations": 2 * SIZE["macs"]}  # and nothing by the paper's rule
    assert ready.facts["input"] == [3, 8, 8]


def test_outputs_may_be_nested_and_control_flow_be_python(dut: Dut) -> None:
    ready = run(dut, "own:Branching@4")
    assert ready.size is not None
    assert ready.size["macs"] == 12


@pytest.mark.parametrize("name", ["net.pt@3x8x8", "two.pt2", "any.pt2"])
def test_a_files_network(dut: Dut, folder: Path, name: str) -> None:
    ready = run(dut, name)
    path = name.partition("@")[0]
    assert ready.weights == {"source": path, "sha256": sha256(folder / path)}
    assert ready.facts["input"] == [3, 8, 8]
    counted = {"macs": SIZE["macs"], "operations": 2 * SIZE["macs"]} if path.endswith(".pt2") else {}
    assert ready.size == {"parameters": SIZE["parameters"], **counted}  # no more is seen of a script


def test_an_exported_batch_may_be_fixed_or_free(dut: Dut) -> None:
    assert run(dut, "any.pt2", 7).batch == 7
    code, said = refused(dut, "two.pt2", 3)
    assert code == "failed"
    assert "exported with batches of 2" in said


def test_a_network_of_ours_on_another_input(dut: Dut) -> None:
    ready = run(dut, "enet@3x256x256", 1)
    assert ready.network == "ENet@3x256x256"
    assert ready.size is not None
    assert ready.size["macs"] > networks.size("ENet")["macs"]
    assert ready.size["operations_opcounter2016"] > ready.size["operations"] == 2 * ready.size["macs"]
    assert "1x3x64x64" in refused(dut, "ENet@3x64x64")[1]


@pytest.mark.parametrize(
    ("network", "code", "said"),
    [
        ("own:mak@3x8x8", "unknown_network", "own has no mak; did you mean make?"),
        ("nowhere:make", "unknown_network", "No module named 'nowhere' (looked in the agent's folder /"),
        ("bad_import:make", "unknown_network", "No module named 'no_such_thing'"),
        ("own:number", "bad_request", "at batch 2: it is of type int: name a function that makes a network"),
        ("own:listed", "bad_request", "it makes a list, not a torch.nn.Module"),
        ("own:counted", "bad_request", "it makes an int, not a torch.nn.Module"),
        ("own:untaught", "bad_request", "it makes a function, not a torch.nn.Module"),
        ("own:broken", "failed", "'own:broken' at batch 2: it cannot be made: ValueError: no luck today"),
        ("own:leaves", "failed", "it cannot be made: SystemExit: 3"),
        ("own:infinite@4", "failed", "it gives numbers that are not finite"),
        ("own:make@3x9x9", "failed", "does not run on an input of 1x3x9x9: mat1 and mat2 shapes"),
        ("own:make", "failed", "(its input's size is written after it, as @3x32x32)"),
        ("net.pt", "failed", "does not run on an input of 1x3x224x224: RuntimeError: mat1 and mat2 shapes"),
        ("nothing.pt", "bad_request", "it cannot be read on the device: No such file"),
        ("junk.pt", "bad_request", "it is no TorchScript file"),
        ("pickled.pt", "bad_request", "it is no TorchScript file"),
        ("junk.pt2", "bad_request", "it is no file of torch.export.save"),
        ("LeNet", "unknown_network", "unknown network 'LeNet'"),
        ("a/b", "unknown_network", "is none of: a network's name"),
    ],
)
def test_what_is_no_network_is_refused_in_a_line(dut: Dut, network: str, code: str, said: str) -> None:
    found, text = refused(dut, network)
    assert found == code
    assert said in text
    assert text.count(f"{network} ") == text.count(f"{network}: ") == 0  # named once, where it is quoted


def test_what_a_factorys_file_imports_is_not_proposed(dut: Dut) -> None:
    _, text = refused(dut, "own:torc@3x8x8")
    assert "own has no torc" in text
    assert "did you mean" not in text


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("name", ["own.pth", "ckpt.pth"])
def test_weights_from_a_file(dut: Dut, folder: Path, name: str) -> None:
    ready = run(dut, "own:make@3x8x8", weights=name)
    assert ready.weights == {"source": name, "sha256": sha256(folder / name)}


def test_a_changed_file_is_loaded_again(dut: Dut, folder: Path) -> None:
    path = folder / "changing.pth"
    cached, seen = [], []
    for value in (0.5, 0.5, 0.25):
        if value not in seen:
            torch.save({"weight": torch.full((3, 4), value), "bias": torch.zeros(3)}, path)
        seen.append(value)
        ready = run(dut, "own:linear@4", weights=str(path))
        assert ready.weights == {"source": str(path), "sha256": sha256(path)}
        cached.append(ready.facts["cached"])
    assert cached == [False, True, False]


@pytest.mark.parametrize(
    ("network", "weights", "said"),
    [
        ("own:make@3x8x8", "off.pth", "missing: 3.weight, 3.bias; not in the network: x; of another shape: 0.weight"),
        ("own:make@3x8x8", "off.pth", "0.weight is 4x3x5x5 and 4x3x3x3 is needed"),
        ("own:make@3x8x8", "pickled.pt", "pickled.pt holds more than numbers"),
        ("own:make@3x8x8", "list.pth", "list.pth holds no state_dict"),
        ("own:make@3x8x8", "junk.pt", "junk.pt"),
        ("own:make@3x8x8", "none.pth", "none.pth cannot be read on the device: No such file"),
        ("own:make@3x8x8", "torchvision", "torchvision has no weights for own:make"),
        ("AlexNet", "torchvision", "torchvision has no weights for AlexNet"),
        ("net.pt@3x8x8", "own.pth", "it holds its own weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_a_line(dut: Dut, network: str, weights: str, said: str) -> None:
    code, text = refused(dut, network, weights=weights)
    assert code == "bad_request"
    assert said in text


def test_weights_are_really_loaded(folder: Path) -> None:
    from experiments.networks import sources, specs

    where = str(folder)
    sys.path.insert(0, where)
    try:
        loaded = sources.load(specs.parse("own:make@3x8x8"), str(folder / "own.pth"), seed=5)
    finally:
        sys.path.remove(where)
    wanted = torch.load(folder / "own.pth", weights_only=True)
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.model.state_dict().items())


def test_torchvisions_names_fit_its_twins_and_only_in_its_order() -> None:
    from experiments.networks import weights
    from experiments.networks.errors import RefusedError

    donor, model = networks.build("ResNet-18"), networks.build("ResNet-18")
    theirs = {f"layer{index}.{key.rpartition('.')[2]}": v for index, (key, v) in enumerate(donor.state_dict().items())}
    weights.fit(model, "ResNet-18", theirs, "a file")
    values = zip(donor.state_dict().items(), model.state_dict().values(), strict=True)
    assert all(torch.equal(ours, given) for (key, ours), given in values if not key.endswith("num_batches_tracked"))
    with pytest.raises(RefusedError, match=r"missing: 0\.weight, 1\.weight, 1\.bias and \d+ more"):
        weights.fit(model, "ResNet-18", dict(reversed(theirs.items())), "a file")
    with pytest.raises(RefusedError, match="do not fit own:make"):
        weights.fit(model, "own:make", theirs, "a file")


# -------------------------------------------------------------------------------- libraries, where they are


def test_libraries_that_the_board_lacks() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torchvision', 'torchvision.models', 'timm', 'onnxruntime']))\n"
        "from experiments import dut_agent; sys.exit(dut_agent.main([]))"
    )
    with Dut.start([sys.executable, "-P", "-c", code], {"PYTHONPATH": str(ROOT)}) as dut:
        for network, library in [
            ("torchvision:resnet18", "torchvision"),
            ("timm:resnet18", "timm"),
            ("a.onnx", "onnxruntime"),
        ]:
            found, said = refused(dut, network)
            assert found == "unknown_network"
            assert f"{library} cannot be imported" in said
        assert "torchvision cannot be imported" in refused(dut, "ResNet-18", weights="torchvision")[1]


def test_no_torch_at_all() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom experiments import dut_agent; sys.exit(dut_agent.main([]))"
    with Dut.start([sys.executable, "-P", "-c", code], {"PYTHONPATH": str(ROOT)}) as dut:
        assert "torch cannot be imported on the DUT" in refused(dut, "AlexNet")[1]


# --------------------------------------------------------------------------------------------------- ONNX


@pytest.fixture(scope="module")
def onnx(folder: Path) -> Path:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install joulebench[onnx]")
    convolution(folder / "free.onnx")
    convolution(folder / "two.onnx", 2)
    convolution(folder / "infinite.onnx", weight=float("inf"))
    convolution(folder / "pair.onnx", second_input=True)
    (folder / "junk.onnx").write_text("junk")
    return folder


def test_an_onnx_file(dut: Dut, onnx: Path) -> None:
    ready = run(dut, "free.onnx", 5, threads=1)
    assert (ready.device, ready.threads, ready.size, ready.mode) == ("cpu", 1, None, None)
    assert ready.weights == {"source": "free.onnx", "sha256": sha256(onnx / "free.onnx")}
    assert ready.facts["input"] == [3, 8, 8]
    assert run(dut, "two.onnx", 2).batch == 2


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("two.onnx", "it was exported for batches of 2, not 3"),
        ("free.onnx@3x9x9", "it does not run on an input of 3x3x9x9"),
        ("infinite.onnx", "not finite"),
        ("pair.onnx", "takes 2 inputs (images, mask), not one"),
        ("junk.onnx", "it cannot be loaded by onnxruntime"),
        ("nothing.onnx", "it cannot be read on the device"),
    ],
)
def test_an_onnx_file_that_cannot_be_run(dut: Dut, onnx: Path, network: str, said: str) -> None:
    assert said in refused(dut, network, 3)[1]


def test_an_onnx_file_takes_no_mode_and_no_missing_gpu(dut: Dut, onnx: Path) -> None:
    import onnxruntime

    from instruments.dut_protocol import Mode

    assert "run as it was exported" in refused(dut, "free.onnx", mode=Mode("fp16"))[1]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "has no CUDA" in refused(dut, "free.onnx", device="cuda")[1]
