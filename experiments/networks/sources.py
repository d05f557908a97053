"""Where a network comes from: our definitions, a factory, torchvision, timm, or a file. Python 3.6, torch 1.10.

Imports torch. What is wrong with a source is a `RefusedError` of one line.
"""

import difflib
import importlib
import inspect
import os
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch

from experiments import networks
from experiments.networks import weights as weights_of
from experiments.networks.errors import RefusedError, is_out_of_memory, one_line
from experiments.networks.specs import USUAL_SHAPE, Spec

Loaded = NamedTuple(
    "Loaded",
    [
        ("model", Any),  # a torch module in evaluation mode, on the CPU, that asks for no gradients
        ("shape", Tuple[int, ...]),  # of one input, without the batch
        ("weights", Any),  # "random", or source and sha256
        ("batch", Optional[int]),  # of an example that the file holds; it may take other batches
        ("dtype", Any),  # of the input, where a file fixes it, else None
    ],
)


def load(spec: Spec, weights: str, seed: int) -> Loaded:
    """Build or load the network of `spec` with `weights`: "random" (from `seed`), "torchvision" or a file.

    Raises `RefusedError`, and what torch raises without memory.
    """
    loaded = _SOURCES[spec.kind](spec, weights, seed)
    for parameter in loaded.model.parameters():
        parameter.requires_grad_(False)
    return loaded if spec.shape is None else loaded._replace(shape=spec.shape)


def _ours(spec: Spec, weights: str, seed: int) -> Loaded:
    network = networks.get(spec.target)
    torch.manual_seed(seed)
    model = networks.build(network.name).eval()
    shape = (3, network.input_px, network.input_px)
    twin = weights_of.TWINS.get(network.name)
    if weights == "torchvision" and twin is None:
        text = "torchvision has no weights for %s: it has none, or another network of that name (known: %s)"
        raise RefusedError("bad_request", text % (network.name, ", ".join(weights_of.TWINS)))
    return Loaded(model, shape, _fill(model, spec, weights, twin, "IMAGENET1K_V1"), None, None)


def _factory(spec: Spec, weights: str, seed: int) -> Loaded:
    module_name, _, path = spec.target.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        text = "%s: %s (looked in the agent's folder %s and on its PYTHONPATH)"
        raise RefusedError("unknown_network", text % (spec.text, error, os.getcwd())) from None
    except (Exception, SystemExit) as error:
        raise RefusedError("failed", "importing %s fails: %s" % (module_name, one_line(error))) from error
    for name in path.split("."):
        if not hasattr(found, name):
            near = difflib.get_close_matches(name, _own(found, module_name), 1, 0.5)
            hint = "; did you mean %s?" % near[0] if near else ""
            raise RefusedError("unknown_network", "%s: %s has no %s%s" % (spec.text, module_name, name, hint))
        found = getattr(found, name)
    if not callable(found):
        kind = type(found).__name__
        raise RefusedError("bad_request", "%s is of type %s: name a function that makes a network" % (spec.text, kind))
    torch.manual_seed(seed)
    model = _made(spec, found)
    return Loaded(model, USUAL_SHAPE, _fill(model, spec, weights), None, None)


def _own(holder: Any, module_name: str) -> List[str]:
    """Names of what could make a network: what is called, and comes from the same package."""
    package = module_name.partition(".")[0]
    things = ((name, getattr(holder, name, None)) for name in dir(holder) if not name.startswith("_"))
    return [
        name
        for name, thing in things
        if callable(thing) and str(getattr(thing, "__module__", "")).partition(".")[0] == package
    ]


def _torchvision(spec: Spec, weights: str, seed: int) -> Loaded:
    try:
        models: Any = importlib.import_module("torchvision.models")
    except Exception as error:  # a torchvision of another torch fails with anything but an ImportError
        raise _not_installed(spec, "torchvision", error) from None
    make = getattr(models, "get_model", None)
    if spec.target not in (models.list_models() if make else dir(models)):
        near = difflib.get_close_matches(spec.target, models.list_models() if make else dir(models), 1, 0.5)
        hint = "; did you mean %s?" % near[0] if near else ""
        raise RefusedError("unknown_network", "torchvision has no network %s%s" % (spec.target, hint))
    # These two would draw their weights from a truncated normal by a slow routine of their own.
    options: Dict[str, Any] = {"init_weights": False} if spec.target in ("googlenet", "inception_v3") else {}
    torch.manual_seed(seed)
    if make:
        if "weights_backbone" in inspect.signature(models.get_model_builder(spec.target)).parameters:
            options["weights_backbone"] = None  # else a detector's inner network is fetched, trained
        model = _made(spec, lambda: make(spec.target, weights=None, **options))
    else:
        model = _made(spec, lambda: getattr(models, spec.target)(**options))
    shape = USUAL_SHAPE
    try:
        side = models.get_model_weights(spec.target).DEFAULT.transforms().crop_size[0]
        shape = (3, side, side)
    except Exception:  # no weights, or a network of something else than single images: the usual input is tried
        pass
    return Loaded(model, shape, _fill(model, spec, weights, spec.target, "DEFAULT"), None, None)


