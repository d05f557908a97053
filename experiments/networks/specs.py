"""What can be asked for by `--networks`: texts that name a network, in the forms of `FORMS`. Python 3.6, no torch.

Only the form is looked at here: whether the device has the module, the file or the program, it says itself.
"""

import re
from typing import List, NamedTuple, Optional, Tuple

from experiments import networks
from experiments.networks.errors import SpecError

FORMS = (
    "a network's name or `paper`, busy:MILLISECONDS, package.module:factory, torchvision:NAME, timm:NAME, "
    "a file ending in .pt .pts .torchscript .pt2 or .onnx, or command:PROGRAM ARGS; @CxHxW at the end gives the input"
)
BUSY = "busy:MILLISECONDS"
FOREIGN = ("package.module:factory", "torchvision:NAME", "timm:NAME", "FILE.pt", "FILE.pt2", "FILE.onnx", "command:...")
MAX_BUSY_MS = 60000
MAX_CHARACTERS = 128  # what a trace file has room for
USUAL_SHAPE = (3, 224, 224)
_MAX_ELEMENTS = 1 << 28

ENDINGS = {
    ".pt": "torchscript",
    ".pts": "torchscript",
    ".torchscript": "torchscript",
    ".pt2": "export",
    ".onnx": "onnx",
}
_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"

Spec = NamedTuple(
    "Spec",
    [
        ("text", str),  # as it is told to the device and stored
        ("kind", str),  # ours, busy, factory, torchvision, timm, torchscript, export, onnx or command
        ("target", str),  # name, milliseconds (busy, or busy:rest), module:factory, path or command line
        ("shape", Optional[Tuple[int, ...]]),  # of one input, as asked for by @CxHxW
    ],
)


def parse(text: str) -> Spec:
    """Read one spec (not a set). Raises `SpecError` where it has no known form, for unknown names too."""
    text = text.strip()
    if len(text.encode("utf-8", "replace")) > MAX_CHARACTERS:
        raise SpecError("%.40r... is longer than the %d characters that fit a trace file" % (text, MAX_CHARACTERS))
    if not text.isprintable():
        raise SpecError("%r holds characters that cannot be printed" % text)
    prefix, colon, rest = text.partition(":")
    prefix = prefix.lower() if colon else ""
    if prefix == "busy":
        return Spec(text.lower(), "busy", _milliseconds(text, rest), None)
    if prefix == "command":
        if not rest.strip():
            raise SpecError("%r names no program: write command:PROGRAM ARGS" % text)
        return Spec(prefix + ":" + rest.strip(), "command", rest.strip(), None)
    body, shape = _shape(text)
    end = "" if shape is None else "@" + "x".join(map(str, shape))
    name = body[len(prefix) + 1 :]
    if prefix in ("torchvision", "timm"):
        if not re.match(r"[\w.\-]+\Z", name):
            raise SpecError("%r: write %s:NAME, as %s:resnet18" % (text, prefix, prefix))
        return Spec(prefix + ":" + name + end, prefix, name, shape)
    for ending, kind in ENDINGS.items():
        if body.lower().endswith(ending):
            return Spec(body + end, kind, body, shape)
    hint = _hint(body.lower())
    if re.match(_DOTTED + ":" + _DOTTED + r"\Z", body) and not hint:
        return Spec(body + end, "factory", body, shape)
    if colon or hint or "/" in body:
        raise SpecError("%r is none of: %s%s" % (text, FORMS, hint))
    try:
        known = networks.get(body).name
    except networks.UnknownNetworkError as error:
        raise SpecError("%s; or %s" % (error.args[0], FORMS.partition(", ")[2])) from None
    return Spec(known + end, "ours", known, shape)


def parse_list(text: str) -> List[Spec]:
    """Read specs with commas between; a set's name, such as `paper`, stands for its members."""
    texts = [part.strip() for part in text.split(",") if part.strip()]
    return [parse(member) for part in texts for member in networks.SETS.get(part.lower(), (part,))]


def _hint(body: str) -> str:
    if re.search(r"\.(pth|tar|ckpt|safetensors|bin)\Z", body):
        return " (a file of weights goes to --weights)"
    if re.search(r"\.py(:\w*)?\Z", body):
        return " (write it as its module is imported: package.module:factory)"
    return ""


def _milliseconds(text: str, rest: str) -> str:
    try:
        times = [float(part) for part in rest.split(":")]
        if len(times) <= 2 and times[0] > 0 and min(times) >= 0 and sum(times) <= MAX_BUSY_MS:
            return rest
    except ValueError:
        pass
    raise SpecError("%r: write %s, above 0 and up to %d; :MILLISECONDS of rest may follow" % (text, BUSY, MAX_BUSY_MS))


def _shape(text: str) -> Tuple[str, Optional[Tuple[int, ...]]]:
    """Split a text at its @CxHxW, if it has one."""
    body, at, sizes = text.rpartition("@")
    if not at:
        return text, None
    if not re.match(r"\d+(x\d+){0,4}\Z", sizes):
        raise SpecError("%r: after @ an input is written as CxHxW, such as @3x224x224" % text)
    shape = tuple(int(size) for size in sizes.split("x"))
    elements = 1
    for size in shape:
        elements *= size
    if not 0 < elements <= _MAX_ELEMENTS:
        raise SpecError("%r: an input has 1 to %d numbers, and this has %d" % (text, _MAX_ELEMENTS, elements))
    return body, shape
