"""What a program runs on: versions, computer, the commit of its checkout."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that a measurement rests on, the host, and the commit."""
    found = {"python": platform.python_version(), "host": platform.platform(), "machine": platform.node()}
    for package in ("joulebench", "numpy", "h5py", "pyvisa", "pyvisa-py", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if state := _git_state():
        found["git"] = state
    return found


def _git_state() -> str:
    """Commit of the checkout that this program runs from, with -dirty after changes; empty where there is none."""
    here = Path(__file__).resolve().parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
