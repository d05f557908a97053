"""What a simulated board (`dut.simulated`) can be asked for: networks of known size, the way its model runs them."""

from __future__ import annotations

from experiments import networks
from experiments.networks.specs import BUSY
from experiments.plan import Plan
from instruments.dut_protocol import Mode
from instruments.errors import ConfigError
from instruments.lab import Lab


def known_size(network: str) -> dict[str, int] | None:
    """What is known of a network without running it, which a simulated board must be told; None for others."""
    try:
        return networks.size(network)
    except networks.UnknownNetworkError:
        return None


def check_modelled(lab: Lab, plan: Plan) -> None:
    """Raise ConfigError for what the model of a simulated board cannot do; other boards say so themselves."""
    if lab.dut.simulated is None:
        return
    board = f"dut.simulated: {lab.dut.simulated} is a model"
    busy = BUSY.partition(":")[0] + ":"
    strange = [n for n in plan.networks if not n.startswith(busy) and known_size(n) is None]
    if strange:
        raise ConfigError(
            f"--networks {', '.join(strange)}: {board} and knows the networks of `python -m experiments.networks` and "
            f"{BUSY}, whose sizes are known without running them"
        )
    if plan.run.mode != Mode():
        raise ConfigError(f"{board} of fp32 without further modes: leave out what asks for {plan.run.mode.label()}")
    if plan.run.weights != "random":
        raise ConfigError(f"--weights {plan.run.weights}: {board} and has no weights to load")
    if plan.run.device == "cpu":
        raise ConfigError(f"--device cpu: {board} and has one device: leave it at auto")
