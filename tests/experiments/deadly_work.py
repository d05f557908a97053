"""Work for the replay's workers that kills them, as a file does that crashes a library or needs too much memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from experiments.replay_jobs import Done, Job, Options


def work(jobs: Sequence[Job], options: Options) -> list[Done]:
    """Kill this process at a file named deadly*, and at one named once* the first time; else take a moment."""
    found = []
    for job in jobs:
        time.sleep(0.02)
        mark = job.path.with_suffix(".seen")
        if job.path.name.startswith("deadly") or (job.path.name.startswith("once") and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        found.append(Done(job.number, job.path, 0, "network\nnet\n", job.path.name))
    return found
