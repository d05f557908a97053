"""Does the stated interval cover the truth as often as it says? Many simulated sweeps against a world that knows.

    python -m benchmarks.coverage --sweeps 1000 --seed 1 --json

Each sweep draws every error of the bench from the distribution that the budget states for it (`drawn_bench`). Then it
measures as a sweep does, from codes to results: zeros, a comparison with the supply, three repeats of a load of 0.8 A
and one of 0.4 A. Records are 0.76 s long instead of 2 s.

Then, source by source, the same with one error alone against the components of the budget that stand for it: a
component that claims too much or too little shows there even where another dominates the whole.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn_bench import LAB, ROWS, Errors, sweep
from calibration.budget import Budget
from experiments.energy import QUANTITIES, RowResult
from instruments import lab as lab_yaml
from instruments.lab import Lab

_EDGES = ("edge at the gate's rise", "edge at the gate's fall")
_NOISES = (
    "current gain, noise",
    "voltage gain, noise",
    "current zero, noise",
    "current noise",
    "voltage noise",
    "idle baseline, noise",
)

STANDS_FOR: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "supply read-back, current": ((), ("supply read-back, current",), ("current gain, reference",)),
    "supply read-back, voltage": ((), ("supply read-back, voltage",), ("voltage gain, reference",)),
    "zero drift": ((), ("zero drift",), ("current zero, drift", "current gain, drift of the zero")),
    "output off": ((), ("output off",), ("current at output off",)),
    "linearity": ((), ("linearity",), ("current linearity",)),
    "noise": ((), ("noise",), _NOISES),
    "edges": ((), ("edges",), _EDGES),
    "timebase and edges": ((), ("timebase", "edges"), ("timebase", *_EDGES)),
    "marker delay and edges": (
        (),
        ("marker delay", "edges"),
        ("marker delay at the rise", "marker delay at the fall", *_EDGES),
    ),
    "marker jitter and edges": (
        (),
        ("marker jitter", "edges"),
        ("marker jitter at the rise", "marker jitter at the fall", *_EDGES),
    ),
    "repeatability": ((), ("repeatability",), ("repeatability",)),
    "quantisation of noisy codes": (
        ("noise",),
        ("noise", "quantisation"),
        (
            "current quantisation",
            "voltage quantisation",
            "idle baseline, quantisation",
            "idle baseline, quantisation of the voltage",
        ),
    ),
}
"""Source: what is switched on before, what is switched on then, and the components that stand for the difference.

