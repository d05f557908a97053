"""``python -m experiments.networks [--json]``: what the networks hold and cost, counted here, and cited accuracies."""

import argparse
import json
import sys
from typing import List, Optional


def main(arguments: Optional[List[str]] = None) -> int:
    """Print the table, or a JSON list of objects."""
    parser = argparse.ArgumentParser(prog="python -m experiments.networks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    options = parser.parse_args(arguments)

    from experiments.networks import counting

    rows = counting.table()
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(
        "%-13s %5s %12s %9s %9s %11s %7s" % ("network", "input", "parameters", "GMAC", "G-Ops", "opcounter16", "top-1")
    )
    for row in rows:
        print(
            "%-13s %5d %12d %9.4f %9.4f %11.3f %7.2f"
            % (
                row["name"], row["input"], row["parameters"], row["macs"] * 1e-9, row["operations"] * 1e-9,
                row["operations_opcounter2016"] * 1e-9, row["top1"],
            )
        )  # fmt: skip
    print("top-1 [%] is cited, not measured: --json gives each source; V exact, P off a bitmap, D derived.")
    for row in rows:
        for note in row["notes"]:
            print("%s: %s" % (row["name"], note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
