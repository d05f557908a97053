"""One process of this computer at an instrument: an advisory lock per VISA resource, gone with its holder.

Two programs that talk to one instrument take each other's answers and switch each other's output. So each process
that opens a resource holds ``flock`` on a file named after it; the kernel lets go when the process ends, however it
ends, and the file that stays behind means nothing. A second process is refused and told who holds it; a second link
of the same process is not. Programs of other users and computers are not seen, and neither are other names of the
same instrument (its socket and its VXI-11 address). No lock is asked of the instrument itself: see
docs/decisions/0012-one-process-per-instrument.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruments.errors import LinkError

_log = logging.getLogger(__name__)

_held: dict[str, Claim] = {}
_guard = threading.Lock()


def canonical(resources: Sequence[str]) -> str:
    """Give the one name under which a resource is claimed; that of the adapter where there is one.

    An adapter is claimed whole: it serves one client, and its settings are all instruments'. Board numbers of a
    network mean nothing; a serial port may be named by a link.
    """
    from pyvisa import rname

    text = resources[0].strip()
    try:
        parsed = rname.parse_resource_name(text)
    except ValueError:
        return text.upper()
    parts = [str(getattr(parsed, field.name)) for field in dataclasses.fields(parsed)]
    kind = parsed.interface_type
    if kind in ("TCPIP", "PRLGX-TCPIP"):
        host, *rest = parts[1:]
        host = re.sub(r"^localhost(?=,|$)", "127.0.0.1", host.lower())
        return "::".join([kind, host, *(part.lower() for part in rest), parsed.resource_class])
    if kind in ("ASRL", "PRLGX-ASRL"):
        return f"ASRL::{os.path.realpath(parts[-1])}" if parts[-1].startswith("/") else f"ASRL::{parts[-1]}"
    return str(parsed).upper()


def folder() -> Path:
    """Give this user's folder of claims. Not TMPDIR, and not the folder of a login: all programs must meet there."""
    shared = Path("/tmp")
    base = shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return base / f"joulebench-{os.getuid()}"


class Claim:
    """This process's hold on a resource; `release` it as often as it was given."""

    def __init__(self, resource: str, descriptor: int | None) -> None:
        self._resource = resource
        self._descriptor = descriptor
        self.links = 0

    def release(self) -> None:
        """Give up one link's hold; the last one lets other processes in."""
        with _guard:
            self.links -= 1
            if self.links <= 0 and _held.get(self._resource) is self:
                del _held[self._resource]
                if self._descriptor is not None:
                    with contextlib.suppress(OSError):
                        os.ftruncate(self._descriptor, 0)
                    os.close(self._descriptor)


def claim(name: str, resources: Sequence[str]) -> Claim:
    """Hold a resource against other processes. Raises LinkError that names the process which has it.

    Where the folder cannot be used that is logged, and nothing is held.
    """
    resource = canonical(resources)
    with _guard:
        held = _held.get(resource)
        if held is None:
            try:
                descriptor = _lock(name, resource, resources[-1])
            except OSError as error:
                _log.warning("%s: other processes are not kept out of %s: %s", name, resource, error)
                descriptor = None
            held = _held[resource] = Claim(resource, descriptor)
        held.links += 1
        return held


def _lock(name: str, resource: str, shown: str) -> int:
    place = folder()
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    status = place.lstat()
    if not place.is_dir() or place.is_symlink() or status.st_uid != os.getuid():
        raise PermissionError(f"{place} is not a folder of this user")
    readable = re.sub(r"[^A-Za-z0-9.,_-]+", "_", resource)[:120]
    path = place / f"{readable}-{hashlib.sha256(resource.encode()).hexdigest()[:8]}.lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    _sign(descriptor)
                    return descriptor
            os.close(descriptor)  # somebody cleaned the folder between: what was locked is no longer there
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise LinkError(
                f"in use by another process of this computer ({holder}): wait until it has ended, or end it",
                instrument=name,
                resource=shown,
            ) from None
        except BaseException:
            os.close(descriptor)
            raise


def _sign(descriptor: int) -> None:
    """Write who holds it; that this fails, as on a full disk, changes nothing about the lock."""
    who = {
        "pid": os.getpid(),
        "program": " ".join(" ".join(sys.orig_argv).split())[:120],
        "since_utc_s": round(time.time(), 3),
    }
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(who).encode() + b"\n", 0)


def _holder(descriptor: int) -> str:
    """Say who holds it, as far as it has signed."""
    for _ in range(20):
        try:
            who: dict[str, Any] = json.loads(os.pread(descriptor, 4096, 0))
            os.kill(int(who["pid"]), 0)  # is there: no leftover of one that was killed
            return f"process {who['pid']}, {who['program']}"
        except (ValueError, KeyError, TypeError, OSError):
            time.sleep(0.01)  # the new holder may be about to sign
    return "which one is not known"


def _forget() -> None:
    """A forked child holds nothing: the lock stays its parent's."""
    global _guard
    _guard = threading.Lock()
    for held in _held.values():
        if held._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(held._descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
