"""Trained weights for a network: from a file or from torchvision, loaded as data only. Python 3.6, torch 1.10.

A file is what ``torch.save(model.state_dict(), FILE)`` writes. It is read with ``weights_only``, so that nothing
in it runs, and every name and shape must be the network's own.
"""

import hashlib
import importlib
import os
import pickle
from typing import Any, Dict, List, Optional

from experiments.networks.errors import RefusedError, one_line

# Networks of ours that torchvision builds alike, layer by layer in the same order: its weights fit them.
TWINS = {
    "ResNet-18": "resnet18",
    "ResNet-34": "resnet34",
    "ResNet-50": "resnet50",
    "ResNet-101": "resnet101",
    "ResNet-152": "resnet152",
    "VGG-16": "vgg16",
    "VGG-19": "vgg19",
    "Inception-v3": "inception_v3",
}

_SHOWN = 3
_COUNTER = ".num_batches_tracked"  # of training; older files lack it
_AUXILIARY = "AuxLogits."  # torchvision's extra head, which runs in training only


def file_sha256(path: str) -> str:
    """Return the SHA-256 of a file; raises `RefusedError` where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except OSError as error:
        raise RefusedError("bad_request", "%s cannot be read on the device: %s" % (path, error.strerror)) from None
    return digest.hexdigest()


def load_file(model: Any, name: str, path: str) -> Dict[str, str]:
    """Fill `model`, called `name`, from a file; returns its source and SHA-256. Raises `RefusedError`."""
    digest = file_sha256(path)
    fit(model, name, _read(path), os.path.basename(path))
    return {"source": path, "sha256": digest}


def load_torchvision(model: Any, name: str, twin: str, version: str = "IMAGENET1K_V1") -> Dict[str, str]:
    """Fill `model` with torchvision's weights of its network `twin`; returns source and SHA-256.

    `version` "DEFAULT" is the newest training. The device needs them in torch's cache, or a network to fetch them.
    Raises `RefusedError`.
    """
    try:
        models: Any = importlib.import_module("torchvision.models")
    except Exception as error:  # a torchvision of another torch fails with anything but an ImportError
        raise RefusedError("bad_request", "torchvision cannot be imported: %s" % one_line(error)) from None
    try:
        chosen = getattr(models.get_model_weights(twin), version)
        state = chosen.get_state_dict(progress=False)
    except AttributeError as error:
        raise RefusedError("bad_request", "torchvision has no weights for %s: %s" % (twin, one_line(error))) from None
    except Exception as error:
        text = "torchvision's weights of %s cannot be had: %s"
        raise RefusedError("failed", text % (twin, one_line(error))) from None
    fit(model, name, state, "torchvision's %s" % chosen)
    return {"source": "torchvision %s" % chosen, "sha256": state_sha256(state)}


def state_sha256(state: Dict[str, Any]) -> str:
    """Return the SHA-256 over the names, types, shapes and numbers of a state dict, in the order of names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(("%s %s %s\n" % (key, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(bytes(tensor.view(-1).numpy().tobytes()))
    return digest.hexdigest()


def fit(model: Any, name: str, state: Dict[str, Any], source: str) -> None:
    """Copy a state dict into `model`, called `name` in what is said of misfits.

    The names must be the model's own, or, for a network that torchvision has too, torchvision's in its order.
    Raises `RefusedError` with the first names that are missing, left over, or of another shape.
    """
    own = model.state_dict()
    state = {key[len("module.") :] if key.startswith("module.") else key: value for key, value in state.items()}
    if name.partition("@")[0] in TWINS and not set(own) & set(state):
        state = _in_order(own, state) or state
    missing = [key for key in own if key not in state and not key.endswith(_COUNTER)]
    left_over = [key for key in state if key not in own]
    shapes = [
        "%s is %s and %s is needed" % (key, _size(state[key]), _size(own[key]))
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    wrong = [_listed("missing", missing), _listed("not in the network", left_over), _listed("of another shape", shapes)]
    if any(wrong):
        text = "; ".join(part for part in wrong if part)
        raise RefusedError("bad_request", "the weights %s do not fit %s: %s" % (source, name, text))
    model.load_state_dict(state, strict=False)


def _in_order(own: Dict[str, Any], state: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Give the tensors our names where number and shapes agree one by one; None where they do not."""
    ours = [key for key in own if not key.endswith(_COUNTER)]
    theirs = [key for key in state if not key.endswith(_COUNTER) and not key.startswith(_AUXILIARY)]
    if [own[key].shape for key in ours] != [state[key].shape for key in theirs]:
        return None
    return {key: state[theirs[index]] for index, key in enumerate(ours)}


def _read(path: str) -> Dict[str, Any]:
    import torch

    name = os.path.basename(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except TypeError:
        text = "torch %s cannot load weights as data only: it needs torch 1.13, or put them into a TorchScript file"
        raise RefusedError("bad_request", text % torch.__version__) from None
    except pickle.UnpicklingError:
        text = "%s holds more than numbers, and what it holds could run as a program: save only model.state_dict()"
        raise RefusedError("bad_request", text % name) from None
    except Exception as error:
        text = "%s is no file of weights (torch.save of a state_dict): %s"
        raise RefusedError("bad_request", text % (name, one_line(error).partition(". ")[0])) from None
    for wrapper in ("state_dict", "model"):  # a checkpoint of training often keeps them under one of these
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not found or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise RefusedError("bad_request", "%s holds no state_dict: names, each with its tensor" % name)
    return found


def _listed(what: str, names: List[str]) -> str:
    if not names:
        return ""
    more = " and %d more" % (len(names) - _SHOWN) if len(names) > _SHOWN else ""
    return "%s: %s%s" % (what, ", ".join(names[:_SHOWN]), more)


def _size(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
