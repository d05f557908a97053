"""A simulated bench in this process that can be hurt, the lab file that reaches it, and a short session at it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from instruments import lab as lab_yaml
from instruments.bench import Bench, open_bench
from instruments.errors import InstrumentError, LinkTimeout, ProtocolError
from instruments.lab import Lab
from instruments.link.ports import StreamPort
from instruments.link.prologix import PrologixPort
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, next_full_scale
from instruments.simulated.faults import Fault, FaultScript
from instruments.simulated.mso_acquisition import Options
from instruments.simulated.station import RING_NAME, EdgeFilter, Station
from instruments.waveform import Capture
from tests.sweeps import lab_file

T = TypeVar("T")
WINDOW_S = 0.02
QUICK_MEASURE = {"measure_s": (0.005, 0.01), "measure_extra_s": 0.0}


@dataclass
class FaultyBench:
    """A simulated bench and the lab file that names its addresses."""

    station: Station
    lab: Lab
    lab_path: Path
    ring: Path
    """The file through which a board moves the marker lines."""

    def hurt(self, instrument: str, *faults: Fault, seed: int = 0) -> FaultScript:
        """From now on these faults strike an instrument's answers."""
        script = FaultScript(faults, seed)
        with self.station.changed:
            getattr(self.station, instrument).reply_filter = script
        return script

    def heal(self) -> None:
        """No more faults."""
        with self.station.changed:
            self.station.scope.reply_filter = self.station.supply.reply_filter = None

    def resources(self, instrument: str) -> list[str]:
        """The VISA strings of an instrument, over the transport that it is reached by."""
        return list(getattr(self.lab, instrument).resource)

    def feed(self, instrument: str, commands: bytes) -> bytes:
        """Send commands past every link, as from the front panel."""
        with self.station.changed:
            machine = getattr(self.station, instrument)
            machine.advance(time.monotonic())
            return bytes(machine.feed(commands))

    @property
    def output_is_on(self) -> bool:
        """What the supply itself holds."""
        with self.station.changed:
            return self.station.supply.settings.output

    def gate(self, high: bool, in_s: float = 0.0) -> float:
        """Move the gate line, now or at a time to come; gives when."""
        with self.station.changed:
            at_s = time.monotonic() + in_s
            self.station.world.mark(at_s, int(high))
            return at_s


@contextlib.contextmanager
def faulty_bench(
    folder: Path,
    *changes: tuple[str, str],
    edge_filter: EdgeFilter | None = None,
    scope: dict[str, Any] | None = None,
    timeout_s: float = 20.0,
) -> Iterator[FaultyBench]:
    """Serve a bench with some changes of the shipped lab.yaml; `scope` are options of the simulated one."""
    state = folder / "state"
    state.mkdir()
    options = {"acquisition": Options(arm_s=1e-3, process_s=1e-3), **(scope or {})}
    served = lab_yaml.load(lab_file(folder, *changes, name="served.yaml"))
    with Station(
        served, state_dir=state, scope_options=options, supply_options=QUICK_MEASURE, edge_filter=edge_filter
    ) as station:
        path = lab_file(
            folder,
            ("resource: sim:socket", f"resource: {json.dumps(station.addresses['scope']['socket'])}"),
            ("resource: sim:prologix", f"resource: {json.dumps(station.addresses['supply']['prologix'])}"),
            ("model: MSO-X 2024A\n", f"model: MSO-X 2024A\n  timeout_s: {timeout_s}\n"),
            ("model: E3645A\n", f"model: E3645A\n  timeout_s: {timeout_s}\n"),
            ("simulation:\n", f"simulation:\n  state_dir: {json.dumps(str(state))}\n"),
            *changes,
        )
        yield FaultyBench(station, lab_yaml.load(path), path, state / RING_NAME)


@contextlib.contextmanager
def hurried(hurt: FaultyBench, *, comes_back: bool) -> Iterator[None]:
    """For deeds at an instrument that says nothing: it is given up soon, and soon for good if it stays silent."""
    lab = hurt.lab
    soon = {name: getattr(lab, name).model_copy(update={"timeout_s": 0.6}) for name in ("scope", "supply")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hurt, "lab", lab.model_copy(update=soon))
        patch.setattr("instruments.mso_x2024a.transfer.PREAMBLE_DEADLINE_S", 0.4)
        patch.setattr("instruments.e3645a.driver.MEASURE_DEADLINE_S", 0.4)
        if not comes_back:
            patch.setattr(StreamPort, "recovery_s", 0.2)
            patch.setattr(PrologixPort, "recovery_s", 0.6)
        yield


def set_up(scope: Any) -> None:
    """Current on CHAN1, voltage on CHAN3, the gate on D0 as trigger."""
    scope.stop()
    scope.configure_channel(1, ChannelSettings(next_full_scale(2.0, 10.0), 0.5, units="A", probe_ratio=10.0))
    scope.configure_channel(3, ChannelSettings(next_full_scale(14.0, 10.0), 6.0, probe_ratio=10.0))
    scope.configure_digital([0, 1], 1.4)
    scope.configure_timebase(WINDOW_S)
    scope.configure_acquisition("HRES")
    scope.configure_trigger(EdgeTrigger("DIG0", "POS"))


def capture(hurt: FaultyBench, scope: Any, sources: Sequence[str] = ("CHAN1", "POD1"), points: int = 1000) -> Capture:
    """One capture of a gate that rises once the scope is armed."""
    hurt.gate(False)
    scope.arm()
    hurt.gate(True)
    scope.wait_done(20.0)
    return scope.fetch(list(sources), points=points, deadline_s=20.0)


def at_bench(hurt: FaultyBench, deed: Callable[[Bench], T], alarms: list[str] | None = None) -> T:
    """Open the bench, feed the board, do a deed, leave."""
    alarm = (lambda text: None) if alarms is None else alarms.append
    with open_bench(hurt.lab, hurt.lab_path, alarm=alarm) as bench:
        feed(bench)
        return deed(bench)


def session(hurt: FaultyBench) -> Capture:
    """The shortest whole day at the bench: feed the board, capture one run, read the supply."""

    def deed(bench: Bench) -> Capture:
        set_up(bench.scope)
        found = capture(hurt, bench.scope)
        assert bench.supply.mode() == "CV"
        bench.supply.measure_current_a()
        return found

    return at_bench(hurt, deed)


def feed(bench: Bench) -> None:
    """Order of a careful engineer: protection, range, limit, voltage, output, settled."""
    supply, facts = bench.supply, bench.lab.supply
    supply.set_ovp(facts.ovp_v)
    supply.set_range(facts.range)
    supply.set_current_limit(facts.current_limit_a)
    supply.set_voltage(facts.voltage_v)
    supply.output(True)
    supply.wait_settled(20.0)


def says(error: InstrumentError, instrument: str, command: str) -> bool:
    """Whether an error names its instrument, resource, command and what came."""
    text = str(error)
    named = text.startswith(f"{instrument} (") and error.resource in text and command.lower() in error.command.lower()
    if isinstance(error, ProtocolError):
        came = "first bytes" in text
    else:
        came = "bytes had come" in text or "bytes of the answer had come" in text
    assert not isinstance(error, LinkTimeout) or f"{error.bytes_got} bytes had come" in text
    return bool(named and error.resource and "[command: " in text and came)
