"""Timebase and acquire commands of the simulated oscilloscope. Pure.

PG2000's :TIMebase and :ACQuire. MODE can be WINDow, XY and ROLL and changes nothing but the trigger mode's answer; what
is displayed and transferred is the main sweep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from instruments.simulated.mso_settings import HORIZONTAL_DIVISIONS, Acquire, Timebase, nr3, round_to

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

SECONDS_PER_DIV = (5e-9, 50.0)


class PanelCommands:
    """Registers the subsystems; every change of something that shapes the samples restarts a running scope."""

    def __init__(self, scope: SimulatedMsoX2024A) -> None:
        self._scope = scope
        self._timebase()
        self._acquire()

    # --- timebase -------------------------------------------------------------------------------

    def _timebase(self) -> None:
        add, scope = self._scope.add, self._scope
        low, high = (s * HORIZONTAL_DIVISIONS for s in SECONDS_PER_DIV)

        def base() -> Timebase:
            return scope.settings.timebase

        add(
            ":TIMebase:RANGe",
            lambda c: self._set_base("range_s", round_to(c.number("S", low=low, high=high), 4)),
            lambda c: nr3(base().range_s, 8),
        )
        add(
            ":TIMebase:SCALe",
            lambda c: self._set_base("range_s", round_to(10 * c.number("S", low=low / 10, high=high / 10), 4)),
            lambda c: nr3(base().range_s / HORIZONTAL_DIVISIONS, 8),
        )
        add(
            ":TIMebase:POSition|:TIMebase:DELay",
            lambda c: self._set_base("position_s", c.number("S", low=-500.0, high=500.0)),
            lambda c: nr3(base().position_s, 8),
        )
        add(
            ":TIMebase:REFerence",
            lambda c: self._set_base("reference", c.choice("LEFT", "CENTer", "RIGHt")),
            lambda c: base().reference,
        )
        add(
            ":TIMebase:MODE",
            lambda c: self._set_base("mode", c.choice("MAIN", "WINDow", "XY", "ROLL")),
            lambda c: base().mode,
        )
        add(
            ":TIMebase",
            query=lambda c: (
                f":TIM:MODE {base().mode};REF {base().reference};MAIN:RANG {nr3(base().range_s, 8)};"
                f"POS {nr3(base().position_s, 8)}"
            ),
        )

    def _set_base(self, name: str, value: object) -> None:
        setattr(self._scope.settings.timebase, name, value)
        self._scope.touch()

    # --- acquire --------------------------------------------------------------------------------

    def _acquire(self) -> None:
        add, scope = self._scope.add, self._scope

        def acq() -> Acquire:
            return scope.settings.acquire

        add(
            ":ACQuire:TYPE",
            lambda c: self._set_acquire("type", c.choice("NORMal", "AVERage", "HRESolution", "PEAK")),
            lambda c: acq().type,
        )
        add(
            ":ACQuire:COUNt",
            lambda c: self._set_acquire("count", c.integer(low=1, high=65536, default=8)),
            lambda c: f"{acq().count:+d}",
        )
        add(
            ":ACQuire:COMPlete",
            lambda c: self._set_acquire("complete", c.integer(low=100, high=100)),
            lambda c: f"{acq().complete:+d}",
        )
        add(":ACQuire:POINts", query=lambda c: f"{scope.timing().acquired:+d}")
        add(":ACQuire:SRATe", query=lambda c: nr3(scope.timing().rate_hz, 8))
        add(
            ":ACQuire",
            query=lambda c: f":ACQ:MODE {acq().mode};TYPE {acq().type};COMP {acq().complete:+d};COUN {acq().count:+d}",
        )

    def _set_acquire(self, name: str, value: object) -> None:
        setattr(self._scope.settings.acquire, name, value)
        self._scope.touch()
