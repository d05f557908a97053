"""What a driver needs from a link, whoever serves it: an instrument or a transcript."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Conversation(Protocol):
    """What a driver needs from a link: messages out, answers in. Deadlines are seconds from now."""

    @property
    def name(self) -> str:
        """The instrument's name on this bench."""

    @property
    def resource(self) -> str:
        """The VISA resource string."""

    def write(self, command: str | bytes, deadline_s: float | None = None) -> None:
        """Send one message."""

    def query(self, command: str, deadline_s: float | None = None) -> str:
        """Send one message and read one text answer."""

    def query_block(self, command: str, deadline_s: float | None = None) -> bytes:
        """Send one message and read one definite-length block."""

    def clear(self) -> None:
        """Bring the conversation back in step."""

    def reopen(self) -> None:
        """Close and connect anew."""

    def to_local(self) -> bool:
        """Give the front panel back, where the transport can."""

    def transaction(self) -> AbstractContextManager[None]:
        """Keep the bus for several messages."""

    def close(self) -> None:
        """Close."""
