""":WAVeform of the simulated oscilloscope: sources, points, formats, preamble, data. Pure; imports no driver.

From PG2000 p.629-644. Unconfirmed and switchable in `TransferQuirks`: the preamble's HRES type code, yreference of
signed WORD, what a short first preamble looks like, transfer speed, POINts off the list, the error of a source that
is off or was not acquired, and the y fields of a POD preamble. :POINts also takes the points modes, as in old
programs (PG2000 p.629). ASCii of a pod gives decimal numbers, or -221 (unconfirmed: `pod_ascii`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from instruments.simulated.mso_acquisition import MEASUREMENT_POINTS, Record
from instruments.simulated.mso_record import MID
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_syntax import encode_block
from instruments.simulated.scpi_tree import Call, Job

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

POINT_LIST: tuple[int, ...] = (100, 250, 500, *(m * 10**k for k in range(3, 7) for m in (1, 2, 5)))
AVERAGE_POINTS = 1000
HOLE_TEXT = "+9.9E+37"
FORMAT_CODES = {"BYTE": 0, "WORD": 1, "ASC": 4}


@dataclass(frozen=True)
class TransferQuirks:
    """Where units and firmware differ, or the guide is silent."""

    hres_type_code: int = 3
    signed_yreference: Literal["zero", "middle"] = "zero"
    off_list: Literal["down", "up", "refuse"] = "down"
    """What :WAVeform:POINts makes of a number between two of its list; "refuse" is -222."""
    source_off_error: int = -221
    pod_y: tuple[float, float, int] = (1.0, 0.0, 0)
    """yincrement, yorigin and yreference of digital data."""
    pod_ascii: Literal["decimal", "refuse"] = "decimal"
    short_preambles: int = 0
    """How many acquisitions answer their first :WAVeform:PREamble? with `short_preamble` alone (PD2, PD3)."""
    short_preamble: str | None = "+0"
    """None: there is no answer at all."""
    bytes_per_s: float | None = None
    """Speed of a transfer, during which the interface is blocked; None: at once."""
    takes_time: Callable[[], bool] = lambda: True
    """Whether a transfer takes that time now: in virtual time only while something goes on meanwhile."""


class WaveformCommands:
    """The :WAVeform subsystem, bound to one oscilloscope."""

    def __init__(self, scope: SimulatedMsoX2024A, quirks: TransferQuirks) -> None:
        self._scope, self._quirks = scope, quirks
        self._short_left = quirks.short_preambles
        self._short_number = -1
        self._register()

    def _register(self) -> None:
        s = self._scope
        s.add(":WAVeform:SOURce", self._set_source, lambda c: s.settings.waveform.source)
        s.add(":WAVeform:SOURce:SUBSource", lambda c: _ignore(c.choice("SUB0", "SUB1", "NONE")), lambda c: "NONE")
        s.add(
            ":WAVeform:FORMat",
            lambda c: _put(s.settings.waveform, "format", c.choice("BYTE", "WORD", "ASCii")),
            lambda c: s.settings.waveform.format,
        )
        s.add(
            ":WAVeform:BYTeorder",
            lambda c: _put(s.settings.waveform, "byte_order", c.choice("MSBFirst", "LSBFirst")),
            lambda c: s.settings.waveform.byte_order,
        )
        s.add(
            ":WAVeform:UNSigned",
            lambda c: _put(s.settings.waveform, "unsigned", c.boolean()),
            lambda c: f"{s.settings.waveform.unsigned:d}",
        )
        s.add(
            ":WAVeform:VIEW",
            lambda c: _put(s.settings.waveform, "view", c.choice("MAIN")),
            lambda c: s.settings.waveform.view,
        )
        s.add(":WAVeform:POINts", self._set_points, lambda c: f"{self._points_now():+d}")
        s.add(":WAVeform:POINts:MODE", self._set_mode, lambda c: s.settings.waveform.mode)
        s.add(":WAVeform:PREamble", query=lambda c: self._preamble_query())
        s.add(":WAVeform:TYPE", query=lambda c: self._type())
        s.add(":WAVeform:COUNt", query=lambda c: f"{self._count():+d}")
        s.add(":WAVeform:DATA", query=lambda c: self._data())
        for name, index in (
            ("XINCrement", 4),
            ("XORigin", 5),
            ("XREFerence", 6),
            ("YINCrement", 7),
            ("YORigin", 8),
            ("YREFerence", 9),
        ):
            s.add(f":WAVeform:{name}", query=self._field(index))
        s.add(":WAVeform", query=lambda c: self._summary())

    def _field(self, index: int) -> Callable[[Call], str]:
        return lambda call: self._preamble().split(",")[index]

    # --- settings -------------------------------------------------------------------------------

    def _set_source(self, call: Call) -> None:
        model = self._scope.model
        word = call.choice(*model.channels, *model.pods, "FUNCtion", "MATH", "WMEMory1", "WMEMory2", "SBUS1")
        if not word.startswith(("CHAN", "POD")):
            raise Refused(-221)
        self._scope.settings.waveform.source = word

    def _set_points(self, call: Call) -> None:
        """Round down to the list; while running also -222, although it is taken (keyoscacquire)."""
        wave, word = self._scope.settings.waveform, call.params[0].text.upper()
        if word in ("NORM", "NORMAL", "RAW"):
            self._set_mode(call)
        elif word in ("MAX", "MAXIMUM"):
            wave.points = None
        else:
            wave.points = self._listed(call.number(low=1, high=8e6, default=1000))
        if self._scope.acquisition.mode != "STOP":
            raise Refused(-222)

    def _listed(self, asked: float) -> int:
        lower, upper = [p for p in POINT_LIST if p <= asked], [p for p in POINT_LIST if p >= asked]
        if self._quirks.off_list == "refuse" and asked not in POINT_LIST:
            raise Refused(-222)
        if self._quirks.off_list == "up":
            return min(upper, default=POINT_LIST[-1])
        return max(lower, default=POINT_LIST[0])

    def _set_mode(self, call: Call) -> None:
        """RAW reads back as MAX (PD1, firmware 02.65)."""
        mode = call.choice("NORMal", "MAXimum", "RAW")
        self._scope.settings.waveform.mode = "MAX" if mode == "RAW" else mode

    # --- what there is to transfer --------------------------------------------------------------

    def _record(self) -> Record:
        """The record of a source that can be read, or the refusal."""
        settings, record = self._scope.settings, self._scope.acquisition.record
        source = settings.waveform.source
        if not settings.shows(source):
            raise Refused(self._quirks.source_off_error)
        if record is None:
            raise Refused(-230)
        if not record.settings.shows(source):
            raise Refused(self._quirks.source_off_error)
        return record

    def _decimation(self, record: Record) -> tuple[int, int]:
        """(every, count): one point in `every` of the record, `count` of them."""
        wave = self._scope.settings.waveform
        available = record.timing.on_screen
        limit = available
        if self._scope.acquisition.mode != "STOP" or wave.mode == "NORM":
            limit = max(1, MEASUREMENT_POINTS * available // max(record.timing.acquired, 1))
        if record.settings.acquire.type == "AVER" and record.settings.acquire.count > 1:
            limit = min(limit, AVERAGE_POINTS)
        wanted = min(limit, wave.points or limit)
        every = max(1, -(-available // wanted))
        return every, available // every

    def _points_now(self) -> int:
        try:
            return self._decimation(self._record())[1]
        except Refused:
            wave = self._scope.settings.waveform
            return wave.points or 0

    def _count(self) -> int:
        acquire = self._scope.settings.acquire
        return acquire.count if acquire.type == "AVER" else 1

    def _type(self) -> str:
        record = self._scope.acquisition.record
        return (record.settings if record else self._scope.settings).acquire.type

    # --- preamble and data ----------------------------------------------------------------------

    def _preamble_query(self) -> str | None:
        record = self._scope.acquisition.record
        if record is not None and self._short_left > 0 and record.number != self._short_number:
            self._short_left -= 1
            self._short_number = record.number
            return self._quirks.short_preamble
        return self._preamble()

    def _preamble(self) -> str:
        wave = self._scope.settings.waveform
        try:
            record = self._record()
            every, count = self._decimation(record)
        except Refused as error:
            if error.code != -230:
                raise
            record, every, count = self._scope.acquisition.preview(self._scope.settings), 1, 0
        kind = record.settings.acquire.type
        code = {"NORM": 0, "PEAK": 1, "AVER": 2, "HRES": self._quirks.hres_type_code}[kind]
        x = f"{record.step_s * every:+.8E},{record.start_s:+.8E},+0"
        head = f"{FORMAT_CODES[wave.format]:+d},{code:+d},{count:+d},{self._count():+d},{x}"
        if wave.source.startswith("POD"):
            increment, origin, reference = self._quirks.pod_y
            return f"{head},{increment:+.8E},{origin:+.8E},{reference:+d}"
        scale = self._scope.synthesiser.scale(record.settings.channels[wave.source])
        byte = wave.format == "BYTE"
        reference = MID // 256 if byte else MID
        if not wave.unsigned and self._quirks.signed_yreference == "zero":
            reference = 0
        increment = scale.increment * (256 if byte else 1)
        return f"{head},{increment:+.8E},{scale.origin:+.8E},{reference:+d}"

    def _data(self) -> Job:
        """:WAVeform:DATA?: a block; an acquisition without data gives an empty one."""
        try:
            record = self._record()
        except Refused as error:
            if error.code != -230:
                raise
            return encode_block(b"")
        wave = self._scope.settings.waveform
        every, count = self._decimation(record)
        codes = self._scope.synthesiser.codes(record, wave.source, every, count)
        pod = wave.source.startswith("POD")
        payload = self._encode_pod(codes) if pod else self._encode(codes, record)
        if self._quirks.bytes_per_s and self._quirks.takes_time():
            until_s = self._scope.now_s + len(payload) / self._quirks.bytes_per_s
            while self._scope.now_s < until_s:
                yield until_s
        return encode_block(payload)

    def _encode(self, codes: NDArray[np.uint16], record: Record) -> bytes:
        wave = self._scope.settings.waveform
        if wave.format == "ASC":
            scale = self._scope.synthesiser.scale(record.settings.channels[wave.source])
            values = (codes.astype(np.float64) - MID) * scale.increment + scale.origin
            texts = (HOLE_TEXT if c == 0 else f"{v:+.5E}" for c, v in zip(codes, values, strict=True))
            return ",".join(texts).encode("ascii")
        if wave.format == "BYTE":
            small = (codes >> 8).astype(np.uint8)
            return (small if wave.unsigned else small ^ np.uint8(0x80)).tobytes()
        words = codes if wave.unsigned else codes ^ np.uint16(0x8000)
        return words.astype(">u2" if wave.byte_order == "MSBF" else "<u2").tobytes()

    def _encode_pod(self, codes: NDArray[np.uint16]) -> bytes:
        """One byte per sample; WORD puts a zero byte beside it (PG3000 p.966)."""
        wave = self._scope.settings.waveform
        if wave.format == "ASC" and self._quirks.pod_ascii == "refuse":
            raise Refused(-221)
        if wave.format == "ASC":
            return ",".join(str(int(c)) for c in codes).encode("ascii")
        if wave.format == "BYTE":
            return codes.astype(np.uint8).tobytes()
        return codes.astype(">u2" if wave.byte_order == "MSBF" else "<u2").tobytes()

    def _summary(self) -> str:
        w = self._scope.settings.waveform
        return (
            f":WAV:UNS {w.unsigned:d};VIEW {w.view};BYT {w.byte_order};FORM {w.format};"
            f"POIN {self._points_now():+d};SOUR {w.source};SOUR:SUBS NONE"
        )


def _put(target: object, name: str, value: object) -> None:
    setattr(target, name, value)


def _ignore(word: str) -> None:
    """A keyword that is checked and has no effect here."""
