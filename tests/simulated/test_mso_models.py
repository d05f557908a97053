"""Other models of the series: inputs, lines, rates and identities, up to lab.yaml."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from instruments import lab as lab_yaml
from instruments.simulated.mso_record import FrontEnd
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.station import Station
from tests.simulated.standin import StandIn


def scope_of(model: str, world: StandIn | None = None) -> SimulatedMsoX2024A:
    scope = SimulatedMsoX2024A(
        world or StandIn(), identity=f"KEYSIGHT TECHNOLOGIES,{model},MY1,02.65", front=FrontEnd(noise_div=0.0)
    )
    scope.feed(b":STOP;*CLS\n")
    return scope


def codes(scope: SimulatedMsoX2024A) -> list[int]:
    return [code for code, _ in scope.errors]


@pytest.mark.parametrize(
    ("model", "channels", "lines", "rate_hz"),
    [
        ("DSO-X 2002A", 2, 0, 2e9),
        ("MSO-X 2012A", 2, 8, 2e9),
        ("DSO-X 2024A", 4, 0, 2e9),
        ("MSO-X 2024A", 4, 8, 2e9),
        ("MSO-X 3034A", 4, 16, 4e9),
        ("DSOX3104T", 4, 0, 5e9),
        ("MSO-X 3052T", 2, 16, 5e9),
        ("DSO1024A", 4, 8, 2e9),  # no such series: the inputs of a 2024A
    ],
)
def test_inputs_and_rate(model: str, channels: int, lines: int, rate_hz: float) -> None:
    scope = scope_of(model)
    for number in range(1, 6):
        assert bool(scope.feed(f":CHAN{number}:RANG?\n".encode())) == (number <= channels)
    for number in (0, 7, 8, 15, 16):
        assert bool(scope.feed(f":DIG{number}:DISP?\n".encode())) == (number < lines)
    for number in (1, 2, 3):
        assert bool(scope.feed(f":POD{number}:THR?\n".encode())) == (number * 8 <= lines)
    assert set(codes(scope)) == {-113}
    scope.feed(b"*CLS;:TIM:RANG 1E-6\n")
    assert float(scope.feed(b":ACQ:SRAT?\n")) == rate_hz
    scope.feed(b":CHAN2:DISP ON\n")
    assert float(scope.feed(b":ACQ:SRAT?\n")) == rate_hz / 2
    scope.feed(f":WAV:SOUR CHAN{channels};:DIG CHAN{channels + 1}\n".encode())
    assert codes(scope) == [-224]


def test_the_second_pod_of_a_3000_x() -> None:
    scope = scope_of("MSO-X 3034A", StandIn(edges=[(0.5, 0, 1)]))
    scope.feed(b":POD2:THR 1.65;DISP ON;:DIG9:LAB 'MARK';THR?\n")
    assert scope.feed(b":DIG12:THR?;:DIG0:THR?\n") == b"+1.65000E+00;+1.40000E+00\n"
    memory = int(scope.feed(b":POD2:DISP OFF;:ACQ:POIN?\n"))
    assert int(scope.feed(b":POD2:DISP ON;:ACQ:POIN?\n")) == memory // 2
    scope.feed(
        b":TIM:RANG 1E-2;:TRIG:SWE NORM;EDGE:SOUR DIG0;:WAV:SOUR POD2;FORM BYTE;POIN:MODE RAW;:WAV:POIN 100\n:SING\n"
    )
    scope.tick(2.0)
    assert scope.feed(b":WAV:DATA?\n") == b"#800000100" + bytes(100) + b"\n"  # nothing is connected there
    scope.feed(b":TRIG:EDGE:SOUR DIG12;:SING\n")
    scope.tick(5.0)
    assert scope.feed(b":RST?;:OPER:COND?\n") == b"SING;+40\n"
    assert not scope.errors


def test_a_setup_of_another_model_is_refused() -> None:
    setup = scope_of("DSO-X 2022A").feed(b":SYST:SET?\n")
    four = scope_of("DSO-X 2024A")
    four.feed(b":SYST:SET " + setup)
    assert codes(four) == [-230]


def test_vendor_and_model_come_from_the_lab_and_are_served() -> None:
    text = Path("lab.yaml").read_text(encoding="utf-8")
    simulated = "  scope: {vendor: KEYSIGHT TECHNOLOGIES, model: DSO-X 3014A, memory_points: 4000000}\n"
    simulated += "  supply: {vendor: Keysight Technologies, firmware: 1.7-5.0-1.0}\n"
    lab = lab_yaml.parse(text.replace("simulation:\n", f"simulation:\n{simulated}"))
    with Station(lab) as station:
        port = int(station.addresses["scope"]["socket"][0].split("::")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(b"*IDN?\n:STOP;:TIM:RANG 2;:SING;:ACQ:POIN?\n:DIG0:DISP?\n*OPC?\n")
            received = b""
            while received.count(b"\n") < 3:
                received += client.recv(1000)
        assert received == b"KEYSIGHT TECHNOLOGIES,DSO-X 3014A,MY00000001,02.65.2021102830\n+4000000\n1\n"
        port = int(station.addresses["supply"]["prologix"][0].split("::")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(b"++addr 5\n*IDN?\n++read eoi\n")
            assert client.recv(1000) == b"Keysight Technologies,E3645A,0,1.7-5.0-1.0\n"
