"""Every command in README.md and docs/ runs, page by page in their order, on the simulated bench.

What is not run is marked in the page with its reason, and listed here: the list must be complete, so that a mark
cannot spread unseen. What is shortened to keep the tests quick is listed here too.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration import records
from instruments import lab as lab_yaml
from tests import foreign_files
from tests.docs.pages import GUIDES, Block, blocks, inline_commands, option_names, prose, spread
from tests.docs.terminal import Terminal
from tests.sweeps import ROOT

QUICK_BENCH = "docs/benches/simulated-tx1.yaml"

NOT_RUN = {
    "README.md": 2,
    "docs/accuracy.md": 1,
    "docs/board.md": 2,
    "docs/first-session.md": 8,
}
"""Commands marked as not run, by page."""

PLACEHOLDERS = {
    "A": "runs/first",
    "B": "runs/second",
    "DIR": "out",
    "FILE": "trace.h5",
    "FOLDER": "runs",
    "NEW.h5": "new.h5",
    "PLACE": "runs/first",
    "RECORD": "known/probe.yaml",
    "REC": "known/probe.yaml",
    "RUN": "runs/first",
}
"""What a word in capitals stands for here."""

IN_PAGE = {
    "docs/figures.md": {"DIR": "figures"},
    "docs/trace-format.md": {"trace.h5 --session 2": "trace.h5 --session 1"},
    "docs/replay.md": {"traces import FILE...": "traces import recording.csv"},
}

SHORTER = [
    ("AlexNet,ENet,GoogLeNet,ResNet-18,ResNet-50,VGG-16 --batches 1,2,4,8,16", "AlexNet,ENet --batches 1 --repeats 2"),
    ("figures runs/first", "figures runs/first --only 3,11"),
    ("figures --cited", "figures --cited --only 10"),
    ("figures RUN...", "figures RUN... --only 4,14"),
    ("--networks AlexNet,ResNet-18 --batches 1,4 --repeats 3", "--networks AlexNet --batches 1,4 --repeats 2"),
    ("replay FOLDER FILE...", "replay FOLDER FILE... --results-only --jobs 1"),
    ("experiments.meter_check", "experiments.meter_check --trains busy:40:60 --repeats 1"),
    ("power_sweep --calibration REC", "power_sweep --networks AlexNet --batches 1 --repeats 1 --calibration REC"),
    ("power_sweep --gain-check", "power_sweep --networks AlexNet --batches 1 --repeats 1 --gain-check"),
    ("--batches 16 --mode long", "--batches 16 --mode long --long-s 8 --repeats 1"),
    ("--networks VGG-16 --batches 16 ", "--networks VGG-16 --batches 16 --repeats 1 "),
    ("marker_delay ", "marker_delay --runs 5 "),
    ("mine:make@3x32x32,AlexNet --batches 1,8", "mine:make@3x32x32,AlexNet --batches 1,8 --dry-run"),
]
"""What tests leave out of commands that would take long; real networks are measured by the tests of the sweep."""

FRESH = ("README.md", "docs/first-session.md")
"""Pages that begin with nothing but the project."""

SERVES = ("instruments.simulated", "--through-scope")

RUN_ELSEWHERE = {"docs/any-network.md": "tests/experiments/test_dut_command.py"}
"""Pages whose programs another test takes out and runs."""


def _modules() -> dict[str, str]:
    """Every module that a page runs, with where it is first named."""
    found: dict[str, str] = {}
    for page in GUIDES:
        commands = [c for b in blocks(page) if b.kind == "sh" for c in b.commands()] + inline_commands(page)
        for command in commands:
            for name in re.findall(r"python -m ([\w.]+)", command):
                found.setdefault(name, str(page.relative_to(ROOT)))
    return {name: page for name, page in found.items() if not name.startswith(("venv", "pip"))}


@pytest.fixture(scope="module")
def helps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each module of a page says to --help."""
    found = {}
    with Terminal(tmp_path_factory.mktemp("help")) as terminal:
        for module, page in _modules().items():
            assert terminal.run(f"python -m {module} --help") == 0, f"{page}: {module}: {terminal.said}"
            found[module] = terminal.said
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the pages' commands find what they name: benches, a run, a second one, a record."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "docs").symlink_to(ROOT / "docs")
    shutil.copy(ROOT / "lab.yaml", folder)
    shutil.copy(ROOT / QUICK_BENCH, folder / "mine.yaml")
    shutil.copy(ROOT / "docs/benches/imported.yaml", folder / "bench.yaml")
    with Terminal(folder) as terminal:
        for command in (
            "python -m experiments.power_sweep --lab mine.yaml --networks ENet --batches 1,2 --repeats 2 "
            "--out runs/first --transcript said.jsonl",
            "python -m calibration.probe --lab mine.yaml --out known/probe.yaml",
        ):
            assert terminal.run(command) == 0, terminal.said
    shutil.copytree(folder / "runs/first", folder / "runs/second")
    shutil.copy(folder / "runs/first/trace.h5", folder)
    foreign_files.write_scope_csv(folder / "recording.csv", foreign_files.signal())
    return folder


