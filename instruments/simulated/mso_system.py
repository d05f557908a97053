""":SYSTem, setups and calibration facts of the simulated oscilloscope. Pure.

PG2000's :SYSTem, :SAVE:SETup, :RECall:SETup, :CALibrate and common commands. Date and time count from
`PanelQuirks.date` at power-on, or from what they are set to.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from instruments.simulated.mso_settings import Settings, from_learn_string, to_learn_string
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_params import quoted
from instruments.simulated.scpi_syntax import encode_block
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

PLACES = 9
"""Setups are kept in places 0 to 9 of the instrument's memory."""
MESSAGE_LENGTH = 254
_MONTHS = (
    "JANuary", "FEBruary", "MARch", "APRil", "MAY", "JUNe", "JULy", "AUGust", "SEPtember", "OCTober", "NOVember",
    "DECember",
)  # fmt: skip


class SystemCommands:
    """:SYSTem and what keeps setups, bound to one oscilloscope."""

    def __init__(self, scope: SimulatedMsoX2024A) -> None:
        self._scope = scope
        self._stored: dict[int, Settings] = {}
        self._set = scope.quirks.date - datetime.timedelta(seconds=scope.now_s)
        none, add, settings = (0, 0), scope.add, self._settings
        add(":SYSTem:ERRor", query=lambda c: scope.next_error())
        add(":SYSTem:SETup", self._restore, lambda c: encode_block(to_learn_string(scope.settings)))
        add("*LRN", query=lambda c: b":SYST:SET " + encode_block(to_learn_string(scope.settings)))
        add(
            ":SYSTem:DSP",
            lambda c: setattr(settings(), "message", c.string()[:MESSAGE_LENGTH]),
            lambda c: quoted(settings().message),
        )
        add(":SYSTem:DATE", self._set_date, lambda c: self._date(), set_args=(3, 3))
        add(":SYSTem:TIME", self._set_time, lambda c: self._time(), set_args=(3, 3))
        add(":SYSTem:PRESet", lambda c: scope.reset(), set_args=none)
        add("*SAV|:SAVE:SETup[:STARt]", lambda c: self._stored.update({self._place(c): scope.settings.copy()}))
        add("*RCL|:RECall:SETup[:STARt]", self._recall)
        add(":CALibrate:DATE", query=lambda c: "+2026,+1,+1")
        add(":CALibrate:TIME", query=lambda c: "+0,+0,+0")
        add(":CALibrate:STATus", query=lambda c: "CALIBRATED")
        add(":CALibrate:PROTected", query=lambda c: "1")
        add(":CALibrate:TEMPerature", query=lambda c: "+0.0E+00")

    def _settings(self) -> Settings:
        return self._scope.settings

    @staticmethod
    def _place(call: Call) -> int:
        return call.integer(low=0, high=PLACES)

    def _restore(self, call: Call) -> None:
        self._scope.settings = from_learn_string(call.block(), self._scope.model)
        self._scope.touch()

    def _recall(self, call: Call) -> None:
        place = self._place(call)
        if place not in self._stored:
            raise Refused(-230)
        self._scope.settings = self._stored[place].copy()
        self._scope.touch()

    # --- date and time --------------------------------------------------------------------------

    def _now(self) -> datetime.datetime:
        return self._set + datetime.timedelta(seconds=self._scope.now_s)

    def _date(self) -> str:
        now = self._now()
        return f"{now.year:+d},{now.month:+d},{now.day:+d}"

    def _time(self) -> str:
        now = self._now()
        return f"{now.hour:+d},{now.minute:+d},{now.second:+d}"

    def _set_date(self, call: Call) -> None:
        year = call.integer(low=2000, high=2099)
        word = call.params[0].text
        if word[:1].isalpha():
            month = [m[:3].upper() for m in _MONTHS].index(call.choice(*_MONTHS)[:3]) + 1
        else:
            month = call.integer(low=1, high=12)
        self._change(year=year, month=month, day=call.integer(low=1, high=31))

    def _set_time(self, call: Call) -> None:
        self._change(
            hour=call.integer(low=0, high=23), minute=call.integer(low=0, high=59), second=call.integer(low=0, high=59)
        )

    def _change(self, **fields: int) -> None:
        now = self._now()
        try:
            self._set += now.replace(**fields) - now  # type: ignore[arg-type]
        except ValueError:
            raise Refused(-222) from None
