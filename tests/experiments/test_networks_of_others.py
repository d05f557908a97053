"""Our definitions against torchvision's and timm's, weights copied; skipped where neither can be imported."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from experiments import networks

torch = pytest.importorskip("torch")

from experiments.networks import weights  # noqa: E402


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # one that was built for another torch fails with anything but an ImportError
        pytest.skip(f"{name} cannot be imported, so nothing is compared with it: {str(error).splitlines()[0]}")


def _outputs(ours: Any, theirs: Any, pixels: int) -> tuple[Any, Any]:
    images = torch.randn(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return ours(images), theirs(images)


@pytest.mark.parametrize("name", weights.TWINS)
def test_the_same_weights_give_torchvisions_outputs(name: str) -> None:
    models = _library("torchvision.models")
    options = {"init_weights": False} if name == "Inception-v3" else {}
    theirs = models.get_model(weights.TWINS[name], weights=None, **options).eval()
    ours = networks.build(name).eval()
    weights.fit(ours, name, theirs.state_dict(), "torchvision's")
    a, b = _outputs(ours, theirs, networks.get(name).input_px)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_the_same_weights_give_timms_inception_v4() -> None:
    timm = _library("timm")
    theirs = timm.create_model("inception_v4", pretrained=False).eval()
    ours = networks.build("Inception-v4").eval()
    keys = [key for key in ours.state_dict() if not key.endswith("num_batches_tracked")]
    values = [value for key, value in theirs.state_dict().items() if not key.endswith("num_batches_tracked")]
    ours.load_state_dict(dict(zip(keys, values, strict=True)), strict=False)
    a, b = _outputs(ours, theirs, 299)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("name", ["ResNet-18", "torchvision:resnet18"])
def test_torchvisions_weights_are_taken_from_torchs_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = _library("torchvision.models")
    from experiments.networks import sources, specs

    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    theirs = models.get_model("resnet18", weights=None).eval()
    chosen = models.ResNet18_Weights.IMAGENET1K_V1
    torch.save(theirs.state_dict(), cache / chosen.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    loaded = sources.load(specs.parse(name), "torchvision", 1)
    assert loaded.weights == {
        "source": "torchvision ResNet18_Weights.IMAGENET1K_V1",
        "sha256": weights.state_sha256(theirs.state_dict()),
    }
    a, b = _outputs(loaded.model, theirs, 224)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:inception_v3", "timm:resnet18"])
def test_networks_of_libraries_are_found_by_name(name: str) -> None:
    library, _, model = name.partition(":")
    _library(library)
    from experiments.networks import sources, specs

    loaded = sources.load(specs.parse(name), "random", 1)
    assert loaded.shape == ((3, 299, 299) if model == "inception_v3" else (3, 224, 224))
    with torch.inference_mode():
        assert loaded.model(torch.zeros(2, *loaded.shape)).shape == (2, 1000)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_all_lists_the_networks_of_libraries(library: str) -> None:
    _library(library)
    from experiments.networks import __main__ as listing

    rows = listing.torchvision_rows() if library == "torchvision" else listing.timm_rows()
    by_name = {row["name"]: row for row in rows}
    row = by_name[f"{library}:resnet50"]
    if library == "torchvision":
        assert row["parameters"] == networks.size("ResNet-50")["parameters"]
        assert row["macs"] == pytest.approx(networks.size("ResNet-50")["macs"], rel=0.01)
