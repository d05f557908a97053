"""One acquisition from arming to its record, as a small state machine: idle, armed, done.

A capture is trusted only as a whole: ``arm`` erased what a stopped scope held and saw it armed, ``wait_done`` saw
it triggered and stopped, ``fetch`` sees it still stopped with nothing triggered since and no channel with
the very codes of the capture before. Anything else is a CaptureError. What cannot be seen: another client that
stops, triggers and stops the scope between two polls of ours, after our arm.
Sources: PG2000 2024 ed. p.170-200 (events); PG3000 p.171, PG4000 p.1599-1603 (``:SINGle`` and polling
instead of a blocking ``:DIGitize``); the guides' ``:DISPlay:CLEar`` (erases the data of a stopped scope).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import CaptureError
from instruments.waveform import Capture, Preamble, Record

from .inputs import source_command
from .settings import TimebaseSettings
from .transfer import PointsChooser, TransferOptions, fetch_ascii, fetch_records

RUN_BIT, WAIT_TRIGGER_BIT, OVERLOAD_BIT = 8, 32, 2048
_CONDITION = ":OPERegister:CONDition?"
_ERROR = ":SYSTem:ERRor?"
_UNKNOWN = (-math.inf, math.inf)
_LIVELY = 100
"""Steps between neighbouring codes from which on two equal records are no chance: every real one has noise."""


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
        self._after_s = 0.0
        self._trigger_s = _UNKNOWN
        self._points = PointsChooser(dialogue)
        self._last: dict[str, tuple[tuple[int, int], Record]] = {}

    @property
    def number(self) -> int:
        """The number of the acquisition that was armed last, from 1."""
        return self._number

    def forget(self) -> None:
        """Give up what was armed or acquired: a record would no longer fit the settings."""
        self._phase = "idle"
        self._points.forget()

    def state(self) -> ScopeState:
        """Read the condition register; never the event register, which reading clears."""
        asked_s = self._clock()
        return self._seen(ScopeState(self._dialogue.parsed(_CONDITION, scpi.parse_int)), asked_s)

    def _seen(self, state: ScopeState, asked_s: float) -> ScopeState:
        """Narrow down when the trigger came: after a poll that saw it awaited, before one that did not."""
        if self._phase == "armed":
            earliest_s, latest_s = self._trigger_s
            if state.armed:
                earliest_s = asked_s
            else:
                # A scope that has stopped has acquired the rest of its window since.
                latest_s = min(latest_s, self._clock() - (0.0 if state.running else self._after_s))
            self._trigger_s = earliest_s, latest_s
        return state

    def arm(self, deadline_s: float, poll_s: float, timebase: TimebaseSettings | None = None) -> int:
        """Send ``:SINGle`` and wait until armed; see ``MsoX2024A.arm``.

        Nothing is asked while the pre-trigger part of a known ``timebase`` fills.
        """
        self._phase = "idle"
        deadline = self._clock() + deadline_s
        d = self._dialogue
        *_, error = d.ask(":TER?", ":AER?", _ERROR)  # both events are cleared by reading
        self._raise_first(error, "(found before :SINGle)")
        self._link.write(":STOP;:DISPlay:CLEar;:SINGle")
        self._sleep(min(timebase.before_s if timebase else 0.0, deadline_s))
        self._after_s = timebase.after_s if timebase else 0.0
        was_armed = False
        while True:
            asked_s = self._clock()
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
        self._phase = "armed"
        self._trigger_s = asked_s, math.inf
        return self._number

    def wait_done(self, deadline_s: float, poll_s: float) -> None:
        """Wait for trigger and stop; see ``MsoX2024A.wait_done``.

        Once a poll sees that the trigger came, the end is at most the rest of the window away, and it is
        looked for closely only then. What is said after the deadline was seen after it: a host that was busy
        meanwhile calls no capture missing that came in time.
        """
        if self._phase == "done":
            return
        if self._phase != "armed":
            raise self._error("nothing was armed; call arm() before wait_done()", "not-armed")
        deadline = self._clock() + deadline_s
        while True:
            left_s = deadline - self._clock()
            state = self.state()
            if not state.running:
                break
            pause_s = poll_s
            if not state.armed:
                # Sleep through what must still be acquired even if it triggered right after it was seen armed.
                earliest_s, _ = self._trigger_s
                pause_s = max(earliest_s + self._after_s - self._clock(), poll_s / 10)
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
        self._phase, self._trigger_s = "done", _UNKNOWN
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
        segment: int = 0,
        tag_s: float = math.nan,
    ) -> Capture:
        """Read the finished acquisition, or one segment of it; see ``MsoX2024A.fetch``."""
        deadline = time.monotonic() + deadline_s
        self._require_finished(names)
        asked = self._points.choose(names[0], points, options.points_mode, deadline)
        records = fetch_records(self._dialogue, names, asked, options, deadline)
        self._require_untouched()
        after_s, before_s = _UNKNOWN if segment else self._trigger_s
        try:
            capture = Capture(
                records,
                requested_points=points,
                number=self._number,
                segment=segment,
                tag_s=tag_s,
                trigger_after_s=after_s,
                trigger_before_s=before_s,
            )
            if min_points is not None and capture.points < min_points:
                raise CaptureError(
                    f"{capture.points} points came, at least {min_points} are needed; more memory, fewer "
                    "channels or a stopped acquisition give more",
                    reason="short",
                )
            self._require_other_codes(capture)
        except CaptureError as error:
            raise self._dialogue.named(error, ":WAVeform:DATA?") from None
        return capture

    def _require_other_codes(self, capture: Capture) -> None:
        """Refuse a channel with the very codes of the acquisition before: it is that acquisition's record."""
        which = capture.number, capture.segment
        analogue = {name: record for name, record in capture.records.items() if record.units != "bits"}
        for name, record in analogue.items():
            of, last = self._last.get(name, (which, record))
            alike = of != which and np.array_equal(last.codes[:_LIVELY], record.codes[:_LIVELY])  # seldom: it is quick
            same = alike and np.array_equal(last.codes, record.codes)
            if same and np.count_nonzero(record.codes[1:] != record.codes[:-1]) >= _LIVELY:
                self._phase = "idle"
                raise CaptureError(
                    f"{name} has the very codes of acquisition {of[0]}: the scope, or something between, gave an "
                    "old record; arm again",
                    reason="stale",
                )
        self._last.update({name: (which, record) for name, record in analogue.items()})

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
        return CaptureError(
            message, reason=reason, instrument=self._link.name, resource=self._link.resource, command=":SINGle"
        )