Marks and clocks show in whole samples, so that they are looked at together with those.
"""

GAINS = (
    "current gain, reference",
    "current gain, oscilloscope",
    "voltage gain, reference",
)
"""Stand for the gains where nothing was compared with the supply."""


@functools.cache
def _lab() -> Lab:
    return lab_yaml.load(LAB)


def _world_seed(seed: int, index: int) -> int:
    return (seed * 1_000_003 + index) % 2**40


def _whole(index: int, *, sweeps: int, seed: int, calibrated: bool) -> list[list[tuple[float, float, float]]]:
    """One sweep: value, truth and U of each quantity of each row."""
    lab = _lab()
    rows, truths = sweep(
        lab,
        _world_seed(seed, index),
        Errors.of_sweep(index, sweeps, seed, lab),
        calibrated=calibrated,
    )
    return [
        [(getattr(row, q).value, truth[q], getattr(row, q).expanded()) for q in QUANTITIES]
        for row, truth in zip(rows, truths, strict=True)
    ]


def _by_source(index: int, *, sweeps: int, seed: int, calibrated: bool) -> dict[str, list[tuple[float, float, float]]]:
    """One sweep for each source alone: the error it makes of gross and net energy, U and u of its components."""
    lab = _lab()
    errors = Errors.of_sweep(index, sweeps, seed, lab)
    stands_for = dict(STANDS_FOR)
    if not calibrated:
        stands_for = {k: v for k, v in stands_for.items() if not k.startswith("supply")} | {
            "gain": ((), ("gain",), GAINS)
        }

    def one(*switches: str) -> RowResult:
        on = errors.only(*switches)
        (row,), _ = sweep(lab, _world_seed(seed, index), on, calibrated=calibrated, rows=["0.8 A"])
        return row

    before: dict[tuple[str, ...], RowResult] = {}
    found = {}
    for source, (without, with_it, names) in stands_for.items():
        if without not in before:
            before[without] = one(*without)
        row, plain = one(*with_it), before[without]
        found[source] = [
            _against(getattr(row, q), getattr(plain, q), names)
            for q in ("energy_per_image_j", "net_energy_per_image_j")
        ]
    return found


def _against(found: Budget, perfect: Budget, names: tuple[str, ...]) -> tuple[float, float, float]:
    parts = [c for c in found.components if c.name in names]
    u = math.sqrt(math.fsum(c.u**2 for c in parts))
    return found.value - perfect.value, Budget.interval_of(parts), u


def check(
    sweeps: int, seed: int, *, calibrated: bool = True, by_source: int | None = None, processes: int | None = None
) -> dict[str, Any]:
    """Run the sweeps and count; the same figures for any number of processes.

    `by_source` of them are repeated for each source alone (None: a fifth).
    """
    apart = sweeps // 5 if by_source is None else by_source
    whole = functools.partial(_whole, sweeps=sweeps, seed=seed, calibrated=calibrated)
    single = functools.partial(_by_source, sweeps=max(apart, 1), seed=seed, calibrated=calibrated)
    if processes == 1:
        outcomes, alone = [whole(k) for k in range(sweeps)], [single(k) for k in range(apart)]
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            outcomes = pool.map(whole, range(sweeps), chunksize=8)
            alone = pool.map(single, range(apart), chunksize=2)
    figures = np.array(outcomes)  # sweep, row, quantity, (value, truth, U)
    value, truth, u = figures[..., 0], figures[..., 1], figures[..., 2]
    held = np.abs(value - truth) <= u
    relative = value / truth - 1
    at = {name: k for k, name in enumerate(QUANTITIES)}
    energy, net = at["energy_per_image_j"], at["net_energy_per_image_j"]
    power = u[:, 0, at["power_w"]] / value[:, 0, at["power_w"]]
    result: dict[str, Any] = {
        "coverage": float(held[:, :, energy].mean()),
        "coverage_net": float(held[:, :, net].mean()),
        "bias": float(relative[:, :, energy].mean()),
        "median_relative_u": float(np.median(u[:, :, energy] / value[:, :, energy])),
        "sweeps": sweeps,
        "seed": seed,
        "calibrated": calibrated,
        "bias_net": float(relative[:, :, net].mean()),
        "median_relative_u_net": float(np.median(u[:, :, net] / value[:, :, net])),
        "relative_u_of_power_at_0.8_a": {"median": float(np.median(power)), "largest": float(power.max())},
        "rows": {
            name: {
                q: {
                    "coverage": float(held[:, k, at[q]].mean()),
                    "bias": float(relative[:, k, at[q]].mean()),
                    "median_relative_u": float(np.median(u[:, k, at[q]] / value[:, k, at[q]])),
                }
                for q in QUANTITIES
            }
            for k, name in enumerate(ROWS)
        },
        "by_component": {},
    }
    for source in alone[0] if alone else ():
        spans = np.array([outcome[source] for outcome in alone])  # sweep, gross or net, (error, U, u)
        result["by_component"][source] = {
            name: _figures(spans[:, k, 0], spans[:, k, 1], spans[:, k, 2]) for k, name in enumerate(("gross", "net"))
        }
    return result


def _figures(error: NDArray[np.float64], half: NDArray[np.float64], u: NDArray[np.float64]) -> dict[str, float | None]:
    """Share of errors within U, and how large they are over how large they are said to be; None where nothing is."""
    if not np.any(half > 0):
        return {"coverage": None, "ratio": None}
    rms = math.sqrt(float((error**2).mean()) / float((u**2).mean()))
    return {"coverage": float((np.abs(error) <= half).mean()), "ratio": rms}


def text(result: dict[str, Any]) -> str:
    """The figures for a reader."""
    kind = "calibrated" if result["calibrated"] else "without calibration"
    lines = [
        f"{result['sweeps']} sweeps, {kind}, seed {result['seed']}",
        f"coverage of energy per image  {result['coverage'] * 100:6.2f} %, net {result['coverage_net'] * 100:.2f} %",
        f"bias                          {result['bias'] * 100:+7.3f} %, net {result['bias_net'] * 100:+.3f} %",
        f"median U                      {result['median_relative_u'] * 100:6.2f} %, "
        f"net {result['median_relative_u_net'] * 100:.2f} %",
        f"U of power at 0.8 A           {result['relative_u_of_power_at_0.8_a']['median'] * 100:6.2f} %, "
        f"at most {result['relative_u_of_power_at_0.8_a']['largest'] * 100:.2f} %",
        "",
        f"{'row':8s}{'quantity':26s}{'coverage':>10s}{'bias':>10s}{'median U':>10s}",
    ]
    for name, quantities in result["rows"].items():
        for q, f in quantities.items():
            shares = f"{f['coverage'] * 100:9.1f}%{f['bias'] * 100:+9.3f}%{f['median_relative_u'] * 100:9.3f}%"
            lines.append(f"{name:8s}{q:26s}{shares}")
    if result["by_component"]:
        lines += ["", "one error alone, against its components: coverage, and rms error over stated u"]
        lines.append(f"{'source':34s}{'gross energy':>18s}{'net energy':>18s}")
        for source, sides in result["by_component"].items():
            shown = [
                "-" if s["ratio"] is None else f"{s['coverage'] * 100:.1f}%  {s['ratio']:.2f}" for s in sides.values()
            ]
            lines.append(f"{source:34s}{shown[0]:>18s}{shown[1]:>18s}")
    return "\n".join(lines)


def main() -> None:
    """Run the check as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--no-calibration", action="store_true", help="leave out the comparison with the supply")
    parser.add_argument("--by-source", type=int, metavar="N", help="sweeps for each source alone (default: a fifth)")
    parser.add_argument("--processes", type=int, metavar="N", help="(default: one a processor)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--mode", choices=("paper", "long"), default="paper", help="long: runs of many captures")
    parser.add_argument("--adaptive", action="store_true", help="repeats that end once they agree")
    options = parser.parse_args()
    if options.sweeps < 1:
        parser.error("--sweeps: at least 1")
    if options.mode == "long" or options.adaptive:
        from benchmarks import coverage_long  # which builds upon this one

        ask = coverage_long.check_adaptive if options.adaptive else coverage_long.check_long
        found = ask(options.sweeps, options.seed, options.processes)
        print(json.dumps(found, indent=1) if options.json else coverage_long.text(found))
        return
    result = check(
        options.sweeps,
        options.seed,
        calibrated=not options.no_calibration,
        by_source=options.by_source,
        processes=options.processes,
    )
    print(json.dumps(result, indent=1) if options.json else text(result))


if __name__ == "__main__":
    main()
