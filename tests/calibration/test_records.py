"""Records: what a file may say, how mistakes are told, which record fits a bench on a day."""

from __future__ import annotations

import errno
import math
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import records
from calibration.choice import Records, Setup, problems
from calibration.records import ConfigError, Estimate, Span, load, load_folder, parse, save, text_of
from instruments.lab import Lab
from tests.worlds import LAB, shipped_lab

from .events import MADE, event, filed, marker_delay, probe, voltage

DAY = MADE + timedelta(days=1)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return shipped_lab()


# --- files ----------------------------------------------------------------------------------------


def test_what_is_written_reads_back_the_same(lab: Lab, tmp_path: Path) -> None:
    of_maker = load(LAB.parent / "calibration" / "records" / "makers-limits-1146b-100mv.yaml").record
    lead = Estimate(value=0.05, u=0.002, dof=2.0)
    of_clamp = probe(lab, temperature_c=23.5, covariance_a=-5e-8)
    for record in (of_clamp, voltage(lab, lead_ohm=lead), marker_delay(lab), of_maker):
        path = tmp_path / f"{record.kind}.yaml"
        written = save(record, path)
        assert load(path) == written
        assert written.record == record
        assert written.text == path.read_text() == text_of(record)
        with pytest.raises(ConfigError, match="ever edited"):
            save(record, path)
    assert [f.record.made for f in load_folder(tmp_path)] == sorted(f.record.made for f in load_folder(tmp_path))


def test_a_record_is_whole_or_not_there(lab: Lab, tmp_path: Path) -> None:
    path, before = tmp_path / "probe.yaml", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # a disk that fills
    try:
        with pytest.raises(ConfigError, match=r"cannot be written \(File too large\)"):
            save(probe(lab), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    save(probe(lab), path)
    assert [p.name for p in tmp_path.iterdir()] == ["probe.yaml"]
    (tmp_path / "probe.yaml.unfinished").write_text("of a program that was killed")
    assert [filed.name for filed in load_folder(tmp_path)] == ["probe.yaml"]


@pytest.mark.parametrize("links", [True, False])
def test_a_record_that_another_program_writes_meanwhile_is_never_replaced(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Both write the same name: whoever comes second, by however little, is told, and leaves the first one's record."""
    path, link, first, second = tmp_path / "probe.yaml", os.link, probe(lab), probe(lab, gain=1.1)

    def others_first(source: Path, target: Path) -> None:
        """The other one ends after this one has looked and just before it puts its record there."""
        monkeypatch.setattr(os, "link", here)
        save(first, path)
        here(source, target)

    def here(source: Path, target: Path) -> None:
        if not links:
            raise PermissionError(errno.EPERM, "Operation not permitted")  # FAT
        link(source, target)

    monkeypatch.setattr(os, "link", others_first)
    with pytest.raises(ConfigError, match="none is ever edited"):
        save(second, path)
    assert load(path).record == first
    assert [p.name for p in tmp_path.iterdir()] == ["probe.yaml"]


def test_of_several_programs_that_write_one_record_at_once_one_succeeds(lab: Lab, tmp_path: Path) -> None:
    for attempt in range(20):
        path, together = tmp_path / f"{attempt}.yaml", threading.Barrier(4)

        def write(number: int, path: Path = path, together: threading.Barrier = together) -> int | None:
            record = probe(lab, gain=1 + number / 100)
            together.wait()
            try:
                save(record, path)
            except ConfigError:
                return None
            return number

        with ThreadPoolExecutor(4) as pool:
            (winner,) = (number for number in pool.map(write, range(4)) if number is not None)
        assert load(path).record == probe(lab, gain=1 + winner / 100)
    assert len(list(tmp_path.iterdir())) == 20


@settings(max_examples=25, deadline=None)
@given(value=st.floats(1e-9, 1e6), u=st.floats(0, 1e6), dof=st.one_of(st.none(), st.floats(1, 1e9)))
def test_numbers_come_back_to_the_last_bit(value: float, u: float, dof: float | None) -> None:
    record = probe(shipped_lab(), zero_a=Estimate(value=value, u=u, dof=dof))
    assert parse(text_of(record), "x.yaml").record == record


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('kind: "probe"', "kind: prob", "r.yaml:2: kind 'prob' is not known"),
        ('kind: "probe"', "", "r.yaml:1: says no kind"),
        ("stability:", "stabilty:", "unknown key, did you mean stability?"),
        ("linearity: 0.0005", "linearity: high", "linearity: input should be a valid number, got 'high'"),
        ("turns: 1,", "turns: 1.5,", "setting.turns: input should be a valid integer"),
        ("dof: 39.0", "dof: 0.5", "zero_a.dof: input should be greater than or equal to 1"),
        ('"2026-11-08', '"2026-10-08', "expires 2026-10-08T12:00:00Z is not after made"),
        ('"2026-11-08T12:00:00Z"', "someday", "'someday' is no date: write"),
        ("low: -1.3", "low: 5.0", "valid_a: low 5 is not below high 1.365"),
        ("drift_a: 0.0001", "drift_a: .nan", "drift_a: input should be a finite number"),
        ("gain: {value: ", "gain: {value: 0.0, u: 0.1, dof: 9.0} # ", "reading over truth is between 0.5 and 2"),
        ("points:", "points: [", "is not valid YAML"),
        ("linearity:", "covariance_a: 1.0\nlinearity:", "covariance_a 1: no more than u of gain times u of intercept"),
        ("noise_a2s: 4e-08", "noise_a2s: 4e-08\nnoise_a2s: 1.0", "is not valid YAML"),
    ],
)
def test_every_mistake_is_told_with_its_line(lab: Lab, old: str, new: str, complaint: str) -> None:
    text = text_of(probe(lab))
    assert old in text
    with pytest.raises(ConfigError) as error:
        parse(text.replace(old, new, 1), "r.yaml")
    assert complaint in str(error.value)
    assert all(line.startswith("r.yaml:") for line in str(error.value).splitlines())


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_record_or_a_complaint(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, "r.yaml")


