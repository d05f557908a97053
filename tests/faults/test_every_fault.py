"""One row for each fault that a script can hold: what the user is told, and that nothing else is lost.

After each: the error is of its class and names instrument, command and bytes; the next transactions with both
instruments work; the output is off once the bench is left; the trace file opens and holds what was good.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.station import Rejected
from experiments.traces import TraceReader
from instruments.errors import (
    CaptureError,
    IdentityError,
    LinkError,
    LinkTimeout,
    ProtocolError,
    ScpiError,
    SettingError,
)
from instruments.fault_facts import FaultFacts

from .benches import FaultyBench, faulty_bench
from .days import Board, day, faults, quick

__all__ = ["quick"]
DATA, CURRENT = ":WAVeform:DATA?", "MEASure:CURRent?"


@dataclass(frozen=True)
class Row:
    """A script, what is done under it, and what the user is told; `kind` None: the deed succeeds."""

    script: str
    deed: str
    kind: type[Exception] | None
    told: str
    command: str = ""

    @property
    def instrument(self) -> str:
        return "supply" if self.script.lstrip().startswith("supply") else "scope"


def scope(fault: str, kind: type[Exception] | None, told: str, command: str = DATA, deed: str = "run") -> Row:
    return Row(f"scope: [{{{fault}}}]", deed, kind, told, command)


def supply(fault: str, kind: type[Exception] | None, told: str, command: str = CURRENT, deed: str = "current") -> Row:
    return Row(f"supply: [{{{fault}}}]", deed, kind, told, command)


ROWS = {
    # --- answers of the scope, over its raw socket
    "reply dropped": scope("kind: drop, matching: DATA", LinkTimeout, " 0 bytes had come"),
    "reply late": scope("kind: delay, matching: DATA, delay_s: 2.0", LinkTimeout, " 0 bytes had come"),
    "block cut in its header": scope("kind: cut, matching: DATA, at_byte: 5", LinkError, r"broken.*\(5 bytes"),
    "block cut": scope("kind: cut, matching: DATA, at_byte: 3017", LinkError, r"broken.*\(3017 bytes"),
    "block short": scope("kind: short, matching: DATA, at_byte: 3017", LinkTimeout, " 3017 bytes had come"),
    "reply doubled": scope("kind: double, matching: DATA", ProtocolError, "bytes came behind a block of 4000"),
    "garbage before the block": scope(
        r'kind: garbage, matching: DATA, data: "1;+0\n"', ProtocolError, r"starts with '#'.*first bytes: b'1;\+0\\n#8"
    ),
    "connection reset in mid-block": scope(
        "kind: reset, matching: DATA, at_byte: 3017", LinkError, r"broken.*(failed|closed)"
    ),
    "wedge until reconnect": scope("kind: wedge, matching: DATA, at_byte: 3017", LinkError, r"broken.*\(3017 bytes"),
    "block in trickles": scope("kind: trickle, matching: DATA, at_byte: 500, delay_s: 0.003", None, ""),
    "silence": scope("kind: stall, matching: DATA", LinkError, r"broken.*\(0 bytes"),
    # --- answers of the supply, behind its adapter
    "supply's reply dropped": supply("kind: drop, matching: CURR", LinkTimeout, " 0 bytes had come"),
    "supply's reply late": supply("kind: delay, matching: CURR, delay_s: 2.0", LinkTimeout, " 0 bytes had come"),
    "supply's reply cut": supply("kind: cut, matching: CURR, at_byte: 6", LinkTimeout, " 6 bytes had come"),
    "supply's reply doubled": supply("kind: double, matching: CURR", ProtocolError, "behind one line"),
    "supply's reply after garbage": supply(
        r'kind: garbage, matching: CURR, data: "\0x"', ProtocolError, "first bytes: b.*x"
    ),
    "adapter's connection reset": supply("kind: reset, matching: CURR, at_byte: 6", LinkError, "broken"),
    "supply wedged": supply("kind: wedge, matching: CURR", LinkError, "broken.*0 bytes"),
    "output's answer dropped": supply(
        r"kind: drop, matching: 'OUTP.*\?', times: 2", LinkTimeout, " 0 bytes", "OUTP", "seen_off"
    ),
    # --- the queue
    "error queue not empty": Row(
        "scope: [{kind: error, code: -113, text: Undefined header}, {kind: error, code: -222, text: Out of range}]",
        "run",
        ScpiError,
        "error -113, 'Undefined header'.*also queued: -222",
        ":SINGle",
    ),
    # --- trigger and record
    "trigger never": Row("markers: [{kind: lose, line: gate, times: 0}]", "run", CaptureError, "no trigger within"),
    "trigger after the deadline": Row(
        "markers: [{kind: late, delay_s: 0.7}]", "late_run", CaptureError, "no trigger within"
    ),
    "preamble +0 once": scope(r'kind: replace, matching: PREamble, data: "+0\n"', None, ""),
    "preamble +0 twice": scope(
        r'kind: replace, matching: PREamble, data: "+0\n", times: 2',
        ProtocolError,
        r"answers|fields.*first bytes: b'\+0'",
        ":WAVeform:PREamble?",
    ),
    "record of the previous capture": scope(
        "kind: stale, matching: WAV.*DATA, back: 3, times: 3",
        CaptureError,
        "the very codes of acquisition 2",
        deed="two_runs",
    ),
    "fewer points": scope(
        'kind: panel, matching: PREamble, commands: ":WAV:POIN 100"',
        CaptureError,
        "announces 2000 points = 4000 bytes, the block has 200",
    ),
    "stopped at the front panel": scope(
        'kind: panel, matching: "OPER.*COND", skip: 3, commands: ":STOP"', CaptureError, "stopped", "", "no_run"
    ),
    "clipped": Row(
        "leads: [{kind: gain, lead: current, factor: 20}]", "run", Rejected, r"\d+ samples of the current are clipped"
    ),
    "holes": scope("kind: holes, share: 0.01", Rejected, r"\d+ samples of the current are holes", ""),
    "gate bounces": Row("markers: [{kind: bounce, line: gate}]", "run", Rejected, r"the gate has \d+ edges"),
    "batch edge lost": Row(
        "markers: [{kind: lose, line: batch, skip: 2}]", "run", Rejected, "missing batch edges: the record shows 4"
    ),
    "batch line bounces": Row(
        "markers: [{kind: bounce, line: batch, skip: 2}]", "run", Rejected, "extra batch edges: the record shows 10"
    ),
    # --- the supply's state
    "supply in constant current": supply(
        'kind: panel, matching: CURR, commands: "CURR 0.03"',
        SettingError,
        "voltage_v.*CC",
        "MEASure:VOLTage?",
        "regulated",
    ),
    "over-voltage trip": supply(
        'kind: panel, matching: CURR, commands: "VOLT:PROT 9"', SettingError, "FAULT", "", "regulated"
    ),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultyBench, Board]]:
    at_once = ("simulation:\n", "simulation:\n  world: {supply_settling_s: 0.001}\n")
    with faulty_bench(tmp_path_factory.mktemp("bench"), at_once) as hurt:
        board = Board(hurt.ring)
        yield hurt, board
        board.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ROWS)
def test_fault(bench: tuple[FaultyBench, Board], tmp_path: Path, name: str) -> None:
    hurt, board = bench
    row = ROWS[name]
    trace = tmp_path / "trace.h5"
    hurt.station.hurt(FaultFacts())
    with day(hurt, trace, board) as at:
        hurt.station.hurt(faults(row.script))
        if row.kind is None:
            getattr(at, row.deed)()
        else:
            silent = row.kind in (LinkTimeout, LinkError) or row.told.startswith("no trigger")
            hurry = at.hurried(comes_back=row.kind is not LinkError) if silent else contextlib.nullcontext()
            with hurry, pytest.raises(row.kind) as caught:
                getattr(at, row.deed)()
            assert type(caught.value) is row.kind
            is_said(row, str(caught.value))
        hurt.station.hurt(FaultFacts())
        at.reconnect()
        assert at.goes_on()
        assert hurt.output_is_on
    assert not hurt.output_is_on
    assert all(hurt.feed(i, b"SYST:ERR?\n").startswith(b"+0,") for i in ("scope", "supply"))
    with TraceReader(trace) as reader:
        assert reader.complete
        states = [row["state"] for row in reader.captures()]
        assert len(list(reader.data())) == states.count("committed")
        assert next(c["kind"] for c in reader.captures()) == "zero"
    rejected = ["rejected"] if row.kind is Rejected else []
    runs = {None: 1, "two_runs": 1}.get(row.deed if row.kind else None, 0)
    assert states == ["committed", *["committed"] * runs, *rejected, "committed"]


def is_said(row: Row, text: str) -> None:
    """Whether an error's text says what went wrong, where, at which command, with which bytes."""
    assert re.search(row.told, text, re.DOTALL), text
    if row.kind is Rejected:
        return
    assert text.startswith(f"{row.instrument} (")
    assert "[command: " in text
    assert row.command in text


