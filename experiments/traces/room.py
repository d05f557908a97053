"""Whether what is to be written fits: HDF5 does not survive a disk that fills while it writes."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
from pathlib import Path

import h5py

from instruments.errors import TraceError

RESERVE_BYTES = 2 * 2**20
"""Kept free beyond what a capture may take, for the journal and the file's own tables."""


JOURNAL_BYTES = 256 * 2**10
"""What a step of the journal, or a text, may take beyond its own length."""

_BEFORE_END = 2**20
"""From how far before its end on a file is reserved: HDF5 leaves gaps there that it fills later."""


class CannotWriteError(TraceError):
    """A trace file that cannot be created, or a disk that is full; `why` tells it without advice.

    `abandoned` says that the file may not be opened again in this process: HDF5 has it in a state it cannot write.
    """

    def __init__(self, why: str, message: str, *, abandoned: bool = False) -> None:
        super().__init__(message)
        self.why, self.abandoned = why, abandoned


def require_room(path: Path, folder: Path, n_bytes: int, size: int) -> None:
    """Refuse to write `n_bytes` that may not fit, in a file of a `size`: HDF5 does not survive a disk that fills.

    Raises CannotWriteError.
    """
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY:
        free = min(free, limit - size)
    if free < n_bytes:
        raise _full(path, f"the disk is full ({free // 1024} KiB are free)")


def _full(path: Path, why: str) -> CannotWriteError:
    return CannotWriteError(
        why,
        f"{path}: {why}; what was committed is safe. "
        f"Make room, then go on: python -m experiments.power_sweep --resume {path.parent}",
    )


def reserve(path: Path, file: h5py.File, n_bytes: int) -> None:
    """Have the system set `n_bytes` aside behind the end of an open file, so that writing them cannot fail.

    What a disk says of its free space does not know of quotas, nor of other programs that write meanwhile.
    Raises CannotWriteError; `release` gives back what was not needed.
    """
    handle, size = file.id.get_vfd_handle(), file.id.get_filesize()
    if os.fstat(handle).st_size >= size + n_bytes:
        return
    start = max(size - _BEFORE_END, 0)
    for wanted in (max(n_bytes, _AHEAD), n_bytes):  # to give room back at every step takes longer than to write
        try:
            os.posix_fallocate(handle, start, size + wanted - start)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):
                return  # a file system that cannot set anything aside
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            if not full or wanted == n_bytes:
                why = f"{'the disk is full' if full else 'cannot be written'} ({error.strerror})"
                raise _full(path, why) from error
        else:
            return


def release(file: h5py.File) -> None:
    """Give back what was set aside behind the end of a file that was flushed, before it is closed.

    A program that is killed leaves it there: HDF5 knows where its file ends, and the next who writes cuts it off.
    """
    with contextlib.suppress(OSError):
        os.ftruncate(file.id.get_vfd_handle(), file.id.get_filesize())


_AHEAD = 8 * 2**20
"""What is set aside at once where there is so much."""

_ABANDONED: list[object] = []


def abandon(path: Path, error: BaseException, *held: object) -> CannotWriteError:
    """Give up a file that HDF5 could not write: it would try again whenever something of it is closed, and crash.

    `held` is kept for as long as the process lives, which must end without Python's taking itself down (`leave`).
    """
    _ABANDONED.extend(held)
    why = why_of(error)
    return CannotWriteError(
        why,
        f"{path}: cannot be written ({why}); what was committed before is in it. See to the disk, then: "
        f"python -m experiments.traces check {path}, and python -m experiments.power_sweep --resume {path.parent}, or "
        "recover instead of check where it finds damage",
        abandoned=True,
    )


def why_of(error: BaseException) -> str:
    """What the system said, without what HDF5 tells of itself."""
    number = getattr(error, "errno", None)
    if number == errno.EWOULDBLOCK:
        return "another program is writing it"
    if said := re.search(r"error message = '([^']*)'", str(error)):
        return said[1]
    return os.strerror(number) if number else str(error)


def check_writable(folder: Path) -> None:
    """Raise TraceError when a run of usual size cannot be written in a folder; creates the folder."""
    probe = folder / ".joulebench-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(RESERVE_BYTES))
        probe.unlink(missing_ok=True)  # another program may have tried the folder at the same time
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise TraceError(f"{folder}: cannot be written ({error.strerror}); name another folder with --out") from error
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < 64 * 2**20:
        raise TraceError(f"{folder}: less than 64 MiB of disk is free; name another folder with --out")
