"""Recordings as other instruments and programs write them, each from its published description; not by our readers.

What they record is one device of the simulated world: true current and voltage, and what its marker lines did.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from tests.worlds import Bench

STEP_A, STEP_V = 1.6 / 4096, 16.0 / 4096


@dataclass(frozen=True)
class Signal:
    """What an ideal instrument would have seen: (n,) each, on the grid of its converter, and the truth."""

    time_s: np.ndarray
    current_a: np.ndarray
    voltage_v: np.ndarray
    gate: np.ndarray
    batch: np.ndarray
    runs: int
    images: int
    batches: int
    energy_j: tuple[float, ...]

    @property
    def dt_s(self) -> float:
        """Sampling period."""
        return float(self.time_s[1] - self.time_s[0])

    def part(self, start: int, stop: int) -> Signal:
        """Some of its samples."""
        names = ("time_s", "current_a", "voltage_v", "gate", "batch")
        return replace(self, **{name: getattr(self, name)[start:stop] for name in names})


def signal(seed: int = 5, runs: int = 1, batches: int = 5, batch_s: float = 0.08, rate_hz: float = 25_000.0) -> Signal:
    """One device that rests, works for some batches of four images, and rests again, so many times."""
    bench = Bench.make(seed)
    world = bench.world
    world.set_supply(-10.0, 12.003, 2.0, True)
    at_s, batch_line = 1.0, 0
    for _ in range(runs):
        lines, t = 1 | batch_line, at_s
        world.mark(t, lines)
        for _ in range(batches):
            t += batch_s
            lines ^= 2
            world.mark(t, lines)
        batch_line = lines & 2
        world.mark(t + 5e-6, batch_line)
        at_s = t + 0.35
    n = int((at_s - 0.75) * rate_hz)
    time_s = 0.75 + np.arange(n) / rate_hz
    volts, amps = world._mean_over(time_s, 1 / rate_hz)
    rng = np.random.default_rng(seed)
    amps = amps + rng.normal(0, 2e-3, n)
    volts = volts + rng.normal(0, 2e-3, n)
    bits = world.digital(time_s)
    windows = world.true_windows(0.0)
    assert len(windows) == runs
    return Signal(
        time_s - 1.0,
        np.round(amps / STEP_A) * STEP_A,
        np.round(volts / STEP_V) * STEP_V,
        bits & 1,
        (bits >> 1) & 1,
        runs,
        4 * batches,
        batches,
        tuple(window.energy_j for window in windows),
    )


def write_scope_csv(path: Path, s: Signal, *, digital: bool = True, blank: int = 0, unit: str = "Ampere") -> Path:
    """As an InfiniiVision saves CSV: two header rows, exponents, the pod as one number."""
    pod = s.gate + 2 * s.batch
    with path.open("w", newline="") as file:
        file.write("x-axis,1,3" + (",D0-D7\n" if digital else "\n"))
        file.write(f"second,{unit},Volt" + (",\n" if digital else "\n"))
        for k, (t, i, v, d) in enumerate(zip(s.time_s, s.current_a, s.voltage_v, pod, strict=True)):
            cells = [f"{t:+.8E}", f"{i:+.6E}", f"{v:+.6E}"] + ([str(d)] if digital else [])
            file.write(",".join([cells[0]] + ([""] * (len(cells) - 1) if k < blank else cells[1:])) + "\n")
    return path


def write_scope_bin(path: Path, s: Signal, segments: Sequence[Signal] = ()) -> Path:
    """As the User's Guide describes .bin; each segment is a set of waveforms of its own."""
    waves = b""
    count = 0
    for index, part in enumerate(segments or [s], 1):
        for label, unit, kind, data in (
            ("1", 4, 1, part.current_a.astype("<f4")),
            ("3", 1, 1, part.voltage_v.astype("<f4")),
            ("", 0, 6, (part.gate + 2 * part.batch).astype("u1")),
        ):
            n = len(data)
            waves += struct.pack("<5i", 140, kind, 1, n, 0)
            waves += struct.pack("<fddd", n * part.dt_s, part.time_s[0], part.dt_s, part.time_s[0])
            waves += struct.pack("<2i", 2, unit)
            waves += b"".ljust(16, b"\0") + b"".ljust(16, b"\0")
            waves += b"MSO-X 2024A:MY00000001".ljust(24, b"\0") + label.encode().ljust(16, b"\0")
            waves += struct.pack("<dI", 0.5 * (index - 1) if segments else 0.0, index if segments else 0)
            waves += struct.pack("<ihhi", 12, 6 if kind == 6 else 1, data.itemsize, data.nbytes) + data.tobytes()
            count += 1
    path.write_bytes(b"AG10" + struct.pack("<ii", 12 + len(waves), count) + waves)
    return path


