"""Every error says who, what and with which exit code, and survives pickling."""

from __future__ import annotations

import pickle

import pytest

from instruments.errors import (
    BenchError,
    CaptureError,
    ConfigError,
    DutError,
    IdentityError,
    InstrumentError,
    LimitError,
    LinkError,
    LinkTimeout,
    ProtocolError,
    ScpiError,
    SettingError,
    TraceError,
)

WHERE = {"instrument": "scope", "resource": "TCPIP::h::5025::SOCKET", "command": "*IDN?"}

CASES = [
    (InstrumentError("went wrong", **WHERE), "went wrong"),
    (LinkError("broken", **WHERE), "broken"),
    (LinkTimeout("late", elapsed_s=1.0, bytes_got=3, queue=['-113,"Undefined header"'], **WHERE), "queue says: -113"),
    (ProtocolError("odd", first_bytes=b"\x00" * 100, **WHERE), r"first bytes: b'\x00"),
    (ScpiError(-222, "Data out of range", rest=['-113,"x"'], **WHERE), "error -222, 'Data out of range'"),
    (IdentityError("model A", "B", **WHERE), "expected model A, found B"),
    (
        SettingError("voltage_v", 12.0, 11.0, hint="look", **WHERE),
        "voltage_v: asked for 12.0, reads back as 11.0",
    ),
    (CaptureError("no trigger", reason="no-trigger", **WHERE), "no trigger"),
]


@pytest.mark.parametrize(("error", "part"), CASES, ids=lambda value: type(value).__name__)
def test_instrument_errors(error, part):
    text = str(error)
    assert part in text
    assert text.startswith("scope (TCPIP::h::5025::SOCKET): ")
    assert "*IDN?" in text
    assert error.exit_code == 3
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == text
    assert type(again) is type(error)


@pytest.mark.parametrize(
    ("kind", "code"), [(BenchError, 3), (ConfigError, 2), (LimitError, 2), (DutError, 3), (TraceError, 3)]
)
def test_exit_codes(kind, code):
    assert kind("x").exit_code == code
    assert issubclass(kind, BenchError)


def test_tree():
    assert issubclass(LimitError, ConfigError)
    assert issubclass(LinkTimeout, LinkError)


def test_fields_are_filled_in_but_not_replaced():
    error = ProtocolError("odd", instrument="scope")
    assert str(error) == "scope: odd"
    error.within(instrument="other", resource="R", command="C")
    assert (error.instrument, error.resource, error.command) == ("scope", "R", "C")
    assert str(InstrumentError("alone")) == "alone"
    assert str(InstrumentError("alone", resource="R")) == "R: alone"
