"""One bench: opens what lab.yaml names, checks who answers, and makes it safe again in reverse order.

The supply's output ends off, verified, on every way out of `open_bench`. Connecting changes nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instruments.clock import Clock, VirtualClock, WallClock
from instruments.dialogue import Dialogue
from instruments.dut import Dut
from instruments.e3645a import E3645A, OVP_LIMIT_V, SupplyLimits
from instruments.e3645a.ratings import FAMILY
from instruments.errors import BenchError, ConfigError, IdentityError, LabError, LinkError, LinkTimeout
from instruments.interrupts import undisturbed
from instruments.lab import Lab
from instruments.link import Link, SerialOptions, Transcript, check_library
from instruments.mso_x2024a import MsoX2024A
from instruments.scpi import Identity
from instruments.simulated_bench import SimulatedBench, wanted

_log = logging.getLogger(__name__)


@dataclass
class Bench:
    """An open bench.

    `simulated` is None where the instruments are real; `leftovers` are the errors that somebody else left
    in the instruments' queues; whoever changes the oscilloscope says so in `scope_changed`. All waiting at
    the bench is by its `clock`.
    """

    lab: Lab
    scope: MsoX2024A
    supply: E3645A
    simulated: SimulatedBench | None
    identities: dict[str, str]
    leftovers: dict[str, list[str]]
    scope_setup_before: bytes = field(repr=False)
    scope_ran_before: bool = False
    scope_changed: bool = False
    dut: Dut | None = None
    clock: Clock = field(default_factory=WallClock)

    @property
    def source(self) -> str:
        """Where this bench's numbers come from."""
        return "simulated" if self.lab.simulation is not None else "measured"

    def dut_command(self) -> list[str]:
        """The device's command with `{python}` and `{marker}` filled in."""
        facts = self.lab.dut
        marker = facts.marker
        if marker == "simulated":
            assert self.simulated is not None
            marker = f"simulated:{self.simulated.ring}"
        return [part.replace("{python}", sys.executable).replace("{marker}", marker) for part in facts.command or ()]

    def start_dut(self) -> Dut:
        """Start the device's agent, or give the one that runs. Raises DutError when it does not answer."""
        if self.dut is None or not self.dut.alive:
            self.stop_dut()
            deadline_s = self.lab.dut.start_timeout_s
            if isinstance(self.clock, VirtualClock):
                assert self.simulated is not None
                self.dut = Dut.of_simulated_bench(self.simulated.board, self.clock, deadline_s)
            else:
                self.dut = Dut.start(self.dut_command(), deadline_s=deadline_s, clock=self.clock)
        return self.dut

    def stop_dut(self) -> None:
        """End the device's agent, if one runs."""
        dut, self.dut = self.dut, None
        if dut is not None:
            dut.close(grace_s=0.5)


