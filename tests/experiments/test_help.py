"""Every command tells its options at once: what only its work needs is not imported for that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PACKAGES = ("instruments", "calibration", "experiments")

HEAVY = ("scipy", "matplotlib", "h5py", "xarray", "torch", "pandas", "statsmodels")

ASK = """
import contextlib, io, json, runpy, sys
found = {}
for name in sys.argv[1:]:
    sys.argv[:] = [name, "--help"]
    said, code = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        code = left.code
    found[name] = code, said.getvalue()[:6].lower(), [heavy for heavy in HEAVY if heavy in sys.modules]
    for module in [m for m in sys.modules if m.split(".")[0] in HEAVY]:
        del sys.modules[module]
print(json.dumps(found))
"""


def commands() -> list[str]:
    """Every module that can be run, by name."""
    files = [path for package in PACKAGES for path in Path(package).rglob("*.py") if "assets" not in path.parts]
    found = [path.with_suffix("").parts for path in files if 'if __name__ == "__main__"' in path.read_text("utf-8")]
    return sorted(".".join(parts[:-1] if parts[-1] == "__main__" else parts) for parts in found)


def test_help_comes_without_the_libraries_of_the_work() -> None:
    names = commands()
    assert {"experiments.power_sweep", "experiments.report", "experiments.traces", "calibration.probe"} <= set(names)
    script = f"HEAVY = {HEAVY!r}\n{ASK}"
    done = subprocess.run(
        [sys.executable, "-c", script, *names], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {name: [0, "usage:", []] for name in names}