def test_dates_may_be_written_as_yaml_has_them() -> None:
    text = (LAB.parent / "calibration" / "records" / "makers-limits-1146b-100mv.yaml").read_text()
    for said, meant in (
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        ("2026-11-21T10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21T10:00:00+02:00", datetime(2026, 11, 21, 8, tzinfo=UTC)),
        ('"2026-11-21T10:00:00"', datetime(2026, 11, 21, 10, tzinfo=UTC)),
    ):
        assert parse(text.replace('"2026-11-21"', said), "r.yaml").record.made == meant


def test_a_makers_promise_covers_what_it_promises() -> None:
    """Any reading that keeps to the specification is corrected to within the calibration's own limits."""
    record = load(LAB.parent / "calibration" / "records" / "makers-limits-1146b-100mv.yaml").record
    assert isinstance(record, records.ChannelAccuracyRecord)
    found = record.calibration(12.0)
    limit_a = math.sqrt(3.0) * found.current.gain.u_reference * 1.0 + found.residual_a
    assert limit_a == pytest.approx(0.0424 * 1.0 + 0.05)
    assert math.sqrt(3.0) * found.voltage.gain.u_reference * 12.0 == pytest.approx(0.03 * 12.0 + 0.05)
    assert (found.current.correct(1.0, 0.0), found.voltage.correct(12.0, 5.0)) == (1.0, 12.0)
    assert found.bow_a(0.5) == 0.0
    with pytest.raises(ConfigError, match="lies outside"):
        record.calibration(1e3)


# --- which fits -----------------------------------------------------------------------------------


def codes(lab: Lab, record: records.Record, when: datetime = DAY) -> list[str]:
    return [p.code for p in problems(filed(record), Setup.of(lab, when))]


def test_a_record_fits_its_bench_until_it_expires(lab: Lab) -> None:
    for record in (probe(lab), voltage(lab), marker_delay(lab)):
        assert codes(lab, record) == []
        assert codes(lab, record, MADE + timedelta(days=7)) == []
        assert codes(lab, record, MADE + timedelta(days=8)) == ["expired"]
        # A day, for clocks of unlike zones; a replay may be given what was found after its run.
        assert codes(lab, record, MADE - timedelta(days=1)) == []
        assert codes(lab, record, MADE - timedelta(days=2)) == ["made later"]
        assert problems(filed(record), Setup.of(lab, MADE - timedelta(days=2)), at_any_time=True) == ()


