"""Whether a board has the sensor that somebody wants to be read during its runs, by what it told of the first. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from instruments.errors import ConfigError

UNITS = ("W", "J")
"""Sensors of power, and counters of energy."""

SUPPLY = "supply"
"""The sensor that is not the board's."""


def require_sensor(wanted: str, told: str) -> None:
    """Raise ConfigError where a run's facts (JSON) say that the board has no sensor `wanted`, with those it has."""
    try:
        facts = json.loads(told)
    except ValueError:
        return
    watch = facts.get("watch") if isinstance(facts, Mapping) else None
    if isinstance(watch, Mapping) and not watch.get("missing"):
        return
    after = facts.get("sensors_after") if isinstance(facts, Mapping) else None
    there = sorted(str(name) for name, one in (after if isinstance(after, Mapping) else {}).items() if _of_power(one))
    raise ConfigError(
        f"--sensor {wanted}: the board has no such sensor of power or energy, or may not read it; there are "
        f"{', '.join((*there, SUPPLY))}"
    )


def _of_power(sensor: Any) -> bool:
    return isinstance(sensor, Mapping) and sensor.get("unit") in UNITS
