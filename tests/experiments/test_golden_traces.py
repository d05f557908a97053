"""Files of every released schema are read for ever, and give the same joules."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from experiments import traces
from experiments.energy import QUANTITIES
from experiments.reduction import reduce_run
from experiments.traces import TraceReader
from experiments.traces.checking import check

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize(
    ("name", "codes", "values"),
    [
        (
            "schema-1.h5",
            "0b5149226302020fdab52de5c94477f1e282eef7194a65f1b3920c28cb4ba5f1",
            {
                "time_per_image_s": 0.0087525,
                "power_w": 11.897090827028322,
                "idle_power_w": 1.3267230476192275,
                "net_power_w": 10.570367779409096,
                "energy_per_image_j": 0.10428239992182664,
                "net_energy_per_image_j": 0.09265663288526442,
            },
        )
    ],
)
def test_a_file_of_an_earlier_release_gives_the_same(
    tmp_path: Path, name: str, codes: str, values: dict[str, float]
) -> None:
    path = tmp_path / name
    shutil.copy(GOLDEN / name, path)
    assert check(path).good == [0, 1, 2, 3]
    assert check(path).sound
    with TraceReader(path) as reader:
        raw = b"".join(r.codes.tobytes() for d in reader.data() for r in d.capture.records.values())
        assert hashlib.sha256(raw).hexdigest() == codes
        (row,) = reduce_run(reader).rows
    assert row is not None
    assert {q: getattr(row, q).value for q in QUANTITIES} == pytest.approx(values, rel=1e-9)
    with traces.open(path) as dataset:
        assert float(dataset.power_w[2].max()) > 10


def test_variables_that_an_earlier_program_did_not_write_have_their_defaults(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "t.h5"
    shutil.copy(GOLDEN / "schema-1.h5", path)
    with h5py.File(path, "r+") as f:
        for name in ("start_frame", "flags", "ready_facts", "device_busy_s", "settled_s"):
            del f["captures"][name]
        del f["sessions"]
    (problem,) = check(path).problems
    assert str(problem).startswith("/sessions: is lost (")
    with TraceReader(path) as reader:
        (row,) = reduce_run(reader).rows
    assert row is not None
    assert row.energy_per_image_j.value == pytest.approx(0.10428239992182664, rel=1e-9)
