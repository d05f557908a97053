"""Transcripts are written, and replayed strictly."""

from __future__ import annotations

import base64
import json
import logging
import time

import pytest

from instruments.errors import LinkError, LinkTimeout, ProtocolError
from instruments.ieee488 import write_block
from instruments.link import Link, ReplayLink, Transcript

from .scripted_instruments import await_input, serving, standard

HEADER = '{"transcript": 1, "origin": "simulated"}'


def lines(*entries):
    return [HEADER, *(json.dumps({"link": "scope", **entry}) for entry in entries)]


def handle(line: bytes):
    if line == b"D?":
        return write_block(b"a\n\xff") + b"\n"
    if line == b"TWO?":
        return b"1\n2\n"
    if line == b"CUT?":
        return b"+1.2"
    if line == b"NOISE":
        return b"nobody asked\n"
    if line == b"BYE?":
        raise ConnectionError
    return standard(line)


def talk(link):
    """Everything that can be said, heard and go wrong; gives what came of it."""
    found = []

    def attempt(act, *arguments):
        try:
            found.append(act(*arguments))
        except (LinkError, ProtocolError) as error:
            found.append((type(error), str(error)))

    attempt(link.write, ":RUN")
    attempt(link.query, "*IDN?")
    attempt(link.query_block, "D?")
    attempt(link.write, b":SET \x00\n")
    attempt(link.query, "CUT?", 0.4)
    attempt(link.query, "TWO?")
    attempt(link.query_block, "*IDN?")
    attempt(link.write, "NOISE")
    if isinstance(link, Link):
        await_input(link)
    attempt(link.query, "*IDN?")
    attempt(link.clear)
    attempt(link.to_local)
    attempt(link.query, "BYE?")
    attempt(link.write, ":STOP")
    attempt(link.reopen)
    attempt(link.query, "*IDN?")
    return found


def record(path, full=True):
    with (
        serving(handle) as server,
        Transcript(path, origin="simulated", full_blocks=full) as transcript,
        Link.open("scope", [server.resource], transcript=transcript) as link,
        Link.open("other", [server.resource], transcript=transcript) as other,
    ):
        other.query("*IDN?")
        found = talk(link)
        transcript.close()
        link.query("*IDN?")  # a closed transcript stops nobody
    return server.resource, found


def entries_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_recorded_talk_replays_with_its_failures(tmp_path):
    path = tmp_path / "talk.jsonl"
    resource, live = record(path)
    assert [kind for kind, _ in (f for f in live if isinstance(f, tuple))] == [
        LinkTimeout, ProtocolError, ProtocolError, LinkError, LinkError,
    ]  # fmt: skip
    with ReplayLink(path, "scope") as link:
        assert link.origin == "simulated"
        assert link.resource == resource
        assert talk(link) == live
    with ReplayLink(path, "other") as link:
        link.query("*IDN?")


def test_everything_that_passed_is_in_the_transcript(tmp_path):
    path = tmp_path / "talk.jsonl"
    resource, _ = record(path)
    header, *entries = entries_of(path)
    assert header["transcript"] == 1
    assert header["origin"] == "simulated"
    assert abs(header["utc_s"] - time.time()) < 60
    times = [entry["t_s"] for entry in entries]
    assert times == sorted(times)
    assert times[0] >= 0
    mine = [entry for entry in entries if entry["link"] == "scope"]
    opened = [entry for entry in mine if entry["dir"] == "open"]
    assert [(e["resource"], e["backend"]) for e in opened] == [(resource, "@py")] * 2
    bytes_of = lambda e: e["text"].encode() if "text" in e else base64.b64decode(e["b64"])  # noqa: E731
    beyond = [(e["of"], e["dir"], bytes_of(e)) for e in mine if "of" in e]
    assert ("refused", "in", b"+1.2") in beyond
    assert ("refused", "in", b"1\n2\n") in beyond
    assert ("dropped", "in", b"nobody asked\n") in beyond
    asked = [data for of, direction, data in beyond if (of, direction) == ("recovery", "out")]
    assert sum(data.startswith(b"*ESE?;*ESE?") for data in asked) >= 4
    assert b":SYSTem:ERRor?" in asked
    heard = [data for of, direction, data in beyond if (of, direction) == ("recovery", "in")]
    assert b'+0,"No error"\n' in heard
    assert [e["text"] for e in mine if e["dir"] == "call"] == ["clear", "local", "reopen"]
    (block,) = [entry["block"] for entry in mine if "block" in entry]
    assert block["bytes"] == 3
    assert {"b64": base64.b64encode(b":SET \x00\n").decode()}.items() <= next(e for e in mine if "b64" in e).items()