def write_scope_h5(path: Path, s: Signal, *, integers: bool = False) -> Path:
    """As the maker describes .h5 of Infiniium."""
    with h5py.File(path, "w") as file:
        file["FileType/KeysightH5FileType"] = np.bytes_(b"Keysight Waveform")
        frame = np.array((b"MSO9254A", b"MY54280101", b"2-May-2017"), dtype="S12,S12,S22")
        file.create_dataset("Frame/TheFrame", data=frame.astype([("Model", "S12"), ("Serial", "S12"), ("Date", "S22")]))
        for number, (values, step, unit) in {
            1: (s.current_a, STEP_A, b"Ampere"),
            3: (s.voltage_v, STEP_V, b"Volt"),
        }.items():
            group = file.create_group(f"Waveforms/Channel {number}")
            group.attrs.update({"NumPoints": np.int32(len(values)), "XInc": s.dt_s, "XOrg": s.time_s[0]})
            group.attrs.update({"XUnits": np.bytes_(b"Second"), "YUnits": np.bytes_(unit), "YInc": step, "YOrg": 0.0})
            stored = np.round(values / step).astype("<i2") if integers else values.astype("<f4")
            group[f"Channel {number}Data"] = stored
        for line, values in ((0, s.gate), (1, s.batch)):
            group = file.create_group(f"Waveforms/Digital {line}")
            group.attrs.update({"NumPoints": np.int32(len(values)), "XInc": s.dt_s, "XOrg": s.time_s[0]})
            group[f"Digital {line}Data"] = values.astype("u1")
        file["Waveforms"].attrs["NumWaveforms"] = np.int32(4)
    return path


def write_jls(path: Path, s: Signal) -> Path:
    """With the maker's own library."""
    import pyjls

    rate = round(1 / s.dt_s)
    with pyjls.Writer(str(path)) as writer:
        writer.source_def(1, name="JS220", vendor="Jetperch", model="JS220", version="1", serial_number="000001")
        for number, (name, unit, values) in enumerate(
            (("current", "A", s.current_a), ("voltage", "V", s.voltage_v)), 1
        ):
            writer.signal_def(
                number, 1, signal_type=0, data_type=pyjls.DataType.F32, sample_rate=rate, name=name, units=unit
            )
            writer.fsr(number, 0, values.astype(np.float32))
        for number, (name, line) in enumerate((("gpi[0]", s.gate), ("gpi[1]", s.batch)), 3):
            writer.signal_def(number, 1, signal_type=0, data_type=pyjls.DataType.U1, sample_rate=rate, name=name)
            writer.fsr(number, 0, np.packbits(line, bitorder="little"))
    return path


def write_powersensor(path: Path, s: Signal, *, drop: int = 0) -> Path:
    """As the host library dumps: six digits, host times in bursts, device's time modulo 1024 µs."""
    step_us = round(1e6 * s.dt_s)
    gate = np.concatenate(([0], s.gate))
    with path.open("w") as file:
        file.write("marker time dt_micro device_timestamp current0 voltage0 power0 power_total\n")
        before_s = 0.0
        for k, (i, v) in enumerate(zip(s.current_a, s.voltage_v, strict=True)):
            if drop and 4000 <= k < 4000 + drop:
                continue
            mark = {1: "A", -1: "B"}.get(int(gate[k + 1]) - int(gate[k]), "S")
            host_s = 0.002 * np.floor(k * s.dt_s / 0.002) + 3e-6 * (k % 16)  # packets of 2 ms
            took = int(1e6 * (host_s - before_s))
            file.write(f"{mark} {host_s:.6g} {took} {k * step_us % 1024} {i:.6g} {v:.6g} {i * v:.6g} {i * v:.6g}\n")
            before_s = host_s
    return path


def write_table(path: Path, s: Signal, *, header: str = "t [ms],I [mA],U [V],run,done", drop: int = 0) -> Path:
    """A table as people write them; `run` is an analogue line, `done` counts images."""
    counter = 4 * np.cumsum(np.abs(np.diff(s.batch.astype(int), prepend=0)))
    with path.open("w") as file:
        file.write(header + "\n")
        for k in range(len(s.time_s)):
            if drop and 4000 <= k < 4000 + drop:
                continue
            row = (1e3 * s.time_s[k], 1e3 * s.current_a[k], s.voltage_v[k], 0.05 + 3.2 * s.gate[k], counter[k])
            file.write("{:.5f},{:.3f},{:.4f},{:.3f},{}\n".format(*row))
    return path


def accuracy_record(path: Path) -> Path:
    """What a maker might promise of an instrument that sees all of this."""
    path.write_text(
        "kind: channel_accuracy\nversion: 1\nmade: 2026-01-01\ninstrument: ideal recorder\nspecification: data sheet\n"
        "current: {relative_limit: 0.002, offset_limit: 0.001, valid: {low: -3.0, high: 3.0}}\n"
        "voltage: {relative_limit: 0.001, offset_limit: 0.005, valid: {low: -1.0, high: 36.0}}\n"
    )
    return path


def facts_file(path: Path, **facts: object) -> Path:
    """A side file with what ran."""
    path.write_text(json.dumps(facts))
    return path
