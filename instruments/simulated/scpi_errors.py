"""SCPI error numbers with their texts, and the refusal that a simulated instrument puts into its queue. Pure."""

from __future__ import annotations

ERROR_TEXTS = {
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -103: "Invalid separator",
    -104: "Data type error",
    -105: "GET not allowed",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -112: "Program mnemonic too long",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -121: "Invalid character in number",
    -123: "Numeric overflow",
    -124: "Too many digits",
    -128: "Numeric data not allowed",
    -131: "Invalid suffix",
    -138: "Suffix not allowed",
    -141: "Invalid character data",
    -148: "Character data not allowed",
    -151: "Invalid string data",
    -158: "String data not allowed",
    -161: "Invalid block data",
    -168: "Block data not allowed",
    -211: "Trigger ignored",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -223: "Too much data",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -241: "Hardware missing",
    -330: "Self-test failed",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -410: "Query INTERRUPTED",
    -420: "Query UNTERMINATED",
    -430: "Query DEADLOCKED",
    -440: "Query UNTERMINATED after indefinite response",
    511: "RS-232 framing error",
    512: "RS-232 overrun error",
    513: "RS-232 parity error",
    514: "Command allowed only with RS-232",
    521: "Input buffer overflow",
    522: "Output buffer overflow",
    550: "Command not allowed in local",
}


class Refused(Exception):
    """What a simulated instrument puts into its own error queue instead of doing what was asked."""

    def __init__(self, code: int, text: str | None = None) -> None:
        self.code = code
        self.text = ERROR_TEXTS.get(code, "Device-specific error") if text is None else text
        super().__init__(f'{code:+d},"{self.text}"')
