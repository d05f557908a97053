"""The agent's messages: any split gives the same events, nothing that is fed raises, only sensible moves pass."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments import dut_protocol
from instruments.dut_protocol import (
    FIELDS,
    MAGIC,
    MAX_BODY_BYTES,
    OPTIONAL,
    Conversation,
    Decoder,
    DutProtocolError,
    Garbage,
    Mode,
    check,
    encode,
    mode_of,
)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
_MESSAGES = st.dictionaries(st.text(max_size=6), _JSON, max_size=4).map(lambda fields: {**fields, "type": "any"})
_PIECES = st.lists(
    _MESSAGES.map(encode)
    | st.binary(max_size=20)
    | st.sampled_from(
        [MAGIC, MAGIC[:2], b"\xff", MAGIC + bytes(8), MAGIC + b"\xff" * 8, MAGIC + struct.pack(">II", 9, 1)]
    ),
    max_size=8,
)


def _events(pieces: list[bytes]) -> list[Any]:
    """Feed the pieces; merge garbage, whose boundaries depend on when its bytes came."""
    decoder = Decoder()
    merged: list[Any] = []
    for piece in pieces:
        for event in decoder.feed(piece):
            if not isinstance(event, Garbage):
                merged.append(event)
            elif merged and isinstance(merged[-1], bytes):
                merged[-1] += event.data
            else:
                merged.append(event.data)
    return [*merged, ("pending", decoder.pending_bytes)]


@given(st.lists(_MESSAGES, max_size=5))
def test_what_is_encoded_is_decoded(messages: list[dict[str, Any]]) -> None:
    assert Decoder().feed(b"".join(encode(message) for message in messages)) == messages


@settings(max_examples=150, deadline=None)
@given(pieces=_PIECES, data=st.data())
def test_any_split_gives_the_same_events(pieces: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    split = [wire[a:b] for a, b in itertools.pairwise([0, *cuts, len(wire)])]
    whole = _events([wire])
    assert _events(split) == whole
    assert _events([wire[i : i + 1] for i in range(len(wire))]) == whole


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_raise_and_none_is_lost(pieces: list[bytes]) -> None:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    if all(isinstance(event, Garbage) for event in events):
        garbage = b"".join(event.data for event in events if isinstance(event, Garbage))
        assert len(garbage) + decoder.pending_bytes == sum(map(len, pieces))


_FRAME = encode({"type": "clock", "n": 3})


@pytest.mark.parametrize("index", range(len(_FRAME)))
def test_a_flipped_bit_anywhere_costs_that_frame_only(index: int) -> None:
    broken = bytearray(_FRAME)
    broken[index] ^= 0x10
    # The two whole frames behind it free a reader that waits for a length that is too long.
    events = Decoder().feed(bytes(broken) + _FRAME + _FRAME)
    assert any(isinstance(event, Garbage) for event in events)
    assert [event for event in events if not isinstance(event, Garbage)] == [{"type": "clock", "n": 3}] * 2


@pytest.mark.parametrize("length", range(1, len(_FRAME)))
def test_a_frame_cut_short_anywhere_costs_that_frame_only(length: int) -> None:
    events = Decoder().feed(_FRAME[:length] + _FRAME + _FRAME)
    assert [event for event in events if not isinstance(event, Garbage)] == [{"type": "clock", "n": 3}] * 2


def _frame(body: bytes) -> bytes:
    return MAGIC + struct.pack(">II", len(body), zlib.crc32(body)) + body


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"type": 3}', b'{"type": "a", "x": NaN}', b"{", b"\x80", b"[" * 100_000, b"1" * 10_000],
)
def test_a_sound_frame_with_a_body_that_is_no_message(body: bytes) -> None:
    decoder = Decoder()
    (event,) = decoder.feed(_frame(body))
    assert isinstance(event, Garbage)
    assert event.data == body
    assert decoder.feed(_FRAME) == [{"type": "clock", "n": 3}]


def test_a_length_beyond_the_limit_is_not_waited_for() -> None:
    events = Decoder().feed(MAGIC + struct.pack(">II", MAX_BODY_BYTES + 1, 0))
    assert "over" in repr(events[0])


def test_a_check_sum_that_looks_like_a_frame_is_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    real = zlib.crc32
    monkeypatch.setattr(
        dut_protocol.zlib, "crc32", lambda body: real(body) if body.endswith(b" ") else int.from_bytes(MAGIC, "big")
    )
    wire = encode({"type": "x"})
    assert wire.count(MAGIC) == 1
    assert Decoder().feed(wire) == [{"type": "x"}]


@pytest.mark.parametrize("value", [float("nan"), object(), b"bytes", "x" * (MAX_BODY_BYTES + 1)])
def test_what_cannot_be_sent(value: Any) -> None:
    with pytest.raises(DutProtocolError, match="message 'x'"):
        encode({"type": "x", "value": value})


# --------------------------------------------------------------------------------------- the conversation

_SAMPLES: dict[Any, Any] = {int: 1, str: "s", dict: {}, list: [], bool: True, (int, float): 0.5}


def _sample(speaker: str, kind: str) -> dict[str, Any]:
    return {"type": kind, **{name: _SAMPLES[of] for name, of in FIELDS[speaker, kind].items()}}


@pytest.mark.parametrize(("speaker", "kind"), sorted(FIELDS))
def test_every_field_is_asked_for_and_typed(speaker: str, kind: str) -> None:
    message = _sample(speaker, kind)
    check(speaker, message)
    for name, of in FIELDS[speaker, kind].items():
        for bad in ({**message, name: None}, {k: v for k, v in message.items() if k != name}):
            with pytest.raises(DutProtocolError, match=f"{kind}.{name}"):
                check(speaker, bad)
        if of is not bool:
            with pytest.raises(DutProtocolError):
                check(speaker, {**message, name: True})


@pytest.mark.parametrize(("speaker", "kind"), sorted(OPTIONAL))
def test_an_optional_field_may_be_left_out_and_is_typed_where_it_is_there(speaker: str, kind: str) -> None:
    message = _sample(speaker, kind)
    for name, of in OPTIONAL[speaker, kind].items():
        assert name not in FIELDS[speaker, kind]
        check(speaker, {**message, name: _SAMPLES.get(of, {})})
        for bad in (None, "3" if of == (int, float) else 3.5, True):
            with pytest.raises(DutProtocolError, match=f"{kind}.{name}"):
                check(speaker, {**message, name: bad})


@given(st.builds(Mode, st.sampled_from(["fp32", "fp16", "bf16", "int8"]), st.booleans(), st.booleans(), st.booleans()))
def test_a_mode_survives_its_message(mode: Mode) -> None:
    (message,) = Decoder().feed(encode({"type": "x", "mode": mode.as_json()}))
    assert not isinstance(message, Garbage)
    assert mode_of(message["mode"]) == mode
    assert mode.label().split()[0] == mode.dtype


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"dtype": "fp8"}, "dtype 'fp8' is none of fp32"),
        ({"dtype": 16}, "dtype 16"),
        ({"compile": 1}, "mode.compile is 1"),
        ({"cuda_graph": True}, "mode has no cuda_graph"),
    ],
)
def test_what_is_no_mode(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(DutProtocolError, match=said):
        mode_of(tree)


def _pair_in(state: str) -> tuple[Conversation, Conversation]:
    path = {
        "new": [],
        "idle": ["hello", "hello"],
        "preparing": ["hello", "hello", "prepare"],
        "ready": ["hello", "hello", "prepare", "ready"],
        "running": ["hello", "hello", "prepare", "ready", "go"],
    }[state]
    bench, agent = Conversation("bench"), Conversation("agent")
    speakers = {"prepare": "bench", "go": "bench", "ready": "agent"}
    for index, kind in enumerate(path):
        speaker = speakers.get(kind, "bench" if index == 0 else "agent")
        _pass(bench, agent, speaker, kind)
    assert bench.state == agent.state == state
    return bench, agent


def _pass(bench: Conversation, agent: Conversation, speaker: str, kind: str) -> None:
    source, target = (bench, agent) if speaker == "bench" else (agent, bench)
    (event,) = target.feed(source.send(_sample(speaker, kind)))
    assert not isinstance(event, Garbage)
    target.accept(event)


_ALLOWED = {
    "new": {("bench", "hello"): "greeting"},
    "idle": {("bench", "prepare"): "preparing", ("bench", "clock"): "idle+clock"},
    "preparing": {("agent", "ready"): "ready", ("agent", "refused"): "idle"},
    "ready": {("bench", "prepare"): "preparing", ("bench", "go"): "running", ("bench", "clock"): "ready+clock"},
    "running": {("agent", "done"): "ready", ("agent", "refused"): "ready"},
}


@pytest.mark.parametrize("state", sorted(_ALLOWED))
@pytest.mark.parametrize(("speaker", "kind"), sorted(FIELDS))
def test_each_end_allows_and_refuses_the_same_moves(state: str, speaker: str, kind: str) -> None:
    bench, agent = _pair_in(state)
    sender, receiver = (bench, agent) if speaker == "bench" else (agent, bench)
    expected = _ALLOWED[state].get((speaker, kind))
    if kind == "bye":
        expected = "closed"
    elif kind == "error":
        expected = "new" if state == "new" else "idle"
    message = _sample(speaker, kind)
    if expected is None:
        with pytest.raises(DutProtocolError, match="in state"):
            sender.send(message)
        with pytest.raises(DutProtocolError, match="in state"):
            receiver.accept(message)
        expected = state
    else:
        sender.send(message)
        receiver.accept(message)
    assert sender.state == receiver.state == expected


def test_nothing_is_said_after_goodbye() -> None:
    bench, _ = _pair_in("idle")
    bench.send({"type": "bye"})
    with pytest.raises(DutProtocolError, match="'closed'"):
        bench.accept({"type": "error", "reason": "late"})


def test_speakers() -> None:
    with pytest.raises(ValueError, match="scope"):
        Conversation("scope")
    with pytest.raises(DutProtocolError, match="the agent does not say 'go'"):
        check("agent", {"type": "go"})
