"""What runs on the board keeps to Python 3.6 and the standard library (and torch, loaded late)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from experiments import dut_host

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT.joinpath(*package.split("."), name) for package, names in dut_host.SOURCES for name in names]
EXTRA = [ROOT / "experiments/networks/__main__.py"]
BUILDER = "experiments.agent_archive"  # for `--build` on the bench alone
PACKAGES = [ROOT / "instruments/__init__.py", ROOT / "experiments/__init__.py"]
# Later than Python 3.6, and easily typed by mistake.
TOO_NEW = {
    "dataclasses",
    "contextvars",
    "importlib.metadata",
    "importlib.resources",
    "__future__",
    "graphlib",
    "tomllib",
}
TOO_NEW_NAMES = {"time.monotonic_ns", "time.time_ns", "time.perf_counter_ns", "contextlib.nullcontext", "shlex.join"}
TOO_NEW_NAMES |= {"math.prod", "typing.Protocol", "typing.Literal", "typing.Final", "functools.cache", "gc.freeze"}
BUILTIN_GENERICS = {"list", "dict", "tuple", "set", "frozenset", "type"}


@pytest.mark.parametrize("path", FILES + EXTRA + PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_board_file_is_python_3_6(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))
    for node in ast.walk(tree):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            assert not TOO_NEW & {name.name for name in node.names}, where
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in TOO_NEW, where
            assert not TOO_NEW_NAMES & {f"{node.module}.{name.name}" for name in node.names}, where
        elif isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in TOO_NEW_NAMES, where
        elif isinstance(node, ast.Subscript):
            assert not (isinstance(node.value, ast.Name) and node.value.id in BUILTIN_GENERICS), where
        elif isinstance(node, ast.FunctionDef):
            annotations = [
                node.returns,
                *(argument.annotation for argument in ast.walk(node.args) if hasattr(argument, "annotation")),
            ]
            assert not any(isinstance(part, ast.BinOp) for found in annotations if found for part in ast.walk(found)), (
                where
            )
            assert not node.args.posonlyargs, where
        elif isinstance(node, ast.JoinedStr):
            assert "=}" not in (ast.get_source_segment(path.read_text(encoding="utf-8"), node) or ""), where


def test_the_list_of_sources_is_complete() -> None:
    assert all(path.is_file() for path in FILES)
    found = {
        *ROOT.glob("experiments/dut_*.py"),
        *ROOT.glob("experiments/networks/*.py"),
        *ROOT.glob("instruments/marker_*.py"),
    }
    assert found - set(FILES) == set(EXTRA)


def test_the_agent_imports_nothing_of_the_bench() -> None:
    ours = {"experiments", "instruments", "calibration"}
    known = {f"{package}.{Path(name).stem}" for package, names in dut_host.SOURCES for name in names}
    known |= {package for package, _ in dut_host.SOURCES}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ours:
                modules = {node.module} | {f"{node.module}.{name.name}" for name in node.names}
                assert modules & (known | {BUILDER}) - set(ours), f"{path.name} imports {node.module}"


def test_the_version_of_the_sources_is_a_check_sum() -> None:
    assert len(dut_host.sources_sha256()) == 64
    assert dut_host.sources_sha256() == dut_host.sources_sha256()
