"""The whole of lab.yaml, and what its sections must be to each other."""

from __future__ import annotations

from pydantic import model_validator

from .kinds import Facts, MisplacedError, Text
from .sections import DutFacts, ProbeFacts, ScopeFacts, SupplyFacts, Wiring
from .simulation import BOARD_CURRENTS, SimulationFacts

TRANSPORTS = {"scope": ("socket", "vxi11", "hislip"), "supply": ("prologix", "serial")}
"""What `sim:` resources can stand for."""


class Lab(Facts):
    """One bench."""

    bench: Text
    visa: Text = "@py"
    scope: ScopeFacts
    supply: SupplyFacts
    probe: ProbeFacts
    wiring: Wiring
    dut: DutFacts
    calibrations: Text | None = None
    """Folder of calibration records, of which those that fit are used; its path counts from where lab.yaml is."""
    simulation: SimulationFacts | None = None

    @model_validator(mode="after")
    def _voltage_shown(self) -> Lab:
        span = self.wiring.voltage
        if self.supply.voltage_v >= span.high_v:
            raise MisplacedError(
                f"{span.high_v:g} hides supply.voltage_v {self.supply.voltage_v:g}: raise it",
                "wiring",
                "voltage",
                "high_v",
            )
        return self

    @model_validator(mode="after")
    def _known_transports(self) -> Lab:
        for name, facts in (("scope", self.scope), ("supply", self.supply)):
            for resource in facts.resource:
                transport = resource.removeprefix("sim:")
                if transport != resource and (transport not in TRANSPORTS[name] or len(facts.resource) > 1):
                    known = " or ".join(f"sim:{t}" for t in TRANSPORTS[name])
                    raise MisplacedError(
                        f"{resource!r} stands for nothing here: write {known}, alone", name, "resource"
                    )
        return self

    @model_validator(mode="after")
    def _simulation_present(self) -> Lab:
        if self.simulation is None:
            for name, facts in (("scope", self.scope), ("supply", self.supply)):
                if any(r.startswith("sim:") for r in facts.resource):
                    raise MisplacedError("is simulated but there is no `simulation:` section", name, "resource")
            if self.dut.marker == "simulated":
                raise MisplacedError("is simulated but there is no `simulation:` section", "dut", "marker")
            if self.dut.simulated is not None:
                raise MisplacedError("needs a `simulation:` section and simulated instruments", "dut", "simulated")
        elif self.dut.simulated is not None:
            for name, facts in (("scope", self.scope), ("supply", self.supply)):
                if not any(r.startswith("sim:") for r in facts.resource) and not self.simulation.state_dir:
                    raise MisplacedError("a simulated board needs sim:TRANSPORT here", name, "resource")
            for key in BOARD_CURRENTS:
                if key in self.simulation.world.model_fields_set:
                    raise MisplacedError("a simulated board sets it itself: delete it", "simulation", "world", key)
        elif not self.simulation.state_dir and self.dut.marker != "simulated":
            resources = [*self.scope.resource, *self.supply.resource]
            if not any(r.startswith("sim:") for r in resources):
                raise MisplacedError(
                    "nothing of this bench is simulated, and its results would be called so: delete it", "simulation"
                )
        return self
