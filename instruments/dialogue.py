"""What every SCPI instrument of this bench is asked: who it is, and what went wrong.

A driver holds one; it is no base class. Nothing is sent when it is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from . import scpi
from .errors import IdentityError, InstrumentError, ProtocolError, ScpiError, SettingError
from .link import Conversation

#: Entries read before a queue counts as endless (the deepest of these instruments holds 30).
MAX_ERRORS = 32

T = TypeVar("T")
E = TypeVar("E", bound=InstrumentError)


class Dialogue:
    """Identity, error queue and read-back over one link."""

    def __init__(self, link: Conversation) -> None:
        self.link = link

    def identity(self) -> scpi.Identity:
        """Ask ``*IDN?``; raises ProtocolError when the answer is no identity."""
        return self.parsed("*IDN?", scpi.parse_identity)

    def expect_identity(self, model: str, serial: str | None = None) -> scpi.Identity:
        """Ask ``*IDN?`` and insist on a model (a regular expression, whole) and, if given, a serial.

        Raises IdentityError that names both instruments. The vendor may be AGILENT, Agilent
        Technologies or KEYSIGHT and is not compared.
        """
        found = self.identity()
        wrong_model = re.fullmatch(model, found.model, re.IGNORECASE) is None
        if wrong_model or (serial is not None and found.serial != serial):
            wanted = f"model {model}" + (f" with serial {serial}" if serial is not None else "")
            raise self.named(IdentityError(wanted, str(found)), "*IDN?")
        return found

    def errors(self) -> list[scpi.ErrorEntry]:
        """Read the error queue until it is empty, oldest entry first; raises ProtocolError after 32."""
        found: list[scpi.ErrorEntry] = []
        while True:
            entry = self.parsed(":SYSTem:ERRor?", scpi.parse_error_entry)
            if entry.code == 0:
                return found
            found.append(entry)
            if len(found) >= MAX_ERRORS:
                raise self.named(
                    ProtocolError(f"the error queue is not empty after {MAX_ERRORS} entries; last {entry}"),
                    ":SYSTem:ERRor?",
                )

    def check_errors(self, after: str) -> None:
        """Raise the oldest entry of the error queue as ScpiError, with the others attached."""
        self.raise_errors(self.errors(), after)

    def raise_errors(self, found: list[scpi.ErrorEntry], after: str) -> None:
        """Raise the first of these entries as ScpiError; do nothing when there is none."""
        if found:
            raise ScpiError(
                found[0].code,
                found[0].text,
                rest=[str(entry) for entry in found[1:]],
                instrument=self.link.name,
                resource=self.link.resource,
                command=after,
            )

    def ask(self, *queries: str, deadline_s: float | None = None) -> list[str]:
        """Send queries as one message and give their answers; raises ProtocolError, ScpiError."""
        message = ";".join(queries)
        text = self.link.query(message, deadline_s)
        if len(queries) == 1:
            return [text.strip()]
        try:
            return scpi.split_answers(text, len(queries))
        except ProtocolError as error:
            self.check_errors(message)
            raise self.named(error, message) from None

    def set(self, commands: str, *queries: str, deadline_s: float | None = None) -> list[str]:
        """Send commands, then read back what they set and the error queue, in one round trip.

        Raises ScpiError with the commands when the queue is not empty.
        """
        self.link.write(commands, deadline_s)
        *answers, error = self.ask(*queries, ":SYSTem:ERRor?", deadline_s=deadline_s)
        first = self.read(error, scpi.parse_error_entry, commands)
        if first.code:
            self.raise_errors([first, *self.errors()], commands)
        return answers

    def parsed(self, query: str, parse: Callable[[str], T], deadline_s: float | None = None) -> T:
        """Ask one query and parse its answer; a ProtocolError then names instrument and query."""
        return self.read(self.link.query(query, deadline_s), parse, query)

    def read(self, answer: str, parse: Callable[[str], T], query: str) -> T:
        """Parse an answer; a ProtocolError then names instrument and query."""
        try:
            return parse(answer)
        except ProtocolError as error:
            raise self.named(error, query) from None

    def confirm(self, setting: str, asked: float, answer: str, tolerance: float, command: str, hint: str = "") -> float:
        """Give the number that was read back; SettingError when it is further off than ``tolerance``."""
        got = self.read(answer, scpi.parse_float, command)
        if not abs(got - asked) <= tolerance:
            raise self.named(SettingError(setting, f"{asked:.10g}", f"{got:.10g}", hint=hint), command)
        return got

    def confirm_keyword(self, setting: str, asked: str, answer: str, command: str, hint: str = "") -> None:
        """Raise SettingError unless the answer is the short or long form of a keyword like ``HRESolution``."""
        if not scpi.same_keyword(answer, asked):
            raise self.named(SettingError(setting, asked, answer, hint=hint), command)

    def confirm_bool(self, setting: str, asked: bool, answer: str, command: str) -> None:
        """Raise SettingError unless the answer is this switch position."""
        if self.read(answer, scpi.parse_bool, command) is not asked:
            raise self.named(SettingError(setting, asked, answer), command)

    def named(self, error: E, command: str) -> E:
        """Fill instrument, resource and command into an error."""
        error.within(instrument=self.link.name, resource=self.link.resource, command=command)
        return error