@pytest.mark.parametrize(
    ("instrument", "identity", "found"),
    [
        ("scope", "AGILENT TECHNOLOGIES,MSO-X 2024A,MY99999999,02.65.2021102830", "serial MY99999999"),
        ("scope", "AGILENT TECHNOLOGIES,DSO-X 2012A,MY00000001,02.12.2012041800", "DSO-X 2012A"),
        ("supply", "Agilent Technologies,E3634A,0,1.4-5.0-1.0", "E3634A"),
        ("supply", "HEWLETT-PACKARD,34401A,0,11-5-2", "34401A"),
    ],
)
def test_wrong_serial(
    bench: tuple[FaultyBench, Board], tmp_path: Path, quick: None, instrument: str, identity: str, found: str
) -> None:
    """A stranger is refused before any setting; a supply that is not ours is left as it is, on."""
    hurt, board = bench
    hurt.feed("supply", b"VOLT 5;OUTP ON\n")
    before = hurt.feed("supply", b"APPL?\n")
    hurt.station.hurt(faults(f"{instrument}: [{{kind: identity, text: '{identity}'}}]"))
    with pytest.raises(IdentityError, match=found) as caught, day(hurt, tmp_path / "trace.h5", board):
        pytest.fail("the bench opened")
    text = str(caught.value)
    assert text.startswith(f"{instrument} (")
    assert getattr(hurt.lab, instrument).model in text
    assert text.endswith("[command: *IDN?]")
    if instrument == "supply":
        assert hurt.output_is_on
        assert hurt.feed("supply", b"APPL?\n") == before
    hurt.feed("supply", b"*RST\n")
    hurt.station.hurt(FaultFacts())
    with day(hurt, tmp_path / "trace.h5", board) as at:
        at.run()
    assert not hurt.output_is_on


