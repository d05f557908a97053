"""Reading one source of a stopped acquisition: settings, preamble and block, each checked.

Every transfer setting is sent and read back with every capture, in one message: defaults and what
another program left behind are never relied on (facts: stale transfer settings give wrong traces).

How many points come is asked before they are: more than there are is refused with -222, and the list of
lengths is not kept to (a DSO-X 2012A gave 3840 for 4000, 7680 for 10000). Where its choice is below what was
wanted though the memory holds more, the next longer one is taken.
Sources: PG2000 p.629-633, 644; 2024 ed. p.729; the maker's example programs (POINts MAX, then the mode, then POINts).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import CaptureError, LinkTimeout, ProtocolError
from instruments.waveform import FORMAT_ASCII, FORMAT_BYTE, FORMAT_WORD, Preamble, Record, Units
from instruments.waveform_data import decode, parse_ascii

from .inputs import source_command
from .settings import join

_log = logging.getLogger(__name__)

Format = Literal["BYTE", "WORD", "ASCii"]
PointsMode = Literal["RAW", "MAXimum", "NORMal"]
_FORMAT_CODES = {"BYTE": FORMAT_BYTE, "WORD": FORMAT_WORD, "ASCii": FORMAT_ASCII}
PREAMBLE_DEADLINE_S = 3.0


@dataclass(frozen=True)
class TransferOptions:
    """How codes travel, and from which record; digital sources always travel as BYTE, which loses nothing.

    ``points_mode``: RAW and MAXimum read the acquisition memory, NORMal the measurement record of at most 62 500.
    """

    format: Format = "WORD"
    byte_order: Literal["LSBFirst", "MSBFirst"] = "LSBFirst"
    unsigned: bool = True
    points_mode: PointsMode = "RAW"


@dataclass(frozen=True)
class _Prepared:
    preamble: Preamble
    units: Units
    pairs: bool
    settings: dict[str, str]


def _points_commands(points: int | None, mode: PointsMode) -> list[str]:
    """Set the length; MAXimum first, since it sets the mode too."""
    most = [":WAVeform:POINts MAXimum"] if points is None else []
    return [*most, f":WAVeform:POINts:MODE {mode}", *([] if points is None else [f":WAVeform:POINts {points}"])]


class PointsChooser:
    """Finds what to ask for with ``:WAVeform:POINts``; remembers it until a setting changes what there is."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._known: dict[tuple[int, PointsMode], int | None] = {}

    def forget(self) -> None:
        """Find out anew: a setting has changed."""
        self._known.clear()

    def choose(self, source: str, wanted: int | None, mode: PointsMode, deadline: float) -> int | None:
        """Give the length to ask for so that at least ``wanted`` come; None asks for all there are."""
        if wanted is None:
            return None
        key = wanted, mode
        if key not in self._known:
            first = join([f":WAVeform:SOURce {source_command(source)}", *_points_commands(None, mode)])
            available = self._ask(first, deadline)
            if available == 0:
                return wanted  # it says nothing, as after some acquisitions: the preamble will tell
            self._known[key] = self._search(available, wanted, deadline)
        return self._known[key]

    def _search(self, available: int, wanted: int, deadline: float) -> int | None:
        """Try the wanted length, then longer ones of the list, until enough come."""
        asked = wanted
        while asked < available:
            if self._ask(f":WAVeform:POINts {asked}", deadline) >= wanted:
                return asked
            asked = next_length(asked)
        return None

    def _ask(self, commands: str, deadline: float) -> int:
        """Ask how many points would come; once more where the answer is none or unreadable, then 0."""
        query = f"{commands};:WAVeform:POINts?"
        for _ in (1, 2):
            try:
                text = self._dialogue.link.query(query, min(PREAMBLE_DEADLINE_S, _left_s(deadline)))
                count = scpi.parse_int(text)
            except (ProtocolError, LinkTimeout) as error:
                _log.warning("%s: number of points asked for once more: %s", self._dialogue.link.name, error)
                continue
            if count > 0:
                return count
        return 0


def next_length(points: int) -> int:
    """Give the next longer length of the 1-2-5 list (PG2000 p.629)."""
    decade = int(10 ** (len(str(points)) - 1))
    steps: list[int] = [m * decade for m in (1, 2, 5, 10)]
    return next(step for step in steps if step > points)


def fetch_records(
    dialogue: Dialogue, sources: Sequence[str], points: int | None, options: TransferOptions, deadline: float
) -> dict[str, Record]:
    """Read sources (``CHAN1`` ... or ``POD1``) as raw codes, in this order; ``points`` None asks for all.

    All are prepared in one message: a round trip costs as much as half a record. Raises CaptureError or
    ProtocolError when settings, preamble and block do not fit each other.
    """
    pod = TransferOptions("BYTE", options.byte_order, True, options.points_mode)
    wanted = {source: options if source.startswith("CHAN") else pod for source in sources}
    prepared = _prepare(dialogue, wanted, points, deadline)
    return {source: _read(dialogue, source, wanted[source], prepared[source], deadline) for source in sources}