@contextlib.contextmanager
def open_bench(
    lab: Lab,
    lab_path: Path,
    *,
    seed: int = 1,
    transcript: Transcript | None = None,
    alarm: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> Iterator[Bench]:
    """Open the instruments of a lab.yaml and check who they are; on leaving, everything is made safe.

    First the device's agent is ended, then the supply's output goes off, then the oscilloscope gets its
    settings back.

    `seed` draws the errors of a simulated bench. `alarm` is told when the output could not be verified
    to be off. Raises LinkError, IdentityError, ConfigError; nothing has been changed by then.
    """
    scope_driver, supply_driver = load_drivers(lab)
    require_read_back(lab, supply_driver)
    check_library(lab.visa)
    with contextlib.ExitStack() as stack:
        simulated = _simulated(lab, lab_path, seed, stack)
        scope_link = _link("scope", lab, simulated, stack, transcript)
        clock: Clock = WallClock()
        timing: dict[str, Any] = {}
        if lab.dut.simulated is not None:
            assert simulated is not None
            clock = stack.enter_context(contextlib.closing(simulated.clock()))
            clock.follow("scope", lambda: scope_link.sent)
            timing = {"clock": clock.monotonic, "sleep": clock.sleep}
        scope: MsoX2024A = scope_driver(scope_link, **timing)
        identities = {"scope": _identify("scope", scope, lab.scope.model, lab.scope.serial)}
        bench: Bench | None = None
        stack.callback(lambda: _leave_scope(bench))
        supply_link = _link("supply", lab, simulated, stack, transcript)
        limits = supply_limits(lab)
        if isinstance(clock, VirtualClock):
            clock.follow("supply", lambda: supply_link.sent)
        supply: E3645A = supply_driver(supply_link, limits=limits, **timing)
        identities["supply"] = _identify("supply", supply, lab.supply.model, lab.supply.serial)
        stack.push(_safe_exit(supply, alarm))
        leftovers = {"scope": [str(e) for e in scope.errors()], "supply": [str(e) for e in supply.errors()]}
        bench = Bench(
            lab, scope, supply, simulated, identities, leftovers, scope.setup(), scope.state().running, clock=clock
        )
        stack.callback(_quietly, bench.stop_dut)
        yield bench


def roll_call(lab: Lab, lab_path: Path) -> dict[str, Identity | BenchError]:
    """Ask each instrument of a lab.yaml by itself who it is, and change nothing; gives what each said, or why not."""
    answers: dict[str, Identity | BenchError] = {}
    with contextlib.ExitStack() as stack:
        simulated = _simulated(lab, lab_path, 1, stack)
        for name in ("scope", "supply"):
            try:
                answers[name] = Dialogue(_link(name, lab, simulated, stack, None)).identity()
            except BenchError as error:
                answers[name] = error
    return answers


def _simulated(lab: Lab, lab_path: Path, seed: int, stack: contextlib.ExitStack) -> SimulatedBench | None:
    if lab.simulation is None:
        return None
    if lab.simulation.state_dir and not (wanted(lab.scope.resource) or wanted(lab.supply.resource)):
        return stack.enter_context(SimulatedBench.attach(Path(lab.simulation.state_dir)))
    return stack.enter_context(SimulatedBench.start(lab_path, seed))


def _link(
    name: str, lab: Lab, simulated: SimulatedBench | None, stack: contextlib.ExitStack, transcript: Transcript | None
) -> Link:
    facts = lab.scope if name == "scope" else lab.supply
    resources = list(facts.resource)
    if wanted(resources):
        assert simulated is not None
        if len(resources) != 1:
            raise ConfigError(f"{name}.resource: one `sim:TRANSPORT` stands for all resources of an instrument")
        resources = simulated.resources(name, resources[0])
    link = Link.open(
        name,
        resources,
        visa=lab.visa,
        timeout_s=facts.timeout_s,
        open_timeout_s=facts.open_timeout_s,
        transcript=transcript,
        serial=_serial_options(lab) if name == "supply" else None,
    )
    stack.callback(_quietly, link.close)
    return link


def _serial_options(lab: Lab) -> SerialOptions:
    """How the supply's RS-232 line is set, where it has one."""
    line = lab.supply.rs232
    return SerialOptions(line.baud_rate, line.data_bits, line.parity, 2, line.flow_control)


def supply_limits(lab: Lab) -> SupplyLimits:
    """What may be asked of the supply on this bench."""
    facts = lab.supply
    return SupplyLimits(facts.limits.voltage_v, facts.limits.current_a, min(facts.most_ovp_v, OVP_LIMIT_V))


def load_drivers(lab: Lab) -> tuple[Any, Any]:
    """Import the driver classes that lab.yaml names. Raises ConfigError for what is no such driver."""
    wanted_methods = {"scope": ("arm", "fetch", "setup", "configure_timebase"), "supply": ("safe_off", "set_voltage")}
    found = []
    for name, path in (("scope", lab.scope.driver), ("supply", lab.supply.driver)):
        module_name, _, class_name = path.partition(":")
        try:
            driver = getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise LabError(f"{path!r} cannot be imported ({error}); write module:Class", name, "driver") from error
        if not isinstance(driver, type) or not all(hasattr(driver, method) for method in wanted_methods[name]):
            raise LabError(f"{path!r} is no driver of a {name}", name, "driver")
        found.append(driver)
    return found[0], found[1]


def require_read_back(lab: Lab, driver: type) -> None:
    """Refuse a supply whose readings nobody has promised anything of: they are the reference of every result.

    Those of the E364xA family are known. Raises ConfigError.
    """
    facts = lab.supply
    of_family = issubclass(driver, E3645A) and FAMILY.fullmatch(facts.model) is not None
    if facts.read_back is None and not of_family:
        raise LabError(
            f"how well a {facts.model} with the driver {facts.driver} reads its own output is not known, "
            "and its readings are the reference of every result: give supply.read_back in lab.yaml from its data "
            "sheet, as\n"
            "  read_back:  # of a reading: share, V or A, one step of the display\n"
            "    voltage: {relative: 0.0005, absolute: 0.005, step: 0.005}\n"
            "    current: {relative: 0.0015, absolute: 0.005, step: 0.001}",
            "supply",
            "model",
        )


def _identify(name: str, instrument: Any, model: str, serial: str) -> str:
    """Refuse any instrument but the one that lab.yaml names; returns its *IDN? as text."""
    try:
        found = instrument.identity()
    except LinkError as error:
        raise LinkError(
            f"does not say who it is ({error.message}); a {model} was expected: check that the address is the "
            "instrument's, that it is switched on, and that no other program talks to it",
            instrument=name,
            resource=instrument.link.resource,
            command="*IDN?",
        ) from error
    if (found.model, found.serial) != (model, serial):
        raise IdentityError(
            f"{model} with serial {serial} (lab.yaml, {name})",
            f"{found.model} with serial {found.serial}",
            instrument=name,
            resource=instrument.link.resource,
        )
    return f"{found.vendor},{found.model},{found.serial},{found.firmware}"


def _quietly(action: Callable[[], object]) -> None:
    """Do a step of the way out that must not stop the others."""
    try:
        action()
    except Exception as error:
        _log.warning("while closing the bench: %s", error)


def open_transcript(path: Path, lab: Lab) -> Transcript:
    """Start a transcript of every message; raises ConfigError when the file cannot be written."""
    try:
        return Transcript(path, origin="simulated" if lab.simulation is not None else "hardware")
    except OSError as error:
        raise ConfigError(f"--transcript {path}: cannot be written ({error.strerror})") from error


def _leave_scope(bench: Bench | None) -> None:
    """Put the oscilloscope back as it was found; a failure is logged, since data and output are safe by then."""
    if bench is None or not bench.scope_changed:
        return
    with undisturbed():
        try:
            try:
                _put_back(bench)
            except LinkError as error:
                if isinstance(error, LinkTimeout):
                    raise
                bench.scope.link.reopen()  # what broke the link may be mended by now
                _put_back(bench)
        except BenchError as error:
            _log.warning(
                "the oscilloscope's settings could not be put back: %s; they are in the trace file: "
                "python -m experiments.restore_scope TRACE --lab LAB",
                error,
            )


def _put_back(bench: Bench) -> None:
    """Give the oscilloscope the settings that it was found with, and let it run again if it ran."""
    bench.scope.stop()
    bench.scope.restore(bench.scope_setup_before)
    if bench.scope_ran_before:
        bench.scope.run()


def _safe_exit(supply: E3645A, alarm: Callable[[str], None]) -> Callable[..., None]:
    def leave(kind: type[BaseException] | None, *_: object) -> None:
        with undisturbed():
            try:
                supply.safe_off()
            except BaseException as error:
                text = (
                    "THE SUPPLY'S OUTPUT COULD NOT BE VERIFIED TO BE OFF. "
                    f"Switch it off at its front panel now. ({error})"
                )
                alarm(text)
                if kind is None:
                    raise BenchError(text) from error
            else:
                _quietly(supply.local)

    return leave