@pytest.fixture
def terminal(home: Path, tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in a copy of that folder."""
    folder = tmp_path / "home"
    shutil.copytree(home, folder, symlinks=True, ignore=shutil.ignore_patterns(".said"))
    with Terminal(folder) as terminal:
        yield terminal


def _ready(command: str, page: str, used: set[str], helps: dict[str, str]) -> str:
    """A page's command as it is run here: shorter, with names for placeholders, on a bench in virtual time."""
    for old, new in SHORTER:
        if old in command:
            command = command.replace(old, new)
            used.add(old)
    special = IN_PAGE.get(page, {})
    for old, new in special.items():
        if " " in old:
            command = command.replace(old, new)
    command = re.sub(r"\s*\[-[^\]]*\]", "", command)
    names = PLACEHOLDERS | {old: new for old, new in special.items() if " " not in old}
    words = [names.get(re.sub(r"(\.\.\.|…)$", "", word), word) for word in command.split(" ")]
    command = " ".join(words)
    module = re.search(r"python -m ([\w.]+)", command)
    if (
        module
        and "--lab FILE" in helps.get(module[1], "")
        and not re.search(r"--lab|--resume|calibration\.list", command)
    ):
        command = re.sub(r"(\s+#.*)?$", f" --lab {QUICK_BENCH}", command, count=1)
    return command


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_pages_commands_run(page: Path, terminal: Terminal, helps: dict[str, str]) -> None:
    name = str(page.relative_to(ROOT))
    if name in FRESH:
        for made in ("runs", "known"):
            shutil.rmtree(terminal.folder / made)
        (terminal.folder / "mine.yaml").unlink()
    for block in blocks(page):
        if block.file and not block.mark:
            (terminal.folder / block.file).write_text(block.text + "\n")
    printed = ""
    for block in blocks(page):
        if block.file:
            continue
        if block.kind == "sh" and not block.mark and name not in RUN_ELSEWHERE:
            printed = "".join(_run(terminal, command, block, helps) for command in block.commands())
        elif block.kind == "sh" and not block.mark:
            for command in block.commands():
                _only_read(terminal, command, block, helps)
        elif block.kind == "python" and name not in RUN_ELSEWHERE:
            _run_program(terminal, block)
        elif block.mark == "as printed":
            _compare(block, printed)
    if name == "docs/adding.md":
        assert "fan power" in (terminal.folder / "runs/mine/report.html").read_text()


def _run(terminal: Terminal, command: str, block: Block, helps: dict[str, str]) -> str:
    for one in spread(command):
        _options_exist(one, block.place, helps)
        ready = _ready(one, block.page, set(), helps)
        if "benchmarks." in ready:  # run by hand: minutes
            continue
        serves = any(text in ready for text in SERVES)
        if terminal.address is not None:
            ready = re.sub(r"TCPIP::127\.0\.0\.1::\d+::SOCKET", terminal.address, ready)
        code = terminal.run(ready, serves=serves)
        assert code == 0, f"{block.place}: {ready}\nexit code {code}\n{terminal.said[-3000:]}"
    return terminal.said


def _only_read(terminal: Terminal, command: str, block: Block, helps: dict[str, str]) -> None:
    """A command whose running is tested elsewhere: its options, a dry run of the sweep, the shell's syntax."""
    _options_exist(command, block.place, helps)
    ready = _ready(command, block.page, set(), helps)
    if "--dry-run" in ready:
        assert terminal.run(ready.replace(QUICK_BENCH, "lab.yaml")) == 0, terminal.said
    else:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def _run_program(terminal: Terminal, block: Block) -> None:
    text = block.text
    if terminal.addresses:
        scope, supply = terminal.addresses["scope"], terminal.addresses["supply"]
        text = text.replace("TCPIP::127.0.0.1::40001::SOCKET", scope["socket"][0])
        text = text.replace("PRLGX-TCPIP::127.0.0.1::40004::INTFC", supply["prologix"][0])
    (terminal.folder / "program.py").write_text(text + "\n")
    code = terminal.run("python program.py")
    assert code == 0, f"{block.place}: exit code {code}\n{terminal.said[-3000:]}"


def _compare(block: Block, printed: str) -> None:
    said = {" ".join(line.split()) for line in printed.splitlines()}
    for line in block.text.splitlines():
        assert " ".join(line.split()) in said, f"{block.place}: this is not what the command above prints now: {line}"


def _options_exist(command: str, place: str, helps: dict[str, str]) -> None:
    for module, rest in re.findall(r"python -m ([\w.]+)((?:(?!python -m).)*)", command):
        for option in option_names(rest) if module in helps else ():
            said = helps[module] if module != "experiments.traces" else None
            assert said is None or re.search(rf"{option}\b", said), f"{place}: {module} has no option {option}"


def test_options_of_inline_commands_exist(helps: dict[str, str]) -> None:
    for page in GUIDES:
        for command in inline_commands(page):
            _options_exist(command, str(page.relative_to(ROOT)), helps)


def test_options_named_in_the_prose_exist(helps: dict[str, str]) -> None:
    known = set(re.findall(r"--[a-z][\w-]*", "".join(helps.values())))
    with_commands = subprocess.run(
        [sys.executable, "-c", "from experiments.traces.__main__ import parser; [print(c.format_help()) for a in "
         "parser()._subparsers._group_actions for c in a.choices.values()]"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    known |= set(re.findall(r"--[a-z][\w-]*", with_commands.stdout))
    for page in GUIDES:
        for text in re.findall(r"`([^`\n]+)`", prose(page)):
            unknown = set(option_names(text)) - known if text.startswith("--") else set()
            assert not unknown, f"{page.relative_to(ROOT)}: no program has {', '.join(sorted(unknown))}"


def test_what_is_not_run_is_known_by_number_and_reason() -> None:
    found: dict[str, int] = {}
    for page in GUIDES:
        for block in blocks(page):
            if block.mark and block.mark != "as printed":
                assert block.kind in ("sh", "python"), f"{block.place}: there is nothing to run in it"
                assert len(block.mark) > 10, f"{block.place}: say why"
                count = len(block.commands()) if block.kind == "sh" else 1
                found[block.page] = found.get(block.page, 0) + count
                print(f"{block.place}: {count} not run: {block.mark}")
    assert found == NOT_RUN


def test_each_shortening_is_of_something(helps: dict[str, str]) -> None:
    used: set[str] = set()
    for page in GUIDES:
        for block in blocks(page):
            for command in block.commands() if block.kind == "sh" else ():
                _ready(command, block.page, used, helps)
    assert used == {old for old, _ in SHORTER}
    for page_name, test in RUN_ELSEWHERE.items():
        assert page_name in (ROOT / test).read_text()


def test_yaml_in_the_pages_is_right() -> None:
    from ruamel.yaml import YAML

    whole = YAML(typ="safe").load((ROOT / "docs/benches/real.yaml").read_text())
    for page in GUIDES:
        for block in blocks(page):
            if block.kind != "yaml":
                continue
            part = YAML(typ="safe").load(block.text)
            if set(part) <= set(lab_yaml.Lab.model_fields) - {"scope", "supply"} or "bench" in part:
                merged = dict(whole)
                for key, value in part.items():
                    merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
                lab_yaml.parse(json.dumps(merged), block.place)
            elif set(part) <= set(lab_yaml.SupplyFacts.model_fields):  # what a page puts into its section
                lab_yaml.parse(json.dumps({**whole, "supply": {**whole["supply"], **part}}), block.place)
            elif "kind" in part:
                records.parse(block.text, block.place)
            else:
                lab_yaml.parse_faults(block.text, block.place)


def test_readmes_bench_is_the_form_for_real_ones() -> None:
    (explained,) = [b.text for b in blocks(ROOT / "README.md") if b.kind == "yaml"]
    form = ROOT / "docs/benches/real.yaml"
    assert explained == form.read_text().rstrip()
    lab = lab_yaml.load(form)
    assert lab.simulation is None
    assert all("#" in line for line in explained.splitlines() if ":" in line and not line.rstrip().endswith(":"))