def test_errors_left_before_the_start_are_told_and_taken_away(
    bench: tuple[FaultyBench, Board], tmp_path: Path, quick: None
) -> None:
    hurt, board = bench
    entry = "{kind: error, code: -113, text: Undefined header}"
    hurt.station.hurt(faults(f"scope: [{entry}]\nsupply: [{entry}, {entry}]"))
    with day(hurt, tmp_path / "trace.h5", board) as at:
        assert {name: len(entries) for name, entries in at.bench.leftovers.items()} == {"scope": 1, "supply": 2}
        at.run()
    assert not hurt.output_is_on


def test_every_kind_of_fault_has_its_row() -> None:
    """A kind that is added to the script without a row here is not done."""
    from typing import get_args

    from instruments.fault_facts import InstrumentFault, LeadFault, MarkerFault

    text = " ".join([row.script for row in ROWS.values()] + ["kind: identity"])
    for model in (InstrumentFault, MarkerFault):
        for kind in get_args(model.model_fields["kind"].annotation):
            assert f"kind: {kind}" in text, kind
    assert LeadFault  # what is plugged wrongly is found by experiments.check_bench: tests/experiments


def test_a_day_without_faults(bench: tuple[FaultyBench, Board], tmp_path: Path, quick: None) -> None:
    hurt, board = bench
    hurt.station.hurt(FaultFacts())
    with day(hurt, tmp_path / "trace.h5", board) as at:
        at.two_runs()
        assert at.goes_on()
    assert not hurt.output_is_on
