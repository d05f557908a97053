"""The agent in one file: the same bytes each time, nothing missing or too much, and at work under old Pythons."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from experiments import agent_archive, dut_host, send_agent
from instruments.dut import Done, Dut, DutRefusedError
from instruments.errors import DutError
from instruments.marker_line import GATE_BIT, RingReader, create_ring
from tests import pythons

ROOT = Path(__file__).resolve().parents[2]
OURS = {"experiments", "instruments"}
# Imported when a network of that kind is asked for, or for a serial line.
LATER = {"torch", "torchvision", "timm", "onnxruntime", "numpy", "serial"}


def build(path: Path, folder: Path = ROOT) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.dut_agent", "--build", str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return done.stdout.replace(",", " ").split()


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("board") / "agent.pyz"
    build(path)
    return path


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[RingReader]:
    create_ring(str(tmp_path / "ring"))
    with RingReader(str(tmp_path / "ring")) as reader:
        yield reader


def test_the_same_sources_make_the_same_bytes(pyz: Path, tmp_path: Path) -> None:
    said = build(tmp_path / "again.pyz", tmp_path)
    data = pyz.read_bytes()
    assert (tmp_path / "again.pyz").read_bytes() == data == agent_archive.archive()
    assert said[0] == hashlib.sha256(data).hexdigest()
    assert dut_host.sources_sha256() in said
    assert os.access(pyz, os.X_OK)
    assert list(tmp_path.iterdir()) == [tmp_path / "again.pyz"]


def _members(data: bytes) -> dict[str, ast.Module]:
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        assert zipped.testzip() is None
        return {name: ast.parse(zipped.read(name), feature_version=(3, 6)) for name in zipped.namelist()}


def _imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every module that may be meant, and whether it is imported with its importer."""
    late = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, id(node) not in late
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module), id(node) not in late
            for name in node.names:
                yield f"{node.module}.{name.name}", id(node) not in late


def test_it_holds_all_that_it_imports_and_nothing_else(pyz: Path) -> None:
    members = _members(pyz.read_bytes())
    files = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in members}
    on_the_bench = {p.stem for p in ROOT.glob("experiments/*.py")} - {p.stem for p in ROOT.glob("experiments/dut_*.py")}
    reached, waiting = set(), ["__main__"]
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        for name, _ in _imports(members[files[module]]):
            top, _, rest = name.partition(".")
            if top not in OURS:
                assert top in sys.stdlib_module_names | LATER, f"{module} imports {name}"
            elif name in files:
                waiting.append(name)
            else:  # a name within a module, or the builder, which is for the bench
                assert name.rpartition(".")[0] in files
                assert rest == "agent_archive" or rest not in on_the_bench, f"{module} imports {name}"
        waiting += [module.rpartition(".")[0]] if "." in module else []
    families = {f"experiments.networks.{network.factory.partition(':')[0]}" for network in _networks()}
    unreached = set(files) - reached - families
    assert all(_is_reached_from(families, name, members, files) for name in unreached), unreached


def _networks() -> list[object]:
    from experiments import networks

    return list(networks.NETWORKS.values())


def _is_reached_from(families: set[str], name: str, members: dict[str, ast.Module], files: dict[str, str]) -> bool:
    return any(name == found for family in families for found, _ in _imports(members[files[family]]))


def test_nothing_but_the_standard_library_is_needed_to_start(pyz: Path) -> None:
    """What the first modules import at once, so that a board without torch answers."""
    members = _members(pyz.read_bytes())
    files = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in members}
    reached, waiting = set(), ["__main__"]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            names = [name for name, at_once in _imports(members[files[module]]) if at_once]
            assert {name.partition(".")[0] for name in names} <= OURS | sys.stdlib_module_names
            waiting += [name for name in names if name in files]
    assert "experiments.dut_runner" in reached


