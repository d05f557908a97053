"""What a simulated board does with a network: time of a batch, power, memory. Models, labelled as such. Pure.

`tx1` follows what Canziani, Paszke and Culurciello state of the Jetson TX1 (arXiv 1605.07678): 1.30 W at rest, about
11.8 W more at full use whatever the network, VGG about 0.2 s an image, AlexNet about three times faster per image at
batch 64 than at batch 1, memory with a floor of 200 MB up to 100 MB of parameters and a slope of 1.30 above, growth in
proportion to the batch after a knee, 16 as the largest batch that every network can run. Between these it is a
roofline: operations over a throughput, weights once a batch and activations once an image over a bandwidth.

`counter` is a board of which none of the paper's findings is true: its power follows network and batch, its time and
its energy have nothing to do with operations, parameters or accuracy, its memory knows neither floor nor knee. It is
there so that an analysis can be seen to say no.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

MB = 1e6
FLOAT_BYTES = 4


@dataclass(frozen=True)
class NetworkSize:
    """What the bench tells of a network: parameters, and operations (two a multiply-accumulate) and elements written
    by its layers for one image."""

    parameters: int
    operations: int
    activations: int

    @property
    def weights_bytes(self) -> float:
        """Bytes of its parameters in single precision."""
        return FLOAT_BYTES * self.parameters


@dataclass(frozen=True)
class Work:
    """One network at one batch size: seconds a batch, watts above rest while it runs, bytes of memory above rest.

    `busy_share` is the part of a batch, from its beginning, in which it works; in the other it rests.
    """

    batch_s: float
    net_power_w: float
    memory_bytes: float
    busy_share: float = 1.0


class BoardModel(Protocol):
    """A board's constants, and what it does with a network."""

    @property
    def title(self) -> str:
        """What it stands for."""

    @property
    def idle_w(self) -> float:
        """Power at rest, W."""

    @property
    def full_w(self) -> float:
        """Usual power above rest at full use, W."""

    @property
    def memory_bytes(self) -> float:
        """What a network can take."""

    def work(self, network: str, size: NetworkSize, batch: int) -> Work:
        """Say what a network does at a batch size."""


@dataclass(frozen=True)
class JetsonTx1:
    """The paper's board. Throughput and bandwidths are fitted to its few stated times, not measured."""

    title: str = "Jetson TX1"
    idle_w: float = 1.30
    full_w: float = 11.8
    memory_bytes: float = 3.3e9
    """Of 4 GB, what the system leaves."""
    operations_per_s: float = 180e9
    weights_bytes_per_s: float = 14e9
    activations_bytes_per_s: float = 20e9
    batch_overhead_s: float = 1.5e-3
    waiting_for_weights_w: float = -0.7
    """Power that is missing while arithmetic waits for weights: why AlexNet at batch 1 draws less."""
    network_spread_w: float = 0.3
    odd_parameters: int = 130_000_000
    odd_batch: int = 2
    odd_w: float = -0.45
    odd_slowdown: float = 1.08
    """The paper's VGG at batch 2: slower and at less power than its neighbours, for no stated reason."""
    floor_bytes: float = 200 * MB
    knee_bytes: float = 100 * MB
    weights_slope: float = 1.30
    kept_share: float = 0.6
    """Share of what layers write that is kept until the pass ends."""

    def work(self, network: str, size: NetworkSize, batch: int) -> Work:
        """Roofline time, nearly constant power, memory with a floor, a slope and a knee."""
        weights_s = size.weights_bytes / self.weights_bytes_per_s
        image_s = size.operations / self.operations_per_s
        image_s += 2 * FLOAT_BYTES * size.activations / self.activations_bytes_per_s
        batch_s = self.batch_overhead_s + weights_s + batch * image_s
        power_w = self.full_w + self.waiting_for_weights_w * weights_s / batch_s
        power_w += self.network_spread_w * _between(-1.0, 1.0, network, "net power")
        if size.parameters > self.odd_parameters and batch == self.odd_batch:
            batch_s *= self.odd_slowdown
            power_w += self.odd_w
        model_bytes = self.floor_bytes + self.weights_slope * max(0.0, size.weights_bytes - self.knee_bytes)
        images_bytes = batch * self.kept_share * FLOAT_BYTES * size.activations
        return Work(batch_s, power_w, max(model_bytes, images_bytes))


@dataclass(frozen=True)
class CounterExample:
    """A board that obeys none of the findings."""

    title: str = "counter-example"
    idle_w: float = 1.30
    full_w: float = 8.0
    memory_bytes: float = 3.3e9
    least_w: float = 2.5
    network_w: float = 6.5
    doubling_w: float = 0.6
    """More power with each doubling of the batch."""
    shortest_s: float = 8e-3
    longest_s: float = 96e-3
    base_bytes: float = 40 * MB
    weights_slope: float = 2.0
    image_bytes: float = 20 * MB

    def work(self, network: str, size: NetworkSize, batch: int) -> Work:
        """Power by network and batch, time by the network's name alone, memory straight from the origin."""
        power_w = self.least_w + _between(0.0, self.network_w, network, "watts")
        power_w += self.doubling_w * math.log2(batch)
        image_s = self.shortest_s * (self.longest_s / self.shortest_s) ** _between(0.0, 1.0, network, "batch time")
        memory = self.base_bytes + self.weights_slope * size.weights_bytes + batch * self.image_bytes
        return Work(batch * image_s, power_w, memory)


MODELS: Mapping[str, BoardModel] = {"tx1": JetsonTx1(), "counter": CounterExample()}
"""What `dut.simulated` of lab.yaml can name."""


def constants(model: BoardModel) -> dict[str, object]:
    """Every constant of a model, by which a run says what it was made of."""
    return asdict(model)  # type: ignore[call-overload,no-any-return]


def _between(low: float, high: float, network: str, what: str) -> float:
    """A number that belongs to a network's name: the same on every run, like nothing else about it."""
    return low + (high - low) * zlib.crc32(f"{what}: {network}".encode()) / 0xFFFFFFFF
