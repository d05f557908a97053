"""Say what networks hold and cost, and their cited accuracies.

Without a SPEC the paper's 14, which needs no torch; a network of one's own is counted by running it once. Exit code
2 where a SPEC names none.
"""

import argparse
import importlib
import json
from typing import Any, Dict, List, Optional

from experiments import networks
from experiments.command import leave, run, say

_COUNTS = ("parameters", "macs", "operations", "operations_opcounter2016", "activations")
Row = Dict[str, Any]


def main(arguments: Optional[List[str]] = None) -> int:
    """Print a table, or a JSON list of objects in which what is unknown is null."""
    parser = argparse.ArgumentParser(prog="python -m experiments.networks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("specs", nargs="*", metavar="SPEC", help="as for --networks of power_sweep (default: paper)")
    parser.add_argument(
        "--all", action="store_true", help="list torchvision's and timm's networks too, where installed"
    )
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    options = parser.parse_args(arguments)
    return run(lambda: _show(options.specs or ["paper"], options.all, options.json))


def _show(asked: List[str], everything: bool, as_json: bool) -> int:
    from experiments.networks import specs
    from experiments.networks.errors import RefusedError, SpecError
    from instruments.errors import ConfigError

    try:
        rows = [_row(spec) for spec in specs.parse_list(",".join(asked))]
    except (SpecError, RefusedError) as error:
        raise ConfigError(str(error)) from error
    if everything:
        rows += torchvision_rows() + timm_rows()
    if as_json:
        say(json.dumps(rows, indent=2))
        return 0
    form = "%-*s %9s %12s %9s %9s %11s %9s %7s"
    width = max([13] + [len(row["name"]) for row in rows])
    header = ("network", "input", "parameters", "GMAC", "G-Ops", "opcounter16", "M-acts", "top-1")
    lines = [form % ((width,) + header)]
    for row in rows:
        figures = [_scaled(row["macs"], 1e-9, 4), _scaled(row["operations"], 1e-9, 4)]
        figures += [_scaled(row["operations_opcounter2016"], 1e-9, 3), _scaled(row["activations"], 1e-6, 2)]
        known = [row["name"], _scaled(row["input"]), _scaled(row["parameters"]), *figures, _scaled(row["top1"], 1, 2)]
        lines.append(form % ((width,) + tuple(known)))
    lines.append("G-Ops: 2 a MAC; opcounter16: by the rule of the paper's own counter, bias, ReLU and pooling too;")
    lines.append("M-acts: millions of numbers that layers write. Per image; what is not known is blank.")
    lines.append("top-1 [%] is cited, not measured: --json gives each source.")
    lines += ["%s: %s" % (row["name"], note) for row in rows for note in row["notes"]]
    lines += ["%s: %s" % noted for noted in networks.notes(row["name"] for row in rows) if noted[0] in networks.SETS]
    say("\n".join(lines))
    return 0


def _scaled(value: Any, factor: float = 1, digits: int = 0) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return "%.*f" % (digits, value * factor)


def _blank(name: str) -> Row:
    row: Row = {"name": name, "input": None}
    row.update((key, None) for key in _COUNTS)
    row.update(top1=None, top1_source=None, notes=[])
    return row


def _row(spec: Any) -> Row:
    """Return what is known of one network; one that is not ours is loaded, and counted by running it."""
    row = _blank(spec.text)
    if spec.kind in ("busy", "command", "onnx"):
        row["notes"] = ["what it holds and costs is known to itself only"]
        return row
    if spec.kind == "ours":
        network = networks.get(spec.target)
        row.update(notes=list(network.notes))
        if spec.shape is None:  # the accuracy is that of the usual input
            row.update(top1=network.top1, top1_source="%s [%s]" % (network.top1_source, network.top1_flag))
            row.update(input=network.input_px, **networks.size(network.name))
            return row
    torch = importlib.import_module("torch")
    from experiments.networks import counting, sources

    loaded = sources.load(spec, "random", 0)
    images = torch.zeros((loaded.batch or 1,) + loaded.shape, dtype=loaded.dtype or torch.float32)
    row.update(counting.size_of(spec, loaded.model, images))
    row.update(input=_input(loaded.shape))
    return row


def _input(shape: Any) -> Any:
    square = len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2]
    return shape[1] if square else "x".join(map(str, shape))


def torchvision_rows() -> List[Row]:
    """Return torchvision's classifiers with what it says of them; none where it cannot be imported."""
    try:
        models: Any = importlib.import_module("torchvision.models")
        names = models.list_models(module=models)
    except Exception:  # without it, with one of another torch, or one from before torch 1.13
        return []
    rows = []
    for name in names:
        weights = models.get_model_weights(name).DEFAULT
        top1 = weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
        if top1 is None:
            continue
        row = _blank("torchvision:" + name)
        row.update(top1=top1, top1_source="torchvision %s" % weights, parameters=weights.meta.get("num_params"))
        if weights.meta.get("_ops"):
            macs = round(weights.meta["_ops"] * 1e9)  # it says GFLOPS and means multiply-accumulates
            row.update(macs=macs, operations=2 * macs)
        row.update(input=weights.transforms().crop_size[0])
        rows.append(row)
    return rows


def timm_rows() -> List[Row]:
    """Return the names of timm's networks; none where it cannot be imported."""
    try:
        timm: Any = importlib.import_module("timm")
    except Exception:
        return []
    return [_blank("timm:" + name) for name in timm.list_models()]


if __name__ == "__main__":
    leave(main())
