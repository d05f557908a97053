"""Serve the simulated bench of a lab.yaml to any VISA client.

Prints one JSON line with the VISA strings of every instrument and transport, then serves until SIGTERM or
SIGINT (exit 0), or until its standard input closes when --until-stdin-closes is given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Serve; 0 when asked to end, 2 when the lab.yaml or a port is no good, 3 when the addresses cannot be told."""
    parser = argparse.ArgumentParser(prog="python -m instruments.simulated", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lab", default="lab.yaml", type=Path, metavar="FILE", help="the bench (default: lab.yaml)")
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="folder for marker lines and true energy (default: simulation.state_dir)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="instead of simulation.seed")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="what goes wrong, instead of simulation.faults")
    parser.add_argument(
        "--portmapper",
        type=int,
        metavar="PORT",
        help="where clients ask which port VXI-11 has; 0: nowhere (default: 111, where it can be bound)",
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does, too")
    options = parser.parse_args(argv)

    from instruments.command import complain, tell
    from instruments.errors import BenchError, OutputError
    from instruments.lab import load, load_faults
    from instruments.simulated.portmapper import WELL_KNOWN_PORT

    try:
        lab = load(options.lab)
        if lab.simulation is None:
            raise BenchError(f"{options.lab}: there is no `simulation:` section, so nothing to serve")
        ports = lab.simulation.ports
        folder = options.state_dir or (Path(lab.simulation.state_dir) if lab.simulation.state_dir else None)
        if folder is None and lab.dut.simulated is not None:
            raise BenchError(
                f"{options.lab}: dut.simulated is a bench in virtual time, which is moved through its control socket: "
                "name a folder for it with --state-dir DIR"
            )
        if options.faults is not None:
            simulation = lab.simulation.model_copy(update={"faults": load_faults(options.faults)})
            lab = lab.model_copy(update={"simulation": simulation})
        mapped = options.portmapper
        if mapped is None:  # a program that starts a bench for itself knows the ports
            mapped = ports.portmapper or (0 if options.until_stdin_closes else WELL_KNOWN_PORT)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        from instruments.simulated.station import Station

        station = Station(lab, state_dir=folder, seed=options.seed, told=_tell, portmapper=mapped)
    except (BenchError, OSError, OverflowError) as error:
        complain(f"error: {error}")
        return 2
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with station:
            tell(json.dumps(station.addresses))
            if options.until_stdin_closes:
                threading.Thread(target=_watch_stdin, args=(ended,), daemon=True).start()
            while not ended.wait(3600.0):
                pass
    except OutputError as error:
        complain(f"error: {error}")
        return error.exit_code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _tell(text: str) -> None:
    """Say on standard error that a fault strikes; a reader that has gone stops nothing."""
    with contextlib.suppress(OSError):
        print(f"fault: {text}", file=sys.stderr, flush=True)


def _watch_stdin(ended: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    ended.set()


if __name__ == "__main__":
    sys.exit(main())
