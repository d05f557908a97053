"""The messages between the bench and the agent on a device under test: bytes in, events out.

Pure: no clock, file, process or socket. Runs on the board too: Python 3.6, standard library, nothing of this project.

A frame is ``MAGIC`` (4 bytes), the body's length and the body's CRC-32 (both uint32, big-endian), then the body,
a JSON object in ASCII with a ``type``. MAGIC starts with 0xFF, which no body holds, so a reader that met
garbage finds the next frame again. Message types and their fields are the tables `FIELDS` and
`OPTIONAL`; who may say what and when is the table `_MOVES`. Times are integer nanoseconds of the speaker's own
monotonic clock.
"""

import json
import struct
import zlib
from typing import Any, Dict, FrozenSet, List, NamedTuple, Tuple, Union

VERSION = 2
MAGIC = b"\xffJB1"
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_BATCHES = 100000

_HEAD = struct.Struct(">II")
_HEAD_BYTES = len(MAGIC) + _HEAD.size

Message = Dict[str, Any]

_NUMBER = (int, float)

# (speaker, type) -> required fields and their JSON types. Fields beyond these are allowed and kept.
FIELDS: Dict[Tuple[str, str], Dict[str, Any]] = {
    ("bench", "hello"): {"version": int},
    ("agent", "hello"): {
        "version": int,
        "agent_sha256": str,
        "python": str,
        "pid": int,
        "host": dict,
        "marker": dict,
        "networks": list,
    },
    ("bench", "clock"): {"n": int},
    ("agent", "clock"): {"n": int, "t_ns": int},
    ("bench", "prepare"): {
        "network": str,
        "batch": int,
        "run_s": _NUMBER,
        "max_batches": int,
        "seed": int,
        "threads": int,
        "warmup_s": _NUMBER,
        "device": str,
        "mode": dict,
        "weights": str,
    },
    ("agent", "ready"): {
        "network": str,
        "batch": int,
        "batches": int,
        "images": int,
        "batch_time_s": _NUMBER,
        "warmup_batches": int,
        "warmup_s": _NUMBER,
        "settled": bool,
        "threads": int,
        "device": str,
    },
    ("agent", "refused"): {"reason": str, "code": str},
    ("bench", "go"): {"run_id": str, "batches": int, "limit_s": _NUMBER},
    ("agent", "done"): {"run_id": str, "batches": int, "batch": int, "gate_ns": list, "batch_ns": list},
    ("agent", "error"): {"reason": str},
    ("bench", "bye"): {},
    ("agent", "bye"): {},
}

# Fields that may be left out; where they are there, they are of these types.
OPTIONAL: Dict[Tuple[str, str], Dict[str, Any]] = {
    ("bench", "prepare"): {"size": dict},
    ("agent", "ready"): {"size": dict, "mode": dict, "weights": (str, dict), "warmup_batch_s": list},
    ("bench", "go"): {"frame": dict, "watch": str, "quiet_after_s": _NUMBER},
    ("agent", "done"): {
        "frame": dict,
        "woke_ns": int,
        "quiet_s": _NUMBER,
        "sensors_before": dict,
        "sensors_after": dict,
        "memory": dict,
        "condition_before": dict,
        "condition_after": dict,
        "watch": dict,
    },
}

# (state, speaker, type) -> next state. An agent's error is allowed in every state: see `Conversation`.
_MOVES: Dict[Tuple[str, str, str], str] = {
    ("new", "bench", "hello"): "greeting",
    ("greeting", "agent", "hello"): "idle",
    ("idle", "bench", "clock"): "idle+clock",
    ("idle+clock", "agent", "clock"): "idle",
    ("ready", "bench", "clock"): "ready+clock",
    ("ready+clock", "agent", "clock"): "ready",
    ("idle", "bench", "prepare"): "preparing",
    ("ready", "bench", "prepare"): "preparing",
    ("preparing", "agent", "ready"): "ready",
    ("preparing", "agent", "refused"): "idle",
    ("ready", "bench", "go"): "running",
    ("running", "agent", "done"): "ready",
    ("running", "agent", "refused"): "ready",
}

