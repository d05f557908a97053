"""Links, anchors, files and pictures that the pages name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import GUIDES, PAGES, prose
from tests.sweeps import ROOT

FOLDERS = ("docs", "experiments", "instruments", "calibration", "benchmarks", "tests")
MOST_PICTURE_BYTES = 150_000


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual viewers make them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.relative_to(ROOT)}: {target}: there is no such file"
        if anchor:
            assert anchor in _anchors(file), f"{page.relative_to(ROOT)}: {target}: no heading there is called so"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_project_that_a_page_names_exist(page: Path) -> None:
    for text in re.findall(r"`([\w./-]+)`", prose(page)):
        first = text.split("/")[0]
        if "/" in text and first in FOLDERS and not text.startswith("calibration/records"):
            assert (ROOT / text).exists(), f"{page.relative_to(ROOT)}: {text} is not there"


def test_each_page_is_on_the_map() -> None:
    index = (ROOT / "docs/index.md").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "index.md" or f"]({page.name})" in index, f"docs/index.md does not name {page.name}"
    for bench in sorted((ROOT / "docs/benches").glob("*.yaml")):
        assert f"benches/{bench.name}" in (ROOT / "docs/simulated-bench.md").read_text()


def test_pictures_are_small_and_shown() -> None:
    shown = "".join(page.read_text() for page in GUIDES)
    pictures = sorted((ROOT / "docs/pictures").iterdir())
    assert {picture.suffix for picture in pictures} <= {".png", ".svg"}
    for picture in pictures:
        assert f"pictures/{picture.name}" in shown
        assert picture.stat().st_size <= MOST_PICTURE_BYTES, picture.name


def test_readme_can_be_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_what_a_sweep_asks_of_a_driver_is_what_the_page_on_adding_one_says() -> None:
    sources = [*(ROOT / "experiments").glob("*.py"), *(ROOT / "calibration").glob("*.py")]
    sources += [ROOT / "instruments/bench.py", ROOT / "instruments/bench_steps.py"]
    text = "".join(source.read_text() for source in sources)
    page = (ROOT / "docs/adding.md").read_text()
    for method in sorted(set(re.findall(r"\bsupply\.(\w+)\(", text))):
        assert f"def {method}(" in page or f"{method}," in page or f"{method} =" in page, f"supply.{method}"
    for method in sorted(set(re.findall(r"\bscope\.(\w+)\(", text)) - {"add_argument"}):
        assert f"`{method}`" in page, f"scope.{method}"
