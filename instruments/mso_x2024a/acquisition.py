"""One acquisition from arming to its record, as a small state machine: idle, armed, done.

A capture is trusted only as a whole: ``arm`` saw the scope armed, ``wait_done`` saw it triggered and
stopped, ``fetch`` sees it still stopped with nothing triggered since. Anything else is a CaptureError.
Sources: PG2000 2024 ed. p.170-200 (events); PG3000 p.171, PG4000 p.1599-1603 (``:SINGle`` and polling
instead of a blocking ``:DIGitize``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import CaptureError
from instruments.waveform import Capture, Preamble

from .settings import source_command
from .transfer import TransferOptions, fetch_ascii, fetch_record

RUN_BIT, WAIT_TRIGGER_BIT, OVERLOAD_BIT = 8, 32, 2048
_CONDITION = ":OPERegister:CONDition?"
_ERROR = ":SYSTem:ERRor?"


@dataclass(frozen=True)
class ScopeState:
    """The operation status condition register (PG3000 p.171)."""

    condition: int

    @property
    def running(self) -> bool:
        """Acquiring or waiting: not stopped."""
        return bool(self.condition & RUN_BIT)

    @property
    def armed(self) -> bool:
        """Pre-trigger is filled and a trigger would be accepted."""
        return bool(self.condition & WAIT_TRIGGER_BIT)

    @property
    def overload(self) -> bool:
        """An input is overloaded (50 ohm models only)."""
        return bool(self.condition & OVERLOAD_BIT)


class Acquisition:
    """Arms, waits and fetches over a dialogue; every change of a setting must call ``forget``."""

    def __init__(self, dialogue: Dialogue, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._dialogue = dialogue
        self._link = dialogue.link
        self._clock = clock
        self._sleep = sleep
        self._phase: Literal["idle", "armed", "done"] = "idle"
        self._number = 0
        self._end_s: float | None = None

    def forget(self) -> None:
        """Give up what was armed or acquired: a record would no longer fit the settings."""
        self._phase = "idle"

    def state(self) -> ScopeState:
        """Read the condition register; never the event register, which reading clears."""
        return ScopeState(self._dialogue.parsed(_CONDITION, scpi.parse_int))

    def arm(self, deadline_s: float, poll_s: float, fill_s: float = 0.0) -> int:
        """Send ``:SINGle`` and wait until armed; see ``MsoX2024A.arm``.

        ``fill_s`` is the time that filling the pre-trigger takes at least: nothing is asked meanwhile.
        """
        self._phase = "idle"
        deadline = self._clock() + deadline_s
        d = self._dialogue
        *_, error = d.ask(":TER?", ":AER?", _ERROR)  # both events are cleared by reading
        self._raise_first(error, "(found before :SINGle)")
        self._link.write(":SINGle")
        self._sleep(min(fill_s, deadline_s))
        was_armed = False
        while True:
            event, text = d.ask(":AER?", _CONDITION)
            state = ScopeState(d.read(text, scpi.parse_int, _CONDITION))
            if state.armed:
                break
            was_armed = was_armed or d.read(event, scpi.parse_int, ":AER?") != 0
            if was_armed:
                raise self._error(
                    "it triggered while arming, before anything was started; check the idle level of the "
                    "trigger line and that the sweep is NORMal",
                    "early-trigger",
                )
            if self._clock() >= deadline:
                raise self._error(
                    f"not armed {deadline_s:g} s after :SINGle (condition register {state.condition}); the "
                    "pre-trigger part of the window must fit into this time",
                    "not-armed",
                )
            self._sleep(poll_s)
        self._number += 1
        self._phase, self._end_s = "armed", None
        return self._number

    def wait_done(self, deadline_s: float, poll_s: float, rest_s: float = 0.0) -> None:
        """Wait for trigger and stop; see ``MsoX2024A.wait_done``.

        ``rest_s`` is the part of the window after the trigger: once a poll sees that it came, the end
        is at most that far away, and it is looked for closely only then.
        """
        if self._phase == "done":
            return
        if self._phase != "armed":
            raise self._error("nothing was armed; call arm() before wait_done()", "not-armed")
        deadline = self._clock() + deadline_s
        while True:
            state = self.state()
            if not state.running:
                break
            left_s = deadline - self._clock()
            pause_s = poll_s
            if not state.armed:
                self._end_s = self._clock() + rest_s if self._end_s is None else self._end_s
                # Sleep through what must still be acquired, then look closely.
                pause_s = max(self._end_s - 2 * poll_s - self._clock(), poll_s / 10)
            if left_s <= 0:
                if state.armed:
                    raise self._error(
                        f"no trigger within {deadline_s:g} s; check the marker line, its threshold and slope",
                        "no-trigger",
                    )
                raise self._error(
                    f"triggered, but not finished within {deadline_s:g} s; allow the whole window", "not-finished"
                )
            self._sleep(min(pause_s, left_s))
        if self._dialogue.parsed(":TER?", scpi.parse_int) == 0:
            self._phase = "idle"
            raise self._error(
                "the acquisition was stopped without a trigger; was STOP pressed at the front panel?", "stopped"
            )
        self._phase = "done"

    def digitize(self, sources: Sequence[str], deadline_s: float) -> int:
        """Acquire with the blocking ``:DIGitize``; see ``MsoX2024A.digitize``."""
        command = ":DIGitize " + ",".join(source_command(source) for source in sources)
        self._phase = "idle"
        self._dialogue.ask(":TER?", ":AER?")
        self._link.write(command.rstrip())
        self._dialogue.parsed("*OPC?", scpi.parse_int, deadline_s)
        *_, error = self._dialogue.ask(":TER?", ":AER?", _ERROR)
        self._raise_first(error, command)
        self._number += 1
        self._phase = "done"
        return self._number

    def stop(self) -> None:
        """Send ``:STOP``; an armed acquisition is given up, a finished one stays readable."""
        if self._phase == "armed":
            self._phase = "idle"
        self._link.write(":STOP")

    def fetch(
        self,
        names: Sequence[str],
        points: int | None,
        options: TransferOptions,
        min_points: int | None,
        deadline_s: float,
    ) -> Capture:
        """Read the finished acquisition; see ``MsoX2024A.fetch``."""
        deadline = time.monotonic() + deadline_s
        self._require_finished(names)
        records = {name: fetch_record(self._dialogue, name, points, options, deadline) for name in names}
        self._require_untouched()
        try:
            capture = Capture(records, requested_points=points, number=self._number)
            if min_points is not None and capture.points < min_points:
                raise CaptureError(
                    f"{capture.points} points came, at least {min_points} are needed; more memory, fewer "
                    "channels or a stopped acquisition give more",
                    reason="short",
                )
        except CaptureError as error:
            raise self._dialogue.named(error, ":WAVeform:DATA?") from None
        return capture

    def fetch_values(self, name: str, points: int | None, deadline_s: float) -> tuple[Preamble, NDArray[np.float64]]:
        """Read one source as numbers; see ``MsoX2024A.fetch_values``."""
        self._require_finished([name])
        result = fetch_ascii(self._dialogue, name, points, time.monotonic() + deadline_s)
        self._require_untouched()
        return result

    def _require_finished(self, names: Sequence[str]) -> None:
        if self._phase != "done":
            raise self._error(
                "there is no finished acquisition; after arm() call wait_done(), and change no setting before fetch()",
                "stale",
            )
        displays = [f":{source_command(name)}:DISPlay?" for name in names]
        condition, event, *shown = self._dialogue.ask(_CONDITION, ":TER?", *displays)
        self._require_same(condition, event)
        for name, query, answer in zip(names, displays, shown, strict=True):
            if not self._dialogue.read(answer, scpi.parse_bool, query):
                raise self._error(f"{name} is not displayed and has no record; switch it on", "not-displayed")

    def _require_untouched(self) -> None:
        condition, event, error = self._dialogue.ask(_CONDITION, ":TER?", _ERROR)
        self._require_same(condition, event)
        self._raise_first(error, ":WAVeform:DATA?")

    def _require_same(self, condition: str, event: str) -> None:
        state = ScopeState(self._dialogue.read(condition, scpi.parse_int, _CONDITION))
        triggered = self._dialogue.read(event, scpi.parse_int, ":TER?") != 0
        if state.running or triggered:
            self._phase = "idle"
            what = "is running" if state.running else "has triggered again"
            raise self._error(
                f"the scope {what} since this acquisition stopped; the record may be another one. Leave the "
                "front panel alone and arm again",
                "stale",
            )

    def _raise_first(self, answer: str, after: str) -> None:
        first = self._dialogue.read(answer, scpi.parse_error_entry, _ERROR)
        if first.code:
            self._dialogue.raise_errors([first, *self._dialogue.errors()], after)

    def _error(self, message: str, reason: str) -> CaptureError:
        return CaptureError(message, reason=reason, instrument=self._link.name, resource=self._link.resource)
