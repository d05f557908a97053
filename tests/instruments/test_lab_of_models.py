"""lab.yaml of a simulated board: what it need not say, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from instruments import lab as lab_yaml
from instruments.errors import ConfigError

BENCHES = Path(__file__).parent.parent.parent / "docs" / "benches"
TX1 = (BENCHES / "simulated-tx1.yaml").read_text()


def test_the_shipped_benches_name_their_models() -> None:
    names = {f.stem: lab_yaml.load(f).dut.name for f in BENCHES.glob("*.yaml") if "simulated:" in f.read_text()}
    assert names == {
        "simulated-tx1": "simulated Jetson TX1 (model)",
        "simulated-counter": "simulated counter-example board (model)",
    }
    assert lab_yaml.parse(TX1.replace("dut:\n", "dut:\n  name: mine\n")).dut.name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("simulated: tx1", "simulated: tx2", "dut.simulated: input should be 'tx1' or 'counter', got 'tx2'"),
        ("rest_s: 0.3", "command: [x]\n  marker: none", "delete dut.command and dut.marker"),
        (
            "simulated: tx1  ",
            "name: board  ",
            "dut: give dut.command, which starts the agent on the board, or dut.simulated",
        ),
        ("sim:socket", "TCPIP::192.0.2.1::5025::SOCKET", "scope.resource: a simulated board needs sim:TRANSPORT here"),
        ("world: {", "world: {idle_a: 0.1, ", "simulation.world.idle_a: a simulated board sets it itself: delete it"),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, said: str) -> None:
    text = TX1.replace(old, new)
    assert text != TX1
    with pytest.raises(ConfigError) as caught:
        lab_yaml.parse(text, name="mine.yaml")
    (complaint,) = str(caught.value).splitlines()
    assert said in complaint
    line = int(complaint.removeprefix("mine.yaml:").split(":")[0])
    key = complaint.split(": ")[1].split(".")[-1]
    assert key in text.splitlines()[line - 1]


def test_a_model_needs_a_simulated_bench() -> None:
    text = TX1.split("simulation:")[0].replace("sim:socket", "TCPIP::192.0.2.1::5025::SOCKET")
    with pytest.raises(ConfigError, match=r":\d+: dut\.simulated: needs a `simulation:` section"):
        lab_yaml.parse(text.replace("sim:prologix", "GPIB0::5::INSTR"))
