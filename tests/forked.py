"""Programs in processes of their own, forked from one that has the large libraries loaded already."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.worlds import LAB

ROOT = LAB.parent
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("matplotlib.pyplot", "pyvisa", "rich.progress", "rich.table", "scipy.stats", "statsmodels.formula.api"),
        *("calibration.records", "experiments.figures.catalogue", "experiments.findings.section"),
        *("experiments.report", "experiments.station", "experiments.traces", "instruments.bench"),
    ]
)


def be(arguments: list[str], folder: str, extra: dict[str, str]) -> None:
    """Be `python -m MODULE ...` or `python FILE ...` in the folder, once the streams are what they are to be."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.update(extra)
    if extra.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    sys.path[0:0] = [folder, *filter(None, extra.get("PYTHONPATH", "").split(":")), str(ROOT)]
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()


def leave_pictures_out() -> None:
    """Draw no results, here and in what is called from here: of a small sweep that is two thirds of the work."""
    from experiments.report import outputs, pictures

    outputs.beside = lambda _run: {}
    pictures.figures = lambda _runs: []


def _captured(
    arguments: list[str], extra: dict[str, str], files: tuple[str, str], first: Callable[[], None] | None
) -> None:
    for descriptor, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY), descriptor)
    if first is not None:
        first()
    be(arguments, str(ROOT), extra)


def run(
    arguments: Sequence[str], timeout_s: float, extra: dict[str, str], first: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` to its end from the project's root, `first` before; raises subprocess.TimeoutExpired."""
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        process = CONTEXT.Process(target=_captured, args=(list(arguments), extra, (out.name, err.name), first))
        process.start()
        process.join(timeout_s)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        process.close()
        said, errors = (Path(file.name).read_text() for file in (out, err))
    command = [sys.executable, *arguments]
    if code is None:
        raise subprocess.TimeoutExpired(command, timeout_s, said, errors)
    return subprocess.CompletedProcess(command, code, said, errors)
