"""The report in a real browser: networks switch off, waveforms zoom to samples, nothing is asked of the outside."""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import report
from experiments.report.viewer import STATES
from experiments.traces import TraceReader
from tests.chromium import Chromium, needed
from tests.sweeps import run, virtual_lab_file

SWEEP = ["--networks", "AlexNet,ENet", "--batches", "1,16", "--repeats", "1", "--window", "0.4", "--seed", "3"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    done = run("experiments.power_sweep", "--lab", virtual_lab_file(folder), *SWEEP, "--out", folder / "run", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(needed(), tmp_path_factory.mktemp("chromium") / "profile") as chromium:
        yield chromium


@pytest.fixture
def page(browser: Chromium, swept: Path) -> Iterator[Chromium]:
    """The report as it is seen on a laptop, unpacked; whatever was done to it, it complained of nothing."""
    browser.events.clear()
    browser.window(1280, 800)
    browser.open(swept / "report.html")
    browser.until("document.querySelector('#viewer svg')?.dataset.kind === 'columns'")
    yield browser
    assert browser.told("Runtime.exceptionThrown") == []
    assert browser.told("Runtime.consoleAPICalled") == []
    assert browser.told("Log.entryAdded") == []
    asked = [event["request"]["url"] for event in browser.told("Network.requestWillBeSent")]
    outside = [url for url in asked if not url.startswith("data:")]
    assert set(outside) == {(swept / "report.html").resolve().as_uri()}


def series(page: Chromium) -> list[str]:
    return page.value("[...document.querySelectorAll('#chart .series')].map(e => e.dataset.network)")


def seen(page: Chromium) -> tuple[float, float]:
    """First and last visible sample of the viewer."""
    a, b = page.value("(({from, to}) => [Number(from), Number(to)])(document.querySelector('#viewer svg').dataset)")
    return a, b


def test_an_axis_has_two_ticks_or_more_however_narrow_it_is(page: Chromium) -> None:
    rng = np.random.default_rng(1)
    axes = [
        [low, low + span, about]
        for low, span, about in zip(
            rng.normal(0, 20, 300), 10 ** rng.uniform(-4, 4, 300), rng.choice([1.0, 2.3, 6.0], 300), strict=True
        )
    ]
    script = (Path(report.__file__).parent / "assets/chart.js").read_text()
    found = page.value(f"(() => {{ {script}; return {json.dumps(axes)}.map((axis) => ticks(...axis)); }})()")
    for (low, high, about), ticks in zip(axes, found, strict=True):
        assert 2 <= len(ticks) <= 2 * about + 4
        slack = 1e-6 * (high - low)
        assert low - slack <= ticks[0] < ticks[-1] <= high + slack
        assert np.ptp(np.diff(ticks)) < slack


def test_a_network_is_switched_off_and_on(page: Chromium) -> None:
    assert series(page) == ["AlexNet", "ENet"]
    captures = page.value("document.querySelectorAll('#viewer-capture option').length")
    heights = (
        "[...document.querySelectorAll('#chart .series[data-network=ENet] circle')].map(e => e.getAttribute('cy'))"
    )
    before = page.value(heights)
    page.click("#chart-networks [data-network=AlexNet]")
    assert series(page) == ["ENet"]
    assert page.value(heights) != before  # the axis follows what is left
    assert page.value("document.querySelector('#chart-networks [data-network=AlexNet]').ariaPressed") == "false"
    rows = page.value(
        "[...document.querySelectorAll('#results tr[data-network]')].map(e => [e.dataset.network, e.className])"
    )
    assert rows == 2 * [["AlexNet", "off"], ["AlexNet", "off"], ["ENet", ""], ["ENet", ""]]
    assert page.value("document.querySelectorAll('#viewer-capture option').length") == captures - 2
    page.click("#chart-networks [data-network=AlexNet]")
    assert series(page) == ["AlexNet", "ENet"]
    assert page.value(heights) == before


def test_quantities_change_the_chart(page: Chromium) -> None:
    shown = set()
    for k in range(1, 6):
        page.click(f"#chart-quantities button:nth-child({k})")
        shown.add(page.value("document.querySelector('#chart-drawing svg').dataset.quantity"))
    assert len(shown) == 5
    assert "net_power_w" in shown


def test_the_waveform_zooms_from_the_record_to_its_samples(page: Chromium, swept: Path) -> None:
    with TraceReader(swept / "trace.h5") as reader:
        rows = [k for k, row in enumerate(reader.captures()) if row["state"] in STATES]
        index = rows[int(page.value("document.querySelector('#viewer-capture').value"))]
        capture = reader.capture(index)
    n = capture.points
    assert seen(page) == (0, n)
    x, y = page.middle("#viewer svg", 0.4, 0.2)
    for _ in range(3):
        page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-300)
    a, b = seen(page)
    assert b - a == pytest.approx(n * 1.0015**-900, rel=1e-3)
    # What lay under the mouse still does.
    assert a < 0.4 * n < b
    ticks = page.value("document.querySelector('#viewer svg').textContent")
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x + 40, y, button="left", buttons=1)
    page.mouse("mouseReleased", x + 40, y, button="left", clickCount=1)
    c, d = seen(page)
    assert a < c < d < b
    assert page.value("document.querySelector('#viewer svg').textContent") != ticks
    page.click("[data-zoom=samples]")
    first, last = seen(page)
    assert last - first == 60
    assert page.value("document.querySelector('#viewer svg').dataset.kind") == "samples"
    told = page.value(
        "[...document.querySelectorAll('#viewer [data-panel=current] circle')]"
        ".map(e => [Number(e.dataset.sample), Number(e.dataset.value)])"
    )
    assert [sample for sample, _ in told] == list(range(int(first), int(last)))
    codes = capture["current"].codes[int(first) : int(last)].astype(float)
    values = np.array([value for _, value in told])
    slope, zero = np.polyfit(codes, values, 1)
    # Corrected by the run's gain and zero, which are near the oscilloscope's own scale.
    np.testing.assert_allclose(values, slope * codes + zero, atol=1e-9)
    assert slope == pytest.approx(capture["current"].preamble.y_increment, rel=0.1)


