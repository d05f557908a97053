"""Arm, trigger, stop, run, time out, touch the front panel, in any order: never an older record, never another."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from instruments.errors import CaptureError
from instruments.mso_x2024a import MsoX2024A

from .scripted_instruments import FakeLink


class ModelScope(FakeLink):
    """Every acquisition writes its number into the record."""

    def __init__(self) -> None:
        super().__init__()
        self.record = 0
        self.state = "stopped"
        self.events = {":TER?": 0, ":AER?": 0}
        self.on_command = self.act
        self.answers[":OPERegister:CONDition?"] = lambda: {"stopped": "+0", "armed": "+40", "running": "+8"}[self.state]
        for event in self.events:
            self.answers[event] = lambda event=event: self.read(event)
        self.answers[":WAVeform:TYPE?"] = "NORM"
        self.answers[":WAVeform:POINts?"] = "+4"
        self.answers[":WAVeform:POINts:MODE?"] = "MAX"
        self.answers[":WAVeform:PREamble?"] = "+1,+0,+4,+1,+1E-3,+0,+0,+1E-3,+0,+32768"
        self.blocks[":WAVeform:DATA?"] = lambda: np.full(4, self.record, dtype="<u2").tobytes()
        self.store[":CHANnel1:DISPlay"] = "1"

    def read(self, event: str) -> int:
        value, self.events[event] = self.events[event], 0
        return value

    def trigger(self) -> None:
        self.record += 1
        self.events[":TER?"] = 1

    def act(self, header: str, value: str) -> None:
        if header == ":SINGle":
            self.state = "armed"
            self.events[":AER?"] = 1
        elif header == ":TRIGger:FORCe" and self.state == "armed":
            self.trigger()
            self.state = "stopped"
        elif header == ":RUN":
            self.state = "running"
            self.trigger()
        elif header == ":STOP":
            self.state = "stopped"


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.link = ModelScope()
        self.now = 0.0
        self.scope = MsoX2024A(self.link, clock=lambda: self.now, sleep=self.sleep)
        self.confirmed: int | None = None  # the record that was there when the scope was seen finished

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-3)

    @rule()
    def arm(self):
        self.confirmed = None
        self.scope.arm(1.0)

    @rule()
    def force(self):
        self.scope.force_trigger()

    @rule()
    def wait(self):
        with contextlib.suppress(CaptureError):
            self.scope.wait_done(0.01)
            if self.confirmed is None:
                self.confirmed = self.link.record

    @rule()
    def measure(self):
        self.arm()
        self.force()
        self.wait()

    @rule()
    def stop(self):
        self.scope.stop()

    @rule()
    def run(self):
        self.confirmed = None
        self.scope.run()

    @rule(action=st.sampled_from([":RUN", ":STOP", ":SINGle", ":TRIGger:FORCe"]))
    def front_panel(self, action):
        self.link.act(action, "")

    @rule(first=st.sampled_from([":RUN", ":SINGle"]), then=st.sampled_from([":STOP", ":TRIGger:FORCe"]))
    def acquisition_from_the_front_panel(self, first, then):
        self.link.act(first, "")
        self.link.act(then, "")

    @rule()
    def change_a_setting(self):
        self.confirmed = None
        self.scope.configure_acquisition("NORM")

    @rule()
    def fetch(self):
        with contextlib.suppress(CaptureError):
            capture = self.scope.fetch(["CHAN1"], points=100)
            assert set(capture["CHAN1"].codes.tolist()) == {self.confirmed}


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


def test_model_gives_a_capture():
    link = ModelScope()
    scope = MsoX2024A(link)
    scope.arm()
    scope.force_trigger()
    scope.wait_done(1.0)
    assert scope.fetch(["CHAN1"])["CHAN1"].codes.tolist() == [1] * 4
