"""What live objects hold, by name, in values that can be compared with those of another moment."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lrrt.finder.data import digest
from lrrt.finder.random_states import holds_state

SIMPLE = (bool, int, float, complex, str, bytes, type(None), np.generic)
DEPTH = 4  # of objects within objects
MOST = 1000  # entries of a container, and values in all beside tensors and arrays
SHOWN = 5  # names in a note


class Fingerprint:
    """``found``: comparable values by the name of what holds them.

    ``whole``: SHA-256 of tensors and arrays, and whatever the objects hold; else sums of their
    bits, and ``MOST`` values at most. What is ``without`` is left out, though they refer to it.
    """

    def __init__(self, whole: bool, without: Iterable[Any] = ()):
        self.whole = whole
        self.found: dict[str, Any] = {}
        self.count = 0  # of values beside tensors and arrays
        self.seen: dict[int, Any] = {id(thing): thing for thing in without}

    def add_random_states(self) -> None:
        self.found["Python's random state"] = random.getstate()
        name, words, *rest = np.random.get_state()
        self.found["NumPy's random state"] = name, words.tobytes(), *rest

    def add(self, name: str, value: Any, depth: int = DEPTH) -> None:
        """What ``value`` holds, whatever it is, by names that begin with ``name``."""
        if isinstance(value, SIMPLE):
            self.count += 1
            if self.whole or self.count <= MOST:
                self.found[name] = repr(value)
        elif id(value) not in self.seen:
            self.seen[id(value)] = value
            self.add_object(name, value, depth)

    def add_object(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, np.ndarray):
            self.found[name] = digest(value) if self.whole else (value.shape, bits(value))
        elif isinstance(value, np.random.Generator):
            self.found[name] = repr(value.bit_generator.state)
        elif isinstance(value, np.random.RandomState):
            self.found[name] = repr(value.get_state(legacy=False))
        elif isinstance(value, random.Random):
            self.found[name] = value.getstate()
        elif isinstance(value, Mapping | list | tuple | set | frozenset | deque):
            self._add_entries(name, value, depth)
        elif depth and holds_state(value):
            for key, held in list(vars(value).items()):
                self.add(f"{name}.{key}", held, depth - 1)

    def _add_entries(self, name: str, value: Any, depth: int) -> None:
        self.found[f"len({name})"] = len(value)
        if not self.whole and len(value) > MOST:
            return
        if isinstance(value, set | frozenset):
            self.found[name] = sorted(map(repr, (v for v in value if isinstance(v, SIMPLE))))
            return
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, entry in list(items):
            shown = key if isinstance(key, SIMPLE) else type(key).__name__
            self.add(f"{name}[{shown!r}]", entry, depth)


def bits(array: np.ndarray) -> int | None:
    """The sum of its bits, taken as integers; None where it holds objects."""
    if array.dtype.hasobject:
        return None
    held = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = held.size - held.size % 8
    words = held[:whole].view(np.int64)
    return int(words.sum()) + int(held[whole:].sum())


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of ``before`` whose values differ or are gone, few, with the number of the others; what
    is new was made when it was first needed."""
    names = [name for name, value in before.items() if after.get(name) != value]
    more = len(names) - SHOWN
    return [*names[:SHOWN], f"and {more} more"] if more > 0 else names