def test_the_keyboard_moves_and_reads(page: Chromium, swept: Path) -> None:
    page.value("document.querySelector('#viewer svg').focus()")
    n = seen(page)[1]
    page.key("+")
    page.key("+")
    assert seen(page) == pytest.approx((n * 3 / 8, n * 5 / 8))
    page.key("ArrowRight")
    assert seen(page) == pytest.approx((n * 7 / 16, n * 11 / 16))
    for _ in range(2):
        page.key("ArrowLeft", modifiers=8)
    told = page.value("({...document.querySelector('#viewer svg').dataset})")
    with TraceReader(swept / "trace.h5") as reader:
        capture = reader.capture(int(page.value("document.querySelector('#viewer-capture').value")))
    k = int(told["sample"])
    assert told["codes"] == f"{capture['current'].codes[k]} {capture['voltage'].codes[k]}"
    assert f"sample {k}," in page.value("document.querySelector('#viewer-reading').textContent")
    page.key("-")
    page.key("0")
    assert seen(page) == (0, n)
    assert page.value("document.activeElement === document.querySelector('#viewer svg')")


def test_every_capture_and_button_of_the_viewer_draws(page: Chromium) -> None:
    drawn = page.value(
        """(async () => {
          const select = document.querySelector('#viewer-capture'), found = [];
          for (const option of [...select.options]) {
            select.value = option.value;
            select.dispatchEvent(new Event('change'));
            await new Promise((done) => setTimeout(done, 60));
            for (const name of ['gate', 'one', 'in', 'left', 'right', 'out', 'samples', 'all']) {
              document.querySelector(`[data-zoom=${name}]`).click();
              const svg = document.querySelector('#viewer svg');
              const {kind, from, to} = svg.dataset;
              found.push([kind, svg.innerHTML.includes('NaN'), Number(to) > Number(from)]);
            }
          }
          return found;
        })()"""
    )
    assert {kind for kind, _, _ in drawn} >= {"columns", "samples"}
    assert not any(broken for _, broken, _ in drawn)
    assert all(some for _, _, some in drawn)


@pytest.mark.parametrize("width", [1400, 420])
def test_nothing_is_wider_than_the_window(page: Chromium, width: int) -> None:
    page.window(width, 900)
    page.until(f"window.innerWidth === {width}")
    assert page.value("document.documentElement.scrollWidth") <= width
    picture = np.asarray(Image.open(io.BytesIO(page.picture())).convert("L"))
    assert picture.std() > 10  # something is there


def test_paper_shows_figures_whole_and_no_controls(page: Chromium) -> None:
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", inflated(pdf))) >= 8
    page.media("print")
    shown = page.value(
        "[...document.querySelectorAll('nav, .controls button, select')]"
        ".filter(e => e.offsetParent && !e.closest('#chart-networks')).length"
    )
    legend = page.value("document.querySelector('#chart-networks [data-network=ENet]').offsetParent !== null")
    page.media("")
    assert shown == 0
    assert legend


def inflated(pdf: bytes) -> bytes:
    """A PDF with those of its streams unpacked that can be."""

    def unpack(found: re.Match[bytes]) -> Any:
        try:
            return zlib.decompress(found[1])
        except zlib.error:
            return b""

    return re.sub(rb"stream\r?\n(.*?)endstream", unpack, pdf, flags=re.DOTALL)