@pytest.mark.parametrize(
    ("section", "change", "expected"),
    [
        ("probe", {"serial": "OTHER"}, {"probe": "foreign serial"}),
        ("scope", {"serial": "OTHER"}, dict.fromkeys(("probe", "voltage", "marker_delay"), "foreign serial")),
        ("probe", {"turns": 2}, {"probe": "out of range"}),
        ("probe", {"range_v_per_a": 0.01}, {"probe": "out of range"}),
        ("probe", {"reversed": True}, {"probe": "out of range"}),
        ("supply", {"sense": "local", "lead_resistance_ohm": 0.1}, {"voltage": "out of range"}),
        ("supply", {"serial": "7"}, {}),
        ("supply", {"voltage_v": 30.0}, {"voltage": "out of range"}),
        ("dut", {"name": "another board"}, {"marker_delay": "foreign serial"}),
    ],
)
def test_another_bench_is_told_by_what_differs(lab: Lab, section: str, change: dict, expected: dict) -> None:
    part = getattr(lab, section).model_copy(update=change)
    other = lab.model_copy(update={section: part})
    for record in (probe(lab), voltage(lab), marker_delay(lab)):
        found = set(codes(other, record))
        assert found == ({expected[record.kind]} if record.kind in expected else set()), record.kind


def test_another_scale_of_the_channel_is_another_gain(lab: Lab) -> None:
    wide = lab.wiring.model_copy(update={"current": lab.wiring.current.model_copy(update={"high_a": 4.0})})
    other = lab.model_copy(update={"wiring": wide})
    assert set(codes(other, probe(lab))) == {"out of range"}
    assert codes(other, voltage(lab)) == []


def test_a_simulated_record_is_none_of_a_real_bench(lab: Lab) -> None:
    assert codes(lab.model_copy(update={"simulation": None}), probe(lab)) == ["other source"]
    assert codes(lab, probe(lab, source="measured")) == ["other source"]


def test_the_last_made_of_those_that_fit_is_used(lab: Lab) -> None:
    older = filed(probe(lab, gain=1.0), "older.yaml")
    newer = filed(probe(lab, gain=1.1, made=DAY, expires=DAY + timedelta(days=1)), "newer.yaml")
    foreign = filed(
        probe(lab, made=DAY, expires=DAY + timedelta(days=9), serials=records.Serials(scope="?", probe="?")),
        "foreign.yaml",
    )
    chosen = Records.choose([newer, foreign, older], Setup.of(lab, DAY))
    assert chosen.probe == newer.record
    assert chosen.names == ("newer",)
    assert chosen.complaints() == []  # another of its kind is used
    (said,) = chosen.complaints(["foreign.yaml"])
    assert "foreign.yaml (probe) is not used: foreign serial: it is of scope ?" in said
    later = Records.choose([newer, foreign, older], Setup.of(lab, DAY + timedelta(days=2)))
    assert later.probe == older.record
    assert Records.choose([foreign], Setup.of(lab, DAY)).probe is None


def test_a_record_of_another_bench_whose_serials_fit_is_used_and_told(lab: Lab) -> None:
    chosen = Records.choose([filed(probe(lab, made=DAY), "mine.yaml")], Setup.of(lab, DAY))
    assert chosen.probe is not None
    assert chosen.of_other_benches(lab.bench) == []
    (said,) = chosen.of_other_benches("the one in the cellar")
    assert repr(lab.bench) in said
    assert "the one in the cellar" in said


def test_a_makers_promise_is_for_runs_without_a_zero(lab: Lab) -> None:
    record = load(LAB.parent / "calibration" / "records" / "makers-limits-1146b-100mv.yaml")
    assert [p.code for p in problems(record, Setup.of(lab, DAY))] == ["not needed"]
    assert problems(record, Setup.of(lab, DAY, has_zero=False)) == ()


def test_spans_and_events_are_checked_in_code_too(lab: Lab) -> None:
    with pytest.raises(ValueError, match="not below"):
        Span(low=1.0, high=1.0)
    with pytest.raises(ValueError, match="not after"):
        probe(lab, expires=MADE)
    assert "temperature_c" not in event(lab)