def _timm(spec: Spec, weights: str, seed: int) -> Loaded:
    try:
        timm: Any = importlib.import_module("timm")
    except Exception as error:
        raise _not_installed(spec, "timm", error) from None
    name = spec.target.partition(".")[0]
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 1, 0.5)
        hint = "; did you mean %s?" % near[0] if near else ""
        raise RefusedError("unknown_network", "timm has no network %s%s" % (name, hint))
    torch.manual_seed(seed)
    model = _made(spec, lambda: timm.create_model(spec.target, pretrained=False))
    facts = getattr(model, "default_cfg", {})
    shape = tuple(facts["input_size"]) if "input_size" in facts else USUAL_SHAPE
    return Loaded(model, shape, _fill(model, spec, weights), None, None)


def _torchscript(spec: Spec, weights: str, seed: int) -> Loaded:
    stored = _stored_weights(spec, weights)
    try:
        model = _load_script(spec.target, map_location="cpu").eval()
    except RuntimeError as error:
        text = "%s is no TorchScript file (torch.jit.save): %s; a state_dict goes to --weights, beside its factory"
        raise RefusedError("bad_request", text % (spec.target, one_line(error).partition(". ")[0])) from None
    return Loaded(model, USUAL_SHAPE, stored, None, None)


def _export(spec: Spec, weights: str, seed: int) -> Loaded:
    stored = _stored_weights(spec, weights)
    load_file = getattr(getattr(torch, "export", None), "load", None)
    if load_file is None:
        text = "torch %s cannot load %s: torch.export came with torch 2.1"
        raise RefusedError("bad_request", text % (torch.__version__, spec.target))
    try:
        program = load_file(spec.target)
    except Exception as error:
        text = "%s is no file of torch.export.save: %s"
        raise RefusedError("bad_request", text % (spec.target, one_line(error).partition(". ")[0])) from None
    inputs = program.example_inputs[0] if program.example_inputs else ()
    if inputs and (len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor) or inputs[0].dim() < 2):
        raise RefusedError("bad_request", "%s does not take one tensor of a batch of inputs" % spec.target)
    if not inputs:
        return Loaded(program.module(), USUAL_SHAPE, stored, None, torch.float32)
    return Loaded(program.module(), tuple(inputs[0].shape[1:]), stored, inputs[0].shape[0], inputs[0].dtype)


_SOURCES = {
    "ours": _ours,
    "factory": _factory,
    "torchvision": _torchvision,
    "timm": _timm,
    "torchscript": _torchscript,
    "export": _export,
}


_load_script: Any = torch.jit.load  # without types in torch


def _made(spec: Spec, make: Any) -> Any:
    """Call what makes a network; raises `RefusedError` unless a torch module comes out."""
    try:
        model = make()
    except (MemoryError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise RefusedError("failed", "%s cannot be made: %s" % (spec.text, one_line(error))) from error
    if not isinstance(model, torch.nn.Module):
        name = type(model).__name__
        article = "an" if name[0] in "aeiouAEIOU" else "a"
        kind = "a class" if isinstance(model, type) else "%s %s" % (article, name)
        raise RefusedError("bad_request", "%s makes %s, not a torch.nn.Module" % (spec.text, kind))
    return model.eval()


def _fill(model: Any, spec: Spec, weights: str, twin: Optional[str] = None, version: str = "DEFAULT") -> Any:
    if weights == "random":
        return "random"
    if weights != "torchvision":
        return weights_of.load_file(model, spec.text, weights)
    if twin is None:
        raise RefusedError("bad_request", "torchvision has no weights for %s" % spec.text)
    return weights_of.load_torchvision(model, spec.text, twin, version)


def _stored_weights(spec: Spec, weights: str) -> Dict[str, str]:
    if weights != "random":
        raise RefusedError("bad_request", "%s holds its own weights: leave --weights out" % spec.text)
    return {"source": spec.target, "sha256": weights_of.file_sha256(spec.target)}


def _not_installed(spec: Spec, package: str, error: Exception) -> RefusedError:
    return RefusedError("unknown_network", "%s: %s cannot be imported: %s" % (spec.text, package, one_line(error)))
