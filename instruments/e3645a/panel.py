"""The front-panel side of the E3645A: who it is, its error queue, display, beeper, memories, remote and local.

Source: UG364 (Remote Interface Reference). That the display holds 11 characters is unconfirmed; what it cut would
read back otherwise.
"""

from __future__ import annotations

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import ConfigError, LimitError, SettingError
from instruments.link import Conversation

MODEL = "E3645A"
MEMORIES = range(1, 6)
DISPLAY_CHARACTERS = 11


class Panel:
    """What the supply has besides its output; ``E3645A`` is one with an output."""

    def __init__(self, link: Conversation) -> None:
        self.link = link
        self._dialogue = Dialogue(link)

    # -- identity and errors -----------------------------------------------------------------------

    def identity(self) -> scpi.Identity:
        """Ask who answers here; the serial field of this model is 0."""
        return self._dialogue.identity()

    def expect_identity(self, model: str = MODEL, serial: str | None = None) -> scpi.Identity:
        """Insist on a model (regular expression) and serial; raises IdentityError naming both."""
        return self._dialogue.expect_identity(model, serial)

    def version(self) -> str:
        """Ask which SCPI version it follows, such as 1995.0."""
        return self._dialogue.ask("SYSTem:VERSion?")[0]

    def errors(self) -> list[scpi.ErrorEntry]:
        """Read and empty the error queue."""
        return self._dialogue.errors()

    def check_errors(self, after: str) -> None:
        """Raise ScpiError when the error queue is not empty."""
        self._dialogue.check_errors(after)

    # -- display, beeper, memories -------------------------------------------------------------------

    def display(self, on: bool) -> None:
        """Switch the front panel display."""
        self._set(f"DISPlay {'ON' if on else 'OFF'}")
        self._confirm_bool("DISPlay", on)

    def display_text(self, text: str | None) -> None:
        """Show up to 11 characters of ASCII on the front panel; None shows the meters again."""
        if text is None:
            self._set("DISPlay:TEXT:CLEar")
            return
        if len(text) > DISPLAY_CHARACTERS or not (text.isascii() and text.isprintable()) or '"' in text:
            raise LimitError(
                f"{self.link.name}: the display shows up to {DISPLAY_CHARACTERS} characters of printable ASCII "
                f"without quotation marks, not {text!r}; nothing was sent"
            )
        command = f"DISPlay:TEXT {scpi.quote(text)}"
        self._set(command)
        shown = self.displayed_text()
        if shown != text:
            raise self._wrong("text", repr(text), repr(shown), command)

    def displayed_text(self) -> str:
        """Ask for the text on the display, empty where it shows the meters."""
        return self._dialogue.parsed("DISPlay:TEXT?", scpi.parse_string)

    def beep(self) -> None:
        """Sound the beeper once."""
        self._set("SYSTem:BEEPer")

    def save_state(self, memory: int) -> None:
        """Save the set-points in memory 1 to 5."""
        self._set(f"*SAV {self._memory(memory)}")

    # -- remote and local ------------------------------------------------------------------------------

    @property
    def is_serial(self) -> bool:
        """Whether the link is an RS-232 line."""
        return self.link.resource.upper().startswith("ASRL")

    def remote(self, *, lock: bool = False) -> None:
        """Take control on RS-232, which must come first there; ``lock`` also disables the panel's Local key.

        On GPIB addressing the supply does that, and the key can be locked by no command of its own.
        """
        if self.is_serial:
            self.link.write("SYSTem:RWLock" if lock else "SYSTem:REMote")

    def local(self) -> bool:
        """Give the front panel back; False where the interface cannot."""
        if self.is_serial:
            self.link.write("SYSTem:LOCal")
            return True
        return self.link.to_local()

    # -- inside -------------------------------------------------------------------------------------------

    def _set(self, command: str) -> None:
        self.link.write(command)
        self.check_errors(command)

    def _set_number(self, header: str, setting: str, value: float, tolerance: float) -> float:
        command = f"{header} {scpi.format_number(value)}"
        self._set(command)
        return self._dialogue.confirm(setting, value, self.link.query(f"{header}?"), tolerance, command)

    def _confirm_bool(self, header: str, on: bool) -> None:
        self._dialogue.confirm_bool(header, on, self.link.query(f"{header}?"), f"{header} {int(on)}")

    def _memory(self, memory: int) -> int:
        if memory not in MEMORIES:
            raise ConfigError(f"{self.link.name}: state memory {memory}: 1 to 5 is expected; nothing was sent")
        return memory

    def _wrong(self, setting: str, asked: object, got: object, command: str, hint: str = "") -> SettingError:
        return self._dialogue.named(SettingError(setting, asked, got, hint=hint), command)
