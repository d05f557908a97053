"""Reading one source of a stopped acquisition: settings, preamble and block, each checked.

Every transfer setting is sent and read back with every source, in one message: defaults and what
another program left behind are never relied on (facts: stale transfer settings give wrong traces).
Sources: PG2000 p.629-633, 644; 2024 ed. p.729.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import CaptureError, LinkTimeout, ProtocolError
from instruments.waveform import FORMAT_ASCII, FORMAT_BYTE, FORMAT_WORD, Preamble, Record, Units, decode, parse_ascii

from .settings import join, source_command

_log = logging.getLogger(__name__)

Format = Literal["BYTE", "WORD", "ASCii"]
_FORMAT_CODES = {"BYTE": FORMAT_BYTE, "WORD": FORMAT_WORD, "ASCii": FORMAT_ASCII}
PREAMBLE_DEADLINE_S = 3.0


@dataclass(frozen=True)
class TransferOptions:
    """How codes travel; digital sources always travel as BYTE, which loses nothing."""

    format: Format = "WORD"
    byte_order: Literal["LSBFirst", "MSBFirst"] = "LSBFirst"
    unsigned: bool = True


@dataclass(frozen=True)
class _Prepared:
    preamble: Preamble
    units: Units
    pairs: bool
    settings: dict[str, str]


def fetch_record(
    dialogue: Dialogue, source: str, points: int | None, options: TransferOptions, deadline: float
) -> Record:
    """Read one source (``CHAN1`` ... or ``POD1``) as raw codes; ``points`` None asks for all.

    Raises CaptureError or ProtocolError when settings, preamble and block do not fit each other.
    """
    digital = not source.startswith("CHAN")
    if digital:
        options = TransferOptions("BYTE", options.byte_order, True)
    prepared = _prepare(dialogue, source, points, options, deadline)
    query = ":WAVeform:DATA?"
    data = dialogue.link.query_block(query, _left_s(deadline))
    try:
        return decode(
            source,
            prepared.preamble,
            data,
            prepared.units,
            little_endian=options.byte_order == "LSBFirst",
            unsigned=options.unsigned,
            pairs=prepared.pairs,
            settings=prepared.settings,
        )
    except (CaptureError, ProtocolError) as error:
        raise dialogue.named(error, query) from None


def fetch_ascii(
    dialogue: Dialogue, source: str, points: int | None, deadline: float
) -> tuple[Preamble, NDArray[np.float64]]:
    """Read one source as numbers in its unit, (n,); 13 bytes per point, for cross-checks.

    The block header in front of the text is taken as documented for this family; unconfirmed.
    """
    prepared = _prepare(dialogue, source, points, TransferOptions("ASCii"), deadline)
    data = dialogue.link.query_block(":WAVeform:DATA?", _left_s(deadline))
    expected = prepared.preamble.points * (2 if prepared.pairs else 1)
    try:
        return prepared.preamble, parse_ascii(data.decode("ascii", "replace"), expected)
    except (CaptureError, ProtocolError) as error:
        raise dialogue.named(error, ":WAVeform:DATA?") from None


def _prepare(
    dialogue: Dialogue, source: str, points: int | None, options: TransferOptions, deadline: float
) -> _Prepared:
    """Set everything, read it back with the preamble; a bad first preamble is asked for once more.

    The first preamble after an acquisition may be ``+0`` or nothing at all (seen on an MSO-X 2024A).
    """
    message, queries = _messages(source, points, options)
    for attempt in (1, 2):
        try:
            text = dialogue.link.query(message, min(PREAMBLE_DEADLINE_S, _left_s(deadline)))
            answers = scpi.split_answers(text, len(queries))
            preamble = Preamble.parse(answers[-1])
            break
        except (ProtocolError, LinkTimeout) as error:
            if attempt == 2:
                raise dialogue.named(error, message) from None
            _log.warning("%s: preamble of %s asked for once more: %s", dialogue.link.name, source, error)
    said = dict(zip(queries, answers, strict=True))
    _check(dialogue, source, options, said, preamble, message)
    units: Units = "bits"
    if source.startswith("CHAN"):
        units = "A" if scpi.same_keyword(said[f":{source_command(source)}:UNITs?"], "AMPere") else "V"
    pairs = scpi.same_keyword(said[":WAVeform:TYPE?"], "PEAK")
    return _Prepared(preamble, units, pairs, {query.rstrip("?").lstrip(":"): said[query] for query in queries})


def _messages(source: str, points: int | None, options: TransferOptions) -> tuple[str, list[str]]:
    command = source_command(source)
    sets = [
        f":WAVeform:SOURce {command}",
        f":WAVeform:FORMat {options.format}",
        f":WAVeform:BYTeorder {options.byte_order}",
        f":WAVeform:UNSigned {int(options.unsigned)}",
        ":WAVeform:POINts:MODE RAW",
        f":WAVeform:POINts {'MAXimum' if points is None else points}",
    ]
    queries = [
        ":WAVeform:SOURce?",
        ":WAVeform:FORMat?",
        ":WAVeform:BYTeorder?",
        ":WAVeform:UNSigned?",
        ":WAVeform:TYPE?",
    ]
    if source.startswith("CHAN"):
        queries += [f":{command}:{name}?" for name in ("UNITs", "PROBe", "RANGe", "OFFSet")]
    queries.append(":WAVeform:PREamble?")
    return join(sets + queries), queries


def _check(
    dialogue: Dialogue,
    source: str,
    options: TransferOptions,
    said: dict[str, str],
    preamble: Preamble,
    message: str,
) -> None:
    dialogue.confirm_keyword("waveform source", source_command(source), said[":WAVeform:SOURce?"], message)
    dialogue.confirm_keyword("waveform format", options.format, said[":WAVeform:FORMat?"], message)
    dialogue.confirm_keyword("byte order", options.byte_order, said[":WAVeform:BYTeorder?"], message)
    dialogue.confirm_bool("unsigned codes", options.unsigned, said[":WAVeform:UNSigned?"], message)
    if preamble.format != _FORMAT_CODES[options.format]:
        raise dialogue.named(
            CaptureError(
                f"{source}: asked for {options.format}, the preamble is of format {preamble.format}",
                reason="format",
            ),
            message,
        )
    if preamble.points == 0:
        raise dialogue.named(
            CaptureError(f"{source}: the record is empty; was anything acquired?", reason="short"), message
        )


def _left_s(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
