"""The checks behind `python -m experiments.check_bench`, in the order in which a careful engineer makes them."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.cell import CellWork
from experiments.check_findings import Findings
from experiments.check_markers import judge_lines
from experiments.check_signals import Channel, compare_idle, fit, judge_gain, judge_headroom, judge_zero, mean
from experiments.plan import make_plan
from experiments.run_calibration import find_calibration
from experiments.station import FETCH_S, PowerLost, Rejected, Station
from experiments.traces import CaptureRow, TraceWriter
from instruments.bench import Bench, open_bench, open_transcript, roll_call
from instruments.dut import Dut
from instruments.errors import BenchError, CaptureError, DutError, IdentityError, LinkError, SettingError
from instruments.lab import Lab
from instruments.lab_checks import read_bench
from instruments.scope_facts import POINTS, USUAL_RATE_HZ, acquisition_plan
from instruments.waveform import Capture, Record

WINDOW_S = 2.0
MARKER_LOAD = "busy:20"
MARKER_BATCHES = 5
"""Odd, so that the batch line's edges cannot be taken for the gate's."""

SLOW_QUERY_S = 1.0
READINGS = 3


def check(lab_path: Path, findings: Findings, *, power: bool = True, transcript: Path | None = None) -> Lab:
    """Check a bench; `findings` gets each finding as it is made. The output is off, verified, when this returns.

    Raises ConfigError for a bad lab.yaml, LinkError or IdentityError when an instrument does not answer or is
    another one (the findings then say who does answer), InstrumentError when one fails during the checks.
    """
    lab, _ = read_bench(lab_path)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open_transcript(transcript, lab)) if transcript is not None else None
        try:
            bench = stack.enter_context(open_bench(lab, lab_path, transcript=log))
        except (LinkError, IdentityError):
            _who_answers(lab, lab_path, findings)
            raise
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        plan = make_plan([MARKER_LOAD], [1], 1, WINDOW_S, 1)
        trace = TraceWriter.create(Path(folder) / "check.h5", plan, source=bench.source, texts={})
        writer = stack.enter_context(trace)
        station = Station(bench, writer, plan, lambda text: findings.note("bench.said", "bench", text))
        _Checks(bench, station, findings).run(power)
    findings.good("output.off", "output off", "switched off and read back as off")
    return lab


def _who_answers(lab: Lab, lab_path: Path, findings: Findings) -> None:
    """Say of each instrument by itself whether it answers and is the right one."""
    expected = {"scope": (lab.scope.model, lab.scope.serial), "supply": (lab.supply.model, lab.supply.serial)}
    for name, answer in roll_call(lab, lab_path).items():
        id, title = f"{name}.identity", f"{name} identity"
        if isinstance(answer, BenchError):
            findings.wrong(id, title, str(answer), "the other checks need it")
            continue
        model, serial = expected[name]
        findings.judge(
            (answer.model, answer.serial) == (model, serial),
            id,
            title,
            str(answer),
            f"lab.yaml expects {model} with serial {serial}: correct it, or the address",
        )


class _Checks:
    """One round of checks at an open bench."""

    def __init__(self, bench: Bench, station: Station, findings: Findings) -> None:
        self.bench, self.station, self.findings = bench, station, findings
        self.lab = bench.lab
        self.zeros = (0.0, 0.0)
        self.lines_proven = False

    def run(self, power: bool) -> None:
        """All of them. A board that the supply feeds can move its lines only with the output on."""
        self._identities()
        self._latencies()
        self._settings()
        self._zero()
        powered = power and self._switch_on()
        self._markers()
        if powered:
            self._powered()

    def _identities(self) -> None:
        for name, identity in self.bench.identities.items():
            vendor, model, serial, firmware = identity.split(",", 3)
            self.findings.good(
                f"{name}.identity",
                f"{name} identity",
                f"{vendor} {model}, serial {serial}, firmware {firmware}",
                vendor=vendor,
                model=model,
                serial=serial,
                firmware=firmware,
            )
        options = [o for o in self.bench.scope.options() if o not in ("", "0")]
        self.findings.note("scope.options", "scope options", ", ".join(options) or "none", options=options)
        for name, entries in self.bench.leftovers.items():
            self.findings.judge(
                not entries,
                f"{name}.queue",
                f"{name} error queue",
                "; ".join(entries) or "empty",
                "somebody else left them; they are read away now: check again",
                entries=entries,
            )

    def _latencies(self) -> None:
        for name, instrument, count in (("scope", self.bench.scope, 50), ("supply", self.bench.supply, 20)):
            times = []
            for _ in range(count):
                start = time.perf_counter()
                instrument.identity()
                times.append(time.perf_counter() - start)
            median_s, worst_s = statistics.median(times), max(times)
            self.findings.judge(
                worst_s < SLOW_QUERY_S,
                f"{name}.latency",
                f"{name} latency",
                f"{median_s * 1e3:.2f} ms a query, worst {worst_s * 1e3:.2f} ms of {count}",
                "look for other traffic on the network, or another client of the instrument",
                median_s=median_s,
                worst_s=worst_s,
            )

    def _settings(self) -> None:
        plan = acquisition_plan(self.lab, WINDOW_S)
        self.findings.judge(
            plan.rate_hz >= 0.99 * USUAL_RATE_HZ,
            "acquisition.plan",
            "acquisition",
            "; ".join(plan.lines()),
            f"below {USUAL_RATE_HZ / 1e3:g} kSa/s: a shorter --window or a memory option gives more",
            rate_hz=plan.rate_hz,
            points=plan.points,
        )
        said = self.station.set_up_scope()
        for name, keys in (
            ("current", f"CHANnel{self.lab.wiring.current.channel}"),
            ("voltage", f"CHANnel{self.lab.wiring.voltage.channel}"),
            ("time base", "TIMebase"),
            ("trigger", "TRIGger"),
            ("acquisition type", "ACQuire"),
            ("pod", "POD1"),
        ):
            chosen = {key: value for key, value in said.items() if key.startswith(keys)}
            shown = ", ".join(f"{key.split(':', 1)[1]} {value}" for key, value in chosen.items())
            self.findings.good(f"scope.{name.replace(' ', '_')}", f"scope {name}", shown, **chosen)
        self.station.feed_board()
        found = self.station.supply_settings()
        self.findings.good(
            "supply.settings",
            "supply settings",
            f"range {found['range']}, {found['voltage_v']} V, limit {found['current_limit_a']} A, "
            f"OVP {found['ovp_v']} V, output off",
            **found,
        )

    # --- records ----------------------------------------------------------------------------------

    def _steady(self, kind: str) -> tuple[Capture, tuple[Record, Record]]:
        """Capture a record in which nothing runs, whatever it is worth."""
        scope, station = self.bench.scope, self.station
        if station.window_s != WINDOW_S:
            station.set_window(WINDOW_S)
        at_s = self.bench.clock.monotonic()
        scope.arm(deadline_s=station.arm_deadline_s)
        scope.force_trigger()
        scope.wait_done(deadline_s=WINDOW_S + 5.0)
        capture = scope.fetch(list(station.sources.values()), points=POINTS, deadline_s=FETCH_S)
        with contextlib.suppress(Rejected):  # what is wrong with it is judged here
            station.commit(CaptureRow(kind, host_s=at_s, window_asked_s=WINDOW_S), capture, ())
        return capture, (capture[station.sources["current"]], capture[station.sources["voltage"]])

    def _zero(self) -> None:
        capture, records = self._steady("zero")
        self._record(capture)
        self.zeros = mean(records[0]), mean(records[1])
        self.findings.take(
            [f for record, c in zip(records, Channel.both(self.lab), strict=True) for f in fit(record, c, "at zero")]
        )
        self.findings.take(judge_zero(self.lab, *records))

    def _record(self, capture: Capture) -> None:
        start = time.perf_counter()
        again = self.bench.scope.fetch(list(self.station.sources.values()), points=POINTS, deadline_s=FETCH_S)
        seconds = time.perf_counter() - start
        size = sum(record.codes.nbytes for record in again.records.values())
        expected_hz = acquisition_plan(self.lab, WINDOW_S).rate_hz
        short_of = expected_hz >= 0.99 * USUAL_RATE_HZ > capture.rate_hz
        self.findings.judge(
            capture.rate_hz >= 0.99 * USUAL_RATE_HZ,
            "record",
            "record",
            f"{capture.points} points at {capture.rate_hz / 1e3:g} kSa/s",
            f"the memory is smaller than scope.memory_points of lab.yaml, {self.lab.scope.memory_points}: correct "
            "that, and take a shorter --window for 50 kSa/s"
            if short_of
            else "see the acquisition's line",
            points=capture.points,
            rate_hz=capture.rate_hz,
        )
        self.findings.note(
            "throughput",
            "block throughput",
            f"{size / seconds / 1e6:.1f} MB/s: {size} bytes in {seconds * 1e3:.1f} ms",
            bytes=size,
            seconds=seconds,
        )

    def _markers(self) -> None:
        """Let the device move both lines and see on which inputs they arrive."""
        try:
            dut = self.station.device()
            clock = dut.clock_bound()
        except (Rejected, DutError) as error:
            self.findings.wrong("device", "device", str(error), "check dut.command in lab.yaml, and the board's power")
            return
        hello = dut.hello()
        self.findings.good(
            "device",
            "device",
            f"agent {hello.agent_sha256[:12]}, clock known to {clock.bound_s * 1e6:.0f} µs",
            host=dict(hello.host),
            bound_s=clock.bound_s,
        )
        kind = str(hello.marker.get("kind"))
        if not self.findings.judge(
            kind != "none",
            "markers",
            "marker lines",
            f"{kind}, {hello.marker.get('wiring', '')}",
            "without lines nothing ties the waveform to the work: set dut.marker",
            **dict(hello.marker),
        ):
            return
        wiring, scope = self.lab.wiring, self.bench.scope
        scope.configure_digital(range(8), wiring.marker_threshold_v)
        try:
            capture, triggered = self._marker_run(dut)
        except (CaptureError, DutError) as error:
            self.findings.wrong("markers.run", "marker run", str(error), "check the device and its lines")
            return
        finally:
            scope.configure_digital((wiring.gate.digital, wiring.batch.digital), wiring.marker_threshold_v)
        lines = judge_lines(capture["POD1"].codes, MARKER_BATCHES, wiring)
        if self.findings.take(lines):
            self.lines_proven = self.findings.judge(
                triggered,
                "markers.trigger",
                "trigger",
                "the gate's rise started the record" if triggered else "the gate's rise did not start a record",
                "another program may have changed the trigger: check again with nobody else at the oscilloscope",
            )

    def _marker_run(self, dut: Dut) -> tuple[Capture, bool]:
        """A record of a short run, and whether the gate triggered it; by force in a second run where it did not.

        The agent is started anew for each, since a batch line is low only then.
        """
        station, scope = self.station, self.bench.scope
        for forced in (False, True):
            dut.prepare(MARKER_LOAD, 1, run_s=0.1, warmup_s=0.05, deadline_s=self.lab.dut.prepare_timeout_s)
            scope.arm(deadline_s=station.arm_deadline_s)
            dut.go("marker-check", MARKER_BATCHES)
            if forced:
                scope.force_trigger()
            dut.wait_done(deadline_s=5.0)
            if not scope.state().armed:
                scope.wait_done(deadline_s=WINDOW_S + 5.0)
                return scope.fetch(["POD1"], points=POINTS), not forced
            scope.stop()
            self.bench.stop_dut()
            dut = station.device()
        raise CaptureError("no record although a trigger was forced", reason="no-trigger", instrument="scope")

    # --- power ------------------------------------------------------------------------------------

    def _switch_on(self) -> bool:
        try:
            self.station.switch_on()
        except SettingError as error:
            advice = "look for a short, a reversed board, or a current_limit_a that is too low"
            self.findings.wrong("output.on", "output on", str(error), advice)
            self.station.switch_off()
            return False
        volts = self.bench.supply.measure_voltage_v()
        self.findings.good("output.on", "output on", f"regulates {volts:.3f} V in constant voltage", volts=volts)
        return True

    def _powered(self) -> None:
        supply, lab = self.bench.supply, self.lab
        _, records = self._steady("idle")
        readings = [(supply.measure_voltage_v(), supply.measure_current_a()) for _ in range(READINGS)]
        supply_v, supply_a = (statistics.fmean(column) for column in zip(*readings, strict=True))
        compared = compare_idle(lab, self.zeros, records, supply_v, supply_a)
        bad = [f for record, c in zip(records, Channel.both(lab), strict=True) for f in fit(record, c, "at idle")]
        gross = [f for f in compared if f.verdict == "wrong"]
        explained = {f.id.split(".")[0] for f in gross}
        fits = self.findings.take([*compared, *(f for f in bad if f.id.split(".")[0] not in explained)])
        if fits and self.lines_proven:
            self._loaded()
        else:
            first = "the marker lines" if fits else "what is wrong with the idle record"
            self.findings.note("gain", "gain", f"not compared under load: {first} must be put right before")

    def _loaded(self) -> None:
        """Gain and headroom from a run of the board that the supply watches."""
        work = CellWork(self.station)
        try:
            work.measure_gain()
        except (Rejected, PowerLost) as error:
            self._no_gain(str(error))
            return
        calibration = find_calibration(self.lab, self.station.steady)
        if calibration is None:
            self._no_gain("there is no zero to go with it")
            return
        busy = self.station.steady[-1][0].data.capture
        for channel, found in zip(Channel.both(self.lab), (calibration.current, calibration.voltage), strict=True):
            self.findings.take([judge_gain(channel, found.gain.value, found.gain.source)])
            self.findings.take([judge_headroom(channel, busy[channel.signal])])

    def _no_gain(self, reason: str) -> None:
        signal = next((s for s in ("current", "voltage") if f"samples of the {s} are clipped" in reason), None)
        values: dict[str, Any] = {"reason": reason}
        if signal is not None:
            title = f"headroom of the {signal}"
            self.findings.wrong(f"{signal}.headroom", title, reason, "the span is too small for the work", **values)
        elif "constant voltage" in reason or "supply's output" in reason:
            self.findings.wrong("output.mode", "supply mode", reason, "the board needs more than the limit", **values)
        else:
            self.findings.wrong("gain", "gain", reason, "no comparison with the supply's read-back", **values)
