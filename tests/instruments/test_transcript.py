"""Transcripts are written, and replayed strictly."""

from __future__ import annotations

import json

import pytest

from instruments.errors import LinkTimeout, ProtocolError
from instruments.ieee488 import write_block
from instruments.link import Link, ReplayLink, Transcript

from .scripted_instruments import serving, standard

HEADER = '{"transcript": 1, "origin": "simulated"}'


def lines(*entries):
    return [HEADER, *(json.dumps({"link": "scope", **entry}) for entry in entries)]


def talk(path, full):
    def handle(line: bytes):
        if line == b"D?":
            return write_block(b"a\n\xff") + b"\n"
        return standard(line)

    with (
        serving(handle) as server,
        Transcript(path, origin="simulated", full_blocks=full) as transcript,
        Link.open("scope", [server.resource], transcript=transcript) as link,
        Link.open("other", [server.resource], transcript=transcript) as other,
    ):
        link.write(":RUN")
        link.query("*IDN?")
        other.query("*IDN?")
        link.query_block("D?")
        link.write(b":SET \x00\n")
        with pytest.raises(LinkTimeout):
            link.query("SILENT?", 0.05)
        transcript.close()
        link.query("*IDN?")  # a closed transcript stops nobody


def test_recorded_talk_replays(tmp_path):
    path = tmp_path / "talk.jsonl"
    talk(path, full=True)
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert written[0]["transcript"] == 1
    assert written[0]["origin"] == "simulated"
    assert all(entry["t_s"] >= 0 for entry in written[1:])
    block = next(entry["block"] for entry in written if "block" in entry)
    assert block["bytes"] == 3
    with ReplayLink(path, "scope") as link:
        assert link.origin == "simulated"
        link.write(":RUN")
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
        assert link.query_block("D?") == b"a\n\xff"
        link.write(b":SET \x00\n")
        with pytest.raises(LinkTimeout, match="as recorded"):
            link.query("SILENT?")
    with ReplayLink(path, "other") as link:
        link.query("*IDN?")


def test_hashed_blocks_need_their_data(tmp_path):
    path = tmp_path / "talk.jsonl"
    talk(path, full=False)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    (block,) = [entry["block"] for entry in entries if "block" in entry]
    assert "b64" not in block
    for blocks in ({}, {block["sha256"]: b"a\n\xff"}):
        link = ReplayLink(path, "scope", blocks=blocks)
        link.write(":RUN")
        link.query("*IDN?")
        if blocks:
            assert link.query_block("D?") == b"a\n\xff"
        else:
            with pytest.raises(ProtocolError, match="full_blocks"):
                link.query_block("D?")


def test_wrong_message():
    link = ReplayLink(lines({"dir": "out", "text": ":RUN"}), "scope")
    with pytest.raises(ProtocolError, match=r"sent b':STOP', but message 1 of 1 .* out"):
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
    script = lines({"dir": "out", "text": "A?"}, {"dir": "in", "block": {"bytes": 0, "sha256": "", "b64": ""}})
    with pytest.raises(ProtocolError, match="as text"):
        ReplayLink(script, "scope").query("A?")


def test_nothing_may_be_left_over():
    script = lines({"dir": "out", "text": "A"}, {"dir": "note", "text": "dropped"})
    with pytest.raises(ProtocolError, match="closed, but message 1"), ReplayLink(script, "scope"):
        pass
    with ReplayLink(script, "scope") as link:
        link.write("A")
    with pytest.raises(ProtocolError, match="over"):
        link.write("B")
    link.close()


def test_an_error_in_the_body_is_not_hidden():
    with pytest.raises(ZeroDivisionError), ReplayLink(lines({"dir": "out", "text": "A"}), "scope"):
        raise ZeroDivisionError


def test_what_a_replay_cannot_do_does_nothing():
    with ReplayLink(lines(), "scope") as link, link.transaction():
        link.clear()
        link.reopen()
        assert not link.to_local()


@pytest.mark.parametrize("text", [[], ["{}"], ['{"transcript": 2}']])
def test_not_a_transcript(text):
    with pytest.raises(ProtocolError, match="no transcript"):
        ReplayLink(text, "scope")
