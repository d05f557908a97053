"""Locks of a HiSLIP instrument (IVI-6.1, 6.5): one exclusive, or one shared by all who know its word. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

FAILED, GRANTED, SHARED_RELEASED, INVALID = 0, 1, 2, 3
"""Codes of AsyncLockResponse; 1 also for an exclusive lock that was released."""


@dataclass
class Locks:
    """Who holds what; clients are numbers."""

    exclusive: int | None = None
    word: str = ""
    sharing: set[int] = field(default_factory=set)

    def may(self, client: int) -> bool:
        """Whether a client's messages may be executed."""
        if self.exclusive is not None:
            return self.exclusive == client
        return not self.sharing or client in self.sharing

    def request(self, client: int, word: str) -> int | None:
        """Ask for the exclusive lock (no word) or for a shared one; None: it has to wait."""
        if self.exclusive == client or (word and client in self.sharing):
            return INVALID
        if self.exclusive is not None:
            return None
        if not word:
            if self.sharing and client not in self.sharing:
                return None
            self.exclusive = client
            return GRANTED
        if self.sharing and word != self.word:
            return None
        self.word = word
        self.sharing.add(client)
        return GRANTED

    def release(self, client: int) -> int:
        """Give the exclusive lock back, or else the shared one."""
        if self.exclusive == client:
            self.exclusive = None
            return GRANTED
        if client in self.sharing:
            self.sharing.remove(client)
            return SHARED_RELEASED
        return INVALID

    def drop(self, client: int) -> None:
        """A client has gone."""
        if self.exclusive == client:
            self.exclusive = None
        self.sharing.discard(client)

    @property
    def holders(self) -> int:
        """How many clients hold any lock."""
        return len(self.sharing | ({self.exclusive} if self.exclusive is not None else set()))