def fetch_record(
    dialogue: Dialogue, source: str, points: int | None, options: TransferOptions, deadline: float
) -> Record:
    """Read one source as ``fetch_records`` does."""
    return fetch_records(dialogue, [source], points, options, deadline)[source]


def _read(dialogue: Dialogue, source: str, options: TransferOptions, prepared: _Prepared, deadline: float) -> Record:
    query = join([*_choice(source, options), ":WAVeform:DATA?"])
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
        raise dialogue.named(error, ":WAVeform:DATA?") from None


def fetch_ascii(
    dialogue: Dialogue, source: str, points: int | None, deadline: float
) -> tuple[Preamble, NDArray[np.float64]]:
    """Read one source as numbers in its unit, (n,); 13 bytes per point, for cross-checks.

    The block header in front of the text is taken as documented for this family; unconfirmed.
    """
    prepared = _prepare(dialogue, {source: TransferOptions("ASCii")}, points, deadline)[source]
    data = dialogue.link.query_block(":WAVeform:DATA?", _left_s(deadline))
    expected = prepared.preamble.points * (2 if prepared.pairs else 1)
    try:
        return prepared.preamble, parse_ascii(data.decode("ascii", "replace"), expected)
    except (CaptureError, ProtocolError) as error:
        raise dialogue.named(error, ":WAVeform:DATA?") from None


def _prepare(
    dialogue: Dialogue, wanted: Mapping[str, TransferOptions], points: int | None, deadline: float
) -> dict[str, _Prepared]:
    """Set everything, read it back with the preambles; a bad first preamble is asked for once more.

    The first preamble after an acquisition may be ``+0`` or nothing at all (seen on an MSO-X 2024A).
    """
    message, queries = _messages(wanted, points)
    for attempt in (1, 2):
        try:
            text = dialogue.link.query(message, min(PREAMBLE_DEADLINE_S, _left_s(deadline)))
            answers = iter(scpi.split_answers(text, len(_SHARED) + sum(len(asked) for asked in queries.values())))
            shared = dict(zip(_SHARED, answers, strict=False))
            said = {source: {q: next(answers) for q in asked} for source, asked in queries.items()}
            preambles = {source: Preamble.parse(found[_PREAMBLE]) for source, found in said.items()}
            break
        except (ProtocolError, LinkTimeout) as error:
            if attempt == 2:
                raise dialogue.named(error, message) from None
            _log.warning("%s: preambles asked for once more: %s", dialogue.link.name, error)
    prepared = {}
    for source, options in wanted.items():
        found = {**shared, **said[source]}
        _check(dialogue, source, options, found, preambles[source], message)
        units: Units = "bits"
        if source.startswith("CHAN"):
            units = "A" if scpi.same_keyword(found[f":{source_command(source)}:UNITs?"], "AMPere") else "V"
        pairs = scpi.same_keyword(found[":WAVeform:TYPE?"], "PEAK")
        settings = {query.rstrip("?").lstrip(":"): answer for query, answer in found.items()}
        prepared[source] = _Prepared(preambles[source], units, pairs, settings)
    return prepared


_PREAMBLE = ":WAVeform:PREamble?"
_SHARED = (":WAVeform:BYTeorder?", ":WAVeform:POINts:MODE?")
"""Asked once for all sources."""


def _choice(source: str, options: TransferOptions) -> list[str]:
    """Choose a source, and what of a transfer is its own."""
    return [
        f":WAVeform:SOURce {source_command(source)}",
        f":WAVeform:FORMat {options.format}",
        f":WAVeform:UNSigned {int(options.unsigned)}",
    ]


def _messages(wanted: Mapping[str, TransferOptions], points: int | None) -> tuple[str, dict[str, list[str]]]:
    """Give one message for all sources, and the queries of each that follow the shared ones in it."""
    first, options = next(iter(wanted.items()))
    parts = [
        f":WAVeform:SOURce {source_command(first)}",
        f":WAVeform:BYTeorder {options.byte_order}",
        *_points_commands(points, options.points_mode),
        *_SHARED,
    ]
    queries = {}
    for source, options in wanted.items():
        asked = [":WAVeform:SOURce?", ":WAVeform:FORMat?", ":WAVeform:UNSigned?", ":WAVeform:TYPE?"]
        if source.startswith("CHAN"):
            asked += [f":{source_command(source)}:{name}?" for name in ("UNITs", "PROBe", "RANGe", "OFFSet")]
        queries[source] = [*asked, _PREAMBLE]
        parts += [*_choice(source, options), *queries[source]]
    return join(parts), queries


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
    mode = said[":WAVeform:POINts:MODE?"]
    if not (options.points_mode == "RAW" and scpi.same_keyword(mode, "MAXimum")):  # firmware 02.65
        dialogue.confirm_keyword("points mode", options.points_mode, mode, message)
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
