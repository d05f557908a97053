"""The checks behind `python -m experiments.check_bench`, in the order in which a careful engineer makes them."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cell import CellWork
from experiments.plan import make_plan
from experiments.reduction import find_calibration
from experiments.station import POINTS, PRE_TRIGGER, Rejected, Station
from experiments.traces import TraceWriter
from instruments import lab as lab_yaml
from instruments import markers
from instruments.bench import Bench, open_bench, open_transcript
from instruments.errors import BenchError, CaptureError, DutError
from instruments.lab import Lab
from instruments.mso_x2024a import plan_acquisition
from instruments.probe_1146b import OFFSET_LIMIT_A, Probe1146B
from instruments.waveform import Capture

WINDOW_S = 2.0
WANTED_RATE_HZ = 50_000.0
GAIN_LIMIT = 0.06
"""A gain further from 1 than probe and channel together allow by their specifications is no gain but a mistake."""

MARKER_LOAD = "busy:20"
MARKER_BATCHES = 5


@dataclass(frozen=True)
class Finding:
    """One check: its verdict (good, note or WRONG), what was found, and what to do about it."""

    verdict: str
    name: str
    found: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """One line of text."""
        return f"{self.verdict:5s} {self.name}: {self.found}" + (f"; {self.advice}" if self.advice else "")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class _Findings:
    def __init__(self, show: Callable[[Finding], None]) -> None:
        self.all: list[Finding] = []
        self._show = show

    def add(self, good: bool | None, name: str, found: str, advice: str = "", **values: Any) -> None:
        """Note a check: good True, False, or None where there is nothing to judge."""
        verdict = "note" if good is None else "good" if good else "WRONG"
        finding = Finding(verdict, name, found, "" if good else advice, values)
        self.all.append(finding)
        self._show(finding)


def check(
    lab_path: Path,
    *,
    power: bool = True,
    transcript: Path | None = None,
    show: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Check a bench; `show` gets each finding as it is made.

    Raises ConfigError, LinkError or IdentityError when the bench cannot even be opened.
    """
    lab = lab_yaml.load(lab_path)
    findings = _Findings(show)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open_transcript(transcript, lab)) if transcript is not None else None
        bench = stack.enter_context(open_bench(lab, lab_path, transcript=log))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        plan = make_plan([MARKER_LOAD], [1], 1, WINDOW_S, 1)
        trace = TraceWriter.create(Path(folder) / "check.h5", plan, source=bench.source, texts={})
        writer = stack.enter_context(trace)
        station = Station(bench, writer, plan, lambda text: findings.add(None, "sweep", text))
        _identities(bench, findings)
        _latencies(bench, findings)
        _acquisition(lab, findings)
        station.set_up_scope()
        findings.add(True, "scope settings", "channels, pod, trigger, acquisition, timebase read back as set")
        station.feed_board()
        findings.add(True, "supply settings", _supply(station), **station.supply_settings())
        _zero(station, findings)
        _markers(station, findings)
        if power:
            _powered(station, findings)
    return findings.all


def _identities(bench: Bench, findings: _Findings) -> None:
    for name, identity in bench.identities.items():
        findings.add(True, f"{name} identity", identity)
    findings.add(None, "scope options", ", ".join(bench.scope.options()) or "none")
    for name, entries in bench.leftovers.items():
        advice = "somebody else left them; they are read away now"
        findings.add(not entries, f"{name} error queue", "; ".join(entries) or "empty", advice)


def _latencies(bench: Bench, findings: _Findings) -> None:
    for name, instrument, count in (("scope", bench.scope, 50), ("supply", bench.supply, 20)):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            instrument.identity()
            times.append(time.perf_counter() - start)
        median_ms, worst_ms = statistics.median(times) * 1e3, max(times) * 1e3
        findings.add(
            worst_ms < 1000.0,
            f"{name} latency",
            f"{median_ms:.2f} ms a query, worst {worst_ms:.2f} ms of {count}",
            "look for other traffic on the network, or another client of the instrument",
            median_ms=median_ms,
            worst_ms=worst_ms,
        )


