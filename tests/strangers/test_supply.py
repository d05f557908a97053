"""Public programs on the simulated supply: they work unmodified, and their numbers are ours."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from instruments import lab as lab_yaml
from instruments.e3645a import E3645A, SupplyLimits
from instruments.link import Link
from instruments.simulated.station import Station
from tests.sweeps import lab_file

from .conftest import QUIET, Client, cannot, needs

PROLOGIX_PORT = 1234  # dcps knows the adapter by this port and no other
LIMITS = SupplyLimits(13.0, 2.2, 14.0)


def port_is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def test_dcps_programs_and_measures_over_prologix(client: Client, tmp_path: Path) -> None:
    needs("dcps")
    if not port_is_free(PROLOGIX_PORT):
        cannot(f"TCP port {PROLOGIX_PORT} of this machine is taken, and dcps insists on it")
    old, new = QUIET
    lab = lab_yaml.load(lab_file(tmp_path, (old, f"{new}  ports: {{prologix: {PROLOGIX_PORT}}}\n")))
    with Station(lab, seed=5) as station:
        said = client("dcps_program", f"TCPIP0::127.0.0.1::{PROLOGIX_PORT}::SOCKET")
        assert not station.supply.remote  # ++loc
        with Link.open("supply", station.addresses["supply"]["prologix"]) as link:
            supply = E3645A(link, LIMITS)
            assert supply.errors() == []
            assert said["greeting"].startswith("Prologix GPIB-ETHERNET Controller")
            assert said["idn"] == link.query("*IDN?")
            assert said["on"] is supply.output_is_on() is True
            assert (said["voltage_v"], said["current_a"]) == (supply.voltage_v(), supply.current_limit_a())
            assert (said["voltage_v"], said["current_a"]) == supply.applied() == (11.25, 1.5)
            assert said["measured_v"] == supply.measure_voltage_v()
            assert said["measured_a"] == supply.measure_current_a()
            assert supply.mode() == "CV"
            supply.safe_off()


def test_pyvisa_alone_over_the_serial_line(station: Station, client: Client) -> None:
    (resource,) = station.addresses["supply"]["serial"]
    said = client("pyvisa_serial", resource)
    assert said["local"].startswith("+550,")
    assert said["idn"] == "Agilent Technologies,E3645A,0,1.4-5.0-1.0"
    assert said["applied"] == '"9.50000,1.25000"'
    assert said["on"] == "1"
    assert said["error"].startswith("+0,")
    with Link.open("supply", [resource]) as link:
        supply = E3645A(link, LIMITS)
        supply.remote()
        assert supply.applied() == (9.5, 1.25)
        assert supply.measure_voltage_v() == float(said["measured_v"])
        supply.safe_off()
