"""What an oscilloscope of the InfiniiVision X family has, read off its model string. Pure.

The commands that this driver sends are those of the 2000 X (PG2000); the 3000 X and 3000T X guides describe the
same ones. Memory and rates of the 2000 X: a 2012A and what later units reported; of the 3000 X and 3000T X: second-hand
data-sheet numbers, unconfirmed. They serve planning and refusing what cannot be; what was acquired is in
the preamble alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from instruments.errors import ConfigError

from .inputs import source_name

#: Words in the answer to ``*OPT?`` (seen on a DSO-X 2012A with firmware 02.67).
SEGMENTED_OPTION, MEMORY_OPTION = "SGM", "MEMUP"
UPGRADED_MEMORY_POINTS = 1_000_000

_MODEL = re.compile(r"(?P<kind>[MD])SO-?X ?(?P<number>[23][0-9]{2}[24])(?P<generation>[AT])", re.IGNORECASE)
_BANDWIDTH_HZ = {"00": 70e6, "01": 100e6, "02": 200e6, "03": 350e6, "05": 500e6, "10": 1e9}


@dataclass(frozen=True)
class _Family:
    name: str
    models: tuple[str, ...]
    digital: int
    max_rate_hz: float
    memory_points: int


_FAMILIES = {
    "2A": _Family("2000 X", ("00", "01", "02"), 8, 2e9, 100_000),
    "3A": _Family("3000 X", ("01", "02", "03", "05", "10"), 16, 4e9, 2_000_000),
    "3T": _Family("3000T X", ("01", "02", "03", "05", "10"), 16, 5e9, 4_000_000),
}


@dataclass(frozen=True)
class Capabilities:
    """What a model has. Memory is in points of one channel when its pair partner is off.

    ``hres_bits`` is what high resolution gives at most (PG2000 p.633); ``max_rate_hz`` that of one channel of a pair.
    """

    model: str
    family: str
    analog_channels: int
    digital_channels: int
    bandwidth_hz: float
    max_rate_hz: float = 2e9
    memory_points: int = 100_000
    hres_bits: int = 12

    @classmethod
    def of(cls, model: str, memory_points: int | None = None, *, like: str | None = None) -> Capabilities:
        """Read them off a model string such as ``MSO-X 2024A``.

        Args:
            model: as ``*IDN?`` gives it.
            memory_points: memory of the unit; None takes what its family had without an option.
            like: a known model whose inputs and commands an unknown one shares.

        Raises:
            ConfigError: the model is not known, and no known one was named that it is like.
        """
        name = " ".join(model.split()).upper()
        match = _MODEL.fullmatch(name)
        number = match["number"] if match else ""
        family = _FAMILIES.get(number[:1] + match["generation"].upper()) if match else None
        if match is None or family is None or number[1:3] not in family.models:
            if like is not None:
                return replace(cls.of(like, memory_points), model=name)
            raise ConfigError(
                f"model {model!r} is not known to this driver; it knows {known_models()}. If it takes the commands of "
                "one of these, name that one as scope.like in lab.yaml"
            )
        return cls(
            name,
            family.name,
            int(number[3]),
            family.digital if match["kind"].upper() == "M" else 0,
            _BANDWIDTH_HZ[number[1:3]],
            family.max_rate_hz,
            memory_points if memory_points is not None else family.memory_points,
        )

    def more_memory(self, options: Sequence[str]) -> int | None:
        """Give the memory that the installed options promise, in points, where it is more than is reckoned with."""
        upgraded = self.family == "2000 X" and MEMORY_OPTION in {option.upper() for option in options}
        return UPGRADED_MEMORY_POINTS if upgraded and self.memory_points < UPGRADED_MEMORY_POINTS else None

    def source(self, text: str) -> str:
        """Give the short name of an input; raises ConfigError with the valid ones if the model has no such input."""
        try:
            return source_name(text, self.analog_channels, self.digital_channels)
        except ConfigError as error:
            raise ConfigError(f"{error} on this {self.model}") from None

    def channel(self, number: int) -> int:
        """Give the number of an analogue channel; raises ConfigError if the model has no such channel."""
        if type(number) is not int or number not in range(1, self.analog_channels + 1):
            raise ConfigError(f"channel {number!r}: 1 to {self.analog_channels} is expected on this {self.model}")
        return number


def known_models() -> str:
    """Name the models that `Capabilities.of` knows, for messages."""
    lists = []
    for key, family in _FAMILIES.items():
        models = ", ".join(f"{key[0]}{code}2{key[1]}/{key[0]}{code}4{key[1]}" for code in family.models)
        lists.append(f"MSO-X and DSO-X {models} ({family.name})")
    return "; ".join(lists)


#: What is taken as given until the instrument has said who it is.
MSO_X_2024A = Capabilities.of("MSO-X 2024A")
