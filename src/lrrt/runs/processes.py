"""How many processes there is room for, and one that never outlives another."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def usable_cores() -> int:
    """The CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def die_with_parent() -> None:
    """End this process, started by multiprocessing, as soon as its parent ends, even by SIGKILL."""
    die_with(multiprocessing.parent_process().sentinel)


def die_with(sentinel: int, released: threading.Event | None = None) -> None:
    """End this process as soon as the one of ``sentinel`` ends, unless it is ``released`` then."""

    def watch() -> None:
        wait([sentinel])
        if released is None or not released.is_set():
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