def _acquisition(lab: Lab, findings: _Findings) -> None:
    sources = [f"CHAN{lab.wiring.current.channel}", f"CHAN{lab.wiring.voltage.channel}", "POD1"]
    plan = plan_acquisition(WINDOW_S, sources, lab.scope.memory_points, points=POINTS)
    findings.add(
        plan.rate_hz >= 0.99 * WANTED_RATE_HZ,
        "acquisition",
        f"{plan.points} points at {plan.rate_hz / 1e3:g} kSa/s expected for {WINDOW_S:g} s"
        + (f" ({'; '.join(plan.notes)})" if plan.notes else ""),
        "less than 50 kSa/s: a shorter --window or a memory option gives more",
        rate_hz=plan.rate_hz,
        points=plan.points,
    )


def _supply(station: Station) -> str:
    s = station.supply_settings()
    return f"range {s['range']}, {s['voltage_v']} V, limit {s['current_limit_a']} A, OVP {s['ovp_v']} V, output off"


def _zero(station: Station, findings: _Findings) -> None:
    station.first_zero()
    measured, _ = station.steady[-1]
    data = measured.data
    current, voltage = data.capture["current"], data.capture["voltage"]
    start = time.perf_counter()
    station.bench.scope.fetch(list(station.sources.values()), points=POINTS)
    seconds = time.perf_counter() - start
    size = sum(r.codes.nbytes for r in data.capture.records.values())
    rate_hz = data.capture.rate_hz
    findings.add(
        rate_hz >= 0.99 * WANTED_RATE_HZ,
        "record",
        f"{data.capture.points} points at {rate_hz / 1e3:g} kSa/s",
        "see the acquisition's line",
        points=data.capture.points,
        rate_hz=rate_hz,
    )
    findings.add(None, "block throughput", f"{size / seconds / 1e6:.1f} MB/s", bytes=size, seconds=seconds)
    zero_a, noise_a = float(current.values().mean()), float(current.values().std())
    probe = Probe1146B(station.lab.probe.range_v_per_a, station.lab.probe.turns)
    limit_a = OFFSET_LIMIT_A / probe.turns
    findings.add(
        abs(zero_a) <= limit_a,
        "zero of the current",
        f"{zero_a * 1e3:.2f} mA with the output off",
        f"more than the probe's {limit_a * 1e3:g} mA: degauss it and turn its zero wheel",
        zero_a=zero_a,
    )
    span_a = station.lab.wiring.current.high_a - station.lab.wiring.current.low_a
    findings.add(
        0.0 < noise_a < 0.1 * span_a,
        "noise of the current",
        f"{noise_a * 1e3:.2f} mA rms in one sample",
        "a flat line means an unplugged or dead probe (battery); much noise a switching supply beside it",
        noise_a=noise_a,
    )
    zero_v = float(voltage.values().mean())
    findings.add(
        abs(zero_v) <= 0.02 * station.lab.supply.voltage_v,
        "zero of the voltage",
        f"{zero_v * 1e3:.1f} mV with the output off",
        "another source feeds the board, or the channel's offset is off",
        zero_v=zero_v,
    )