@pytest.mark.parametrize("version", pythons.OLD)
def test_every_file_compiles_under_an_old_python(pyz: Path, version: str) -> None:
    python = _old(version)
    script = (
        "import sys, zipfile\n"
        "z = zipfile.ZipFile(sys.argv[1])\n"
        "for name in z.namelist(): compile(z.read(name), name, 'exec')\n"
        "print(len(z.namelist()))"
    )
    done = subprocess.run([python, "-W", "error", "-c", script, str(pyz)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def _old(version: str) -> str:
    python = pythons.find(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    return python


def _drive(command: list[str], ring: RingReader) -> tuple[Dut, Done]:
    """Greet, prepare and run a load with a start frame; the ring must tell the same story."""
    dut = Dut.start(command, {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"})
    ready = dut.prepare("busy:2", 3, run_s=0.05, warmup_s=0.02)
    assert ready.images == 3 * ready.batches
    for attempt in range(5):
        ring.read_new()
        dut.go(f"r{attempt}", 10, record=(4e-6, 0.4))
        done = dut.wait_done(20)
        if done.start_frame is not None:
            break  # a busy machine may spoil each try of a frame, and then none is claimed
    assert (done.batches, done.images) == (10, 30)
    edges = ring.read_new()
    rise = next(t for t, lines in edges if lines & GATE_BIT)
    assert done.gate_ns[0] <= rise <= done.gate_ns[1]
    assert done.start_frame is not None
    began_ns = done.facts["frame"]["began_ns"]  # of the last try, where the machine spoilt one
    toggles = sum((a ^ b) & 2 > 0 for (_, a), (t, b) in pairwise([(0, 0), *edges]) if began_ns < t < rise)
    assert toggles == done.start_frame_edges == 22
    assert 0 < done.busy_s < 5
    assert not edges[-1][1] & GATE_BIT
    return dut, done


@pytest.mark.parametrize("version", ["this", *pythons.OLD])
def test_it_works_as_one_file(pyz: Path, version: str, ring: RingReader, tmp_path: Path) -> None:
    python = sys.executable if version == "this" else _old(version)
    dut, done = _drive([python, str(pyz), "--marker", f"simulated:{tmp_path / 'ring'}"], ring)
    with dut:
        hello = dut.hello()
        assert hello.agent_sha256 == dut_host.sources_sha256()
        assert hello.facts["archive_sha256"] == hashlib.sha256(pyz.read_bytes()).hexdigest()
        assert "sensors_before" in done.facts
        assert "sensors_after" in done.facts
        if version != "this":
            assert hello.facts["python"].startswith(version)
            if hello.facts["torch"] is None:
                with pytest.raises(DutRefusedError, match="torch"):
                    dut.prepare("AlexNet", 1)
    assert [lines for _, lines in ring.read_new()][-1:] in ([], [0])


def test_what_a_board_has_is_shown_without_a_bench(pyz: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(pyz), "--check"], capture_output=True, text=True, timeout=200, check=True
    )
    shown = json.loads(done.stdout)
    assert shown["marker"]["kind"] == "none"
    assert shown["sensors"]["time"]["unit"] == "s"
    assert shown["archive_sha256"] == hashlib.sha256(pyz.read_bytes()).hexdigest()


@pytest.mark.parametrize("target", ["no/such/folder/agent.pyz", "."])
def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.dut_agent", "--build", str(tmp_path / target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_built_file_does_not_build(pyz: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(pyz), "--build", "x.pyz"], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 2
    assert "this is the built file" in done.stderr


# ------------------------------------------------------------------------- sent to the board at each start

SEND = [sys.executable, "-m", "experiments.send_agent"]


@pytest.mark.parametrize("version", ["this", "3.6"])
def test_it_is_sent_and_leaves_no_file(version: str, ring: RingReader, tmp_path: Path) -> None:
    """``sh -c`` in ssh's place: both give the command to a shell."""
    python = sys.executable if version == "this" else _old(version)
    board = tmp_path / "board"
    board.mkdir()
    command = ["env", f"TMPDIR={board}", "PYTHONPATH=", "sh", "-c"]
    marker = f"simulated:{tmp_path / 'ring'}"
    env = {"PYTHONPATH": str(ROOT)}
    with Dut.start([*SEND, "--python", python, *command, "--", "--marker", marker], env) as dut:
        assert dut.hello().facts["archive_sha256"] == hashlib.sha256(agent_archive.archive()).hexdigest()
        dut.prepare("busy:2", 1, run_s=0.05, warmup_s=0.02)
        dut.go("r")
        assert dut.wait_done(20).batches > 0
        assert list(board.iterdir()) == []
    assert ring.read_new()[-1][1] == 0


def test_the_way_there_ends_with_its_own_exit_code() -> None:
    with pytest.raises(DutError, match=r"exit code 7, its standard error ends:\n  no route"):
        Dut.start([*SEND, "sh", "-c", "echo no route >&2; exit 7"], {"PYTHONPATH": str(ROOT)})
    with pytest.raises(DutError, match=r"no-such-ssh cannot be started"):
        Dut.start([*SEND, "no-such-ssh", "board"], {"PYTHONPATH": str(ROOT)})
    done = subprocess.run(SEND, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert "such as `ssh board`" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-5], r"ended after \d+ of \d+ bytes"),
        (lambda data: data[:500] + b"?" + data[501:], "did not arrive whole"),
    ],
)
def test_an_agent_that_does_not_arrive_whole_is_not_run(change: Callable[[bytes], bytes], said: str) -> None:
    data = agent_archive.archive()
    remote = send_agent.remote_command(data, sys.executable, [])
    done = subprocess.run(["sh", "-c", remote], input=change(data), capture_output=True, timeout=200)
    assert done.returncode == 1
    assert done.stdout == b""
    assert re.search(said, done.stderr.decode())
