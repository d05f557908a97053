"""lab.yaml as frozen types; every mistake is reported with file, line, key and what to write instead.

Pure but for reading one file. Imports no driver and no simulator.
"""

from __future__ import annotations

from pathlib import Path

from instruments.fault_facts import FaultFacts

from .bench import TRANSPORTS, Lab
from .kinds import NonNegative, Positive, Signed, Text
from .reading import checked, lines_of, read_text
from .sections import (
    CurrentWiring,
    DigitalWiring,
    DutFacts,
    ProbeFacts,
    ReadBackFacts,
    ScopeFacts,
    SupplyFacts,
    SupplyLimitFacts,
    VoltageWiring,
    Wiring,
)
from .simulation import (
    PortFacts,
    SimulatedScopeFacts,
    SimulatedSupplyFacts,
    SimulationFacts,
    WorldFacts,
)

__all__ = [
    "TRANSPORTS",
    "CurrentWiring",
    "DigitalWiring",
    "DutFacts",
    "FaultFacts",
    "Lab",
    "NonNegative",
    "PortFacts",
    "Positive",
    "ProbeFacts",
    "ReadBackFacts",
    "ScopeFacts",
    "Signed",
    "SimulatedScopeFacts",
    "SimulatedSupplyFacts",
    "SimulationFacts",
    "SupplyFacts",
    "SupplyLimitFacts",
    "Text",
    "VoltageWiring",
    "Wiring",
    "WorldFacts",
    "checked",
    "lines_of",
    "load",
    "load_faults",
    "parse",
    "parse_faults",
    "read_text",
]


def load(path: str | Path) -> Lab:
    """Read and check a lab.yaml.

    Raises ConfigError that lists every mistake as `file:line: key: what is wrong`.
    """
    return parse(read_text(path), name=str(path))


def load_faults(path: str | Path) -> FaultFacts:
    """Read and check a file of what goes wrong at a simulated bench. Raises ConfigError as `load` does."""
    return parse_faults(read_text(path, "a file of faults with --faults FILE"), name=str(path))


def parse_faults(text: str, name: str = "faults.yaml") -> FaultFacts:
    """Check the text of such a file; `name` stands before the line in every complaint."""
    return checked(FaultFacts, text, name)


def parse(text: str, name: str = "lab.yaml") -> Lab:
    """Check the text of a lab.yaml; `name` stands before the line in every complaint."""
    return checked(Lab, text, name)
