"""Who replays the batches: this process, a pool of processes, or an existing Dask cluster.

A worker that dies, of too little memory or of a file that makes a library crash, costs at most the file at which it
died: what else it had is done by others.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from queue import Empty, SimpleQueue
from typing import Any

from experiments.replay_jobs import Done, Job, Options, replay_batch
from experiments.replay_many import Batches, WorkersLostError
from instruments.errors import ConfigError

Work = Callable[[Sequence[Job], Options], list[Done]]
"""What a worker does with a batch."""

_IN_FLIGHT = 3
"""Batches handed out to each worker ahead of time."""

_LOOK_S = 1.0
"""How often a cluster of which nothing comes is asked for its workers."""

_FETCH_S = 30.0
"""For how long the result of a task that ended is waited for."""

DIED = "{path}: the process that replayed it died, and again alone: too little memory, or a file that crashes a library"


def here(batches: Batches, options: Options) -> Iterator[list[Done]]:
    """One after another in this process."""
    for batch in batches:
        yield replay_batch(batch, options)


class Processes:
    """A pool of processes on this computer."""

    def __init__(self, count: int, work: Work = replay_batch) -> None:
        self._count, self._work = count, work

    def __call__(self, batches: Batches, options: Options) -> Iterator[list[Done]]:
        """Give the results as they come, in any order."""
        waiting, suspects = deque(batches), deque[Any]()
        while waiting or suspects:
            # Once a worker has died, what was in flight is done file by file, to find which one it was.
            alone = bool(suspects)
            queue = suspects if alone else waiting
            with _pool(1 if alone else self._count, options) as pool:
                running: dict[Future[list[Done]], Any] = {}
                try:
                    while queue or running:
                        while queue and len(running) < (1 if alone else _IN_FLIGHT * self._count):
                            batch = queue.popleft()
                            running[pool.submit(self._work, batch, options)] = batch
                        ended, _ = wait(running, return_when=FIRST_COMPLETED)
                        for future in ended:
                            found = future.result()
                            del running[future]
                            yield found
                except BrokenProcessPool:
                    left = [[job] for batch in running.values() for job in batch]
                    if alone:
                        yield [Done(job.number, job.path, 3, "", DIED.format(path=job.path)) for (job,) in left]
                    else:
                        suspects.extend(left)


@contextlib.contextmanager
def _pool(count: int, options: Options) -> Iterator[ProcessPoolExecutor]:
    """Processes that have what they need imported before they begin, and end with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.replay_jobs" if options.results_only else "experiments.report.page"])
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_leave_signals)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()  # nobody waits for what they do
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_signals() -> None:
    """Ctrl-C reaches every process of a terminal; that which hands out the work ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Dask:
    """An existing cluster of dask.distributed; files and folders must be where its workers find them by name."""

    def __init__(
        self, address: str, work: Work = replay_batch, timeout_s: float = 10.0, patience_s: float = 120.0
    ) -> None:
        self._address, self._work, self._patience_s = address, work, patience_s
        try:
            self._library: Any = importlib.import_module("distributed")
        except ImportError as error:
            raise ConfigError("--dask needs dask.distributed: pip install 'joulebench[dask]'") from error
        # Of a scheduler that is gone it tells tracebacks; what it means is told here.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            self._client = self._library.Client(address, timeout=timeout_s, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise ConfigError(
                f"--dask {address}: no cluster answers there ({type(error).__name__}: {str(error)[:120]}); start one "
                "with `dask scheduler` and `dask worker ADDRESS`, and name the scheduler's address"
            ) from error
        self.workers = max(1, sum(self._client.nthreads().values()))

    def __call__(self, batches: Batches, options: Options) -> Iterator[list[Done]]:
        """Give the results as they come, in any order; batches of workers that were lost are done by others.

        Raises WorkersLostError where none is left for longer than `patience_s`, or the scheduler is gone.
        """
        killed = self._library.KilledWorker
        waiting = deque(batches)
        running: dict[str, Any] = {}
        ended: SimpleQueue[Any] = SimpleQueue()
        with self._client as client:
            while waiting or running:
                while waiting and len(running) < _IN_FLIGHT * self.workers:
                    batch = waiting.popleft()
                    future = client.submit(self._work, batch, options, pure=False)
                    running[future.key] = batch, future  # one that nobody holds is forgotten
                    future.add_done_callback(ended.put)
                future = self._next(ended)
                batch, _ = running.pop(future.key)
                try:
                    error = future.exception(timeout=_FETCH_S)
                    found = future.result(timeout=_FETCH_S) if error is None else []
                except (OSError, CancelledError):  # its worker was lost with the result
                    future.release()
                    waiting.append(batch)
                    continue
                if error is None:
                    yield found
                elif isinstance(error, killed) and len(batch) > 1:
                    waiting.extend([job] for job in batch)
                else:
                    why = DIED if isinstance(error, killed) else "{path}: on the cluster: {error}"
                    text = f"{type(error).__name__}: {str(error)[:200]}"
                    yield [Done(job.number, job.path, 3, "", why.format(path=job.path, error=text)) for job in batch]
                future.release()

    def _next(self, ended: SimpleQueue[Any]) -> Any:
        """The next task that ended, waited for as long as there are workers."""
        last_s = time.monotonic()
        while True:
            try:
                future = ended.get(timeout=_LOOK_S)
            except Empty:
                if self._has_workers():
                    last_s = time.monotonic()
                elif time.monotonic() - last_s > self._patience_s:
                    why = f"the cluster at {self._address} has no worker, and none came for {self._patience_s:g} s"
                    raise WorkersLostError(why) from None
                continue
            if future.cancelled():
                raise WorkersLostError(f"the scheduler at {self._address} is gone")
            return future

    def _has_workers(self) -> bool:
        try:
            return bool(self._client.nthreads())
        except (OSError, TimeoutError):
            return False
