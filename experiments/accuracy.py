"""How often a network is right: top-1 and top-5 over labelled images, with intervals.

`python -m experiments.accuracy --data IMAGENET_VAL --network NAME --weights FILE`. As in the paper one crop from the
centre of each image is judged; `--crops 10` is its counter-example. Without `--data` the cited value is shown,
and marked so. An image that cannot be read is named, left out and counted, and the exit code is then 1: the figure is
one of the images that remain.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import complain, leave, run, say
from instruments.wording import counted

if TYPE_CHECKING:
    from experiments.judge import Judge, Network
    from experiments.pictures import Crops, DataSet, Floats, Labelled

COVERAGE = 0.95
READERS = 4
SAY_EVERY_S = 5.0
TOP = 5


@dataclass(frozen=True)
class Share:
    """A share of right answers in percent, with its Wilson score interval of 95 %."""

    right: int
    of: int

    @property
    def percent(self) -> float:
        """The share."""
        return 100.0 * self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end (Wilson 1927, JASA 22, 209), in percent."""
        from scipy.stats import binomtest

        ci = binomtest(self.right, self.of).proportion_ci(COVERAGE, method="wilson")
        return 100.0 * float(ci.low), 100.0 * float(ci.high)

    def text(self) -> str:
        """For a line of output."""
        low, high = self.interval
        return f"{self.percent:.2f} % [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class Counted:
    """Images judged, how many of them right within the first and the first five answers, and what was left out."""

    images: int
    top1: int
    top5: int
    unreadable: int


def ranks(scores: Floats, truth: Sequence[int]) -> list[int]:
    """How many classes stand before the true one in each row of (n, classes); a tie counts against the network."""
    return [int((row >= row[index]).sum()) - 1 for row, index in zip(scores, truth, strict=True)]


def count(
    data: DataSet, crops: Crops, judge: Judge, batch: int, tell: Callable[[str], None], note: Callable[[str], None]
) -> Counted:
    """Judge every image; `tell` hears of each that cannot be read, `note` from time to time how far it is."""
    images = top1 = top5 = unreadable = 0
    noted_s = time.monotonic()
    for found, truth, complaints in _batches(data.images, crops, batch):
        for complaint in complaints:
            tell(complaint)
        unreadable += len(complaints)
        if truth:
            answers = _mean_of_crops(judge(found), crops.count)
            for rank in ranks(answers, truth):
                images, top1, top5 = images + 1, top1 + (rank < 1), top5 + (rank < TOP)
        if time.monotonic() - noted_s > SAY_EVERY_S and images:
            noted_s = time.monotonic()
            note(f"{images + unreadable} of {len(data.images)} images, top-1 {100 * top1 / images:.2f} % so far")
    return Counted(images, top1, top5, unreadable)


def _mean_of_crops(scores: Floats, crops: int) -> Floats:
    """The mean of the crops' probabilities (softmax); of one crop its own scores."""
    import numpy as np

    if crops == 1:
        return scores
    powers = np.exp((scores - scores.max(axis=1, keepdims=True)).astype(np.float64))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return np.asarray(shares.reshape(-1, crops, scores.shape[1]).mean(axis=1))


def _batches(images: Sequence[Labelled], crops: Crops, batch: int) -> Iterator[tuple[Floats, list[int], list[str]]]:
    """Crops and truth of up to `batch` images at a time, and what could not be read; the next ones are read ahead."""
    import numpy as np

    from experiments.pictures import UnreadableError

    with ThreadPoolExecutor(READERS) as pool:

        def submit(at: int) -> list[Future[Floats]]:
            return [pool.submit(crops.of, image.path) for image in images[at : at + batch]]

        ahead = submit(0)
        for at in range(0, len(images), batch):
            futures, ahead = ahead, submit(at + batch)
            found, truth, complaints = [], [], []
            for image, future in zip(images[at : at + batch], futures, strict=True):
                try:
                    found.append(future.result())
                    truth.append(image.index)
                except UnreadableError as error:
                    complaints.append(str(error))
            yield (np.concatenate(found) if found else np.empty(0, np.float32)), truth, complaints