def test_a_connection_that_fails_is_in_the_transcript(tmp_path):
    path = tmp_path / "talk.jsonl"
    with serving(standard) as server:
        resource = server.resource
    with Transcript(path, origin="simulated") as transcript, pytest.raises(LinkError, match="could not connect"):
        Link.open("scope", [resource], transcript=transcript)
    (entry,) = entries_of(path)[1:]
    assert (entry["dir"], entry["error"], entry["link"]) == ("error", "LinkError", "scope")


def test_hashed_blocks_need_their_data(tmp_path):
    path = tmp_path / "talk.jsonl"
    record(path, full=False)
    (block,) = [entry["block"] for entry in entries_of(path) if "block" in entry]
    assert set(block) == {"bytes", "sha256"}
    for blocks in ({}, {block["sha256"]: b"a\n\xff"}):
        link = ReplayLink(path, "scope", blocks=blocks)
        link.write(":RUN")
        link.query("*IDN?")
        if blocks:
            assert link.query_block("D?") == b"a\n\xff"
        else:
            with pytest.raises(ProtocolError, match="full_blocks"):
                link.query_block("D?")


def test_a_transcript_that_cannot_be_written_any_more_stops_nobody(tmp_path, caplog):
    full = tmp_path / "full.jsonl"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        Transcript(full, origin="simulated")
    transcript = Transcript(tmp_path / "talk.jsonl", origin="simulated")
    transcript._file.close()
    transcript._file = open("/dev/full", "w")  # noqa: SIM115
    with (
        serving(standard) as server,
        caplog.at_level(logging.WARNING),
        Link.open("scope", [server.resource], transcript=transcript) as link,
    ):
        assert link.query("*IDN?") == link.query("*IDN?")
    assert caplog.text.count("the transcript") == 1
    transcript.close()


def test_wrong_message():
    link = ReplayLink(lines({"dir": "out", "text": ":RUN"}), "scope")
    with pytest.raises(ProtocolError, match=r"sent b':STOP', but line 2 of the transcript is out {'text': ':RUN'}"):
        link.write(":STOP")


def test_answer_nobody_gave():
    link = ReplayLink(lines({"dir": "out", "text": "A?"}, {"dir": "out", "text": "B?"}), "scope")
    with pytest.raises(ProtocolError, match="read the answer to b'A\\?'"):
        link.query("A?")
    link = ReplayLink(lines({"dir": "out", "text": "A?"}, {"dir": "in", "text": "1"}), "scope")
    link.write("A?")
    with pytest.raises(ProtocolError, match="sent b'B'"):
        link.write("B")


def test_text_is_no_block_and_a_block_no_text():
    script = lines({"dir": "out", "text": "A?"}, {"dir": "in", "text": "1"})
    with pytest.raises(ProtocolError, match="as a block"):
        ReplayLink(script, "scope").query_block("A?")
    script = lines({"dir": "out", "text": "A?"}, {"dir": "in", "block": {"bytes": 0, "sha256": ""}})
    with pytest.raises(ProtocolError, match="as text"):
        ReplayLink(script, "scope").query("A?")


def test_nothing_may_be_left_over():
    script = lines({"dir": "out", "text": "A"}, {"dir": "note", "text": "dropped"})
    with pytest.raises(ProtocolError, match="closed, but line 2 "), ReplayLink(script, "scope"):
        pass
    with ReplayLink(script, "scope") as link:
        link.write("A")
    with pytest.raises(ProtocolError, match="over"):
        link.write("B")
    link.close()


def test_an_error_in_the_body_is_not_hidden():
    with pytest.raises(ZeroDivisionError), ReplayLink(lines({"dir": "out", "text": "A"}), "scope"):
        raise ZeroDivisionError


def test_calls_must_come_in_their_turn():
    script = lines({"dir": "call", "text": "clear"}, {"dir": "out", "text": "A"})
    link = ReplayLink(script, "scope")
    with pytest.raises(ProtocolError, match=r"asked to reopen, but line 2"):
        link.reopen()
    link.clear()
    with pytest.raises(ProtocolError, match=r"asked to local, but line 3"):
        link.to_local()


@pytest.mark.parametrize("text", [[], ["{}"], ['{"transcript": 2}'], [HEADER, "no json"], [HEADER, "1"]])
def test_not_a_transcript(text):
    with pytest.raises(ProtocolError, match=r"no transcript|line 2 of the transcript"):
        ReplayLink(text, "scope")
