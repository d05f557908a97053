"""Signals: one orderly interruption, held back while something must not be cut in two."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sweeps import ROOT

HEAD = """
import os, signal, sys, threading, time
import numpy
numpy.ones((300, 300)) @ numpy.ones((300, 300))          # a numerical library's threads take signals too
threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
from instruments.interrupts import Interrupted, stop_on_signals, undisturbed
stop_on_signals()
heard, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)                               # a byte for each signal that has come
def hear(count):
    while count:
        count -= len(os.read(heard, count))
"""


def run_and_signal(body: str, *numbers: signal.Signals) -> str:
    """Run a script, send it signals once it says `now`, and give the rest of what it says."""
    with subprocess.Popen([sys.executable, "-c", HEAD + body], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        for number in numbers:
            process.send_signal(number)
            while _pending(process.pid) and process.poll() is None:
                time.sleep(0.002)  # the same signal twice would be one
        rest = process.stdout.read()
    assert process.returncode == 0
    return rest


def _pending(pid: int) -> int:
    """Signals that a process has not taken yet, as a mask."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return int(status.partition("ShdPnd:")[2].split()[0], 16)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_block_is_finished_before_the_interruption(number: signal.Signals) -> None:
    said = run_and_signal(
        """
try:
    with undisturbed():
        with undisturbed():
            print('now', flush=True)
            hear(3)
        print('inner done', flush=True)
    print('never', flush=True)
except Interrupted:
    print('interrupted', flush=True)
""",
        number, number, signal.SIGTERM,
    )  # fmt: skip
    assert said.split("\n") == ["inner done", "interrupted", ""]


def test_a_second_signal_does_not_disturb_the_way_out() -> None:
    said = run_and_signal(
        """
try:
    print('now', flush=True)
    time.sleep(60)
except Interrupted:
    hear(3)
    print('cleaned up', flush=True)
""",
        signal.SIGINT, signal.SIGINT, signal.SIGTERM,
    )  # fmt: skip
    assert said == "cleaned up\n"


def test_the_output_goes_off_although_a_signal_comes_meanwhile() -> None:
    said = run_and_signal(
        """
from instruments.bench import _safe_exit
class Supply:
    def safe_off(self):
        print('now', flush=True)
        hear(1)
        print('off', flush=True)
    def local(self):
        return True
try:
    _safe_exit(Supply(), lambda text: print('ALARM', text))(None, None, None)
except Interrupted:
    print('interrupted', flush=True)
""",
        signal.SIGTERM,
    )
    assert said == "off\ninterrupted\n"


DROPPED = """
class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
sys.stderr = open(os.devnull, 'w')
"""


def test_an_interruption_that_was_dropped_is_met_after_the_next_block() -> None:
    said = run_and_signal(
        DROPPED
        + """
import io
sys.stderr = io.StringIO()
try:
    print('now', flush=True)
    del (lost := [Dropping()])[0]
    print('dropped', repr(sys.stderr.getvalue()), flush=True)
    with undisturbed():
        print('whole', flush=True)
    print('never', flush=True)
except Interrupted:
    with undisturbed():
        print('cleaned up', flush=True)
"""
    )
    assert said.splitlines() == ["dropped ''", "whole", "cleaned up"]  # and nothing is said of it


def test_a_signal_after_one_that_was_dropped_interrupts() -> None:
    said = run_and_signal(
        DROPPED
        + """
try:
    del (lost := [Dropping()])[0]
    print('now', flush=True)
    time.sleep(60)
except Interrupted:
    try:
        raise ValueError
    except ValueError:
        hear(3)
        print('cleaned up', flush=True)
""",
        signal.SIGTERM, signal.SIGTERM,
    )  # fmt: skip
    assert said == "cleaned up\n"
