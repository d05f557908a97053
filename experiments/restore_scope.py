"""Give the oscilloscope the settings back that it had before a run: `python -m experiments.restore_scope TRACE`.

A sweep does so itself at its end, however it ends, as long as the oscilloscope answers. Exit codes: 0 good, 2 usage or
configuration, 3 instrument or unreadable file, 130 interrupted.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from experiments.command import leave, run, say


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.restore_scope",
        description="Give the oscilloscope the settings back that it had before a run, out of the run's trace file.",
        epilog="exit codes: 0 good, 2 usage or configuration, 3 instrument or unreadable file, 130 interrupted",
    )
    p.add_argument("trace", type=Path, metavar="TRACE", help="a trace.h5")
    p.add_argument("--lab", type=Path, default=Path("lab.yaml"), metavar="FILE", help="the bench (default: lab.yaml)")
    p.add_argument("--used", action="store_true", help="the settings that the run used instead of those it found")
    return p


def main(argv: list[str] | None = None) -> int:
    """Restore; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _restore(args))


def _restore(args: argparse.Namespace) -> int:
    from experiments.traces import TraceReader
    from instruments import lab as lab_yaml
    from instruments.bench import load_drivers
    from instruments.errors import ConfigError, TraceError
    from instruments.link import Link

    lab = lab_yaml.load(args.lab)
    if any(resource.startswith("sim:") for resource in lab.scope.resource):
        raise ConfigError(f"{args.lab}: scope.resource is simulated: it has forgotten every setting with its last run")
    name = "scope_setup" if args.used else "scope_setup_before"
    with TraceReader(args.trace) as reader:
        setup = reader.blob(name)
        origin = str(reader.json("instruments").get("identities", {}).get("scope", ""))
    if not setup:
        raise TraceError(f"{args.trace}: /provenance/{name} is empty: the run ended before it was read")
    model = [*origin.split(","), ""][1]
    if model and model != lab.scope.model:
        raise ConfigError(f"{args.trace} holds the settings of a {model}, {args.lab} names a {lab.scope.model}")
    facts = lab.scope
    driver, _ = load_drivers(lab)
    with Link.open(
        "scope", facts.resource, visa=lab.visa, timeout_s=facts.timeout_s, open_timeout_s=facts.open_timeout_s
    ) as link:
        scope = driver(link)
        found = scope.expect_identity(re.escape(facts.model), facts.serial)
        scope.errors()
        scope.stop()
        scope.restore(setup)
        settings = scope.settings()
    say(f"{found}: {len(setup)} bytes of settings put back; it is stopped")
    for key in ("TIMebase:RANGe", "ACQuire:TYPE", "TRIGger:EDGE:SOURce", "CHANnel1:DISPlay", "CHANnel1:RANGe"):
        say(f"  {key} {settings.get(key, '?')}")
    return 0


if __name__ == "__main__":
    leave(main())
