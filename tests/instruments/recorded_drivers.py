"""The drivers with every call from outside noted, its outcome and the clock readings in it: for `driver:` in lab.yaml.

One pickle per call, appended to the file that RECORDED_CALLS names with the instrument's name behind it.
"""

from __future__ import annotations

import functools
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from instruments.e3645a import E3645A
from instruments.mso_x2024a import MsoX2024A


def plain(value: Any) -> Any:
    """Give what a value holds as dicts, lists and arrays, which can be stored and compared."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


class _Recorded:
    """Put before a driver class."""

    _inside = False

    def __init__(self, link: Any, *args: Any, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        self._times: list[float] = []

        def noted() -> float:
            self._times.append(clock())
            return self._times[-1]

        super().__init__(link, *args, clock=noted, **options)  # type: ignore[call-arg]

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or not callable(value) or super().__getattribute__("_inside"):
            return value

        @functools.wraps(value)
        def noted(*args: Any, **options: Any) -> Any:
            self._inside = True
            self._times.clear()
            failure = result = None
            try:
                result = value(*args, **options)
            except Exception as error:
                failure = error
                raise
            finally:
                self._inside = False
                path = os.environ["RECORDED_CALLS"] + self.link.name
                with open(path, "ab") as file:
                    pickle.dump((name, args, options, plain(result), failure, list(self._times)), file)
            return result

        return noted


class RecordedScope(_Recorded, MsoX2024A):
    """The oscilloscope's driver."""


class RecordedSupply(_Recorded, E3645A):
    """The supply's driver."""
