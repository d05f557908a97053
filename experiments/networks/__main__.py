"""What the networks hold and cost, counted here, and their cited accuracies: python -m experiments.networks."""

import argparse
import json
from typing import List, Optional

from experiments.command import leave, run, say


def main(arguments: Optional[List[str]] = None) -> int:
    """Print the table, or a JSON list of objects."""
    parser = argparse.ArgumentParser(prog="python -m experiments.networks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    options = parser.parse_args(arguments)

    return run(lambda: _show(options.json))


def _show(as_json: bool) -> int:
    from experiments.networks import counting

    rows = counting.table()
    if as_json:
        say(json.dumps(rows, indent=2))
        return 0
    form = "%-13s %5s %12s %9s %9s %11s %7s"
    lines = [form % ("network", "input", "parameters", "GMAC", "G-Ops", "opcounter16", "top-1")]
    for row in rows:
        figures = ("%.4f" % (row["macs"] * 1e-9), "%.4f" % (row["operations"] * 1e-9))
        counter = "%.3f" % (row["operations_opcounter2016"] * 1e-9)
        top1 = "%.2f" % row["top1"]
        lines.append(form % (row["name"], row["input"], row["parameters"], *figures, counter, top1))
    lines.append("G-Ops: 2 a MAC; opcounter16: by the rule of the paper's own counter, bias, ReLU and pooling too.")
    lines.append("top-1 [%] is cited, not measured: --json gives each source.")
    lines += ["%s: %s" % (row["name"], note) for row in rows for note in row["notes"]]
    say("\n".join(lines))
    return 0


if __name__ == "__main__":
    leave(main())