def _cited(name: str) -> dict[str, Any] | None:
    from experiments import networks

    try:
        network = networks.get(name)
    except networks.UnknownNetworkError:
        return None
    return {"top1": network.top1, "top1_source": network.top1_source}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 good, 1 some images could not be read, 2 usage, data or weights, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.accuracy",
        description=(__doc__ or "").split("\n")[0],
        epilog="exit codes: 0 good, 1 some files could not be read, 2 usage, data or weights, 130 interrupted",
    )
    parser.add_argument("--network", required=True, metavar="NAME", help="as --networks of power_sweep takes it")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="images: a folder for each class, or flat with --truth"
    )
    parser.add_argument("--weights", metavar="FILE", help="a state_dict, or `torchvision`")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="lines `FILE CLASS`, for images in one folder")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line, in the network's order")
    parser.add_argument(
        "--crops", type=int, choices=(1, 10), default=1, help="1: the centre (default); 10: corners too"
    )
    parser.add_argument("--resize", type=int, metavar="PX", help="shorter side before the crop (default: 256)")
    parser.add_argument("--mean", type=_three, metavar="R,G,B", help="subtracted, in shares of full scale")
    parser.add_argument("--std", type=_three, metavar="R,G,B", help="then divided by")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="images at a time (default: 16)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    args = parser.parse_args(arguments)
    if args.batch < 1:
        parser.error(f"--batch {args.batch}: begins at 1")
    return run(lambda: _accuracy(args))


def _three(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers with commas between") from None
    return red, green, blue


def _accuracy(args: argparse.Namespace) -> int:
    from instruments.errors import ConfigError

    cited = _cited(args.network)
    if args.data is None:
        if cited is None:
            raise ConfigError(f"no accuracy of {args.network} is cited: measure it with --data and --weights")
        return _show_cited(args, cited)
    from experiments import judge, pictures

    data = pictures.find(args.data, args.truth, args.classes)
    network = judge.load(args.network, args.weights or "random", args.device)
    if network.weights == "random":
        raise ConfigError(f"--network {network.name} has random weights: name trained ones with --weights")
    data.check(network.outputs)
    resize_px = args.resize or pictures.usual_resize(network.size_px)
    if resize_px < max(network.size_px):
        raise ConfigError(f"--resize {resize_px} is smaller than the input of {max(network.size_px)}")
    crops = pictures.Crops(resize_px, network.size_px, args.crops, args.mean or pictures.MEAN, args.std or pictures.STD)
    if not all(crops.std):
        raise ConfigError("--std: nothing can be divided by 0")
    tally = count(
        data, crops, network.judge, args.batch, complain, (lambda _: None) if args.quiet else _to_error_stream
    )
    if not tally.images:
        raise ConfigError(
            f"--data {args.data}: none of its {counted(tally.unreadable, 'file')} is an image that can be read"
        )
    _show(args, network, crops, tally, cited)
    return 1 if tally.unreadable else 0


def _to_error_stream(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _show_cited(args: argparse.Namespace, cited: dict[str, Any]) -> int:
    if args.json:
        say(json.dumps({"network": args.network, **cited, "source": "cited"}, indent=2))
    else:
        say(f"{args.network}: top-1 {cited['top1']:.2f} %, cited from {cited['top1_source']}")
    return 0


def _show(
    args: argparse.Namespace, network: Network, crops: Crops, tally: Counted, cited: dict[str, Any] | None
) -> None:
    shares = {"top1": Share(tally.top1, tally.images)}
    if network.outputs > TOP:
        shares["top5"] = Share(tally.top5, tally.images)
    if args.json:
        found: dict[str, Any] = {
            "network": network.name,
            "source": "measured",
            "weights": network.weights,
            "data": str(args.data),
            "images": tally.images,
            "unreadable": tally.unreadable,
            "outputs": network.outputs,
            "crops": crops.count,
            "resize_px": crops.resize_px,
            "input_px": list(crops.size_px),
            "mean": list(crops.mean),
            "std": list(crops.std),
            "batch": args.batch,
            "device": network.device,
            "coverage_probability": COVERAGE,
        }
        for name, share in shares.items():
            low, high = share.interval
            found |= {name: share.percent, f"{name}_low": low, f"{name}_high": high, f"{name}_right": share.right}
        if cited is not None:
            found["cited"] = cited
        say(json.dumps(found, indent=2))
        return
    size = "x".join(map(str, crops.size_px))
    weights = network.weights.get("source", network.weights) if isinstance(network.weights, dict) else network.weights
    what = f"{counted(tally.images, 'image')}, {counted(crops.count, 'crop')} of {size}"
    say(f"{network.name}: {what}, {network.device}, weights: {weights}")
    for name, share in shares.items():
        say(f"top-{name[-1]} {share.text()}, measured")
    if cited is not None:
        low, high = shares["top1"].interval
        place = "inside" if low <= cited["top1"] <= high else "outside"
        say(f"top-1 {cited['top1']:.2f} % cited ({cited['top1_source']}) lies {place} the interval")
    if tally.unreadable:
        say(
            counted(
                tally.unreadable,
                "file could not be read and is left out",
                "files could not be read and are left out",
            )
        )


if __name__ == "__main__":
    leave(main())