_END = 1 << 62  # in ns more than a century; what is stored has 64 bits

REFUSALS: FrozenSet[str] = frozenset(["unknown_network", "out_of_memory", "bad_request", "failed"])


class DutProtocolError(Exception):
    """A message that must not be sent, or one that must not have come."""


DTYPES = ("fp32", "fp16", "bf16", "int8")


class Mode(NamedTuple):
    """How a network is run: number type, memory layout, and what turns it into kernels."""

    dtype: str = "fp32"  # of weights and inputs, one of DTYPES; int8 quantises weights (and, where it can, activations)
    channels_last: bool = False
    compile: bool = False
    cuda_graphs: bool = False

    def as_json(self) -> Dict[str, Any]:
        """Return the mode as a message carries it."""
        return dict(self._asdict())

    def label(self) -> str:
        """Return the dtype and the names of what is switched on, with blanks between."""
        return " ".join([self.dtype] + [name for name in self._fields[1:] if getattr(self, name)])


def mode_of(tree: Dict[str, Any]) -> Mode:
    """Read what `Mode.as_json` wrote; raises `DutProtocolError` for what is no mode."""
    unknown = sorted(set(tree) - set(Mode._fields))
    if unknown:
        raise DutProtocolError("mode has no %s (it has %s)" % (", ".join(unknown), ", ".join(Mode._fields)))
    mode = Mode(**tree)
    if mode.dtype not in DTYPES:
        raise DutProtocolError("dtype %r is none of %s" % (mode.dtype, ", ".join(DTYPES)))
    for name in Mode._fields[1:]:
        if not isinstance(getattr(mode, name), bool):
            raise DutProtocolError("mode.%s is %r, which is neither true nor false" % (name, getattr(mode, name)))
    return mode


class Garbage:
    """Bytes that belong to no valid frame; `reason` says how they broke off."""

    def __init__(self, data: bytes, reason: str) -> None:
        self.data = data
        self.reason = reason

    def __repr__(self) -> str:
        return "Garbage(%r, %s)" % (self.data[:40], self.reason)


Event = Union[Message, Garbage]


def encode(message: Message) -> bytes:
    """Return the frame of `message`; raises `DutProtocolError` when it does not fit one or is not JSON."""
    try:
        body = json.dumps(message, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError) as error:
        raise DutProtocolError("message %r cannot be sent: %s" % (message.get("type"), error)) from None
    if len(body) > MAX_BODY_BYTES:
        raise DutProtocolError("message %r of %d bytes is over %d" % (message.get("type"), len(body), MAX_BODY_BYTES))
    head = _HEAD.pack(len(body), zlib.crc32(body) & 0xFFFFFFFF)
    while MAGIC in head:  # a check sum that looks like a frame's start; a blank after the object changes it
        body += b" "
        head = _HEAD.pack(len(body), zlib.crc32(body) & 0xFFFFFFFF)
    return MAGIC + head + body


