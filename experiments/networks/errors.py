"""What a user hears when a network, its weights or its mode cannot be used. Python 3.6, standard library."""


class RefusedError(Exception):
    """What was asked cannot be done; one line. `code` is one of `instruments.dut_protocol.REFUSALS`."""

    def __init__(self, code: str, reason: str) -> None:
        Exception.__init__(self, reason)
        self.code = code


class SpecError(ValueError):
    """A text that names no network in any form; the message says what was expected."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, onnxruntime or Python ran out of memory: libraries say so in the text of an error only."""
    if isinstance(error, MemoryError):
        return True
    if not (isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")):
        return False
    text = str(error).lower()
    marks = ("out of memory", "can't allocate memory", "bad_alloc", "could not create a memory", "failed to allocate")
    return any(mark in text for mark in marks)


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return what an error says in one line of at most `limit` characters, its type first where that helps.

    Of a message that quotes a trace, as TorchScript's do, the last line that names an error is the one that matters.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [index for index, line in enumerate(lines) if line.split(":")[0].endswith("Error")]
    if len(lines) > 1 and named:
        text = " ".join(lines[named[-1] :][: 2 if lines[named[-1]].endswith(":") else 1])
    else:
        text = lines[0] if lines else "no message"
    text = text[:limit]
    kind = type(error).__name__
    return text if kind == "RuntimeError" or text.startswith(kind) else "%s: %s" % (kind, text)
