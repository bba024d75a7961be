"""A training that was stopped goes on after its last finished epoch, to the same bits."""

import sys
import time
from typing import Any

import numpy as np

from lrrt.backends import Network, Resumable
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result, Store

ROWS = "rows"  # beside the arrays of the network's state, which have a dot in their names


class Checkpoint:
    """Of one training: the network's state, and what was recorded of the epochs so far.

    ``started``: when this process began with it, by ``time.perf_counter``. Nothing is kept without
    a store, and of a network that is not :class:`lrrt.backends.Resumable`; a checkpoint of
    other versions of the packages counts as none.
    """

    def __init__(
        self,
        store: Store | None,
        spec: RunSpec,
        network: Network,
        versions: dict[str, str],
        started: float,
    ):
        self.store = store if isinstance(network, Resumable) else None
        self.spec, self.network, self.versions = spec, network, versions
        self.started = started

    def restore(self, rows: np.ndarray, record: dict[str, Any]) -> int:
        """Put it into the network, ``rows`` (epochs, columns) and ``record``; how many epochs."""
        found = self.store and self.store.get(self.spec.key)
        if not found or found.record["versions"] != self.versions:
            return 0
        done = found.arrays.pop(ROWS)
        rows[: len(done)] = done
        record.update(found.record)
        self.started -= record["seconds"]
        self.network.restore(found.arrays)
        return len(done)

    def save(self, rows: np.ndarray, record: dict[str, Any]) -> None:
        """``rows``: those of the finished epochs. If it cannot be written, a line on standard error
        says so, and no other is tried."""
        if self.store is None:
            return
        record = record | {"versions": self.versions, "seconds": self.seconds}
        result = Result(self.network.state() | {ROWS: rows}, record)
        try:
            self.store.put(self.spec, result)
        except OSError as error:
            print(f"checkpoint: {error}; the training goes on without", file=sys.stderr)
            self.store = None

    @property
    def seconds(self) -> float:
        """That the training took so far, over all processes."""
        return time.perf_counter() - self.started
