"""Packs the agent into one file for a board, the same bytes for the same sources.

``python -m experiments.dut_agent --build FILE.pyz``. The file holds what `dut_host.SOURCES` lists and the packages
they lie in, nothing else, and runs with ``python3 FILE.pyz``. Files are stored, not compressed, with one fixed date,
so that no release of Python or zlib makes another archive of them. Runs on the bench.
"""

from __future__ import annotations

import hashlib
import io
import os
import pkgutil
import zipfile
from pathlib import Path

from experiments import dut_host
from experiments.command import complain, run, say

SHEBANG = b"#!/usr/bin/env python3\n"
_DATE = (1980, 1, 1, 0, 0, 0)
_START = b"""\
import sys

if sys.version_info < (3, 6):
    sys.exit("the agent needs Python 3.6 or later, this is " + sys.version.split()[0])

from experiments.dut_agent import run

run()
"""


def archive() -> bytes:
    """Return the archive's bytes. Raises OSError for a source that cannot be read."""
    packages = sorted({package.split(".")[0] for package, _ in dut_host.SOURCES})
    members = {f"{package}/__init__.py": pkgutil.get_data(package, "__init__.py") for package in packages}
    for package, names in dut_host.SOURCES:
        for name in names:
            members[f"{package.replace('.', '/')}/{name}"] = pkgutil.get_data(package, name)
    members["__main__.py"] = _START
    target = io.BytesIO()
    target.write(SHEBANG)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as zipped:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            zipped.writestr(info, members[name] or b"")
    return target.getvalue()


def build(path: Path) -> str:
    """Write the archive, executable, in one step; return its SHA-256. Raises OSError."""
    data = archive()
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data)
        temporary.chmod(0o755)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return hashlib.sha256(data).hexdigest()


def main(path: str) -> int:
    """Build the file and print its check sums; 0, 2 when it cannot be written, 3 when they cannot be told."""
    return run(lambda: _build(path))


def _build(path: str) -> int:
    try:
        digest = build(Path(path))
    except OSError as error:
        complain(f"error: --build {path}: cannot be written ({error.strerror})")
        return 2
    say(f"{digest}  {path}")
    say(f"sources {dut_host.sources_sha256()}, as the agent's hello tells them")
    return 0
