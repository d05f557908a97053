"""Texts of YAML against a model: every mistake with its line and what to write instead."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from instruments.errors import ConfigError, LabError

from .numbers import as_a_number

MAX_BYTES = 200_000
MAX_NODES = 5_000


def read_text(path: str | Path, instead: str = "a bench file with --lab FILE") -> str:
    """Read the text of a lab.yaml; raises ConfigError that names the file, and what to name instead."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name {instead}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error


_Model = TypeVar("_Model", bound=BaseModel)


def checked(model: type[_Model], text: str, name: str) -> _Model:
    """Check a text of YAML against a model; raises ConfigError that lists every mistake with its line."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: has more than {MAX_BYTES} characters, as no bench file has: name another")
    try:
        tree = YAML(typ="rt").load(text)
        plain = _plain(tree, [MAX_NODES])
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{name}:{line}: is not valid YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{name}: is not valid YAML: {first}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}:1: a mapping with {', '.join(list(model.model_fields)[:4])}, ... was expected")
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        errors = error.errors()
        meant = {(*e["loc"][:-1], _nearest(model, e["loc"])) for e in errors if e["type"] == "extra_forbidden"}
        errors = [e for e in errors if not (e["type"] == "missing" and e["loc"] in meant)]
        complaints = {_complaint(model, name, tree, e) for e in errors}
        raise ConfigError("\n".join(text for _, text in sorted(complaints))) from None


@contextlib.contextmanager
def lines_of(text: str, name: str) -> Iterator[None]:
    """Give each mistake (LabError) that is raised inside its line of a text which was read; raises ConfigError."""
    try:
        yield
    except LabError as error:
        line = _line_of(YAML(typ="rt").load(text), list(error.path))
        raise ConfigError(f"{name}:{line}: {error}") from error


def _plain(node: Any, left: list[int]) -> Any:
    """Strip ruamel's wrappers: strict types accept plain ones alone. `left` counts down against alias bombs."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"more than {MAX_NODES} entries, aliases counted each time")
    if isinstance(node, dict):
        return {str(k): _plain(v, left) for k, v in node.items()}
    if isinstance(node, list):
        return [_plain(v, left) for v in node]
    if isinstance(node, bool) or node is None:
        return node
    for plain in (int, float, str):
        if isinstance(node, plain):
            return plain(node)
    return node


def _complaint(model: type[BaseModel], name: str, tree: Any, error: Any) -> tuple[int, str]:
    path = [p for p in error["loc"] if not (isinstance(p, str) and p.startswith("function-"))]
    path += getattr(error.get("ctx", {}).get("error"), "path", ())
    line = _line_of(tree, path)
    key = ".".join(str(p) for p in path) or "(top level)"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = _nearest(model, path)
        hint = f"did you mean {near}?" if near else "known keys: " + ", ".join(_known_keys(model, path[:-1]))
        message = f"unknown key, {hint}"
    elif error["type"] == "missing":
        message = "is missing; add it here"
    elif error["type"] not in ("value_error",):
        message = f"{message[0].lower()}{message[1:]}, got {repr(error['input'])[:80]}"
        if error["type"] == "string_type" and isinstance(error["input"], int | float):
            message += "; put it in quotes"
        elif error["type"] in ("float_type", "int_type") and isinstance(error["input"], str):
            message += as_a_number(str(path[-1]), error["input"], whole=error["type"] == "int_type")
    return line, f"{name}:{line}: {key}: {message}"


def _line_of(tree: Any, path: list[Any]) -> int:
    """One-based line of a key, or of its nearest parent that is in the file."""
    line = 1
    node: Any = tree
    for part in path:
        marks: Any = getattr(node, "lc", None)
        try:
            if isinstance(node, dict):
                line = marks.key(part)[0] + 1
            elif isinstance(node, list):
                line = marks.item(part)[0] + 1
            node = node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _nearest(model: type[BaseModel], path: Sequence[Any]) -> str | None:
    """The known key that an unknown one resembles, if any."""
    near = difflib.get_close_matches(str(path[-1]), _known_keys(model, path[:-1]), 1, 0.5)
    return near[0] if near else None


def _known_keys(top: type[BaseModel], path: Sequence[Any]) -> list[str]:
    model: Any = top
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            return []
        model = field.annotation
        for choice in getattr(model, "__args__", ()):
            if isinstance(choice, type) and issubclass(choice, BaseModel):
                model = choice
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)
