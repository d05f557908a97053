"""What a lab.yaml asks of instruments, adapters and lines that nobody has is told with its line, before any opens."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyvisa.rname import parse_resource_name

from experiments import power_sweep
from instruments import addresses, lab
from instruments.lab_checks import missing_here
from tests.worlds import LAB

REAL = LAB.parent / "docs/benches/real.yaml"
TEXT = REAL.read_text()
ADAPTER = "[PRLGX-TCPIP::192.0.2.11::1234::INTFC, GPIB0::5::INSTR]"


def dry_run(folder: Path, *changes: tuple[str, str]) -> tuple[int, Path, str]:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "mine.yaml"
    path.write_text(text)
    return power_sweep.main(["--lab", str(path), "--dry-run"]), path, text


def line_of(text: str, key: str) -> int:
    """The line of a key, or of the mapping on one line that holds it."""
    section, _, name = key.partition(".")
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(f"{section}:"))
    name = name.partition(".")[0]
    return start + 1 if not name else next(k for k in range(start, len(lines)) if f"  {name}:" in lines[k]) + 1


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("5025::SOCKET", "5025::SOKET", "scope.resource", "did you mean SOCKET?"),
        ("5025::SOCKET", "70000::SOCKET", "scope.resource", "'70000' is no TCP port: 1 to 65535"),
        ("5025::SOCKET", "5025", "scope.resource", "write TCPIP::HOST::5025::SOCKET"),
        ("TCPIP::192.0.2.10::", "TCP::192.0.2.10::", "scope.resource", "did you mean TCPIP?"),
        ("TCPIP::192.0.2.10::", "TCPIP::192.0.2.300::", "scope.resource", "192.0.2.300 is no IP address"),
        ("::1234::INTFC", "::123456::INTFC", "supply.resource", "'123456' is no TCP port"),
        ("GPIB0::5::INSTR", "GPIB0::31::INSTR", "supply.resource", "address from 0 to 30"),
        ("GPIB0::5::INSTR", "GPIB1::5::INSTR", "supply.resource", "write GPIB0::... for it"),
        (", GPIB0::5::INSTR", "", "supply.resource", "is an adapter alone: add the instrument behind it"),
        ("gpio:0:37,184", "gpoi:0:37,184", "dut.marker", "did you mean gpio?"),
        ("gpio:0:37,184", "gpio:0:37", "dut.marker", "gpio:CHIP:GATE,BATCH"),
        ("gpio:0:37,184", "gpio:0:37,37", "dut.marker", "two GPIO lines, both are 37"),
        ("gpio:0:37,184", "gpio:0:\uff13,\uff14", "dut.marker", "gpio:CHIP:GATE,BATCH"),
        ("gpio:0:37,184", "led", "dut.marker", "write none, simulated:PATH"),
        (
            "range: P35V",
            "range: P60V",
            "supply.current_limit_a",
            "1.5 is above 1.339, the most of range P60V: lower it",
        ),
        ("MSO-X 2024A", "MSO-X 9999A", "scope.model", "is not known to this driver"),
        ("MSO-X 2024A", "MSO-X 2002A", "wiring.voltage.channel", "CHAN1 to CHAN2"),
        ("high_a: 1.4", "high_a: 14.0", "wiring.current", "beyond the 10 A that the probe shows"),
        ("high_v: 30.0", "high_v: 3000.0", "wiring.voltage", "beyond the largest full scale"),
        ("model: E3645A", "model: E9999", "supply.model", "give supply.read_back"),
        ('visa: "@py"', "visa: /etc/passwd", "visa", "write @py for pyvisa-py, or the path of a vendor's library"),
        ('visa: "@py"', "visa: /etc", "visa", "cannot be used"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(
    old: str, new: str, key: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, path, text = dry_run(tmp_path, (old, new))
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}:{line_of(text, key)}: {key}: ")
    assert said in err


def test_all_of_it_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, path, _ = dry_run(tmp_path, ("5025::SOCKET", "5025::SOKET"), ("gpio:0:37,184", "gpoi:0:37,184"))
    said = capsys.readouterr().err
    assert code == 2
    assert said.count(f"{path}:") == 2


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        (ADAPTER, "ASRL/dev/no-such-port::INSTR", "supply.resource", "there is no /dev/no-such-port on this machine"),
        ("PRLGX-TCPIP::192.0.2.11::1234", "PRLGX-ASRL::/dev/no-such-port", "supply.resource", "no /dev/no-such-port"),
        ("[ssh, board", "[no-such-program, board", "dut.command", "no program 'no-such-program' on this machine"),
        ("gpio:0:37,184", "letters:/dev/ttyACM0", "dut.marker", "'letters' is no kind of marker lines"),
        ('visa: "@py"', "visa: /no/such/visa.so", "visa", "cannot be used"),
    ],
)
def test_what_only_this_machine_lacks_is_warned_of(
    old: str, new: str, key: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, path, text = dry_run(tmp_path, (old, new))
    out, err = capsys.readouterr()
    assert code == 0
    assert "36 cells" in out
    warning = next(one for one in err.splitlines() if f": {key}: " in one)
    assert warning.startswith(f"warning: {path}:{line_of(text, key)}: {key}: ")
    assert said in warning


@pytest.mark.parametrize(
    ("resource", "packages", "lacks"),
    [
        ("GPIB0::5::INSTR", (), "a GPIB board needs linux-gpib or gpib-ctypes"),
        ("GPIB0::5::INSTR", ("gpib_ctypes",), ""),
        ("USB::0x0957::0x1796::MY1::INSTR", (), "PyUSB"),
        ("USB::0x0957::0x1796::MY1::INSTR", ("usb",), ""),
        (ADAPTER, (), ""),
    ],
)
def test_which_library_an_interface_needs(resource: str, packages: tuple[str, ...], lacks: str) -> None:
    bench = lab.parse(TEXT.replace(ADAPTER, resource))
    found = missing_here(bench, installed=lambda name: name in packages, program=lambda name: name)
    assert [lacks in str(one) for one in found] == [True] * bool(lacks)


@pytest.mark.parametrize(
    "resource",
    [
        "TCPIP::scope.lab.example::5025::SOCKET",
        "TCPIP0::192.0.2.1::5025::SOCKET",
        "TCPIP::192.0.2.1::inst0::INSTR",
        "TCPIP::192.0.2.1",
        "TCPIP::127.0.0.1,600::inst0::INSTR",
        "TCPIP::192.0.2.1::hislip0,4880::INSTR",
        "TCPIP::192.0.2.1::inst1",
        "TCPIP::192.0.2.1::INST0",
        "TCPIP::RAWS",
        "TCPIP::192.0.2.1::gpib0,5::INSTR",
        "USB0::2391::6038::MY1::0::INSTR",
        "GPIB::5",
        "GPIB0::5::96::INSTR",
        "ASRL1::INSTR",
        "ASRL/dev/ttyUSB0",
        "ASRLCOM3::INSTR",
        "PRLGX-TCPIP3::192.0.2.1::INTFC",
        "PRLGX-ASRL::/dev/ttyUSB0::INTFC",
    ],
)
def test_what_visa_takes_is_not_refused(resource: str) -> None:
    parse_resource_name(resource)
    assert addresses.mistake(resource) == ""


def test_an_alias_belongs_to_a_vendors_library() -> None:
    assert addresses.mistake("MyScope", "/opt/visa.so") == ""
    assert "no VISA resource string" in addresses.mistake("MyScope")
