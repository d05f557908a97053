"""What every command line program has in common; it lives where those of `calibration` reach it too."""

from instruments.command import INTERRUPTED, complain, leave, run, say, tell

__all__ = ["INTERRUPTED", "complain", "leave", "run", "say", "tell"]
