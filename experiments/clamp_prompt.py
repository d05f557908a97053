"""Asks the person at the bench to prepare the current clamp before its zero is taken, and says how that went."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

CONFIRMED = "confirmed at the terminal"


def prompt_for(
    say: Callable[[str], None],
    wait: Callable[[str], bool],
    *,
    simulated: bool,
    unattended: bool,
    quiet: bool = False,
) -> Callable[[Sequence[str]], str]:
    """Give what asks: it shows the steps, waits for Enter where somebody can press it, and tells the outcome.

    Args:
        say: shows a line.
        wait: shows a question and waits for Enter; False where the input has ended.
        simulated: nobody need prepare a simulated clamp.
        unattended: the user said that nobody is there.
        quiet: nothing may be shown.
    """

    def ask(steps: Sequence[str]) -> str:
        reason = _why_not(simulated=simulated, unattended=unattended, quiet=quiet)
        if simulated:
            return reason
        say("the zero of the current clamp is taken next, with the output off:")
        for number, step in enumerate(steps, 1):
            say(f"  {number}. {step}")
        if not reason:
            if wait("press Enter when this is done (Ctrl-C ends the program) "):
                return CONFIRMED
            reason = "skipped: the input ended"
        say(f"clamp: {reason}; the steps are taken as done")
        return reason

    return ask


def _why_not(*, simulated: bool, unattended: bool, quiet: bool) -> str:
    """Why nobody is asked; empty where somebody is."""
    for is_so, why in ((simulated, "simulated bench"), (unattended, "--unattended"), (quiet, "--quiet")):
        if is_so:
            return f"skipped: {why}"
    return "" if _terminal_answers() else "skipped: no terminal"


def _terminal_answers() -> bool:
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False
