"""What is wrong with a lab.yaml that only the instruments' facts tell, found before any of them is opened.

Its sections are read and checked by `instruments.lab`; here they meet the models that they name, the grammar of
resources and marker lines, and this machine. Nothing is sent anywhere.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from instruments import addresses, scope_facts
from instruments import lab as lab_yaml
from instruments.bench import load_drivers, require_read_back, supply_limits
from instruments.e3645a import check_set_points
from instruments.e3645a.ratings import RANGE_LIMITS
from instruments.errors import ConfigError, LabError, LimitError
from instruments.lab import Lab
from instruments.link import check_library
from instruments.marker_line import MarkerError, read_spec

MARKER_KINDS = ("none", "simulated", "serial", "gpio")


def read_bench(path: str | Path) -> tuple[Lab, str]:
    """Read a lab.yaml and check all of it that needs no instrument; gives it and its text.

    Raises ConfigError that names file and line of what is wrong.
    """
    text = lab_yaml.read_text(path)
    lab = lab_yaml.parse(text, name=str(path))
    check_without_instruments(lab, text, str(path))
    return lab, text


def check_without_instruments(lab: Lab, text: str, name: str) -> None:
    """Find the mistakes of a lab.yaml that need no instrument to be found. Raises ConfigError with their lines."""
    wrong: list[str] = []
    for check in (_library, _addresses, _marker, scope_facts.capabilities, scope_facts.channel_settings, _supply):
        try:
            with lab_yaml.lines_of(text, name):
                check(lab)
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))


def _library(lab: Lab) -> None:
    """Refuse what is there and is no library; what is not there, another machine may have."""
    if os.path.exists(lab.visa) and "PYVISA_LIBRARY" not in os.environ:
        try:
            check_library(lab.visa)
        except ConfigError as error:
            raise LabError(str(error), "visa") from error


def _addresses(lab: Lab) -> None:
    for name, facts in (("scope", lab.scope), ("supply", lab.supply)):
        if any(resource.startswith("sim:") for resource in facts.resource):
            continue
        for k, resource in enumerate(facts.resource):
            if wrong := addresses.mistake(resource, lab.visa):
                raise LabError(wrong, name, "resource", k)
        if wrong := addresses.wrong_together(facts.resource):
            raise LabError(wrong, name, "resource")


def _marker(lab: Lab) -> None:
    """Refuse what no agent understands; a kind of the user's own (docs/adding.md) is known to its agent alone."""
    spec = lab.dut.marker
    if spec == "simulated":
        return
    try:
        read_spec(spec)
    except MarkerError as error:
        kind, colon, _ = spec.partition(":")
        if not colon or kind in MARKER_KINDS:
            raise LabError(str(error), "dut", "marker") from error
        if near := difflib.get_close_matches(kind, MARKER_KINDS, 1, 0.6):
            raise LabError(f"{error}; did you mean {near[0]}?", "dut", "marker") from error


def _supply(lab: Lab) -> None:
    require_read_back(lab, load_drivers(lab)[1])
    facts, limits = lab.supply, supply_limits(lab)
    for key, voltage_v, current_a in (
        ("voltage_v", facts.voltage_v, None),
        ("current_limit_a", None, facts.current_limit_a),
    ):
        try:
            check_set_points("supply", facts.range, limits, voltage_v, current_a)
        except LimitError as error:
            most = RANGE_LIMITS[facts.range][key == "current_limit_a"]
            raise LabError(
                f"{getattr(facts, key):g} is above {most:g}, the most of range {facts.range}: lower it, or take the "
                "other supply.range",
                "supply",
                key,
            ) from error
    if facts.ovp_v > limits.ovp_v:
        raise LabError(f"{facts.ovp_v:g} is above the {limits.ovp_v:g} V that it can be set to", "supply", "ovp_v")


def missing_here(
    lab: Lab,
    exists: Callable[[str], bool] = os.path.exists,
    installed: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
    program: Callable[[str], object] = shutil.which,
) -> list[LabError]:
    """What this machine lacks of what the bench needs: another one, or this one later, may have it."""
    found: list[LabError] = []
    simulated = [r for facts in (lab.scope, lab.supply) for r in facts.resource if r.startswith("sim:")]
    if not simulated:
        try:
            check_library(lab.visa)
        except ConfigError as error:
            found.append(LabError(str(error), "visa"))
    for name, facts in (("scope", lab.scope), ("supply", lab.supply)):
        behind = len(facts.resource) > 1
        for k, resource in enumerate(facts.resource):
            port, kind = addresses.device_file(resource), resource.upper()
            lacks = ""
            if port and not exists(port):
                lacks = f"there is no {port} on this machine: plug the adapter in, or name the port that it has"
            elif kind.startswith("GPIB") and not behind and lab.visa.startswith("@"):
                if not (installed("gpib") or installed("gpib_ctypes")):
                    lacks = (
                        "a GPIB board needs linux-gpib or gpib-ctypes, and neither is installed on this machine: "
                        "install one, name a vendor's library in visa, or name the Prologix adapter before it"
                    )
            elif kind.startswith("USB") and lab.visa.startswith("@") and not installed("usb"):
                lacks = "a USB instrument needs PyUSB, which is not installed on this machine: install it"
            if lacks:
                found.append(LabError(lacks, name, "resource", k))
    found += _missing_on_the_board(lab, program)
    return found


def _missing_on_the_board(lab: Lab, program: Callable[[str], object]) -> list[LabError]:
    first = (lab.dut.command or ["{python}"])[0]
    found = []
    if "{" not in first and program(first) is None:
        found.append(LabError(f"there is no program {first!r} on this machine: install it", "dut", "command", 0))
    kind = lab.dut.marker.partition(":")[0]
    if kind not in MARKER_KINDS:
        found.append(
            LabError(
                f"{kind!r} is no kind of marker lines of this toolkit ({', '.join(MARKER_KINDS)}): right where the "
                "program of dut.command has it",
                "dut",
                "marker",
            )
        )
    return found


def warnings_of(lab: Lab, text: str, name: str) -> list[str]:
    """What this machine lacks (`missing_here`), each with file and line."""
    said = []
    for error in missing_here(lab):
        try:
            with lab_yaml.lines_of(text, name):
                raise error
        except ConfigError as told:
            said.append(str(told))
    return said
