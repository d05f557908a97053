"""The seal of a closed trace file: behind its end, all of it once more that no checksum guards.

HDF5 puts checksums over the chunks of a variable where it is asked to, and none over its own structure: headers, names,
attributes, the lists of chunks. One flipped bit there can give fewer rows, zeros, or another variable's values, without
a word. So whoever closes a trace file adds a ZIP archive to it, where HDF5 and other programs do not look:

- `ranges`: the stretches of the file outside the chunks that have a checksum, each as the number of its first byte and
  of the one behind it, 8 bytes each, little-endian;
- `bytes`: what stands there.

The archive's own CRC-32 of `bytes` tells before HDF5 opens the file whether its structure is what was written, and
where it is not, `bytes` has what belongs there. A file that is gone on with loses its seal first: one whose writer was
killed has none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.traces.damage import DAMAGE

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_OF_FILE = 40
"""Where a superblock of version 0 (HDF5 file format specification, II.A) keeps the length of the file."""

HEAD = _END_OF_FILE + 8
"""Bytes of a file that tell its length."""

OPEN_TO_WRITE = (20, 20)
"""Where a superblock says that a program has the file open for writing: one that was killed leaves it so."""

_NO_FLAG = b"\x08"
"""What is there is a sum of flags below this."""

_LARGEST = 1 << 44
"""Lengths of a file beyond this, 16 TiB, are no lengths but damage."""

_RANGES, _BYTES = "ranges", "bytes"
_BEGINS, _ENDS = b"PK\x03\x04", b"PK\x05\x06"
"""First bytes of an archive, and of its last record, which has 22 bytes (ZIP application note, 4.3.7 and 4.3.16)."""

_LAST_RECORD = 22
_UNREADABLE = (*DAMAGE, zipfile.BadZipFile, NotImplementedError, EOFError, struct.error)

Ranges = NDArray[np.uint64]


@dataclass(frozen=True)
class Seal:
    """A seal that can be read.

    `ranges` (n, 2) are the stretches that it covers; of those `altered`, from their first byte to their last, the file
    has others than were written.
    """

    path: Path
    ranges: Ranges
    altered: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, path: Path) -> Seal | None:
        """Find a file's seal; None where it has none, or none that can be read."""
        try:
            with _archive(path) as (file, archive):
                if archive is None:
                    return None
                ranges = np.frombuffer(archive.read(_RANGES), "<u8").reshape(-1, 2)
                end, begins = int(ranges[-1, 1]), archive.getinfo(_RANGES).header_offset
                if begins > end and stated_length(os.pread(file.fileno(), HEAD, 0)) not in (0, end):
                    return None  # another file's, that stands behind this one
                found = 0
                for _, piece in _pieces(file, ranges):
                    found = zlib.crc32(piece, found)
                altered = () if found == archive.getinfo(_BYTES).CRC else _unlike(file, ranges, archive.read(_BYTES))
                open_only = os.pread(file.fileno(), 1, OPEN_TO_WRITE[0]) < _NO_FLAG
                return cls(path, ranges, tuple(place for place in altered if place != OPEN_TO_WRITE or not open_only))
        except _UNREADABLE:
            return None

    def mend(self, copy: Path) -> None:
        """Put back in a copy of the file what was written. Raises OSError."""
        with _archive(self.path) as (_, archive), copy.open("r+b") as file:
            if archive is None:
                raise OSError(errno.EIO, "its seal is gone")
            left = memoryview(archive.read(_BYTES))
            for first, stop in self.ranges.tolist():
                file.seek(first)
                file.write(left[: stop - first])
                left = left[stop - first :]

    def __str__(self) -> str:
        places = [f"{first} to {last}" if last > first else f"{first}" for first, last in self.altered]
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        return f"HDF5's own structure is not what was written (bytes {', '.join(places[:3])}{more})"


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[tuple[IO[bytes], zipfile.ZipFile | None]]:
    """A file, and the archive at its end where it has one. Raises one of `_UNREADABLE`."""
    with path.open("rb") as file:
        _lock(file, fcntl.LOCK_SH)  # what is being written is neither whole nor damaged
        size = os.fstat(file.fileno()).st_size
        if os.pread(file.fileno(), len(_ENDS), max(size - _LAST_RECORD, 0)) != _ENDS:
            yield file, None
            return
        with zipfile.ZipFile(file) as archive:
            yield file, archive


def _pieces(file: IO[bytes], ranges: Ranges) -> Iterator[tuple[int, bytes]]:
    """What stands at each of some stretches, and where."""
    for first, stop in ranges.tolist():
        yield first, os.pread(file.fileno(), stop - first, first)


