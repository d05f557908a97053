"""The options of a sweep, and the plan that they make for a bench. Opens nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from instruments.dut_protocol import DTYPES

if TYPE_CHECKING:
    from experiments.plan import Method, Plan, RunOptions
    from instruments.lab import Lab

DEFAULT_NETWORKS = "AlexNet,BN-NIN,ResNet-18"
DEFAULT_BATCHES = "1,2,4,8"
DEVICES = ("auto", "cpu", "cuda")
LONG_S = 60.0
LONG_BATCH = ("longer-record", "consecutive", "steady")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.power_sweep",
        description="Measure energy per image of networks over batch sizes, with uncertainties.",
        epilog="exit codes: 0 good, 1 some cells rejected or nothing measured, 2 usage or configuration, 3 instrument, "
        "130 interrupted",
    )
    p.add_argument("--lab", type=Path, default=Path("lab.yaml"), metavar="FILE", help="the bench (default: lab.yaml)")
    p.add_argument(
        "--networks",
        default=DEFAULT_NETWORKS,
        metavar="A,B",
        help="networks, 'paper' for all 14, package.module:factory, torchvision:NAME, timm:NAME, FILE.pt, FILE.pt2, "
        "FILE.onnx, 'command:PROGRAM ARGS', or busy:MS, a load of MS ms a batch; see docs/any-network.md "
        f"(default: {DEFAULT_NETWORKS})",
    )
    p.add_argument(
        "--batches", default=DEFAULT_BATCHES, metavar="1,2,4", help=f"batch sizes (default: {DEFAULT_BATCHES})"
    )
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="repeats of each cell (default: 3)")
    p.add_argument(
        "--target-u",
        type=float,
        metavar="PERCENT",
        help="repeat each network and batch until the type-A 95 %% interval of its energy per image is within so many "
        "%% of it; --repeats are the least",
    )
    p.add_argument("--max-repeats", type=int, metavar="N", help="the most repeats with --target-u")
    p.add_argument("--window", type=float, default=2.0, metavar="S", help="length of a record in s (default: 2.0)")
    p.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of the order of cells, weights, inputs and a simulated bench's errors "
        "(default: simulation.seed of the lab file, else 1)",
    )
    record = p.add_argument_group("how a run is recorded; see docs/long-runs.md")
    record.add_argument(
        "--mode",
        choices=("paper", "long"),
        default="paper",
        help="one record a cell, or runs of --long-s seconds in consecutive captures (default: paper)",
    )
    record.add_argument(
        "--long-s", type=float, metavar="S", help=f"least length of a run in long mode (default: {LONG_S:g})"
    )
    record.add_argument(
        "--long-batch",
        choices=LONG_BATCH,
        default="longer-record",
        help="what is done with a batch that is longer than the record (default: longer-record)",
    )
    how = p.add_argument_group("how networks are run on the board")
    how.add_argument("--device", choices=DEVICES, help="(default: dut.device of the lab file, else auto: a GPU if any)")
    how.add_argument("--dtype", choices=DTYPES, default="fp32", help="of weights and inputs (default: fp32)")
    how.add_argument("--channels-last", action="store_true", help="images and weights with channels innermost")
    how.add_argument("--compile", action="store_true", help="with torch.compile")
    how.add_argument("--cuda-graphs", action="store_true", help="each batch as one replay of a CUDA graph")
    how.add_argument(
        "--threads", type=int, metavar="N", help="of the CPU; 0: the library's choice (default: dut.threads)"
    )
    how.add_argument(
        "--weights",
        default="random",
        metavar="FILE",
        help="a state_dict's file on the board, torchvision, or random (default)",
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: runs/<UTC>)")
    p.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with the run in DIR, which ended early, at its first open cell",
    )
    p.add_argument(
        "--calibration",
        type=Path,
        action="append",
        default=[],
        metavar="REC",
        help="a calibration record, instead of those of its kind that the lab file names; may be given again",
    )
    p.add_argument(
        "--require-calibration",
        action="store_true",
        help="refuse a record that is expired or of another instrument, range or turns, or that disagrees with this "
        "run's own comparison with the supply or does not reach it, a run without any, and the cells beyond its range",
    )
    p.add_argument("--dry-run", action="store_true", help="check everything that needs no instrument, print the plan")
    p.add_argument("--transcript", type=Path, metavar="FILE", help="write every message to and from the instruments")
    p.add_argument(
        "--unattended",
        action="store_true",
        help="nobody is there to prepare the current clamp: ask nothing before its zero",
    )
    p.add_argument(
        "--gain-check",
        action="store_true",
        help="read the supply during every cell too and compare the gain of the current with it; see "
        "docs/calibration.md",
    )
    p.add_argument("--budget", action="store_true", help="print the uncertainty budget of every result")
    p.add_argument("--quiet", action="store_true", help="show no progress: only results, warnings and errors")
    return p


def plan_of(args: argparse.Namespace, lab: Lab) -> Plan:
    """What the options ask for on a bench; raises ConfigError where that cannot be."""
    from experiments.plan import make_plan

    seed = args.seed if args.seed is not None else lab.simulation.seed if lab.simulation is not None else 1
    networks, batches = _networks(args.networks), _batches(args.batches)
    return make_plan(
        networks, batches, args.repeats, args.window, seed, _run_options(args, lab), _method(args), args.max_repeats
    )


def refuse_with_resume(args: argparse.Namespace) -> None:
    """Refuse what a run that is gone on with has already chosen; raises ConfigError."""
    from instruments.errors import ConfigError

    usual = parser()
    fixed = ["lab", "networks", "batches", "repeats", "window", "seed", "out", "dry_run", "device", "threads", "dtype"]
    fixed += ["channels_last", "compile", "cuda_graphs", "weights", "calibration", "require_calibration"]
    fixed += ["mode", "long_s", "long_batch", "target_u", "max_repeats", "gain_check"]
    given = [name for name in fixed if getattr(args, name) != usual.get_default(name)]
    if given:
        raise ConfigError(f"--resume goes on with the plan that the run has: leave out --{given[0].replace('_', '-')}")


def _networks(text: str) -> list[str]:
    from experiments.networks.errors import SpecError
    from experiments.networks.specs import parse_list
    from instruments.errors import ConfigError

    try:
        return [spec.text for spec in parse_list(text)]
    except SpecError as error:
        raise ConfigError(f"--networks: {error}") from error


def _run_options(args: argparse.Namespace, lab: Lab) -> RunOptions:
    """What the options say, and where they say nothing, the lab file."""
    from experiments.plan import RunOptions
    from instruments.dut_protocol import Mode

    return RunOptions(
        device=args.device or lab.dut.device,
        threads=lab.dut.threads if args.threads is None else args.threads,
        mode=Mode(args.dtype, args.channels_last, args.compile, args.cuda_graphs),
        weights=args.weights,
    )


def _method(args: argparse.Namespace) -> Method:
    """How a cell is recorded and how often."""
    from experiments.plan import Method
    from instruments.errors import ConfigError

    if args.mode != "long" and args.long_s is not None:
        raise ConfigError("--long-s is the length of runs in long mode: give --mode long with it")
    if args.gain_check and (args.mode == "long" or args.long_batch != "longer-record"):
        raise ConfigError(
            "--gain-check compares the supply with the one record of a cell: leave it out, or --mode and --long-batch"
        )
    long_s = (LONG_S if args.long_s is None else args.long_s) if args.mode == "long" else None
    return Method(long_s, args.long_batch, args.target_u, args.gain_check)


def _batches(text: str) -> list[int]:
    from instruments.errors import ConfigError

    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--batches {text!r}: whole numbers with commas between are expected, as 1,2,4,8") from error