def _markers(station: Station, findings: _Findings) -> None:
    """Let the device move both lines and see on which inputs they arrive."""
    try:
        dut = station.device()
    except Rejected as rejected:
        findings.add(False, "device", str(rejected), "check dut.command in lab.yaml")
        return
    hello = dut.hello()
    clock = dut.clock_bound()
    findings.add(
        True,
        "device",
        f"agent {hello.agent_sha256[:12]}, clock known to {clock.bound_s * 1e6:.0f} µs",
        host=dict(hello.host),
        bound_s=clock.bound_s,
    )
    line = hello.marker
    findings.add(
        line.get("kind") != "none",
        "marker lines",
        f"{line.get('kind')}, {line.get('wiring', '')}",
        "without lines nothing ties the waveform to the work: set dut.marker",
        **dict(line),
    )
    wiring = station.lab.wiring
    scope = station.bench.scope
    scope.configure_digital(range(8), wiring.marker_threshold_v)
    try:
        capture = _marker_capture(station)
    except (CaptureError, DutError) as error:
        findings.add(False, "marker wiring", str(error), "check the device's lines")
        return
    finally:
        scope.configure_digital((wiring.gate.digital, wiring.batch.digital), wiring.marker_threshold_v)
    moved = {bit: len(markers.edges(capture["POD1"].codes, bit)[0]) for bit in range(8)}
    for name, expected, bit in (("gate", 2, wiring.gate.digital), ("batch", MARKER_BATCHES, wiring.batch.digital)):
        seen = [b for b, count in moved.items() if count == expected]
        findings.add(
            moved[bit] == expected,
            f"{name} line",
            f"{moved[bit]} edges on D{bit}, {expected} were made",
            f"they are on {', '.join(f'D{b}' for b in seen)}: correct wiring.{name} or move the wire"
            if seen
            else "no input shows them: check wire, ground and marker_threshold_v",
            edges={f"D{b}": count for b, count in moved.items()},
        )


def _marker_capture(station: Station) -> Capture:
    """A record of a short run; triggered by force where the gate does not arrive on its input."""
    scope, dut = station.bench.scope, station.device()
    ready = dut.prepare(MARKER_LOAD, 1, run_s=1.0, warmup_s=0.05)
    scope.arm(deadline_s=station.arm_deadline_s)
    dut.go("marker-check", MARKER_BATCHES)
    time.sleep(0.005)
    if scope.state().armed:
        scope.force_trigger()
    scope.wait_done(deadline_s=(1 - PRE_TRIGGER) * WINDOW_S + 5.0)
    dut.wait_done(deadline_s=5.0)
    assert ready.batches > 0
    return scope.fetch(["POD1"], points=POINTS)


def _powered(station: Station, findings: _Findings) -> None:
    try:
        station.switch_on()
    except BenchError as error:
        findings.add(False, "output on", str(error), "look for a short, a reversed board, or a limit that is too low")
        return
    findings.add(True, "output on", f"regulates {station.bench.supply.measure_voltage_v():.3f} V in constant voltage")
    try:
        station.steady_capture("idle")
    except Rejected as rejected:
        findings.add(False, "idle", str(rejected), "widen the channel's span in lab.yaml")
        return
    idle = station.steady[-1][0].data.capture["current"].values()
    findings.add(None, "idle current", f"{idle.mean() * 1e3:.1f} mA as the oscilloscope scales it")
    work = CellWork(station)
    try:
        work.measure_gain()
    except Rejected as rejected:
        findings.add(False, "gain", str(rejected), "no comparison with the supply's read-back was possible")
        return
    _gain_and_headroom(station, findings, idle)


def _gain_and_headroom(station: Station, findings: _Findings, idle: Any) -> None:
    calibration = find_calibration(station.lab, station.steady)
    assert calibration is not None
    busy = station.steady[-1][0].data.capture
    for channel, record, low, high in (
        (calibration.current, busy["current"], station.lab.wiring.current.low_a, station.lab.wiring.current.high_a),
        (calibration.voltage, busy["voltage"], station.lab.wiring.voltage.low_v, station.lab.wiring.voltage.high_v),
    ):
        gain = channel.gain.value
        findings.add(
            abs(gain - 1) <= GAIN_LIMIT,
            f"gain of the {channel.name}",
            f"{gain:.4f} against the {channel.gain.source}",
            "probe range, attenuation, turns or direction differ from lab.yaml",
            gain=gain,
        )
        values: Sequence[float] = (float(record.values().min()), float(record.values().max()))
        free = min(values[0] - low, high - values[1]) / (high - low)
        findings.add(
            free >= 0.03,
            f"headroom of the {channel.name}",
            f"{values[0]:.3f} to {values[1]:.3f} {channel.unit} in a span of {low:g} to {high:g}",
            "widen the span in lab.yaml: a stronger load will clip",
            free=free,
        )
    if np.ptp(idle) == 0:
        findings.add(False, "probe", "the current is a flat line", "switch the probe on, check its battery and cable")
