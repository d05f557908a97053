"""Transfers of the simulated oscilloscope: formats, points, scaling, clipping, holes, digital lines."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from instruments.simulated.mso_acquisition import Options
from instruments.simulated.mso_record import FrontEnd
from instruments.simulated.mso_waveform import TransferQuirks
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from tests.simulated.standin import StandIn

IDEAL = FrontEnd(gain_sd=0.0, offset_sd_div=0.0, noise_div=0.0)
EDGES = [(0.5, 0, 1), (0.7, 1, 1), (1.1, 1, 0), (1.5, 0, 0)]


def ask(scope: SimulatedMsoX2024A, query: str) -> str:
    reply = scope.feed(query.encode() + b"\n").decode()
    assert reply.endswith("\n"), (query, list(scope.errors))
    return reply[:-1]


def block(scope: SimulatedMsoX2024A, query: str = ":WAV:DATA?") -> bytes:
    reply = scope.feed(query.encode() + b"\n")
    assert reply[:2] == b"#8", (reply[:20], list(scope.errors))
    assert len(reply) == 10 + int(reply[2:10]) + 1
    assert reply[-1:] == b"\n"
    return reply[10:-1]


def captured(world: StandIn, setup: str = "", **options: object) -> SimulatedMsoX2024A:
    """CHAN1 (step with D0), CHAN3 (ramp) and POD1 over 2 s, triggered at 0.5 s."""
    world.edges = list(EDGES)
    options = {"front": IDEAL, **options}
    scope = SimulatedMsoX2024A(world, seed=3, **options)  # type: ignore[arg-type]
    scope.feed(
        b":STOP\n*CLS\n:CHAN1:RANG 0.8;OFFS 0.1;:CHAN3:DISP ON;RANG 8;OFFS 1;:POD1:DISP ON;:ACQ:TYPE HRES;"
        b":TIM:RANG 2;REF LEFT;:TRIG:SWE NORM;EDGE:SOUR DIG0;:WAV:POIN:MODE RAW;:WAV:POIN 100000;FORM WORD;BYT LSBF\n"
        + setup.encode()
        + b"\n:SING\n"
    )
    scope.tick(5.0)
    assert not scope.errors, list(scope.errors)
    return scope


def decode(scope: SimulatedMsoX2024A, codes: NDArray[np.generic]) -> NDArray[np.float64]:
    p = [float(x) for x in ask(scope, ":WAV:PRE?").split(",")]
    return (codes.astype(np.float64) - p[9]) * p[7] + p[8]


def test_words_decode_to_the_signal_in_time(world: StandIn) -> None:
    scope = captured(world)
    scope.feed(b":WAV:SOUR CHAN3\n")
    p = [float(x) for x in ask(scope, ":WAV:PRE?").split(",")]
    assert p[:4] == [1, 3, 100_000, 1]
    assert p[4] == pytest.approx(2e-5)
    assert p[6] == 0
    assert p[9] == 32768
    codes = np.frombuffer(block(scope), "<u2")
    assert codes.size == 100_000
    assert not np.any(codes & 15)
    t = 0.5 + p[5] + np.arange(codes.size) * p[4]
    assert np.abs(decode(scope, codes) - t).max() <= p[7] * 16 / 2 + 1e-6
    assert world.apertures[-1] == pytest.approx(4e-6)


def test_steps_and_markers_are_aligned(world: StandIn) -> None:
    scope = captured(world)
    high = np.frombuffer(block(scope, ":WAV:SOUR CHAN1;DATA?"), "<u2") > 32768 + 40
    pod = np.frombuffer(block(scope, ":WAV:SOUR POD1;FORM BYTE;DATA?"), "u1")
    assert np.array_equal(high, (pod & 1).astype(bool))
    p = [float(x) for x in ask(scope, ":WAV:PRE?").split(",")]
    t = 0.5 + p[5] + np.arange(pod.size) * p[4]
    for bit, rise, fall in ((0, 0.5, 1.5), (1, 0.7, 1.1)):
        level = (pod >> bit) & 1
        changes = t[1:][np.diff(level.astype(int)) != 0]
        assert changes == pytest.approx([rise, fall], abs=2.1e-5)


def test_reading_again_is_the_same_and_another_decimation_has_the_same_samples(world: StandIn) -> None:
    scope = captured(world, front=FrontEnd())
    once = block(scope)
    points = world.points
    assert block(scope) == once
    assert world.points == points
    scope.feed(b":WAV:POIN 500000\n")
    every = np.frombuffer(block(scope), "<u2")
    assert every.size == 500_000
    assert np.array_equal(every[::5], np.frombuffer(once, "<u2"))
    scope.feed(b":SING\n")
    world.edges.append((6.0, 0, 1))
    scope.tick(20.0)
    scope.feed(b":WAV:POIN 100000\n")
    assert block(scope) != once


@pytest.mark.parametrize("order", ["MSBF", "LSBF"])
@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("form", ["BYTE", "WORD"])
@pytest.mark.parametrize("signed_zero", [True, False])
def test_every_format_decodes_alike(world: StandIn, order: str, unsigned: bool, form: str, signed_zero: bool) -> None:
    quirks = TransferQuirks(signed_yreference="zero" if signed_zero else "middle")
    scope = captured(world, f":WAV:SOUR CHAN3;POIN 1000;BYT {order};UNS {unsigned:d};FORM {form}", transfer=quirks)
    data = block(scope)
    assert len(data) == (1000 if form == "BYTE" else 2000)
    kind = ("" if form == "BYTE" else ">" if order == "MSBF" else "<") + ("u" if unsigned else "i")
    codes = np.frombuffer(data, kind + ("1" if form == "BYTE" else "2"))
    middle = 128 if form == "BYTE" else 32768
    reference = middle if unsigned or not signed_zero else 0
    assert ask(scope, ":WAV:YREF?") == f"{reference:+d}"
    if not unsigned and not signed_zero:
        codes = codes.astype(np.int64) + middle
    values = decode(scope, codes)
    p = [float(x) for x in ask(scope, ":WAV:PRE?").split(",")]
    t = 0.5 + p[5] + np.arange(1000) * p[4]
    assert np.abs(values - t).max() < 1.01 * p[7] * (1 if form == "BYTE" else 16)


def test_ascii_values_and_holes(world: StandIn) -> None:
    scope = captured(world, ":WAV:SOUR CHAN3;POIN 1000;FORM ASC", front=FrontEnd(0, 0, 0, hole_fraction=0.1))
    texts = block(scope).decode().split(",")
    assert len(texts) == 1000
    holes = [text == "+9.9E+37" for text in texts]
    assert 50 < sum(holes) < 150
    assert all(len(text) == 12 for text in texts if text != "+9.9E+37")
    scope.feed(b":WAV:FORM WORD\n")
    words = np.frombuffer(block(scope), "<u2")
    assert np.array_equal(words == 0, holes)
    scope.feed(b":WAV:FORM BYTE\n")
    assert np.array_equal(np.frombuffer(block(scope), "u1") == 0, holes)


def test_clipped_samples_have_their_own_codes(world: StandIn) -> None:
    scope = captured(world, ":CHAN3:RANG 0.8;OFFS 1.3;:WAV:SOUR CHAN3")
    words = np.frombuffer(block(scope), "<u2")
    assert (words.min(), words.max()) == (0x0100, 0xFF00)
    scope.feed(b":WAV:FORM BYTE\n")
    small = np.frombuffer(block(scope), "u1")
    assert (small.min(), small.max()) == (1, 255)


def test_normal_has_eight_bits_and_is_not_averaged(world: StandIn) -> None:
    scope = captured(world, ":ACQ:TYPE NORM;:WAV:SOUR CHAN3")
    words = np.frombuffer(block(scope), "<u2")
    assert not np.any(words & 0xFF)
    assert world.apertures[-1] < 1e-8
    assert ask(scope, ":WAV:TYPE?") == "NORM"


def test_peak_gives_pairs_and_average_at_most_1000_points(world: StandIn) -> None:
    scope = captured(world, ":ACQ:TYPE PEAK;:WAV:SOUR CHAN3;POIN 1000")
    pairs = np.frombuffer(block(scope), "<u2")
    assert pairs.size == 2000
    assert ask(scope, ":WAV:PRE?").split(",")[1:3] == ["+1", "+1000"]
    assert np.all(pairs[::2] <= pairs[1::2])
    average = captured(world, ":ACQ:TYPE AVER;COUN 4")
    assert ask(average, ":WAV:PRE?").split(",")[1:4] == ["+2", "+1000", "+4"]
    once = captured(world, ":ACQ:TYPE AVER;COUN 1")
    assert ask(once, ":WAV:POIN?") == "+100000"


def test_points_follow_the_list_the_mode_and_the_state(world: StandIn) -> None:
    scope = captured(world)
    assert ask(scope, ":WAV:POIN:MODE?") == "MAX"
    for asked, got in ((777, 500), (99_999, 50_000), (250, 250), (1, 100), (200_000, 166_666), (8_000_000, 500_000)):
        scope.feed(f":WAV:POIN {asked}\n".encode())
        assert int(ask(scope, ":WAV:POIN?")) == got
    scope.feed(b":WAV:POIN:MODE NORM\n")
    assert int(ask(scope, ":WAV:POIN?")) == 62_500
    scope.feed(b":WAV:POIN:MODE RAW;:WAV:POIN MAX\n:RUN\n")
    scope.acquisition.force(5.3)
    scope.tick(9.0)
    assert int(ask(scope, ":WAV:POIN?")) == 50_000
    scope.feed(b":WAV:POIN 1000\n")
    assert ask(scope, ":SYST:ERR?") == '-222,"Data out of range"'
    assert int(ask(scope, ":WAV:POIN?")) == 1000


def test_one_in_n_can_lose_a_short_pulse(world: StandIn) -> None:
    world_with_pulse = StandIn()
    scope = captured(world_with_pulse)
    world_with_pulse.edges += [(0.6000041, 2, 1), (0.6000101, 2, 0)]
    full = np.frombuffer(block(scope, ":WAV:SOUR POD1;POIN 500000;FORM BYTE;DATA?"), "u1")
    few = np.frombuffer(block(scope, ":WAV:POIN 10000;DATA?"), "u1")
    assert np.any(full & 4)
    assert few.size == 10_000


def test_digital_words_and_undisplayed_lines(world: StandIn) -> None:
    scope = captured(world, ":WAV:SOUR POD1;POIN 1000;FORM WORD;BYT MSBF")
    data = np.frombuffer(block(scope), "u1")
    assert data.size == 2000
    assert not np.any(data[::2])
    scope = captured(world, ":DIG4:DISP OFF;:WAV:SOUR POD1;POIN 1000;FORM BYTE")
    line = np.frombuffer(block(scope), "u1") & 16
    assert line.min() == line.max()


def test_sources_that_are_off_have_no_data(world: StandIn) -> None:
    scope = captured(world)
    scope.feed(b":WAV:SOUR CHAN2\n")
    assert scope.feed(b":WAV:DATA?\n") == b""
    scope.feed(b":CHAN2:DISP ON\n")
    assert scope.feed(b":WAV:DATA?\n") == b""
    scope.feed(b":POD1:DISP OFF;:WAV:SOUR POD1\n")
    assert scope.feed(b":WAV:DATA?\n") == b""
    assert [code for code, _ in scope.errors] == [-221] * 3
    scope.errors.clear()
    scope.feed(b":WAV:SOUR POD2;:WAV:SOUR CHAN5;:WAV:SOUR MATH\n")
    assert [code for code, _ in scope.errors] == [-224, -224, -221]


def test_first_preamble_can_be_short_once_per_acquisition(world: StandIn) -> None:
    scope = captured(world, transfer=TransferQuirks(short_preambles=1))
    assert ask(scope, ":WAV:PRE?") == "+0"
    assert ask(scope, ":WAV:PRE?").count(",") == 9
    silent = captured(StandIn(), transfer=TransferQuirks(short_preambles=1, short_preamble=None))
    assert silent.feed(b":WAV:PRE?\n") == b""
    assert ask(silent, ":WAV:PRE?").count(",") == 9


def test_a_slow_transfer_blocks_the_interface(world: StandIn) -> None:
    scope = captured(world, transfer=TransferQuirks(bytes_per_s=1e6))
    assert scope.feed(b":WAV:DATA?\n") == b""
    assert scope.tick(5.1) == b""
    assert len(scope.tick(5.21)) == 200_011


def test_vertical_errors_follow_the_seed(world: StandIn) -> None:
    front = FrontEnd(gain_sd=0.01, offset_sd_div=0.1, noise_div=0.05)

    def mean_and_noise(seed: int) -> tuple[float, float]:
        world.edges = []
        scope = SimulatedMsoX2024A(world, seed=seed, front=front)
        scope.feed(b":CHAN1:RANG 0.8;:TIM:RANG 0.01;:WAV:POIN:MODE RAW;:WAV:POIN 100000;FORM WORD;BYT LSBF;:SING\n")
        scope.tick(1.0)
        values = decode(scope, np.frombuffer(block(scope), "<u2"))
        return float(values.mean()), float(values.std())

    means = [mean_and_noise(seed) for seed in range(6)]
    assert len({round(m, 9) for m, _ in means}) == 6
    assert all(abs(m - 0.05) < 3 * (0.01 * 0.05 + 0.01) + 0.002 for m, _ in means)
    assert all(0.004 < noise < 0.007 for _, noise in means)


def test_transfer_of_three_sources_is_cheap(world: StandIn) -> None:
    scope = captured(world, front=FrontEnd())
    block(scope)
    scope.feed(b":SING\n")
    world.edges.append((6.0, 0, 1))
    scope.tick(20.0)
    before = world.points
    start = time.thread_time()  # whatever else this machine does
    for source in ("CHAN1", "CHAN3", "POD1"):
        block(scope, f":WAV:SOUR {source};DATA?")
    assert time.thread_time() - start < 0.2
    assert world.points - before == 200_000


def test_measurements_and_their_absence(world: StandIn) -> None:
    scope = captured(world)
    assert float(ask(scope, ":MEAS:VAV? CHAN3")) == pytest.approx(0.5 - 0.2 + 1.0, abs=0.01)
    assert float(ask(scope, ":MEAS:SOUR CHAN1;VPP?")) == pytest.approx(0.2, abs=0.01)
    assert ask(scope, ":MEAS:VPP? CHAN2") == "+9.9E+37"
    assert ask(scope, ":MEAS:FREQ? CHAN3") == "+9.9E+37"
    assert ask(SimulatedMsoX2024A(world), ":STOP;:SING;:STOP;:MEAS:VMAX? CHAN1") == "+9.9E+37"


def test_screenshot_is_a_png_of_24_bits(world: StandIn) -> None:
    scope = captured(world)
    assert ask(scope, ":HARD:INKS?") == "1"
    png = block(scope, ":HARD:INKS OFF;:DISP:DATA? PNG,COL")
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds, pixels = 8, [], b""
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + data),)
        kinds.append(kind)
        pixels += data if kind == b"IDAT" else b""
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack_from(">IIBB", png, 16) == (800, 480, 8, 2)
    rows = np.frombuffer(zlib.decompress(pixels), "u1").reshape(480, 1 + 3 * 800)
    assert not rows[:, 0].any()
    image = rows[:, 1:].reshape(480, 800, 3)
    assert not image[1, 1].any()
    # CHAN3 is a ramp from the bottom to the top of the screen, D1 a pulse near it.
    colours = {tuple(c) for c in image.reshape(-1, 3).tolist()}
    assert len(colours) == 5
    # The other formats show the same, upside down as the format has it; BMP is what comes unasked.
    bmp = block(scope, ":DISP:DATA?")
    assert struct.unpack_from("<2sI4xI", bmp) == (b"BM", len(bmp), 54)
    assert struct.unpack_from("<iiHH", bmp, 18) == (800, 480, 1, 24)
    assert np.array_equal(np.frombuffer(bmp, "u1", offset=54).reshape(480, 800, 3)[::-1, :, ::-1], image)
    small = block(scope, ":DISP:DATA? BMP8bit")
    assert struct.unpack_from("<H", small, 28) == (8,)
    palette = np.frombuffer(small, "u1", 1024, 54).reshape(256, 4)[:, 2::-1]
    assert np.array_equal(palette[np.frombuffer(small, "u1", offset=54 + 1024).reshape(480, 800)[::-1]], image)
    grey = np.frombuffer(block(scope, ":DISP:DATA? BMP,GRAY"), "u1", offset=54).reshape(480, 800, 3)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert np.frombuffer(block(scope, ":HARD:INKS ON;:DISP:DATA? BMP"), "u1", offset=54)[-2400 - 3] == 255


def test_a_jump_between_two_columns_of_the_screen_is_drawn(world: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = [(0.8 + 0.1003125 * k, 1, (k + 1) % 2) for k in range(8)]  # eighths of a column apart
    monkeypatch.setitem(globals(), "EDGES", sorted([*(e for e in EDGES if e[1] == 0), *jumps]))
    bmp = block(captured(world), ":DISP:DATA? BMP")
    image = np.frombuffer(bmp, "u1", offset=54).reshape(480, 800, 3)[::-1, :, ::-1]
    line = (image == (0, 200, 255)).all(axis=2)[372:409]  # of D1
    assert line[[0, -1]].any(axis=1).all()
    assert (line[:, :-1] & line[:, 1:]).any(axis=0).all()


def test_memory_of_a_stock_unit(world: StandIn) -> None:
    scope = captured(world, acquisition=Options(memory_points=100_000))
    assert ask(scope, ":ACQ:POIN?;SRAT?") == "+50000;+2.50000000E+04"
    assert int(ask(scope, ":WAV:POIN?")) == 50_000


@pytest.mark.parametrize(("rule", "got"), [("down", 1000), ("up", 2000), ("refuse", 1000)])
def test_points_off_the_list_follow_the_switch(world: StandIn, rule: str, got: int) -> None:
    quirks = TransferQuirks(off_list=rule)  # type: ignore[arg-type]
    scope = captured(world, setup=":WAV:POIN 1000", transfer=quirks)
    scope.feed(b":WAV:POIN 1500\n")
    assert [code for code, _ in scope.errors] == ([-222] if rule == "refuse" else [])
    assert int(ask(scope, ":WAV:POIN?")) == got


def test_points_also_take_the_modes_of_old_programs(world: StandIn) -> None:
    scope = captured(world)
    assert ask(scope, ":WAV:POIN NORMal;POIN:MODE?") == "NORM"
    assert ask(scope, ":WAV:POIN RAW;POIN:MODE?;:WAV:POIN?") == "MAX;+100000"
    assert ask(scope, ":WAV:POIN:MODE NORM;:WAV:POIN MAXimum;POIN?") == "+62500"  # what is measured, of half a million


def test_the_error_of_a_source_that_is_off_and_the_y_of_a_pod_are_switchable(world: StandIn) -> None:
    quirks = TransferQuirks(source_off_error=-224, pod_y=(0.5, 2.0, 7), pod_ascii="refuse")
    scope = captured(world, transfer=quirks)
    assert ask(scope, ":WAV:SOUR POD1;PRE?").endswith(",+5.00000000E-01,+2.00000000E+00,+7")
    scope.feed(b":WAV:SOUR CHAN4;DATA?\n:WAV:SOUR POD1;FORM ASC;DATA?\n")
    assert [code for code, _ in scope.errors] == [-224, -221]


def test_what_takes_memory_is_switchable(world: StandIn) -> None:
    free = Options(run_halves=False, pair_halves=False, pod_halves=False)
    scope = SimulatedMsoX2024A(world, acquisition=free)
    scope.feed(b":CHAN2:DISP ON;:POD1:DISP ON\n")
    assert ask(scope, ":ACQ:POIN?") == "+1000000"
    scope = SimulatedMsoX2024A(world)
    scope.feed(b":CHAN2:DISP ON;:POD1:DISP ON\n")
    assert ask(scope, ":ACQ:POIN?") == "+125000"