def _unlike(file: IO[bytes], ranges: Ranges, written: bytes) -> Iterator[tuple[int, int]]:
    """Where stretches of a file are unlike what was written: their first and last byte that is."""
    at = 0
    for (first, piece), (_, stop) in zip(_pieces(file, ranges), ranges.tolist(), strict=True):
        there = piece.ljust(stop - first, b"\0")  # a file that is shorter now
        wanted = written[at : at + stop - first]
        at += stop - first
        if there != wanted:
            places = np.flatnonzero(np.frombuffer(there, np.uint8) != np.frombuffer(wanted, np.uint8))
            yield first + int(places[0]), first + int(places[-1])


def guarded(file: h5py.File) -> Ranges:
    """Where the chunks are that have a checksum, or whose compression has one: first byte and byte behind, (n, 2)."""
    found: list[tuple[int, int]] = []

    def look(chunk: Any) -> None:
        if not chunk.filter_mask:
            found.append((chunk.byte_offset, chunk.byte_offset + chunk.size))

    def visit(_name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and thing.chunks and (thing.fletcher32 or thing.compression == "gzip"):
            thing.id.chunk_iter(look)

    file.visititems(visit)
    return np.array(sorted(found), dtype=np.uint64).reshape(-1, 2)


def put_on(path: Path, chunks: Ranges) -> None:
    """Seal a file that was just closed and in which these chunks have a checksum (`guarded`).

    Where it cannot be done (the disk is full, another program has begun to write the file) the file is left as it is:
    of what was measured nothing is in the seal.
    """
    with contextlib.suppress(OSError), path.open("r+b", buffering=0) as file:
        _lock(file, fcntl.LOCK_SH)  # somebody may read it already
        end = _cut(file)
        if not end:
            return
        first, stop = np.append(np.uint64(0), chunks[:, 1]), np.append(chunks[:, 0], np.uint64(end))
        ranges = np.stack([first, stop], axis=1).astype("<u8")
        ranges = ranges[(ranges[:, 0] < ranges[:, 1]) | (ranges[:, 1] == end)]
        covered = b"".join(piece for _, piece in _pieces(file, ranges))
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for name, data in ((_RANGES, ranges.tobytes()), (_BYTES, covered)):
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        data = made.getvalue()
        try:
            # Its two ends last: a program that is killed meanwhile leaves nothing that looks like a seal.
            for at, part in (
                (len(_BEGINS), data[len(_BEGINS) : -_LAST_RECORD]),
                (len(data) - _LAST_RECORD, data[-_LAST_RECORD:]),
                (0, data[: len(_BEGINS)]),
            ):
                if os.pwrite(file.fileno(), part, end + at) != len(part):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(end)
            raise


def take_off(path: Path) -> None:
    """Cut off what stands behind the end of a file: a seal, or room that a writer who was killed had set aside.

    What HDF5 has not counted in when it last wrote is no part of the file for it either, and the next to write it would
    write there. Raises OSError; BlockingIOError where another program has the file.
    """
    with path.open("r+b") as file:
        _lock(file, fcntl.LOCK_EX)
        _cut(file)


def is_spoilt(path: Path) -> bool:
    """Whether there is a seal behind the end of a file that cannot be read, all of it."""
    with path.open("rb") as file:
        end, size = stated_length(file.read(HEAD)), os.fstat(file.fileno()).st_size
        if not 0 < end < size - _LAST_RECORD:
            return False
        marks = (os.pread(file.fileno(), len(_BEGINS), end), os.pread(file.fileno(), len(_ENDS), size - _LAST_RECORD))
    if marks[0] != _BEGINS and marks[1] != _ENDS:
        return False
    try:
        with _archive(path) as (_, archive):
            return archive is None or archive.testzip() is not None or Seal.of(path) is None
    except _UNREADABLE:
        return True


def stated_length(head: bytes) -> int:
    """How long a file is by its own superblock, with which it begins; 0 where that tells no length."""
    if not head.startswith(HDF5_SIGNATURE) or len(head) < HEAD or head[8] != 0:
        return 0
    (stated,) = struct.unpack_from("<Q", head, _END_OF_FILE)
    return int(stated) if stated < _LARGEST else 0


def tells_no_length(path: Path) -> bool:
    """Whether a file has a superblock of a trace file, and in it a length that is none."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return head.startswith(HDF5_SIGNATURE) and len(head) == HEAD and head[8] == 0 and not stated_length(head)


def set_length(path: Path) -> None:
    """Write how long a file is into its superblock."""
    with path.open("r+b") as file:
        file.seek(_END_OF_FILE)
        file.write(struct.pack("<Q", os.fstat(file.fileno()).st_size))


def _lock(file: IO[bytes], kind: int) -> None:
    """Lock a file as HDF5 does; raises BlockingIOError where another program has it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


def _cut(file: IO[bytes]) -> int:
    """Cut off what stands behind the end of a file; gives its length, 0 where that is not known."""
    end = stated_length(file.read(HEAD))
    size = os.fstat(file.fileno()).st_size
    if size > end > 0:
        file.truncate(end)
    return end if size >= end else 0
