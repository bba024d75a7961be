"""How many processes there is room for, and a child that never outlives its parent."""

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
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
