"""Arm, trigger, wait, clear, stop and fetch in any order: the record read is never older than the last arming."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from tests.simulated.standin import StandIn


class AnyOrder(RuleBasedStateMachine):
    """Drives a scope over a message port, in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = StandIn()
        self.scope = SimulatedMsoX2024A(self.world, seed=1)
        self.now_s, self.armed_s = 0.0, 0.0
        self.level = 0
        self.send(":STOP;*CLS;:TIM:RANG 0.2;REF LEFT;:TRIG:SWE NORM;EDGE:SOUR DIG0;SLOP EITH;:POD1:DISP ON")
        self.send(":WAV:SOUR POD1;FORM BYTE;POIN:MODE RAW;:WAV:POIN 1000")

    def send(self, text: str) -> None:
        self.scope.write(text.encode())

    def ask(self, text: str) -> bytes:
        self.send(text)
        data, _ = self.scope.read()
        return data

    @rule(command=st.sampled_from([":SING", ":DIG", ":RUN"]))
    def arm(self, command: str) -> None:
        self.send(command)
        if self.scope.acquisition.phase == "FILL":
            self.armed_s = self.now_s

    @rule()
    def stop(self) -> None:
        self.send(":STOP")

    @rule()
    def edge(self) -> None:
        self.level ^= 1
        self.world.edges.append((self.now_s, 0, self.level))

    @rule()
    def force(self) -> None:
        self.send(":TRIG:FORC")

    @rule(step_s=st.sampled_from([0.001, 0.02, 0.1, 0.5]))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s
        self.scope.advance(self.now_s)

    @rule()
    def clear(self) -> None:
        self.scope.clear()
        assert self.ask("*OPC?") == b"1\n"

    @rule()
    def fetch(self) -> None:
        data = self.ask(":WAV:DATA?")
        if not data:
            return  # a digitize is going on
        assert data[:2] == b"#8"
        assert len(data) == int(data[2:10]) + 11
        record = self.scope.acquisition.record
        if len(data) == 11:
            assert record is None
            return
        assert record is not None
        assert record.trigger_s <= self.now_s

    @invariant()
    def states_agree(self) -> None:
        acquisition = self.scope.acquisition
        assert (acquisition.mode == "STOP") == (acquisition.phase == "IDLE")
        assert bool(self.scope.condition() & 8) == (acquisition.mode != "STOP")
        record = acquisition.record
        if acquisition.mode in ("SING", "DIG"):
            assert record is None
        if record is not None and acquisition.mode == "STOP" and record.number == acquisition._number:
            assert record.trigger_s >= self.armed_s


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
