"""With this folder on PYTHONPATH, every process of Python finds the backends beside this file.

Each of them counts, rather than measures, how long something took: a run takes as long each time.
``CRASH_AT=n`` kills the whole process group at the n-th sync, rename or removal of a file that a
process of it is about to do; ``CLOCK=backwards`` makes the time of day go backwards.
"""

import itertools
import os
import signal
import time
from pathlib import Path

import lrrt.backends

lrrt.backends.__path__.append(str(Path(__file__).with_name("backends")))


def crash(name: str, countdown: list[int]) -> None:
    """Replace ``os.<name>`` by one that counts down, and kills all instead of reaching 0."""
    original = getattr(os, name)

    def counting(*arguments, **options):
        countdown[0] -= 1
        if countdown[0] == 0:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(os, name, counting)


if "CRASH_AT" in os.environ:
    remaining = [int(os.environ["CRASH_AT"])]
    for operation in ("fsync", "replace", "rename", "unlink", "rmdir"):
        crash(operation, remaining)

ticks = itertools.count()
time.perf_counter = lambda: float(next(ticks))
if os.environ.get("CLOCK") == "backwards":
    began = time.time()
    time.time = lambda: 2 * began - time.clock_gettime(time.CLOCK_REALTIME)
    time.time_ns = lambda: int(1e9 * time.time())
