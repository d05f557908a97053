"""A file that carries marker edges from the process that moves the lines to the simulated bench.

Python 3.6, standard library; imports nothing of this project. Layout: a header of 64 bytes (``JBRING01``, then uint64
capacity and uint64 count of records ever written), then `capacity` records of 16 bytes (int64 CLOCK_MONOTONIC ns,
uint32 line states, uint32 0), all little-endian. Record i lies in slot i % capacity and is written before the count.
One writer, any number of readers.
"""

import fcntl
import mmap
import os
import struct
import sys
import tempfile
import time
from typing import Any, Callable, List, Tuple

GATE_BIT = 1
BATCH_BIT = 2
WORK_BIT = 4  # the board works outside the gate; no wire carries this, it tells a simulated board's current
REST_BIT = 8  # it rests within a batch; no wire carries this either

RING_MAGIC = b"JBRING01"
RING_HEADER_BYTES = 64
RING_RECORD_BYTES = 16
RING_CAPACITY = 65536


class MarkerError(Exception):
    """A marker line or its ring cannot be used; the message says what to do."""


class MarkerBusyError(MarkerError):
    """Another program has the lines."""


class RingOverrunError(MarkerError):
    """The writer went round the ring before its reader came: edges are lost."""


def _monotonic_ns_3_6() -> int:
    return int(time.monotonic() * 1e9)


# Python 3.7 has the integer clock; the float of 3.6 keeps better than 1 us up to 10^9 s of uptime.
monotonic_ns: Callable[[], int] = getattr(time, "monotonic_ns", _monotonic_ns_3_6)


def create_ring(path: str, capacity: int = RING_CAPACITY) -> None:
    """Make an empty ring of `capacity` records at `path`, replacing what was there.

    Readers and writers that are already open keep the old file: make the ring first.
    """
    if capacity < 2:
        raise ValueError("a marker ring needs at least 2 records, not %r" % (capacity,))
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=".ring-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(RING_MAGIC + struct.pack("<QQ", capacity, 0))
            file.truncate(RING_HEADER_BYTES + capacity * RING_RECORD_BYTES)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class _Ring:
    """The mapped file, seen as int64 words: [1] capacity, [2] count, records from word 8."""

    def __init__(self, path: str, writable: bool) -> None:
        if sys.byteorder != "little":
            raise MarkerError("marker rings are little-endian and this machine is not")
        self.path = path
        self.file = open(path, "r+b" if writable else "rb")  # noqa: SIM115 - closed by close()
        try:
            size = os.fstat(self.file.fileno()).st_size
            head = self.file.read(RING_HEADER_BYTES)
            if len(head) < RING_HEADER_BYTES or head[:8] != RING_MAGIC:
                raise MarkerError("%s is not a marker ring (starts with %r)" % (path, head[:8]))
            self.capacity: int = struct.unpack_from("<Q", head, 8)[0]
            wanted = RING_HEADER_BYTES + self.capacity * RING_RECORD_BYTES
            if self.capacity < 2 or size < wanted:
                raise MarkerError("%s is cut short: %d bytes, %d wanted; make it anew" % (path, size, wanted))
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._map = mmap.mmap(self.file.fileno(), wanted, access=access)
        except BaseException:
            self.file.close()
            raise
        # Item access of a cast view moves 8 bytes at once, so that `count` is never seen half written.
        self._bytes = memoryview(self._map)
        self.words = self._bytes.cast("q")

    def close(self) -> None:
        """Unmap and close; may be called again."""
        self.words.release()
        self._bytes.release()
        self._map.close()
        self.file.close()


class RingWriter:
    """Appends line states to a ring (made when absent), going on from what it holds.

    Raises `MarkerError` while another writer has it. `last_lines`: the states that the ring ended with.
    """

    def __init__(self, path: str, clock_ns: Callable[[], int] = monotonic_ns) -> None:
        if not os.path.exists(path):
            create_ring(path)
        ring = _Ring(path, True)
        try:
            fcntl.flock(ring.file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            ring.close()
            raise MarkerBusyError("another process is moving the lines of %s: end it first" % path) from None
        self._ring = ring
        self._words = ring.words
        self._capacity = ring.capacity
        self._clock_ns = clock_ns
        self._count = ring.words[2]
        newest = (self._count - 1) % self._capacity
        self.last_lines = ring.words[8 + 2 * newest + 1] & 0xFFFFFFFF if self._count else 0

    def put(self, lines: int) -> None:
        """Append `lines` with the time now."""
        words = self._words
        count = self._count
        slot = 8 + 2 * (count % self._capacity)
        words[slot] = self._clock_ns()
        words[slot + 1] = lines
        self._count = count + 1
        words[2] = count + 1

    def close(self) -> None:
        """Let go of the file. May be called again."""
        self._ring.close()


class RingReader:
    """The bench's side of a ring: hands out what was written since the last call.

    `from_start` True begins with the oldest record still there, False with the next one to be written.
    """

    def __init__(self, path: str, from_start: bool = True) -> None:
        self._ring = _Ring(path, False)
        count = self._ring.words[2]
        self._next = max(0, count - (self._ring.capacity - 1)) if from_start else count

    def read_new(self) -> List[Tuple[int, int]]:
        """Return new (CLOCK_MONOTONIC ns, lines) records, oldest first; lines as `GATE_BIT` and `BATCH_BIT`.

        Raises `RingOverrunError` when `capacity` or more records came since the last call; reading then goes on
        with the newest.
        """
        words = self._ring.words
        capacity = self._ring.capacity
        first, count = self._next, words[2]
        records = []
        for index in range(max(first, count - capacity), count):
            slot = 8 + 2 * (index % capacity)
            records.append((words[slot], words[slot + 1] & 0xFFFFFFFF))
        # The writer may be filling slot `after % capacity` at this moment, hence one record less than the capacity.
        after = words[2]
        self._next = count
        if after - first >= capacity and count > first:
            raise RingOverrunError(
                "%s: %d marker records came but the ring holds %d; read it more often or make a larger ring"
                % (self._ring.path, after - first, capacity)
            )
        return records

    def close(self) -> None:
        """Let go of the file. May be called again."""
        self._ring.close()

    def __enter__(self) -> "RingReader":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