class Decoder:
    """Takes bytes in any pieces, gives messages and garbage in order; never raises on what was fed."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes held back for a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> List[Event]:
        """Return the events that `data` completes."""
        buffer = self._buffer
        buffer += data
        events: List[Event] = []
        while buffer:
            start = buffer.find(MAGIC)
            if start != 0:
                junk = start if start > 0 else len(buffer) - _partial_magic(buffer)
                if junk:
                    events.append(Garbage(bytes(buffer[:junk]), "no frame starts here"))
                    del buffer[:junk]
                if start < 0:
                    break
            if len(buffer) < _HEAD_BYTES:
                break
            length, crc = _HEAD.unpack_from(buffer, len(MAGIC))
            if length > MAX_BODY_BYTES:
                events.append(self._broken("length %d is over %d" % (length, MAX_BODY_BYTES)))
                continue
            if len(buffer) < _HEAD_BYTES + length:
                # Another frame's start means that the rest of this one was lost: do not wait for it.
                if buffer.find(MAGIC, len(MAGIC)) >= 0:
                    events.append(self._broken("the frame is cut short"))
                    continue
                break
            body = bytes(buffer[_HEAD_BYTES : _HEAD_BYTES + length])
            if zlib.crc32(body) & 0xFFFFFFFF != crc:
                events.append(self._broken("wrong check sum"))
                continue
            del buffer[: _HEAD_BYTES + length]
            events.append(_parse(body))
        return events

    def _broken(self, reason: str) -> Garbage:
        """Give up the magic at the front; what follows it is then looked at afresh."""
        buffer = self._buffer
        data = bytes(buffer[: len(MAGIC)])
        del buffer[: len(MAGIC)]
        return Garbage(data, reason)


def _partial_magic(buffer: bytearray) -> int:
    """Return how many bytes at the end of `buffer` may be the start of a magic."""
    for size in range(min(len(MAGIC) - 1, len(buffer)), 0, -1):
        if buffer.endswith(MAGIC[:size]):
            return size
    return 0


def _no_constant(name: str) -> None:
    raise ValueError("%s is not JSON" % name)


def _parse(body: bytes) -> Event:
    try:
        message = json.loads(body.decode("ascii"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Garbage(body, "not JSON: %s" % error)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return Garbage(body, "not an object with a type")
    return message


def check(speaker: str, message: Message) -> None:
    """Raise `DutProtocolError` unless `message` is one that `speaker` ("bench" or "agent") can say."""
    fields = FIELDS.get((speaker, str(message.get("type"))))
    if fields is None:
        raise DutProtocolError("the %s does not say %r" % (speaker, message.get("type")))
    optional = OPTIONAL.get((speaker, message["type"]), {})
    for name, kind in list(fields.items()) + [item for item in optional.items() if item[0] in message]:
        value = message.get(name)
        # bool is an int in Python; a flag where a number belongs is still a mistake.
        wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        told = speaker == "agent" and isinstance(value, (int, float))  # what it is asked for it refuses itself
        if wrong or (told and not is_measure(value)):
            raise DutProtocolError("%s.%s is %r, which will not do" % (message["type"], name, value))


def is_measure(value: Any) -> bool:
    """Return whether a number can be one that was measured or counted: JSON's have no end, and 1e999 is read as inf."""
    return bool(-_END < value < _END)


class Conversation:
    """One end's view of the whole conversation: what was sent and received must follow the table of moves.

    `me` is "bench" or "agent". States: new, greeting, idle, preparing, ready, running, closed (and idle+clock,
    ready+clock while a clock question is open). An error of the agent leads back to idle, from wherever.
    """

    def __init__(self, me: str) -> None:
        if me not in ("bench", "agent"):
            raise ValueError(me)
        self._me = me
        self._peer = "agent" if me == "bench" else "bench"
        self.state = "new"
        self._decoder = Decoder()

    def send(self, message: Message) -> bytes:
        """Return the bytes of `message`; raises `DutProtocolError` (our own mistake) and then changes nothing."""
        check(self._me, message)
        state = self._next(self._me, message)
        data = encode(message)
        self.state = state
        return data

    def feed(self, data: bytes) -> List[Event]:
        """Return frames and garbage of the other end, unjudged: pass each message to `accept` in turn."""
        return self._decoder.feed(data)

    def accept(self, message: Message) -> Message:
        """Take a message of the other end in; raises `DutProtocolError` (their mistake) and then changes nothing."""
        check(self._peer, message)
        self.state = self._next(self._peer, message)
        return message

    def _next(self, speaker: str, message: Message) -> str:
        kind = message["type"]
        if kind == "bye":
            return "closed"
        if speaker == "agent" and kind == "error" and self.state != "closed":
            return "new" if self.state in ("new", "greeting") else "idle"
        state = _MOVES.get((self.state, speaker, kind))
        if state is None:
            raise DutProtocolError("the %s says %r in state %r" % (speaker, kind, self.state))
        return state
