"""One process at an instrument: another is kept out by name, and nobody is after the holder's end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instruments.errors import LinkError
from instruments.link import Link, claims
from tests.sweeps import QUICK, output_is_on, run, served_bench

from .scripted_instruments import serving, standard

HOLD = """
import os, sys
from instruments.link import Link
link = Link.open("scope", sys.argv[2:])
if sys.argv[1] == "fork":
    ready, told = os.pipe()
    if os.fork() == 0:
        os.read(ready, 1)
        print("child", flush=True)
        sys.stdin.read()
        os._exit(0)
    link.close()
    os.write(told, b"x")
    os._exit(0)
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(*resources: str, how: str = "hold") -> Iterator[subprocess.Popen[str]]:
    """A process that has these resources open until its standard input closes."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, how, *resources], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().strip()
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(200)


def test_a_second_process_is_refused_and_told_who_is_there() -> None:
    with serving(standard) as server:
        with another_process(server.resource) as holder:
            before = list(server.received)
            with pytest.raises(LinkError, match=rf"scope .*in use by .*process {holder.pid}, .*wait until") as caught:
                Link.open("scope", [server.resource])
            assert caught.value.resource == server.resource
            assert server.received == before
            until_s = time.monotonic() + 5
            while server.connections < 1 and time.monotonic() < until_s:
                time.sleep(0.01)  # the server's thread may not have got round to the first one yet
            assert server.connections == 1
        with Link.open("scope", [server.resource]) as link:
            assert link.query("*IDN?").startswith("MAKER")


def test_a_holder_that_is_killed_holds_nothing() -> None:
    with serving(standard) as server:
        with another_process(server.resource) as holder:
            holder.send_signal(signal.SIGKILL)
            holder.wait(200)
        with Link.open("scope", [server.resource]) as link:
            assert link.query("*IDN?").startswith("MAKER")


def test_a_child_that_outlives_its_parent_holds_nothing() -> None:
    with (
        serving(standard) as server,
        another_process(server.resource, how="fork"),
        Link.open("scope", [server.resource]) as link,
    ):
        assert link.query("*IDN?").startswith("MAKER")


def test_one_process_may_open_an_instrument_again_and_at_once() -> None:
    with serving(standard) as server:
        for _ in range(2):
            with Link.open("scope", [server.resource]) as one, Link.open("panel", [server.resource]) as two:
                one.close()
                with pytest.raises(subprocess.CalledProcessError):
                    probe(server.resource)
                assert two.query("*IDN?").startswith("MAKER")
                two.reopen()
        probe(server.resource)


def probe(*resources: str) -> None:
    """Open in another process; CalledProcessError when that is refused."""
    command = "import sys; from instruments.link import Link; Link.open('x', sys.argv[1:]).close()"
    subprocess.run([sys.executable, "-c", command, *resources], check=True, stderr=subprocess.DEVNULL, timeout=200)


def test_an_open_that_fails_holds_nothing() -> None:
    with serving(standard) as server:
        resource = server.resource
    with pytest.raises(LinkError, match="could not connect"):
        Link.open("scope", [resource])
    assert claims.canonical([resource]) not in claims._held


def test_a_folder_that_cannot_be_used_hinders_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for bad in (tmp_path / "absent" / "deeper", tmp_path / "link"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(tmp_path)
        monkeypatch.setattr(claims, "folder", lambda bad=bad: bad)
        caplog.clear()
        with serving(standard) as server, Link.open("scope", [server.resource]) as link:
            assert link.query("*IDN?").startswith("MAKER")
        assert "other processes are not kept out" in caplog.text


def test_leftover_files_and_their_texts_mean_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(claims, "folder", lambda: tmp_path)
    with serving(standard) as server:
        for text in ("", "no json", json.dumps({"pid": os.getpid()})):
            Link.open("scope", [server.resource]).close()
            (file,) = tmp_path.iterdir()
            file.write_text(text)
        Link.open("scope", [server.resource]).close()
        assert "127.0.0.1" in file.name
        assert str(server.port) in file.name


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (["TCPIP::LocalHost::5025::SOCKET"], ["TCPIP0::127.0.0.1::5025::SOCKET"], True),
        (["TCPIP::localhost,600::inst0::INSTR"], ["TCPIP::127.0.0.1,600::INST0::INSTR"], True),
        (["TCPIP::h::5025::SOCKET"], ["TCPIP::h::5026::SOCKET"], False),
        (["TCPIP::h::inst0::INSTR"], ["TCPIP::h::inst1::INSTR"], False),
        (["PRLGX-TCPIP::h::INTFC", "GPIB0::5::INSTR"], ["PRLGX-TCPIP3::H::1234::INTFC", "GPIB3::6::INSTR"], True),
        (["GPIB::5"], ["GPIB0::5::INSTR"], True),
        (["GPIB0::5::INSTR"], ["GPIB1::5::INSTR"], False),
        (["USB0::0x0957::0x1799::MY5::INSTR"], ["USB0::0x0957::0x1799::MY6::INSTR"], False),
        (["no resource at all"], ["no resource at all"], True),
    ],
)
def test_which_names_are_one_instrument(one: list[str], other: list[str], same: bool) -> None:
    assert (claims.canonical(one) == claims.canonical(other)) is same


def test_a_serial_port_by_any_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "port").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "port")
    names = {claims.canonical([f"ASRL{tmp_path / name}::INSTR"]) for name in ("port", "by-id")}
    names.add(claims.canonical([f"PRLGX-ASRL::{tmp_path / 'by-id'}::INTFC", "GPIB0::5::INSTR"]))
    assert len(names) == 1


def test_two_sweeps_at_one_bench_do_not_meet(tmp_path: Path) -> None:
    """The second ends with exit code 3 and a line that says why; neither instrument heard anything of it."""
    with served_bench(tmp_path) as (lab, addresses), another_process(*addresses["scope"]["socket"]) as holder:
        done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
        assert done.returncode == 3
        line = done.stderr.strip().splitlines()[-1]
        assert f"process {holder.pid}" in line
        assert "wait until it has ended" in line
        assert not output_is_on(addresses)
        assert not (tmp_path / "run" / "trace.h5").exists()
